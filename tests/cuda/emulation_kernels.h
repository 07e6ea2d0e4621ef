// Small kernels that use all of csrc/cuda/device.h, each with the faults that the emulation must find in it.
#pragma once

#include "cuda/device.h"

namespace dds::cuda::sample {

enum class Fault {
    none,
    no_barrier,
    no_second_barrier,
    divergent_barrier,
    divergent_shuffle,
    divergent_product,
    no_wait,
    wait_too_few,
    wait_never,
    no_zeros,
    misaligned,
    outside_shared,
    beyond_shared,
    uninitialised,
    no_grid_barrier,
    wrong_round,
    left_out,
    swapped,
};

constexpr unsigned kAllLanes = 0xffffffff;

// sums[block] of x, with 128 threads and shared memory for 4 floats.
template <Fault fault>
DDS_KERNEL(128, 1)
reduction(const float* x, unsigned count, float* sums) {
    float* const partial = reinterpret_cast<float*>(shared_memory());
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    float sum = 0;
    for (unsigned i = blockIdx.x * 128 + threadIdx.x; i < count; i += gridDim.x * 128) sum += __ldg(x + i);
    for (int step = 16; step > 0; step /= 2)
        if (fault != Fault::divergent_shuffle || lane < 16) sum += __shfl_xor_sync(kAllLanes, sum, step);
    if (lane == 0 && (fault != Fault::uninitialised || warp != 2)) partial[warp + (fault == Fault::beyond_shared)] = sum;
    if (fault == Fault::divergent_barrier ? warp > 0 : fault != Fault::no_barrier) __syncthreads();
    if (warp > 0) return;
    sum = lane < 4 ? partial[lane] : 0.0f;
    for (unsigned step = 16; step > 0; step /= 2) sum += __shfl_down_sync(kAllLanes, sum, step);
    if (lane == 0) sums[blockIdx.x] = sum;
}

// out (cols x rows) of x (rows x cols), tile by tile of 32 x 32, with 256 threads and shared memory for 32 x 33 floats.
template <Fault fault>
DDS_KERNEL(256, 1)
transposition(const float* x, unsigned rows, unsigned cols, float* out) {
    float* const tile = reinterpret_cast<float*>(shared_memory());
    constexpr unsigned stride = fault == Fault::beyond_shared ? 34 : 33;
    const unsigned across = (cols + 31) / 32;
    const unsigned row = blockIdx.x / across * 32, col = blockIdx.x % across * 32;
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (unsigned i = warp; i < (fault == Fault::uninitialised ? 24 : 32); i += 8)
        if (row + i < rows && col + lane < cols) tile[i * stride + lane] = x[(row + i) * cols + col + lane];
    if (fault == Fault::divergent_barrier ? col + lane < cols : fault != Fault::no_barrier) __syncthreads();
    for (unsigned i = warp; i < 32; i += 8)
        if (col + i < cols && row + lane < rows) out[(col + i) * rows + row + lane] = tile[lane * stride + i];
}

// out is x with the floats of each tile of 256 in reverse order, zeros from `count` on; the next tile is on its way while
// this one is written. 64 threads, shared memory for 2 tiles.
template <Fault fault, unsigned bytes>
DDS_KERNEL(64, 1)
staged_reversal(const float* x, unsigned count, unsigned tiles, float* out) {
    float* const stages = reinterpret_cast<float*>(shared_memory());
    const auto fetch = [=](unsigned tile) {
        float* const to = stages + tile % (fault == Fault::outside_shared ? 3 : 2) * 256 + (fault == Fault::misaligned);
        for (unsigned i = threadIdx.x * (bytes / 4); i < 256; i += 64 * (bytes / 4)) {
            const unsigned from = tile % tiles * 256 + i;
            const bool valid = from < count;
            if (tile == tiles && fault != Fault::wait_never) continue;
            if (valid) copy_async<bytes>(to + i, x + from);
            for (unsigned zero = 0; zero < bytes / 4 && !valid && fault != Fault::no_zeros; ++zero) to[i + zero] = 0;
        }
        commit_copies();
    };
    fetch(0);
    for (unsigned tile = 0; tile < tiles; ++tile) {
        fetch(tile + 1);
        if (fault != Fault::no_wait) wait_copies<fault == Fault::wait_too_few ? 2 : 1>();
        if (fault != Fault::no_barrier) __syncthreads();
        for (unsigned i = threadIdx.x; i < 256; i += 64) out[tile * 256 + i] = stages[tile % 2 * 256 + 255 - i];
        if (fault != Fault::no_second_barrier) __syncthreads();
    }
    if (fault == Fault::wait_too_few) wait_copies<0>();
}

// totals[block] = the sum of x, plus that of the block after it. `sums` holds one float for each block, `counter` is 0.
template <Fault fault>
DDS_KERNEL(32, 1)
grid_sum(const float* x, unsigned count, float* sums, float* totals, unsigned* counter) {
    const unsigned lane = threadIdx.x;
    float sum = 0;
    for (unsigned i = blockIdx.x * 32 + lane; i < count; i += gridDim.x * 32) sum += x[i];
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
    if (lane == 0) sums[blockIdx.x] = sum;
    if (fault == Fault::left_out && blockIdx.x == 1) return;
    unsigned round = 0;
    if (fault != Fault::no_grid_barrier) barrier_of_grid(counter, round++);
    sum = 0;
    for (unsigned i = 0; i < gridDim.x; ++i) sum += sums[i];
    if (fault != Fault::no_second_barrier) barrier_of_grid(counter, round++);
    if (lane == 0) sums[blockIdx.x] = sum;
    barrier_of_grid(counter, fault == Fault::wrong_round ? round + 1 : round);
    if (lane == 0) totals[blockIdx.x] = sum + sums[(blockIdx.x + 1) % gridDim.x];
}

// out (32 x 16) = x (32 x depth) y^T (16 x depth) by 4 warps, in tf32 or in halves; shared memory for 48 x 9 words. A tile
// is 8 words deep, and which of them a lane holds is the same for both.
template <Fault fault, bool halves>
DDS_KERNEL(128, 1)
product(const float* x, const float* y, unsigned depth, float* out) {
    uint32_t* const tile = reinterpret_cast<uint32_t*>(shared_memory());
    constexpr unsigned stride = 9, each = halves ? 2 : 1;
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    const uint32_t* const a_rows = tile + warp / 2 * 16 * stride;
    const uint32_t* const b_rows = tile + (32 + warp % 2 * 8) * stride;
    float d[4] = {};
    for (unsigned start = 0; start < depth; start += 8 * each) {
        for (unsigned i = threadIdx.x; i < 48 * 8; i += 128) {
            const unsigned row = i / 8, k = start + i % 8 * each;
            if (fault == Fault::uninitialised && k >= depth) continue;
            const float* const from = (row < 32 ? x + row * depth : y + (row - 32) * depth) + k;
            const float first = k < depth ? from[0] : 0, second = halves && k + 1 < depth ? from[1] : 0;
            tile[(row + (fault == Fault::beyond_shared)) * stride + i % 8] =
                halves ? pack_half2(first, second) : to_tf32(first);
        }
        if (fault != Fault::no_barrier) __syncthreads();
        uint32_t a[4] = {a_rows[g * stride + t], a_rows[(g + 8) * stride + t], a_rows[g * stride + t + 4],
                         a_rows[(g + 8) * stride + t + 4]};
        const uint32_t b[2] = {b_rows[g * stride + t], b_rows[g * stride + t + 4]};
        if (fault == Fault::swapped) {
            const uint32_t kept = a[1];
            a[1] = a[2];
            a[2] = kept;
        }
        if (fault != Fault::divergent_product || lane != 31) {
            if (halves) mma_f16(d, a, b);
            else mma_tf32(d, a, b);
        }
        if (fault != Fault::no_second_barrier) __syncthreads();
    }
    float* const to = out + (warp / 2 * 16 + g) * 16 + warp % 2 * 8 + 2 * t;
    DDS_UNROLL
    for (unsigned i = 0; i < 4; ++i) to[i / 2 * 8 * 16 + i % 2] = d[i];
}

// out = |x - y| of pairs of halves, rounded to halves. Of a difference and its opposite, one is above zero or none.
template <Fault fault>
DDS_KERNEL(64, 1)
absolute_difference(const uint32_t* x, const uint32_t* y, unsigned count, uint32_t* out) {
    for (unsigned i = blockIdx.x * 64 + threadIdx.x; i < count; i += gridDim.x * 64)
        out[i] = relu_difference(x[i], y[i]) | (fault == Fault::left_out ? 0 : relu_difference(y[i], x[i]));
}

struct Census {
    unsigned positive, bits, largest;
    int steps;
    unsigned long long sum;
};

// Of x: how many are above zero, their bits together, the largest and the sum of them; and the sum of the steps from the
// first number of a warp to all others. x holds 64 int for each block, `to` zeros. 64 threads, shared memory for 64 int.
template <Fault fault>
DDS_KERNEL(64, 1)
census(const int* x, Census* to) {
    int* const kept = reinterpret_cast<int*>(shared_memory());
    const unsigned lane = threadIdx.x % 32;
    kept[threadIdx.x] = x[blockIdx.x * 64 + threadIdx.x];
    if (fault != Fault::no_barrier) __syncwarp();
    const int value = kept[threadIdx.x ^ 31];
    atomicAdd(&to->steps, value - __shfl_sync(kAllLanes, value, 31));
    if (fault == Fault::divergent_shuffle && value <= 0) return;
    if (!__any_sync(kAllLanes, value > 0)) return;
    const unsigned positive = __ballot_sync(kAllLanes, value > 0);
    if (!(positive >> lane & 1)) return;
    atomicAdd(&to->positive, 1u);
    atomicOr(&to->bits, static_cast<unsigned>(value));
    atomicMax(&to->largest, static_cast<unsigned>(value));
    atomicAdd(&to->sum, static_cast<unsigned long long>(value));
}

}  // namespace dds::cuda::sample
