// From sums to entries of the results.
#pragma once

#include "cuda/statistics.h"
#include "cuda/tiles.h"

namespace dds::cuda {

template <class A, class B>
constexpr bool same_type = false;
template <class A>
constexpr bool same_type<A, A> = true;

// Calls f(Metric()) for the metric with this index, which is known to have this step.
template <class Step, class F>
DDS_DEVICE void with_metric(int index, F f) {
    int i = 0;
#define DDS_CASE(Metric)                                         \
    if constexpr (same_type<typename ::dds::Metric::Step, Step>) \
        if (index == i) f(::dds::Metric());                      \
    ++i;
    DDS_METRICS(DDS_CASE)
#undef DDS_CASE
}

template <class Step>
constexpr bool is_l1 = same_type<Step, AbsoluteDifference>;
template <class Step>
constexpr bool is_dot = same_type<Step, Dot>;

// The pair's sum in float64, straight from the features, by a warp: the differences are formed before anything is rounded.
template <class Step>
DDS_DEVICE double exact_sum(const Launch& b, const Model& m, int set_j, int64_t i, int64_t j) {
    double sum = 0;
    for (int64_t col = lane(); col < m.d; col += 32) {
        double t = grouped(b, m, 0, i, col, load<double>(b.dtype, m.sets[0], i, col)) -
                   grouped(b, m, set_j, j, col, load<double>(b.dtype, m.sets[set_j], j, col));
        if (m.column_scale) t *= m.column_scale[col];
        sum += is_l1<Step> ? ::fabs(t) : t * t;
    }
    return warp_sum(sum);
}

// Pairs whose sum is below the sum of their rows' bounds are formed again: see kNearAbsolute and kNearSquared of
// csrc/cpu/rdm.cpp, which this follows.
template <class Step>
DDS_DEVICE double near_bound(const Model& m, int set, int64_t row) {
    return (is_l1<Step> ? 1.2e-2 : 6e-4) * m.row_size[set][row];
}

// Where entry (i, j) of a result stands.
template <class T>
DDS_DEVICE void write(const Launch& b, const Model& m, int output, int64_t i, int64_t j, T value) {
    T* out = static_cast<T*>(m.out[output]);
    const int64_t n = m.sets[0].rows;
    if (b.set_count == 2) {
        out[i * m.sets[1].rows + j] = value;
    } else if (!b.condensed) {
        out[i * n + j] = value;
        out[j * n + i] = value;
    } else if (i > j) {
        out[j * (2 * n - j - 1) / 2 - j - 1 + i] = value;
    }
}

// Makes all results of one pair's sum. All threads of a warp come here together, `pair` or not.
template <class Step, class T>
DDS_DEVICE void finish_pair(const Launch& b, const Model& m, int set_j, bool pair, int64_t i, int64_t j, T sum) {
    const bool diagonal = b.set_count == 1 && i == j;
    if (diagonal && !is_dot<Step>) sum = 0;
    if constexpr (!is_dot<Step>) {
        if (b.near) {
            const bool near =
                pair && !diagonal && static_cast<double>(sum) < near_bound<Step>(m, 0, i) + near_bound<Step>(m, set_j, j);
            for (unsigned left = __ballot_sync(kWarp, near); left != 0; left &= left - 1) {
                const int who = __ffs(static_cast<int>(left)) - 1;
                const double exact = exact_sum<Step>(b, m, set_j, __shfl_sync(kWarp, i, who), __shfl_sync(kWarp, j, who));
                if (lane() == who) sum = static_cast<T>(exact);
            }
        }
    }
    if (!pair) return;
    if (!is_finite(sum)) m.findings->suspicious = 1;
    if (is_dot<Step> && sizeof(T) == 4 && !b.row_pass && diagonal && !within_range<T>(static_cast<double>(sum)))
        m.findings->out_of_range = 1;
    for (int o = 0; o < b.output_count; ++o) {
        if (b.raw[o]) {
            write(b, m, o, i, j, sum);
            continue;
        }
        with_metric<Step>(b.metric[o], [&](auto metric) {
            using Metric = decltype(metric);
            Pair<Number<T>> of{Number<T>(static_cast<T>(m.gamma[o])), Number<T>(1), Number<T>(1)};
            if (Metric::rows == Rows::unit) {
                of.inverse_norm_i = Number<T>(static_cast<T>(m.row_scale[0][i]));
                of.inverse_norm_j = Number<T>(static_cast<T>(m.row_scale[set_j][j]));
            }
            T value = Metric::finish(Number<T>(sum), of).v;
            if (diagonal && Metric::diagonal != Diagonal::computed) value = Metric::diagonal == Diagonal::one ? 1 : 0;
            write(b, m, o, i, j, value);
        });
    }
}

// All entries of an item from its record.
template <class Step, class Shape>
DDS_DEVICE void finish_item(const Launch& b, const Model& m, const Item<Shape>& item, const typename Shape::T* from) {
    for (int s = 0; s < Shape::sums; ++s) {
        const int r = s / Shape::micro, c = s % Shape::micro;
        const bool pair = item.busy && item.pair(r, c);
        finish_pair<Step>(b, m, item.set_j, pair, pair ? item.i(r) : 0, pair ? item.j(c) : 0,
                          from[s * Shape::threads + threadIdx.x]);
    }
}

// This block's share of the work.
template <class Step, class Shape>
DDS_DEVICE void tiles(const Launch& b) {
    Position at = share(b, blockIdx.x);
    const Position end = share(b, blockIdx.x + 1);
    while (at < end) {
        const Model& m = b.models[at.model];
        const Item<Shape> item(b, m, at.item);
        const bool ends = at.model < end.model || at.item < end.item;
        const int64_t last = ends ? m.slabs : end.slab;
        const bool whole = at.slab == 0 && ends;
        typename Shape::T* kept = record<Shape>(b, blockIdx.x, whole ? kLong : at.slab > 0 ? kHead : kTail);
        Sums<Shape> sums;
        item_sums<Step, Shape>(b, m, item, at.slab, last, kept, sums);
        keep_record<Shape>(sums, kept);
        if (whole) finish_item<Step, Shape>(b, m, item, kept);
        if (!ends) break;
        at.slab = 0;
        if (++at.item == m.cross_items + m.own_items) at = {at.model + 1, 0, 0};
    }
}

// Items that several blocks have formed parts of: the parts are added in the order of the blocks, one sum of all threads at
// a time, by all blocks of the grid. The item of a boundary between two blocks is that of the first boundary within it.
template <class Step, class Shape>
DDS_DEVICE void join(const Launch& b) {
    auto within = [](const Position& p, const Position& q) { return p.slab > 0 && p.model == q.model && p.item == q.item; };
    for_blocks(int64_t{gridDim.x - 1} * Shape::sums, [&](int64_t unit) {
        const int64_t first = unit / Shape::sums + 1;
        const int s = static_cast<int>(unit % Shape::sums);
        const Position p = share(b, first);
        if (p.slab == 0 || within(share(b, first - 1), p)) return;
        const Model& m = b.models[p.model];
        const Item<Shape> item(b, m, p.item);
        const auto at = s * Shape::threads + threadIdx.x;
        auto sum = static_cast<double>(record<Shape>(b, first - 1, kTail)[at]);
        for (int64_t block = first; block < gridDim.x && within(share(b, block), p); ++block)
            if (share(b, block) < share(b, block + 1))  // or it had nothing to do, where a slab costs more than a share
                sum += static_cast<double>(record<Shape>(b, block, kHead)[at]);
        const int r = s / Shape::micro, c = s % Shape::micro;
        const bool pair = item.busy && item.pair(r, c);
        finish_pair<Step>(b, m, item.set_j, pair, pair ? item.i(r) : 0, pair ? item.j(c) : 0,
                          static_cast<typename Shape::T>(sum));
    });
}

}  // namespace dds::cuda
