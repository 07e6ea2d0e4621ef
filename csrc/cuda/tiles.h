// The main loop: sums over the features of all pairs of two groups of images.
#pragma once

#include "cuda/block.h"
#include "cuda/load.h"
#include "metrics/registry.h"

namespace dds::cuda {

// A place in the work of all models laid end to end.
struct Position {
    int model, item, slab;
};

DDS_DEVICE bool operator<(const Position& a, const Position& b) {
    if (a.model != b.model) return a.model < b.model;
    return a.item != b.item ? a.item < b.item : a.slab < b.slab;
}

// The first slab whose cost begins at `cost` or later.
DDS_DEVICE Position at_cost(const Launch& b, int64_t cost) {
    int model = b.model_count - 1;
    while (b.models[model].cost_begin > cost) --model;
    const Model& m = b.models[model];
    int64_t left = cost - m.cost_begin;
    const int64_t cross = m.cross_items * m.cross_cost * m.slabs;
    const bool own = left >= cross;
    if (own) left -= cross;
    const int64_t of_slab = own ? m.own_cost : m.cross_cost, of_item = of_slab * m.slabs;
    Position p{model, static_cast<int>((own ? m.cross_items : 0) + left / of_item),
               static_cast<int>((left % of_item + of_slab - 1) / of_slab)};
    if (p.slab == m.slabs) {
        p.slab = 0;
        ++p.item;
    }
    if (p.item == m.cross_items + m.own_items) return {model + 1, 0, 0};
    return p;
}

// Where a block's share begins; the last one's ends where that of block gridDim.x would begin.
DDS_DEVICE Position share(const Launch& b, int64_t block) { return at_cost(b, b.cost * block / gridDim.x); }

// One pair of groups, and this thread's pairs of images in it.
template <class Shape>
struct Item {
    int set_j;       // the set of the columns' images
    int64_t i0, j0;  // first image of either group
    int rows, cols;  // images
    bool own;        // of one group with itself: only pairs i >= j are formed
    int micro_i, micro_j;
    bool busy;  // this thread has pairs

    DDS_DEVICE Item(const Launch& b, const Model& m, int item) {
        set_j = b.set_count - 1;
        int64_t gi, gj;
        own = b.set_count == 1 && item >= m.cross_items;
        if (own) {
            gi = gj = item - m.cross_items;
        } else if (b.set_count == 2) {
            gi = item % m.groups[0];
            gj = item / m.groups[0];
        } else {
            gi = triangular(item) + 1;
            gj = item - gi * (gi - 1) / 2;
        }
        i0 = gi * m.group_rows[0];
        j0 = gj * m.group_rows[set_j];
        rows = static_cast<int>(smaller(m.group_rows[0], m.sets[0].rows - i0));
        cols = static_cast<int>(smaller(m.group_rows[set_j], m.sets[set_j].rows - j0));
        place(static_cast<int>(threadIdx.x));
    }

    // Which pairs a thread has.
    DDS_DEVICE void place(int thread) {
        const int across_i = (rows + Shape::micro - 1) / Shape::micro, across_j = (cols + Shape::micro - 1) / Shape::micro;
        micro_i = own ? static_cast<int>(triangular(thread)) : thread / across_j;
        micro_j = thread - (own ? micro_i * (micro_i + 1) / 2 : micro_i * across_j);
        busy = micro_i < across_i;
    }

    // Whether entry (r, c) of the thread's pairs is one.
    DDS_DEVICE bool pair(int r, int c) const {
        const int i = micro_i * Shape::micro + r, j = micro_j * Shape::micro + c;
        return i < rows && j < cols && !(own && i < j);
    }
    DDS_DEVICE int64_t i(int r) const { return i0 + micro_i * Shape::micro + r; }
    DDS_DEVICE int64_t j(int c) const { return j0 + micro_j * Shape::micro + c; }

private:
    static DDS_DEVICE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
    // The largest k with k (k + 1) / 2 <= t.
    static DDS_DEVICE int64_t triangular(int64_t t) {
        auto k = static_cast<int64_t>((::sqrt(8.0 * static_cast<double>(t) + 1) - 1) / 2);
        while (k * (k + 1) / 2 > t) --k;
        while ((k + 1) * (k + 2) / 2 <= t) ++k;
        return k;
    }
};

// Features on their way into the panels of shared memory. The stored numbers are copied asynchronously, while the slab
// before is computed with, each quad to a place that only its thread reads: that costs no registers, and no barrier.
template <class Shape>
struct Stage {
    using T = typename Shape::T;

