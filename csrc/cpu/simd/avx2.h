// AVX2 with FMA and F16C.
#pragma once

#include <immintrin.h>

#include "cpu/simd/exp.h"

DDS_NAMESPACE_BEGIN

struct VecF32 {
    using T = float;
    static constexpr int W = 8;
    // 8 sums cover the latency of the multiplier; 12 would leave no register for the maxima
    static constexpr int rows = 4;
    static constexpr int vectors = 2;
    __m256 v;

    VecF32() = default;
    explicit DDS_INLINE VecF32(__m256 x) : v(x) {}
    explicit DDS_INLINE VecF32(float x) : v(_mm256_set1_ps(x)) {}
    explicit DDS_INLINE VecF32(int x) : v(_mm256_set1_ps(static_cast<float>(x))) {}
    static DDS_INLINE VecF32 load(const float* p) { return VecF32(_mm256_loadu_ps(p)); }
    static DDS_INLINE VecF32 broadcast(const float* p) { return VecF32(_mm256_broadcast_ss(p)); }
    DDS_INLINE void store(float* p) const { _mm256_storeu_ps(p, v); }
    static DDS_INLINE void transpose(VecF32* r);
};

struct VecF64 {
    using T = double;
    static constexpr int W = 4;
    static constexpr int rows = 4;
    static constexpr int vectors = 2;
    __m256d v;

    VecF64() = default;
    explicit DDS_INLINE VecF64(__m256d x) : v(x) {}
    explicit DDS_INLINE VecF64(double x) : v(_mm256_set1_pd(x)) {}
    explicit DDS_INLINE VecF64(int x) : v(_mm256_set1_pd(x)) {}
    static DDS_INLINE VecF64 load(const double* p) { return VecF64(_mm256_loadu_pd(p)); }
    static DDS_INLINE VecF64 broadcast(const double* p) { return VecF64(_mm256_broadcast_sd(p)); }
    DDS_INLINE void store(double* p) const { _mm256_storeu_pd(p, v); }
    static DDS_INLINE void transpose(VecF64* r);
};

// Two int16 features a lane, summed in int32.
struct VecI16 {
    using T = int32_t;
    static constexpr int W = 8;
    static constexpr int rows = 4;
    static constexpr int vectors = 2;
    __m256i v;

    VecI16() = default;
    explicit DDS_INLINE VecI16(__m256i x) : v(x) {}
    explicit DDS_INLINE VecI16(int32_t x) : v(_mm256_set1_epi32(x)) {}
    static DDS_INLINE VecI16 load(const int32_t* p) {
        return VecI16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    }
    static DDS_INLINE VecI16 broadcast(const int32_t* p) { return VecI16(*p); }
    DDS_INLINE void store(int32_t* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
};

DDS_INLINE VecI16 operator+(VecI16 a, VecI16 b) { return VecI16(_mm256_add_epi32(a.v, b.v)); }

// sum + max(a0, b0) + max(a1, b1)
DDS_INLINE VecI16 add_maxima(VecI16 sum, VecI16 a, VecI16 b, VecI16 ones) {
    return VecI16(_mm256_add_epi32(sum.v, _mm256_madd_epi16(_mm256_max_epi16(a.v, b.v), ones.v)));
}

DDS_INLINE VecF32 operator+(VecF32 a, VecF32 b) { return VecF32(_mm256_add_ps(a.v, b.v)); }
DDS_INLINE VecF32 operator-(VecF32 a, VecF32 b) { return VecF32(_mm256_sub_ps(a.v, b.v)); }
DDS_INLINE VecF32 operator*(VecF32 a, VecF32 b) { return VecF32(_mm256_mul_ps(a.v, b.v)); }
DDS_INLINE VecF32 operator-(VecF32 a) { return VecF32(_mm256_xor_ps(a.v, _mm256_set1_ps(-0.0f))); }
DDS_INLINE VecF32 fma(VecF32 a, VecF32 b, VecF32 c) { return VecF32(_mm256_fmadd_ps(a.v, b.v, c.v)); }
DDS_INLINE VecF32 max(VecF32 a, VecF32 b) { return VecF32(_mm256_max_ps(a.v, b.v)); }
DDS_INLINE VecF32 min(VecF32 a, VecF32 b) { return VecF32(_mm256_min_ps(a.v, b.v)); }
DDS_INLINE VecF32 abs(VecF32 a) { return VecF32(_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)); }
DDS_INLINE VecF32 sqrt(VecF32 a) { return VecF32(_mm256_sqrt_ps(a.v)); }
DDS_INLINE bool any_less(VecF32 a, VecF32 b) { return _mm256_movemask_ps(_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ)) != 0; }
DDS_INLINE VecF32 round_to_integer(VecF32 a) {
    return VecF32(_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
DDS_INLINE VecF32 scale_by_power_of_2(VecF32 a, VecF32 n) {
    __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n.v), _mm256_set1_epi32(127)), 23);
    return VecF32(_mm256_mul_ps(a.v, _mm256_castsi256_ps(exponent)));
}
DDS_INLINE VecF32 zero_where_less(VecF32 x, VecF32 bound, VecF32 a) {
    return VecF32(_mm256_and_ps(_mm256_cmp_ps(x.v, bound.v, _CMP_NLT_UQ), a.v));
}
DDS_INLINE VecF32 sign(VecF32 a) {
    __m256 one = _mm256_or_ps(_mm256_and_ps(a.v, _mm256_set1_ps(-0.0f)), _mm256_set1_ps(1));
    return VecF32(_mm256_and_ps(_mm256_cmp_ps(a.v, _mm256_setzero_ps(), _CMP_NEQ_OQ), one));
}
// below this the result would be subnormal, which the exponent above cannot say
DDS_INLINE VecF32 exp(VecF32 a) { return exp_of_nonpositive(a, -87.0f); }

