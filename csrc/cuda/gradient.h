// The gradient of sums of absolute differences.
#pragma once

#include <cstdint>

#include "dds/dds.h"

namespace dds::cuda {

// For `count` models: out (n, d) = sum_j w[j, i] sign(x[i, k] - y[j, k]), sign(0) = 0, of x (n, d), y (m, d) and w (m, n).
// All are contiguous, one model after the other, float32 or float64.
struct SignSums {
    const void *x, *y, *w;
    const void* totals;  // (n), the sums of w over j
    void* out;
    int64_t count, n, m, d;
};

// Puts it on a stream (a cudaStream_t) of the current device.
void run_sign_sums(const SignSums& sums, Dtype dtype, void* stream);

}  // namespace dds::cuda
