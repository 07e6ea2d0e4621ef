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

DDS_DEVICE float half_to_float(uint32_t bits) {
    const uint32_t sign = (bits & 0x8000u) << 16, magnitude = bits & 0x7fffu;
    if (magnitude < 0x400) return __uint_as_float(sign | __float_as_uint(static_cast<float>(magnitude) * 0x1p-24f));
    return __uint_as_float(sign | ((magnitude << 13) + (magnitude < 0x7c00 ? 112u << 23 : 224u << 23)));
}

DDS_DEVICE float narrow_to_float(Dtype dtype, uint32_t bits) {
    return dtype == Dtype::f16 ? half_to_float(bits & 0xffffu) : __uint_as_float(bits << 16);
}

// One stored feature.
template <class T>
DDS_DEVICE T load(Dtype dtype, const void* data, int64_t at) {
    if (dtype == Dtype::f32) return static_cast<T>(static_cast<const float*>(data)[at]);
    if (dtype == Dtype::f64) return static_cast<T>(static_cast<const double*>(data)[at]);
    return static_cast<T>(narrow_to_float(dtype, static_cast<const uint16_t*>(data)[at]));
}

template <class T>
DDS_DEVICE T load(Dtype dtype, const Set& s, int64_t row, int64_t col) {
    return load<T>(dtype, s.data, row * s.row_stride + col * s.col_stride);
}

DDS_DEVICE const char* address_of(Dtype dtype, const Set& s, int64_t row, int64_t col) {
    return static_cast<const char*>(s.data) + (row * s.row_stride + col * s.col_stride) * bytes_of(dtype);
}

// Features col .. col + 3 of a row one by one: strided, misaligned or the last of a row. What is beyond d is left as it is.
template <class T>
DDS_DEVICE void copy_features(Dtype dtype, const Set& s, int64_t d, int64_t row, int64_t col, Raw<T>* to) {
    const int bytes = bytes_of(dtype);
    for (int c = 0; c < 4 && col + c < d; ++c) {
        const char* from = address_of(dtype, s, row, col + c);
        if (bytes == 2) reinterpret_cast<uint16_t*>(to)[c] = *reinterpret_cast<const uint16_t*>(from);
        else if (bytes == 4) reinterpret_cast<uint32_t*>(to)[c] = *reinterpret_cast<const uint32_t*>(from);
        else if (sizeof(T) == 8) reinterpret_cast<double*>(to)[c] = *reinterpret_cast<const double*>(from);
    }
}

// The same four features to shared memory, where they are for this thread after wait_copies.
template <class T>
DDS_DEVICE void copy_quad(Dtype dtype, const Set& s, int64_t d, int64_t row, int64_t col, Raw<T>* to) {
    if (!s.vectors || col + 4 > d) return copy_features(dtype, s, d, row, col, to);
    const char* from = address_of(dtype, s, row, col);
    const int bytes = bytes_of(dtype);
    if (bytes == 2) {
        copy_async<8>(to, from, true);
    } else {
        copy_async<16>(to, from, true);
        if (sizeof(T) == 8 && bytes == 8) copy_async<16>(reinterpret_cast<char*>(to) + 16, from + 16, true);
    }
}

// And to registers.
template <class T>
DDS_DEVICE Raw<T> load_quad(Dtype dtype, const Set& s, int64_t d, int64_t row, int64_t col) {
    Raw<T> raw;
    if (!s.vectors || col + 4 > d) {
        copy_features(dtype, s, d, row, col, &raw);
        return raw;
    }
    const char* from = address_of(dtype, s, row, col);
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
        x[0] = narrow_to_float(dtype, a.x & 0xffffu), x[1] = narrow_to_float(dtype, a.x >> 16);
        x[2] = narrow_to_float(dtype, a.y & 0xffffu), x[3] = narrow_to_float(dtype, a.y >> 16);
    }
}

// The column stage of four features: z = (x - mean) scale + rest, `mean` rounded to T and `rest` making up for that, so that
// an offset of the features costs z no places.
template <class T>
struct ColumnQuad {
    T mean[4], scale[4], rest[4];
};

DDS_DEVICE int64_t column_stride(const Model& m) { return (m.d + 3) / 4 * 4; }

template <class T>
DDS_DEVICE void load_columns(const Model& m, int64_t col, ColumnQuad<T>& quad) {
    const T* from = static_cast<const T*>(m.columns) + col;
    const int64_t stride = column_stride(m);
    DDS_UNROLL
    for (int c = 0; c < 4; ++c) {  // contiguous and aligned: one load each
        quad.mean[c] = from[c];
        quad.scale[c] = from[stride + c];
        quad.rest[c] = from[2 * stride + c];
    }
}

// Index of a feature's group of channels among the statistics of its image.
DDS_DEVICE int64_t group_of(const Launch& b, const Model& m, int64_t col) {
    return b.channels_last ? col % b.channels / (b.channels / b.groups) : col / (m.d / b.groups);
}

// The stage of groups in float64.
DDS_DEVICE double grouped(const Launch& b, const Model& m, int set, int64_t row, int64_t col, double x) {
    if (!m.group_mean[set]) return x;
    const int64_t g = row * b.groups + group_of(b, m, col);
    return (x - m.group_mean[set][g]) * m.group_scale[set][g];
}

// The stages of groups and columns in float64.
DDS_DEVICE double normalized(const Launch& b, const Model& m, int set, int64_t row, int64_t col, double x) {
    x = grouped(b, m, set, row, col, x);
    if (m.column_mean) x = (x - m.column_mean[col]) * m.column_scale[col];
    return x;
}

// z of a feature through all stages, in float64.
DDS_DEVICE double normalized_by_all(const Launch& b, const Model& m, int set, int64_t row, int64_t col, double x) {
    const double z = normalized(b, m, set, row, col, x);
    return m.row_mean[set] ? (z - m.row_mean[set][row]) * m.row_scale[set][row] : z;
}

// z of four features of a row where there is at most one stage; 0 beyond d.
template <class T>
DDS_DEVICE void normalize_quad(const Launch& b, const Model& m, int set, int64_t row, int64_t col,
                               const ColumnQuad<T>& columns, T (&x)[4]) {
    if (b.stages == Stages::columns) {
        DDS_UNROLL
        for (int c = 0; c < 4; ++c)
            x[c] = fma(Number<T>(x[c] - columns.mean[c]), Number<T>(columns.scale[c]), Number<T>(columns.rest[c])).v;
    } else if (b.stages == Stages::rows) {
        const double exact = m.row_mean[set][row], scale = m.row_scale[set][row];
        const T mean = static_cast<T>(exact);
        const T rest = static_cast<T>((static_cast<double>(mean) - exact) * scale);
        DDS_UNROLL
        for (int c = 0; c < 4; ++c) x[c] = fma(Number<T>(x[c] - mean), Number<T>(static_cast<T>(scale)), Number<T>(rest)).v;
    }
    DDS_UNROLL
    for (int c = 0; c < 4; ++c)
        if (col + c >= m.d) x[c] = 0;
}

}  // namespace dds::cuda
