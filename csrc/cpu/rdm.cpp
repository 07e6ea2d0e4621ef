// The order of events in one call: statistics, then slab by slab packing and tiles, then the passes over the matrix.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>

#include "cpu/centering.h"
#include "cpu/dispatch.h"
#include "cpu/kernels.h"
#include "cpu/median.h"
#include "cpu/pool.h"
#include "cpu/registry.h"
#include "dds/dds.h"
#include "norms/center.h"

namespace dds {
namespace {

constexpr int64_t kSlabBytes = 8 << 20;     // packed columns in flight: what a share of the last-level cache holds
constexpr int64_t kBlockBytes = 256 << 10;  // of features read for one block's statistics and packing: half a level-2 cache
constexpr int64_t kMostSlab = 2048;         // columns: one float32 sum over more would lose places
constexpr int64_t kLeastSlab = 1024;        // columns: the passes over the partial sums must not outweigh the sums
constexpr int64_t kRowsAtATime = 16;

// Columns summed in registers. The rounding errors of random addends average out; those of equal ones add up to 2^-25 times
// the number of addends, which the second depth keeps below 1e-6.
constexpr int64_t kDepth = 256;
constexpr int64_t kCarefulDepth = 32;

constexpr double kWorstFixedError = 1e-3;
constexpr double kLeastFloat = 0x1p-124;  // a float32 result whose largest entry is below this has lost places to underflow

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

// Where a thread packs panels. Up to a bound the memory is kept for its next call: fresh pages cost as much as filling them.
class Workspace {
public:
    explicit Workspace(int64_t bytes) : bytes_(bytes) {
        if (kept().bytes >= bytes) {
            bytes_ = kept().bytes;
            data_ = std::move(kept().data);
            kept().bytes = 0;
        } else {
            data_ = Buffer<char>(bytes);
        }
    }
    ~Workspace() {
        if (bytes_ <= kMostKept && bytes_ > kept().bytes) kept() = {std::move(data_), bytes_};
    }
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;
    char* get() const { return data_.get(); }

private:
    static constexpr int64_t kMostKept = 16 << 20;
    struct Kept {
        Buffer<char> data;
        int64_t bytes = 0;
    };
    static Kept& kept() {
        thread_local Kept kept;
        return kept;
    }

    Buffer<char> data_;
    int64_t bytes_;
};

int64_t round_up(int64_t x, int64_t to) { return (x + to - 1) / to * to; }

double keep_variance(double variance) { return variance; }

const MetricTraits& traits(const Product& product) { return metric_traits()[static_cast<size_t>(product.metric)]; }

// How a call is carried out.
enum class Mode {
    plain,
    fixed,  // int16 features
    wide,   // in float64, although the features may not be
};

class Computation {
public:
    Computation(const RdmParams& p, const Kernels& k, Team& team, Mode mode)
        : p_(p),
          k_(k),
          team_(team),
          mode_(mode),
          metric_(traits(p.products[0])),
          norm_(norm_traits()[static_cast<size_t>(p.norm)]) {
        c_.sets[0] = p.x;
        c_.sets[1] = p.y;
        c_.set_count = p.y.data ? 2 : 1;
        c_.wide = mode == Mode::wide;
        c_.out_stride = p.y.data ? p.y.rows : p.x.rows;
        c_.condensed = p.condensed;
        c_.check = p.check;
        for (int set = 0; set < c_.set_count; ++set) {
            const int64_t rows = c_.sets[set].rows;
            c_.panels[set] = (rows + kPanel - 1) / kPanel;
            c_.nonfinite[set] = (nonfinite_[set] = Buffer<uint8_t>(rows, 0)).get();
            c_.constant[set] = (constant_[set] = Buffer<uint8_t>(rows, 0)).get();
            c_.overflow[set] = (overflow_[set] = Buffer<uint8_t>(rows, 0)).get();
        }
        c_.padded_rows = kPanel * (c_.panels[0] + c_.panels[1]);
        for (const Product& product : p.products) {
            const Gamma kind = traits(product).gamma;
            const double gamma =
                kind == Gamma::inverse_features && product.gamma == 0 ? 1 / static_cast<double>(features()) : product.gamma;
            const bool raw = kind == Gamma::inverse_median && gamma == 0;
            outputs_.push_back({product.metric, gamma, raw, product.out});
        }
        c_.outputs = outputs_.data();
        c_.output_count = static_cast<int64_t>(outputs_.size());
    }

