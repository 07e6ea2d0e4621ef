#pragma once

#include "norms/common.h"

namespace dds {

// Every group of neighbouring channels of every image has mean 0 and variance 1; groups is their number.
struct Group {
    static constexpr const char* name = "group";
    static constexpr Over over = Over::group;
    static constexpr bool needs_channels = true;
    static DDS_ANYWHERE double scale(double variance) { return inverse_root(variance); }
    static int64_t groups(int64_t, int64_t groups) { return groups; }
};

}  // namespace dds
