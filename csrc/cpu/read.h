// From stored features to the numbers z that pairs are formed of: conversion, normalisation, and the statistics both need.
// Plain loops over float64, which every compiler turns into vector code for the unit's instruction set.
#pragma once

#include <stdint.h>
#include <string.h>

#include "cpu/kernels.h"
#include "metrics/common.h"
#include "norms/variance.h"

DDS_NAMESPACE_BEGIN

DDS_INLINE bool is_nonfinite(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (bits & 0x7f800000u) == 0x7f800000u;
}

DDS_INLINE bool is_nonfinite(double x) {
    uint64_t bits;
    memcpy(&bits, &x, 8);
    return (bits & 0x7ff0000000000000u) == 0x7ff0000000000000u;
}

template <class T>
bool any_nonfinite(const T* x, int64_t n) {
    int found = 0;
    for (int64_t i = 0; i < n; ++i) found |= is_nonfinite(x[i]);
    return found != 0;
}

DDS_INLINE float float_of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

struct Half {
    uint16_t bits;
    // by integer arithmetic, so that subnormals survive whatever flush-to-zero mode the caller is in
    DDS_INLINE float value() const {
        uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16, magnitude = bits & 0x7fff;
        float subnormal = static_cast<float>(static_cast<int32_t>(magnitude)) * 0x1p-24f;
        uint32_t normal = (magnitude << 13) + (magnitude < 0x7c00 ? 112u << 23 : 224u << 23);
        float x = magnitude < 0x400 ? subnormal : float_of_bits(normal);
        return sign ? -x : x;
    }
};

struct Bfloat16 {
    uint16_t bits;
    DDS_INLINE float value() const { return float_of_bits(static_cast<uint32_t>(bits) << 16); }
};

DDS_INLINE float value_of(float x) { return x; }
DDS_INLINE double value_of(double x) { return x; }
DDS_INLINE float value_of(Half x) { return x.value(); }
DDS_INLINE float value_of(Bfloat16 x) { return x.value(); }

constexpr int64_t kRowsAhead = 4;  // between the prefetch of a row's columns and their use

// Asks for one row's columns ahead of their use: where rows are far apart, every one starts in another page, and the
// processor's own prefetching starts anew.
DDS_INLINE void prefetch_row(const Features& f, int64_t row, int64_t begin, int64_t end) {
    constexpr int kBytes[] = {2, 2, 4, 8};
    const int bytes = kBytes[static_cast<int>(f.dtype)];
    if (row >= f.rows || f.col_stride != 1) return;
    const char* from = static_cast<const char*>(f.data) + (row * f.row_stride + begin) * bytes;
    for (int64_t b = 0; b < (end - begin) * bytes; b += 64) __builtin_prefetch(from + b);
}

// body(k, x) for every stored value of one row's columns [begin, end), k from 0; returns whether one is NaN or infinite.
// `body` may touch element k of any array that does not overlap the features.
template <class In, class Body>
DDS_INLINE bool for_stored(const void* data, int64_t offset, int64_t stride, int64_t n, Body body) {
    const In* from = static_cast<const In*>(data) + offset;
    int found = 0;
    if (stride == 1) {
#pragma omp simd reduction(| : found)
        for (int64_t k = 0; k < n; ++k) {
            In stored;  // memcpy: the array may be misaligned
            memcpy(&stored, from + k, sizeof(In));
            const auto x = value_of(stored);
            found |= is_nonfinite(x);
            body(k, x);
        }
    } else {
#pragma omp simd reduction(| : found)
        for (int64_t k = 0; k < n; ++k) {
            In stored;
            memcpy(&stored, from + k * stride, sizeof(In));
            const auto x = value_of(stored);
            found |= is_nonfinite(x);
            body(k, x);
        }
    }
    return found != 0;
}

// f(In()) for the type the features are stored in.
template <class F>
DDS_INLINE auto with_stored_type(const Features& features, F f) {
    switch (features.dtype) {
        case Dtype::f16: return f(Half());
        case Dtype::bf16: return f(Bfloat16());
        case Dtype::f32: return f(float());
        default: return f(double());
    }
}

