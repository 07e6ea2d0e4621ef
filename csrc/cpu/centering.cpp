#include "cpu/centering.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "cpu/dispatch.h"

namespace dds {
namespace {

// Whether all entries are the same number, the diagonal left out where `off_diagonal`.
template <class T>
bool all_equal(const T* k, int64_t n, bool off_diagonal) {
    for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < n; ++j)
            if (k[i * n + j] != k[n - 1] && !(off_diagonal && i == j)) return false;
    return true;
}

}  // namespace

void center_matrix(void* k, int64_t n, bool wide, Centering mode, const Kernels& kernels, Team& team) {
    const bool unbiased = mode == Centering::unbiased;
    const int64_t number = wide ? 8 : 4;
    auto row = [&](int64_t i) { return static_cast<char*>(k) + i * n * number; };
    auto zero_diagonal = [&](int64_t i) { std::fill_n(row(i) + i * number, number, '\0'); };

    constexpr int64_t kRows = 16;
    auto for_rows = [&](auto f) {
        team.for_each((n + kRows - 1) / kRows, [&](int64_t chunk) {
            for (int64_t i = chunk * kRows; i < std::min(n, (chunk + 1) * kRows); ++i) f(i);
        });
    };

    // What a centring takes away entirely leaves exactly zero, not the rounding errors of sums
    if (wide ? all_equal(static_cast<double*>(k), n, unbiased) : all_equal(static_cast<float*>(k), n, unbiased)) {
        std::memset(k, 0, static_cast<size_t>(n * n * number));
        return;
    }
    std::vector<double> shift(static_cast<size_t>(n));
    for_rows([&](int64_t i) {
        if (unbiased) zero_diagonal(i);
        shift[static_cast<size_t>(i)] = kernels.sum_of_row[wide](row(i), n);
    });
    double total = 0;
    for (double sum : shift) total += sum;
    // Both centrings are K_ij - (shift_i + shift_j): half of the overall term goes to either side.
    //   double:   row mean_i - mean / 2
    //   unbiased: r_i / (n - 2) - T / (2 (n - 1)(n - 2))     (Szekely & Rizzo 2014)
    const double count = static_cast<double>(n), rows = unbiased ? count - 2 : count;
    const double half = unbiased ? total / (2 * (count - 1) * (count - 2)) : total / (2 * count * count);
    for (double& s : shift) s = s / rows - half;
    for_rows([&](int64_t i) {
        kernels.shift_row[wide](row(i), n, shift[static_cast<size_t>(i)], shift.data());
        if (unbiased) zero_diagonal(i);
    });
}

void center(void* k, int64_t count, int64_t n, Dtype dtype, Centering mode, int threads, const char* isa) {
    const bool wide = dtype == Dtype::f64;
    Team team(threads);
    for (int64_t i = 0; i < count; ++i)
        center_matrix(static_cast<char*>(k) + i * n * n * (wide ? 8 : 4), n, wide, mode, kernels(isa), team);
}

}  // namespace dds
