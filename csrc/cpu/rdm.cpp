// The order of events in one call: statistics, then slab by slab packing and tiles, then the passes over the matrix.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <limits>
#include <memory>
#include <mutex>
#include <new>

#include "cpu/centering.h"
#include "cpu/dispatch.h"
#include "cpu/kernels.h"
#include "cpu/median.h"
#include "cpu/pool.h"
#include "cpu/registry.h"
#include "dds/dds.h"

namespace dds {
namespace {

constexpr int64_t kSlabBytes = 8 << 20;     // packed columns in flight: what a share of the last-level cache holds
constexpr int64_t kBlockBytes = 256 << 10;  // of features read for one block's statistics and packing: half a level-2 cache
constexpr int64_t kLeastSlab = 512;         // columns: the passes over the partial sums must not outweigh the sums
constexpr int64_t kMostFixed = 16384;       // columns of a slab whose sums of 2 * 32767 stay within int32
constexpr int64_t kRowsAtATime = 16;

// One of these errors in z relative to the sum is what the rounding of z to float32 (2^-24 of |z|) makes of a pair whose
// distance is this share of the rows' size, for a result good to 1e-5: 6e-8 / 1e-5, and twice its square for squares.
constexpr double kNearAbsolute = 6e-3;
constexpr double kNearSquared = 7.2e-5;
constexpr double kWorstFixedError = 1e-3;

struct Free {
    void operator()(void* p) const { std::free(p); }
};

template <class T>
class Buffer {
public:
    Buffer() = default;
    explicit Buffer(int64_t count) {
        const size_t bytes = (static_cast<size_t>(std::max<int64_t>(count, 1)) * sizeof(T) + 63) / 64 * 64;
        data_.reset(static_cast<T*>(std::aligned_alloc(64, bytes)));
        if (!data_) throw std::bad_alloc();
    }
    Buffer(int64_t count, T value) : Buffer(count) { std::fill_n(data_.get(), count, value); }
    T* get() const { return data_.get(); }
    T& operator[](int64_t i) const { return data_.get()[i]; }

private:
    std::unique_ptr<T, Free> data_;
};

int64_t round_up(int64_t x, int64_t to) { return (x + to - 1) / to * to; }

double keep_variance(double variance) { return variance; }
double no_scale(double) { return 1; }

// How a call is carried out where the plain way would not do.
struct Mode {
    bool fixed;      // int16 features
    bool unit_rows;  // scale every row to length 1 before forming products, which would leave float32's range
};

class Computation {
public:
    Computation(const RdmParams& p, const Kernels& k, Team& team, Mode mode)
        : p_(p),
          k_(k),
          team_(team),
          mode_(mode),
          metric_(metric_traits()[static_cast<size_t>(p.metric)]),
          norm_(norm_traits()[static_cast<size_t>(p.norm)]) {
        c_.sets[0] = p.x;
        c_.sets[1] = p.y;
        c_.set_count = p.y.data ? 2 : 1;
        c_.metric = p.metric;
        c_.gamma = p.gamma;
        c_.out = p.out;
        c_.out_stride = p.y.data ? p.y.rows : p.x.rows;
        c_.condensed = p.condensed;
        c_.check = p.check;
        for (int set = 0; set < c_.set_count; ++set) {
            const int64_t rows = c_.sets[set].rows;
            c_.panels[set] = (rows + kPanel - 1) / kPanel;
            c_.nonfinite[set] = (nonfinite_[set] = Buffer<uint8_t>(rows, 0)).get();
            c_.constant[set] = (constant_[set] = Buffer<uint8_t>(rows, 0)).get();
        }
        c_.overflow = (overflow_ = Buffer<uint8_t>(p.x.rows, 0)).get();
        c_.padded_rows = kPanel * (c_.panels[0] + c_.panels[1]);
    }

