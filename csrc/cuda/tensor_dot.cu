#include "cuda/kernel.h"
#include "cuda/kernels.h"

namespace dds::cuda {

Kernel tensor_dot_kernel() { return pairwise<Dot, TensorShape>; }

}  // namespace dds::cuda
