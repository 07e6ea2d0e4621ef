// The kernels by step and shape. Each step's are instantiated in a source file of their own, so that they compile side by
// side.
#pragma once

#include "cuda/planning.h"

namespace dds::cuda {

using Kernel = void (*)(Launch, int first, int last);

Kernel dot_kernel(ShapeKind shape);
Kernel squared_difference_kernel(ShapeKind shape);
Kernel absolute_difference_kernel(ShapeKind shape);
Kernel tensor_dot_kernel();

inline Kernel kernel_of(const Plan& plan) {
    if (plan.shape == ShapeKind::tensor) return tensor_dot_kernel();
    switch (plan.step) {
        case StepKind::dot: return dot_kernel(plan.shape);
        case StepKind::squared_difference: return squared_difference_kernel(plan.shape);
        default: return absolute_difference_kernel(plan.shape);
    }
}

struct LaunchShape {
    int threads;
    int64_t shared_bytes;
};

template <class Shape>
constexpr LaunchShape launch_shape() {
    return {Shape::threads, Shape::shared_bytes};
}

inline LaunchShape launch_shape(ShapeKind shape) {
    if (shape == ShapeKind::whole) return launch_shape<WholeShape>();
    if (shape == ShapeKind::tensor) return launch_shape<TensorShape>();
    return shape == ShapeKind::pair ? launch_shape<PairShape>() : launch_shape<DoubleShape>();
}

// What a source file of one step holds.
#define DDS_KERNELS_OF(Step, function)                                    \
    Kernel function(ShapeKind shape) {                                    \
        if (shape == ShapeKind::whole) return pairwise<Step, WholeShape>; \
        if (shape == ShapeKind::pair) return pairwise<Step, PairShape>;   \
        return pairwise<Step, DoubleShape>;                               \
    }

}  // namespace dds::cuda