    // Returns false where another mode is needed; then `out` holds nothing yet.
    bool run(RdmStatus& status) {
        set_default_gamma();
        normalize();
        if (mode_.fixed && !(fixed_unit() > 0)) return false;
        if (!sums()) return false;
        if (check(status) && finish(status)) center(p_.out, p_.x.rows);
        status.gamma = c_.gamma;
        status.fast = mode_.fixed;
        return true;
    }

private:
    bool wide() const { return p_.x.dtype == Dtype::f64; }
    int64_t features() const { return p_.x.cols; }

    template <class F>
    void for_rows(int64_t n, F f) {
        team_.for_each((n + kRowsAtATime - 1) / kRowsAtATime, [&](int64_t chunk) {
            for (int64_t i = chunk * kRowsAtATime; i < std::min(n, (chunk + 1) * kRowsAtATime); ++i) f(i);
        });
    }

    void set_default_gamma() {
        if (metric_.gamma == Gamma::inverse_features && c_.gamma == 0) c_.gamma = 1 / static_cast<double>(features());
        c_.raw = metric_.gamma == Gamma::inverse_median && c_.gamma == 0;
    }

    // ---- statistics
    // --------------------------------------------------------------------------------------------------------

    void normalize() {
        const bool l1 = metric_.step == StepKind::absolute_difference;
        const bool row_stage = metric_.rows == Rows::centered_unit || mode_.unit_rows;
        if (norm_.over == Over::group) group_stage();
        // L1 does not see a shift of a column, but the size of the numbers its sums run over is the rounding error's
        const bool columns = norm_.over == Over::images || norm_.over == Over::images_and_space || l1;
        if (columns) {
            c_.column_mean = (column_mean_ = Buffer<double>(features())).get();
            c_.column_scale = (column_scale_ = Buffer<double>(features())).get();
            if (mode_.fixed) c_.column_peak = (column_peak_ = Buffer<double>(features())).get();
            const bool by_channel = norm_.over == Over::images_and_space;
            c_.norm_scale = by_channel ? keep_variance : norm_.over == Over::images ? norm_.scale : no_scale;
            c_.sample_columns = l1 && !by_channel && norm_.over != Over::images;
            c_.fuse_columns = !by_channel && !row_stage && !mode_.fixed;
            if (!c_.fuse_columns) {
                team_.for_each((features() + kMaxWidth - 1) / kMaxWidth, [&](int64_t block) {
                    k_.column_moments(c_, block * kMaxWidth, std::min(features(), (block + 1) * kMaxWidth));
                });
            }
            if (by_channel) columns_to_channels(l1);
        }
        if (row_stage) {
            for (int set = 0; set < c_.set_count; ++set) {
                const int64_t rows = c_.sets[set].rows;
                c_.row_mean[set] = (row_mean_[set] = Buffer<double>(rows)).get();
                c_.row_scale[set] = (row_scale_[set] = Buffer<double>(rows)).get();
                for_rows(rows, [&](int64_t i) { k_.row_moments(c_, set, i); });
            }
        }
    }

    void group_stage() {
        c_.groups = norm_.groups(p_.channels, p_.groups);
        c_.channels_last = p_.channels_last && c_.groups > 1;
        c_.channels = p_.channels;
        // at least as many columns as make a loop worth it
        c_.group_stride = c_.channels_last ? round_up(64, c_.channels) : c_.groups;
        c_.norm_scale = norm_.scale;
        for (int set = 0; set < c_.set_count; ++set) {
            const int64_t rows = c_.sets[set].rows;
            c_.group_mean[set] = (group_mean_[set] = Buffer<double>(rows * c_.group_stride)).get();
            c_.group_scale[set] = (group_scale_[set] = Buffer<double>(rows * c_.group_stride)).get();
            team_.for_each((rows + kRowsAtATime - 1) / kRowsAtATime, [&](int64_t chunk) {
                Buffer<double> scratch(group_scratch(c_));
                for (int64_t i = chunk * kRowsAtATime; i < std::min(rows, (chunk + 1) * kRowsAtATime); ++i)
                    k_.group_moments(c_, set, i, scratch.get());
            });
        }
    }

