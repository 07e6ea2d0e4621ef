// 64-bit Arm (ASIMD).
#pragma once

#include <arm_neon.h>

#include "cpu/simd/exp.h"

DDS_NAMESPACE_BEGIN

struct VecF32 {
    using T = float;
    static constexpr int W = 4;
    // 16 sums of 32 registers cover the latency of four pipes
    static constexpr int rows = 4;
    static constexpr int vectors = 4;
    float32x4_t v;

    VecF32() = default;
    explicit DDS_INLINE VecF32(float32x4_t x) : v(x) {}
    explicit DDS_INLINE VecF32(float x) : v(vdupq_n_f32(x)) {}
    explicit DDS_INLINE VecF32(int x) : v(vdupq_n_f32(static_cast<float>(x))) {}
    static DDS_INLINE VecF32 load(const float* p) { return VecF32(vld1q_f32(p)); }
    static DDS_INLINE VecF32 broadcast(const float* p) { return VecF32(vld1q_dup_f32(p)); }
    DDS_INLINE void store(float* p) const { vst1q_f32(p, v); }
    static DDS_INLINE void transpose(VecF32* r);
};

struct VecF64 {
    using T = double;
    static constexpr int W = 2;
    static constexpr int rows = 4;
    static constexpr int vectors = 4;
    float64x2_t v;

    VecF64() = default;
    explicit DDS_INLINE VecF64(float64x2_t x) : v(x) {}
    explicit DDS_INLINE VecF64(double x) : v(vdupq_n_f64(x)) {}
    explicit DDS_INLINE VecF64(int x) : v(vdupq_n_f64(x)) {}
    static DDS_INLINE VecF64 load(const double* p) { return VecF64(vld1q_f64(p)); }
    static DDS_INLINE VecF64 broadcast(const double* p) { return VecF64(vld1q_dup_f64(p)); }
    DDS_INLINE void store(double* p) const { vst1q_f64(p, v); }
    static DDS_INLINE void transpose(VecF64* r);
};

// Two int16 features a lane, summed in int32.
struct VecI16 {
    using T = int32_t;
    static constexpr int W = 4;
    static constexpr int rows = 4;
    static constexpr int vectors = 4;
    int32x4_t v;

    VecI16() = default;
    explicit DDS_INLINE VecI16(int32x4_t x) : v(x) {}
    explicit DDS_INLINE VecI16(int32_t x) : v(vdupq_n_s32(x)) {}
    static DDS_INLINE VecI16 load(const int32_t* p) { return VecI16(vld1q_s32(p)); }
    static DDS_INLINE VecI16 broadcast(const int32_t* p) { return VecI16(vld1q_dup_s32(p)); }
    DDS_INLINE void store(int32_t* p) const { vst1q_s32(p, v); }
};

DDS_INLINE VecI16 operator+(VecI16 a, VecI16 b) { return VecI16(vaddq_s32(a.v, b.v)); }

// sum + max(a0, b0) + max(a1, b1)
DDS_INLINE VecI16 add_maxima(VecI16 sum, VecI16 a, VecI16 b, VecI16) {
    return VecI16(vpadalq_s16(sum.v, vmaxq_s16(vreinterpretq_s16_s32(a.v), vreinterpretq_s16_s32(b.v))));
}

DDS_INLINE VecF32 operator+(VecF32 a, VecF32 b) { return VecF32(vaddq_f32(a.v, b.v)); }
DDS_INLINE VecF32 operator-(VecF32 a, VecF32 b) { return VecF32(vsubq_f32(a.v, b.v)); }
DDS_INLINE VecF32 operator*(VecF32 a, VecF32 b) { return VecF32(vmulq_f32(a.v, b.v)); }
DDS_INLINE VecF32 operator-(VecF32 a) { return VecF32(vnegq_f32(a.v)); }
DDS_INLINE VecF32 fma(VecF32 a, VecF32 b, VecF32 c) { return VecF32(vfmaq_f32(c.v, a.v, b.v)); }
DDS_INLINE VecF32 max(VecF32 a, VecF32 b) { return VecF32(vmaxq_f32(a.v, b.v)); }
DDS_INLINE VecF32 min(VecF32 a, VecF32 b) { return VecF32(vminq_f32(a.v, b.v)); }
DDS_INLINE VecF32 abs(VecF32 a) { return VecF32(vabsq_f32(a.v)); }
DDS_INLINE VecF32 sqrt(VecF32 a) { return VecF32(vsqrtq_f32(a.v)); }
DDS_INLINE bool any_less(VecF32 a, VecF32 b) { return vmaxvq_u32(vcltq_f32(a.v, b.v)) != 0; }
DDS_INLINE VecF32 round_to_integer(VecF32 a) { return VecF32(vrndnq_f32(a.v)); }
DDS_INLINE VecF32 scale_by_power_of_2(VecF32 a, VecF32 n) {
    int32x4_t exponent = vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n.v), vdupq_n_s32(127)), 23);
    return VecF32(vmulq_f32(a.v, vreinterpretq_f32_s32(exponent)));
}
DDS_INLINE VecF32 zero_where_less(VecF32 x, VecF32 bound, VecF32 a) {
    return VecF32(vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(a.v), vcltq_f32(x.v, bound.v))));
}
DDS_INLINE VecF32 sign(VecF32 a) {
    uint32x4_t one = vreinterpretq_u32_f32(vbslq_f32(vdupq_n_u32(1u << 31), a.v, vdupq_n_f32(1)));
    return VecF32(vreinterpretq_f32_u32(vbicq_u32(one, vceqzq_f32(a.v))));
}
// below this the result would be subnormal, which the exponent above cannot say
DDS_INLINE VecF32 exp(VecF32 a) { return exp_of_nonpositive(a, -87.0f); }

