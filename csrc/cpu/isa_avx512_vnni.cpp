#define DDS_ISA isa_avx512_vnni
#include "cpu/simd/avx512.h"

#include "cpu/kernels_impl.h"

namespace dds {

extern const Kernels kernels_avx512_vnni = make_kernels("avx512_vnni");

}  // namespace dds