    // Column means and variances -> those of their channels. L1 keeps the column's own mean, which cancels.
    void columns_to_channels(bool keep_column_means) {
        const int64_t d = features(), channels = p_.channels, space = d / channels;
        for (int64_t channel = 0; channel < channels; ++channel) {
            const int64_t first = p_.channels_last ? channel : channel * space, step = p_.channels_last ? channels : 1;
            double mean = 0, variance = 0;
            for (int64_t s = 0; s < space; ++s) mean += c_.column_mean[first + s * step];
            mean /= static_cast<double>(space);
            for (int64_t s = 0; s < space; ++s) {
                const double off = c_.column_mean[first + s * step] - mean;
                variance += c_.column_scale[first + s * step] + off * off;
            }
            const double scale = norm_.scale(variance / static_cast<double>(space));
            for (int64_t s = 0; s < space; ++s) {
                c_.column_scale[first + s * step] = scale;
                if (!keep_column_means) c_.column_mean[first + s * step] = mean;
            }
        }
    }

    // One step of the fixed-point grid: the largest |z| becomes 32767. 0 where there is no such grid.
    double fixed_unit() {
        double peak = 0;
        for (int64_t k = 0; k < features(); ++k) peak = std::max(peak, c_.column_peak[k] * c_.column_scale[k]);
        c_.unit = std::isfinite(peak) ? peak / 32767 : 0;
        return c_.unit;
    }

    // ---- sums over the features
    // ----------------------------------------------------------------------------------------------

    bool sums() {
        const int64_t number = wide() ? 8 : 4, packed_number = mode_.fixed ? 2 : number;
        const int64_t d = features();
        c_.width = std::clamp<int64_t>(kBlockBytes / (number * c_.padded_rows) / 32 * 32, 32, kMaxWidth);
        int64_t slab = std::max<int64_t>(kSlabBytes / (packed_number * c_.padded_rows), kLeastSlab) / c_.width * c_.width;
        if (mode_.fixed) slab = std::min(slab, kMostFixed);
        slab = std::min(round_up(d, 2), slab);

        Buffer<char> packed(c_.padded_rows * slab * packed_number);
        Buffer<double> partial(round_up(slab, c_.width) / c_.width * c_.padded_rows * kPartials);
        Buffer<char> row_sum(c_.padded_rows * number), coherent(c_.padded_rows * number), near(c_.padded_rows * number);
        Buffer<char> inverse_norm(c_.padded_rows * number);
        Buffer<double> totals(c_.padded_rows * kPartials, 0.0);
        c_.packed = packed.get();
        c_.partial = partial.get();
        c_.row_sum = row_sum.get();
        c_.coherent = coherent.get();
        c_.near_ = near.get();
        c_.inverse_norm = inverse_norm.get();
        c_.panel_columns = mode_.fixed ? slab / 2 : slab;

        for (int64_t begin = 0; begin < d; begin += slab) {
            c_.slab_begin = begin;
            c_.slab_end = std::min(d, begin + slab);
            c_.first_slab = begin == 0;
            c_.last_slab = c_.slab_end == d;
            const int64_t blocks = (c_.slab_end - begin + c_.width - 1) / c_.width;
            team_.for_each(blocks, [&](int64_t block) { k_.pack(c_, block); });
            for_rows(c_.padded_rows, [&](int64_t i) {
                wide() ? reduce<double>(blocks, i, totals.get()) : reduce<float>(blocks, i, totals.get());
            });
            if (c_.last_slab && !within_range(totals.get())) return false;
            tiles();
        }
        return true;
    }

