#include "cuda/signed_kernel.h"

#include <algorithm>

#include "cuda/check.h"

namespace dds::cuda {
namespace {

template <class T>
void start(const SignedSums& sums, cudaStream_t stream) {
    using Shape = SignedShape<T>;
    const auto blocks = static_cast<unsigned>(std::min<int64_t>(signed_tiles<Shape>(sums), 1 << 30));
    if (blocks == 0) return;
    signed_sums<Shape><<<blocks, Shape::threads, Shape::shared_bytes, stream>>>(sums);
    DDS_CHECK(cudaGetLastError());
}

}  // namespace

void run_signed_sums(const SignedSums& sums, Dtype dtype, void* stream) {
    if (dtype == Dtype::f64) start<double>(sums, static_cast<cudaStream_t>(stream));
    else start<float>(sums, static_cast<cudaStream_t>(stream));
}

}  // namespace dds::cuda
