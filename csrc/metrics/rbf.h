#pragma once

#include "metrics/steps.h"

DDS_NAMESPACE_BEGIN

// exp(-gamma |x - y|_2^2)
struct Rbf {
    static constexpr const char* name = "rbf";
    using Step = SquaredDifference;
    static constexpr Gamma gamma = Gamma::inverse_median;
    static constexpr Rows rows = Rows::as_is;
    static constexpr Diagonal diagonal = Diagonal::one;

    template <class V>
    static DDS_INLINE V finish(V sum, const Pair<V>& pair) {
        return exp(-(pair.gamma * sum));
    }
};

DDS_NAMESPACE_END