    void tiles() {
        if (c_.set_count == 2) {
            team_.for_each(c_.panels[0] * c_.panels[1],
                           [&](int64_t t) { k_.tile(c_, t % c_.panels[0], c_.panels[0] + t / c_.panels[0]); });
            return;
        }
        team_.for_each(c_.panels[0] * (c_.panels[0] + 1) / 2, [&](int64_t t) {
            // t counts along the rows of the lower triangle: i (i + 1) / 2 + j, j <= i. The last panel, which may not be
            // full, is then always the one whose rows are broadcast: those come in smaller steps than the vectors.
            auto i = static_cast<int64_t>((std::sqrt(8.0 * static_cast<double>(t) + 1) - 1) / 2);
            while (i * (i + 1) / 2 > t) --i;
            while ((i + 1) * (i + 2) / 2 <= t) ++i;
            k_.tile(c_, i, t - i * (i + 1) / 2);
        });
    }

    // What the blocks of a slab found out about one row, in the order of the blocks.
    template <class T>
    void reduce(int64_t blocks, int64_t i, double* totals) {
        double slab[kPartials] = {};
        for (int64_t b = 0; b < blocks; ++b)
            for (int q = 0; q < kPartials; ++q) slab[q] += c_.partial[(b * c_.padded_rows + i) * kPartials + q];
        double* total = totals + i * kPartials;
        for (int q = 0; q < kPartials; ++q) total[q] += slab[q];
        if (mode_.fixed) static_cast<int32_t*>(c_.row_sum)[i] = static_cast<int32_t>(slab[kSum]);
        else static_cast<T*>(c_.row_sum)[i] = static_cast<T>(slab[kSum]);
        static_cast<T*>(c_.coherent)[i] = static_cast<T>(slab[kCoherentSum]);
        const double size = total[kMagnitude];
        static_cast<T*>(c_.inverse_norm)[i] = static_cast<T>(size > 0 ? 1 / std::sqrt(size) : 0);
        static_cast<T*>(c_.near_)[i] = static_cast<T>(near_bound(size));
    }

    double near_bound(double size) const {
        if (wide() || mode_.fixed) return 0;
        if (metric_.step == StepKind::absolute_difference) return kNearAbsolute * size;
        // squares of differences that small leave float32's range
        constexpr double kTiny = 1e-25;
        const bool exact = !c_.group_mean[0] && !c_.column_mean;  // z is the stored number itself
        return std::max(exact ? 0 : kNearSquared * size, size > 0 && size < kTiny ? kTiny : 0);
    }

    // Whether the mode can represent what it computes with.
    bool within_range(const double* totals) const {
        if (metric_.rows == Rows::unit && !mode_.unit_rows) {
            const double limit = wide() ? 1e200 : 1e20;
            for (int64_t i = 0; i < c_.padded_rows; ++i) {
                const double size = totals[i * kPartials + kMagnitude];
                if (size > limit || (size > 0 && size < 1 / limit)) return false;
            }
        }
        if (mode_.fixed) {
            // |z - its grid point| summed over a row bounds what the row adds to the error of a sum
            double residual = 0, magnitude = 0;
            for (int64_t i = 0; i < c_.padded_rows; ++i) {
                residual = std::max(residual, totals[i * kPartials + kCoherentSum]);
                magnitude += totals[i * kPartials + kMagnitude];
            }
            const double rows = static_cast<double>(p_.x.rows + (p_.y.data ? p_.y.rows : 0));
            const double scale = metric_.gamma == Gamma::unused ? rows / magnitude : c_.gamma;
            return 2 * residual * scale <= kWorstFixedError;
        }
        return true;
    }

    // ---- after the sums
    // --------------------------------------------------------------------------------------------------------

    static std::vector<int64_t> flagged(const Buffer<uint8_t>& flags, int64_t n) {
        std::vector<int64_t> rows;
        for (int64_t i = 0; i < n; ++i)
            if (flags[i]) rows.push_back(i);
        return rows;
    }

    bool fail(RdmStatus& status, RdmStatus::Code code, bool in_y, std::vector<int64_t> rows) {
        if (rows.empty()) return false;
        status.code = code;
        status.in_y = in_y;
        status.rows = std::move(rows);
        return true;
    }

