// From sums to entries of the results.
#pragma once

#include "cuda/statistics.h"
#include "cuda/tiles.h"

namespace dds::cuda {

// Calls f(Metric()) for the metric with this index, which is known to have this step.
template <class Step, class F>
DDS_DEVICE void with_metric_of(int index, F f) {
    with_metric(index, [&](auto metric) {
        if constexpr (same_type<typename decltype(metric)::Step, Step>) f(metric);
    });
}

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

// An entry of a result.
template <class Metric, class T>
DDS_DEVICE T entry(const Launch& b, const Model& m, int output, int set_j, int64_t i, int64_t j, T sum) {
    if (Metric::diagonal != Diagonal::computed && b.set_count == 1 && i == j)
        return Metric::diagonal == Diagonal::one ? 1 : 0;
    Pair<Number<T>> of{Number<T>(static_cast<T>(m.gamma[output])), Number<T>(1), Number<T>(1)};
    if (Metric::rows == Rows::unit) {
        of.inverse_norm_i = Number<T>(static_cast<T>(m.row_scale[0][i]));
        of.inverse_norm_j = Number<T>(static_cast<T>(m.row_scale[set_j][j]));
    }
    return Metric::finish(Number<T>(sum), of).v;
}

// Values of which those in the mask are to stand side by side from `to` on: a warp's stores of single entries would each
// touch as many sectors of memory as it has lanes.
template <class T, int count>
DDS_DEVICE void store_line(T* to, const T (&values)[count], unsigned mask) {
    struct alignas(16) Vector {
        T v[16 / sizeof(T)];
    };
    constexpr int each = 16 / sizeof(T);
    if (mask == (1u << count) - 1 && reinterpret_cast<uintptr_t>(to) % 16 == 0) {
        DDS_UNROLL
        for (int v = 0; v < count; v += each) {
            Vector vector;
            DDS_UNROLL
            for (int e = 0; e < each; ++e) vector.v[e] = values[v + e];
            *reinterpret_cast<Vector*>(to + v) = vector;
        }
        return;
    }
    DDS_UNROLL
    for (int e = 0; e < count; ++e)
        if (mask >> e & 1) to[e] = values[e];
}

// Lines of an item: of each thread's pairs, those of one image i with all of its j, and after them those of one j with all
// of its i. The entries of a line are neighbours in the results; of self-matrices the latter are those above the diagonal,
// which are all that a condensed one has.
struct Lines {
    int begin, end;
};
template <class Shape>
DDS_DEVICE Lines lines(const Launch& b) {
    return {b.condensed ? Shape::micro : 0, b.set_count == 2 ? Shape::micro : 2 * Shape::micro};
}

// The results' entries of a line, from the item's record. All threads of a warp come here together.
template <class Step, class Shape>
DDS_DEVICE void finish_line(const Launch& b, const Model& m, const Item<Shape>& item, int line,
                            const typename Shape::T* from) {
    using T = typename Shape::T;
    constexpr int micro = Shape::micro;
    const bool across = line < micro;
    const int fixed = line % micro;
    // of entry e of the line
    auto pair = [&](int e) { return item.busy && item.pair(across ? fixed : e, across ? e : fixed); };
    auto image_i = [&](int e) { return item.i(across ? fixed : e); };
    auto image_j = [&](int e) { return item.j(across ? e : fixed); };
    auto diagonal = [&](int e) { return b.set_count == 1 && image_i(e) == image_j(e); };
    T sums[micro] = {};
    unsigned mask = 0, near = 0;
    DDS_UNROLL
    for (int e = 0; e < micro; ++e) {
        if (!pair(e)) continue;
        const int place = Panels<Shape>::place_of_pair(item, across ? fixed : e, across ? e : fixed);
        sums[e] = diagonal(e) && !is_dot<Step> ? T(0) : from[place];
        if constexpr (Shape::tensor)
            sums[e] *= one_over(m.row_power[0][image_i(e)]) * one_over(m.row_power[item.set_j][image_j(e)]);
        if (!is_finite(sums[e])) m.findings->suspicious = 1;
        if (is_dot<Step> && sizeof(T) == 4 && !b.row_pass && diagonal(e) && !within_range<T>(static_cast<double>(sums[e])))
            m.findings->out_of_range = 1;
        mask |= static_cast<unsigned>(!(b.condensed && diagonal(e))) << e;
        if (!is_dot<Step> && b.near && !diagonal(e)) {
            const double size = m.row_size[0][image_i(e)] + m.row_size[item.set_j][image_j(e)];
            near |= static_cast<unsigned>(static_cast<double>(sums[e]) < Step::near * size) << e;
        }
    }
    if constexpr (!is_dot<Step>) {  // what is near is summed again, by all of the warp
        DDS_UNROLL_BY(1)
        for (int e = 0; e < micro && b.near; ++e) {
            for (unsigned left = __ballot_sync(kWarp, near >> e & 1); left != 0; left &= left - 1) {
                const int who = __ffs(static_cast<int>(left)) - 1;
                const int64_t i = __shfl_sync(kWarp, image_i(e), who), j = __shfl_sync(kWarp, image_j(e), who);
                const auto exact = static_cast<T>(exact_sum<Step>(b, m, item.set_j, i, j));
                DDS_UNROLL
                for (int s = 0; s < micro; ++s)
                    if (s == e && lane() == who) sums[s] = exact;
            }
        }
    }
    if (mask == 0) return;
    const int64_t n = m.sets[0].rows, i = item.i(across ? fixed : 0), j = item.j(across ? 0 : fixed);
    const int64_t full = across ? i * m.sets[item.set_j].rows + j : j * n + i;
    const int64_t at = b.condensed ? j * (2 * n - j - 1) / 2 - j - 1 + i : full;
    for (int o = 0; o < b.output_count; ++o) {
        T* to = static_cast<T*>(m.out[o]) + at;
        if (b.raw[o]) {
            store_line(to, sums, mask);
            continue;
        }
        with_metric_of<Step>(b.metric[o], [&](auto metric) {
            T values[micro];
            DDS_UNROLL
            for (int e = 0; e < micro; ++e)
                if (mask >> e & 1)
                    values[e] =
                        entry<decltype(metric)>(b, m, o, item.set_j, i + (across ? 0 : e), j + (across ? e : 0), sums[e]);
            store_line(to, values, mask);
        });
    }
}

// And those of some lines.
template <class Step, class Shape>
DDS_DEVICE void finish_lines(const Launch& b, const Model& m, int item, Lines of_item, const typename Shape::T* from) {
    const Item<Shape> pairs(b, m, item);
    for (int line = of_item.begin; line < of_item.end; ++line) finish_line<Step, Shape>(b, m, pairs, line, from);
}

// This block's share of the work.
template <class Step, class Shape>
DDS_DEVICE void tiles(const Launch& b) {
    // where it ends is asked anew for every item: kept in mind, it would take registers from the main loop
    for (Position at = share(b, blockIdx.x); at < share(b, blockIdx.x + 1);) {
        const Model& m = b.models[at.model];
        const Position end = share(b, blockIdx.x + 1);
        const bool ends = at.model < end.model || at.item < end.item, whole = at.slab == 0 && ends;
        typename Shape::T* kept = record<Shape>(b, blockIdx.x, at.slab > 0 ? kHead : kTail);
        form_sums<Step, Shape>(b, m, at.item, at.slab, ends ? static_cast<int>(m.slabs) : end.slab, kept);
        if (whole) {
            if (Shape::tensor) __syncthreads();  // threads finish what others have formed
            finish_lines<Step, Shape>(b, m, at.item, lines<Shape>(b), kept);
        }
        at.slab = 0;
        if (++at.item == m.cross_items + m.own_items) at = {at.model + 1, 0, 0};
    }
}

// Whether a share begins within an item, and, for first_boundary, no share before it does within the same.
DDS_DEVICE bool same_item(const Position& p, const Position& q) {
    return p.slab > 0 && p.model == q.model && p.item == q.item;
}
DDS_DEVICE bool first_boundary(const Launch& b, int64_t block) {
    const Position p = share(b, block);
    return p.slab > 0 && !same_item(share(b, block - 1), p);
}

// Items that several blocks have formed parts of: the parts are added in the order of the blocks, one sum of all threads at
// a time, by all blocks of the grid, into the record of the first. An item is known by the first boundary within it.
template <class Step, class Shape>
DDS_DEVICE void join(const Launch& b) {
    Crew().blocks(int64_t{gridDim.x - 1} * Shape::sums, [&](int64_t unit) {
        const int64_t first = unit / Shape::sums + 1;
        if (!first_boundary(b, first)) return;
        const Position p = share(b, first);
        const int64_t at = unit % Shape::sums * Shape::threads + threadIdx.x;
        typename Shape::T* into = record<Shape>(b, first - 1, kTail) + at;
        auto sum = static_cast<double>(*into);
        Position begin = p;
        for (int64_t block = first; block < gridDim.x && same_item(begin, p); ++block) {
            const Position end = share(b, block + 1);
            if (begin < end)  // or it had nothing to do, where a slab costs more than a share
                sum += static_cast<double>(record<Shape>(b, block, kHead)[at]);
            begin = end;
        }
        *into = static_cast<typename Shape::T>(sum);
    });
}

// And then their results are made, a line of all threads at a time.
template <class Step, class Shape>
DDS_DEVICE void finish_joined(const Launch& b) {
    const Lines of_item = lines<Shape>(b);
    const int64_t each = of_item.end - of_item.begin;
    Crew().blocks((gridDim.x - 1) * each, [&](int64_t unit) {
        const int64_t first = unit / each + 1;
        if (!first_boundary(b, first)) return;
        const Position p = share(b, first);
        const Model& m = b.models[p.model];
        const int line = of_item.begin + static_cast<int>(unit % each);
        finish_lines<Step, Shape>(b, m, p.item, {line, line + 1}, record<Shape>(b, first - 1, kTail));
    });
}

}  // namespace dds::cuda
