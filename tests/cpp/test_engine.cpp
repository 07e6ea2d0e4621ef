// The C++ interface against float64 written out, for every instruction set this machine has: what the Python tests cannot
// run under an emulator or a sanitizer. Exits non-zero and names each case that failed.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "dds/dds.h"

namespace {

int failures = 0;

void expect(bool ok, const std::string& what) {
    if (ok) return;
    ++failures;
    std::fprintf(stderr, "FAILED: %s\n", what.c_str());
}

using Matrix = std::vector<double>;  // (rows, cols), row by row

int index_of(const char* name) {
    const auto& all = dds::metrics();
    for (size_t i = 0; i < all.size(); ++i)
        if (!std::strcmp(all[i].name, name)) return static_cast<int>(i);
    return -1;
}

int norm_of(const char* name) {
    const auto& all = dds::norms();
    for (size_t i = 0; i < all.size(); ++i)
        if (!std::strcmp(all[i].name, name)) return static_cast<int>(i);
    return -1;
}

Matrix random_features(int64_t rows, int64_t cols, double offset, unsigned seed) {
    std::mt19937 generator(seed);
    std::normal_distribution<double> normal(0, 1);
    Matrix x(static_cast<size_t>(rows * cols));
    for (double& e : x) e = static_cast<double>(static_cast<float>(offset + normal(generator)));
    return x;
}

Matrix zscore(Matrix x, int64_t rows, int64_t cols) {
    for (int64_t k = 0; k < cols; ++k) {
        double mean = 0, variance = 0;
        for (int64_t i = 0; i < rows; ++i) mean += x[i * cols + k] / static_cast<double>(rows);
        for (int64_t i = 0; i < rows; ++i) variance += std::pow(x[i * cols + k] - mean, 2) / static_cast<double>(rows);
        for (int64_t i = 0; i < rows; ++i) x[i * cols + k] = (x[i * cols + k] - mean) / std::sqrt(variance);
    }
    return x;
}

double pair(const std::string& f, const double* x, const double* y, int64_t d, double gamma) {
    double dot = 0, absolute = 0, squared = 0, xx = 0, yy = 0, mean_x = 0, mean_y = 0;
    if (f == "pearson") {
        mean_x = std::accumulate(x, x + d, 0.0) / static_cast<double>(d);
        mean_y = std::accumulate(y, y + d, 0.0) / static_cast<double>(d);
    }
    for (int64_t k = 0; k < d; ++k) {
        const double a = x[k] - mean_x, b = y[k] - mean_y;
        dot += a * b;
        xx += a * a;
        yy += b * b;
        absolute += std::fabs(a - b);
        squared += (a - b) * (a - b);
    }
    if (f == "linear") return dot;
    if (f == "laplacian") return std::exp(-gamma * absolute);
    if (f == "rbf") return std::exp(-gamma * squared);
    if (f == "euclidean") return std::sqrt(squared);
    if (f == "manhattan") return absolute;
    if (f == "sqeuclidean") return squared;
    return 1 - dot / std::sqrt(xx * yy);
}

template <class T>
dds::Features features(const std::vector<T>& x, int64_t rows, int64_t cols) {
    return {x.data(), rows, cols, cols, 1, sizeof(T) == 8 ? dds::Dtype::f64 : dds::Dtype::f32};
}

template <class T>
void check_matrix(const char* isa, const std::string& f, int64_t n, int64_t d, bool normalized, bool two_sets, int threads) {
    const std::string what = std::string(isa) + " " + f + " n=" + std::to_string(n) + " d=" + std::to_string(d) +
                             (normalized ? " zscore" : "") + (two_sets ? " two sets" : "") +
                             (sizeof(T) == 8 ? " f64" : " f32");
    const int64_t m = two_sets ? n / 2 + 1 : n;
    const Matrix wide = random_features(n, d, 3, 1), wide_y = random_features(m, d, 3, 2);
    const std::vector<T> x(wide.begin(), wide.end()), y(wide_y.begin(), wide_y.end());
    std::vector<T> out(static_cast<size_t>(n * m), T(-7));
    dds::RdmParams p;
    p.products.resize(1);
    p.x = features(x, n, d);
    if (two_sets) p.y = features(y, m, d);
    p.products[0].metric = index_of(f.c_str());
    p.norm = norm_of(normalized ? "zscore" : "none");
    p.products[0].gamma = f == "rbf" || f == "laplacian" ? 0.7 / static_cast<double>(d) : 0;
    p.products[0].out = out.data();
    const auto status = dds::rdm({p}, threads, isa);
    expect(status[0].code == dds::RdmStatus::ok, what + ": status");
    const Matrix z = normalized ? zscore(wide, n, d) : wide;
    double worst = 0, scale = 1;
    for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = 0; j < m; ++j) {
            const double want = pair(f, &z[i * d], two_sets ? &wide_y[j * d] : &z[j * d], d, p.products[0].gamma);
            scale = std::max(scale, std::fabs(want));
            worst = std::max(worst, std::fabs(want - static_cast<double>(out[i * m + j])));
            if (!two_sets) expect(out[i * m + j] == out[j * m + i], what + ": symmetric");
        }
        if (!two_sets && f != "linear")
            expect(out[i * m + i] == (f == "laplacian" || f == "rbf" ? 1 : 0), what + ": diagonal");
    }
    // section "accuracy" of the design: 2e-6 of the largest entry in float32
    expect(worst <= (sizeof(T) == 8 ? 1e-13 : 2e-6) * scale, what + ": error " + std::to_string(worst / scale));
}

