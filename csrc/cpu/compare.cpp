// What comparing matrices needs beside a matrix product: upper triangles, ranks, and Kendall's tau.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "cpu/pool.h"
#include "dds/dds.h"

namespace dds {
namespace {

// Unsigned integers in the order of the floating-point numbers.
uint32_t sort_key(float x) {
    x += 0.0f;  // -0 ties with +0
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

uint64_t sort_key(double x) {
    x += 0.0;
    uint64_t bits;
    std::memcpy(&bits, &x, 8);
    return bits >> 63 ? ~bits : bits | 0x8000000000000000u;
}

// The order that sorts `values`, by radix sort from the least significant digit; leaves the sorted keys in `keys`.
template <class T, class Key, class Index>
void sort_order(const T* values, int64_t n, std::vector<Key>& keys, std::vector<Index>& order) {
    constexpr int digit = 11, bins = 1 << digit, passes = (8 * sizeof(Key) + digit - 1) / digit;
    std::vector<Key> other_keys(static_cast<size_t>(n));
    std::vector<Index> other_order(static_cast<size_t>(n));
    std::vector<int64_t> counts(size_t(passes) * bins);
    for (int64_t i = 0; i < n; ++i) {
        const Key key = sort_key(values[i]);
        keys[i] = key;
        order[i] = static_cast<Index>(i);
        for (int pass = 0; pass < passes; ++pass) ++counts[pass * bins + (key >> (pass * digit) & (bins - 1))];
    }
    for (int pass = 0; pass < passes; ++pass) {
        int64_t* start = counts.data() + pass * bins;
        if (std::any_of(start, start + bins, [n](int64_t c) { return c == n; })) continue;  // all alike in this digit
        int64_t sum = 0;
        for (int b = 0; b < bins; ++b) sum += std::exchange(start[b], sum);
        for (int64_t i = 0; i < n; ++i) {
            const int64_t to = start[keys[i] >> (pass * digit) & (bins - 1)]++;
            other_keys[to] = keys[i];
            other_order[to] = order[i];
        }
        keys.swap(other_keys);
        order.swap(other_order);
    }
}

template <class T, class Index>
void rank_row(const T* values, int64_t n, double* ranks) {
    using Key = decltype(sort_key(T()));
    std::vector<Key> keys(static_cast<size_t>(n));
    std::vector<Index> order(static_cast<size_t>(n));
    sort_order(values, n, keys, order);
    for (int64_t i = 0; i < n;) {
        int64_t end = i + 1;
        while (end < n && keys[end] == keys[i]) ++end;
        const double shared = 0.5 * static_cast<double>(i + 1 + end);  // mean of ranks i + 1 .. end
        for (; i < end; ++i) ranks[order[i]] = shared;
    }
}

// Sorts x[0 .. n) and returns how many pairs were out of order.
int64_t sort_counting_inversions(double* x, double* scratch, int64_t n) {
    int64_t inversions = 0;
    for (int64_t width = 1; width < n; width *= 2) {
        for (int64_t low = 0; low < n; low += 2 * width) {
            const int64_t middle = std::min(n, low + width), high = std::min(n, low + 2 * width);
            for (int64_t i = low, j = middle, k = low; k < high; ++k) {
                if (i < middle && (j >= high || x[i] <= x[j])) {
                    scratch[k] = x[i++];
                } else {
                    inversions += middle - i;
                    scratch[k] = x[j++];
                }
            }
        }
        std::copy(scratch, scratch + n, x);
    }
    return inversions;
}

// Pairs within runs of equal values of a sorted sequence.
template <class Equal>
int64_t tied_pairs(int64_t n, Equal equal_to_next) {
    int64_t pairs = 0;
    for (int64_t i = 0, run = 1; i < n; ++i, ++run) {
        if (i + 1 < n && equal_to_next(i)) continue;
        pairs += run * (run - 1) / 2;
        run = 0;
    }
    return pairs;
}

// Knight (1966): sort by (a, b); the swaps that sorting by b then takes are the discordant pairs.
double tau_b(const double* a, const double* b, const std::vector<int64_t>& order_a, int64_t n) {
    std::vector<double> sorted_b(static_cast<size_t>(n)), scratch(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) sorted_b[i] = b[order_a[i]];
    auto same_a = [&](int64_t i) { return a[order_a[i]] == a[order_a[i + 1]]; };
    for (int64_t i = 0; i < n;) {
        int64_t end = i + 1;
        while (end < n && same_a(end - 1)) ++end;
        std::sort(sorted_b.begin() + i, sorted_b.begin() + end);
        i = end;
    }
    const int64_t ties_a = tied_pairs(n, same_a);
    const int64_t ties_both = tied_pairs(n, [&](int64_t i) { return same_a(i) && sorted_b[i] == sorted_b[i + 1]; });
    const int64_t discordant = sort_counting_inversions(sorted_b.data(), scratch.data(), n);
    const int64_t ties_b = tied_pairs(n, [&](int64_t i) { return sorted_b[i] == sorted_b[i + 1]; });
    const int64_t pairs = n * (n - 1) / 2;
    const int64_t difference = pairs - ties_a - ties_b + ties_both - 2 * discordant;
    const double tau = static_cast<double>(difference) / std::sqrt(static_cast<double>(pairs - ties_a)) /
                       std::sqrt(static_cast<double>(pairs - ties_b));
    return std::clamp(tau, -1.0, 1.0);
}

template <class T>
void rank_rows(const T* values, int64_t count, int64_t length, double* ranks, Team& team) {
    team.for_each(count, [&](int64_t row) {
        if (length <= std::numeric_limits<uint32_t>::max())
            rank_row<T, uint32_t>(values + row * length, length, ranks + row * length);
        else rank_row<T, uint64_t>(values + row * length, length, ranks + row * length);
    });
}

}  // namespace

void rank(const void* values, int64_t count, int64_t length, Dtype dtype, double* ranks, int threads) {
    Team team(threads);
    if (dtype == Dtype::f64) rank_rows(static_cast<const double*>(values), count, length, ranks, team);
    else rank_rows(static_cast<const float*>(values), count, length, ranks, team);
}

void kendall(const double* a, int64_t s, const double* b, int64_t t, int64_t length, double* out, int threads) {
    Team team(threads);
    for (int64_t i = 0; i < s; ++i) {
        const double* row = a + i * length;
        std::vector<int64_t> order(static_cast<size_t>(length));
        std::vector<uint64_t> sorted(static_cast<size_t>(length));
        sort_order(row, length, sorted, order);
        team.for_each(t, [&](int64_t j) { out[i * t + j] = tau_b(row, b + j * length, order, length); });
    }
}

void condense(const void* k, int64_t count, int64_t n, Dtype dtype, void* out, int threads) {
    const int64_t number = dtype == Dtype::f64 ? 8 : 4, pairs = n * (n - 1) / 2;
    Team team(threads);
    team.for_each(count * n, [&](int64_t row) {
        const int64_t matrix = row / n, i = row % n;
        std::memcpy(static_cast<char*>(out) + (matrix * pairs + i * (2 * n - i - 1) / 2) * number,
                    static_cast<const char*>(k) + ((matrix * n + i) * n + i + 1) * number,
                    static_cast<size_t>((n - i - 1) * number));
    });
}

}  // namespace dds