    // which image and feature a quad of this thread is of
    struct Source {
        int panel, row, col;
    };
    static DDS_DEVICE Source source(int quad) {
        const int u = quad * Shape::threads + static_cast<int>(threadIdx.x), row = u / (kSlab / 4);
        return {row / Shape::rows, row % Shape::rows, u % (kSlab / 4) * 4};
    }

    static DDS_DEVICE Raw<T>* raw(int quad) {
        auto* stage = reinterpret_cast<Raw<T>*>(shared_memory() + Shape::panel_bytes);
        return stage + quad * Shape::threads + threadIdx.x;
    }

    // Asks for a slab.
    static DDS_DEVICE void load(const Launch& b, const Model& m, const Item<Shape>& item, int slab) {
        DDS_UNROLL
        for (int q = 0; q < Shape::stage_quads; ++q) {
            const Source s = source(q);
            const int64_t col = int64_t{slab} * kSlab + s.col;
            if (wanted(item, s) && col < m.d)
                copy_quad(b.dtype, m.sets[set_of(item, s)], m.d, image_of(item, s), col, raw(q));
        }
        commit_copies();
    }

    // Features become rows of the panels, so that a thread finds its images' values side by side.
    static DDS_DEVICE void store(const Launch& b, const Model& m, const Item<Shape>& item, int slab, T* shared) {
        const int64_t first = int64_t{slab} * kSlab + source(0).col;  // the same for all quads of a thread
        wait_copies<0>();
        if (b.stages == Stages::several) return store_several(b, m, item, first, shared);
        ColumnQuad<T> columns;
        if (b.stages == Stages::columns && first < m.d) load_columns(m, first, columns);
        DDS_UNROLL
        for (int q = 0; q < Shape::stage_quads; ++q) {
            const Source s = source(q);
            if (!wanted(item, s)) continue;
            T z[4] = {};
            if (first < m.d) {
                convert(b.dtype, *raw(q), z);
                normalize_quad(b, m, set_of(item, s), image_of(item, s), first, columns, z);
            }
            T* to = shared + place_of(s);
            DDS_UNROLL
            for (int c = 0; c < 4; ++c) to[c * Shape::stride] = z[c];
        }
    }

    // Of the images of a micro-tile, those of the first vector stand with the first vectors of all others, those of the
    // second in the other half: neighbouring threads read neighbouring vectors.
    static DDS_DEVICE int place(int row) {
        constexpr int vector = Shape::vector, micro = Shape::micro;
        return row % micro / vector * Shape::half + row / micro * vector + row % vector;
    }

private:
    // Several stages stand in the code once, not for every feature: they take no registers from the main loop.
    static DDS_DEVICE void store_several(const Launch& b, const Model& m, const Item<Shape>& item, int64_t first,
                                         T* shared) {
        DDS_UNROLL_BY(1)
        for (int q = 0; q < Shape::stage_quads; ++q) {
            const Source s = source(q);
            if (!wanted(item, s)) continue;
            const int64_t row = image_of(item, s);
            const Affine<T> of_row = b.centered_rows ? row_terms<T>(m, set_of(item, s), row) : Affine<T>{};
            DDS_UNROLL_BY(1)
            for (int c = 0; c < 4; ++c)
                shared[place_of(s) + c * Shape::stride] =
                    first + c < m.d ? normalized_by_several(b, m, set_of(item, s), row, first + c, of_row,
                                                            cuda::load<T>(b.dtype, raw(q), c))
                                    : T(0);
        }
    }

    static DDS_DEVICE int set_of(const Item<Shape>& item, const Source& s) { return s.panel ? item.set_j : 0; }
    static DDS_DEVICE int64_t image_of(const Item<Shape>& item, const Source& s) {
        return (s.panel ? item.j0 : item.i0) + s.row;
    }
    // In a panel, of its first feature.
    static DDS_DEVICE int place_of(const Source& s) { return (s.panel * kSlab + s.col) * Shape::stride + place(s.row); }

