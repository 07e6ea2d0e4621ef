// AVX-512 (F, BW, DQ, VL), with VNNI where the translation unit has it.
#pragma once

#include <immintrin.h>

#include "cpu/simd/exp.h"

DDS_NAMESPACE_BEGIN

struct VecF32 {
    using T = float;
    static constexpr int W = 16;
    // 24 sums, 3 vectors, 1 broadcast value, 1 intermediate and the constant one: 30 of 32 registers
    static constexpr int rows = 8;
    static constexpr int vectors = 3;
    __m512 v;

    VecF32() = default;
    explicit DDS_INLINE VecF32(__m512 x) : v(x) {}
    explicit DDS_INLINE VecF32(float x) : v(_mm512_set1_ps(x)) {}
    explicit DDS_INLINE VecF32(int x) : v(_mm512_set1_ps(static_cast<float>(x))) {}
    static DDS_INLINE VecF32 load(const float* p) { return VecF32(_mm512_loadu_ps(p)); }
    // The integer broadcast: on Zen 4 vbroadcastss takes a slot of the pipes that the differences and maxima run on (44
    // instead of 57 of 59 G pair-elements/s), vpbroadcastd does not.
    static DDS_INLINE VecF32 broadcast(const float* p) {
        __m512i x;
        asm("vpbroadcastd %1, %0" : "=v"(x) : "m"(*p));
        return VecF32(_mm512_castsi512_ps(x));
    }
    DDS_INLINE void store(float* p) const { _mm512_storeu_ps(p, v); }
    static DDS_INLINE void transpose(VecF32* r);
};

struct VecF64 {
    using T = double;
    static constexpr int W = 8;
    static constexpr int rows = 8;
    static constexpr int vectors = 3;
    __m512d v;

    VecF64() = default;
    explicit DDS_INLINE VecF64(__m512d x) : v(x) {}
    explicit DDS_INLINE VecF64(double x) : v(_mm512_set1_pd(x)) {}
    explicit DDS_INLINE VecF64(int x) : v(_mm512_set1_pd(x)) {}
    static DDS_INLINE VecF64 load(const double* p) { return VecF64(_mm512_loadu_pd(p)); }
    static DDS_INLINE VecF64 broadcast(const double* p) {
        __m512i x;
        asm("vpbroadcastq %1, %0" : "=v"(x) : "m"(*p));
        return VecF64(_mm512_castsi512_pd(x));
    }
    DDS_INLINE void store(double* p) const { _mm512_storeu_pd(p, v); }
    static DDS_INLINE void transpose(VecF64* r);
};

// Two int16 features a lane, summed in int32.
struct VecI16 {
    using T = int32_t;
    static constexpr int W = 16;
    static constexpr int rows = 8;
    static constexpr int vectors = 3;
    __m512i v;

    VecI16() = default;
    explicit DDS_INLINE VecI16(__m512i x) : v(x) {}
    explicit DDS_INLINE VecI16(int32_t x) : v(_mm512_set1_epi32(x)) {}
    static DDS_INLINE VecI16 load(const int32_t* p) { return VecI16(_mm512_loadu_si512(p)); }
    static DDS_INLINE VecI16 broadcast(const int32_t* p) { return VecI16(*p); }
    DDS_INLINE void store(int32_t* p) const { _mm512_storeu_si512(p, v); }
};

DDS_INLINE VecI16 operator+(VecI16 a, VecI16 b) { return VecI16(_mm512_add_epi32(a.v, b.v)); }

// sum + max(a0, b0) + max(a1, b1)
DDS_INLINE VecI16 add_maxima(VecI16 sum, VecI16 a, VecI16 b, VecI16 ones) {
    __m512i m = _mm512_max_epi16(a.v, b.v);
#ifdef __AVX512VNNI__
    return VecI16(_mm512_dpwssd_epi32(sum.v, m, ones.v));
#else
    return VecI16(_mm512_add_epi32(sum.v, _mm512_madd_epi16(m, ones.v)));
#endif
}

