#define DDS_ISA isa_avx512
#include "cpu/simd/avx512.h"

#include "cpu/kernels_impl.h"

namespace dds {

extern const Kernels kernels_avx512 = make_kernels("avx512");

}  // namespace dds
