// The CUDA kernels on the emulation, for the sanitizers to watch and for delete_barriers.py to break: every array is as
// large as it has to be, not more. The results are compared with the CPU engine's, roughly: tests/test_cuda_emulated.py
// holds them to what is promised.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cuda/launch.h"
#include "cuda/signed_sums.h"

namespace {

using dds::Centering;
using dds::Dtype;

int failures = 0;

template <class Info>
int index_of(const std::vector<Info>& all, const std::string& name) {
    for (size_t i = 0; i < all.size(); ++i)
        if (all[i].name == name) return static_cast<int>(i);
    std::fprintf(stderr, "FAILED: there is no %s\n", name.c_str());
    std::exit(1);
}

size_t bytes_of(Dtype dtype) { return dtype == Dtype::f64 ? 8 : dtype == Dtype::f32 ? 4 : 2; }

// Rows `gap` elements apart, the first `offset` elements from where memory begins, and nothing after the last feature.
struct Layout {
    int64_t gap = 0, offset = 0, col_stride = 1;
};

class Array {
public:
    Array(int64_t rows, int64_t cols, Dtype dtype, Layout layout) {
        const size_t each = bytes_of(dtype);
        features_ = {nullptr, rows, cols, cols * layout.col_stride + layout.gap, layout.col_stride, dtype};
        const int64_t count = layout.offset + (rows - 1) * features_.row_stride + (cols - 1) * features_.col_stride + 1;
        memory_ = std::make_unique<char[]>(static_cast<size_t>(count) * each);
        std::mt19937 generator(static_cast<unsigned>(rows * 1000 + cols));
        std::normal_distribution<double> numbers;
        for (int64_t i = 0; i < count; ++i) {
            char* to = memory_.get() + static_cast<size_t>(i) * each;
            const double x = numbers(generator);
            const auto f = static_cast<float>(x);
            const auto sign = static_cast<uint16_t>(x < 0 ? 0x8000 : 0);
            // numbers from 1 to 2
            const auto half = static_cast<uint16_t>(
                sign | (dtype == Dtype::f16 ? 0x3c00 | (generator() & 0x3ff) : 0x3f80 | (generator() & 0x7f)));
            if (dtype == Dtype::f64) std::memcpy(to, &x, each);
            else if (dtype == Dtype::f32) std::memcpy(to, &f, each);
            else std::memcpy(to, &half, each);
        }
        features_.data = memory_.get() + static_cast<size_t>(layout.offset) * each;
    }
    const dds::Features& features() const { return features_; }

private:
    std::unique_ptr<char[]> memory_;
    dds::Features features_;
};

// Runs launches in workspaces of their exact size.
void run(std::vector<dds::cuda::Plan> plans, size_t count, std::vector<dds::RdmStatus>& statuses,
         std::vector<bool>& in_float64, bool cooperative) {
    statuses.resize(count);
    in_float64.resize(count);
    for (dds::cuda::Plan& plan : plans) {
        const auto workspace = std::make_unique<char[]>(static_cast<size_t>(plan.bytes));
        std::memset(workspace.get(), 0x7f, static_cast<size_t>(plan.bytes));
        dds::cuda::place(plan, workspace.get());
        dds::cuda::run(plan, nullptr, cooperative);
        if (count > 0) dds::cuda::report(plan, workspace.get(), statuses, in_float64);
    }
}

template <class T>
bool alike(const std::vector<char>& a, const std::vector<char>& b) {
    const T *x = reinterpret_cast<const T*>(a.data()), *y = reinterpret_cast<const T*>(b.data());
    double largest = 0;
    for (size_t i = 0; i < b.size() / sizeof(T); ++i) largest = std::max(largest, std::fabs(static_cast<double>(y[i])));
    for (size_t i = 0; i < a.size() / sizeof(T); ++i)
        if (!(std::fabs(static_cast<double>(x[i]) - static_cast<double>(y[i])) <= 1e-4 * largest)) return false;  // or NaN
    return true;
}

struct Models {
    std::vector<dds::RdmParams> params;
    std::vector<std::vector<char>> outs;
};

// One matrix of every model by all metrics of a family.
Models models(const std::vector<dds::Features>& x, const dds::Features* y, dds::RdmParams like,
              const std::vector<std::string>& metrics, Centering centering) {
    Models made;
    made.outs.reserve(x.size() * metrics.size());
    for (const dds::Features& features : x) {
        dds::RdmParams p = like;
        p.x = features;
        if (y) p.y = *y;
        const int64_t n = features.rows, entries = p.condensed ? n * (n - 1) / 2 : n * (y ? y->rows : n);
        for (const std::string& metric : metrics) {
            made.outs.emplace_back(static_cast<size_t>(entries) * (features.dtype == Dtype::f64 ? 8 : 4));
            const double gamma = y && metric == "rbf" ? 0.1 : 0;
            p.products.push_back({index_of(dds::metrics(), metric), centering, gamma, made.outs.back().data()});
        }
        made.params.push_back(p);
    }
    return made;
}

void check(const std::string& what, const std::vector<dds::Features>& x, const dds::Features* y, const dds::RdmParams& like,
           const std::vector<std::string>& metrics, Centering centering, bool cooperative = true, bool tensor = false) {
    const Models ours = models(x, y, like, metrics, centering), engine = models(x, y, like, metrics, centering);
    std::vector<dds::RdmStatus> statuses;
    std::vector<bool> in_float64;
    dds::cuda::Device device = dds::cuda::device();
    if (tensor) device.tensor_from = 0;
    run(dds::cuda::plan(ours.params, device), x.size(), statuses, in_float64, cooperative);
    for (const dds::RdmStatus& status : dds::rdm(engine.params, 1, nullptr))
        if (status.code != dds::RdmStatus::ok) std::exit((std::fprintf(stderr, "FAILED: %s\n", what.c_str()), 1));
    for (size_t i = 0; i < ours.outs.size(); ++i) {
        const bool wide = x[0].dtype == Dtype::f64;
        const bool right = wide ? alike<double>(ours.outs[i], engine.outs[i]) : alike<float>(ours.outs[i], engine.outs[i]);
        const size_t of = i / metrics.size();
        if (right && statuses[of].code == dds::RdmStatus::ok && !in_float64[of]) continue;
        ++failures;
        std::fprintf(stderr, "FAILED: %s, result %d\n", what.c_str(), static_cast<int>(i));
    }
}

const std::vector<std::vector<std::string>> kFamilies = {
    {"linear", "cosine"}, {"pearson"}, {"rbf", "euclidean", "sqeuclidean"}, {"laplacian", "manhattan"}};

void check_results() {
    const Layout layouts[] = {{0, 0}, {2, 0}, {3, 1}, {2, 1}, {0, 0, 2}};
    int turn = 0;
    for (const auto& metrics : kFamilies) {
        for (const dds::NormInfo& norm : dds::norms()) {
            const Dtype dtype = static_cast<Dtype>(turn % 4);
            const Layout layout = layouts[turn % 5];
            ++turn;
            dds::RdmParams like;
            like.norm = index_of(dds::norms(), norm.name);
            like.channels = norm.needs_channels ? 6 : 0;
            like.channels_last = turn % 2 == 0;
            const std::string what = metrics[0] + " " + norm.name + " " + std::to_string(turn);
            const Array x(9, 18, dtype, layout), other(13, 30, dtype, layout), second(12, 18, dtype, layout);
            check(what, {x.features(), other.features()}, nullptr, like, metrics, Centering::unbiased, turn % 3 != 0);
            const dds::Features y = second.features();
            check(what + ", two sets", {x.features()}, &y, like, metrics, Centering::none);
            like.condensed = true;
            check(what + ", condensed", {x.features()}, nullptr, like, metrics, Centering::none);
        }
    }
    // several segments of a row; several groups of images, and more items of one slab than there are blocks
    for (const auto& metrics : kFamilies) {
        dds::RdmParams like;
        like.norm = index_of(dds::norms(), "zscore");
        const Array wide(5, 4099, Dtype::f32, {1, 0}), many(250, 3, Dtype::f32, {1, 0}), more(250, 5, Dtype::f32, {});
        check(metrics[0] + ", many features", {wide.features()}, nullptr, like, metrics, Centering::none);
        check(metrics[0] + ", many images", {many.features(), more.features()}, nullptr, like, metrics, Centering::double_);
    }
}

// Items that one block forms and that several do, of one group of images and of several, with whatever comes before the
// matrix products.
void check_tensor_cores() {
    for (const auto& metrics : {kFamilies[0], kFamilies[1]}) {
        int turn = 0;
        for (const char* norm : {"none", "zscore", "layer"}) {
            const Dtype dtype = static_cast<Dtype>(turn);
            dds::RdmParams like;
            like.norm = index_of(dds::norms(), norm);
            const std::string what = metrics[0] + " " + norm + " by tensor cores";
            const Layout layout = {turn, turn % 2};
            const Array small(9, 18, Dtype::f32, layout), large(150, 70, Dtype::f32, layout), second(40, 70, Dtype::f32, {});
            const Array narrow(21, 50, dtype, layout);
            const dds::Features y = second.features();
            check(what, {small.features(), large.features()}, nullptr, like, metrics, Centering::unbiased, turn != 1, true);
            check(what + ", narrow", {narrow.features()}, nullptr, like, metrics, Centering::none, true, true);
            check(what + ", two sets", {large.features()}, &y, like, metrics, Centering::none, true, true);
            ++turn;
        }
    }
}

// Tensor cores form products from a number of pair-elements on: 190 pairs of one set, 140 of two, of 30 features.
void check_share_of_tensor_cores() {
    const Array x(20, 30, Dtype::f32, {}), second(7, 30, Dtype::f32, {});
    const dds::Features y = second.features();
    for (bool two : {false, true}) {
        const Models made = models({x.features()}, two ? &y : nullptr, {}, {"linear"}, Centering::none);
        for (int64_t more : {0, 1}) {
            dds::cuda::Device device = dds::cuda::device();
            device.tensor_from = (two ? 140 : 190) * 30 + more;
            const bool formed = dds::cuda::plan(made.params, device)[0].shape == dds::cuda::ShapeKind::tensor;
            if (formed == (more == 0)) continue;
            ++failures;
            std::fprintf(stderr, "FAILED: the share of tensor cores, %d sets\n", two ? 2 : 1);
        }
    }
}

void check_what_is_wrong() {
    for (const auto& metrics : kFamilies) {
        Array x(9, 18, Dtype::f32, {2, 0});
        const dds::Features f = x.features();
        const_cast<float*>(static_cast<const float*>(f.data))[4 * f.row_stride + 17] = NAN;
        const Models made = models({f}, nullptr, {}, metrics, Centering::none);
        std::vector<dds::RdmStatus> statuses;
        std::vector<bool> in_float64;
        run(dds::cuda::plan(made.params, dds::cuda::device()), 1, statuses, in_float64, true);
        if (statuses[0].code == dds::RdmStatus::nonfinite_input && statuses[0].rows == std::vector<int64_t>{4}) continue;
        ++failures;
        std::fprintf(stderr, "FAILED: %s, a NaN is not reported\n", metrics[0].c_str());
    }
}

void check_centring() {
    for (Dtype dtype : {Dtype::f32, Dtype::f64}) {
        for (Centering mode : {Centering::double_, Centering::unbiased}) {
            const Array x(3 * 7, 7, dtype, {});
            std::vector<char> ours(3 * 7 * 7 * bytes_of(dtype)), engine;
            std::memcpy(ours.data(), x.features().data, ours.size());
            for (size_t k = 0; k < 3; ++k)  // symmetric
                for (size_t i = 0; i < 7; ++i)
                    for (size_t j = 0; j < i; ++j)
                        std::memcpy(ours.data() + (k * 49 + i * 7 + j) * bytes_of(dtype),
                                    ours.data() + (k * 49 + j * 7 + i) * bytes_of(dtype), bytes_of(dtype));
            engine = ours;
            dds::center(engine.data(), 3, 7, dtype, mode, 1, nullptr);
            std::vector<dds::RdmStatus> statuses;
            std::vector<bool> in_float64;
            run(dds::cuda::plan_centering(ours.data(), 3, 7, dtype, mode, dds::cuda::device()), 0, statuses, in_float64,
                true);
            if (dtype == Dtype::f64 ? alike<double>(ours, engine) : alike<float>(ours, engine)) continue;
            ++failures;
            std::fprintf(stderr, "FAILED: centring %d\n", static_cast<int>(mode));
        }
    }
}

// The signed sums against their definition, of whole numbers, so that nothing is rounded; many of them are ties. 15, 33 and
// 49 rows of y are one slab, three and four: the places that slabs take turns in are used again.
template <class T>
void check_signed_sums(Dtype dtype) {
    const int64_t n = 35, d = 130;
    for (int64_t m : {15, 33, 49}) {
        std::mt19937 generator(static_cast<unsigned>(m));
        const auto numbers = [&](int64_t count) {
            std::vector<T> made(static_cast<size_t>(count));
            for (T& x : made) x = static_cast<T>(generator() % 7) - 3;
            return made;
        };
        const std::vector<T> x = numbers(n * d), y = numbers(m * d), w = numbers(m * n);
        std::vector<T> out(n * d, NAN), exact(n * d);
        for (int64_t j = 0; j < m; ++j)
            for (int64_t i = 0; i < n; ++i) {
                const T weight = w[j * n + i];
                for (int64_t k = 0; k < d; ++k) {
                    const T a = x[i * d + k], b = y[j * d + k];
                    exact[i * d + k] += weight * static_cast<T>((a > b) - (a < b));
                }
            }
        dds::cuda::run_signed_sums({x.data(), y.data(), w.data(), out.data(), n, m, d}, dtype, nullptr);
        if (out == exact) continue;
        ++failures;
        std::fprintf(stderr, "FAILED: signed sums, type %d, %d rows\n", static_cast<int>(dtype), static_cast<int>(m));
    }
}

}  // namespace

int main() {
    check_results();
    check_tensor_cores();
    check_share_of_tensor_cores();
    check_what_is_wrong();
    check_centring();
    check_signed_sums<float>(Dtype::f32);
    check_signed_sums<double>(Dtype::f64);
    if (failures) std::fprintf(stderr, "%d checks failed\n", failures);
    return failures ? 1 : 0;
}
