#pragma once

#include "norms/common.h"

namespace dds {

// Every channel of every image has mean 0 and variance 1 over the positions: groups of one channel.
struct Instance {
    static constexpr const char* name = "instance";
    static constexpr Over over = Over::group;
    static constexpr bool needs_channels = true;
    static DDS_ANYWHERE double scale(double variance) { return inverse_root(variance); }
    static int64_t groups(int64_t channels, int64_t) { return channels; }
};

}  // namespace dds
