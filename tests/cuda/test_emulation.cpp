// The emulation of CUDA: sound kernels give the right results under it in every order, and each fault put into them is
// found. Exits non-zero and names each case that failed.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "emulation_kernels.h"

namespace {

using namespace dds::cuda;
using sample::Fault;

int failures = 0;

void expect(bool ok, const std::string& what) {
    if (ok) return;
    ++failures;
    std::fprintf(stderr, "FAILED: %s\n", what.c_str());
}

const std::vector<std::pair<Order, const char*>> kOrders = {
    {{Order::ascending}, "ascending"},    {{Order::descending}, "descending"},  {{Order::shuffled, 1}, "shuffled 1"},
    {{Order::shuffled, 2}, "shuffled 2"}, {{Order::shuffled, 3}, "shuffled 3"},
};

// Whether a kernel's results under an order are right. Throws what the emulation throws.
using Check = bool (*)(Order);

void sound(const char* kernel, Check right) {
    for (const auto& [order, name] : kOrders) {
        const std::string what = std::string(kernel) + ", " + name;
        try {
            expect(right(order), what + ": wrong result");
        } catch (const std::exception& error) {
            expect(false, what + ": " + error.what());
        }
    }
}

// The fault gives a wrong result under at least one order, or, where a message is named, that exception under all of them.
void faulty(const char* kernel, const char* fault, Check right, const char* message = nullptr) {
    const std::string what = std::string(kernel) + ", " + fault;
    std::string wrong, said;
    size_t thrown = 0;
    for (const auto& [order, name] : kOrders) {
        try {
            if (!right(order)) wrong += (wrong.empty() ? "wrong result " : ", ") + std::string(name);
        } catch (const std::exception& error) {
            if (!thrown++) said = error.what();
            expect(message && std::string(error.what()).find(message) != std::string::npos, what + ": " + error.what());
        }
    }
    expect(message ? thrown == kOrders.size() : !wrong.empty(), what + ": not found");
    std::printf("%s: %s\n", what.c_str(), message ? said.c_str() : wrong.c_str());
}

const float kNan = std::numeric_limits<float>::quiet_NaN();

// Small integers, whose sums are exact in any order.
std::vector<float> integers(size_t count, unsigned seed) {
    std::mt19937 generator(seed);
    std::uniform_int_distribution<int> numbers(-50, 50);
    std::vector<float> x(count);
    for (float& e : x) e = static_cast<float>(numbers(generator));
    return x;
}

template <Fault fault>
bool reduction(Order order) {
    const auto x = integers(1111, 1);
    std::vector<float> sums(3, kNan), want(3, 0.0f);
    for (size_t i = 0; i < x.size(); ++i) want[i / 128 % 3] += x[i];
    emulate(order, 3, 128, 4 * sizeof(float), [&] { sample::reduction<fault>(x.data(), 1111, sums.data()); });
    return sums == want;
}

template <Fault fault>
bool transposition(Order order) {
    const unsigned rows = 45, cols = 70;
    const auto x = integers(rows * cols, 2);
    std::vector<float> out(rows * cols, kNan), want(rows * cols);
    for (unsigned i = 0; i < rows; ++i)
        for (unsigned j = 0; j < cols; ++j) want[j * rows + i] = x[i * cols + j];
    emulate(order, 2 * 3, 256, 32 * 33 * sizeof(float),
            [&] { sample::transposition<fault>(x.data(), rows, cols, out.data()); });
    return out == want;
}

template <Fault fault, unsigned bytes = 16>
bool staged_reversal(Order order) {
    const unsigned tiles = 5, count = 4 * 256 + 132;
    const auto x = integers(count, 3);  // new aligns it to 16 bytes
    std::vector<float> out(tiles * 256, kNan), want(tiles * 256);
    for (unsigned i = 0; i < tiles * 256; ++i) {
        const unsigned from = i / 256 * 256 + 255 - i % 256;
        want[i] = from < count ? x[from] : 0;
    }
    emulate(order, 1, 64, 2 * 256 * sizeof(float),
            [&] { sample::staged_reversal<fault, bytes>(x.data(), count, tiles, out.data()); });
    return out == want;
}

template <Fault fault>
bool grid_sum(Order order) {
    const unsigned grid = 7;
    const auto x = integers(500, 4);
    float want = 0;
    for (float e : x) want += 2 * e;
    std::vector<float> sums(grid, kNan), totals(grid, kNan);
    unsigned counter = 0;
    emulate(order, grid, 32, 0, [&] { sample::grid_sum<fault>(x.data(), 500, sums.data(), totals.data(), &counter); });
    return totals == std::vector<float>(grid, want);
}

template <Fault fault, bool halves>
bool product(Order order) {
    const unsigned depth = 45;  // no multiple of a tile's
    const auto x = integers(32 * depth, 5), y = integers(16 * depth, 6);
    std::vector<float> out(32 * 16, kNan), want(32 * 16, 0.0f);
    for (unsigned i = 0; i < 32; ++i)
        for (unsigned j = 0; j < 16; ++j)
            for (unsigned k = 0; k < depth; ++k) want[i * 16 + j] += x[i * depth + k] * y[j * depth + k];
    emulate(order, 1, 128, 48 * 9 * sizeof(uint32_t),
            [&] { sample::product<fault, halves>(x.data(), y.data(), depth, out.data()); });
    return out == want;
}

template <Fault fault>
bool absolute_difference(Order order) {
    const auto a = integers(300, 7), b = integers(300, 8);
    std::vector<uint32_t> x, y, out(150), want;
    for (size_t i = 0; i < 300; i += 2) {
        x.push_back(pack_half2(a[i], a[i + 1]));
        y.push_back(pack_half2(b[i], b[i + 1]));
        want.push_back(pack_half2(std::fabs(a[i] - b[i]), std::fabs(a[i + 1] - b[i + 1])));
    }
    emulate(order, 2, 64, 0, [&] { sample::absolute_difference<fault>(x.data(), y.data(), 150, out.data()); });
    return out == want;
}

template <Fault fault>
bool census(Order order) {
    std::vector<int> x;
    for (float e : integers(4 * 64, 9)) x.push_back(static_cast<int>(e));
    std::fill(x.begin() + 64, x.begin() + 96, -3);  // a warp without any above zero
    sample::Census want{}, got{};
    for (size_t i = 0; i < x.size(); ++i) {
        want.steps += x[i] - x[i / 32 * 32];
        if (x[i] <= 0) continue;
        want.positive += 1;
        want.bits |= static_cast<unsigned>(x[i]);
        want.largest = std::max(want.largest, static_cast<unsigned>(x[i]));
        want.sum += static_cast<unsigned long long>(x[i]);
    }
    emulate(order, 4, 64, 64 * sizeof(int), [&] { sample::census<fault>(x.data(), &got); });
    return got.positive == want.positive && got.bits == want.bits && got.largest == want.largest &&
           got.steps == want.steps && got.sum == want.sum;
}

// Blocks that keep numbers in the same place: wrong only where their turns interleave.
bool shared_scratch(Order order) {
    std::vector<unsigned> scratch(64), out(4 * 64);
    emulate(order, 4, 64, 0, [&] {
        scratch[threadIdx.x] = blockIdx.x;
        __syncthreads();
        out[blockIdx.x * 64 + threadIdx.x] = scratch[threadIdx.x ^ 32];
    });
    for (size_t i = 0; i < out.size(); ++i)
        if (out[i] != i / 64) return false;
    return true;
}

void check_kernels() {
    const char* const never = "waits that never end";

    sound("reduction", reduction<Fault::none>);
    faulty("reduction", "no barrier", reduction<Fault::no_barrier>);
    faulty("reduction", "divergent barrier", reduction<Fault::divergent_barrier>, never);
    faulty("reduction", "divergent shuffle", reduction<Fault::divergent_shuffle>, never);
    faulty("reduction", "beyond shared memory", reduction<Fault::beyond_shared>, "bytes beyond its 16 bytes");
    faulty("reduction", "uninitialised", reduction<Fault::uninitialised>);

    sound("transposition", transposition<Fault::none>);
    faulty("transposition", "no barrier", transposition<Fault::no_barrier>);
    faulty("transposition", "divergent barrier", transposition<Fault::divergent_barrier>, never);
    faulty("transposition", "beyond shared memory", transposition<Fault::beyond_shared>, "bytes beyond its 4224 bytes");
    faulty("transposition", "uninitialised", transposition<Fault::uninitialised>);

    sound("staged reversal, 16 bytes", staged_reversal<Fault::none>);
    sound("staged reversal, 8 bytes", staged_reversal<Fault::none, 8>);
    sound("staged reversal, 4 bytes", staged_reversal<Fault::none, 4>);
    faulty("staged reversal", "no wait", staged_reversal<Fault::no_wait>, "copies that it never waited for");
    faulty("staged reversal", "wait too few", staged_reversal<Fault::wait_too_few>);
    faulty("staged reversal", "copies never waited for", staged_reversal<Fault::wait_never>,
           "copies that it never waited for");
    faulty("staged reversal", "no barrier", staged_reversal<Fault::no_barrier>);
    faulty("staged reversal", "no second barrier", staged_reversal<Fault::no_second_barrier>);
    faulty("staged reversal", "no zeros", staged_reversal<Fault::no_zeros>);
    faulty("staged reversal", "misaligned", staged_reversal<Fault::misaligned>, "not aligned");
    faulty("staged reversal", "outside shared memory", staged_reversal<Fault::outside_shared>,
           "outside of the block's shared");

    sound("grid sum", grid_sum<Fault::none>);
    faulty("grid sum", "no grid barrier", grid_sum<Fault::no_grid_barrier>);
    faulty("grid sum", "no second grid barrier", grid_sum<Fault::no_second_barrier>);
    faulty("grid sum", "wrong round", grid_sum<Fault::wrong_round>, "finds its counter at");
    faulty("grid sum", "a block left out", grid_sum<Fault::left_out>, never);

    sound("product of tf32", product<Fault::none, false>);
    faulty("product of tf32", "no barrier", product<Fault::no_barrier, false>);
    faulty("product of tf32", "no second barrier", product<Fault::no_second_barrier, false>);
    faulty("product of tf32", "uninitialised", product<Fault::uninitialised, false>);
    faulty("product of tf32", "beyond shared memory", product<Fault::beyond_shared, false>, "bytes beyond its 1728");
    faulty("product of tf32", "fragments swapped", product<Fault::swapped, false>);
    faulty("product of tf32", "a lane left out", product<Fault::divergent_product, false>, never);

    sound("product of halves", product<Fault::none, true>);
    faulty("product of halves", "no barrier", product<Fault::no_barrier, true>);
    faulty("product of halves", "no second barrier", product<Fault::no_second_barrier, true>);
    faulty("product of halves", "uninitialised", product<Fault::uninitialised, true>);
    faulty("product of halves", "fragments swapped", product<Fault::swapped, true>);
    faulty("product of halves", "a lane left out", product<Fault::divergent_product, true>, never);

    sound("absolute difference", absolute_difference<Fault::none>);
    faulty("absolute difference", "half of it left out", absolute_difference<Fault::left_out>);

    sound("census", census<Fault::none>);
    faulty("census", "no barrier", census<Fault::no_barrier>);
    faulty("scratch", "the same for all blocks", shared_scratch);
    faulty("census", "divergent vote", census<Fault::divergent_shuffle>, never);
}

// What no sample kernel does.
template <class Kernel>
void check_refused(const char* what, unsigned block, const char* message, Kernel kernel) {
    for (const auto& [order, name] : kOrders) {
        std::string said = "nothing";
        try {
            emulate(order, 2, block, 64, kernel);
        } catch (const std::exception& error) {
            said = error.what();
        }
        expect(said.find(message) != std::string::npos, std::string(what) + ", " + name + ": " + said);
    }
}

void check_refusals() {
    check_refused("another line", 64, "while others of its block wait at __syncthreads", [] {
        if (threadIdx.x < 32) __syncthreads();
        else __syncthreads();
    });
    check_refused("another operation", 32, "waits that never end", [] {
        if (threadIdx.x < 16) __any_sync(0xffffffff, 1);
        else __ballot_sync(0xffffffff, 1);
    });
    check_refused("another mask", 32, "waits that never end",
                  [] { __syncwarp(threadIdx.x < 16 ? 0xffffffff : 0xffff0000); });
    check_refused("fewer lanes", 32, "waits that never end", [] {
        if (threadIdx.x < 3) __syncwarp(threadIdx.x == 0 ? 3 : 7);
    });
    check_refused("another type", 32, "waits that never end",
                  [] { threadIdx.x < 16 ? void(__shfl_sync(0xffffffff, 1, 0)) : void(__shfl_sync(0xffffffff, 1.0f, 0)); });
    check_refused("own lane not named", 32, "does not name its own lane", [] { __syncwarp(0xfffffffe); });
    check_refused("partial warp", 40, "lanes that do not exist", [] { __syncwarp(); });
    check_refused("lane not in the mask", 32, "not in the mask", [] {
        if (threadIdx.x < 16) __shfl_sync(0xffff, 1, 20);
    });
    check_refused("a thread that returned", 64, "threads 1-63: returned", [] {
        if (threadIdx.x == 0) __syncthreads();
    });
    check_refused("the kernel's own exception", 64, "its own", [] {
        __syncthreads();
        if (threadIdx.x == 33) throw std::runtime_error("its own");
        __syncthreads();
    });
    check_refused("before shared memory", 32, "4 bytes before its 64 bytes", [] { shared_memory()[-4] = 1; });
    alignas(16) const float four[4] = {};
    check_refused("copies not committed", 1, "1 copies that it never waited for", [&] {
        copy_async<4>(shared_memory(), four);
        wait_copies<0>();
    });
    check_refused("source not aligned", 1, "not aligned", [&] { copy_async<8>(shared_memory(), four + 1); });
    check_refused("too many threads", 1056, "no launch has", [] {});
    unsigned counter = 3;
    check_refused("counter not at 0", 32, "finds its counter at 3", [&] { barrier_of_grid(&counter, 0); });
    check_refused("rounds differ", 32, "of round", [&] {
        counter = 0;
        barrier_of_grid(&counter, threadIdx.x % 2);
    });
}

void check_orders() {
    const auto sequence = [](Order order) {
        std::vector<unsigned> threads;
        emulate(order, 3, 40, 0, [&] { threads.push_back(blockIdx.x * 40 + threadIdx.x); });
        return threads;
    };
    const auto up = sequence({Order::ascending}), down = sequence({Order::descending});
    const auto some = sequence({Order::shuffled, 1}), others = sequence({Order::shuffled, 2});
    expect(up.size() == 120 && std::is_sorted(up.begin(), up.end()), "ascending");
    expect(std::equal(up.rbegin(), up.rend(), down.begin(), down.end()), "descending");
    expect(std::is_permutation(up.begin(), up.end(), some.begin(), some.end()) && some != up, "shuffled");
    expect(some != others && some == sequence({Order::shuffled, 1}), "shuffled by the seed");
}

void check_memory() {
    for (const auto& [order, name] : kOrders) {
        unsigned source[2] = {1, 2}, wrong = 0;
        emulate(order, 2, 1, 8, [&] {
            auto* const shared = reinterpret_cast<volatile unsigned*>(shared_memory());
            wrong += shared[0] != 0xffffffff || shared[1] != 0xffffffff;
            shared[0] = 0;
            copy_async<4>(shared_memory(), source);
            commit_copies();
            copy_async<4>(shared_memory() + 4, source + 1);
            commit_copies();
            wrong += shared[0] != 0xffffffff;
            wait_copies<2>();
            wrong += shared[0] != 0xffffffff;
            source[0] = 3;
            wait_copies<1>();
            wrong += shared[0] != 3 || shared[1] != 0xffffffff;
            wait_copies<0>();
            wrong += shared[1] != 2;
            source[0] = 1;
        });
        expect(wrong == 0, std::string("shared memory and copies, ") + name);
    }
}

void check_low_bits() {
    float d[32][4] = {};
    emulate({Order::ascending}, 1, 32, 0, [&] {
        const uint32_t one = __float_as_uint(1.0f), word = one + 0x1fff;
        mma_tf32(d[threadIdx.x], {word, word, word, word}, {one, word});
    });
    expect(d[0][0] == 8 && d[31][3] == 8, "the low bits of a tf32 are ignored");
}

void check_warps() {
    for (const auto& [order, name] : kOrders) {
        std::vector<int> down(40), exchanged(40), from(40), halves(40);
        emulate(order, 1, 40, 0, [&] {
            const int lane = static_cast<int>(threadIdx.x % 32), value = 100 + lane;
            const unsigned mask = threadIdx.x < 32 ? 0xffffffff : 0xff;
            down[threadIdx.x] = __shfl_down_sync(mask, value, 3, 8);
            exchanged[threadIdx.x] = __shfl_xor_sync(mask, value, 5, 4);
            from[threadIdx.x] = __shfl_sync(mask, value, 9, 8);
            // two groups of a warp, each by itself; the first is not held up by the second
            if (lane < 4) halves[threadIdx.x] = static_cast<int>(__ballot_sync(0xf, lane == 2));
            halves[threadIdx.x] += __any_sync(mask, lane == 7);
        });
        for (int i = 0; i < 40; ++i) {
            const int lane = i % 32;
            const auto at = static_cast<size_t>(i);
            expect(down[at] == 100 + (lane % 8 < 5 ? lane + 3 : lane), std::string("shuffle down, ") + name);
            // CUDA lets an exchange reach back before its segment, not beyond it
            expect(exchanged[at] == 100 + ((lane ^ 5) > (lane | 3) ? lane : lane ^ 5), std::string("shuffle xor, ") + name);
            expect(from[at] == 100 + lane / 8 * 8 + 1, std::string("shuffle, ") + name);
            expect(halves[at] == (lane < 4 ? 5 : 1), std::string("groups of a warp, ") + name);
        }
    }
}

// Values of all halves, written out.
std::vector<double> all_halves() {
    std::vector<double> values(1 << 16);
    for (unsigned half = 0; half < 1 << 16; ++half) {
        const int exponent = half >> 10 & 31, mantissa = half & 1023;
        double value = exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24);
        if (exponent == 31)
            value = mantissa ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity();
        values[half] = half & 0x8000 ? -value : value;
    }
    return values;
}

