// Every normalisation (Q, D). To add one: a header beside this file, its line here, and normalize_<name> in
// dds_ext/reference.py.
#pragma once

#include "norms/batch.h"
#include "norms/center.h"
#include "norms/group.h"
#include "norms/instance.h"
#include "norms/layer.h"
#include "norms/none.h"
#include "norms/zscore.h"

#define DDS_NORMS(X) \
    X(None)          \
    X(Center)        \
    X(Zscore)        \
    X(Batch)         \
    X(Instance)      \
    X(Layer)         \
    X(Group)
