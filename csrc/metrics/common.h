// What every metric header builds on.
#pragma once

#include <stdint.h>

// Each instruction set's translation unit compiles these headers inside a namespace of its own, so that the linker never
// replaces one variant's inline function by another's.
#ifndef DDS_ISA
#define DDS_ISA portable
#endif
#define DDS_NAMESPACE_BEGIN \
    namespace dds {         \
    inline namespace DDS_ISA {
#define DDS_NAMESPACE_END \
    }                     \
    }
#ifdef __CUDACC__
#define DDS_INLINE __device__ __forceinline__
#else
#define DDS_INLINE inline __attribute__((always_inline))
#endif

DDS_NAMESPACE_BEGIN

enum class Gamma { unused, inverse_features, inverse_median };  // the default: none, 1/d, 2/median
enum class Rows { as_is, unit, centered_unit };                 // what is done to a row of z before pairs are formed
enum class Diagonal { computed, zero, one };                    // of a self-matrix

// What a metric may use besides the sum over k. V is a SIMD vector on the CPU, a plain number elsewhere.
template <class V>
struct Pair {
    V gamma;
    V inverse_norm_i;  // 1 / |z_i|, 0 for a zero row: what makes Rows::unit of it
    V inverse_norm_j;
};

DDS_NAMESPACE_END