// The nearest half to x >= 0 by search, ties to the even one; a value from the middle of the largest and 2^16 on is
// infinite.
unsigned nearest_half(const std::vector<double>& values, double x) {
    if (std::isnan(x)) return 0x7fff;
    const auto value = [&](unsigned half) { return half == 0x7c00 ? 0x1p16 : values[half]; };
    unsigned low = 0, high = 0x7c00;
    while (high - low > 1) {
        const unsigned middle = (low + high) / 2;
        (value(middle) <= x ? low : high) = middle;
    }
    if (x >= value(high)) return high;
    const double below = x - value(low), above = value(high) - x;
    return below < above || (below == above && low % 2 == 0) ? low : high;
}

void check_rounding() {
    const auto values = all_halves();
    for (unsigned half = 0; half < 1 << 16; ++half) {
        const float value = static_cast<float>(values[half]);
        const unsigned want = std::isnan(value) ? 0x7fff : half;
        expect(pack_half2(value, 1.0f) == (0x3c000000 | want), "a half comes back");
        if (half > 0x7c00 && half < 0x8000) continue;
        // around the middle of it and the next one
        const float middle = (value + static_cast<float>(values[(half + 1) & 0xffff])) / 2;
        for (float x : {middle, std::nextafter(middle, 0.0f), std::nextafter(middle, 1e9f)}) {
            const unsigned magnitude = nearest_half(values, std::fabs(static_cast<double>(x)));
            const unsigned sign = std::isnan(x) || !std::signbit(x) ? 0 : 0x8000;
            expect(pack_half2(0.0f, x) == (magnitude | sign) << 16, "rounding of " + std::to_string(x) + " to a half");
        }
    }
    std::mt19937 generator(10);
    for (int i = 0; i < 1000000; ++i) {
        const uint32_t a = static_cast<uint32_t>(generator()), b = static_cast<uint32_t>(generator());
        uint32_t want = 0;
        for (int shift = 0; shift < 32; shift += 16) {
            const double difference = values[a >> shift & 0xffff] - values[b >> shift & 0xffff];
            want |= nearest_half(values, difference <= 0 ? 0 : difference) << shift;
        }
        expect(relu_difference(a, b) == want, "relu_difference");
    }
    for (uint32_t bits : {0x3f800fffu, 0x3f801000u, 0x3f803000u, 0xbf801000u, 0x00001000u, 0x7f7fffffu}) {
        const double x = static_cast<double>(__uint_as_float(bits));
        const auto rounded = [&](int places) {  // std::round: ties away
            const double step = std::ldexp(1, std::max(std::ilogb(x), -126) - places);
            return static_cast<float>(std::round(x / step) * step);
        };
        expect(to_tf32(__uint_as_float(bits)) == __float_as_uint(rounded(10)), "to_tf32");
    }
    expect(std::isnan(__uint_as_float(to_tf32(__uint_as_float(0x7f800001)))), "to_tf32 of a NaN");
    expect(to_tf32(__uint_as_float(0xff800000)) == 0xff800000, "to_tf32 of an infinity");
}

