// Register-only loops over the inner steps: the roofs that the benchmarks quote fractions of.
#include "cuda/launch.h"
#include "cuda/number.h"
#include "metrics/steps.h"

namespace dds::cuda {
namespace {

constexpr int kThreads = 256, kMicro = 8;

template <class Step>
__global__ void __launch_bounds__(kThreads, 2) roof_kernel(int64_t steps, float seed, float* sink) {
    Number<float> x[kMicro], y[kMicro], sum[kMicro][kMicro];
#pragma unroll
    for (int r = 0; r < kMicro; ++r) {
        x[r] = Number<float>(seed * static_cast<float>(threadIdx.x + static_cast<unsigned>(r)));
        y[r] = Number<float>(seed * static_cast<float>(r));
#pragma unroll
        for (int c = 0; c < kMicro; ++c) sum[r][c] = Number<float>(0);
    }
#pragma unroll 1
    for (int64_t k = 0; k < steps; ++k) {
#pragma unroll
        for (int r = 0; r < kMicro; ++r) {
            asm volatile("" : "+f"(x[r].v), "+f"(y[r].v));  // other values, as far as the compiler knows
#pragma unroll
            for (int c = 0; c < kMicro; ++c) sum[r][c] = Step::add(sum[r][c], x[r], y[c], One());
        }
    }
    float total = 0;
#pragma unroll
    for (int r = 0; r < kMicro; ++r)
#pragma unroll
        for (int c = 0; c < kMicro; ++c) total += sum[r][c].v;
    if (total == seed) *sink = total;  // never, but the compiler does not know
}

}  // namespace

int64_t start_roof(int step, int64_t steps, int blocks, float* sink, void* stream) {
    const auto on = static_cast<cudaStream_t>(stream);
    const auto grid = static_cast<unsigned>(blocks);
    if (step == 0) roof_kernel<Dot><<<grid, kThreads, 0, on>>>(steps, 1e-3f, sink);
    else if (step == 1) roof_kernel<SquaredDifference><<<grid, kThreads, 0, on>>>(steps, 1e-3f, sink);
    else roof_kernel<AbsoluteDifference><<<grid, kThreads, 0, on>>>(steps, 1e-3f, sink);
    return steps * blocks * kThreads * kMicro * kMicro;
}

}  // namespace dds::cuda
