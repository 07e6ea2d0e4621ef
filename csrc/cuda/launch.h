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

// Blocks that the current device runs at a time, by ShapeKind.
struct Blocks {
    int of[kShapes];
};
Blocks resident_blocks();

// Puts the launch on a stream (a cudaStream_t) of the current device; plan.launch has been placed. Where `cooperative` is
// false or the device is not, every phase is a launch of its own, with the same results.
void run(const Plan& plan, void* stream, bool cooperative);

// Starts a register-only loop over an inner step (a StepKind) in float32 on the current device; returns how many
// pair-elements it forms. `sink`: a float on the device.
int64_t start_roof(int step, int64_t steps, int blocks, float* sink, void* stream);

}  // namespace dds::cuda