    bool check(RdmStatus& status) {
        if (!c_.check) return true;
        for (int set = 0; set < c_.set_count; ++set)
            if (fail(status, RdmStatus::nonfinite_input, set == 1, flagged(nonfinite_[set], c_.sets[set].rows)))
                return false;
        if (metric_.rows == Rows::centered_unit) {
            for (int set = 0; set < c_.set_count; ++set)
                if (fail(status, RdmStatus::constant_row, set == 1, flagged(constant_[set], c_.sets[set].rows)))
                    return false;
        }
        return !fail(status, RdmStatus::overflow, false, flagged(overflow_, p_.x.rows));
    }

    // The metric's finish where it had to wait for all sums: the median decides gamma.
    bool finish(RdmStatus& status) {
        if (!c_.raw) return true;
        const int64_t n = p_.x.rows;
        const double m = wide() ? median(UpperTriangle<double>{static_cast<double*>(p_.out), n, n, p_.condensed}, team_)
                                : median(UpperTriangle<float>{static_cast<float*>(p_.out), n, n, p_.condensed}, team_);
        if (!(m > 0)) {
            status.code = RdmStatus::zero_median;
            return false;
        }
        c_.gamma = 2 / m;  // 1 / (2 t^2 m) with t = 1/2
        for_rows(n, [&](int64_t i) { k_.finish_row(c_, i); });
        return true;
    }

    void center(void* k, int64_t n) {
        if (p_.centering != Centering::none) center_matrix(k, n, wide(), p_.centering, k_, team_);
    }

    const RdmParams& p_;
    const Kernels& k_;
    Team& team_;
    const Mode mode_;
    const MetricTraits& metric_;
    const NormTraits& norm_;
    Call c_{};
    Buffer<uint8_t> nonfinite_[2], constant_[2], overflow_;
    Buffer<double> group_mean_[2], group_scale_[2], column_mean_, column_scale_, column_peak_, row_mean_[2], row_scale_[2];
};

RdmStatus compute(const RdmParams& p, const Kernels& k, Team& team) {
    RdmStatus status;
    const MetricTraits& metric = metric_traits()[static_cast<size_t>(p.metric)];
    RdmParams params = p;
    if (p.y.data && metric.gamma == Gamma::inverse_median && p.gamma == 0) {
        // the kernel is x's own: its median, as any other statistic, is taken over x's images
        Buffer<double> own(p.x.rows * (p.x.rows - 1) / 2);
        params.y = Features{};
        params.condensed = true;
        params.out = own.get();
        status = compute(params, k, team);
        if (status.code != RdmStatus::ok) return status;
        params = p;
        params.gamma = status.gamma;
    }
    const bool fixed = p.fast && metric.step == StepKind::absolute_difference && p.x.dtype != Dtype::f64;
    if (fixed && Computation(params, k, team, {true, false}).run(status)) return status;
    if (Computation(params, k, team, {false, false}).run(status)) return status;
    Computation(params, k, team, {false, true}).run(status);
    return status;
}

}  // namespace

std::vector<RdmStatus> rdm(const std::vector<RdmParams>& params, int threads, const char* isa) {
    const Kernels& k = kernels(isa);
    const auto count = static_cast<int64_t>(params.size());
    std::vector<RdmStatus> statuses(params.size());
    Team team(threads);
    // as many matrices at a time as there are threads, each on one of them; what is left over gets all threads
    const int64_t together = count / std::max(threads, 1) * std::max(threads, 1);
    std::mutex mutex;
    std::exception_ptr failure;
    if (threads > 1) {
        team.for_each(together, [&](int64_t i) {
            try {
                Team alone(1);
                statuses[static_cast<size_t>(i)] = compute(params[static_cast<size_t>(i)], k, alone);
            } catch (...) {
                std::lock_guard<std::mutex> lock(mutex);
                failure = std::current_exception();
            }
        });
    }
    if (failure) std::rethrow_exception(failure);
    for (int64_t i = threads > 1 ? together : 0; i < count; ++i)
        statuses[static_cast<size_t>(i)] = compute(params[static_cast<size_t>(i)], k, team);
    return statuses;
}

}  // namespace dds
