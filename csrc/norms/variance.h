// The variance that a normalisation's scale is made of.
#pragma once

#include "metrics/common.h"
#include "norms/common.h"

DDS_NAMESPACE_BEGIN

// Of n values, from the sum and the sum of squares of their differences from one value of the sample itself: then (value -
// mean)^2 is at most n variances (Samuelson), so that the cancellation in E[t^2] - E[t]^2 costs no more than a factor n of
// float64's precision whatever the offset, and a constant sample gives exactly zero. Where the squares leave float64's
// range the variance is not in_range, either.
DDS_INLINE double variance_of(double sum, double squares, double n) {
    if (squares < kLeastVariance) return squares > 0 || sum != 0 ? kLeastVariance / 2 : 0;
    const double v = squares / n - (sum / n) * (sum / n);
    return v < 0 ? 0 : v;
}

DDS_NAMESPACE_END
