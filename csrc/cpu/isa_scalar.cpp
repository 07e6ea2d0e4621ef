#define DDS_ISA isa_scalar
#include "cpu/simd/scalar.h"

#include "cpu/kernels_impl.h"

namespace dds {

extern const Kernels kernels_scalar = make_kernels("scalar");

}  // namespace dds
