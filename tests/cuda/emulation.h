// The part of CUDA that the kernels use, on the host: each thread of a block is a fiber that runs until it must wait. It is
// made to find faults, not for speed. What a kernel does that the hardware would not define ends in an exception or in NaNs:
//
//   - Threads and blocks take turns in an order to choose; a missing barrier shows as a wrong result under one of them.
//   - Shared memory starts as NaNs, and is watched around its ends.
//   - An asynchronous copy takes place at the last moment allowed; until then its destination holds NaNs.
//   - A wait that cannot end is reported, with who waits where. All threads of a block must come to the same barrier, and
//     all lanes of a mask to the same operation, of the same line.
//
// It does not show: races between accesses that no wait separates, order of memory accesses weaker than the program's,
// and misaligned vectors (the undefined-behaviour sanitizer does).
#pragma once

#include <math.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) double2 {
    double x, y;
};
struct alignas(8) int2 {
    int x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

namespace dds::emulation {

// Throws, naming the thread that runs.
[[noreturn]] void fail(const std::string& what);

// Where in the source a wait stands.
struct Place {
    const char* file;
    int line;
    static constexpr Place here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
};

// Waits for all lanes of the mask to come here. The last of them calls `exchange` with what each lane brought, null for
// lanes that are not in the mask.
using Exchange = void (*)(void* const* brought, unsigned mask);
void meet_warp(const char* name, Place place, unsigned mask, void* brings, Exchange exchange);

template <class T>
T shuffle(const char* name, Place place, unsigned mask, T value, unsigned source) {
    static_assert(std::is_arithmetic_v<T>, "numbers only");
    struct Lane {
        T value, result;
        unsigned source;
    } lane{value, value, source};
    meet_warp(name, place, mask, &lane, [](void* const* brought, unsigned among) {
        for (unsigned i = 0; i < 32; ++i) {
            if (!(among >> i & 1)) continue;
            Lane* to = static_cast<Lane*>(brought[i]);
            if (!(among >> to->source & 1))
                fail("lane " + std::to_string(i) + " reads lane " + std::to_string(to->source) +
                     ", which is not in the mask");
            to->result = static_cast<Lane*>(brought[to->source])->value;
        }
    });
    return lane.result;
}

unsigned ballot(const char* name, Place place, unsigned mask, bool predicate);

template <class To, class From>
To bits_as(From from) {
    static_assert(sizeof(To) == sizeof(From), "the same bits");
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

struct Index {
    unsigned x;
};

}  // namespace dds::emulation

namespace dds::cuda {

// Ascending: always the lowest warp of the lowest block that can run, so that a block goes through everything that comes
// before a wait for other blocks, and a warp through everything that comes before a wait for other warps; its lanes take
// turns, from the first. Descending: the highest, from the last. Shuffled: warps of all blocks by turns, in random order.
struct Order {
    enum Kind { ascending, descending, shuffled } kind;
    uint64_t seed = 0;
};

// Runs the kernel once for each thread of `grid` blocks of `block` threads, all of them co-resident. Throws what a thread
// throws, and std::runtime_error for what the kernel does wrong.
void emulate(Order order, unsigned grid, unsigned block, size_t shared_bytes, const std::function<void()>& kernel);

// As in csrc/cuda/device.h.
char* shared_memory();
void copy_async(void* shared, const void* global, unsigned bytes);
void commit_copies();
void wait_copies(unsigned groups);
void barrier_of_grid(unsigned* counter, unsigned round, emulation::Place place = emulation::Place::here());

template <int bytes>
void copy_async(void* shared, const void* global) {
    static_assert(bytes == 4 || bytes == 8 || bytes == 16, "cp.async copies 4, 8 or 16 bytes");
    copy_async(shared, global, bytes);
}

template <int groups>
void wait_copies() {
    static_assert(groups >= 0, "a number of groups");
    wait_copies(static_cast<unsigned>(groups));
}

// All products and what they are added to are added at once, cut off below the 24th bit of the largest of them, as was found
// of the A100 (Fasi, Higham, Mikaitis and Pranesh 2021); Hopper keeps a bit more. Of a tf32 the low 13 bits are ignored.
void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
              emulation::Place place = emulation::Place::here());
void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
             emulation::Place place = emulation::Place::here());
void load_matrices(uint32_t (&words)[4], const void* row, emulation::Place place = emulation::Place::here());
uint32_t to_tf32(float x);
uint32_t relu_difference(uint32_t a, uint32_t b);
uint32_t pack_half2(float lo, float hi);
float2 unpack_half2(uint32_t packed);

}  // namespace dds::cuda

