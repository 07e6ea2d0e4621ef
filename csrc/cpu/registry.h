// What the common code knows of every metric and normalisation, read off their headers.
#pragma once

#include <vector>

#include "metrics/common.h"
#include "norms/common.h"

namespace dds {

enum class StepKind { dot, squared_difference, absolute_difference };

struct MetricTraits {
    const char* name;
    StepKind step;
    Gamma gamma;
    Rows rows;
    double near;  // of the step

    // Metrics of one family are formed of the same sums.
    int family() const { return 2 * static_cast<int>(step) + (rows == Rows::centered_unit); }
};

struct NormTraits {
    const char* name;
    Over over;
    bool needs_channels;
    double (*scale)(double variance);
    int64_t (*groups)(int64_t channels, int64_t groups);
};

const std::vector<MetricTraits>& metric_traits();
const std::vector<NormTraits>& norm_traits();

}  // namespace dds
