// The main loop: sums over the features of all pairs of two groups of images.
#pragma once

#include "cuda/load.h"
#include "cuda/panels.h"

namespace dds::cuda {

// What is asked again for every slab of an item's images: from shared memory, it takes no registers from the main loop.
struct alignas(16) Image {
    const char* features;  // null where there is no image: what stands in the panels there is not used
    float power;           // of two, for tensor cores
    int row;               // of its set
};

// Features on their way into the panels of shared memory. The stored numbers are copied asynchronously, while the slab
// before is computed with, each quad to a place that only its thread reads: that costs no registers, and no barrier.
template <class Shape>
struct Stage {
    using T = typename Shape::T;

    // The images of an item. Threads have to wait for each other before they bring features.
    static DDS_DEVICE void begin(const Launch& b, const Model& m, const Item<Shape>& item) {
        for (int i = static_cast<int>(threadIdx.x); i < Shape::images; i += Shape::threads) {
            const bool second = i >= Shape::places, there = i % Shape::places < (second ? item.cols : item.rows);
            const int row = (second ? item.j0 : item.i0) + (there ? i % Shape::places : 0), set = second ? item.set_j : 0;
            images()[i] = {there ? begin_of(b.dtype, m.sets[set], row) : nullptr, Shape::tensor ? m.row_power[set][row] : 1,
                           row};
        }
    }

    // Asks for a slab.
    static DDS_DEVICE void load(const Launch& b, const Model& m, const Item<Shape>& item, int slab) {
        const int64_t col = int64_t{slab} * kSlab + source(0).col;  // the same for all quads of a thread
        if (m.sets[0].vectors && m.sets[item.set_j].vectors && col + 4 <= m.d) {
            const int64_t offset = col * bytes_of(b.dtype);
            DDS_UNROLL
            for (int q = 0; q < Shape::stage_quads; ++q) {
                const Source s = source(q);
                const char* row = images()[s.image()].features;
                if (wanted(item, s) && row) copy_quad(b.dtype, row + offset, raw(q));
            }
        } else if (col < m.d) {
            DDS_UNROLL_BY(1)
            for (int q = 0; q < Shape::stage_quads; ++q) {
                const Source s = source(q);
                const char* row = images()[s.image()].features;
                if (wanted(item, s) && row) copy_singly(b.dtype, m.sets[set_of(item, s)], m.d, row, col, raw(q));
            }
        }
        commit_copies();
    }

    // Converts and normalises the features that have come, into the panels.
    static DDS_DEVICE void store(const Launch& b, const Model& m, const Item<Shape>& item, int slab, Panels<Shape> panels) {
        const int64_t first = int64_t{slab} * kSlab + source(0).col, left = m.d - first;
        const int count = left >= 4 ? 4 : left <= 0 ? 0 : static_cast<int>(left);
        wait_copies<0>();
        if (count == 4 && b.groups == 0 && !b.centered_rows && b.dtype == (sizeof(T) == 8 ? Dtype::f64 : Dtype::f32)) {
            if (b.columns) store_quads<true>(m, item, first, panels);
            else store_quads<false>(m, item, first, panels);
            return;
        }
        DDS_UNROLL_BY(1)  // or its registers would be missing in the main loop
        for (int q = 0; q < Shape::stage_quads; ++q) {
            const Source s = source(q);
            if (!wanted(item, s)) continue;
            const Image image = images()[s.image()];
            if (one_by_one<T>(b, m, set_of(item, s), image.row)) {
                DDS_UNROLL_BY(1)
                for (int c = 0; c < 4; ++c)
                    panels.put(
                        s, image.power, c,
                        c < count ? normalize(b, m, set_of(item, s), image.row, first + c, cuda::load<T>(b.dtype, raw(q), c))
                                  : T(0));
            } else {
                T z[4];
                convert(b.dtype, *raw(q), z);
                normalize_quad(b, m, set_of(item, s), image.row, first, count, z);
                panels.put(s, image.power, z);
            }
        }
    }

private:
    // What most are: numbers stored as they are computed with, and at most a stage of columns.
    template <bool by_columns>
    static DDS_DEVICE void store_quads(const Model& m, const Item<Shape>& item, int64_t first, Panels<Shape> panels) {
        ColumnQuad<T> columns;
        if (by_columns) columns = load_columns<T>(m, first);
        DDS_UNROLL
        for (int q = 0; q < Shape::stage_quads; ++q) {
            const Source s = source(q);
            if (!wanted(item, s)) continue;
            T z[4];
            convert(sizeof(T) == 8 ? Dtype::f64 : Dtype::f32, *raw(q), z);
            if (by_columns) normalize_by_columns(columns, z);
            panels.put(s, Shape::tensor ? images()[s.image()].power : 1, z);
        }
    }

    static DDS_DEVICE Source source(int quad) {
        const int thread = static_cast<int>(threadIdx.x);
        return {thread / (kSlab / 4), quad * (Shape::threads * 4 / kSlab), thread % (kSlab / 4) * 4};
    }
    // A group with itself is there once. The groups' quads are different ones, so that threads need not be asked.
    static DDS_DEVICE bool wanted(const Item<Shape>& item, const Source& s) {
        static_assert(Shape::places % (Shape::threads * 4 / kSlab) == 0, "a quad is of one group for all threads");
        return s.more < Shape::places || !item.own;
    }
    static DDS_DEVICE int set_of(const Item<Shape>& item, const Source& s) {
        return s.more < Shape::places ? 0 : item.set_j;
    }
    static DDS_DEVICE Raw<T>* raw(int quad) {
        auto* stage = reinterpret_cast<Raw<T>*>(shared_memory() + Shape::panel_bytes);
        return stage + quad * Shape::threads + threadIdx.x;
    }
    static DDS_DEVICE Image* images() {
        return reinterpret_cast<Image*>(shared_memory() + Shape::panel_bytes + Shape::stage_bytes);
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
    Stage<Shape>::begin(b, m, item);
    __syncthreads();  // and whatever the panels and the record held before has been read
    Stage<Shape>::load(b, m, item, begin);
    clear_record<Shape>(into);
    for (int slab = begin; slab < end; ++slab) {
        const Panels<Shape> panels((slab - begin) % 2);
        Stage<Shape>::store(b, m, item, slab, panels);
        // one barrier a slab: a thread that is here has finished with the slab before, so that the next may overwrite it
        __syncthreads();
        if (slab + 1 < end) Stage<Shape>::load(b, m, item, slab + 1);
        if (Panels<Shape>::busy(item)) panels.template add_slab<Step>(item, sums);
        if ((slab + 1 - begin) % Shape::most_slabs == 0 || slab + 1 == end) add_to_record<Shape>(sums, into);
    }
}

}  // namespace dds::cuda
