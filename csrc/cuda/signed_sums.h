// The gradient of sums of absolute differences.
#pragma once

#include <cstdint>

#include "dds/dds.h"

namespace dds::cuda {

// out (n, d) = sum_j w[j, i] sign(x[i, k] - y[j, k]), sign(0) = 0, of x (n, d), y (m, d) and w (m, n). All are contiguous,
// float32 or float64.
struct SignedSums {
    const void *x, *y, *w;
    void* out;
    int64_t n, m, d;
};

// Puts it on a stream (a cudaStream_t) of the current device.
void run_signed_sums(const SignedSums& sums, Dtype dtype, void* stream);

}  // namespace dds::cuda
