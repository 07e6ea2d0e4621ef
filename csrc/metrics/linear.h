#pragma once

#include "metrics/steps.h"

DDS_NAMESPACE_BEGIN

// x . y
struct Linear {
    static constexpr const char* name = "linear";
    using Step = Dot;
    static constexpr Gamma gamma = Gamma::unused;
    static constexpr Rows rows = Rows::as_is;
    static constexpr Diagonal diagonal = Diagonal::computed;

    template <class V>
    static DDS_INLINE V finish(V sum, const Pair<V>&) {
        return sum;
    }
};

DDS_NAMESPACE_END
