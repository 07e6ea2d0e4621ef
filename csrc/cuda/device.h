// The only door from the kernels to the hardware: what is not plain C++ in them is named here, or is one of the few names
// of CUDA that the emulation gives too (tests/cuda/emulation.h). With DDS_EMULATE the very same kernels are compiled for the
// host and run under that emulation. Grids and blocks have one dimension, and all shared memory is dynamic.
//
// DDS_DEVICE stands before a function of the device, DDS_KERNEL(threads, blocks_per_sm) before a kernel's name, in place of
// its type void, and DDS_UNROLL before a loop.
#pragma once

#include <cstdint>

#if defined(DDS_EMULATE)

#define DDS_DEVICE inline
#define DDS_KERNEL(threads, blocks_per_sm) void
#define DDS_UNROLL
#define DDS_UNROLL_BY(times)

#include "emulation.h"

#elif defined(__CUDACC__)

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#error "cp.async, tf32 and fma.relu need compute capability 8.0"
#endif

#define DDS_DEVICE __device__ __forceinline__
#define DDS_KERNEL(threads, blocks_per_sm) __global__ void __launch_bounds__(threads, blocks_per_sm)
#define DDS_UNROLL _Pragma("unroll")
#define DDS_PRAGMA(text) _Pragma(#text)
#define DDS_UNROLL_BY(times) DDS_PRAGMA(unroll times)

namespace dds::cuda {

// The block's dynamic shared memory, aligned to 16 bytes.
DDS_DEVICE char* shared_memory() {
    extern __shared__ __align__(16) char dynamic_shared_memory[];
    return dynamic_shared_memory;
}

// Copies to shared memory without waiting. Both addresses are aligned to `bytes`. The bytes are there for this thread after
// wait_copies, for the others after a barrier more.
template <int bytes>
DDS_DEVICE void copy_async(void* shared, const void* global) {
    static_assert(bytes == 4 || bytes == 8 || bytes == 16, "cp.async copies 4, 8 or 16 bytes");
    const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
    if constexpr (bytes == 16)  // the only size that may pass by the first-level cache, where nobody reads it again
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global) : "memory");
    else asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(to), "l"(global), "n"(bytes) : "memory");
}

// Closes a group of copies: those begun since the last call.
DDS_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most the last `groups` groups are unfinished.
template <int groups>
DDS_DEVICE void wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory");
}

// All threads of all blocks, which must be resident together. `counter` starts at 0 for the launch, `round` counts its
// barriers: 0, 1, 2, ...
DDS_DEVICE void barrier_of_grid(unsigned* counter, unsigned round) {
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        atomicAdd(counter, 1u);
        for (;;) {
            unsigned arrived;
            asm volatile("ld.acquire.gpu.u32 %0, [%1];" : "=r"(arrived) : "l"(counter) : "memory");
            if (arrived >= (round + 1) * gridDim.x) break;
            __nanosleep(20);
        }
        __threadfence();
    }
    __syncthreads();
}

// d (16 x 8) += a (16 x 8, tf32) b (8 x 8, tf32), by the whole warp. With g = lane / 4 and t = lane % 4, (row, column):
// a: (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4); b: (t, g), (t + 4, g); d: (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t
// + 1).
DDS_DEVICE void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// d (16 x 8) += a (16 x 16, half) b (16 x 8, half). As mma_tf32, where each word of a and b holds two halves, of columns of
// a and rows of b 2t and 2t + 1 (for t), 2t + 8 and 2t + 9 (for t + 4), the first in the low half.
DDS_DEVICE void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four matrices of 8 x 8 halves from shared memory, by the whole warp. Lane l names row l % 8 of matrix l / 8, 16 aligned
// bytes; word l % 4 of row l / 4 of each matrix is what it gets.
DDS_DEVICE void load_matrices(uint32_t (&words)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
                 : "memory");
}

// To the nearest of 10 explicit mantissa bits, ties away from zero.
DDS_DEVICE uint32_t to_tf32(float x) {
    uint32_t y;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(x));
    return y;
}

// max(a - b, 0) of each of two halves, rounded once.
DDS_DEVICE uint32_t relu_difference(uint32_t a, uint32_t b) {
    constexpr uint32_t minus_one = 0xbc00bc00;
    uint32_t d;
    asm("fma.rn.relu.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(b), "r"(minus_one), "r"(a));
    return d;
}

// Two floats as halves, rounded to the nearest, ties to even.
DDS_DEVICE uint32_t pack_half2(float lo, float hi) {
    uint32_t packed;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(hi), "f"(lo));
    return packed;
}

// Two halves as floats.
DDS_DEVICE float2 unpack_half2(uint32_t packed) {
    float2 two;
    asm("{ .reg .f16 lo, hi; mov.b32 {lo, hi}, %2; cvt.f32.f16 %0, lo; cvt.f32.f16 %1, hi; }"
        : "=f"(two.x), "=f"(two.y)
        : "r"(packed));
    return two;
}

}  // namespace dds::cuda

#else
#error "kernels are compiled by nvcc, or for the host with DDS_EMULATE"
#endif
