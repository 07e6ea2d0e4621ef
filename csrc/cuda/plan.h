// What a launch is told: its models, how their work is cut into items and shared out among the blocks, and where temporary
// results stand. Plain data, made on the host (planning.cpp), read by the kernels.
#pragma once

#include <cstdint>

#include "dds/dds.h"
#include "norms/common.h"

#ifdef __CUDACC__
#define DDS_PARAMETER __grid_constant__
#else
#define DDS_PARAMETER
#endif

namespace dds::cuda {

constexpr int kMaxModels = 32;  // of a launch
constexpr int kMaxOutputs = 4;  // matrices made of the same sums
constexpr int kSlab = 16;       // features of a step of the main loop
constexpr int kRecordsOfBlock = 2;
// Features of a unit of the pass over the rows. Rows of few features are not cut: it would take a barrier of the grid more.
constexpr int kLeastSegment = 512, kMostSegment = 4096, kNotCut = 1024;
constexpr int kRowsOfUnit = 4;
constexpr int kBins = 2048;  // of a digit of the selection of the median
constexpr int kDigitBits = 11;

// How a block computes. `rows`: of a group, at most; each thread forms the sums of micro x micro pairs.
template <class Number, int threads_, int per_sm_, int panels_, int rows_>
struct Shape {
    using T = Number;
    static constexpr int threads = threads_, per_sm = per_sm_;
    static constexpr bool tensor = false;  // sums are formed by tensor cores
    // Of one float32 sum: 128 equal addends, which all round alike, err by 3.8e-6 at worst.
    static constexpr int most_slabs = 8;
    static constexpr int panels = panels_;  // groups held in shared memory at a time
    static constexpr int rows = rows_;
    static constexpr int vector = 16 / sizeof(T);
    static constexpr int micro = 2 * vector;
    static constexpr int sums = micro * micro;  // of a thread
    static constexpr int half = (rows + 2 * micro - 1) / (2 * micro) * micro;
    static constexpr int stride = 2 * half + 4;  // of a feature's values in shared memory
    static constexpr int stage_quads = (panels * rows * kSlab / 4 + threads - 1) / threads;
    static constexpr int64_t panel_bytes = int64_t{2} * panels * kSlab * stride * sizeof(T);
    static constexpr int64_t stage_bytes = int64_t{stage_quads} * threads * 4 * sizeof(T);
    static constexpr int quad_rows = threads * 4 / kSlab;            // images that all threads bring a quad of
    static constexpr int places = stage_quads / panels * quad_rows;  // for images of a group, real or not
    static constexpr int64_t shared_bytes = panel_bytes + stage_bytes;
};

// All images in one group: every feature is read once, and only pairs i >= j take a thread.
using WholeShape = Shape<float, 512, 1, 1, 248>;
using PairShape = Shape<float, 256, 2, 2, 128>;
using DoubleShape = Shape<double, 256, 2, 2, 64>;

// Products of float32 by tensor cores (panels.h). 64 bytes an image and slab; a float32 sum takes an addition a slab: 32 of
// equal parts err by 1.9e-6 at worst.
struct TensorShape : PairShape {
    static constexpr bool tensor = true;
    static constexpr int most_slabs = 32;
    static constexpr int warp_rows = 32, warp_cols = 64;
    static constexpr int64_t panel_bytes = int64_t{2} * panels * rows * kSlab * 4;
    static constexpr int64_t shared_bytes = panel_bytes + stage_bytes;
};

struct Set {
    const void* data;
    int64_t rows, row_bytes, col_stride;  // bytes from row to row, numbers from column to column
    bool vectors;                         // four features at a time are contiguous and aligned
};

constexpr int kMostDigits = 6;

// What a launch finds out about a model; starts as zeros.
struct Findings {
    unsigned suspicious;    // a sum is not finite
    unsigned out_of_range;  // float32 cannot represent the sums
    unsigned zero_median;
    unsigned differs[kMaxOutputs];  // an entry from the others
    double gamma;                   // by the median
    // Selection of the median: its first digits, and how many entries are below all that begin so; then how many are not
    // above it, and the complement of the smallest above it.
    unsigned long long prefix[kMostDigits + 1], below[kMostDigits + 1], not_above, next;
};

struct Model {
    Set sets[2];
    int64_t d;
    int groups[2];      // of images
    int group_rows[2];  // images of a group; a multiple of the shape's micro but for the last group
    int segment;        // features of a unit of the pass over the rows
    // Items are pairs of groups: first those of two groups, then those of one group with itself. An item costs
    // `cross_cost` or `own_cost` for each of its `slabs`; the items of all models, laid end to end, are shared out evenly.
    int64_t slabs, cross_items, own_items, cross_cost, own_cost, cost_begin;

