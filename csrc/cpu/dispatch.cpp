#include "cpu/dispatch.h"

#include <stdexcept>
#include <string>

namespace dds {

extern const Kernels kernels_scalar;
#if defined(__x86_64__)
extern const Kernels kernels_avx2, kernels_avx512, kernels_avx512_vnni;
#elif defined(__aarch64__)
extern const Kernels kernels_neon;
#endif

const std::vector<const Kernels*>& available_kernels() {
    static const std::vector<const Kernels*> found = [] {
        std::vector<const Kernels*> all{&kernels_scalar};
#if defined(__x86_64__)
        __builtin_cpu_init();
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) all.push_back(&kernels_avx2);
        const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
        if (avx512) all.push_back(&kernels_avx512);
        if (avx512 && __builtin_cpu_supports("avx512vnni")) all.push_back(&kernels_avx512_vnni);
#elif defined(__aarch64__)
        all.push_back(&kernels_neon);  // part of the architecture
#endif
        return all;
    }();
    return found;
}

const Kernels& kernels(const char* isa) {
    const auto& all = available_kernels();
    if (!isa) return *all.back();
    std::string names;
    for (const Kernels* k : all) {
        if (std::string(isa) == k->name) return *k;
        names += std::string(names.empty() ? "" : ", ") + k->name;
    }
    throw std::invalid_argument("instruction set '" + std::string(isa) + "' is not available; choose from " + names);
}

}  // namespace dds