void check_close_rows(const char* isa) {
    // rows of large common offset that differ in few last places: formulas that subtract large sums lose them
    const int64_t n = 20, d = 700;
    Matrix wide = random_features(n, d, 1000, 3);
    std::vector<float> x(wide.begin(), wide.end());
    for (int64_t k = 0; k < d; ++k) x[d + k] = k % 7 ? x[k] : std::nextafter(x[k], 2000.0f);
    for (int64_t k = 0; k < d; ++k) x[2 * d + k] = x[k];
    std::vector<float> out(n * n);
    for (const char* f : {"manhattan", "euclidean", "sqeuclidean"}) {
        dds::RdmParams p;
        p.products.resize(1);
        p.x = features(x, n, d);
        p.products[0].metric = index_of(f);
        p.products[0].out = out.data();
        dds::rdm({p}, 1, isa);
        Matrix z(x.begin(), x.end());
        for (int64_t j = 1; j < 4; ++j) {
            const double want = pair(f, &z[0], &z[j * d], d, 0);
            expect(std::fabs(want - static_cast<double>(out[j])) <= 1e-5 * want,
                   std::string(isa) + " close rows under " + f);
        }
    }
}

void check_centering(const char* isa) {
    const int64_t n = 57;
    for (bool unbiased : {false, true}) {
        std::vector<double> k(n * n);
        const Matrix x = random_features(n, 5, 0, 4);
        for (int64_t i = 0; i < n; ++i)
            for (int64_t j = 0; j < n; ++j) k[i * n + j] = pair("linear", &x[i * 5], &x[j * 5], 5, 0);
        dds::center(k.data(), 1, n, dds::Dtype::f64, unbiased ? dds::Centering::unbiased : dds::Centering::double_, 2, isa);
        for (int64_t i = 0; i < n; ++i) {
            const double sum = std::accumulate(&k[i * n], &k[i * n] + n, 0.0);
            expect(std::fabs(sum) < 1e-11, std::string(isa) + " rows sum to zero after centring");
            if (unbiased) expect(k[i * n + i] == 0, "zero diagonal");
        }
    }
}