    // Returns false where another mode is needed: fixed point is too coarse, or float32's range too small. What is wrong
    // with the features is found in any mode.
    bool run(RdmStatus& status) {
        status = RdmStatus{};
        normalize();
        if (fixed() && !(fixed_unit() > 0)) return false;
        if (!sums(status)) return false;
        if (!wrong_features(status)) {
            const bool overflow = !flagged(0, overflow_).empty() || !flagged(1, overflow_).empty();
            if (overflow && !wide()) return false;
            if (!(overflow && c_.check && fail(status, RdmStatus::overflow, overflow_))) finish(status);
        }
        for (const Call::Output& output : outputs_) status.gammas.push_back(output.gamma);
        status.fast = fixed();
        return true;
    }

private:
    bool fixed() const { return mode_ == Mode::fixed; }
    bool wide() const { return c_.wide; }
    int64_t features() const { return p_.x.cols; }

    template <class F>
    void for_rows(int64_t n, F f) {
        team_.for_each((n + kRowsAtATime - 1) / kRowsAtATime, [&](int64_t chunk) {
            for (int64_t i = chunk * kRowsAtATime; i < std::min(n, (chunk + 1) * kRowsAtATime); ++i) f(i);
        });
    }

    // ---- statistics ----

    void normalize() {
        const bool differences = metric_.step != StepKind::dot;
        const bool row_stage = metric_.rows == Rows::centered_unit;
        const bool by_channel = norm_.over == Over::images_and_space;
        if (norm_.over == Over::group) group_stage();
        // Differences see the scales of columns and never their means, so that these may be put where z is small and keeps
        // its last places. Only squares of differences of features that nothing scales do without: z is exact there.
        const bool scaled = norm_.over != Over::nothing && norm_.scale != Center::scale;
        c_.moments = norm_.over == Over::images_and_space || (norm_.over == Over::images && (scaled || !differences));
        c_.locate = differences && (scaled || metric_.step == StepKind::absolute_difference);
        if (c_.moments || c_.locate) {
            c_.column_mean = (column_mean_ = Buffer<double>(features())).get();
            c_.column_scale = (column_scale_ = Buffer<double>(features(), 1.0)).get();
            c_.norm_scale = by_channel ? keep_variance : norm_.scale;
            c_.fuse_columns = !by_channel && !row_stage && !fixed();
            if (!c_.fuse_columns) {
                if (c_.moments) for_columns(k_.column_moments);
                if (by_channel) columns_to_channels();
                if (c_.locate) for_columns(k_.column_location);
            }
        }
        if (fixed()) {
            c_.column_peak = (column_peak_ = Buffer<double>(features())).get();
            for_columns(k_.column_peak);
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

    void for_columns(void (*kernel)(const Call&, int64_t, int64_t)) {
        team_.for_each((features() + kMaxWidth - 1) / kMaxWidth,
                       [&](int64_t block) { kernel(c_, block * kMaxWidth, std::min(features(), (block + 1) * kMaxWidth)); });
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

    // Column means and variances -> those of their channels.
    void columns_to_channels() {
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
                c_.column_mean[first + s * step] = mean;
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

    // ---- sums over the features ----

    bool sums(RdmStatus& status) {
        const int64_t number = wide() ? 8 : 4, packed_number = fixed() ? 2 : number;
        const int64_t d = features();
        c_.width = std::clamp<int64_t>(kBlockBytes / (number * c_.padded_rows) / 32 * 32, 32, kMaxWidth);
        int64_t slab =
            std::clamp(kSlabBytes / (packed_number * c_.padded_rows), kLeastSlab, kMostSlab) / c_.width * c_.width;
        slab = std::min(round_up(d, 2), slab);

        const Workspace packed(c_.padded_rows * slab * packed_number);
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
        c_.panel_columns = fixed() ? slab / 2 : slab;

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
            if (c_.last_slab && !within_range(totals.get(), status)) return false;
            c_.depth = careful(blocks) ? kCarefulDepth : kDepth;
            tiles();
        }
        return true;
    }

    // Whether only short sums keep float32's places, for some image: where neighbours are alike in a quarter of its columns,
    // as the background of sparse features is once it is shifted, for equal addends round the same way; and, of products,
    // where a few columns hold half of its length, for what comes after them in a sum is rounded to their places.
    bool careful(int64_t blocks) const {
        if (fixed()) return false;
        const auto columns = static_cast<double>(c_.slab_end - c_.slab_begin);
        const bool dot = metric_.step == StepKind::dot && columns > 2 * kCarefulDepth;
        for (int64_t i = 0; i < c_.padded_rows; ++i) {
            double unlike = 0, size = 0, peak = 0;
            for (int64_t b = 0; b < blocks; ++b) {
                const double* of_block = c_.partial + (b * c_.padded_rows + i) * kPartials;
                unlike += of_block[kUnlike];
                size += of_block[kMagnitude];
                peak = std::max(peak, of_block[kPeak]);
            }
            const bool used =
                i < c_.sets[0].rows || (i >= kPanel * c_.panels[0] && i < kPanel * c_.panels[0] + c_.sets[1].rows);
            if (used && (unlike < 0.75 * columns || (dot && peak > 0.5 * size))) return true;
        }
        return false;
    }

    void tiles() {
        if (c_.set_count == 2) {
            team_.for_each(c_.panels[0] * c_.panels[1],
                           [&](int64_t t) { k_.tile(c_, t % c_.panels[0], c_.panels[0] + t / c_.panels[0]); });
            return;
        }
        // Bands of rows of tiles: within a band, one column of tiles after another, so that the column's panel is read from
        // the level-2 cache for all of them. Many threads want more, and so smaller, tasks.
        const int64_t panels = c_.panels[0], band = panels < 64 ? 1 : 4, bands = (panels + band - 1) / band;
        // Band b has columns 0 .. its last row; tasks count them in order. The last panel, which may not be full, is always
        // one whose rows are broadcast: those come in smaller steps than the vectors.
        std::vector<int64_t> first(static_cast<size_t>(bands) + 1);
        for (int64_t b = 0; b < bands; ++b)
            first[static_cast<size_t>(b) + 1] = first[static_cast<size_t>(b)] + std::min(panels, (b + 1) * band);
        team_.for_each(first.back(), [&](int64_t task) {
            const int64_t b = std::upper_bound(first.begin(), first.end(), task) - first.begin() - 1;
            const int64_t j = task - first[static_cast<size_t>(b)];
            for (int64_t i = std::max(j, b * band); i < std::min(panels, (b + 1) * band); ++i) k_.tile(c_, i, j);
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
        if (fixed()) static_cast<int32_t*>(c_.row_sum)[i] = static_cast<int32_t>(slab[kSum]);
        else static_cast<T*>(c_.row_sum)[i] = static_cast<T>(slab[kSum]);
        static_cast<T*>(c_.coherent)[i] = static_cast<T>(slab[kCoherentSum]);
        const double size = total[kMagnitude];
        static_cast<T*>(c_.inverse_norm)[i] = static_cast<T>(size > 0 ? 1 / std::sqrt(size) : 0);
        static_cast<T*>(c_.near_)[i] = static_cast<T>(near_bound(size));
    }

    double near_bound(double size) const {
        // differences of what is stored are exact; not so the sums of maxima that stand in for those under L1
        const bool exact = !c_.group_mean[0] && !c_.column_mean && metric_.step != StepKind::absolute_difference;
        return fixed() || exact ? 0 : metric_.near * size;
    }

    // Whether the mode can represent what it computes with.
    bool within_range(const double* totals, RdmStatus& status) {
        if (metric_.step != StepKind::absolute_difference) {
            const auto unit = std::find_if(p_.products.begin(), p_.products.end(),
                                           [](const Product& q) { return traits(q).rows == Rows::unit; });
            const bool norms = unit != p_.products.end();
            for (int64_t i = 0; i < c_.padded_rows; ++i) {
                const double size = totals[i * kPartials + kMagnitude];  // |z|^2
                if (totals[i * kPartials + kSum] == 0) continue;         // |z|_1
                if (!wide() && !(size > 1e-20 && size < 1e30)) return false;
                if (norms && !(size > 1e-280 && size < 1e300)) {
                    const int64_t in_y = i - kPanel * c_.panels[0];
                    (in_y < 0 ? c_.overflow[0][i] : c_.overflow[1][in_y]) = 1;
                    status.product = static_cast<size_t>(unit - p_.products.begin());
                }
            }
        }
        if (fixed()) {
            // |z - its grid point| summed over a row bounds what the row adds to the error of a sum
            double residual = 0, magnitude = 0;
            for (int64_t i = 0; i < c_.padded_rows; ++i) {
                residual = std::max(residual, totals[i * kPartials + kCoherentSum]);
                magnitude += totals[i * kPartials + kMagnitude];
            }
            const double rows = static_cast<double>(p_.x.rows + (p_.y.data ? p_.y.rows : 0));
            return std::all_of(outputs_.begin(), outputs_.end(), [&](const Call::Output& output) {
                return 2 * residual * (output.gamma > 0 ? output.gamma : rows / magnitude) <= kWorstFixedError;
            });
        }
        return true;
    }

    // ---- after the sums ----

    using Flags = const Buffer<uint8_t> (&)[2];

    std::vector<int64_t> flagged(int set, Flags flags) const {
        std::vector<int64_t> rows;
        for (int64_t i = 0; i < (set < c_.set_count ? c_.sets[set].rows : 0); ++i)
            if (flags[set][i]) rows.push_back(i);
        return rows;
    }

    // Whether a row is flagged; then the status says which.
    bool fail(RdmStatus& status, RdmStatus::Code code, Flags flags) const {
        for (int set = 0; set < c_.set_count; ++set) {
            std::vector<int64_t> rows = flagged(set, flags);
            if (rows.empty()) continue;
            status.code = code;
            status.in_y = set == 1;
            status.rows = std::move(rows);
            return true;
        }
        return false;
    }

    bool wrong_features(RdmStatus& status) const {
        return c_.check &&
               (fail(status, RdmStatus::nonfinite_input, nonfinite_) || fail(status, RdmStatus::constant_row, constant_));
    }

    // What has to wait for the whole matrix: a gamma that the median decides, and the centring.
    void finish(RdmStatus& status) {
        const int64_t n = p_.x.rows;
        for (size_t i = 0; i < outputs_.size(); ++i) {
            Call::Output& output = outputs_[i];
            if (output.raw) {
                output.gamma = 2 / median(output.data, n, team_);  // 1 / (2 t^2 m) with t = 1/2
                if (output.gamma == HUGE_VAL) {
                    status.code = RdmStatus::zero_median;
                    status.product = i;
                    return;
                }
                for_rows(n, [&](int64_t row) { k_.finish_row(c_, output, row); });
            }
            const Centering centering = p_.products[i].centering;
            if (centering != Centering::none) center_matrix(output.data, n, wide(), centering, k_, team_);
        }
    }

    double median(const void* sums, int64_t n, Team& team) const {
        return wide() ? dds::median(UpperTriangle<double>{static_cast<const double*>(sums), n, n, p_.condensed}, team)
                      : dds::median(UpperTriangle<float>{static_cast<const float*>(sums), n, n, p_.condensed}, team);
    }

    const RdmParams& p_;
    const Kernels& k_;
    Team& team_;
    const Mode mode_;
    const MetricTraits& metric_;  // of the first product: what all share
    const NormTraits& norm_;
    Call c_{};
    std::vector<Call::Output> outputs_;
    Buffer<uint8_t> nonfinite_[2], constant_[2], overflow_[2];
    Buffer<double> group_mean_[2], group_scale_[2], column_mean_, column_scale_, column_peak_, row_mean_[2], row_scale_[2];
};

// Names the images most of whose pairs are not finite in a result, if any are: of a pair that overflows one image is the
// culprit, and it overflows with others too.
template <class T>
bool find_overflow(const RdmParams& p, size_t product, RdmStatus& status) {
    const int64_t n = p.x.rows, m = p.y.data ? p.y.rows : n;
    std::vector<int64_t> of_x(static_cast<size_t>(n)), of_y(static_cast<size_t>(m));
    const auto* out = static_cast<const T*>(p.products[product].out);
    for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = p.condensed ? i + 1 : 0; j < m; ++j) {
            if (std::isfinite(*out++)) continue;
            ++of_x[static_cast<size_t>(i)];
            ++of_y[static_cast<size_t>(j)];
        }
    }
    if (!p.y.data)
        for (int64_t i = 0; i < n; ++i) of_x[static_cast<size_t>(i)] += of_y[static_cast<size_t>(i)];
    const int64_t most_x = *std::max_element(of_x.begin(), of_x.end());
    const int64_t most_y = *std::max_element(of_y.begin(), of_y.end());
    if (most_x == 0) return false;
    status.code = RdmStatus::overflow;
    status.product = product;
    // as shares of the other set's images
    status.in_y = p.y.data && most_y * m > most_x * n;
    const auto& counts = status.in_y ? of_y : of_x;
    status.rows.clear();
    for (size_t i = 0; i < counts.size(); ++i)
        if (counts[i] == (status.in_y ? most_y : most_x)) status.rows.push_back(static_cast<int64_t>(i));
    return true;
}

// In float64; the result is float64 where it is asked for or the features are, else it is rounded to float32.
RdmStatus compute_wide(const RdmParams& p, const Kernels& k, Team& team) {
    RdmStatus status;
    if (p.wide || p.x.dtype == Dtype::f64) {
        Computation(p, k, team, Mode::wide).run(status);
        bool found = false;
        for (size_t i = 0; i < p.products.size() && status.code == RdmStatus::overflow && !found; ++i)
            found = find_overflow<double>(p, i, status);
        return status;
    }
    const int64_t n = p.x.rows;
    const int64_t count = p.condensed ? n * (n - 1) / 2 : n * (p.y.data ? p.y.rows : n);
    RdmParams params = p;
    std::vector<Buffer<double>> results;
    for (Product& product : params.products) product.out = results.emplace_back(count).get();
    Computation(params, k, team, Mode::wide).run(status);
    for (size_t i = 0; i < p.products.size() && status.code == RdmStatus::ok; ++i) {
        auto* out = static_cast<float*>(p.products[i].out);
        double largest = 0;
        for (int64_t j = 0; j < count; ++j) {
            out[j] = static_cast<float>(results[i][j]);
            largest = std::max(largest, std::fabs(results[i][j]));
        }
        if (!p.check || find_overflow<float>(p, i, status) || largest == 0 || largest > kLeastFloat) continue;
        status.code = RdmStatus::overflow;
        status.product = i;
        for (int64_t row = 0; row < n; ++row) status.rows.push_back(row);
    }
    return status;
}

RdmStatus compute(RdmParams p, const Kernels& k, Team& team) {
    RdmStatus status;
    for (size_t i = 0; i < p.products.size(); ++i) {
        Product& product = p.products[i];
        if (!p.y.data || traits(product).gamma != Gamma::inverse_median || product.gamma != 0) continue;
        // the kernel is x's own: its median, as any other statistic, is taken over x's images
        Buffer<double> triangle(p.x.rows * (p.x.rows - 1) / 2);
        RdmParams own = p;
        own.y = Features{};
        own.condensed = true;
        own.products = {product};
        own.products[0].out = triangle.get();
        status = compute(own, k, team);
        status.product = i;
        if (status.code != RdmStatus::ok) return status;
        product.gamma = status.gammas[0];
    }
    const bool narrow = p.x.dtype != Dtype::f64 && !p.wide;
    const bool fixed = p.fast && narrow && traits(p.products[0]).step == StepKind::absolute_difference;
    if (fixed && Computation(p, k, team, Mode::fixed).run(status)) return status;
    if (narrow && Computation(p, k, team, Mode::plain).run(status)) return status;
    return compute_wide(p, k, team);
}

}  // namespace

std::vector<RdmStatus> rdm(const std::vector<RdmParams>& params, int threads, const char* isa) {
    const Kernels& k = kernels(isa);
    const auto count = static_cast<int64_t>(params.size());
    int64_t steps = 0;
    for (const RdmParams& p : params) steps += p.x.rows * (p.y.data ? p.y.rows : p.x.rows) * p.x.cols;
    threads = worth_waking(threads, steps);
    std::vector<RdmStatus> statuses(params.size());
    Team team(threads);
    // as many matrices at a time as there are threads, each on one of them; what is left over gets all threads
    const int64_t together = count / std::max(threads, 1) * std::max(threads, 1);
    if (threads > 1) {
        team.for_each(together, [&](int64_t i) {
            Team alone(1);
            statuses[static_cast<size_t>(i)] = compute(params[static_cast<size_t>(i)], k, alone);
        });
    }
    for (int64_t i = threads > 1 ? together : 0; i < count; ++i)
        statuses[static_cast<size_t>(i)] = compute(params[static_cast<size_t>(i)], k, team);
    return statuses;
}

}  // namespace dds
