// Running plans on a device.
#pragma once

#include <string>
#include <vector>

#include "cuda/planning.h"

namespace dds::cuda {

struct DeviceInfo {
    std::string name;
    int major, minor;  // compute capability
    int multiprocessors;
    bool cooperative;  // blocks of a launch can wait for each other
};

// The devices that the driver shows; throws std::runtime_error where there is no driver that serves this build.
std::vector<DeviceInfo> devices();

// Architectures that kernels were compiled for, as nvcc names them.
const char* architectures();

// The current device.
Device device();

// Puts the launch on a stream (a cudaStream_t) of the current device; plan.launch has been placed. Where `cooperative` is
// false or the device is not, every phase is a launch of its own, with the same results.
void run(const Plan& plan, void* stream, bool cooperative);

// Names of the register-only loops: of the inner steps in float32, "dot", "squared_difference", "absolute_difference" and
// "sign" (the gradient's); of differences of halves, "half_difference", and of these summed by matrix products,
// "half_absolute_difference"; and of the matrix products alone, "half_product" and "tf32_product".
std::vector<std::string> roofs();

// Starts one of them on the current device; returns how many pair-elements, or multiply-adds, it forms. `sink`: a float on
// the device.
int64_t start_roof(int index, int64_t steps, int blocks, float* sink, void* stream);

}  // namespace dds::cuda