DDS_INLINE VecF32 operator+(VecF32 a, VecF32 b) { return VecF32(_mm512_add_ps(a.v, b.v)); }
DDS_INLINE VecF32 operator-(VecF32 a, VecF32 b) { return VecF32(_mm512_sub_ps(a.v, b.v)); }
DDS_INLINE VecF32 operator*(VecF32 a, VecF32 b) { return VecF32(_mm512_mul_ps(a.v, b.v)); }
DDS_INLINE VecF32 operator-(VecF32 a) { return VecF32(_mm512_xor_ps(a.v, _mm512_set1_ps(-0.0f))); }
DDS_INLINE VecF32 fma(VecF32 a, VecF32 b, VecF32 c) { return VecF32(_mm512_fmadd_ps(a.v, b.v, c.v)); }
DDS_INLINE VecF32 max(VecF32 a, VecF32 b) { return VecF32(_mm512_max_ps(a.v, b.v)); }
DDS_INLINE VecF32 min(VecF32 a, VecF32 b) { return VecF32(_mm512_min_ps(a.v, b.v)); }
DDS_INLINE VecF32 abs(VecF32 a) { return VecF32(_mm512_abs_ps(a.v)); }
DDS_INLINE VecF32 sqrt(VecF32 a) { return VecF32(_mm512_sqrt_ps(a.v)); }
DDS_INLINE bool any_less(VecF32 a, VecF32 b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ) != 0; }
DDS_INLINE VecF32 round_to_integer(VecF32 a) {
    return VecF32(_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
DDS_INLINE VecF32 scale_by_power_of_2(VecF32 a, VecF32 n) { return VecF32(_mm512_scalef_ps(a.v, n.v)); }
DDS_INLINE VecF32 zero_where_less(VecF32 x, VecF32 bound, VecF32 a) {
    return VecF32(_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x.v, bound.v, _CMP_NLT_UQ), a.v));
}
// What becomes of each class of numbers, from the lowest four bits up: quiet and signalling NaN (NaN), 0 (0), 1 (1),
// -infinity
// (-1), infinity (1), negative (-1) and positive numbers (1). Two comparisons with masked additions, in the place of this
// and the multiplication, took a sixth longer.
constexpr int kSigns = static_cast<int>(0xa9a9a822u);
DDS_INLINE VecF32 sign(VecF32 a) { return VecF32(_mm512_fixupimm_ps(a.v, a.v, _mm512_set1_epi32(kSigns), 0)); }
DDS_INLINE VecF32 exp(VecF32 a) { return exp_of_nonpositive(a, -103.0f); }

