// What the threads of a warp and of a block do together.
#pragma once

#include "cuda/device.h"

namespace dds::cuda {

constexpr unsigned kWarp = 0xffffffffu;

DDS_DEVICE int lane() { return static_cast<int>(threadIdx.x % 32); }
DDS_DEVICE int warp() { return static_cast<int>(threadIdx.x / 32); }
DDS_DEVICE int warps() { return static_cast<int>(blockDim.x / 32); }

// f(unit) for the units of this warp, of this block, of this thread: all of the grid take turns.
template <class F>
DDS_DEVICE void for_warps(int64_t units, F f) {
    for (int64_t u = int64_t{blockIdx.x} * warps() + warp(); u < units; u += int64_t{gridDim.x} * warps()) f(u);
}

template <class F>
DDS_DEVICE void for_blocks(int64_t units, F f) {
    for (int64_t u = blockIdx.x; u < units; u += gridDim.x) f(u);
}

template <class F>
DDS_DEVICE void for_threads(int64_t units, F f) {
    for (int64_t u = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; u < units; u += int64_t{gridDim.x} * blockDim.x) f(u);
}

// Sums over the warp, to every lane, in an order that never changes.
DDS_DEVICE double warp_sum(double x) {
    for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(kWarp, x, offset);
    return x;
}

// The sum over the block, to every thread, by way of shared memory that nobody else uses.
DDS_DEVICE double block_sum(double x) {
    auto* sums = reinterpret_cast<double*>(shared_memory());
    x = warp_sum(x);
    __syncthreads();  // the sums of an earlier call have been read
    if (lane() == 0) sums[warp()] = x;
    __syncthreads();
    double total = 0;
    for (int w = 0; w < warps(); ++w) total += sums[w];
    return total;
}

}  // namespace dds::cuda
