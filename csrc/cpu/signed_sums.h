// The gradient of L1 distances: sums of weights, each with the sign of a difference.
#pragma once

#include <string.h>

#include "cpu/kernels.h"
#include "metrics/common.h"

DDS_NAMESPACE_BEGIN

template <class T>
struct VecOf;
template <>
struct VecOf<float> {
    using V = VecF32;
};
template <>
struct VecOf<double> {
    using V = VecF64;
};

// sums (rows, vectors * W) = over `depth` rows of y, each vectors * W numbers: w times the sign of x - y. The lanes run
// along the features, so that a weight is broadcast once for all of them.
template <class V, int rows, int vectors>
void sign_tile(const typename V::T* x, const typename V::T* y, const typename V::T* const* w, int64_t depth,
               typename V::T* sums) {
    constexpr int W = V::W;
    V sum[rows][vectors], a[rows][vectors];
    // unrolled, or the compiler moves the sums through the stack
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 16
        for (int v = 0; v < vectors; ++v) {
            sum[r][v] = V(0);
            a[r][v] = V::load(x + (r * vectors + v) * W);
        }
#pragma GCC unroll 1
    for (int64_t j = 0; j < depth; ++j, y += vectors * W) {
        V b[vectors];
#pragma GCC unroll 16
        for (int v = 0; v < vectors; ++v) b[v] = V::load(y + v * W);
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) {
            const V weight = V::broadcast(w[r] + j);
#pragma GCC unroll 16
            for (int v = 0; v < vectors; ++v) sum[r][v] = fma(sign(a[r][v] - b[v]), weight, sum[r][v]);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 16
        for (int v = 0; v < vectors; ++v) sum[r][v].store(sums + (r * vectors + v) * W);
}

// `width` numbers of each of `count` rows, of all `features`, side by side in rows of `lanes`; zeros fill up.
template <class T>
void gather_columns(const T* from, int64_t features, int64_t count, int64_t width, int64_t lanes, T* to) {
    for (int64_t r = 0; r < count; ++r, from += features, to += lanes) {
        memcpy(to, from, sizeof(T) * static_cast<size_t>(width));
        memset(to + width, 0, sizeof(T) * static_cast<size_t>(lanes - width));
    }
}

// Images [begin, end) of the result, columns [column, column + kPanel).
template <class T>
void signed_sums(const SignedSums& s, int64_t begin, int64_t end, int64_t column) {
    using V = typename VecOf<T>::V;
    constexpr int rows = V::rows / 2, lanes = V::vectors * V::W;  // half of a register tile's rows: here x takes up as many
    constexpr int64_t kDepth = 256;  // rows of y at a time: they stay in the level-2 cache, and no sum has more addends
    static_assert(kPanel % lanes == 0, "a task is a number of whole vectors");
    alignas(64) T y[kDepth * lanes], x[rows * lanes], sums[rows * lanes];
    const T *all_x = static_cast<const T*>(s.x), *all_y = static_cast<const T*>(s.y), *weights = static_cast<const T*>(s.w);
    T* out = static_cast<T*>(s.out);
    const int64_t last = column + kPanel < s.d ? column + kPanel : s.d;
    for (int64_t k = column; k < last; k += lanes) {
        const int64_t width = last - k < lanes ? last - k : lanes;
        for (int64_t j = 0; j < s.m; j += kDepth) {
            const int64_t depth = s.m - j < kDepth ? s.m - j : kDepth;
            gather_columns(all_y + j * s.d + k, s.d, depth, width, lanes, y);
            for (int64_t i = begin; i < end; i += rows) {
                const int64_t count = end - i < rows ? end - i : rows;
                gather_columns(all_x + i * s.d + k, s.d, count, width, lanes, x);
                const T* w[rows];
                for (int64_t r = 0; r < rows; ++r) {
                    w[r] = weights + (i + (r < count ? r : 0)) * s.m + j;
                    if (r >= count) memcpy(x + r * lanes, x, sizeof(T) * lanes);  // the first row again, not looked at
                }
                sign_tile<V, rows, V::vectors>(x, y, w, depth, sums);
                for (int64_t r = 0; r < count; ++r) {
                    T* to = out + (i + r) * s.d + k;
                    for (int64_t c = 0; c < width; ++c) to[c] = (j > 0 ? to[c] : T(0)) + sums[r * lanes + c];
                }
            }
        }
    }
}

DDS_NAMESPACE_END
