// The kernels, written once over the vector types of one SIMD header. Included by each instruction set's translation
// unit after that header; nothing here may use standard-library templates, whose instances would be shared between units.
#pragma once

#include "cpu/kernels.h"
#include "cpu/read.h"
#include "cpu/signed_sums.h"
#include "metrics/registry.h"

DDS_NAMESPACE_BEGIN

struct FixedMaximum {
    static DDS_INLINE VecI16 add(VecI16 sum, VecI16 a, VecI16 b, VecI16 ones) { return add_maxima(sum, a, b, ones); }
};

template <class V>
constexpr int features_per_lane = 1;
template <>
constexpr int features_per_lane<VecI16> = 2;

template <class V>
DDS_INLINE V one() {
    return V(1);
}
template <>
DDS_INLINE VecI16 one<VecI16>() {
    return VecI16(0x00010001);
}

// Calls f(Step()) for the step of a call's metrics.
template <class F>
DDS_INLINE void with_step(const Call& c, F f) {
    with_metric(c.outputs[0].metric, [&](auto metric) { f(typename decltype(metric)::Step()); });
}

// ---- register tile ----

// sums (V::rows, vectors * W; row stride kPanel) = or += over `depth` columns of a's V::rows rows against b's vectors.
// The sum of the depth starts from zero and is added as a whole, so that rounding errors grow with depth, not with d.
template <class Step, class V, int vectors>
void register_tile(const typename V::T* a, const typename V::T* b, int64_t depth, typename V::T* sums, bool accumulate) {
    constexpr int W = V::W;
    V sum[V::rows][vectors];
    // unrolled, or the compiler moves the sums through the stack
#pragma GCC unroll 16
    for (int r = 0; r < V::rows; ++r)
#pragma GCC unroll 16
        for (int v = 0; v < vectors; ++v) sum[r][v] = V(0);
    V ones = one<V>();
    opaque(ones);  // or a compiler sees that the multiplication is by one and moves it to the adders
#pragma GCC unroll 1
    for (int64_t k = 0; k < depth; ++k, a += kPanel, b += kPanel) {
        V y[vectors];
#pragma GCC unroll 16
        for (int v = 0; v < vectors; ++v) y[v] = V::load(b + v * W);
#pragma GCC unroll 16
        for (int r = 0; r < V::rows; ++r) {
            V x = V::broadcast(a + r);
#pragma GCC unroll 16
            for (int v = 0; v < vectors; ++v) sum[r][v] = Step::add(sum[r][v], x, y[v], ones);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < V::rows; ++r)
#pragma GCC unroll 16
        for (int v = 0; v < vectors; ++v) {
            typename V::T* s = sums + r * kPanel + v * W;
            (accumulate ? V::load(s) + sum[r][v] : sum[r][v]).store(s);
        }
}

// One pair of panels.
struct Tile {
    int64_t i_panel, j_panel;
    int rows, cols;  // in use
    bool diagonal;   // only columns <= row are wanted
};

// Sums of columns [k, k + depth) of the packed slab for rows [begin, end) of the tile, into sums (kPanel, kPanel).
template <class Step, class V>
void block_sums(const Call& c, const Tile& t, int begin, int end, int64_t k, int64_t depth, typename V::T* sums,
                bool accumulate) {
    using T = typename V::T;
    constexpr int W = V::W, N = V::vectors;
    const T* a = static_cast<const T*>(c.packed) + (t.i_panel * c.panel_columns + k) * kPanel;
    const T* b = static_cast<const T*>(c.packed) + (t.j_panel * c.panel_columns + k) * kPanel;
    for (int col = 0; col < t.cols; col += N * W) {
        for (int row = begin; row < end; row += V::rows) {
            const int last = t.diagonal && row + V::rows < t.cols ? row + V::rows : t.cols;  // column wanted
            const int vectors = (last - col + W - 1) / W;
            T* s = sums + row * kPanel + col;
            switch (vectors < N ? vectors : N) {
                case 4: register_tile<Step, V, (N < 4 ? N : 4)>(a + row, b + col, depth, s, accumulate); break;
                case 3: register_tile<Step, V, (N < 3 ? N : 3)>(a + row, b + col, depth, s, accumulate); break;
                case 2: register_tile<Step, V, 2>(a + row, b + col, depth, s, accumulate); break;
                case 1: register_tile<Step, V, 1>(a + row, b + col, depth, s, accumulate); break;
                default: break;  // wholly above the diagonal
            }
        }
    }
}

// Sums of the slab for rows [begin, end) of the tile. Where the blocks are short, those of every kGroup columns are added up
// first, so that no sum has many addends on any level.
template <class Step, class V>
void tile_sums(const Call& c, const Tile& t, int begin, int end, typename V::T* sums) {
    constexpr int64_t kGroup = 256;
    const int64_t columns = c.slab_end - c.slab_begin, total = c.unit > 0 ? (columns + 1) / 2 : columns;
    alignas(64) typename V::T group[kPanel * kPanel];
    for (int64_t g = 0; g < total; g += kGroup) {
        const int64_t g_end = g + kGroup < total ? g + kGroup : total;
        if (c.depth >= kGroup) {
            block_sums<Step, V>(c, t, begin, end, g, g_end - g, sums, g > 0);
            continue;
        }
        for (int64_t k = g; k < g_end; k += c.depth)
            block_sums<Step, V>(c, t, begin, end, k, g_end - k < c.depth ? g_end - k : c.depth, group, k > g);
        for (int row = begin; row < end; ++row)
            for (int col = 0; col < t.cols; col += V::W) {
                const V sum = V::load(group + row * kPanel + col);
                (g > 0 ? V::load(sums + row * kPanel + col) + sum : sum).store(sums + row * kPanel + col);
            }
    }
}

// ---- from the sums of maxima to distances ----

// The maxima's partial sums are about as large as s plus the coherent sums of both rows, and so is their rounding error;
// where those outweigh s itself by this factor the differences are summed instead. At 1.5 the error that is let through
// is at most that of the direct sum times 2.5.
constexpr double kCancellation = 1.5;

template <class T>
void distances_from_maxima(const Call& c, const Tile& t, T* sums) {
    using V = typename VecOf<T>::V;
    const T* row_sum = static_cast<const T*>(c.row_sum);
    const T* coherent = static_cast<const T*>(c.coherent);
    const T *si = row_sum + t.i_panel * kPanel, *sj = row_sum + t.j_panel * kPanel;
    const T *ci = coherent + t.i_panel * kPanel, *cj = coherent + t.j_panel * kPanel;
    for (int begin = 0; begin < t.rows; begin += V::rows) {
        bool cancelled = false;
        int end = begin + V::rows < t.rows ? begin + V::rows : t.rows;
        for (int r = begin; r < end; ++r) {
            T* s = sums + r * kPanel;
            const int cols = t.diagonal ? r : t.cols;  // the diagonal is not a pair: it must not count as cancelled
            for (int j = 0; j < cols; j += V::W) {
                V sum = V::load(s + j), of_i(si[r]), of_j = V::load(sj + j);
                sum = sum + sum - (of_i + of_j);
                sum.store(s + j);
                if (j + V::W <= cols || !t.diagonal) {
                    cancelled |= any_less(V(static_cast<T>(kCancellation)) * sum, V(ci[r]) + V::load(cj + j));
                } else {
                    for (int m = j; m < cols; ++m) cancelled |= static_cast<T>(kCancellation) * s[m] < ci[r] + cj[m];
                }
            }
        }
        if (cancelled) tile_sums<AbsoluteDifference, V>(c, t, begin, begin + V::rows, sums);
    }
}

void distances_from_fixed(const Call& c, const Tile& t, const int32_t* maxima, float* sums) {
    const float unit = static_cast<float>(c.unit);
    // integers, which may exceed float's 2^24: added as such
    const int32_t* row_sum = static_cast<const int32_t*>(c.row_sum);
    for (int r = 0; r < t.rows; ++r) {
        const int32_t si = row_sum[t.i_panel * kPanel + r];
        const int32_t* sj = row_sum + t.j_panel * kPanel;
        for (int j = 0; j < (t.diagonal ? r + 1 : t.cols); ++j)
            sums[r * kPanel + j] = unit * static_cast<float>(2 * maxima[r * kPanel + j] - si - sj[j]);
    }
}

// ---- finishing ----

// The pair's sum in float64, straight from the features: the differences are formed before anything is rounded.
template <class Step>
double exact_sum(const Call& c, int64_t i, int j_set, int64_t j) {
    double a[kMaxWidth], b[kMaxWidth], sum = 0;
    for (int64_t k = 0; k < c.sets[0].cols; k += kMaxWidth) {
        const int64_t end = k + kMaxWidth < c.sets[0].cols ? k + kMaxWidth : c.sets[0].cols;
        read_stages(c, 0, i, k, end, 1, a);
        read_stages(c, j_set, j, k, end, 1, b);
        for (int64_t m = 0; m < end - k; ++m) a[m] -= b[m];
        if (c.column_scale)
            for (int64_t m = 0; m < end - k; ++m) a[m] *= c.column_scale[k + m];
#pragma omp simd reduction(+ : sum)
        for (int64_t m = 0; m < end - k; ++m) sum += is_l1<Step> ? __builtin_fabs(a[m]) : a[m] * a[m];
    }
    return sum;
}

// Pairs so close that the rounding of their z shows are summed again.
template <class Step, class T>
void recompute_near(const Call& c, const Tile& t, int r, int cols, T* s) {
    using V = typename VecOf<T>::V;
    const T* near = static_cast<const T*>(c.near_);
    const T *near_i = near + t.i_panel * kPanel, *near_j = near + t.j_panel * kPanel;
    bool any = false;
    for (int j = 0; j < cols; j += V::W) any |= any_less(V::load(s + j), V(near_i[r]) + V::load(near_j + j));
    if (!any) return;
    const int j_set = t.j_panel >= c.panels[0] ? 1 : 0;
    const int64_t i = t.i_panel * kPanel + r, j0 = (t.j_panel - (j_set ? c.panels[0] : 0)) * kPanel;
    for (int j = 0; j < cols; ++j) {
        if (!(s[j] < near_i[r] + near_j[j]) || (t.diagonal && j == r)) continue;
        s[j] = static_cast<T>(exact_sum<Step>(c, i, j_set, j0 + j));
    }
}

// Where entry (i, j) of a result stands, and for a matrix of one set (j, i) as well.
template <class T>
struct Output {
    T* data;
    int64_t n, stride;
    bool condensed;

    Output(const Call& c, void* to)
        : data(static_cast<T*>(to)), n(c.sets[0].rows), stride(c.out_stride), condensed(c.condensed) {}
    // row(i)[j], j > i where condensed
    DDS_INLINE T* row(int64_t i) const { return condensed ? data + i * (2 * n - i - 1) / 2 - i - 1 : data + i * stride; }
};

// Where a tile stands in a result. For a matrix of one set the tile's rows are images of a later panel than its columns, or
// of the same.
template <class T>
struct Place {
    Output<T> out;
    int64_t i0, j0;
    bool self;

    Place(const Call& c, const Tile& t, void* to) : out(c, to), i0(t.i_panel * kPanel), self(c.set_count == 1) {
        j0 = (t.j_panel - (self ? 0 : c.panels[0])) * kPanel;
    }
    void add_to(const Tile& t, T* sums) const {
        for (int r = 0; r < t.rows; ++r) {
            T* s = sums + r * kPanel;
            const T* earlier = out.row(i0 + r) + j0;
            if (out.condensed) {
                for (int j = 0; j < (t.diagonal ? r : t.cols); ++j) s[j] += out.row(j0 + j)[i0 + r];
            } else {
                for (int j = 0; j < (t.diagonal ? r + 1 : t.cols); ++j) s[j] += earlier[j];
            }
        }
    }
    void write(const Tile& t, const T* sums, bool mirrored) const {
        for (int r = 0; r < t.rows && !out.condensed; ++r) {
            T* row = out.row(i0 + r) + j0;
            for (int j = 0; j < (t.diagonal ? r + 1 : t.cols); ++j) row[j] = sums[r * kPanel + j];
        }
        for (int j = 0; j < t.cols && mirrored; ++j) {
            T* row = out.row(j0 + j) + i0;
            for (int r = t.diagonal ? j + 1 : 0; r < t.rows; ++r) row[r] = sums[r * kPanel + j];
        }
    }
};

template <class Metric, class T>
void finish_into(const Call& c, const Tile& t, const Call::Output& output, const T* sums, T* finished) {
    using V = typename VecOf<T>::V;
    const T* inverse_norm = static_cast<const T*>(c.inverse_norm);
    const T *norm_i = inverse_norm + t.i_panel * kPanel, *norm_j = inverse_norm + t.j_panel * kPanel;
    Pair<V> pair;
    pair.gamma = V(static_cast<T>(output.gamma));
    for (int r = 0; r < t.rows; ++r) {
        const T* from = sums + r * kPanel;
        T* to = finished + r * kPanel;
        pair.inverse_norm_i = V(norm_i[r]);
        for (int j = 0; j < (t.diagonal ? r + 1 : t.cols); j += V::W) {
            pair.inverse_norm_j = V::load(norm_j + j);
            Metric::finish(V::load(from + j), pair).store(to + j);
        }
        if (t.diagonal && Metric::diagonal != Diagonal::computed) to[r] = Metric::diagonal == Diagonal::one ? 1 : 0;
    }
}

// Adds what earlier slabs left in the first output; after the last slab makes every output of the sums.
template <class Step, class T>
void finish_tile(const Call& c, const Tile& t, T* sums) {
    const Place<T> store(c, t, c.outputs[0].data);
    if (!c.first_slab) store.add_to(t, sums);
    if (!c.last_slab) {
        store.write(t, sums, c.condensed);
        return;
    }
    for (int r = 0; r < t.rows; ++r) {
        T* s = sums + r * kPanel;
        const int cols = t.diagonal ? r + 1 : t.cols;
        if (t.diagonal && !is_dot<Step>) s[r] = 0;
        if (any_nonfinite(s, cols)) __atomic_store_n(c.overflow[0] + store.i0 + r, 1, __ATOMIC_RELAXED);
        if constexpr (!is_dot<Step>) recompute_near<Step>(c, t, r, cols, s);
    }
    alignas(64) T finished[kPanel * kPanel];
    for (int64_t i = 0; i < c.output_count; ++i) {
        const Call::Output& output = c.outputs[i];
        const Place<T> place(c, t, output.data);
        if (output.raw) {
            place.write(t, sums, place.self);
            continue;
        }
        with_metric(output.metric, [&](auto metric) {
            using Metric = decltype(metric);
            if constexpr (same_type<typename Metric::Step, Step>) finish_into<Metric>(c, t, output, sums, finished);
        });
        place.write(t, finished, place.self);
    }
}

template <class Step, class T>
void tile_of(const Call& c, const Tile& t) {
    using V = typename VecOf<T>::V;
    alignas(64) T sums[kPanel * kPanel];
    if constexpr (is_l1<Step>) {
        if (c.unit > 0) {
            if constexpr (sizeof(T) == 4) {
                alignas(64) int32_t maxima[kPanel * kPanel];
                tile_sums<FixedMaximum, VecI16>(c, t, 0, t.rows, maxima);
                distances_from_fixed(c, t, maxima, sums);
            }
        } else {
            tile_sums<Maximum, V>(c, t, 0, t.rows, sums);
            distances_from_maxima(c, t, sums);
        }
    } else {
        tile_sums<Step, V>(c, t, 0, t.rows, sums);
    }
    finish_tile<Step>(c, t, sums);
}

inline void tile(const Call& c, int64_t i_panel, int64_t j_panel) {
    Tile t;
    t.i_panel = i_panel;
    t.j_panel = j_panel;
    const bool two_sets = c.set_count == 2;
    const int64_t rows = c.sets[0].rows - i_panel * kPanel;
    const int64_t cols = two_sets ? c.sets[1].rows - (j_panel - c.panels[0]) * kPanel : c.sets[0].rows - j_panel * kPanel;
    t.rows = static_cast<int>(rows < kPanel ? rows : kPanel);
    t.cols = static_cast<int>(cols < kPanel ? cols : kPanel);
    t.diagonal = i_panel == j_panel;
    with_step(c, [&](auto step) {
        if (c.wide) tile_of<decltype(step), double>(c, t);
        else tile_of<decltype(step), float>(c, t);
    });
}

template <class T>
void finish_raw_row(const Call& c, const Call::Output& output, int64_t i) {
    using V = typename VecOf<T>::V;
    const int64_t n = c.sets[0].rows, begin = c.condensed ? i + 1 : 0;
    const int64_t m = c.condensed ? n : (c.set_count == 2 ? c.sets[1].rows : n);
    T* row = Output<T>(c, output.data).row(i) + begin;
    with_metric(output.metric, [&](auto metric) {
        using Metric = decltype(metric);
        Pair<V> pair{V(static_cast<T>(output.gamma)), V(1), V(1)};
        int64_t j = 0;
        for (; j + V::W <= m - begin; j += V::W) Metric::finish(V::load(row + j), pair).store(row + j);
        T tail[V::W] = {};
        memcpy(tail, row + j, sizeof(T) * static_cast<size_t>(m - begin - j));
        Metric::finish(V::load(tail), pair).store(tail);
        memcpy(row + j, tail, sizeof(T) * static_cast<size_t>(m - begin - j));
    });
}

inline void finish_row(const Call& c, const Call::Output& output, int64_t i) {
    c.wide ? finish_raw_row<double>(c, output, i) : finish_raw_row<float>(c, output, i);
}

// ---- packing ----

// The column or row stage in T: z = (x - mean) scale + rest. `mean` is the mean rounded to T and `rest` makes up for that,
// so that an offset of the features costs z no places.
template <class V>
struct Affine {
    V mean, scale, rest;
    DDS_INLINE V operator()(V x) const { return fma(x - mean, scale, rest); }
};

template <class T>
struct AffineStage {
    const T *mean = nullptr, *scale = nullptr, *rest = nullptr;

    explicit operator bool() const { return mean; }
    template <class V>
    DDS_INLINE Affine<V> load(int64_t k) const {
        return {V::load(mean + k), V::load(scale + k), V::load(rest + k)};
    }
    template <class V>
    DDS_INLINE Affine<V> broadcast(int64_t k) const {
        return {V(mean[k]), V(scale[k]), V(rest[k])};
    }
};

// The stage of `count` columns or rows, held in `numbers` (3, n); what is beyond them becomes 0. A scale so small that T has
// fewer places for it sets `out_of_range`: float64 has them.
template <class T>
AffineStage<T> affine_stage(const double* mean, const double* scale, int64_t count, int64_t n, T* numbers,
                            uint8_t* out_of_range) {
    T *rounded = numbers, *scales = numbers + n, *rest = numbers + 2 * n;
    for (int64_t k = count; k < n; ++k) rounded[k] = scales[k] = rest[k] = 0;
    for (int64_t k = 0; k < count; ++k) {
        rounded[k] = static_cast<T>(mean[k]);
        scales[k] = static_cast<T>(scale[k]);
        rest[k] = static_cast<T>((static_cast<double>(rounded[k]) - mean[k]) * scale[k]);
        if (sizeof(T) == 4 && scale[k] > 0 && scale[k] < static_cast<double>(__FLT_MIN__))
            __atomic_store_n(out_of_range, 1, __ATOMIC_RELAXED);
    }
    return {rounded, scales, rest};
}

// W rows of `width` numbers on their way into a panel.
template <class T>
struct Strip {
    const T* const* rows;
    AffineStage<T> columns, images;  // to be applied; of the block's columns, and of these rows
};

// Transposes a strip into a panel's column-major layout; W sums per Partial, lane by lane, into partials (W, kPartials). The
// sums over kCoherent and then width / kCoherent numbers are short enough for T. Returns whether a number is not finite.
template <class V, bool l1>
bool transpose_into(const Strip<typename V::T>& strip, int64_t width, typename V::T* to, double* partials) {
    constexpr int W = V::W;
    using T = typename V::T;
    V total(0), coherent(0), magnitude(0), unlike(0), peak(0), run(0), run_size(0), last(0);
    for (int64_t k = 0; k < width; k += W) {
        V v[W];
        for (int r = 0; r < W; ++r) v[r] = V::load(strip.rows[r] + k);
        if (strip.columns) {
            const auto stage = strip.columns.template load<V>(k);
            for (int r = 0; r < W; ++r) v[r] = stage(v[r]);
        }
        if (strip.images)
            for (int r = 0; r < W; ++r) v[r] = strip.images.template broadcast<V>(r)(v[r]);
        V::transpose(v);
        const int columns = width - k < W ? static_cast<int>(width - k) : W;
        for (int j = 0; j < columns; ++j) v[j].store(to + (k + j) * kPanel);
        for (int j = 0; j < columns; ++j) {
            const V size = abs(v[j]);
            run = run + (l1 ? v[j] : size);
            run_size = l1 ? run_size + size : fma(v[j], v[j], run_size);
            unlike = unlike + zero_where_less(abs(size - last), V(static_cast<T>(kAlike)) * size, V(1));
            last = size;
        }
        if ((k + W) % kCoherent == 0 || k + W >= width) {
            total = total + run;
            coherent = coherent + abs(run);
            magnitude = magnitude + run_size;
            peak = max(peak, run_size);
            run = run_size = V(0);
        }
    }
    T lanes[kPartials][W];
    total.store(lanes[kSum]);
    coherent.store(lanes[kCoherentSum]);
    magnitude.store(lanes[kMagnitude]);
    unlike.store(lanes[kUnlike]);
    peak.store(lanes[kPeak]);
    for (int r = 0; r < W; ++r)
        for (int q = 0; q < kPartials; ++q) partials[r * kPartials + q] = static_cast<double>(lanes[q][r]);
    return any_nonfinite(lanes[kSum], W) || any_nonfinite(lanes[kMagnitude], W);
}

// The same for pairs of int16 in 32-bit numbers, whose sums quantize() has formed.
template <class V>
void transpose_pairs_into(const float* stage, int64_t pairs, float* to) {
    constexpr int W = V::W;
    for (int64_t k = 0; k < pairs; k += W) {
        V v[W];
        for (int r = 0; r < W; ++r) v[r] = V::load(stage + r * kMaxWidth + k);
        V::transpose(v);
        for (int j = 0; j < W && k + j < pairs; ++j) v[j].store(to + (k + j) * kPanel);
    }
}

// q = z in units of `unit`, rounded to nearest; |z| <= 32767 units. Not inlined: within pack_block GCC leaves the loop
// scalar.
__attribute__((noinline)) inline void quantize(const float* z, int64_t width, double unit, int16_t* q, double* partial) {
    int32_t sum = 0;
    float residual = 0, magnitude = 0;
    const auto inverse = static_cast<float>(1 / unit);
#pragma omp simd reduction(+ : sum, residual, magnitude)
    for (int64_t k = 0; k < width; ++k) {
        const float scaled = z[k] * inverse;
        const auto rounded = static_cast<int32_t>(scaled + __builtin_copysignf(0.5f, scaled));
        q[k] = static_cast<int16_t>(rounded);
        sum += rounded;
        residual += __builtin_fabsf(scaled - static_cast<float>(rounded));
        magnitude += __builtin_fabsf(scaled);
    }
    if (width % 2) q[width] = 0;
    partial[kSum] = sum;
    partial[kUnlike] = partial[kPeak] = 0;
    partial[kCoherentSum] = static_cast<double>(residual) * unit;
    partial[kMagnitude] = static_cast<double>(magnitude) * unit;
}

template <class T>
void pack_block(const Call& c, int64_t block) {
    using V = typename VecOf<T>::V;
    constexpr int W = V::W;
    const int64_t begin = c.slab_begin + block * c.width;
    const int64_t end = begin + c.width < c.slab_end ? begin + c.width : c.slab_end, width = end - begin;
    if (c.fuse_columns && c.moments) column_moments(c, begin, end);
    if (c.fuse_columns && c.locate) column_location(c, begin, end);
    bool l1 = false;
    with_step(c, [&](auto step) { l1 = is_l1<decltype(step)>; });

    // where z is at most one stage away from stored numbers of type T, vectors are loaded from the features themselves
    const bool one_stage = c.unit == 0 && !c.group_mean[0] && !(c.row_mean[0] && c.column_mean) && width % W == 0;
    alignas(64) T stage[W * kMaxWidth], zeros[kMaxWidth] = {}, of_columns[3 * kMaxWidth], of_images[3 * W];
    AffineStage<T> columns;
    if (one_stage && c.column_mean)
        columns = affine_stage(c.column_mean + begin, c.column_scale + begin, width, width, of_columns, c.overflow[0]);
    T numbers[kMaxWidth];
    int64_t first_row = 0;  // of the set, among the padded rows
    for (int set = 0; set < c.set_count; ++set) {
        const Features& f = c.sets[set];
        const bool direct = one_stage && f.dtype == (sizeof(T) == 8 ? Dtype::f64 : Dtype::f32) && f.col_stride == 1 &&
                            reinterpret_cast<uintptr_t>(f.data) % sizeof(T) == 0;
        const int64_t padded = c.panels[set] * kPanel;
        for (int64_t i = 0; i < padded; i += W) {
            const int64_t to_row = first_row + i;
            double* partials = c.partial + kPartials * (block * c.padded_rows + to_row);
            if (i >= f.rows) {  // no tile looks at vectors without an image
                memset(partials, 0, sizeof(double) * kPartials * W);
                continue;
            }
            const int count = static_cast<int>(i + W < f.rows ? W : f.rows - i);
            T* panel = static_cast<T*>(c.packed) + to_row / kPanel * c.panel_columns * kPanel + to_row % kPanel;
            T* to = panel + (begin - c.slab_begin) * kPanel;
            const T* rows[W];
            bool nonfinite[W] = {};
            for (int r = 0; r < W; ++r) {
                T* z = stage + r * kMaxWidth;
                rows[r] = z;
                if (direct) {
                    // a row of means, or zeros, stands in for images that are not there: its z is about 0
                    rows[r] = r < count ? static_cast<const T*>(f.data) + (i + r) * f.row_stride + begin
                                        : (columns ? columns.mean : zeros);
                    continue;
                }
                prefetch_row(f, i + r + kRowsAhead, begin, end);
                if (r >= count) {
                    memset(z, 0, sizeof(T) * kMaxWidth);
                } else if (c.unit > 0) {
                    nonfinite[r] = read_row(c, set, i + r, begin, end, numbers);
                    if constexpr (sizeof(T) == 4)
                        quantize(numbers, width, c.unit, reinterpret_cast<int16_t*>(z), partials + r * kPartials);
                } else {
                    nonfinite[r] = read_row(c, set, i + r, begin, end, z);
                }
            }
            if (c.unit > 0) {
                if constexpr (sizeof(T) == 4)
                    transpose_pairs_into<V>(stage, (width + 1) / 2, panel + (begin - c.slab_begin) / 2 * kPanel);
            } else {
                Strip<T> strip{rows, {}, {}};
                if (direct) {
                    strip.columns = columns;
                    if (c.row_mean[set])
                        strip.images = affine_stage(c.row_mean[set] + i, c.row_scale[set] + i, count, W, of_images,
                                                    c.overflow[set] + i);
                }
                const bool doubtful = l1 ? transpose_into<V, true>(strip, width, to, partials)
                                         : transpose_into<V, false>(strip, width, to, partials);
                // large numbers may only have overflowed a sum: the stored ones decide
                if (doubtful && direct)
                    for (int r = 0; r < count; ++r) nonfinite[r] = read_stored(f, i + r, begin, end, numbers);
            }
            if (count < W) memset(partials + count * kPartials, 0, sizeof(double) * kPartials * (W - count));
            for (int r = 0; r < count; ++r)  // several blocks of one row may say so at once
                if (nonfinite[r]) __atomic_store_n(c.nonfinite[set] + i + r, 1, __ATOMIC_RELAXED);
        }
        first_row += padded;
    }
}

inline void pack(const Call& c, int64_t block) { c.wide ? pack_block<double>(c, block) : pack_block<float>(c, block); }

// ---- centring ----

template <class T>
double sum_of_row(const void* row, int64_t n) {
    const T* k = static_cast<const T*>(row);
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; ++j) sum += static_cast<double>(k[j]);
    return sum;
}

