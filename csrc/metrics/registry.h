// Every pairwise function f. To add one: a header beside this file, its line here, and metric_<name> in
// dds_ext/reference.py.
#pragma once

#include "metrics/cosine.h"
#include "metrics/euclidean.h"
#include "metrics/laplacian.h"
#include "metrics/linear.h"
#include "metrics/manhattan.h"
#include "metrics/pearson.h"
#include "metrics/rbf.h"
#include "metrics/sqeuclidean.h"

#define DDS_METRICS(X) \
    X(Linear)          \
    X(Laplacian)       \
    X(Rbf)             \
    X(Pearson)         \
    X(Euclidean)       \
    X(Cosine)          \
    X(Manhattan)       \
    X(Sqeuclidean)

DDS_NAMESPACE_BEGIN

template <class A, class B>
constexpr bool same_type = false;  // std::is_same is a template of the standard library, which the linker would share
template <class A>
constexpr bool same_type<A, A> = true;

template <class Step>
constexpr bool is_l1 = same_type<Step, AbsoluteDifference>;
template <class Step>
constexpr bool is_dot = same_type<Step, Dot>;

// Calls f(Metric()) for the metric with this index.
template <class F>
DDS_INLINE void with_metric(int index, F f) {
    int i = 0;
#define DDS_CASE(Metric) \
    if (index == i++) return f(Metric());
    DDS_METRICS(DDS_CASE)
#undef DDS_CASE
}

DDS_NAMESPACE_END
