// A number as the metrics see it: what csrc/cpu/simd/*.h are to the CPU.
#pragma once

#include <math.h>

#include "cuda/device.h"

namespace dds::cuda {

template <class T>
struct Number {
    T v;
    Number() = default;
    explicit DDS_DEVICE Number(T x) : v(x) {}
    explicit DDS_DEVICE Number(int x) : v(static_cast<T>(x)) {}
};

// The factor of one that metrics add through: on a GPU an addition and a multiplication cost the same.
struct One {};

template <class T>
DDS_DEVICE Number<T> operator+(Number<T> a, Number<T> b) {
    return Number<T>(a.v + b.v);
}
template <class T>
DDS_DEVICE Number<T> operator-(Number<T> a, Number<T> b) {
    return Number<T>(a.v - b.v);
}
template <class T>
DDS_DEVICE Number<T> operator*(Number<T> a, Number<T> b) {
    return Number<T>(a.v * b.v);
}
template <class T>
DDS_DEVICE Number<T> operator-(Number<T> a) {
    return Number<T>(-a.v);
}
template <class T>
DDS_DEVICE Number<T> fma(Number<T> a, One, Number<T> c) {
    return a + c;
}
template <class T>
DDS_DEVICE Number<T> max(Number<T> a, Number<T> b) {
    return a.v > b.v ? a : b;
}
template <class T>
DDS_DEVICE Number<T> min(Number<T> a, Number<T> b) {
    return a.v < b.v ? a : b;
}

DDS_DEVICE Number<float> fma(Number<float> a, Number<float> b, Number<float> c) {
    return Number<float>(::fmaf(a.v, b.v, c.v));
}
DDS_DEVICE Number<double> fma(Number<double> a, Number<double> b, Number<double> c) {
    return Number<double>(::fma(a.v, b.v, c.v));
}
DDS_DEVICE Number<float> abs(Number<float> a) { return Number<float>(::fabsf(a.v)); }
DDS_DEVICE Number<double> abs(Number<double> a) { return Number<double>(::fabs(a.v)); }
DDS_DEVICE Number<float> sqrt(Number<float> a) { return Number<float>(::sqrtf(a.v)); }
DDS_DEVICE Number<double> sqrt(Number<double> a) { return Number<double>(::sqrt(a.v)); }
DDS_DEVICE Number<float> exp(Number<float> a) { return Number<float>(::expf(a.v)); }
DDS_DEVICE Number<double> exp(Number<double> a) { return Number<double>(::exp(a.v)); }

DDS_DEVICE bool is_finite(float x) { return ::fabsf(x) <= 3.4028235e38f; }
DDS_DEVICE bool is_finite(double x) { return ::fabs(x) <= 1.7976931348623157e308; }

}  // namespace dds::cuda
