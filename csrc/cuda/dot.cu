#include "cuda/kernel.h"
#include "cuda/kernels.h"

namespace dds::cuda {

DDS_KERNELS_OF(Dot, dot_kernel)

}  // namespace dds::cuda
