// What every normalisation header builds on: z = (x - mean) * scale(variance), the mean and the population variance
// taken over one of these sets.
#pragma once

#include <math.h>

#include <cstdint>

#include "metrics/common.h"

#ifdef __CUDACC__
#define DDS_ANYWHERE __host__ __device__
#else
#define DDS_ANYWHERE
#endif

DDS_NAMESPACE_BEGIN

// Squares that add up to less have lost places to underflow.
constexpr double kLeastVariance = 1e-300;

DDS_ANYWHERE inline bool in_range(double variance) {
    return variance == 0 || (variance >= kLeastVariance && variance < HUGE_VAL);
}

DDS_NAMESPACE_END

namespace dds {

enum class Over {
    nothing,
    images,            // one mean per feature
    images_and_space,  // one mean per channel
    group,             // one mean per image and group of channels
};

// Keeps the variance of a constant channel or image from dividing by zero; the value the DDS authors use.
constexpr double kEpsilon = 1e-9;

// NaN where the variance is, or has overflowed.
DDS_ANYWHERE inline double inverse_root(double variance) {
    return variance < HUGE_VAL ? 1 / ::sqrt(variance + kEpsilon) : NAN;
}

}  // namespace dds