    // temporary results; null where they are not needed
    double *column_mean, *column_scale;         // (d)
    void* columns;                              // (3, d rounded up to slabs): mean, scale and rest in T
    double *group_mean[2], *group_scale[2];     // (rows, groups of channels)
    void* group_terms[2];                       // the same as Affine<T>
    int* group_of;                              // (d rounded up to slabs): of a column; null for one group
    double* row_parts[2];                       // (rows, segments, 2)
    double *row_mean[2], *row_scale[2];         // (rows): of centered_unit metrics; of unit ones only the scale, 1 / |z|
    void* row_terms[2];                         // (rows): the former as Affine<T>
    double* row_size[2];                        // (rows): |z|_1 under L1, else |z|^2
    float* row_power[2];                        // (rows): of two, for tensor cores
    double* row_sum[kMaxOutputs];               // (n): of the result, for a centring
    unsigned long long* histogram;              // (digits, kBins), zeros: of the selection of the median
    unsigned char *nonfinite[2], *constant[2];  // (rows)
    Findings* findings;

    void* out[kMaxOutputs];
    double gamma[kMaxOutputs];
};

struct Launch {
    int model_count, output_count;
    int metric[kMaxOutputs];
    bool raw[kMaxOutputs];  // the median decides gamma
    Centering centering[kMaxOutputs];
    Dtype dtype;  // of the features
    int set_count;
    bool condensed, check;

    int norm;  // index into norms()
    bool columns, by_channel, row_pass, unit_rows, centered_rows;
    bool near;                 // z is rounded: close pairs are summed again from the features
    int64_t channels, groups;  // groups of channels
    bool channels_last;

    int64_t cost;   // of all items; 0 where a matrix that is there already is only centred
    void* records;  // (blocks, 2, sums, threads) sums of items that a block forms part of
    unsigned* barrier;
    int digits;      // of the selection of the median
    int raw_output;  // the first whose gamma the median decides, or -1
    Model models[kMaxModels];
};

enum Phase : int {
    kStatistics,  // of columns, or of groups of channels
    kChannels,    // statistics of columns -> of channels
    kRowPass,     // statistics of rows, by segments
    kRowFold,     // where rows have several
    kTiles,
    kJoin,          // of items that several blocks formed parts of, the sum of these ...
    kFinishJoined,  // ... and the results
    kMedian,        // a digit each
    kMedianNext = kMedian + kMostDigits,
    kFinishRaw,  // what had to wait for the median
    kRowSums,
    kCenter,
    kScan,  // for NaN and infinity among the features, where a sum was not finite
    kPhases
};

// Whether a launch has work in a phase. Phases without work are left out, with their barriers.
DDS_ANYWHERE inline bool active(const Launch& b, int phase) {
    bool centered = false, folded = false;
    for (int o = 0; o < b.output_count; ++o) centered |= b.centering[o] != Centering::none;
    for (int i = 0; i < b.model_count; ++i) folded |= b.models[i].d > b.models[i].segment;
    if (phase == kStatistics) return b.columns || b.groups > 0;
    if (phase == kChannels) return b.by_channel;
    if (phase == kRowPass) return b.row_pass;
    if (phase == kRowFold) return b.row_pass && folded;
    if (phase == kTiles || phase == kJoin || phase == kFinishJoined) return b.cost > 0;
    if (phase >= kMedian && phase < kMedianNext) return b.raw_output >= 0 && phase - kMedian < b.digits;
    if (phase == kMedianNext || phase == kFinishRaw) return b.raw_output >= 0;
    if (phase == kRowSums || phase == kCenter) return centered;
    return phase == kScan && b.check;
}

}  // namespace dds::cuda
