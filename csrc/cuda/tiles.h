// The main loop: sums over the features of all pairs of two groups of images.
#pragma once

#include "cuda/load.h"
#include "cuda/panels.h"

namespace dds::cuda {

// Features on their way into the panels of shared memory. The stored numbers are copied asynchronously, while the slab
// before is computed with, each quad to a place that only its thread reads: that costs no registers, and no barrier. Where
// there is no image, what stands in the panels is not used.
template <class Shape>
class Stage {
public:
    using T = typename Shape::T;

    DDS_DEVICE Stage(const Model& m, const Item<Shape>& item) {
        DDS_UNROLL
        for (int q = 0; q < Shape::stage_quads; ++q) {
            const Source s = source(q);
            const int set = set_of(item, s), row = row_of(item, s);
            features_[q] = wanted(item, s) && there(item, s) ? begin_of(m.sets[set], row) : nullptr;
            power_[q] = Shape::tensor ? m.row_power[set][row] : 1;
        }
    }

    // Asks for a slab.
    DDS_DEVICE void load(const Launch& b, const Model& m, const Item<Shape>& item, int slab) const {
        const int64_t col = int64_t{slab} * kSlab + source(0).col;  // for all quads of a thread
        if (m.sets[0].vectors && m.sets[item.set_j].vectors && col + 4 <= m.d) {
            const int64_t offset = col * bytes_of(b.dtype);
            DDS_UNROLL
            for (int q = 0; q < Shape::stage_quads; ++q)
                if (const char* row = features_[q]) copy_quad(b.dtype, row + offset, raw(q));
        } else if (col < m.d) {
            DDS_UNROLL_BY(1)
            for (int q = 0; q < Shape::stage_quads; ++q)
                if (const char* row = features_[q])
                    copy_singly(b.dtype, m.sets[set_of(item, source(q))], m.d, row, col, raw(q));
        }
        commit_copies();
    }

    // Converts and normalises the features that have come, into the panels.
    DDS_DEVICE void store(const Launch& b, const Model& m, const Item<Shape>& item, int slab, Panels<Shape> panels) const {
        const int64_t first = int64_t{slab} * kSlab + source(0).col, left = m.d - first;  // for all quads of a thread
        const int count = left >= 4 ? 4 : left <= 0 ? 0 : static_cast<int>(left);
        wait_copies<0>();
        if (count == 4 && b.groups == 0 && !b.centered_rows) {  // each with the types it takes known at compile time
            if (bytes_of(b.dtype) == sizeof(T)) {
                constexpr Dtype stored = sizeof(T) == 8 ? Dtype::f64 : Dtype::f32;
                return b.columns ? store_quads<true>(stored, m, item, first, panels)
                                 : store_quads<false>(stored, m, item, first, panels);
            }
            if (bytes_of(b.dtype) == 2 && sizeof(T) == 4) {
                const Dtype stored = b.dtype == Dtype::f16 ? Dtype::f16 : Dtype::bf16;
                return b.columns ? store_quads<true>(stored, m, item, first, panels)
                                 : store_quads<false>(stored, m, item, first, panels);
            }
        }
        DDS_UNROLL_BY(1)  // or its registers would be missing in the main loop
        for (int q = 0; q < Shape::stage_quads; ++q) {
            const Source s = source(q);
            if (!wanted(item, s)) continue;
            const int set = set_of(item, s);
            const int64_t row = row_of(item, s);
            if (one_by_one<T>(b, m, set, row)) {
                DDS_UNROLL_BY(1)
                for (int c = 0; c < 4; ++c)
                    panels.put(s, power_[q], c,
                               c < count ? normalize(b, m, set, row, first + c, cuda::load<T>(b.dtype, raw(q), c)) : T(0));
            } else {
                T z[4];
                convert(b.dtype, *raw(q), z);
                normalize_quad(b, m, set, row, first, count, z);
                panels.put(s, Shape::tensor ? power_[q] : 1, z);
            }
        }
    }

private:
    // What is asked again for every slab: where the rows of this thread's quads begin, null where there is no image, and for
    // tensor cores powers of two. Volatile, so that it stands in memory: in registers, it pushes out the main loop's sums.
    const char* volatile features_[Shape::stage_quads];
    volatile float power_[Shape::stage_quads];

