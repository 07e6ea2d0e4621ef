// exp(x) for x <= 0 on any vector that offers round_to_integer and scale_by_power_of_2: x = n ln 2 + r, |r| <= ln 2 / 2, and
// the Taylor series of exp(r), whose remainder is below half a unit in the last place at degree 7 (float32: 5e-9) and 13
// (float64: 4e-18).
#pragma once

#include "metrics/common.h"

DDS_NAMESPACE_BEGIN

template <class V>
DDS_INLINE V exp_of_nonpositive(V x, typename V::T lowest) {
    using T = typename V::T;
    constexpr bool wide = sizeof(T) == 8;
    V clamped = max(V(lowest), x);  // in this order NaN stays NaN: x86 returns the second then
    V n = round_to_integer(clamped * V(T(1.4426950408889634)));
    // ln 2 in two parts, the first with enough trailing zeros that n times it is exact
    V r = fma(n, V(wide ? T(-6.93147180369123816490e-01) : T(-0.693359375)), clamped);
    r = fma(n, V(wide ? T(-1.90821492927058770002e-10) : T(2.12194440e-4)), r);
    V sum(T(wide ? 1.0 / 6227020800 : 1.0 / 5040));
    if (wide) {
        sum = fma(sum, r, V(T(1.0 / 479001600)));
        sum = fma(sum, r, V(T(1.0 / 39916800)));
        sum = fma(sum, r, V(T(1.0 / 3628800)));
        sum = fma(sum, r, V(T(1.0 / 362880)));
        sum = fma(sum, r, V(T(1.0 / 40320)));
        sum = fma(sum, r, V(T(1.0 / 5040)));
    }
    sum = fma(sum, r, V(T(1.0 / 720)));
    sum = fma(sum, r, V(T(1.0 / 120)));
    sum = fma(sum, r, V(T(1.0 / 24)));
    sum = fma(sum, r, V(T(1.0 / 6)));
    sum = fma(sum, r, V(T(0.5)));
    sum = fma(sum, r, V(T(1)));
    sum = fma(sum, r, V(T(1)));
    return zero_where_less(x, V(lowest), scale_by_power_of_2(sum, n));
}

DDS_NAMESPACE_END
