// The median over all n^2 entries of a symmetric matrix of non-negative numbers with a zero diagonal.
#pragma once

#include <cstdint>

#include "cpu/pool.h"

namespace dds {

// row(i)[j], i < j < n, are the entries above the diagonal.
template <class T>
struct UpperTriangle {
    const T* data;
    int64_t n;
    int64_t stride;  // of the full matrix
    bool condensed;

    const T* row(int64_t i) const { return condensed ? data + i * (2 * n - i - 1) / 2 - i - 1 : data + i * stride; }
};

double median(const UpperTriangle<float>& k, Team& team);
double median(const UpperTriangle<double>& k, Team& team);

}  // namespace dds
