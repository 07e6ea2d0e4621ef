// What every normalisation header builds on: z = (x - mean) * scale(variance), the mean and the population variance
// taken over one of these sets.
#pragma once

#include <math.h>

#include <cstdint>

#ifdef __CUDACC__
#define DDS_ANYWHERE __host__ __device__
#else
#define DDS_ANYWHERE
#endif

namespace dds {

enum class Over {
    nothing,
    images,            // one mean per feature
    images_and_space,  // one mean per channel
    group,             // one mean per image and group of channels
};

// Keeps the variance of a constant channel or image from dividing by zero; the value the DDS authors use.
constexpr double kEpsilon = 1e-9;

DDS_ANYWHERE inline double inverse_root(double variance) { return 1 / sqrt(variance + kEpsilon); }

}  // namespace dds
