#pragma once

#include "metrics/steps.h"

DDS_NAMESPACE_BEGIN

// 1 - x . y / (|x| |y|), kept within [0, 2]. A zero row is at distance 1 from every other row.
struct Cosine {
    static constexpr const char* name = "cosine";
    using Step = Dot;
    static constexpr Gamma gamma = Gamma::unused;
    static constexpr Rows rows = Rows::unit;
    static constexpr Diagonal diagonal = Diagonal::zero;

    template <class V>
    static DDS_INLINE V finish(V sum, const Pair<V>& pair) {
        V cosine = sum * pair.inverse_norm_i * pair.inverse_norm_j;
        return V(1) - max(V(-1), min(V(1), cosine));
    }
};

DDS_NAMESPACE_END
