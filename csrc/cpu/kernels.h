// What the instruction-set variants offer to the common code, and what they are told: one table of functions, one
// struct that describes a call.
#pragma once

#include "dds/dds.h"

namespace dds {

constexpr int kPanel = 48;      // rows of a packed panel: a multiple of every register tile's sides
constexpr int kMaxWidth = 256;  // columns that are packed at a time, at most
constexpr double kAlike =
    1.0 / 16;                  // relative difference of sizes below which rounding errors add up instead of averaging out
constexpr int kCoherent = 32;  // columns whose sum is formed before its size is taken (Call::coherent)

// Columns are numbered over all of x's features, rows within their set; panels run over x's rows, then over y's.
//
// The number a pair is formed of is
//   z = ((((x - group_mean) group_scale) - column_mean) column_scale - row_mean) row_scale
// where each of the three stages may be absent (null pointers).
struct Call {
    struct Output {
        int metric;
        double gamma;
        bool raw;  // leave the sums: the metric's finish comes later
        void* data;
    };
    Output* outputs;  // of metrics of one family
    int64_t output_count, out_stride;
    bool condensed;

    Features sets[2];
    int set_count;
    int64_t panels[2];    // of each set
    int64_t padded_rows;  // kPanel * (panels[0] + panels[1])

    // stage 1: means and scales of every image, (rows, group_stride) each: by group where the groups are runs of features,
    // by column of a period that is a multiple of the channels where the channels come last
    double* group_mean[2];
    double* group_scale[2];
    int64_t groups, group_stride;
    int64_t channels;
    bool channels_last;
    // stage 2: one mean and scale per column, (cols) each
    double* column_mean;
    double* column_scale;
    double* column_peak;           // (cols) the largest distance from column_mean, where wanted
    double (*norm_scale)(double);  // from a variance
    bool moments;                  // the normalisation asks for the columns' means and variances
    bool locate;                   // differences cancel the mean: column_mean is whatever keeps most images' z small
    bool fuse_columns;             // pack() computes the column statistics of its own block first
    // stage 3: one mean and scale per row, (rows) each
    double* row_mean[2];
    double* row_scale[2];

    // the slab of columns that is packed at present: panel p, column k, row r at
    // packed[(p * panel_columns + k - slab_begin) * kPanel + r]; in fixed point a 4-byte number holds two columns
    int64_t slab_begin, slab_end, panel_columns;
    int64_t width;  // columns of a block of pack()
    int64_t depth;  // columns summed in registers before the sums are put aside
    void* packed;
    double unit;      // fixed point: z is about unit * integer; 0 for floating point
    double* partial;  // (blocks, padded_rows, kPartials): what pack() adds up per row, see Partial

    // per padded row, in the type of the computation
    void* row_sum;       // of z over the slab
    void* coherent;      // sum over runs of kCoherent columns of |sum of z|, over the slab
    void* near_;         // pairs whose sum is below near_[i] + near_[j] are recomputed from the features
    void* inverse_norm;  // 1 / |z|

    bool wide;  // computes and results in float64, else float32
    bool first_slab, last_slab;

    bool check;
    uint8_t* nonfinite[2];  // per row: NaN or infinity among the features
    uint8_t* constant[2];   // per row: all z equal
    uint8_t* overflow[2];   // per row: a sum that is not finite
};

// Per row, sums of: z under L1, |z| else; sizes of coherent sums (fixed point: rounding residuals); |z| under L1, z^2 else;
// the number of columns whose |z| differs from the column's before; and the largest part of kMagnitude that a run of
// kCoherent columns has.
enum Partial { kSum, kCoherentSum, kMagnitude, kUnlike, kPeak, kPartials };

// out (n, d), n images x (n, d) against m images y (m, d) with weights w (n, m): see dds::signed_sums. All contiguous.
struct SignedSums {
    const void *x, *y, *w;
    void* out;
    int64_t m, d;
};

struct Kernels {
    const char* name;
    // statistics
    void (*group_moments)(const Call&, int set, int64_t row, double* scratch);
    void (*column_moments)(const Call&, int64_t begin, int64_t end);
    void (*column_location)(const Call&, int64_t begin, int64_t end);
    void (*column_peak)(const Call&, int64_t begin, int64_t end);
    void (*row_moments)(const Call&, int set, int64_t row);
    // block of columns -> packed panels
    void (*pack)(const Call&, int64_t block);
    // pair of panels -> sums, and on the last slab the finished matrix
    void (*tile)(const Call&, int64_t i_panel, int64_t j_panel);
    // finishes a row of an output of raw sums
    void (*finish_row)(const Call&, const Call::Output&, int64_t row);
    // by type, float32 and float64: the sum of n numbers; n numbers less (shift + shifts[j])
    double (*sum_of_row[2])(const void* row, int64_t n);
    void (*shift_row[2])(void* row, int64_t n, double shift, const double* shifts);
    // by type: images [begin, end) of the result, kPanel columns
    void (*signed_sums[2])(const SignedSums&, int64_t begin, int64_t end, int64_t column);
    // pair-elements that `steps` steps of the register-only loop form, for the benchmarks
    int64_t (*roof[2])(int metric, bool fixed, int64_t steps);
};

// Doubles of scratch that group_moments needs.
inline int64_t group_scratch(const Call& c) { return 3 * (c.group_stride + c.groups); }

}  // namespace dds
