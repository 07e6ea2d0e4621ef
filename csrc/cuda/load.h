// From stored features to z, four at a time: copies that are under way while something else is computed, conversion, and the
// stages of the normalisation.
#pragma once

#include "cuda/number.h"
#include "cuda/plan.h"

namespace dds::cuda {

// Four features as they are stored.
template <class T>
struct alignas(16) Raw {
    uint4 words[sizeof(T) / 4];
};

DDS_DEVICE int bytes_of(Dtype dtype) { return dtype == Dtype::f64 ? 8 : dtype == Dtype::f32 ? 4 : 2; }

// Two stored features.
DDS_DEVICE float2 narrow_to_float(Dtype dtype, uint32_t bits) {
    if (dtype == Dtype::f16) return unpack_half2(bits);
    return {__uint_as_float(bits << 16), __uint_as_float(bits & 0xffff0000u)};
}

// One stored feature.
template <class T>
DDS_DEVICE T load(Dtype dtype, const void* data, int64_t at) {
    if (dtype == Dtype::f32) return static_cast<T>(static_cast<const float*>(data)[at]);
    if (dtype == Dtype::f64) return static_cast<T>(static_cast<const double*>(data)[at]);
    return static_cast<T>(narrow_to_float(dtype, static_cast<const uint16_t*>(data)[at]).x);
}

// Where the features of a row begin.
DDS_DEVICE const char* begin_of(const Set& s, int64_t row) { return static_cast<const char*>(s.data) + row * s.row_bytes; }

template <class T>
DDS_DEVICE T load(Dtype dtype, const Set& s, int64_t row, int64_t col) {
    return load<T>(dtype, begin_of(s, row), col * s.col_stride);
}

// Features col .. col + 3 of a row one by one: strided, misaligned or the last of a row. What is beyond d is left as it is.
template <class T>
DDS_DEVICE void copy_features(Dtype dtype, const Set& s, int64_t d, const char* row, int64_t col, Raw<T>* to) {
    const int bytes = bytes_of(dtype);
    DDS_UNROLL_BY(1)
    for (int c = 0; c < 4 && col + c < d; ++c) {
        const char* from = row + (col + c) * s.col_stride * bytes;
        if (bytes == 2) reinterpret_cast<uint16_t*>(to)[c] = *reinterpret_cast<const uint16_t*>(from);
        else if (bytes == 4) reinterpret_cast<uint32_t*>(to)[c] = *reinterpret_cast<const uint32_t*>(from);
        else if (sizeof(T) == 8) reinterpret_cast<double*>(to)[c] = *reinterpret_cast<const double*>(from);
    }
}

// The same features to shared memory, where they are for this thread after wait_copies.
template <class T>
DDS_DEVICE void copy_singly(Dtype dtype, const Set& s, int64_t d, const char* row, int64_t col, Raw<T>* to) {
    const int bytes = bytes_of(dtype);
    if (bytes == 2) return copy_features(dtype, s, d, row, col, to);  // less than a copy can be of
    DDS_UNROLL_BY(1)
    for (int c = 0; c < 4 && col + c < d; ++c) {
        const char* one = row + (col + c) * s.col_stride * bytes;
        if (bytes == 4) copy_async<4>(reinterpret_cast<char*>(to) + 4 * c, one);
        else if (sizeof(T) == 8) copy_async<8>(reinterpret_cast<char*>(to) + 8 * c, one);
    }
}

// And where they are contiguous and aligned.
template <class T>
DDS_DEVICE void copy_quad(Dtype dtype, const char* from, Raw<T>* to) {
    const int bytes = bytes_of(dtype);
    if (bytes == 2) {
        copy_async<8>(to, from);
    } else {
        copy_async<16>(to, from);
        if (sizeof(T) == 8 && bytes == 8) copy_async<16>(reinterpret_cast<char*>(to) + 16, from + 16);
    }
}

// And to registers.
template <class T>
DDS_DEVICE Raw<T> load_quad(Dtype dtype, const Set& s, int64_t d, int64_t row, int64_t col) {
    Raw<T> raw;
    if (!s.vectors || col + 4 > d) {
        copy_features(dtype, s, d, begin_of(s, row), col, &raw);
        return raw;
    }
    const char* from = begin_of(s, row) + col * bytes_of(dtype);
    if (bytes_of(dtype) == 2) {
        const uint2 two = *reinterpret_cast<const uint2*>(from);
        raw.words[0].x = two.x;
        raw.words[0].y = two.y;
    } else {
        raw.words[0] = reinterpret_cast<const uint4*>(from)[0];
        if constexpr (sizeof(T) == 8)
            if (bytes_of(dtype) == 8) raw.words[1] = reinterpret_cast<const uint4*>(from)[1];
    }
    return raw;
}

template <class T>
DDS_DEVICE void convert(Dtype dtype, const Raw<T>& raw, T (&x)[4]) {
    const uint4 a = raw.words[0];
    if (dtype == Dtype::f32) {
        x[0] = __uint_as_float(a.x), x[1] = __uint_as_float(a.y), x[2] = __uint_as_float(a.z), x[3] = __uint_as_float(a.w);
    } else if (dtype == Dtype::f64) {
        if constexpr (sizeof(T) == 8) {
            const uint4 b = raw.words[1];
            auto wide = [](uint32_t low, uint32_t high) {
                return __longlong_as_double(static_cast<long long>(static_cast<unsigned long long>(high) << 32 | low));
            };
            x[0] = wide(a.x, a.y), x[1] = wide(a.z, a.w), x[2] = wide(b.x, b.y), x[3] = wide(b.z, b.w);
        }
    } else {
        const float2 first = narrow_to_float(dtype, a.x), second = narrow_to_float(dtype, a.y);
        x[0] = first.x, x[1] = first.y, x[2] = second.x, x[3] = second.y;
    }
}

// The column stage of four features: z = (x - mean) scale + rest, `mean` rounded to T and `rest` making up for that, so that
// an offset of the features costs z no places.
template <class T>
struct ColumnQuad {
    struct alignas(16) Four {
        T of[4];
    } mean, scale, rest;
};

DDS_DEVICE int64_t column_stride(const Model& m) { return (m.d + kSlab - 1) / kSlab * kSlab; }

template <class T>
DDS_DEVICE ColumnQuad<T> load_columns(const Model& m, int64_t col) {
    const auto* from = static_cast<const typename ColumnQuad<T>::Four*>(m.columns) + col / 4;
    const int64_t stride = column_stride(m) / 4;
    return {from[0], from[stride], from[2 * stride]};
}

// A stage whose statistics are those of a row, or of a row and a group of channels: z = (x - mean) scale in the same way.
// `low` is what the scale loses as a T, which all features of a row would lose alike.
template <class T>
struct alignas(16) Affine {
    T mean, scale, low, rest;

