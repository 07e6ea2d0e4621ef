// How one pair of elements enters the sum over k. The steps that metrics name: Dot, SquaredDifference and
// AbsoluteDifference. `one` is a V, or a type that makes fma(a, one, b) the plain sum.
//
// `near`: where z is rounded, by a scaling, a pair's sum is off by the two roundings of its z: by at most 2^-23 (|z_i|_1 +
// |z_j|_1) under L1, and relative to its root by 2^-22 of the root of |z_i|^2 + |z_j|^2 else. Pairs whose sum is below
// `near` times that size, where this may exceed 1e-5, are summed again in float64.
#pragma once

#include "metrics/common.h"

DDS_NAMESPACE_BEGIN

struct Dot {
    static constexpr double near = 0;

    template <class V, class One>
    static DDS_INLINE V add(V sum, V a, V b, One) {
        return fma(a, b, sum);
    }
};

// The difference is formed before it is squared: a Gram product |x|^2 + |y|^2 - 2 x.y loses close pairs, and on CPUs
// whose adders and multipliers are separate pipes this costs the same.
struct SquaredDifference {
    static constexpr double near = 6e-4;

    template <class V, class One>
    static DDS_INLINE V add(V sum, V a, V b, One) {
        V d = a - b;
        return fma(d, d, sum);
    }
};

struct AbsoluteDifference {
    static constexpr double near = 1.2e-2;

    template <class V, class One>
    static DDS_INLINE V add(V sum, V a, V b, One one) {
        return fma(abs(a - b), one, sum);
    }
};

// sum |a - b| = 2 sum max(a, b) - sum a - sum b: one operation a pair less than the difference. Adding through the
// multiplier (times one) leaves the adders' pipes to the maximum.
struct Maximum {
    template <class V, class One>
    static DDS_INLINE V add(V sum, V a, V b, One one) {
        return fma(max(a, b), one, sum);
    }
};

DDS_NAMESPACE_END
