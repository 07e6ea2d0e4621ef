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
