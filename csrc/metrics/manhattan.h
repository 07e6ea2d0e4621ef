#pragma once

#include "metrics/steps.h"

DDS_NAMESPACE_BEGIN

// |x - y|_1
struct Manhattan {
    static constexpr const char* name = "manhattan";
    using Step = AbsoluteDifference;
    static constexpr Gamma gamma = Gamma::unused;
    static constexpr Rows rows = Rows::as_is;
    static constexpr Diagonal diagonal = Diagonal::zero;

    template <class V>
    static DDS_INLINE V finish(V sum, const Pair<V>&) {
        return sum;
    }
};

DDS_NAMESPACE_END
