#pragma once

#include "cpu/kernels.h"
#include "cpu/pool.h"

namespace dds {

// Centres one contiguous symmetric (n, n) matrix of float64 (wide) or float32 in place.
void center_matrix(void* k, int64_t n, bool wide, Centering mode, const Kernels& kernels, Team& team);

}  // namespace dds
