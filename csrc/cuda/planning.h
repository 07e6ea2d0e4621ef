// From parameters to launches, on the host.
#pragma once

#include <vector>

#include "cpu/registry.h"
#include "cuda/plan.h"

namespace dds::cuda {

enum class ShapeKind : int { whole, pair, wide, tensor };
constexpr int kShapes = 4;

// What a plan has to know of a device.
struct Device {
    int blocks[kShapes];  // that it runs at a time
    // Matrices of products of that many pair-elements or more are left to tensor cores.
    int64_t tensor_from = kNever;
    static constexpr int64_t kNever = INT64_MAX;
};

// A launch, what it needs, and what it makes.
struct Plan {
    Launch launch{};
    StepKind step;
    ShapeKind shape;
    int blocks;
    int64_t bytes = 0;     // of temporary results, of which ...
    int64_t zeroed = 0;    // ... the first have to be zeros, and ...
    int64_t reported = 0;  // ... the first of those say what is wrong
    struct Made {
        size_t params;                 // of a model: which of the parameters
        std::vector<size_t> products;  // and by output: which of their products
    };
    std::vector<Made> made;
};

// The launches that compute `params`, those that have enough in common together. A default gamma between two sets must have
// been decided.
std::vector<Plan> plan(const std::vector<RdmParams>& params, const Device& device);

// The launches that centre `count` (n, n) matrices, f32 or f64, which stand one after another from k on, in place.
std::vector<Plan> plan_centering(void* k, int64_t count, int64_t n, Dtype dtype, Centering mode, const Device& device);

// Tells the launch where its temporary results stand.
void place(Plan& plan, void* workspace);

// What a copy of the reported bytes says about params; `in_float64`: those that have to be computed again so, since float32
// does not reach far enough.
void report(const Plan& plan, const char* reported, std::vector<RdmStatus>& statuses, std::vector<bool>& in_float64);

}  // namespace dds::cuda
