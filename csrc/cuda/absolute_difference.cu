#include "cuda/kernel.h"
#include "cuda/kernels.h"

namespace dds::cuda {

DDS_KERNELS_OF(AbsoluteDifference, absolute_difference_kernel)

}  // namespace dds::cuda
