// The features of a slab in shared memory, and how they enter the sums of a thread: one by one, or by tensor cores.
#pragma once

#include "cuda/block.h"
#include "cuda/items.h"
#include "cuda/number.h"
#include "metrics/registry.h"

namespace dds::cuda {

template <class Shape>
using Sums = Number<typename Shape::T>[Shape::micro][Shape::micro];

template <class Shape>
DDS_DEVICE void clear(Sums<Shape>& sums) {
    DDS_UNROLL
    for (int r = 0; r < Shape::micro; ++r) DDS_UNROLL
    for (int c = 0; c < Shape::micro; ++c) sums[r][c] = Number<typename Shape::T>(0);
}

// Four features of a slab: the first of them, and which image they are of, of those of two groups one after the other. Of a
// thread's quads `more` alone differs, by a multiple of 64 that is known when this is compiled.
struct Source {
    int first, more, col;
    DDS_DEVICE int image() const { return first + more; }
};

// Features that the main loop takes at a time. With more the compiler loads so far ahead that sums have to move to memory.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
constexpr int kFeaturesAtOnce = 1;
#else
constexpr int kFeaturesAtOnce = 2;
#endif

// Features are rows of the panels, so that a thread finds its images' values side by side. Its sums are those of the pairs
// of its micro x micro images.
template <class Shape, bool tensor = Shape::tensor>
class Panels {
public:
    using T = typename Shape::T;

    // `turn`: slabs take turns in two places.
    explicit DDS_DEVICE Panels(int turn)
        : shared_(reinterpret_cast<T*>(shared_memory()) + turn * Shape::panels * kSlab * Shape::stride) {}

    DDS_DEVICE void put(const Source& s, float, const T (&z)[4]) const {
        T* to = place_of_quad(s);
        DDS_UNROLL
        for (int c = 0; c < 4; ++c) to[c * Shape::stride] = z[c];
    }
    DDS_DEVICE void put(const Source& s, float, int c, T z) const { place_of_quad(s)[c * Shape::stride] = z; }

    static DDS_DEVICE bool busy(const Item<Shape>& item) { return item.busy; }

    // sums += over the features of the slab.
    template <class Step>
    DDS_DEVICE void add_slab(const Item<Shape>& item, Sums<Shape>& sums) const {
        constexpr int micro = Shape::micro, vector = Shape::vector;
        struct alignas(16) Vector {
            T v[vector];
        };
        const T* a = shared_ + item.micro_i * vector;
        const T* b = shared_ + (item.own ? 0 : kSlab * Shape::stride) + item.micro_j * vector;
        DDS_UNROLL_BY(kFeaturesAtOnce)
        for (int k = 0; k < kSlab; ++k) {
            Number<T> x[micro], y[micro];
            DDS_UNROLL
            for (int h = 0; h < 2; ++h) {
                const Vector of_a = *reinterpret_cast<const Vector*>(a + k * Shape::stride + h * Shape::half);
                const Vector of_b = *reinterpret_cast<const Vector*>(b + k * Shape::stride + h * Shape::half);
                DDS_UNROLL
                for (int v = 0; v < vector; ++v) {
                    x[h * vector + v] = Number<T>(of_a.v[v]);
                    y[h * vector + v] = Number<T>(of_b.v[v]);
                }
            }
            DDS_UNROLL
            for (int r = 0; r < micro; ++r) DDS_UNROLL
            for (int c = 0; c < micro; ++c) sums[r][c] = Step::add(sums[r][c], x[r], y[c], One());
        }
    }

    // In a record, of sum s of this thread; and of entry (r, c) of the pairs that the item gives it.
    static DDS_DEVICE int place_of_sum(int s) { return s * Shape::threads + static_cast<int>(threadIdx.x); }
    static DDS_DEVICE int place_of_pair(const Item<Shape>&, int r, int c) { return place_of_sum(r * Shape::micro + c); }

private:
    T* shared_;

    DDS_DEVICE T* place_of_quad(const Source& s) const {
        const bool second = s.more >= Shape::places;
        const int image = s.image() - (second ? Shape::places : 0);
        return shared_ + ((second ? kSlab : 0) + s.col) * Shape::stride + place_of_image(image);
    }
    // Of the images of a micro-tile, those of the first vector stand with the first vectors of all others, those of the
    // second in the other half: neighbouring threads read neighbouring vectors.
    static DDS_DEVICE int place_of_image(int row) {
        constexpr int vector = Shape::vector, micro = Shape::micro;
        return row % micro / vector * Shape::half + row / micro * vector + row % vector;
    }
};

// For tensor cores: every feature, times a power of two that brings its row to a length of 2^13 to 2^14, is the sum of two
// halves, high + low, to 2^-22 of itself (2^-38 of its row's length at the least). Of the four products low x low is left
// out, less than 2^-22 of the pair's. A matrix product of 16 features adds its 16 x 3 products cut off below their 24th bit,
// never rounded, which would add up; so each begins at zero, and float32 additions, which round, form the sums.
//
// An image's 16 features stand side by side, 64 bytes in four chunks: the high halves of features 0 to 7 and 8 to 15, then
// the low ones. Which chunk stands where changes from image to image, so that eight images' chunks of one kind, which is
// what a matrix of load_matrices is, are in different banks, and so are what 16 lanes put there.
//
// A warp forms 32 x 64 pairs, two by eight matrix products of 16 x 8.
template <class Shape>
class Panels<Shape, true> {
public:
    explicit DDS_DEVICE Panels(int turn)
        : shared_(reinterpret_cast<uint4*>(shared_memory()) + turn * Shape::panels * Shape::rows * kChunks) {}