    DDS_DEVICE T operator()(T x) const {
        const Number<T> t(x - mean);
        return fma(t, Number<T>(scale), fma(t, Number<T>(low), Number<T>(rest))).v;
    }
};

template <class T>
DDS_DEVICE Affine<T> affine(double mean, double scale) {
    const T of_mean = static_cast<T>(mean), of_scale = static_cast<T>(scale);
    return {of_mean, of_scale, static_cast<T>(scale - static_cast<double>(of_scale)),
            static_cast<T>((static_cast<double>(of_mean) - mean) * scale)};
}

template <class T>
DDS_DEVICE const Affine<T>& group_terms(const Launch& b, const Model& m, int set, int64_t row, int group) {
    return static_cast<const Affine<T>*>(m.group_terms[set])[row * b.groups + group];
}

template <class T>
DDS_DEVICE const Affine<T>& row_terms(const Model& m, int set, int64_t row) {
    return static_cast<const Affine<T>*>(m.row_terms[set])[row];
}

DDS_DEVICE int group_of(const Model& m, int64_t col) { return m.group_of ? m.group_of[col] : 0; }

// The stage of groups in float64.
DDS_DEVICE double grouped(const Launch& b, const Model& m, int set, int64_t row, int64_t col, double x) {
    if (!m.group_mean[set]) return x;
    const int64_t g = row * b.groups + group_of(m, col);
    return (x - m.group_mean[set][g]) * m.group_scale[set][g];
}

// The stages of groups and columns in float64.
DDS_DEVICE double normalized(const Launch& b, const Model& m, int set, int64_t row, int64_t col, double x) {
    x = grouped(b, m, set, row, col, x);
    if (m.column_mean) x = (x - m.column_mean[col]) * m.column_scale[col];
    return x;
}

// Whether T is not enough for a row whose stage takes away a mean that the stage of columns has left. Let F
// be that mean over the row's deviation from it. Each number that the stage of columns makes is off by 3 of its 2^-24, so
// that the row of unit length is by 3 (1 + F^2)^1/2 2^-24, by 3 * 2^-24 more for the stage of rows, and a correlation by
// twice both at most: 1.5e-6 for F = 3. Means that groups leave are rounding errors of float64.
template <class T>
DDS_DEVICE bool far(const Model& m, const Affine<T>& row) {
    constexpr T most = 3;
    const T share = row.mean * row.scale;  // the scale is 1 / (d^1/2 deviation)
    return sizeof(T) == 4 && share * share * static_cast<T>(m.d) > most * most;
}

template <class T>
DDS_DEVICE void normalize_by_columns(const ColumnQuad<T>& columns, T (&x)[4]) {
    DDS_UNROLL
    for (int c = 0; c < 4; ++c)
        x[c] = fma(Number<T>(x[c] - columns.mean.of[c]), Number<T>(columns.scale.of[c]), Number<T>(columns.rest.of[c])).v;
}

// z of features col .. col + 3 of a row by the stages of columns and of rows; 0 but for the first `count`.
template <class T>
DDS_DEVICE void normalize_quad(const Launch& b, const Model& m, int set, int64_t row, int64_t col, int count, T (&x)[4]) {
    if (b.columns) normalize_by_columns(load_columns<T>(m, col), x);
    if (b.centered_rows) {
        const Affine<T> of_row = row_terms<T>(m, set, row);
        DDS_UNROLL
        for (int c = 0; c < 4; ++c) x[c] = of_row(x[c]);
    }
    DDS_UNROLL
    for (int c = 0; c < 4; ++c)
        if (c >= count) x[c] = 0;
}

// Whether it takes more than that: a stage of groups, or float64.
template <class T>
DDS_DEVICE bool one_by_one(const Launch& b, const Model& m, int set, int64_t row) {
    return b.groups > 0 || (b.columns && b.centered_rows && far(m, row_terms<T>(m, set, row)));
}

// z of one feature then.
template <class T>
DDS_DEVICE T normalize(const Launch& b, const Model& m, int set, int64_t row, int64_t col, T x) {
    if (b.groups == 0) {
        const double z = normalized(b, m, set, row, col, static_cast<double>(x));
        return static_cast<T>((z - m.row_mean[set][row]) * m.row_scale[set][row]);
    }
    x = group_terms<T>(b, m, set, row, group_of(m, col))(x);
    return b.centered_rows ? row_terms<T>(m, set, row)(x) : x;
}

}  // namespace dds::cuda