template <class Body>
DDS_INLINE bool for_stored(const Features& f, int64_t row, int64_t begin, int64_t end, Body body) {
    const int64_t offset = row * f.row_stride + begin * f.col_stride;
    return with_stored_type(
        f, [&](auto in) { return for_stored<decltype(in)>(f.data, offset, f.col_stride, end - begin, body); });
}

template <class T>
bool read_stored(const Features& f, int64_t row, int64_t begin, int64_t end, T* to) {
    return for_stored(f, row, begin, end, [=](int64_t k, auto x) { to[k] = static_cast<T>(x); });
}

// Stage 1 of columns [begin, end) of one row.
DDS_INLINE void normalize_groups(const Call& c, int set, int64_t row, int64_t begin, int64_t end, double* z) {
    const double *mean = c.group_mean[set] + row * c.group_stride, *scale = c.group_scale[set] + row * c.group_stride;
    const int64_t length = c.channels_last ? c.group_stride : c.sets[0].cols / c.groups;
    for (int64_t k = begin; k < end;) {
        const int64_t at = k % length, run = length - at < end - k ? length - at : end - k;
        double* x = z + (k - begin);
        if (c.channels_last) {
            for (int64_t i = 0; i < run; ++i) x[i] = (x[i] - mean[at + i]) * scale[at + i];
        } else {
            const double m = mean[k / length], s = scale[k / length];
            for (int64_t i = 0; i < run; ++i) x[i] = (x[i] - m) * s;
        }
        k += run;
    }
}

// z of columns [begin, end), at most kMaxWidth of them, after the first one, two or three stages.
// Returns whether a stored value is NaN or infinite.
template <class T>
bool read_stages(const Call& c, int set, int64_t row, int64_t begin, int64_t end, int stages, T* z) {
    const bool groups = c.group_mean[set], columns = stages > 1 && c.column_mean, rows = stages > 2 && c.row_mean[set];
    const double *column_mean = c.column_mean + begin, *column_scale = c.column_scale + begin;
    if (!groups && !columns && !rows) return read_stored(c.sets[set], row, begin, end, z);
    if (!groups && !rows) {  // the common case in one loop
        return for_stored(c.sets[set], row, begin, end, [=](int64_t k, auto x) {
            z[k] = static_cast<T>((static_cast<double>(x) - column_mean[k]) * column_scale[k]);
        });
    }
    const int64_t n = end - begin;
    double wide[kMaxWidth];
    const bool nonfinite = read_stored(c.sets[set], row, begin, end, wide);
    if (groups) normalize_groups(c, set, row, begin, end, wide);
    if (columns)
        for (int64_t k = 0; k < n; ++k) wide[k] = (wide[k] - column_mean[k]) * column_scale[k];
    if (rows) {
        const double mean = c.row_mean[set][row], scale = c.row_scale[set][row];
        for (int64_t k = 0; k < n; ++k) wide[k] = (wide[k] - mean) * scale;
    }
    for (int64_t k = 0; k < n; ++k) z[k] = static_cast<T>(wide[k]);
    return nonfinite;
}

template <class T>
bool read_row(const Call& c, int set, int64_t row, int64_t begin, int64_t end, T* z) {
    return read_stages(c, set, row, begin, end, 3, z);
}

