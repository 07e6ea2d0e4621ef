// The one kernel: all phases of a launch, with barriers of the grid between them.
#pragma once

#include "cuda/passes.h"
#include "cuda/statistics.h"

namespace dds::cuda {

// work(model, crew) for all models of a launch.
template <class F>
DDS_DEVICE void for_models(const Launch& b, F work) {
    Crew crew;
    for (int i = 0; i < b.model_count; ++i) work(b.models[i], crew);
}

// The same for both sets of features.
template <class F>
DDS_DEVICE void for_sets(const Launch& b, F work) {
    for_models(b, [&](const Model& m, Crew& crew) {
        for (int set = 0; set < b.set_count; ++set) work(m, set, crew);
    });
}

// And for the results that are to be centred.
template <class F>
DDS_DEVICE void for_centered(const Launch& b, F work) {
    for_models(b, [&](const Model& m, Crew& crew) {
        for (int o = 0; o < b.output_count; ++o)
            if (b.centering[o] != Centering::none) work(m, o, crew);
    });
}

// Phases [first, last). In one launch of resident blocks all of them; where blocks cannot wait for each other, one by one.
template <class Step, class Shape>
DDS_KERNEL(Shape::threads, Shape::per_sm)
pairwise(const DDS_PARAMETER Launch b, int first, int last) {
    using T = typename Shape::T;
    unsigned round = 0;
    bool begun = false;
    // One after another, not in a loop: what all phases of a loop have in common would be kept in registers throughout.
    auto in = [&](int phase, auto work) {
        if (phase < first || phase >= last || !active(b, phase)) return;
        if (begun) barrier_of_grid(b.barrier, round++);
        begun = true;
        work();
    };
    in(kStatistics, [&] {
        if (b.groups > 0) {
            for_sets(b, [&](const Model& m, int set, Crew& crew) { group_statistics<T>(b, m, set, crew); });
            for_models(b, [&](const Model& m, Crew& crew) { group_index(b, m, crew); });
        }
        if (b.columns) for_models(b, [&](const Model& m, Crew& crew) { column_statistics<T>(b, m, crew); });
    });
    in(kChannels, [&] { for_models(b, [&](const Model& m, Crew& crew) { channel_statistics<T>(b, m, crew); }); });
    in(kRowPass,
       [&] { for_sets(b, [&](const Model& m, int set, Crew& crew) { row_parts<T>(b, m, set, is_l1<Step>, crew); }); });
    in(kRowFold,
       [&] { for_sets(b, [&](const Model& m, int set, Crew& crew) { fold_rows<T>(b, m, set, is_l1<Step>, crew); }); });
    in(kTiles, [&] { tiles<Step, Shape>(b); });
    in(kJoin, [&] { join<Step, Shape>(b); });
    in(kFinishJoined, [&] { finish_joined<Step, Shape>(b); });
    for (int digit = 0; digit < b.digits; ++digit)
        in(kMedian + digit, [&] { for_models(b, [&](const Model& m, Crew& crew) { median_digit<T>(b, m, digit, crew); }); });
    in(kMedianNext, [&] { for_models(b, [&](const Model& m, Crew& crew) { median_next<T>(b, m, crew); }); });
    in(kFinishRaw, [&] { for_models(b, [&](const Model& m, Crew& crew) { finish_raw<Step, T>(b, m, crew); }); });
    in(kRowSums, [&] { for_centered(b, [&](const Model& m, int o, Crew& crew) { row_sums<T>(b, m, o, crew); }); });
    in(kCenter, [&] { for_centered(b, [&](const Model& m, int o, Crew& crew) { center<T>(b, m, o, crew); }); });
    in(kScan, [&] { for_sets(b, [&](const Model& m, int set, Crew& crew) { scan(b, m, set, crew); }); });
}

}  // namespace dds::cuda