void check_fast(const char* isa) {
    const int64_t n = 70, d = 1100;
    const Matrix wide = random_features(n, d, 0, 5);
    const std::vector<float> x(wide.begin(), wide.end());
    std::vector<float> out(n * n), again(n * n);
    dds::RdmParams p;
    p.products.resize(1);
    p.x = features(x, n, d);
    p.products[0].metric = index_of("laplacian");
    p.fast = true;
    p.products[0].out = out.data();
    expect(dds::rdm({p}, 1, isa)[0].fast, std::string(isa) + ": the fixed-point path is taken");
    double worst = 0;
    for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < n; ++j)
            worst = std::max(worst, std::fabs(static_cast<double>(out[i * n + j]) -
                                              pair("laplacian", &wide[i * d], &wide[j * d], d, 1 / static_cast<double>(d))));
    expect(worst < 5e-5, std::string(isa) + ": fast error " + std::to_string(worst));
    p.products[0].out = again.data();
    dds::rdm({p}, 3, isa);
    expect(out == again, std::string(isa) + ": fast is the same for any number of threads");
}

void check_failures(const char* isa) {
    const int64_t n = 60, d = 33;
    Matrix wide = random_features(n, d, 0, 6);
    std::vector<float> x(wide.begin(), wide.end()), out(n * n);
    x[50 * d + 32] = NAN;
    x[7 * d] = INFINITY;
    for (bool fast : {false, true}) {
        dds::RdmParams p;
        p.products.resize(1);
        p.x = features(x, n, d);
        p.products[0].metric = index_of("laplacian");
        p.fast = fast;
        p.products[0].out = out.data();
        const auto status = dds::rdm({p}, 2, isa)[0];
        expect(status.code == dds::RdmStatus::nonfinite_input && status.rows == std::vector<int64_t>({7, 50}),
               std::string(isa) + ": NaN and infinity are found");
    }
    x.assign(x.size(), 1);
    dds::RdmParams p;
    p.products.resize(1);
    p.x = features(x, n, d);
    p.products[0].metric = index_of("rbf");
    p.products[0].out = out.data();
    expect(dds::rdm({p}, 1, isa)[0].code == dds::RdmStatus::zero_median, "the median of equal rows is zero");
    p.products[0].metric = index_of("pearson");
    expect(dds::rdm({p}, 1, isa)[0].code == dds::RdmStatus::constant_row, "constant rows have no correlation");
    std::fill(x.begin(), x.end(), 3e38f);
    x[0] = -3e38f;
    p.products[0].metric = index_of("sqeuclidean");
    expect(dds::rdm({p}, 1, isa)[0].code == dds::RdmStatus::overflow, "overflow is found");
}

void check_threads(const char* isa) {
    const int64_t n = 150, d = 3000;
    const Matrix wide = random_features(n, d, 1, 7);
    const std::vector<float> x(wide.begin(), wide.end());
    auto run = [&](int threads) {
        std::vector<float> out(n * n);
        dds::RdmParams p;
        p.products.resize(1);
        p.x = features(x, n, d);
        p.products[0].metric = index_of("laplacian");
        p.norm = norm_of("zscore");
        p.products[0].centering = dds::Centering::unbiased;
        p.products[0].out = out.data();
        dds::rdm({p}, threads, isa);
        return out;
    };
    const auto alone = run(1);
    for (int threads : {2, 3, 8}) expect(run(threads) == alone, std::string(isa) + ": independent of the number of threads");
    std::vector<std::vector<float>> results(6);
    std::vector<std::thread> callers;
    for (auto& result : results) callers.emplace_back([&] { result = run(3); });
    for (auto& caller : callers) caller.join();
    for (const auto& result : results) expect(result == alone, std::string(isa) + ": concurrent calls");
}

