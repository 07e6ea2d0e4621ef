// What the threads of a warp and of a block do together.
#pragma once

#include "cuda/device.h"

namespace dds::cuda {

constexpr unsigned kWarp = 0xffffffffu;

DDS_DEVICE int lane() { return static_cast<int>(threadIdx.x % 32); }
DDS_DEVICE int warp() { return static_cast<int>(threadIdx.x / 32); }
DDS_DEVICE int warps() { return static_cast<int>(blockDim.x / 32); }

// Shares units of work out among the blocks, the warps or the threads of the grid: f(unit) for those of this one. What is
// shared out next goes on where the units before ended, so that the small models of a launch do not all fall to the first
// blocks.
class Crew {
public:
    template <class F>
    DDS_DEVICE void blocks(int64_t units, F f) {
        share(blockIdx.x, gridDim.x, units, f);
    }
    template <class F>
    DDS_DEVICE void warps(int64_t units, F f) {  // neighbouring units go to different blocks
        share(int64_t{gridDim.x} * warp() + blockIdx.x, int64_t{gridDim.x} * cuda::warps(), units, f);
    }
    template <class F>
    DDS_DEVICE void threads(int64_t units, F f) {
        share(int64_t{blockIdx.x} * blockDim.x + threadIdx.x, int64_t{gridDim.x} * blockDim.x, units, f);
    }

private:
    int64_t given_ = 0;

    template <class F>
    DDS_DEVICE void share(int64_t worker, int64_t workers, int64_t units, F f) {
        int64_t first = worker - given_ % workers;
        if (first < 0) first += workers;
        for (int64_t u = first; u < units; u += workers) f(u);
        given_ += units;
    }
};

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

// The sum over the threads of the block before this one, by way of shared memory (a number for each warp) that nobody else
// uses; between two calls the caller has a barrier.
DDS_DEVICE unsigned long long sum_before(unsigned long long x) {
    auto* sums = reinterpret_cast<unsigned long long*>(shared_memory());
    unsigned long long up_to = x;
    for (int offset = 1; offset < 32; offset *= 2) {
        const unsigned long long lower = __shfl_sync(kWarp, up_to, lane() - offset);
        if (lane() >= offset) up_to += lower;
    }
    if (lane() == 31) sums[warp()] = up_to;
    __syncthreads();
    for (int w = 0; w < warp(); ++w) up_to += sums[w];
    return up_to - x;
}

}  // namespace dds::cuda
