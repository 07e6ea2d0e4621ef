#pragma once

#include "metrics/cosine.h"

DDS_NAMESPACE_BEGIN

// 1 - r: the cosine distance of rows whose own mean has been taken away.
struct Pearson : Cosine {
    static constexpr const char* name = "pearson";
    static constexpr Rows rows = Rows::centered_unit;
};

DDS_NAMESPACE_END
