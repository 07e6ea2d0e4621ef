// Register-only loops over the inner steps: the roofs that the benchmarks quote fractions of, and the rates that decide
// which steps are worth a kernel.
#include "cuda/check.h"
#include "cuda/launch.h"
#include "cuda/signed_kernel.h"

namespace dds::cuda {
namespace {

constexpr int kThreads = 256;

// Every loop's steps depend on the ones before, or the compiler would take what stays the same out of the loop: the
// instructions of a step are those of the kernels, their operands are not.

// A pair-element in float32, as the metrics' steps form it from a sum, x and y.
struct DotStep {
    static DDS_DEVICE float step(float sum, float x, float y) { return ::fmaf(x, y, sum); }
};
struct SquaredStep {
    static DDS_DEVICE float step(float sum, float x, float y) {
        const float d = sum - x;
        return ::fmaf(d, d, y);
    }
};
struct AbsoluteStep {
    static DDS_DEVICE float step(float sum, float x, float y) { return ::fabsf(sum - x) + y; }
};

struct SignStep {
    static DDS_DEVICE float step(float sum, float x, float y) { return ::fmaf(y, sign(sum - x), sum); }
};

template <class Step>
struct Floats {
    static constexpr int elements = 64;  // of a thread and step
    float x[8], y[8], sums[8][8];

    DDS_DEVICE explicit Floats(float seed) {
        DDS_UNROLL
        for (int r = 0; r < 8; ++r) {
            x[r] = seed * static_cast<float>(threadIdx.x + static_cast<unsigned>(r));
            y[r] = seed * static_cast<float>(r);
            DDS_UNROLL
            for (int c = 0; c < 8; ++c) sums[r][c] = 0;
        }
    }
    DDS_DEVICE void step() {
        DDS_UNROLL
        for (int r = 0; r < 8; ++r) DDS_UNROLL
        for (int c = 0; c < 8; ++c) sums[r][c] = Step::step(sums[r][c], x[r], y[c]);
    }
    DDS_DEVICE float total() const {
        float all = 0;
        DDS_UNROLL
        for (int r = 0; r < 8; ++r) DDS_UNROLL
        for (int c = 0; c < 8; ++c) all += sums[r][c];
        return all;
    }
};

// max(a - b, 0) of two halves.
struct HalfDifference {
    static constexpr int elements = 2 * 32;
    uint32_t x, values[32];

    DDS_DEVICE explicit HalfDifference(float seed) : x(pack_half2(seed, seed)) {
        DDS_UNROLL
        for (int i = 0; i < 32; ++i) values[i] = x + threadIdx.x + static_cast<uint32_t>(i);
    }
    DDS_DEVICE void step() {
        DDS_UNROLL
        for (int i = 0; i < 32; ++i) values[i] = relu_difference(values[i], x);
    }
    DDS_DEVICE float total() const {
        uint32_t all = 0;
        DDS_UNROLL
        for (int i = 0; i < 32; ++i) all ^= values[i];
        return __uint_as_float(all);
    }
};

// Matrix products into eight accumulators; the elements are their multiply-adds.
struct Products {
    uint32_t a[8][4], b[2];
    float d[8][4];

    DDS_DEVICE explicit Products(float seed) {
        const uint32_t word = pack_half2(seed, seed);
        b[0] = b[1] = word;
        DDS_UNROLL
        for (int t = 0; t < 8; ++t) DDS_UNROLL
        for (int i = 0; i < 4; ++i) {
            a[t][i] = word + threadIdx.x + static_cast<uint32_t>(4 * t + i);
            d[t][i] = 0;
        }
    }
    DDS_DEVICE float total() const {
        float all = 0;
        DDS_UNROLL
        for (int t = 0; t < 8; ++t) all += d[t][0] + d[t][1] + d[t][2] + d[t][3];
        return all;
    }
};
struct HalfProduct : Products {
    static constexpr int elements = 8 * 16 * 8 * 16 / 32;
    using Products::Products;
    DDS_DEVICE void step() {
        DDS_UNROLL
        for (int t = 0; t < 8; ++t) mma_f16(d[t], a[t], b);
    }
};
struct Tf32Product : Products {
    static constexpr int elements = 8 * 16 * 8 * 8 / 32;
    using Products::Products;
    DDS_DEVICE void step() {
        DDS_UNROLL
        for (int t = 0; t < 8; ++t) mma_tf32(d[t], a[t], b);
    }
};

// L1 in halves: sum |a - b| = 2 sum max(a - b, 0) - (sum a - sum b). A matrix product with a one in one column of b adds up
// sixteen features of sixteen pairs, and leaves them in that column of the accumulator, so that eight fill it.
struct HalfAbsoluteDifference : Products {
    static constexpr int elements = 8 * 16 * 16 / 32;
    using Products::Products;
    DDS_DEVICE void step() {
        DDS_UNROLL
        for (int t = 0; t < 8; ++t) {
            DDS_UNROLL
            for (int i = 0; i < 4; ++i) a[t][i] = relu_difference(a[t][i], b[0]);
            mma_f16(d[t], a[t], b);
        }
    }
};

template <class Loop>
__global__ void __launch_bounds__(kThreads, 2) roof_kernel(int64_t steps, float seed, float* sink) {
    Loop loop(seed);
    DDS_UNROLL_BY(1)
    for (int64_t k = 0; k < steps; ++k) loop.step();
    const float total = loop.total();
    if (total == seed) *sink = total;  // never, but the compiler does not know
}

template <class Loop>
int64_t start(int64_t steps, int blocks, float* sink, void* stream) {
    roof_kernel<Loop><<<static_cast<unsigned>(blocks), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(steps, 1e-3f, sink);
    DDS_CHECK(cudaGetLastError());
    return steps * blocks * kThreads * Loop::elements;
}

struct Roof {
    const char* name;
    int64_t (*start)(int64_t steps, int blocks, float* sink, void* stream);
};
constexpr Roof kRoofs[] = {{"dot", start<Floats<DotStep>>},
                           {"squared_difference", start<Floats<SquaredStep>>},
                           {"absolute_difference", start<Floats<AbsoluteStep>>},
                           {"sign", start<Floats<SignStep>>},
                           {"half_difference", start<HalfDifference>},
                           {"half_product", start<HalfProduct>},
                           {"tf32_product", start<Tf32Product>},
                           {"half_absolute_difference", start<HalfAbsoluteDifference>}};

}  // namespace

std::vector<std::string> roofs() {
    std::vector<std::string> names;
    for (const Roof& roof : kRoofs) names.push_back(roof.name);
    return names;
}

int64_t start_roof(int index, int64_t steps, int blocks, float* sink, void* stream) {
    return kRoofs[index].start(steps, blocks, sink, stream);
}

}  // namespace dds::cuda
