#pragma once

#include "norms/common.h"

namespace dds {

// Every feature has mean 0 and variance 1 over the images. A constant feature, whose variance is exactly 0 here, becomes 0;
// one whose variance has left float64's range is no number.
struct Zscore {
    static constexpr const char* name = "zscore";
    static constexpr Over over = Over::images;
    static constexpr bool needs_channels = false;
    static DDS_ANYWHERE double scale(double variance) {
        if (variance == 0) return 0;
        return in_range(variance) ? 1 / sqrt(variance) : NAN;
    }
    static int64_t groups(int64_t, int64_t) { return 0; }
};

}  // namespace dds
