#include <algorithm>
#include <chrono>

#include "cpu/dispatch.h"
#include "dds/dds.h"

namespace dds {

std::vector<const char*> available_isas() {
    std::vector<const char*> names;
    for (const Kernels* k : available_kernels()) names.push_back(k->name);
    return names;
}

double roof(int metric, Dtype dtype, bool fast, const char* isa) {
    const auto loop = kernels(isa).roof[dtype == Dtype::f64];
    using Clock = std::chrono::steady_clock;
    double best = 0;
    for (int repeat = 0; repeat < 15; ++repeat) {
        const auto start = Clock::now();
        const auto elements = static_cast<double>(loop(metric, fast, 200000));
        best = std::max(best, elements / std::chrono::duration<double>(Clock::now() - start).count());
    }
    return best;
}

}  // namespace dds