// On quarters, of which every fourth difference is a tie, against the signs written out.
template <class T>
void check_signed_sums(const char* isa) {
    std::mt19937 generator(5);
    std::normal_distribution<double> normal(0, 1);
    std::uniform_int_distribution<int> quarters(-2, 1);
    const dds::Dtype dtype = sizeof(T) == 8 ? dds::Dtype::f64 : dds::Dtype::f32;
    for (const auto& [n, m, d] : {std::array<int64_t, 3>{1, 1, 1}, {5, 300, 17}, {50, 261, 49}, {3, 257, 97}}) {
        std::vector<T> x(static_cast<size_t>(n * d)), y(static_cast<size_t>(m * d)), w(static_cast<size_t>(n * m)), out = x;
        for (T& e : x) e = static_cast<T>(quarters(generator)) / 4;
        for (T& e : y) e = static_cast<T>(quarters(generator)) / 4;
        for (T& e : w) e = static_cast<T>(normal(generator));
        dds::signed_sums(x.data(), n, y.data(), m, d, w.data(), dtype, out.data(), 1, isa);
        bool close = true;
        for (int64_t i = 0; i < n; ++i) {
            for (int64_t k = 0; k < d; ++k) {
                double sum = 0, size = 0;
                for (int64_t j = 0; j < m; ++j) {
                    const double weight = w[i * m + j], a = x[i * d + k], b = y[j * d + k];
                    sum += weight * ((a > b) - (a < b));
                    size += std::fabs(weight);
                }
                // m roundings of numbers of which none exceeds the sum of the weights' sizes
                close &=
                    std::fabs(out[i * d + k] - sum) <= static_cast<double>(m) * std::numeric_limits<T>::epsilon() * size;
            }
        }
        expect(close, std::string(isa) + ": signed sums of " + std::to_string(n) + " x " + std::to_string(m) + " pairs");
        std::vector<T> shared(out.size());
        dds::signed_sums(x.data(), n, y.data(), m, d, w.data(), dtype, shared.data(), 3, isa);
        expect(shared == out, std::string(isa) + ": signed sums do not depend on the number of threads");
    }
}

void check_comparison() {
    const std::vector<double> values{3, 1, 2, 2, -0.0, 0.0};
    std::vector<double> ranks(6);
    dds::rank(values.data(), 1, 6, dds::Dtype::f64, ranks.data(), 1);
    expect(ranks == std::vector<double>({6, 3, 4.5, 4.5, 1.5, 1.5}), "average ranks");
    const std::vector<double> a{1, 2, 3, 4}, b{1, 3, 2, 4};
    double tau = 0;
    dds::kendall(a.data(), 1, b.data(), 1, 4, &tau, 1);
    expect(std::fabs(tau - 4.0 / 6) < 1e-15, "Kendall's tau of one swap in six pairs");
    const std::vector<float> k{0, 1, 2, 1, 0, 3, 2, 3, 0};
    std::vector<float> triangle(3);
    dds::condense(k.data(), 1, 3, dds::Dtype::f32, triangle.data(), 1);
    expect(triangle == std::vector<float>({1, 2, 3}), "upper triangle");
}

}  // namespace

// `quick`: fewer sizes, for emulators.
int main(int argc, char** argv) {
    const bool quick = argc > 1 && std::string(argv[1]) == "quick";
    const std::vector<int64_t> images = quick ? std::vector<int64_t>{5, 49} : std::vector<int64_t>{2, 5, 17, 49, 100};
    const std::vector<int64_t> dimensions = quick ? std::vector<int64_t>{1, 259} : std::vector<int64_t>{1, 31, 259, 600};
    for (const char* isa : dds::available_isas()) {
        std::printf("%s\n", isa);
        for (const auto& metric : dds::metrics()) {
            for (int64_t n : images) {
                for (int64_t d : dimensions) {
                    if (d == 1 && std::string(metric.name) == "pearson") continue;  // constant rows
                    check_matrix<float>(isa, metric.name, n, d, false, false, 1);
                    check_matrix<double>(isa, metric.name, n, d, false, false, 1);
                }
                if (n > 2) check_matrix<float>(isa, metric.name, n, 259, true, false, 2);
                check_matrix<float>(isa, metric.name, n, 70, false, true, 2);
            }
        }
        // several slabs of columns
        const int64_t many = quick ? 5000 : 30000;
        check_matrix<float>(isa, "laplacian", 100, many, false, false, 2);
        check_matrix<float>(isa, "cosine", 100, many, false, false, 2);
        check_close_rows(isa);
        check_centering(isa);
        check_fast(isa);
        check_failures(isa);
        check_threads(isa);
        check_signed_sums<float>(isa);
        check_signed_sums<double>(isa);
    }
    check_comparison();
    if (failures) std::fprintf(stderr, "%d checks failed\n", failures);
    return failures ? 1 : 0;
}