// Stage 1: mean and scale of every group of one image.
inline void group_moments(const Call& c, int set, int64_t row, double* scratch) {
    const int64_t d = c.sets[set].cols, groups = c.groups;
    double *mean = c.group_mean[set] + row * c.group_stride, *scale = c.group_scale[set] + row * c.group_stride;
    const double per_group = static_cast<double>(d / groups);
    double values[kMaxWidth];
    if (!c.channels_last) {
        const int64_t length = d / groups;
        for (int64_t g = 0; g < groups; ++g) {
            double sum = 0, squares = 0, shift = 0;
            for (int64_t k = g * length; k < (g + 1) * length; k += kMaxWidth) {
                const int64_t end = k + kMaxWidth < (g + 1) * length ? k + kMaxWidth : (g + 1) * length;
                read_stored(c.sets[set], row, k, end, values);
                if (k == g * length) shift = values[0];
#pragma omp simd reduction(+ : sum, squares)
                for (int64_t m = 0; m < end - k; ++m) {
                    double t = values[m] - shift;
                    sum += t;
                    squares += t * t;
                }
            }
            mean[g] = shift + sum / per_group;
            scale[g] = c.norm_scale(variance_of(sum, squares, per_group));
        }
        return;
    }
    // channels last: one sum for every column of a period, folded into groups at the end
    const int64_t per = c.channels / groups, period = c.group_stride;
    double *sum = scratch, *squares = sum + period, *shift = squares + period, *first = shift + period;
    for (int64_t g = 0; g < groups; ++g) read_stored(c.sets[set], row, g * per, g * per + 1, first + g);
    for (int64_t p = 0; p < period; ++p) {
        sum[p] = squares[p] = 0;
        shift[p] = first[p % c.channels / per];
    }
    for (int64_t k = 0; k < d; k += kMaxWidth) {
        const int64_t end = k + kMaxWidth < d ? k + kMaxWidth : d;
        read_stored(c.sets[set], row, k, end, values);
        for (int64_t m = k; m < end;) {
            const int64_t p = m % period, run = period - p < end - m ? period - p : end - m;
            const double* x = values + (m - k);
#pragma omp simd
            for (int64_t i = 0; i < run; ++i) {
                double t = x[i] - shift[p + i];
                sum[p + i] += t;
                squares[p + i] += t * t;
            }
            m += run;
        }
    }
    double *group_sum = first + groups, *group_squares = group_sum + groups;
    for (int64_t g = 0; g < groups; ++g) group_sum[g] = group_squares[g] = 0;
    for (int64_t p = 0; p < period; ++p) {
        group_sum[p % c.channels / per] += sum[p];
        group_squares[p % c.channels / per] += squares[p];
    }
    for (int64_t g = 0; g < groups; ++g) {
        group_squares[g] = c.norm_scale(variance_of(group_sum[g], group_squares[g], per_group));
        group_sum[g] = first[g] + group_sum[g] / per_group;
    }
    for (int64_t p = 0; p < period; ++p) {
        mean[p] = group_sum[p % c.channels / per];
        scale[p] = group_squares[p % c.channels / per];
    }
}

// Adds w columns of `rows` rows to the sums of x - shift and of its squares.
template <int rows, class In>
DDS_INLINE void add_moments(const In* x, int64_t row_stride, int64_t w, const double* shift, double* sum, double* squares) {
#pragma omp simd
    for (int64_t k = 0; k < w; ++k) {
        double s = 0, q = 0;
#pragma GCC unroll 8
        for (int r = 0; r < rows; ++r) {
            In stored;
            memcpy(&stored, x + r * row_stride + k, sizeof(In));
            const double t = static_cast<double>(value_of(stored)) - shift[k];
            s += t;
            q += t * t;
        }
        sum[k] += s;
        squares[k] += q;
    }
}

// Stage 2: mean and scale of columns [begin, end) over the images of x.
inline void column_moments(const Call& c, int64_t begin, int64_t end) {
    constexpr int kTogether = 4;  // rows: the sums are loaded and stored once for all of them
    double shift[kMaxWidth], sum[kMaxWidth], squares[kMaxWidth], z[kMaxWidth];
    const Features& f = c.sets[0];
    const int64_t n = f.rows, w = end - begin;
    read_stages(c, 0, 0, begin, end, 1, shift);
    for (int64_t k = 0; k < w; ++k) sum[k] = squares[k] = 0;
    int64_t i = 1;
    if (!c.group_mean[0] && f.col_stride == 1) {
        with_stored_type(f, [&](auto in) {
            const auto* x = static_cast<const decltype(in)*>(f.data) + begin;
            for (; i + kTogether <= n; i += kTogether) {
                for (int r = 0; r < kTogether; ++r) prefetch_row(f, i + r + kTogether, begin, end);
                add_moments<kTogether>(x + i * f.row_stride, f.row_stride, w, shift, sum, squares);
            }
        });
    }
    for (; i < n; ++i) {
        read_stages(c, 0, i, begin, end, 1, z);
        add_moments<1>(z, 0, w, shift, sum, squares);
    }
    for (int64_t k = 0; k < w; ++k) {
        c.column_mean[begin + k] = shift[k] + sum[k] / static_cast<double>(n);
        c.column_scale[begin + k] = c.norm_scale(variance_of(sum[k], squares[k], static_cast<double>(n)));
    }
}