DDS_INLINE VecF64 operator+(VecF64 a, VecF64 b) { return VecF64(vaddq_f64(a.v, b.v)); }
DDS_INLINE VecF64 operator-(VecF64 a, VecF64 b) { return VecF64(vsubq_f64(a.v, b.v)); }
DDS_INLINE VecF64 operator*(VecF64 a, VecF64 b) { return VecF64(vmulq_f64(a.v, b.v)); }
DDS_INLINE VecF64 operator-(VecF64 a) { return VecF64(vnegq_f64(a.v)); }
DDS_INLINE VecF64 fma(VecF64 a, VecF64 b, VecF64 c) { return VecF64(vfmaq_f64(c.v, a.v, b.v)); }
DDS_INLINE VecF64 max(VecF64 a, VecF64 b) { return VecF64(vmaxq_f64(a.v, b.v)); }
DDS_INLINE VecF64 min(VecF64 a, VecF64 b) { return VecF64(vminq_f64(a.v, b.v)); }
DDS_INLINE VecF64 abs(VecF64 a) { return VecF64(vabsq_f64(a.v)); }
DDS_INLINE VecF64 sqrt(VecF64 a) { return VecF64(vsqrtq_f64(a.v)); }
DDS_INLINE bool any_less(VecF64 a, VecF64 b) { return vmaxvq_u32(vreinterpretq_u32_u64(vcltq_f64(a.v, b.v))) != 0; }
DDS_INLINE VecF64 round_to_integer(VecF64 a) { return VecF64(vrndnq_f64(a.v)); }
DDS_INLINE VecF64 scale_by_power_of_2(VecF64 a, VecF64 n) {
    int64x2_t exponent = vshlq_n_s64(vaddq_s64(vcvtnq_s64_f64(n.v), vdupq_n_s64(1023)), 52);
    return VecF64(vmulq_f64(a.v, vreinterpretq_f64_s64(exponent)));
}
DDS_INLINE VecF64 zero_where_less(VecF64 x, VecF64 bound, VecF64 a) {
    return VecF64(vreinterpretq_f64_u64(vbicq_u64(vreinterpretq_u64_f64(a.v), vcltq_f64(x.v, bound.v))));
}
DDS_INLINE VecF64 sign(VecF64 a) {
    uint64x2_t one = vreinterpretq_u64_f64(vbslq_f64(vdupq_n_u64(uint64_t{1} << 63), a.v, vdupq_n_f64(1)));
    return VecF64(vreinterpretq_f64_u64(vbicq_u64(one, vceqzq_f64(a.v))));
}
DDS_INLINE VecF64 exp(VecF64 a) { return exp_of_nonpositive(a, -708.0); }

// Transposes W vectors in place.
DDS_INLINE void VecF32::transpose(VecF32* r) {
    float32x4x2_t ab = vtrnq_f32(r[0].v, r[1].v), cd = vtrnq_f32(r[2].v, r[3].v);
    for (int c = 0; c < 2; ++c) {
        r[c].v = vcombine_f32(vget_low_f32(ab.val[c]), vget_low_f32(cd.val[c]));
        r[2 + c].v = vcombine_f32(vget_high_f32(ab.val[c]), vget_high_f32(cd.val[c]));
    }
}

DDS_INLINE void VecF64::transpose(VecF64* r) {
    float64x2_t low = vzip1q_f64(r[0].v, r[1].v), high = vzip2q_f64(r[0].v, r[1].v);
    r[0].v = low;
    r[1].v = high;
}

// Hides a value from the optimiser.
DDS_INLINE void opaque(VecF32& x) { asm volatile("" : "+w"(x.v)); }
DDS_INLINE void opaque(VecF64& x) { asm volatile("" : "+w"(x.v)); }
DDS_INLINE void opaque(VecI16& x) { asm volatile("" : "+w"(x.v)); }

DDS_NAMESPACE_END
