// The C++ interface of dds_ext: plain parameter structs and functions. No torch, Python or CUDA types cross this line.
// All shapes and strides are in elements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace dds {

enum class Dtype : int { f16, bf16, f32, f64 };
enum class Centering : int { none, double_, unbiased };

// (rows, cols) features of one set of images. Any strides, any alignment; never written to.
struct Features {
    const void* data = nullptr;
    int64_t rows = 0;
    int64_t cols = 0;
    int64_t row_stride = 0;
    int64_t col_stride = 0;
    Dtype dtype = Dtype::f32;
};

// What is made of the pairs' sums.
struct Product {
    int metric = 0;  // index into metrics()
    Centering centering = Centering::none;
    double gamma = 0;     // 0: the metric's default
    void* out = nullptr;  // (n, n), (n, m) or (n (n - 1) / 2); C-contiguous; float64 where x is f64 or `wide` is set
};

// The pairwise matrices of one or two sets of images. All products come from the same sums: their metrics are of one family.
struct RdmParams {
    Features x;    // (n, d)
    Features y;    // (m, d), or data == nullptr for the self-matrix of x
    int norm = 0;  // index into norms()
    std::vector<Product> products;
    int64_t channels = 0;  // C; 0 where no normalisation needs it
    bool channels_last = false;
    int64_t groups = 2;
    bool fast = false;       // fixed-point L1 where its error bound stays below 1e-3
    bool wide = false;       // compute in float64, and write a float64 result, whatever the features' type
    bool condensed = false;  // the strict upper triangle only, row by row
    bool check = true;       // look for non-finite input and results
};

// What went wrong, and for which rows. `ok` leaves the products filled; anything else leaves them unspecified.
struct RdmStatus {
    enum Code : int { ok, nonfinite_input, constant_row, overflow, zero_median };
    Code code = ok;
    bool in_y = false;           // the rows are y's
    size_t product = 0;          // the one that fails
    std::vector<int64_t> rows;   // ascending
    std::vector<double> gammas;  // that were used, by product
    bool fast = false;           // whether the fixed-point path was taken
};

struct MetricInfo {
    const char* name;
    int gamma;   // what its default is: 0 there is none, 1 is 1 / d, 2 is 2 / the median
    int family;  // metrics of one family are formed of the same sums
    int step;    // what the sums are of: 0 products, 1 squared and 2 absolute differences
    int rows;    // what is done to an image first: 0 nothing, 1 its length becomes 1, 2 so it does, once its mean is 0
};

// z = (x - mean) / sqrt(variance + epsilon), or z = x - mean where it is not scaled; 0 where the root is 0.
struct NormInfo {
    const char* name;
    bool needs_channels;
    int over;  // what the statistics are taken over: 0 nothing, 1 images, 2 images and space, 3 groups of an image's
               // features
    bool scaled;
    double epsilon;
    int64_t (*groups)(int64_t channels, int64_t groups);  // of an image
};

const std::vector<MetricInfo>& metrics();
const std::vector<NormInfo>& norms();

// Instruction sets compiled in that this machine can run, slowest first.
std::vector<const char*> available_isas();

// Fills the products of every params[i]. The results do not depend on `threads`. `isa`: a name of available_isas(), or
// nullptr for the best.
std::vector<RdmStatus> rdm(const std::vector<RdmParams>& params, int threads, const char* isa);

// Centres `count` contiguous (n, n) matrices in place. The result of a symmetric matrix is exactly symmetric.
void center(void* k, int64_t count, int64_t n, Dtype dtype, Centering mode, int threads, const char* isa);

// Average ranks, from 1, of each of `count` rows of `length` values (f32 or f64, no NaN); ties share the mean of the ranks
// they take up, as in scipy.stats.rankdata. ranks: (count, length).
void rank(const void* values, int64_t count, int64_t length, Dtype dtype, double* ranks, int threads);

// Kendall's tau-b of every row of a (s, length) with every row of b (t, length), given as ranks from rank(); out: (s, t).
// No row may be constant.
void kendall(const double* a, int64_t s, const double* b, int64_t t, int64_t length, double* out, int threads);

// The strict upper triangles, row by row, of `count` contiguous (n, n) matrices; out: (count, n (n - 1) / 2).
void condense(const void* k, int64_t count, int64_t n, Dtype dtype, void* out, int threads);

// The gradient of sum_ij w_ij |x_i - y_j|_1 by x: out_ik = sum_j w_ij sign(x_ik - y_jk), the sign of a tie being 0.
// x: (n, d), y: (m, d), neither with NaN; w: (n, m); out: (n, d). Contiguous, and all f32 or all f64. The result does not
// depend on `threads`.
void signed_sums(const void* x, int64_t n, const void* y, int64_t m, int64_t d, const void* w, Dtype dtype, void* out,
                 int threads, const char* isa);

// Pair-elements per second of one thread's register-only loop over the inner step of a metric: the roof that the
// benchmarks quote fractions of. `fast`: of the fixed-point step.
double roof(int metric, Dtype dtype, bool fast, const char* isa);

}  // namespace dds