DDS_INLINE double smaller(double a, double b) { return a < b ? a : b; }
DDS_INLINE double larger(double a, double b) { return a < b ? b : a; }
DDS_INLINE double median_of_3(double a, double b, double c) { return larger(smaller(a, b), smaller(larger(a, b), c)); }

// In the place of the means: Tukey's ninther, the median of the medians of three times three images. A mean would follow
// a single image that lies far out, and all others' z would lose their last places to it. Rounded to float32, so that
// the shift is the same number in any arithmetic.
inline void column_location(const Call& c, int64_t begin, int64_t end) {
    constexpr int kSample = 9;
    double z[kSample][kMaxWidth];
    for (int i = 0; i < kSample; ++i) read_stages(c, 0, (2 * i + 1) * c.sets[0].rows / (2 * kSample), begin, end, 1, z[i]);
    for (int64_t k = 0; k < end - begin; ++k) {
        const double median = median_of_3(median_of_3(z[0][k], z[3][k], z[6][k]), median_of_3(z[1][k], z[4][k], z[7][k]),
                                          median_of_3(z[2][k], z[5][k], z[8][k]));
        // infinite or NaN: reported later. Beyond float32 everything is computed in float64
        const bool narrow = __builtin_fabs(median) <= static_cast<double>(__FLT_MAX__);
        const double shift = narrow ? static_cast<double>(static_cast<float>(median)) : median;
        c.column_mean[begin + k] = is_nonfinite(shift) ? 0 : shift;
    }
}

// The largest distance from column_mean in both sets.
inline void column_peak(const Call& c, int64_t begin, int64_t end) {
    double low[kMaxWidth], high[kMaxWidth], z[kMaxWidth];
    const int64_t w = end - begin;
    for (int64_t k = 0; k < w; ++k) low[k] = high[k] = c.column_mean[begin + k];
    bool nonfinite = false;
    for (int set = 0; set < c.set_count; ++set) {
        for (int64_t i = 0; i < c.sets[set].rows; ++i) {
            nonfinite |= read_stages(c, set, i, begin, end, 1, z);
            for (int64_t k = 0; k < w; ++k) {
                low[k] = smaller(low[k], z[k]);
                high[k] = larger(high[k], z[k]);
            }
        }
    }
    for (int64_t k = 0; k < w; ++k) {
        const double down = c.column_mean[begin + k] - low[k], up = high[k] - c.column_mean[begin + k];
        c.column_peak[begin + k] = nonfinite ? __builtin_inf() : larger(down, up);
    }
}

// Stage 3: the mean of one row and 1 / |z - mean|.
inline void row_moments(const Call& c, int set, int64_t row) {
    const int64_t d = c.sets[set].cols;
    double z[kMaxWidth], shift = 0, sum = 0, squares = 0;
    for (int64_t k = 0; k < d; k += kMaxWidth) {
        const int64_t end = k + kMaxWidth < d ? k + kMaxWidth : d;
        read_stages(c, set, row, k, end, 2, z);
        if (k == 0) shift = z[0];
#pragma omp simd reduction(+ : sum, squares)
        for (int64_t m = 0; m < end - k; ++m) {
            double t = z[m] - shift;
            sum += t;
            squares += t * t;
        }
    }
    const auto n = static_cast<double>(d);
    const double variance = variance_of(sum, squares, n);
    const double norm = in_range(variance) ? __builtin_sqrt(n * variance) : NAN;
    const double mean = shift + sum / n;
    c.row_mean[set][row] = mean;
    c.row_scale[set][row] = norm == 0 ? 0 : 1 / norm;
    // a normalised row of equal numbers differs by their rounding
    const bool normalized = c.group_mean[set] || c.column_mean;
    c.constant[set][row] = norm == 0 || (normalized && norm <= 1e-14 * __builtin_sqrt(n) * __builtin_fabs(mean));
    if (is_nonfinite(norm)) c.overflow[set][row] = 1;
}

DDS_NAMESPACE_END