void check_sizes() {
    // more threads than there are stacks at once, and a barrier of the grid that needs them all
    for (const auto& [order, name] : kOrders) {
        std::vector<unsigned> seen(3000);
        emulate(order, 3000, 64, 0, [&] { atomicAdd(&seen[blockIdx.x], 1u); });
        expect(seen == std::vector<unsigned>(3000, 64), std::string("many blocks, ") + name);
        unsigned counter = 0, wrong = 0, arrived = 0;
        emulate(order, 60, 96, 0, [&] {
            atomicAdd(&arrived, 1u);
            barrier_of_grid(&counter, 0);
            if (arrived != 60 * 96) atomicAdd(&wrong, 1u);
        });
        expect(wrong == 0, std::string("all blocks at the barrier of the grid, ") + name);
    }
}

void measure() {
    for (const auto& [order, name] : kOrders) {
        const auto start = std::chrono::steady_clock::now();
        emulate(order, 4, 512, 0, [] {
            for (int i = 0; i < 1000; ++i) __syncthreads();
        });
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
        std::printf("4 blocks of 512 threads, 1000 barriers, %s: %.2f s\n", name, seconds.count());
    }
}

}  // namespace

int main() {
    check_kernels();
    check_refusals();
    check_orders();
    check_memory();
    check_warps();
    check_low_bits();
    check_rounding();
    check_sizes();
    measure();
    if (failures) std::fprintf(stderr, "%d checks failed\n", failures);
    return failures ? 1 : 0;
}
