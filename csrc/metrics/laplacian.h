#pragma once

#include "metrics/steps.h"

DDS_NAMESPACE_BEGIN

// exp(-gamma |x - y|_1)
struct Laplacian {
    static constexpr const char* name = "laplacian";
    using Step = AbsoluteDifference;
    static constexpr Gamma gamma = Gamma::inverse_features;
    static constexpr Rows rows = Rows::as_is;
    static constexpr Diagonal diagonal = Diagonal::one;

    template <class V>
    static DDS_INLINE V finish(V sum, const Pair<V>& pair) {
        return exp(-(pair.gamma * sum));
    }
};

DDS_NAMESPACE_END
