#pragma once

#include "norms/common.h"

namespace dds {

// Every image has mean 0 and variance 1 over all its features: one group.
struct Layer {
    static constexpr const char* name = "layer";
    static constexpr Over over = Over::group;
    static constexpr bool needs_channels = false;
    static DDS_ANYWHERE double scale(double variance) { return inverse_root(variance); }
    static int64_t groups(int64_t, int64_t) { return 1; }
};

}  // namespace dds
