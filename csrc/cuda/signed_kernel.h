// The kernel of csrc/cuda/signed_sums.h.
#pragma once

#include "cuda/block.h"
#include "cuda/plan.h"
#include "cuda/signed_sums.h"

namespace dds::cuda {

// A warp has a few rows of x in registers, and its lanes the columns; each row of y passes by all of them.
template <class Real>
struct SignedShape {
    using T = Real;
    static constexpr int threads = 128, per_sm = 3;
    static constexpr int micro = 32 / sizeof(T);   // rows of a warp
    static constexpr int vector = 16 / sizeof(T);  // columns of a lane
    static constexpr int rows = threads / 32 * micro, cols = 32 * vector;
    static constexpr int slab = 16;  // rows of y in shared memory at a time
    static constexpr int fold = 64;  // slabs after which the sums are added to the result: short sums lose less
    static constexpr int stage = slab * (cols + rows);
    static constexpr int64_t shared_bytes = 2 * stage * static_cast<int64_t>(sizeof(T));
};

// 1, 0 or -1, by two instructions of the multiply-add pipe, where a comparison would take the slower one. Float32
// differences below 2^-128, all of them subnormal, count in part.
DDS_DEVICE float sign(float x) { return ::fmaf(2.0f, __saturatef(::fmaf(x, 0x1p127f, 0.5f)), -1.0f); }
DDS_DEVICE double sign(double x) { return x > 0 ? 1 : x < 0 ? -1 : 0; }

template <class Shape>
class SignedTile {
public:
    using T = typename Shape::T;

    DDS_DEVICE SignedTile(const SignedSums& p, int64_t tile) : n_(p.n), m_(p.m), d_(p.d) {
        const int64_t across = (d_ + Shape::cols - 1) / Shape::cols;
        i0_ = tile / across * Shape::rows;
        k0_ = tile % across * Shape::cols;
        x_ = static_cast<const T*>(p.x);
        y_ = static_cast<const T*>(p.y);
        w_ = static_cast<const T*>(p.w);
        out_ = static_cast<T*>(p.out);
    }

    DDS_DEVICE void compute(T* shared) {
        T x[Shape::micro][Shape::vector], sums[Shape::micro][Shape::vector] = {};
        for_entries([&](int r, int c, int64_t i, int64_t k) { x[r][c] = i < n_ && k < d_ ? x_[i * d_ + k] : T(0); });
        for_entries([&](int, int, int64_t i, int64_t k) {
            if (i < n_ && k < d_) out_[i * d_ + k] = 0;
        });
        const int64_t slabs = (m_ + Shape::slab - 1) / Shape::slab;
        load(0, shared);
        commit_copies();
        for (int64_t s = 0; s < slabs; ++s) {
            if (s + 1 < slabs) load(s + 1, shared);
            commit_copies();
            wait_copies<1>();
            __syncthreads();
            add(shared + s % 2 * Shape::stage, x, sums);
            __syncthreads();  // the next slab but one overwrites this one
            if ((s + 1) % Shape::fold == 0 || s + 1 == slabs)
                for_entries([&](int r, int c, int64_t i, int64_t k) {
                    if (i < n_ && k < d_) out_[i * d_ + k] += sums[r][c];
                    sums[r][c] = 0;
                });
        }
    }

private:
    const T *x_, *y_, *w_;
    T* out_;
    int64_t n_, m_, d_, i0_, k0_;

    template <class F>
    DDS_DEVICE void for_entries(F f) {
        DDS_UNROLL
        for (int r = 0; r < Shape::micro; ++r) DDS_UNROLL
        for (int c = 0; c < Shape::vector; ++c) f(r, c, i0_ + warp() * Shape::micro + r, k0_ + lane() * Shape::vector + c);
    }

    // Asks for a slab: rows of y, then of w. What lies beyond the matrices is 0.
    DDS_DEVICE void load(int64_t slab, T* shared) {
        T* to = shared + slab % 2 * Shape::stage;
        copy<Shape::cols>(y_, slab * Shape::slab, k0_, d_, to);
        copy<Shape::rows>(w_, slab * Shape::slab, i0_, n_, to + Shape::slab * Shape::cols);
    }

    // Of a matrix of m_ rows and `width` columns, the slab at (j, at).
    template <int across>
    DDS_DEVICE void copy(const T* from, int64_t j, int64_t at, int64_t width, T* to) {
        constexpr int down = Shape::threads / across;
        const int col = static_cast<int>(threadIdx.x) % across, row = static_cast<int>(threadIdx.x) / across;
        const int64_t left = at + col < width ? m_ - j - row : 0;
        const int rows = static_cast<int>(left < Shape::slab ? left : Shape::slab);
        const T* source = from + (j + row) * width + at + col;
        to += row * across + col;
        DDS_UNROLL
        for (int r = 0; r < Shape::slab; r += down) {
            if (r < rows) copy_async<sizeof(T)>(to + r * across, source);
            else to[r * across] = 0;
            source += down * width;
        }
    }

    DDS_DEVICE void add(const T* stage, const T (&x)[Shape::micro][Shape::vector], T (&sums)[Shape::micro][Shape::vector]) {
        struct alignas(16) Vector {
            T v[Shape::vector];
        };
        DDS_UNROLL_BY(4)
        for (int j = 0; j < Shape::slab; ++j) {
            const Vector y = *reinterpret_cast<const Vector*>(stage + j * Shape::cols + lane() * Shape::vector);
            const T* of_w = stage + Shape::slab * Shape::cols + j * Shape::rows + warp() * Shape::micro;
            Vector w[Shape::micro / Shape::vector];
            DDS_UNROLL
            for (int v = 0; v < Shape::micro / Shape::vector; ++v)
                w[v] = *reinterpret_cast<const Vector*>(of_w + v * Shape::vector);
            DDS_UNROLL
            for (int r = 0; r < Shape::micro; ++r) DDS_UNROLL
            for (int c = 0; c < Shape::vector; ++c)
                sums[r][c] += w[r / Shape::vector].v[r % Shape::vector] * sign(x[r][c] - y.v[c]);
        }
    }
};

// How many blocks have something to do.
template <class Shape>
DDS_ANYWHERE inline int64_t signed_tiles(const SignedSums& p) {
    return ((p.n + Shape::rows - 1) / Shape::rows) * ((p.d + Shape::cols - 1) / Shape::cols);
}

template <class Shape>
DDS_KERNEL(Shape::threads, Shape::per_sm)
signed_sums(const DDS_PARAMETER SignedSums p) {
    const int64_t tiles = signed_tiles<Shape>(p);
    for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x)
        SignedTile<Shape>(p, tile).compute(reinterpret_cast<typename Shape::T*>(shared_memory()));
}

}  // namespace dds::cuda
