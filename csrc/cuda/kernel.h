// The one kernel: all phases of a launch, with barriers of the grid between them.
#pragma once

#include "cuda/passes.h"
#include "cuda/statistics.h"

namespace dds::cuda {

template <class Step, class Shape>
DDS_DEVICE void run_phase(const Launch& b, int phase) {
    using T = typename Shape::T;
    if (phase == kTiles) return tiles<Step, Shape>(b);
    if (phase == kJoin) return join<Step, Shape>(b);
    for (int i = 0; i < b.model_count; ++i) {
        const Model& m = b.models[i];
        for (int set = 0; set < b.set_count; ++set) {
            if (phase == kStatistics && b.groups > 0) group_statistics(b, m, set);
            if (phase == kRowPass) row_parts(b, m, set, is_l1<Step>);
            if (phase == kRowFold) fold_rows<T>(b, m, set, is_l1<Step>);
            if (phase == kScan) scan(b, m, set);
        }
        if (phase == kStatistics && b.columns) column_statistics<T>(b, m);
        if (phase == kChannels) channel_statistics<T>(b, m);
        if (phase >= kMedian && phase < kMedianNext) median_digit<T>(b, m, phase - kMedian);
        if (phase == kMedianNext) median_next<T>(b, m);
        if (phase == kFinish) finish_raw<Step, T>(b, m);
        for (int o = 0; o < b.output_count; ++o) {
            if (b.centering[o] == Centering::none) continue;
            if (phase == kRowSums) row_sums<T>(b, m, o);
            if (phase == kCenter) center<T>(b, m, o);
        }
    }
}

// Phases [first, last). In one launch of resident blocks all of them; where blocks cannot wait for each other, one by one.
template <class Step, class Shape>
DDS_KERNEL(Shape::threads, Shape::per_sm)
pairwise(const DDS_PARAMETER Launch b, int first, int last) {
    unsigned round = 0;
    bool begun = false;
    for (int phase = first; phase < last; ++phase) {
        if (!active(b, phase)) continue;
        if (begun) barrier_of_grid(b.barrier, round++);
        begun = true;
        run_phase<Step, Shape>(b, phase);
    }
}

}  // namespace dds::cuda