inline dds::emulation::Index threadIdx, blockIdx, blockDim, gridDim;

using std::max;
using std::min;

void __syncthreads(dds::emulation::Place place = dds::emulation::Place::here());

inline void __syncwarp(unsigned mask = 0xffffffff, dds::emulation::Place place = dds::emulation::Place::here()) {
    dds::emulation::meet_warp("__syncwarp", place, mask, nullptr, [](void* const*, unsigned) {});
}

// A lane reads its own value where the source lies beyond its segment of `width` lanes.
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32,
              dds::emulation::Place place = dds::emulation::Place::here()) {
    const unsigned lane = threadIdx.x % 32, within = static_cast<unsigned>(width) - 1;
    return dds::emulation::shuffle("__shfl_sync", place, mask, value,
                                   (lane & ~within) | (static_cast<unsigned>(source) & within));
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32,
                  dds::emulation::Place place = dds::emulation::Place::here()) {
    const unsigned lane = threadIdx.x % 32, last = lane | (static_cast<unsigned>(width) - 1);
    const unsigned source = lane ^ static_cast<unsigned>(with);
    return dds::emulation::shuffle("__shfl_xor_sync", place, mask, value, source > last ? lane : source);
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32,
                   dds::emulation::Place place = dds::emulation::Place::here()) {
    const unsigned lane = threadIdx.x % 32, last = lane | (static_cast<unsigned>(width) - 1);
    return dds::emulation::shuffle("__shfl_down_sync", place, mask, value, lane + by > last ? lane : lane + by);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, dds::emulation::Place place = dds::emulation::Place::here()) {
    return dds::emulation::ballot("__ballot_sync", place, mask, predicate != 0);
}

inline int __any_sync(unsigned mask, int predicate, dds::emulation::Place place = dds::emulation::Place::here()) {
    return dds::emulation::ballot("__any_sync", place, mask, predicate != 0) != 0;
}

inline void __threadfence() {}

template <class T>
T __ldg(const T* from) {
    return *from;
}

// Nothing comes in between: no thread gives way here.
inline int atomicAdd(int* to, int value) { return std::exchange(*to, *to + value); }
inline unsigned atomicAdd(unsigned* to, unsigned value) { return std::exchange(*to, *to + value); }
inline unsigned long long atomicAdd(unsigned long long* to, unsigned long long value) {
    return std::exchange(*to, *to + value);
}
inline unsigned atomicOr(unsigned* to, unsigned value) { return std::exchange(*to, *to | value); }
inline unsigned atomicMax(unsigned* to, unsigned value) { return std::exchange(*to, max(*to, value)); }
inline unsigned long long atomicMax(unsigned long long* to, unsigned long long value) {
    return std::exchange(*to, std::max(*to, value));
}
// NaN becomes 0.
inline float __saturatef(float x) { return x > 0 ? min(x, 1.0f) : 0.0f; }
inline int __ffs(int x) { return __builtin_ffs(x); }

inline unsigned __float_as_uint(float x) { return dds::emulation::bits_as<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return dds::emulation::bits_as<float>(x); }
inline long long __double_as_longlong(double x) { return dds::emulation::bits_as<long long>(x); }
inline double __longlong_as_double(long long x) { return dds::emulation::bits_as<double>(x); }
