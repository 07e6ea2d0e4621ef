#pragma once

#include "norms/common.h"

namespace dds {

// Every feature has mean 0 over the images: D is the centring matrix.
struct Center {
    static constexpr const char* name = "center";
    static constexpr Over over = Over::images;
    static constexpr bool needs_channels = false;
    static DDS_ANYWHERE double scale(double) { return 1; }
    static int64_t groups(int64_t, int64_t) { return 0; }
};

}  // namespace dds