    DDS_DEVICE void put(const Source& s, float power, const float (&z)[4]) const {
        const uint2 high = {pack_half2(z[0] * power, z[1] * power), pack_half2(z[2] * power, z[3] * power)};
        const float2 first = unpack_half2(high.x), second = unpack_half2(high.y);
        // fused: the difference to the high half is exact
        const uint2 low = {pack_half2(::fmaf(z[0], power, -first.x), ::fmaf(z[1], power, -first.y)),
                           pack_half2(::fmaf(z[2], power, -second.x), ::fmaf(z[3], power, -second.y))};
        reinterpret_cast<uint2*>(chunk(s, kHigh))[s.col / 4 % 2] = high;
        reinterpret_cast<uint2*>(chunk(s, kLow))[s.col / 4 % 2] = low;
    }
    DDS_DEVICE void put(const Source& s, float power, int c, float z) const {
        const uint32_t high = pack_half2(z * power, 0), low = pack_half2(::fmaf(z, power, -unpack_half2(high).x), 0);
        reinterpret_cast<uint16_t*>(chunk(s, kHigh))[s.col % 8 + c] = static_cast<uint16_t>(high);
        reinterpret_cast<uint16_t*>(chunk(s, kLow))[s.col % 8 + c] = static_cast<uint16_t>(low);
    }

    // Whether this warp has pairs; of a group with itself only those i >= j.
    static DDS_DEVICE bool busy(const Item<Shape>& item) {
        const int row = first_row(warp()), col = first_col(warp());
        return row < item.rows && col < item.cols && !(item.own && col >= row + Shape::warp_rows);
    }

    template <class Step>
    DDS_DEVICE void add_slab(const Item<Shape>& item, Sums<Shape>& sums) const {
        static_assert(is_dot<Step>, "tensor cores form products");
        // this lane names a row of a matrix: of the images' two halves by the features', and of the chunks of eight images
        const int matrix = lane() / 8, row = lane() % 8, turned = swizzle(row);
        const uint4* a = shared_ + (first_row(warp()) + matrix % 2 * 8 + row) * kChunks;
        const uint4* b = shared_ + ((item.own ? 0 : Shape::rows) + first_col(warp()) + row) * kChunks + (matrix ^ turned);
        uint32_t high[kDown][4], low[kDown][4];
        DDS_UNROLL
        for (int i = 0; i < kDown; ++i) {
            load_matrices(high[i], a + 16 * i * kChunks + ((kHigh + matrix / 2) ^ turned));
            load_matrices(low[i], a + 16 * i * kChunks + ((kLow + matrix / 2) ^ turned));
        }
        DDS_UNROLL
        for (int j = 0; j < kAcross; ++j) {
            uint32_t y[4];
            load_matrices(y, b + 8 * j * kChunks);
            const uint32_t y_high[2] = {y[0], y[1]}, y_low[2] = {y[2], y[3]};
            DDS_UNROLL
            for (int i = 0; i < kDown; ++i) {
                float part[4] = {};
                mma_f16(part, low[i], y_high);
                mma_f16(part, high[i], y_low);
                mma_f16(part, high[i], y_high);
                DDS_UNROLL
                for (int e = 0; e < 4; ++e) {
                    auto& sum = sums[(i * kAcross + j) / 2][j % 2 * 4 + e];
                    sum = sum + Number<float>(part[e]);
                }
            }
        }
    }

    // Sum s of a lane: s / 4 is which matrix product of the warp, s / 2 % 2 in which half of its rows, s % 2 which of two
    // neighbouring columns. The 64 sums of 8 x 8 pairs, which eight rows of four lanes hold, stand side by side.
    static DDS_DEVICE int place_of_sum(int s) { return place(s / 2, static_cast<int>(threadIdx.x)) + s % 2; }
    static DDS_DEVICE int place_of_pair(const Item<Shape>& item, int r, int c) {
        const int row = item.micro_i * 8, col = item.micro_j * 8;
        const int product = row % Shape::warp_rows / 16 * kAcross + col % Shape::warp_cols / 8;
        const int of_warp = row / Shape::warp_rows * kWarpsAcross + col / Shape::warp_cols;
        return place(product * 2 + row / 8 % 2, of_warp * 32 + r * 4 + c / 2) + c % 2;
    }

private:
    static constexpr int kChunks = 4, kHigh = 0, kLow = 2;
    static constexpr int kDown = Shape::warp_rows / 16, kAcross = Shape::warp_cols / 8;  // matrix products of a warp
    static constexpr int kWarpsAcross = Shape::rows / Shape::warp_cols;
    static_assert(Shape::places == Shape::rows, "the second group's images follow the first's");
    static_assert(Shape::micro == 8 && kDown * kAcross * 4 == Shape::sums, "a lane's sums are those of its matrix products");
    uint4* shared_;

    static DDS_DEVICE int place(int pair_of_sums, int thread) { return (pair_of_sums * Shape::threads + thread) * 2; }
    static DDS_DEVICE int swizzle(int row) { return (row & 2) | (row >> 2 & 1); }
    DDS_DEVICE uint4* chunk(const Source& s, int which) const {
        return shared_ + s.first * kChunks + ((which + s.col / 8) ^ swizzle(s.first)) + s.more * kChunks;
    }
    static DDS_DEVICE int first_row(int warp) { return warp / kWarpsAcross * Shape::warp_rows; }
    static DDS_DEVICE int first_col(int warp) { return warp % kWarpsAcross * Shape::warp_cols; }
};

}  // namespace dds::cuda
