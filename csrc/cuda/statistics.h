// The statistics of a normalisation, and those of the rows, in float64.
#pragma once

#include "cuda/block.h"
#include "cuda/load.h"
#include "norms/registry.h"
#include "norms/variance.h"

namespace dds::cuda {

DDS_DEVICE double norm_scale(int index, double variance) {
    int i = 0;
#define DDS_CASE(Norm) \
    if (index == i++) return ::dds::Norm::scale(variance);
    DDS_NORMS(DDS_CASE)
#undef DDS_CASE
    return 1;
}

template <class T>
DDS_DEVICE void write_column(const Model& m, int64_t col, double mean, double scale) {
    m.column_mean[col] = mean;
    m.column_scale[col] = scale;
    T* to = static_cast<T*>(m.columns) + col;
    const T rounded = static_cast<T>(mean);
    to[0] = rounded;
    to[column_stride(m)] = static_cast<T>(scale);
    to[2 * column_stride(m)] = static_cast<T>((static_cast<double>(rounded) - mean) * scale);
}

// Mean and scale of every column over x's images: 64 columns at a time by a block, or 16 where some blocks would else have
// none. Neighbouring lanes take neighbouring columns of a row.
template <class T>
DDS_DEVICE void column_statistics(const Launch& b, const Model& m, Crew& crew) {
    constexpr int kAhead = 4;
    const Set& x = m.sets[0];
    const int columns = m.d >= int64_t{64} * gridDim.x ? 64 : 16, quads = columns / 4;
    const int quad = lane() % quads, at_once = warps() * 32 / quads, mine = static_cast<int>(threadIdx.x) / quads;
    crew.blocks((m.d + columns - 1) / columns, [&](int64_t unit) {
        const int64_t col = unit * columns + quad * 4;
        double shift[4], sum[4] = {}, squares[4] = {};
        for (int c = 0; c < 4; ++c) shift[c] = col + c < m.d ? load<double>(b.dtype, x, 0, col + c) : 0;
        for (int64_t row = mine; row < x.rows; row += kAhead * at_once) {
            Raw<T> raw[kAhead];
            DDS_UNROLL
            for (int r = 0; r < kAhead; ++r)
                if (row + r * at_once < x.rows && col < m.d) raw[r] = load_quad<T>(b.dtype, x, m.d, row + r * at_once, col);
            DDS_UNROLL
            for (int r = 0; r < kAhead; ++r) {
                if (row + r * at_once >= x.rows || col >= m.d) continue;
                T values[4];
                convert(b.dtype, raw[r], values);
                DDS_UNROLL
                for (int c = 0; c < 4; ++c) {
                    const double t = static_cast<double>(values[c]) - shift[c];
                    sum[c] += t;
                    squares[c] += t * t;
                }
            }
        }
        auto* parts = reinterpret_cast<double*>(shared_memory());  // (2, at_once, columns)
        __syncthreads();                                           // the parts of the columns before have been read
        for (int c = 0; c < 4; ++c) {
            parts[mine * columns + quad * 4 + c] = sum[c];
            parts[(at_once + mine) * columns + quad * 4 + c] = squares[c];
        }
        __syncthreads();
        const int c = static_cast<int>(threadIdx.x);
        if (c >= columns || unit * columns + c >= m.d) return;
        double total = 0, total_squares = 0;
        for (int p = 0; p < at_once; ++p) {
            total += parts[p * columns + c];
            total_squares += parts[(at_once + p) * columns + c];
        }
        const auto n = static_cast<double>(x.rows);
        const double first = load<double>(b.dtype, x, 0, unit * columns + c);
        const double mean = first + total / n, variance = variance_of(total, total_squares, n);
        write_column<T>(m, unit * columns + c, mean, b.by_channel ? variance : norm_scale(b.norm, variance));
    });
}

// Column means and variances -> those of their channels, each by a block.
template <class T>
DDS_DEVICE void channel_statistics(const Launch& b, const Model& m, Crew& crew) {
    const int64_t space = m.d / b.channels, step = b.channels_last ? b.channels : 1;
    crew.blocks(b.channels, [&](int64_t channel) {
        const int64_t first = b.channels_last ? channel : channel * space;
        double mean = 0, variance = 0;
        for (int64_t s = threadIdx.x; s < space; s += blockDim.x) mean += m.column_mean[first + s * step];
        mean = block_sum(mean) / static_cast<double>(space);
        for (int64_t s = threadIdx.x; s < space; s += blockDim.x) {
            const double off = m.column_mean[first + s * step] - mean;
            variance += m.column_scale[first + s * step] + off * off;
        }
        const double scale = norm_scale(b.norm, block_sum(variance) / static_cast<double>(space));
        for (int64_t s = threadIdx.x; s < space; s += blockDim.x) write_column<T>(m, first + s * step, mean, scale);
    });
}

// Mean and scale of every group of channels of every image, each by a warp.
template <class T>
DDS_DEVICE void group_statistics(const Launch& b, const Model& m, int set, Crew& crew) {
    const Set& x = m.sets[set];
    const int64_t count = m.d / b.groups, per = b.channels_last ? b.channels / b.groups : count;
    // of an element and the one that the lane takes next: e / per and e % per without another division
    const int64_t first_block = lane() / per, first_in = lane() % per, blocks_on = 32 / per, in_on = 32 % per;
    crew.warps(x.rows * b.groups, [&](int64_t unit) {
        const int64_t row = unit / b.groups, g = unit % b.groups;
        const double shift = load<double>(b.dtype, x, row, g * per);
        double sum = 0, squares = 0;
        int64_t block = first_block, in = first_in;  // of channels at one position, and of the channels of the group
        for (int64_t e = lane(); e < count; e += 32) {
            const double t = load<double>(b.dtype, x, row, block * b.channels + g * per + in) - shift;
            sum += t;
            squares += t * t;
            block += blocks_on;
            in += in_on;
            if (in >= per) in -= per, ++block;
        }
        sum = warp_sum(sum);
        squares = warp_sum(squares);
        if (lane() != 0) return;
        const auto n = static_cast<double>(count);
        const double mean = shift + sum / n, scale = norm_scale(b.norm, variance_of(sum, squares, n));
        m.group_mean[set][unit] = mean;
        m.group_scale[set][unit] = scale;
        static_cast<Affine<T>*>(m.group_terms[set])[unit] = affine<T>(mean, scale);
    });
}

// The group of channels of every column, so that nobody has to divide for it again.
DDS_DEVICE void group_index(const Launch& b, const Model& m, Crew& crew) {
    crew.threads(m.group_of ? column_stride(m) : 0, [&](int64_t col) {
        const int64_t g = b.channels_last ? col % b.channels / (b.channels / b.groups) : col / (m.d / b.groups);
        m.group_of[col] = col < m.d ? static_cast<int>(g) : 0;
    });
}

DDS_DEVICE int64_t segments(const Model& m) { return (m.d + m.segment - 1) / m.segment; }

// Whether float32 can represent sums of squares of this size; 0 is a row of zeros.
template <class T>
DDS_DEVICE bool within_range(double squares) {
    return squares == 0 || (sizeof(T) == 8 ? squares > 1e-280 && squares < 1e300 : squares > 1e-20 && squares < 1e30);
}

// The power of two that brings a row of this squared length to a length of 2^13 to 2^14.
DDS_DEVICE float power_for(double squares) {
    const auto exponent = static_cast<int>(__double_as_longlong(squares) >> 52 & 0x7ff) - 1023;  // of 2, rounded down
    const int power = 14 - ((exponent + 2) >> 1);
    const int kept = power < -126 ? -126 : power > 126 ? 126 : power;  // and its inverse is a float
    return __uint_as_float(static_cast<unsigned>(kept + 127) << 23);
}

DDS_DEVICE float one_over(float power) { return __uint_as_float((254u << 23) - __float_as_uint(power)); }

// What the sums over a whole row say about it.
template <class T>
DDS_DEVICE void fold_row(const Launch& b, const Model& m, int set, bool l1, int64_t row, double sum, double squares) {
    if (m.row_power[set]) m.row_power[set][row] = power_for(b.centered_rows ? 1 : squares);
    if (b.centered_rows) {
        const auto n = static_cast<double>(m.d);
        const double first = normalized(b, m, set, row, 0, load<double>(b.dtype, m.sets[set], row, 0));
        const double variance = variance_of(sum, squares, n);
        const double norm = in_range(variance) ? ::sqrt(n * variance) : NAN;
        const double mean = first + sum / n;
        m.row_mean[set][row] = mean;
        const double scale = norm == 0 ? 0 : 1 / norm;
        m.row_scale[set][row] = scale;
        static_cast<Affine<T>*>(m.row_terms[set])[row] = affine<T>(mean, scale);
        // a normalised row of equal numbers differs by their rounding
        const bool normalized = b.columns || b.groups > 0;
        if (m.constant[set]) m.constant[set][row] = norm == 0 || (normalized && norm <= 1e-14 * ::sqrt(n) * ::fabs(mean));
        if (!is_finite(norm)) m.findings->out_of_range = 1;
    } else {
        m.row_size[set][row] = l1 ? sum : squares;
        if (b.unit_rows) m.row_scale[set][row] = squares > 0 ? 1 / ::sqrt(squares) : 0;
        if (!l1 && (sizeof(T) == 4 || b.unit_rows) && !within_range<T>(squares)) m.findings->out_of_range = 1;
    }
}

// Sums over every row, or over each of its segments where it has several: of z - z_0 and its square where rows are centred,
// else of |z| under L1 and of z^2. A warp takes four rows, which use the same statistics of columns.
template <class T>
DDS_DEVICE void row_parts(const Launch& b, const Model& m, int set, bool l1, Crew& crew) {
    constexpr int kRows = kRowsOfUnit;
    const Set& x = m.sets[set];
    crew.warps((x.rows + kRows - 1) / kRows * segments(m), [&](int64_t unit) {
        const int64_t first = unit / segments(m) * kRows, begin = unit % segments(m) * m.segment;
        const int64_t end = begin + m.segment < m.d ? begin + m.segment : m.d;
        double shift[kRows] = {}, sum[kRows] = {}, squares[kRows] = {};
        for (int r = 0; r < kRows && b.centered_rows && first + r < x.rows; ++r)
            shift[r] = normalized(b, m, set, first + r, 0, load<double>(b.dtype, x, first + r, 0));
        auto add = [&](int r, double z) {
            const double t = z - shift[r];
            sum[r] += l1 ? ::fabs(t) : t;
            squares[r] += t * t;
        };
        if (b.groups > 0) {  // singly, for their statistics stand elsewhere for every row
            for (int64_t col = begin + lane(); col < end; col += 32) {
                DDS_UNROLL
                for (int r = 0; r < kRows; ++r) {
                    if (first + r >= x.rows) continue;
                    add(r, normalized(b, m, set, first + r, col, load<double>(b.dtype, x, first + r, col)));
                }
            }
        } else {
            for (int64_t col = begin + lane() * 4; col < end; col += 128) {
                Raw<T> raw[kRows] = {};
                DDS_UNROLL
                for (int r = 0; r < kRows; ++r)
                    if (first + r < x.rows) raw[r] = load_quad<T>(b.dtype, x, m.d, first + r, col);
                T values[kRows][4];
                DDS_UNROLL
                for (int r = 0; r < kRows; ++r) convert(b.dtype, raw[r], values[r]);
                DDS_UNROLL
                for (int c = 0; c < 4; ++c) {
                    if (col + c >= end) continue;
                    const double mean = b.columns ? m.column_mean[col + c] : 0;
                    const double scale = b.columns ? m.column_scale[col + c] : 1;
                    DDS_UNROLL
                    for (int r = 0; r < kRows; ++r)
                        if (first + r < x.rows) add(r, (static_cast<double>(values[r][c]) - mean) * scale);
                }
            }
        }
        DDS_UNROLL
        for (int r = 0; r < kRows; ++r) {
            const double of_row = warp_sum(sum[r]), of_squares = warp_sum(squares[r]);
            if (lane() != 0 || first + r >= x.rows) continue;
            if (segments(m) == 1) {
                fold_row<T>(b, m, set, l1, first + r, of_row, of_squares);
            } else {
                double* to = m.row_parts[set] + 2 * ((first + r) * segments(m) + unit % segments(m));
                to[0] = of_row;
                to[1] = of_squares;
            }
        }
    });
}

template <class T>
DDS_DEVICE void fold_rows(const Launch& b, const Model& m, int set, bool l1, Crew& crew) {
    crew.threads(segments(m) == 1 ? 0 : m.sets[set].rows, [&](int64_t row) {
        double sum = 0, squares = 0;
        for (int64_t s = 0; s < segments(m); ++s) {
            sum += m.row_parts[set][2 * (row * segments(m) + s)];
            squares += m.row_parts[set][2 * (row * segments(m) + s) + 1];
        }
        fold_row<T>(b, m, set, l1, row, sum, squares);
    });
}

}  // namespace dds::cuda
