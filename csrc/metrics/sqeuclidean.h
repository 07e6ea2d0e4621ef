#pragma once

#include "metrics/steps.h"

DDS_NAMESPACE_BEGIN

// |x - y|_2^2
struct Sqeuclidean {
    static constexpr const char* name = "sqeuclidean";
    using Step = SquaredDifference;
    static constexpr Gamma gamma = Gamma::unused;
    static constexpr Rows rows = Rows::as_is;
    static constexpr Diagonal diagonal = Diagonal::zero;

    template <class V>
    static DDS_INLINE V finish(V sum, const Pair<V>&) {
        return sum;
    }
};

DDS_NAMESPACE_END