DDS_INLINE VecF64 operator+(VecF64 a, VecF64 b) { return VecF64(_mm256_add_pd(a.v, b.v)); }
DDS_INLINE VecF64 operator-(VecF64 a, VecF64 b) { return VecF64(_mm256_sub_pd(a.v, b.v)); }
DDS_INLINE VecF64 operator*(VecF64 a, VecF64 b) { return VecF64(_mm256_mul_pd(a.v, b.v)); }
DDS_INLINE VecF64 operator-(VecF64 a) { return VecF64(_mm256_xor_pd(a.v, _mm256_set1_pd(-0.0))); }
DDS_INLINE VecF64 fma(VecF64 a, VecF64 b, VecF64 c) { return VecF64(_mm256_fmadd_pd(a.v, b.v, c.v)); }
DDS_INLINE VecF64 max(VecF64 a, VecF64 b) { return VecF64(_mm256_max_pd(a.v, b.v)); }
DDS_INLINE VecF64 min(VecF64 a, VecF64 b) { return VecF64(_mm256_min_pd(a.v, b.v)); }
DDS_INLINE VecF64 abs(VecF64 a) { return VecF64(_mm256_andnot_pd(_mm256_set1_pd(-0.0), a.v)); }
DDS_INLINE VecF64 sqrt(VecF64 a) { return VecF64(_mm256_sqrt_pd(a.v)); }
DDS_INLINE bool any_less(VecF64 a, VecF64 b) { return _mm256_movemask_pd(_mm256_cmp_pd(a.v, b.v, _CMP_LT_OQ)) != 0; }
DDS_INLINE VecF64 round_to_integer(VecF64 a) {
    return VecF64(_mm256_round_pd(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
DDS_INLINE VecF64 scale_by_power_of_2(VecF64 a, VecF64 n) {
    __m256i exponent =
        _mm256_slli_epi64(_mm256_add_epi64(_mm256_cvtepi32_epi64(_mm256_cvtpd_epi32(n.v)), _mm256_set1_epi64x(1023)), 52);
    return VecF64(_mm256_mul_pd(a.v, _mm256_castsi256_pd(exponent)));
}
DDS_INLINE VecF64 zero_where_less(VecF64 x, VecF64 bound, VecF64 a) {
    return VecF64(_mm256_and_pd(_mm256_cmp_pd(x.v, bound.v, _CMP_NLT_UQ), a.v));
}
DDS_INLINE VecF64 sign(VecF64 a) {
    __m256d one = _mm256_or_pd(_mm256_and_pd(a.v, _mm256_set1_pd(-0.0)), _mm256_set1_pd(1));
    return VecF64(_mm256_and_pd(_mm256_cmp_pd(a.v, _mm256_setzero_pd(), _CMP_NEQ_OQ), one));
}
DDS_INLINE VecF64 exp(VecF64 a) { return exp_of_nonpositive(a, -708.0); }

// Transposes W vectors in place: pairs, then quads, then 128-bit lanes.
DDS_INLINE void VecF32::transpose(VecF32* r) {
    __m256 t[8], u[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i].v, r[i + 1].v);
        t[i + 1] = _mm256_unpackhi_ps(r[i].v, r[i + 1].v);
    }
    for (int g = 0; g < 8; g += 4) {
        u[g] = _mm256_shuffle_ps(t[g], t[g + 2], 0x44);
        u[g + 1] = _mm256_shuffle_ps(t[g], t[g + 2], 0xee);
        u[g + 2] = _mm256_shuffle_ps(t[g + 1], t[g + 3], 0x44);
        u[g + 3] = _mm256_shuffle_ps(t[g + 1], t[g + 3], 0xee);
    }
    for (int c = 0; c < 4; ++c) {
        r[c].v = _mm256_permute2f128_ps(u[c], u[4 + c], 0x20);
        r[4 + c].v = _mm256_permute2f128_ps(u[c], u[4 + c], 0x31);
    }
}

DDS_INLINE void VecF64::transpose(VecF64* r) {
    __m256d t[4];
    for (int i = 0; i < 4; i += 2) {
        t[i] = _mm256_unpacklo_pd(r[i].v, r[i + 1].v);
        t[i + 1] = _mm256_unpackhi_pd(r[i].v, r[i + 1].v);
    }
    for (int c = 0; c < 2; ++c) {
        r[c].v = _mm256_permute2f128_pd(t[c], t[2 + c], 0x20);
        r[2 + c].v = _mm256_permute2f128_pd(t[c], t[2 + c], 0x31);
    }
}

// Hides a value from the optimiser.
DDS_INLINE void opaque(VecF32& x) { asm volatile("" : "+x"(x.v)); }
DDS_INLINE void opaque(VecF64& x) { asm volatile("" : "+x"(x.v)); }
DDS_INLINE void opaque(VecI16& x) { asm volatile("" : "+x"(x.v)); }

DDS_NAMESPACE_END
