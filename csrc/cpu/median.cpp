#include "cpu/median.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <utility>
#include <vector>

namespace dds {
namespace {

constexpr int kBins = 4096;

// f(begin, end) for runs of rows long enough to be worth handing out.
template <class F>
void for_row_runs(Team& team, int64_t n, F f) {
    constexpr int64_t kRows = 32;
    team.for_each((n + kRows - 1) / kRows, [&](int64_t run) { f(run * kRows, std::min(n, (run + 1) * kRows)); });
}

// The entries at positions first <= last <= first + 1 (from 0) of the sorted upper triangle: a histogram finds the bins they
// fall into, and only what lies in those is sorted.
template <class T>
std::pair<T, T> order_statistics(const UpperTriangle<T>& k, int64_t first, int64_t last, Team& team) {
    std::mutex mutex;
    T low = std::numeric_limits<T>::max(), high = 0;
    bool finite = true;
    for_row_runs(team, k.n, [&](int64_t begin, int64_t end) {
        T run_low = std::numeric_limits<T>::max(), run_high = 0;
        bool run_finite = true;
        for (int64_t i = begin; i < end; ++i) {
            const T* row = k.row(i);
            for (int64_t j = i + 1; j < k.n; ++j) {
                run_low = std::min(run_low, row[j]);
                run_high = std::max(run_high, row[j]);
                run_finite &= std::abs(row[j]) <= std::numeric_limits<T>::max();
            }
        }
        std::lock_guard<std::mutex> lock(mutex);
        finite &= run_finite;
        low = std::min(low, run_low);
        high = std::max(high, run_high);
    });
    constexpr T nan = std::numeric_limits<T>::quiet_NaN();
    if (!finite) return {nan, nan};
    if (low == high) return {low, low};

    // monotonic in x, whatever its rounding: equal numbers share a bin, and bins are in order
    const double least = static_cast<double>(low), range = static_cast<double>(high) - least;
    auto bin_of = [least, range](T x) { return static_cast<int>((static_cast<double>(x) - least) / range * kBins); };
    std::vector<int64_t> counts(kBins + 1);
    for_row_runs(team, k.n, [&](int64_t begin, int64_t end) {
        std::vector<int32_t> run(kBins + 1);
        for (int64_t i = begin; i < end; ++i) {
            const T* row = k.row(i);
            for (int64_t j = i + 1; j < k.n; ++j) ++run[static_cast<size_t>(bin_of(row[j]))];
        }
        std::lock_guard<std::mutex> lock(mutex);
        for (size_t b = 0; b < run.size(); ++b) counts[b] += run[b];
    });

    int first_bin = 0, last_bin = 0;
    int64_t below = 0;  // entries in bins before first_bin
    while (first >= below + counts[static_cast<size_t>(first_bin)]) below += counts[static_cast<size_t>(first_bin++)];
    last_bin = first_bin;
    for (int64_t up_to = below; last >= (up_to += counts[static_cast<size_t>(last_bin)]);) ++last_bin;

    std::vector<T> candidates;
    for_row_runs(team, k.n, [&](int64_t begin, int64_t end) {
        std::vector<T> run;
        for (int64_t i = begin; i < end; ++i) {
            const T* row = k.row(i);
            for (int64_t j = i + 1; j < k.n; ++j) {
                const int bin = bin_of(row[j]);
                if (bin >= first_bin && bin <= last_bin) run.push_back(row[j]);
            }
        }
        std::lock_guard<std::mutex> lock(mutex);
        candidates.insert(candidates.end(), run.begin(), run.end());
    });
    const auto at = candidates.begin() + (first - below);
    std::nth_element(candidates.begin(), at, candidates.end());
    return {*at, first == last ? *at : *std::min_element(at + 1, candidates.end())};
}

template <class T>
double median_of(const UpperTriangle<T>& k, Team& team) {
    const int64_t n = k.n, total = n * n;
    // sorted, the n^2 entries are the n zeros of the diagonal and then every pair twice
    const int64_t upper = total / 2, lower = total % 2 ? upper : upper - 1;
    if (upper < n) return 0;
    const auto [a, b] = order_statistics(k, std::max<int64_t>(lower - n, 0) / 2, (upper - n) / 2, team);
    return ((lower < n ? 0.0 : static_cast<double>(a)) + static_cast<double>(b)) / 2;
}

}  // namespace

double median(const UpperTriangle<float>& k, Team& team) { return median_of(k, team); }
double median(const UpperTriangle<double>& k, Team& team) { return median_of(k, team); }

}  // namespace dds
