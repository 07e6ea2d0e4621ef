// The work of a launch: pairs of groups of images, laid end to end and shared out among the blocks.
#pragma once

#include "cuda/device.h"
#include "cuda/plan.h"

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
    int i0, j0;      // first image of either group
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
        i0 = static_cast<int>(gi) * m.group_rows[0];
        j0 = static_cast<int>(gj) * m.group_rows[set_j];
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
    DDS_DEVICE int64_t i(int r) const { return int64_t{i0} + micro_i * Shape::micro + r; }
    DDS_DEVICE int64_t j(int c) const { return int64_t{j0} + micro_j * Shape::micro + c; }

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

}  // namespace dds::cuda
