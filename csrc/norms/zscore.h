#pragma once

#include "norms/common.h"

namespace dds {

// Every feature has mean 0 and variance 1 over the images. A constant feature, whose variance is exactly 0 here, becomes 0.
struct Zscore {
    static constexpr const char* name = "zscore";
    static constexpr Over over = Over::images;
    static constexpr bool needs_channels = false;
    static DDS_ANYWHERE double scale(double variance) { return variance > 0 ? 1 / sqrt(variance) : 0; }
    static int64_t groups(int64_t, int64_t) { return 0; }
};

}  // namespace dds
