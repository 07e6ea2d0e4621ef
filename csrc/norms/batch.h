#pragma once

#include "norms/common.h"

namespace dds {

// Every channel has mean 0 and variance 1 over the images and the positions, as in batch normalisation.
struct Batch {
    static constexpr const char* name = "batch";
    static constexpr Over over = Over::images_and_space;
    static constexpr bool needs_channels = true;
    static DDS_ANYWHERE double scale(double variance) { return inverse_root(variance); }
    static int64_t groups(int64_t, int64_t) { return 0; }
};

}  // namespace dds
