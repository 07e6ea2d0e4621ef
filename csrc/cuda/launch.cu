#include "cuda/launch.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <stdexcept>
#include <utility>

#include "cuda/check.h"
#include "cuda/kernels.h"

#ifndef DDS_CUDA_ARCHITECTURES
#define DDS_CUDA_ARCHITECTURES "unknown"
#endif

namespace dds::cuda {
namespace {

int attribute(cudaDeviceAttr which) {
    int device = 0, value = 0;
    DDS_CHECK(cudaGetDevice(&device));
    DDS_CHECK(cudaDeviceGetAttribute(&value, which, device));
    return value;
}

const void* address(Kernel kernel) { return reinterpret_cast<const void*>(kernel); }

void allow_shared_memory(Kernel kernel, const LaunchShape& shape) {
    DDS_CHECK(cudaFuncSetAttribute(address(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   static_cast<int>(shape.shared_bytes)));
}

// That the current device can run what was compiled: one line that says what to do, before any other call fails.
void check_architecture() {
    cudaFuncAttributes attributes;
    const cudaError_t error = cudaFuncGetAttributes(&attributes, address(dot_kernel(ShapeKind::pair)));
    if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction ||
        error == cudaErrorUnsupportedPtxVersion) {
        cudaGetLastError();  // or a later call would report it again
        const std::string arch = std::to_string(attribute(cudaDevAttrComputeCapabilityMajor)) +
                                 std::to_string(attribute(cudaDevAttrComputeCapabilityMinor));
        throw std::runtime_error("dds_ext was built for " + std::string(architectures()) + ", which this GPU of sm_" + arch +
                                 " cannot run: build it again with DDS_EXT_CUDA_ARCHS=" + arch);
    }
    check(error, "cudaFuncGetAttributes");
}

// Blocks that the device runs at a time: the fewest that any step's kernel of this shape has, so that a plan does not depend
// on it.
int resident(ShapeKind kind) {
    const LaunchShape shape = launch_shape(kind);
    std::vector<Kernel> kernels = {dot_kernel(kind), squared_difference_kernel(kind), absolute_difference_kernel(kind)};
    if (kind == ShapeKind::tensor) kernels = {tensor_dot_kernel()};
    int fewest = 1 << 30;
    for (Kernel kernel : kernels) {
        int blocks = 0;
        allow_shared_memory(kernel, shape);
        DDS_CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, address(kernel), shape.threads,
                                                                static_cast<size_t>(shape.shared_bytes)));
        fewest = std::min(fewest, blocks);
    }
    return fewest * attribute(cudaDevAttrMultiProcessorCount);
}

// Three products of halves take less time than one of float32 where tensor cores have more than three times its rate, while
// they add in float32: by the data sheets 16 times on sm_80 and 15 on sm_90, but 2 on GeForce cards of sm_86, sm_89 and
// sm_120 and 4 on others of these; on sm_100 the data sheet's rate is not that of the instruction used here. 2^30
// pair-elements take 32 us in float32 on an H200; for less the row pass, which only these products need, costs as much as it
// gains.
int64_t tensor_from() {
    const int major = attribute(cudaDevAttrComputeCapabilityMajor), minor = attribute(cudaDevAttrComputeCapabilityMinor);
    return major * 10 + minor == 80 || major == 9 ? int64_t{1} << 30 : Device::kNever;
}

}  // namespace

const char* architectures() { return DDS_CUDA_ARCHITECTURES; }

std::vector<DeviceInfo> devices() {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error == cudaErrorInsufficientDriver) {
        int driver = 0, built = CUDART_VERSION;
        cudaDriverGetVersion(&driver);
        if (driver == 0) throw std::runtime_error("there is no NVIDIA driver on this machine");
        throw std::runtime_error("the NVIDIA driver serves CUDA " + std::to_string(driver / 1000) + "." +
                                 std::to_string(driver % 1000 / 10) + ", and dds_ext was built with CUDA " +
                                 std::to_string(built / 1000) + "." + std::to_string(built % 1000 / 10) +
                                 ": update the driver, or build with an older toolkit");
    }
    if (error == cudaErrorNoDevice) return {};
    check(error, "cudaGetDeviceCount");
    std::vector<DeviceInfo> all;
    for (int device = 0; device < count; ++device) {
        cudaDeviceProp properties;
        DDS_CHECK(cudaGetDeviceProperties(&properties, device));
        int cooperative = 0;
        DDS_CHECK(cudaDeviceGetAttribute(&cooperative, cudaDevAttrCooperativeLaunch, device));
        all.push_back(
            {properties.name, properties.major, properties.minor, properties.multiProcessorCount, cooperative != 0});
    }
    return all;
}

Device device() {
    static std::mutex mutex;
    static std::map<int, Device> known;
    int current = 0;
    DDS_CHECK(cudaGetDevice(&current));
    const std::lock_guard<std::mutex> lock(mutex);
    const auto found = known.find(current);
    if (found != known.end()) return found->second;
    check_architecture();
    Device device{};
    for (int kind = 0; kind < kShapes; ++kind) device.blocks[kind] = resident(static_cast<ShapeKind>(kind));
    device.tensor_from = tensor_from();
    return known.emplace(current, device).first->second;
}

void run(const Plan& plan, void* stream_, bool cooperative) {
    const auto stream = static_cast<cudaStream_t>(stream_);
    const LaunchShape shape = launch_shape(plan.shape);
    Kernel kernel = kernel_of(plan);
    DDS_CHECK(cudaMemsetAsync(plan.launch.models[0].findings, 0, static_cast<size_t>(plan.zeroed), stream));
    Launch launch = plan.launch;
    auto start = [&](int first, int last, bool together) {
        cudaLaunchConfig_t config{};
        config.gridDim = dim3(static_cast<unsigned>(plan.blocks));
        config.blockDim = dim3(static_cast<unsigned>(shape.threads));
        config.dynamicSmemBytes = static_cast<size_t>(shape.shared_bytes);
        config.stream = stream;
        cudaLaunchAttribute resident{};
        resident.id = cudaLaunchAttributeCooperative;
        resident.val.cooperative = 1;
        config.attrs = &resident;
        config.numAttrs = together ? 1 : 0;
        void* arguments[] = {&launch, &first, &last};
        DDS_CHECK(cudaLaunchKernelExC(&config, address(kernel), arguments));
    };
    if (cooperative && attribute(cudaDevAttrCooperativeLaunch)) return start(0, kPhases, true);
    for (int phase = 0; phase < kPhases; ++phase)
        if (active(launch, phase)) start(phase, phase + 1, false);
}

}  // namespace dds::cuda