template <class T>
void shift_of_row(void* row, int64_t n, double shift, const double* shifts) {
    T* k = static_cast<T*>(row);
    // the two shifts are added first: in this order the result for (i, j) and (j, i) is the same number
    for (int64_t j = 0; j < n; ++j) k[j] = static_cast<T>(static_cast<double>(k[j]) - (shift + shifts[j]));
}

// ---- roof ----

// `steps` times the inner step on every sum of a register tile, nothing loaded or stored. Returns how many pair-elements.
template <class Step, class V>
int64_t roof_of(int64_t steps) {
    V sum[V::rows][V::vectors], x = one<V>(), ones = one<V>(), y[V::vectors];
    // unrolled throughout, or the compiler moves the sums through the stack
#pragma GCC unroll 16
    for (int v = 0; v < V::vectors; ++v) opaque(y[v] = one<V>());
#pragma GCC unroll 16
    for (int r = 0; r < V::rows; ++r)
#pragma GCC unroll 16
        for (int v = 0; v < V::vectors; ++v) sum[r][v] = V(0);
    opaque(ones);
#pragma GCC unroll 1
    for (int64_t k = 0; k < steps; ++k) {
#pragma GCC unroll 16
        for (int r = 0; r < V::rows; ++r) {
            opaque(x);  // another value, as far as the compiler knows
#pragma GCC unroll 16
            for (int v = 0; v < V::vectors; ++v) sum[r][v] = Step::add(sum[r][v], x, y[v], ones);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < V::rows; ++r)
#pragma GCC unroll 16
        for (int v = 0; v < V::vectors; ++v) opaque(sum[r][v]);
    return steps * V::rows * V::vectors * V::W * features_per_lane<V>;
}

template <class T>
int64_t roof(int metric, bool fixed, int64_t steps) {
    using V = typename VecOf<T>::V;
    int64_t elements = 0;
    with_metric(metric, [&](auto m) {
        using Step = typename decltype(m)::Step;
        if constexpr (is_l1<Step>) elements = fixed ? roof_of<FixedMaximum, VecI16>(steps) : roof_of<Maximum, V>(steps);
        else elements = roof_of<Step, V>(steps);
    });
    return elements;
}

// ---- the table ----

inline Kernels make_kernels(const char* name) {
    Kernels k;
    k.name = name;
    k.group_moments = group_moments;
    k.column_moments = column_moments;
    k.column_location = column_location;
    k.column_peak = column_peak;
    k.row_moments = row_moments;
    k.pack = pack;
    k.tile = tile;
    k.finish_row = finish_row;
    k.sum_of_row[0] = sum_of_row<float>;
    k.sum_of_row[1] = sum_of_row<double>;
    k.shift_row[0] = shift_of_row<float>;
    k.shift_row[1] = shift_of_row<double>;
    k.signed_sums[0] = signed_sums<float>;
    k.signed_sums[1] = signed_sums<double>;
    k.roof[0] = roof<float>;
    k.roof[1] = roof<double>;
    return k;
}

DDS_NAMESPACE_END
