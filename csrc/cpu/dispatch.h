// Which instruction set's kernels a call runs.
#pragma once

#include <vector>

#include "cpu/kernels.h"

namespace dds {

// Those compiled in that this machine can run, slowest first.
const std::vector<const Kernels*>& available_kernels();

// By name; nullptr: the fastest. Throws std::invalid_argument for a name that is not available.
const Kernels& kernels(const char* isa);

}  // namespace dds
