// Every call of the CUDA runtime goes through DDS_CHECK, which names it where it fails.
#pragma once

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace dds::cuda {

inline void check(cudaError_t error, const char* call) {
    if (error == cudaSuccess) return;
    cudaGetLastError();  // or a later call would report it again
    throw std::runtime_error(std::string(call) + " failed: " + cudaGetErrorString(error) + " (" + cudaGetErrorName(error) +
                             ")");
}

}  // namespace dds::cuda

#define DDS_CHECK(call) check(call, #call)
