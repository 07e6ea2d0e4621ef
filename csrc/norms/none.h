#pragma once

#include "norms/common.h"

namespace dds {

// The features as they are.
struct None {
    static constexpr const char* name = "none";
    static constexpr Over over = Over::nothing;
    static constexpr bool needs_channels = false;
    static DDS_ANYWHERE double scale(double) { return 1; }
    static int64_t groups(int64_t, int64_t) { return 0; }
};

}  // namespace dds
