// One number at a time: the variant that runs everywhere, and the template of what a SIMD header must offer.
#pragma once

#include "metrics/common.h"

DDS_NAMESPACE_BEGIN

template <class Number>
struct Scalar {
    using T = Number;
    static constexpr int W = 1;        // lanes
    static constexpr int rows = 4;     // of a register tile: values broadcast from the first set
    static constexpr int vectors = 4;  // of a register tile: vectors of the second set
    T v;

    Scalar() = default;
    explicit DDS_INLINE Scalar(T x) : v(x) {}
    static DDS_INLINE Scalar load(const T* p) { return Scalar(*p); }
    static DDS_INLINE Scalar broadcast(const T* p) { return Scalar(*p); }
    DDS_INLINE void store(T* p) const { *p = v; }
    static DDS_INLINE void transpose(Scalar*) {}
};

#define DDS_V          \
    template <class T> \
    DDS_INLINE
DDS_V Scalar<T> operator+(Scalar<T> a, Scalar<T> b) { return Scalar<T>(a.v + b.v); }
DDS_V Scalar<T> operator-(Scalar<T> a, Scalar<T> b) { return Scalar<T>(a.v - b.v); }
DDS_V Scalar<T> operator*(Scalar<T> a, Scalar<T> b) { return Scalar<T>(a.v * b.v); }
DDS_V Scalar<T> operator-(Scalar<T> a) { return Scalar<T>(-a.v); }
DDS_V Scalar<T> fma(Scalar<T> a, Scalar<T> b, Scalar<T> c) { return Scalar<T>(a.v * b.v + c.v); }
DDS_V Scalar<T> max(Scalar<T> a, Scalar<T> b) { return a.v > b.v ? a : b; }
DDS_V Scalar<T> min(Scalar<T> a, Scalar<T> b) { return a.v < b.v ? a : b; }
DDS_V Scalar<T> abs(Scalar<T> a) { return Scalar<T>(a.v < 0 ? -a.v : a.v); }
DDS_V Scalar<T> sign(Scalar<T> a) { return Scalar<T>(static_cast<T>((a.v > 0) - (a.v < 0))); }
DDS_V Scalar<T> zero_where_less(Scalar<T> x, Scalar<T> bound, Scalar<T> a) { return x.v < bound.v ? Scalar<T>(0) : a; }
DDS_V bool any_less(Scalar<T> a, Scalar<T> b) { return a.v < b.v; }
#undef DDS_V
DDS_INLINE Scalar<float> sqrt(Scalar<float> a) { return Scalar<float>(__builtin_sqrtf(a.v)); }
DDS_INLINE Scalar<double> sqrt(Scalar<double> a) { return Scalar<double>(__builtin_sqrt(a.v)); }
DDS_INLINE Scalar<float> exp(Scalar<float> a) { return Scalar<float>(__builtin_expf(a.v)); }
DDS_INLINE Scalar<double> exp(Scalar<double> a) { return Scalar<double>(__builtin_exp(a.v)); }

using VecF32 = Scalar<float>;
using VecF64 = Scalar<double>;

// Two int16 features a lane, summed in int32.
struct VecI16 {
    using T = int32_t;
    static constexpr int W = 1;
    static constexpr int rows = 4;
    static constexpr int vectors = 4;
    int32_t v;

    VecI16() = default;
    explicit DDS_INLINE VecI16(int32_t x) : v(x) {}
    static DDS_INLINE VecI16 load(const int32_t* p) { return VecI16(*p); }
    static DDS_INLINE VecI16 broadcast(const int32_t* p) { return VecI16(*p); }
    DDS_INLINE void store(int32_t* p) const { *p = v; }
};

DDS_INLINE VecI16 operator+(VecI16 a, VecI16 b) { return VecI16(a.v + b.v); }

// sum + max(a0, b0) + max(a1, b1)
DDS_INLINE VecI16 add_maxima(VecI16 sum, VecI16 a, VecI16 b, VecI16) {
    int16_t a0 = static_cast<int16_t>(a.v), b0 = static_cast<int16_t>(b.v);
    int16_t a1 = static_cast<int16_t>(a.v >> 16), b1 = static_cast<int16_t>(b.v >> 16);
    return VecI16(sum.v + (a0 > b0 ? a0 : b0) + (a1 > b1 ? a1 : b1));
}

// Hides a value from the optimiser.
#if defined(__x86_64__)
DDS_INLINE void opaque(VecF32& x) { asm volatile("" : "+x"(x.v)); }
DDS_INLINE void opaque(VecF64& x) { asm volatile("" : "+x"(x.v)); }
#elif defined(__aarch64__)
DDS_INLINE void opaque(VecF32& x) { asm volatile("" : "+w"(x.v)); }
DDS_INLINE void opaque(VecF64& x) { asm volatile("" : "+w"(x.v)); }
#else
DDS_INLINE void opaque(VecF32& x) { asm volatile("" : "+m"(x.v)); }
DDS_INLINE void opaque(VecF64& x) { asm volatile("" : "+m"(x.v)); }
#endif
DDS_INLINE void opaque(VecI16& x) { asm volatile("" : "+r"(x.v)); }

DDS_NAMESPACE_END
