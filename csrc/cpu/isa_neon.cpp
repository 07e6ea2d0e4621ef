#define DDS_ISA isa_neon
#include "cpu/simd/neon.h"

#include "cpu/kernels_impl.h"

namespace dds {

extern const Kernels kernels_neon = make_kernels("neon");

}  // namespace dds
