#include <algorithm>

#include "cpu/dispatch.h"
#include "cpu/pool.h"
#include "dds/dds.h"

namespace dds {

void signed_sums(const void* x, int64_t n, const void* y, int64_t m, int64_t d, const void* w, Dtype dtype, void* out,
                 int threads, const char* isa) {
    const auto kernel = kernels(isa).signed_sums[dtype == Dtype::f64];
    const SignedSums s{x, y, w, out, m, d};
    // Every task copies its columns of y, so that it wants many rows; there should be some tasks for each thread too.
    constexpr int64_t kMostRows = 256, kLeastRows = 48, kTasks = 4;
    const int64_t columns = (d + kPanel - 1) / kPanel;
    const int64_t wanted = (kTasks * std::max(threads, 1) + columns - 1) / columns;
    const int64_t rows = std::clamp((n + wanted - 1) / wanted / kLeastRows * kLeastRows, kLeastRows, kMostRows);
    const int64_t chunks = (n + rows - 1) / rows;
    Team team(worth_waking(threads, n * m * d));
    team.for_each(chunks * columns, [&](int64_t task) {
        const int64_t begin = task % chunks * rows;
        kernel(s, begin, std::min(n, begin + rows), task / chunks * kPanel);
    });
}

}  // namespace dds
