#define DDS_ISA isa_avx2
#include "cpu/simd/avx2.h"

#include "cpu/kernels_impl.h"

namespace dds {

extern const Kernels kernels_avx2 = make_kernels("avx2");

}  // namespace dds
