// The passes over a finished matrix: the median that decides gamma, and the centring.
#pragma once

#include "cuda/finish.h"

namespace dds::cuda {

// Non-negative numbers as integers of the same order.
DDS_DEVICE unsigned long long order_key(float x) { return __float_as_uint(x); }
DDS_DEVICE unsigned long long order_key(double x) { return static_cast<unsigned long long>(__double_as_longlong(x)); }

template <class T>
DDS_DEVICE double of_key(unsigned long long key) {
    if constexpr (sizeof(T) == 4) return static_cast<double>(__uint_as_float(static_cast<uint32_t>(key)));
    else return __longlong_as_double(static_cast<long long>(key));
}

// The bits below a digit's.
template <class T>
DDS_DEVICE int digit_shift(int digit) {
    const int shift = 8 * static_cast<int>(sizeof(T)) - kDigitBits * (digit + 1);
    return shift > 0 ? shift : 0;
}

// Entries of the matrix in question, in any order: of the condensed one only those above the diagonal.
DDS_DEVICE int64_t entries(const Launch& b, const Model& m) {
    const int64_t n = m.sets[0].rows;
    return b.condensed ? n * (n - 1) / 2 : n * n;
}

// f(e, k[e]) for a lane's entries of a batch from `begin` on, all of which are on their way before the first is used: one at
// a time, the memory would be idle for most of the time.
constexpr int kAhead = 8, kBatch = 32 * kAhead;
template <class T, class F>
DDS_DEVICE void for_batch(const T* k, int64_t begin, int64_t end, F f) {
    T batch[kAhead];
    const int64_t first = begin + lane();
    DDS_UNROLL
    for (int a = 0; a < kAhead; ++a)
        if (first + 32 * a < end) batch[a] = k[first + 32 * a];
    DDS_UNROLL
    for (int a = 0; a < kAhead; ++a)
        if (first + 32 * a < end) f(first + 32 * a, batch[a]);
}

// The same for all entries, by the grid, and for a row of n, by a warp.
template <class T, class F>
DDS_DEVICE void for_entries(const T* k, int64_t count, Crew& crew, F f) {
    crew.warps((count + kBatch - 1) / kBatch, [&](int64_t unit) { for_batch(k, unit * kBatch, count, f); });
}
template <class T, class F>
DDS_DEVICE void for_row(const T* k, int64_t n, F f) {
    for (int64_t begin = 0; begin < n; begin += kBatch) for_batch(k, begin, n, f);
}

// Rank of the lower of the two middle ones among all n^2 entries, a zero diagonal included; as if a condensed matrix's
// entries stood there twice.
DDS_DEVICE unsigned long long middle(const Model& m) {
    return static_cast<unsigned long long>((m.sets[0].rows * m.sets[0].rows - 1) / 2);
}

// After the histogram of `digit`: the median's digits up to it, and how many entries are below those that begin so.
template <class T>
DDS_DEVICE void choose_digit(const Launch& b, const Model& m, int digit, unsigned long long& prefix,
                             unsigned long long& below) {
    auto* chosen = reinterpret_cast<unsigned long long*>(shared_memory()) + 32;  // beyond what sum_before uses
    const unsigned long long* histogram = m.histogram + digit * kBins;
    const int each = kBins / static_cast<int>(blockDim.x), first = static_cast<int>(threadIdx.x) * each;
    const unsigned long long times = b.condensed ? 2 : 1;
    const unsigned long long zeros = b.condensed ? static_cast<unsigned long long>(m.sets[0].rows) : 0;
    const unsigned long long before = m.findings->prefix[digit];
    auto count = [&](int bin) {  // the zero diagonal, where it is not stored, begins with zeros
        return times * histogram[bin] + (before == 0 && bin == 0 ? zeros : 0);
    };
    unsigned long long mine = 0;
    for (int bin = first; bin < first + each; ++bin) mine += count(bin);
    unsigned long long sum = m.findings->below[digit] + sum_before(mine);
    for (int bin = first; bin < first + each; ++bin) {
        const unsigned long long of_bin = count(bin);
        if (sum <= middle(m) && middle(m) < sum + of_bin) {
            chosen[0] = before | static_cast<unsigned long long>(bin) << digit_shift<T>(digit);
            chosen[1] = sum;
        }
        sum += of_bin;
    }
    __syncthreads();
    prefix = chosen[0];
    below = chosen[1];
}

// Counts the values of one digit among the entries that begin as the median does.
template <class T>
DDS_DEVICE void median_digit(const Launch& b, const Model& m, int digit, Crew& crew) {
    unsigned long long prefix = 0, below = 0;
    if (digit > 0) choose_digit<T>(b, m, digit - 1, prefix, below);
    if (blockIdx.x == 0 && threadIdx.x == 0) {
        m.findings->prefix[digit] = prefix;
        m.findings->below[digit] = below;
    }
    auto* counts = reinterpret_cast<unsigned*>(shared_memory());
    __syncthreads();  // the sums of choose_digit have been read
    for (int bin = static_cast<int>(threadIdx.x); bin < kBins; bin += static_cast<int>(blockDim.x)) counts[bin] = 0;
    __syncthreads();
    const T* k = static_cast<const T*>(m.out[b.raw_output]);
    const int shift = digit_shift<T>(digit), above = digit > 0 ? digit_shift<T>(digit - 1) : 63;
    for_entries(k, entries(b, m), crew, [&](int64_t, T entry) {
        const unsigned long long key = order_key(entry);
        if (key >> above == prefix >> above) atomicAdd(counts + (key >> shift & (kBins - 1)), 1u);
    });
    __syncthreads();
    for (int bin = static_cast<int>(threadIdx.x); bin < kBins; bin += static_cast<int>(blockDim.x))
        if (counts[bin] > 0) atomicAdd(m.histogram + digit * kBins + bin, static_cast<unsigned long long>(counts[bin]));
    __syncthreads();
}

// How many entries are not above the lower middle one, and the smallest that is.
template <class T>
DDS_DEVICE void median_next(const Launch& b, const Model& m, Crew& crew) {
    unsigned long long lower = 0, below = 0;
    choose_digit<T>(b, m, b.digits - 1, lower, below);
    if (blockIdx.x == 0 && threadIdx.x == 0) m.findings->prefix[b.digits] = lower;
    const T* k = static_cast<const T*>(m.out[b.raw_output]);
    unsigned long long not_above = 0, next = 0;
    for_entries(k, entries(b, m), crew, [&](int64_t, T entry) {
        const unsigned long long key = order_key(entry);
        if (key <= lower) ++not_above;
        else if (~key > next) next = ~key;
    });
    if (not_above > 0) atomicAdd(&m.findings->not_above, not_above);
    if (next > 0) atomicMax(&m.findings->next, next);
}

// The metric's finish where it had to wait for the median.
template <class Step, class T>
DDS_DEVICE void finish_raw(const Launch& b, const Model& m, Crew& crew) {
    const Findings& found = *m.findings;
    const auto n = static_cast<unsigned long long>(m.sets[0].rows);
    const unsigned long long not_above = b.condensed ? 2 * found.not_above + n : found.not_above, upper = n * n / 2;
    const unsigned long long lower_key = found.prefix[b.digits], upper_key = upper < not_above ? lower_key : ~found.next;
    const double median = (of_key<T>(lower_key) + of_key<T>(upper_key)) / 2, gamma = 2 / median;  // 1 / (2 t^2 m), t = 1/2
    if (blockIdx.x == 0 && threadIdx.x == 0) {
        m.findings->gamma = gamma;
        if (gamma == HUGE_VAL) m.findings->zero_median = 1;
    }
    for (int o = 0; o < b.output_count; ++o) {
        if (!b.raw[o]) continue;
        T* k = static_cast<T*>(m.out[o]);
        with_metric_of<Step>(b.metric[o], [&](auto metric) {
            Pair<Number<T>> of{Number<T>(static_cast<T>(gamma)), Number<T>(1), Number<T>(1)};
            for_entries(k, entries(b, m), crew,
                        [&](int64_t e, T sum) { k[e] = decltype(metric)::finish(Number<T>(sum), of).v; });
        });
    }
}

// Row sums of a result that is to be centred, each by a warp, and whether any entry differs from the others: what a centring
// takes away entirely leaves exactly zero, not the rounding errors of sums.
template <class T>
DDS_DEVICE void row_sums(const Launch& b, const Model& m, int output, Crew& crew) {
    const bool unbiased = b.centering[output] == Centering::unbiased;
    const T* k = static_cast<const T*>(m.out[output]);
    const int64_t n = m.sets[0].rows;
    crew.warps(n, [&](int64_t i) {
        double sum = 0;
        bool differs = false;
        const T one = k[n - 1];
        for_row(k + i * n, n, [&](int64_t j, T entry) {
            if (unbiased && i == j) return;
            sum += static_cast<double>(entry);
            differs |= entry != one;
        });
        sum = warp_sum(sum);
        if (lane() == 0) m.row_sum[output][i] = sum;
        if (differs) m.findings->differs[output] = 1;
    });
}

// K_ij - (shift_i + shift_j); half of the overall term goes to either side. Divisions by counts are multiplications by their
// inverses: float64 is slow on most GPUs, and a division takes some ten of its operations.
//   double:   shift_i = row mean_i - mean / 2
//   unbiased: shift_i = r_i / (n - 2) - T / (2 (n - 1)(n - 2)), the diagonal 0     (Szekely & Rizzo 2014)
template <class T>
DDS_DEVICE void center(const Launch& b, const Model& m, int output, Crew& crew) {
    const bool unbiased = b.centering[output] == Centering::unbiased;
    T* k = static_cast<T*>(m.out[output]);
    const int64_t n = m.sets[0].rows;
    const double* sums = m.row_sum[output];
    double total = 0;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) total += sums[i];
    total = block_sum(total);
    const auto count = static_cast<double>(n);
    const double per_row = 1 / (unbiased ? count - 2 : count);
    const double half = unbiased ? total / (2 * (count - 1) * (count - 2)) : total / (2 * count * count);
    const bool differs = m.findings->differs[output] != 0;
    auto shift_of = [&](int64_t i) { return ::fma(sums[i], per_row, -half); };
    crew.warps(n, [&](int64_t i) {
        const double shift = shift_of(i);
        for_row(k + i * n, n, [&](int64_t j, T entry) {
            // the two shifts are added first: in this order the result for (i, j) and (j, i) is the same number
            const T centered = static_cast<T>(static_cast<double>(entry) - (shift + shift_of(j)));
            k[i * n + j] = !differs || (unbiased && i == j) ? T(0) : centered;
        });
    });
}

// Marks the images that hold NaN or infinity, where a sum was not finite.
DDS_DEVICE void scan(const Launch& b, const Model& m, int set, Crew& crew) {
    if (!m.findings->suspicious) return;
    crew.warps(m.sets[set].rows, [&](int64_t row) {
        bool found = false;
        for (int64_t col = lane(); col < m.d; col += 32) found |= !is_finite(load<double>(b.dtype, m.sets[set], row, col));
        if (__any_sync(kWarp, found) && lane() == 0) m.nonfinite[set][row] = 1;
    });
}

}  // namespace dds::cuda