    // What most are: numbers stored as they are computed with, and at most a stage of columns.
    template <bool by_columns>
    DDS_DEVICE void store_quads(Dtype dtype, const Model& m, const Item<Shape>& item, int64_t first,
                                Panels<Shape> panels) const {
        ColumnQuad<T> columns;
        if (by_columns) columns = load_columns<T>(m, first);
        DDS_UNROLL
        for (int q = 0; q < Shape::stage_quads; ++q) {
            const Source s = source(q);
            if (!wanted(item, s)) continue;
            T z[4];
            convert(dtype, *raw(q), z);
            if (by_columns) normalize_by_columns(columns, z);
            panels.put(s, Shape::tensor ? power_[q] : 1, z);
        }
    }

    static DDS_DEVICE Source source(int quad) {
        const int thread = static_cast<int>(threadIdx.x);
        return {thread / (kSlab / 4), quad * Shape::quad_rows, thread % (kSlab / 4) * 4};
    }
    // A group with itself is there once. The groups' quads are different ones, so that threads need not be asked.
    static DDS_DEVICE bool wanted(const Item<Shape>& item, const Source& s) {
        static_assert(Shape::stage_quads % Shape::panels == 0, "a quad is of one group for all threads");
        return s.more < Shape::places || !item.own;
    }
    static DDS_DEVICE int set_of(const Item<Shape>& item, const Source& s) {
        return s.more < Shape::places ? 0 : item.set_j;
    }
    // In its group, and whether it is there; and in its set, of the group's first image where it is not.
    static DDS_DEVICE int image_of(const Source& s) { return s.image() - (s.more < Shape::places ? 0 : Shape::places); }
    static DDS_DEVICE bool there(const Item<Shape>& item, const Source& s) {
        return image_of(s) < (s.more < Shape::places ? item.rows : item.cols);
    }
    static DDS_DEVICE int row_of(const Item<Shape>& item, const Source& s) {
        return (s.more < Shape::places ? item.i0 : item.j0) + (there(item, s) ? image_of(s) : 0);
    }
    static DDS_DEVICE Raw<T>* raw(int quad) {
        auto* stage = reinterpret_cast<Raw<T>*>(shared_memory() + Shape::panel_bytes);
        return stage + quad * Shape::threads + threadIdx.x;
    }
};

// Where a block keeps sums: of the item that a block before has begun; and of the one that it does not end, and before that,
// in the same place, of those that are its own.
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
        auto& kept = record[Panels<Shape>::place_of_sum(s)];
        const Number<typename Shape::T> before(kept), after = before + sum;
        kept = after.v;
        sum = sum - (after - before);
    }
}

template <class Shape>
DDS_DEVICE void clear_record(typename Shape::T* record) {
    DDS_UNROLL
    for (int s = 0; s < Shape::sums; ++s) record[Panels<Shape>::place_of_sum(s)] = 0;
}

// The sums of slabs [begin, end) of an item, into a record. What its caller keeps in mind takes no registers from the loop.
template <class Step, class Shape>
DDS_DEVICE void form_sums(const Launch& b, const Model& m, int of_model, int begin, int end, typename Shape::T* into) {
    const Item<Shape> item(b, m, of_model);
    Sums<Shape> sums;
    clear<Shape>(sums);
    const Stage<Shape> stage(m, item);
    stage.load(b, m, item, begin);
    __syncthreads();  // whatever the panels and the record held before has been read
    clear_record<Shape>(into);
    for (int slab = begin; slab < end; ++slab) {
        const Panels<Shape> panels((slab - begin) % 2);
        stage.store(b, m, item, slab, panels);
        // one barrier a slab: a thread that is here has finished with the slab before, so that the next may overwrite it
        __syncthreads();
        if (slab + 1 < end) stage.load(b, m, item, slab + 1);
        if (Panels<Shape>::busy(item)) panels.template add_slab<Step>(item, sums);
        if ((slab + 1 - begin) % Shape::most_slabs == 0 || slab + 1 == end) add_to_record<Shape>(sums, into);
    }
}

}  // namespace dds::cuda