    static DDS_DEVICE bool wanted(const Item<Shape>& item, const Source& s) {
        return s.panel < (item.own ? 1 : Shape::panels) && s.row < (s.panel ? item.cols : item.rows);
    }
};

template <class Shape>
using Sums = Number<typename Shape::T>[Shape::micro][Shape::micro];

template <class Shape>
DDS_DEVICE void clear(Sums<Shape>& sums) {
    DDS_UNROLL
    for (int r = 0; r < Shape::micro; ++r) DDS_UNROLL
    for (int c = 0; c < Shape::micro; ++c) sums[r][c] = Number<typename Shape::T>(0);
}

// Features that the main loop takes at a time. With more the compiler loads so far ahead that sums have to move to memory.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
constexpr int kFeaturesAtOnce = 1;
#else
constexpr int kFeaturesAtOnce = 2;
#endif

// sums += over the features of a slab in shared memory.
template <class Step, class Shape>
DDS_DEVICE void add_slab(const Item<Shape>& item, const typename Shape::T* shared, Sums<Shape>& sums) {
    using T = typename Shape::T;
    constexpr int micro = Shape::micro, vector = Shape::vector;
    struct alignas(16) Vector {
        T v[vector];
    };
    const T* a = shared + item.micro_i * vector;
    const T* b = shared + (item.own ? 0 : kSlab * Shape::stride) + item.micro_j * vector;
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

// Where a block keeps sums: of the item that a block before has begun; and of the one that it does not end, and before that,
// in the same place, of those that are its own. Sum s of thread t at [s * threads + t].
enum Record { kHead, kTail };

template <class Shape>
DDS_DEVICE typename Shape::T* record(const Launch& b, int64_t block, int which) {
    return static_cast<typename Shape::T*>(b.records) + (block * kRecordsOfBlock + which) * Shape::sums * Shape::threads;
}

// record += sums. What the addition rounds away stays behind in `sums`, where the next features are added to it (Kahan
// 1965): a record is off by no more than its parts and two roundings, however many they are, and no memory is taken for it.
template <class Shape>
DDS_DEVICE void add_to_record(Sums<Shape>& sums, typename Shape::T* record) {
    DDS_UNROLL
    for (int s = 0; s < Shape::sums; ++s) {
        auto& sum = sums[s / Shape::micro][s % Shape::micro];
        auto& kept = record[s * Shape::threads + threadIdx.x];
        const Number<typename Shape::T> before(kept), after = before + sum;
        kept = after.v;
        sum = sum - (after - before);
    }
}

template <class Shape>
DDS_DEVICE void clear_record(typename Shape::T* record) {
    DDS_UNROLL
    for (int s = 0; s < Shape::sums; ++s) record[s * Shape::threads + threadIdx.x] = 0;
}

// The sums of slabs [begin, end) of an item, into a record. What its caller keeps in mind takes no registers from the loop.
template <class Step, class Shape>
DDS_DEVICE void form_sums(const Launch& b, const Model& m, int of_model, int begin, int end, typename Shape::T* into) {
    using T = typename Shape::T;
    constexpr int buffer = Shape::panels * kSlab * Shape::stride;
    T* shared = reinterpret_cast<T*>(shared_memory());
    const Item<Shape> item(b, m, of_model);
    Sums<Shape> sums;
    clear<Shape>(sums);
    clear_record<Shape>(into);
    Stage<Shape>::load(b, m, item, begin);
    __syncthreads();  // whatever shared memory held before has been read
    for (int slab = begin; slab < end; ++slab) {
        T* to = shared + (slab - begin) % 2 * buffer;
        Stage<Shape>::store(b, m, item, slab, to);
        // one barrier a slab: a thread that is here has finished with the slab before, so that the next may overwrite it
        __syncthreads();
        if (slab + 1 < end) Stage<Shape>::load(b, m, item, slab + 1);
        if (item.busy) add_slab<Step, Shape>(item, to, sums);
        if ((slab + 1 - begin) % kMostSlabs == 0 || slab + 1 == end) add_to_record<Shape>(sums, into);
    }
}

}  // namespace dds::cuda