DDS_INLINE VecF64 operator+(VecF64 a, VecF64 b) { return VecF64(_mm512_add_pd(a.v, b.v)); }
DDS_INLINE VecF64 operator-(VecF64 a, VecF64 b) { return VecF64(_mm512_sub_pd(a.v, b.v)); }
DDS_INLINE VecF64 operator*(VecF64 a, VecF64 b) { return VecF64(_mm512_mul_pd(a.v, b.v)); }
DDS_INLINE VecF64 operator-(VecF64 a) { return VecF64(_mm512_xor_pd(a.v, _mm512_set1_pd(-0.0))); }
DDS_INLINE VecF64 fma(VecF64 a, VecF64 b, VecF64 c) { return VecF64(_mm512_fmadd_pd(a.v, b.v, c.v)); }
DDS_INLINE VecF64 max(VecF64 a, VecF64 b) { return VecF64(_mm512_max_pd(a.v, b.v)); }
DDS_INLINE VecF64 min(VecF64 a, VecF64 b) { return VecF64(_mm512_min_pd(a.v, b.v)); }
DDS_INLINE VecF64 abs(VecF64 a) { return VecF64(_mm512_abs_pd(a.v)); }
DDS_INLINE VecF64 sqrt(VecF64 a) { return VecF64(_mm512_sqrt_pd(a.v)); }
DDS_INLINE bool any_less(VecF64 a, VecF64 b) { return _mm512_cmp_pd_mask(a.v, b.v, _CMP_LT_OQ) != 0; }
DDS_INLINE VecF64 round_to_integer(VecF64 a) {
    return VecF64(_mm512_roundscale_pd(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
DDS_INLINE VecF64 scale_by_power_of_2(VecF64 a, VecF64 n) { return VecF64(_mm512_scalef_pd(a.v, n.v)); }
DDS_INLINE VecF64 zero_where_less(VecF64 x, VecF64 bound, VecF64 a) {
    return VecF64(_mm512_maskz_mov_pd(_mm512_cmp_pd_mask(x.v, bound.v, _CMP_NLT_UQ), a.v));
}
DDS_INLINE VecF64 sign(VecF64 a) { return VecF64(_mm512_fixupimm_pd(a.v, a.v, _mm512_set1_epi64(kSigns), 0)); }
DDS_INLINE VecF64 exp(VecF64 a) { return exp_of_nonpositive(a, -745.0); }

// Transposes W vectors in place: pairs, then quads, then 128-bit lanes.
DDS_INLINE void VecF32::transpose(VecF32* r) {
    __m512 t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i].v, r[i + 1].v);
        t[i + 1] = _mm512_unpackhi_ps(r[i].v, r[i + 1].v);
    }
    __m512 u[16];  // u[4g + c]: column c of every 128-bit lane, rows 4g .. 4g + 3
    for (int g = 0; g < 16; g += 4) {
        u[g] = _mm512_shuffle_ps(t[g], t[g + 2], 0x44);
        u[g + 1] = _mm512_shuffle_ps(t[g], t[g + 2], 0xee);
        u[g + 2] = _mm512_shuffle_ps(t[g + 1], t[g + 3], 0x44);
        u[g + 3] = _mm512_shuffle_ps(t[g + 1], t[g + 3], 0xee);
    }
    for (int c = 0; c < 4; ++c) {
        __m512 lo01 = _mm512_shuffle_f32x4(u[c], u[4 + c], 0x44), hi01 = _mm512_shuffle_f32x4(u[c], u[4 + c], 0xee);
        __m512 lo23 = _mm512_shuffle_f32x4(u[8 + c], u[12 + c], 0x44),
               hi23 = _mm512_shuffle_f32x4(u[8 + c], u[12 + c], 0xee);
        r[c].v = _mm512_shuffle_f32x4(lo01, lo23, 0x88);
        r[4 + c].v = _mm512_shuffle_f32x4(lo01, lo23, 0xdd);
        r[8 + c].v = _mm512_shuffle_f32x4(hi01, hi23, 0x88);
        r[12 + c].v = _mm512_shuffle_f32x4(hi01, hi23, 0xdd);
    }
}

DDS_INLINE void VecF64::transpose(VecF64* r) {
    __m512d t[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm512_unpacklo_pd(r[i].v, r[i + 1].v);
        t[i + 1] = _mm512_unpackhi_pd(r[i].v, r[i + 1].v);
    }
    for (int c = 0; c < 2; ++c) {
        __m512d lo03 = _mm512_shuffle_f64x2(t[c], t[2 + c], 0x44), hi03 = _mm512_shuffle_f64x2(t[c], t[2 + c], 0xee);
        __m512d lo47 = _mm512_shuffle_f64x2(t[4 + c], t[6 + c], 0x44), hi47 = _mm512_shuffle_f64x2(t[4 + c], t[6 + c], 0xee);
        r[c].v = _mm512_shuffle_f64x2(lo03, lo47, 0x88);
        r[2 + c].v = _mm512_shuffle_f64x2(lo03, lo47, 0xdd);
        r[4 + c].v = _mm512_shuffle_f64x2(hi03, hi47, 0x88);
        r[6 + c].v = _mm512_shuffle_f64x2(hi03, hi47, 0xdd);
    }
}

// Hides a value from the optimiser.
DDS_INLINE void opaque(VecF32& x) { asm volatile("" : "+v"(x.v)); }
DDS_INLINE void opaque(VecF64& x) { asm volatile("" : "+v"(x.v)); }
DDS_INLINE void opaque(VecI16& x) { asm volatile("" : "+v"(x.v)); }

DDS_NAMESPACE_END
