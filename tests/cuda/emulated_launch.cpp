// csrc/cuda/launch.h on the emulation: the kernels of the real build, run on the host. DDS_EMULATED_BLOCKS (of a launch) and
// DDS_EMULATED_ORDER (ascending, descending or a seed to shuffle by) choose how.
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "cuda/kernels.h"
#include "cuda/launch.h"
#include "cuda/signed_kernel.h"

namespace dds::cuda {

namespace {

std::string setting(const char* name, const char* otherwise) {
    const char* value = std::getenv(name);
    return value ? value : otherwise;
}

Order order() {
    const std::string name = setting("DDS_EMULATED_ORDER", "ascending");
    if (name == "ascending") return {Order::ascending, 0};
    if (name == "descending") return {Order::descending, 0};
    return {Order::shuffled, static_cast<unsigned>(std::stoul(name))};
}

}  // namespace

const char* architectures() { return "emulated"; }

std::vector<DeviceInfo> devices() { return {{"emulation", 0, 0, 1, true}}; }

Device device() {
    const int blocks = std::stoi(setting("DDS_EMULATED_BLOCKS", "3"));
    return {{blocks, blocks, blocks, blocks}};
}

void run(const Plan& plan, void*, bool cooperative) {
    const LaunchShape shape = launch_shape(plan.shape);
    std::memset(plan.launch.models[0].findings, 0, static_cast<size_t>(plan.zeroed));
    auto start = [&](int first, int last) {
        emulate(order(), static_cast<unsigned>(plan.blocks), static_cast<unsigned>(shape.threads),
                static_cast<size_t>(shape.shared_bytes), [&] { kernel_of(plan)(plan.launch, first, last); });
    };
    if (cooperative) return start(0, kPhases);
    for (int phase = 0; phase < kPhases; ++phase)
        if (active(plan.launch, phase)) start(phase, phase + 1);
}

template <class T>
static void start(const SignedSums& sums) {
    using Shape = SignedShape<T>;
    emulate(order(), static_cast<unsigned>(device().blocks[0]), Shape::threads, Shape::shared_bytes,
            [&] { signed_sums<Shape>(sums); });
}

void run_signed_sums(const SignedSums& sums, Dtype dtype, void*) {
    if (dtype == Dtype::f64) start<double>(sums);
    else start<float>(sums);
}

std::vector<std::string> roofs() { return {}; }  // the emulation has no speed to measure

int64_t start_roof(int, int64_t, int, float*, void*) { return 0; }

}  // namespace dds::cuda
