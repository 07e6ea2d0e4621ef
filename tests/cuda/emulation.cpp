#include "emulation.h"

#include <cmath>
#include <exception>
#include <limits>
#include <memory>
#include <numeric>
#include <queue>
#include <random>
#include <stdexcept>
#include <vector>

#include "fiber.h"

namespace dds::emulation {
namespace {

using cuda::Order;

constexpr unsigned kWarp = 32;
constexpr unsigned kMostThreads = 1024;
constexpr size_t kMostShared = 227 << 10;  // compute capability 9.0 and 10.0; others have less

// Watched bytes on both sides of the shared memory: NaNs for whoever reads them as numbers of any width.
constexpr size_t kWatched = 1040;
unsigned char watched_byte(size_t i) { return i % 2 ? 0xff : 0xfa; }

// In shuffled order the blocks take turns; no more threads of them than this are there at once, unless a barrier of the grid
// asks for more.
constexpr unsigned kMostByTurns = 4096;

// Shared memory begins half a chunk after a multiple of the chunks: aligned to 16 bytes and to no more.
struct alignas(32) Chunk {
    char bytes[32];
};
static_assert(kWatched % sizeof(Chunk) == 16);

struct Copy {
    char* to;
    const char* from;  // null: zeros
    unsigned bytes, group;
};

// What a thread waits at, and with whom.
struct Wait {
    const char* name;
    Place place;
    unsigned mask;      // of a warp's operation
    Exchange exchange;  // of a warp's operation
    unsigned* counter;  // of a barrier of the grid
    unsigned round;     // of a barrier of the grid
};

bool operator==(const Wait& a, const Wait& b) {
    return a.place.line == b.place.line && a.mask == b.mask && a.exchange == b.exchange && a.counter == b.counter &&
           a.round == b.round && !std::strcmp(a.name, b.name) && !std::strcmp(a.place.file, b.place.file);
}

std::string described(const Wait& wait) {
    const std::string file = wait.place.file;
    return std::string(wait.name) + " (" + file.substr(file.find_last_of('/') + 1) + ":" + std::to_string(wait.place.line) +
           ")";
}

struct Thread {
    Thread() : fiber([](void* self) { static_cast<Thread*>(self)->run(); }, this) {}
    void run();

    Fiber fiber;
    unsigned index = 0;
    bool returned = false;
    Wait wait{};
    void* brings = nullptr;
    std::vector<Copy> copies;  // not yet made, the oldest first
    unsigned groups = 0;       // closed so far
};

struct Warp {
    uint32_t existing = 0;  // its lanes
    uint32_t runnable = 0;
    uint32_t meeting = 0;  // those that wait in an operation of the warp
    bool queued = false;   // or running
};

struct Block {
    Block(unsigned index, unsigned size, size_t shared_bytes);
    void check_ends() const;

    unsigned index;
    std::vector<Thread> threads;
    std::vector<Warp> warps;
    Wait barrier{};        // of those that have arrived
    unsigned arrived = 0;  // at the barrier
    unsigned returned = 0;
    size_t shared_bytes;
    std::unique_ptr<Chunk[]> memory;
    char* shared;  // with watched bytes on both sides
};

Block::Block(unsigned index, unsigned size, size_t shared_bytes)
    : index(index),
      threads(size),
      warps((size + kWarp - 1) / kWarp),
      shared_bytes(shared_bytes),
      memory(new Chunk[(shared_bytes + 2 * kWatched) / sizeof(Chunk) + 1]),
      shared(memory[0].bytes + kWatched) {
    for (unsigned i = 0; i < size; ++i) {
        threads[i].index = i;
        warps[i / kWarp].existing |= 1u << i % kWarp;
    }
    for (size_t i = 0; i < kWatched; ++i)
        *(shared - kWatched + i) = shared[shared_bytes + i] = static_cast<char>(watched_byte(i));
    std::memset(shared, 0xff, shared_bytes);
}

void Block::check_ends() const {
    const auto complain = [this](const std::string& where) {
        throw std::runtime_error("block " + std::to_string(index) + " wrote " + where + " its " +
                                 std::to_string(shared_bytes) + " bytes of shared memory");
    };
    for (size_t i = 0; i < kWatched; ++i) {
        if (static_cast<unsigned char>(*(shared - kWatched + i)) != watched_byte(i))
            complain(std::to_string(kWatched - i) + " bytes before");
        if (static_cast<unsigned char>(shared[shared_bytes + i]) != watched_byte(i))
            complain(std::to_string(i) + " bytes beyond");
    }
}

class Machine {
public:
    Machine(Order order, unsigned grid, unsigned block, size_t shared_bytes, const std::function<void()>& kernel);

    void run();

    // Called by the thread that runs:
    void run_kernel();
    void meet_warp(const Wait& wait, void* brings);
    void meet_block(const Wait& wait);
    Thread& thread() { return *thread_; }
    Block& block() { return *block_; }

private:
    struct Ready {
        uint64_t key;
        Block* block;
        unsigned warp;
        bool operator<(const Ready& other) const { return key > other.key; }  // the lowest comes first
    };

    void admit();
    void enqueue(Block& block, unsigned warp);
    void release(Block& block, unsigned warp, uint32_t lanes);
    void release(Block& block);
    void enter_barrier_of_grid(Block& block);
    void run_warp(Block& block, unsigned warp);
    uint32_t next_lane(uint32_t lanes);
    std::string who_waits_where() const;

    Order order_;
    unsigned grid_, size_;
    size_t shared_bytes_;
    const std::function<void()>& kernel_;
    std::mt19937_64 random_;
    std::vector<unsigned> sequence_;              // of the blocks
    std::vector<std::unique_ptr<Block>> blocks_;  // null before and after
    unsigned admitted_ = 0, resident_ = 0;
    std::vector<Block*> at_barrier_of_grid_;
    std::priority_queue<Ready> ready_;
    std::exception_ptr failure_;
    Thread* thread_ = nullptr;
    Block* block_ = nullptr;
};

Machine* machine = nullptr;

void Thread::run() {
    machine->run_kernel();
    returned = true;
}

Machine::Machine(Order order, unsigned grid, unsigned block, size_t shared_bytes, const std::function<void()>& kernel)
    : order_(order),
      grid_(grid),
      size_(block),
      shared_bytes_(shared_bytes),
      kernel_(kernel),
      random_(order.seed),
      sequence_(grid),
      blocks_(grid) {
    if (!grid || !block || block > kMostThreads || shared_bytes > kMostShared)
        throw std::runtime_error("no launch has " + std::to_string(grid) + " blocks of " + std::to_string(block) +
                                 " threads and " + std::to_string(shared_bytes) + " bytes of shared memory");
    std::iota(sequence_.begin(), sequence_.end(), 0u);
    if (order.kind == Order::descending) std::reverse(sequence_.begin(), sequence_.end());
    if (order.kind == Order::shuffled) std::shuffle(sequence_.begin(), sequence_.end(), random_);
    gridDim.x = grid;
    blockDim.x = block;
}

// In ascending and descending order a block goes as far as it can before the next one has its turn, so the next need not
// exist until then.
void Machine::run() {
    const unsigned at_once = order_.kind == Order::shuffled ? kMostByTurns : 0;
    for (;;) {
        while (admitted_ < grid_ && (ready_.empty() || resident_ + size_ <= at_once)) admit();
        if (ready_.empty()) break;
        const auto [key, block, warp] = ready_.top();
        ready_.pop();
        run_warp(*block, warp);
        if (failure_) std::rethrow_exception(failure_);
        if (block->returned < size_) continue;
        block->check_ends();
        resident_ -= size_;
        blocks_[block->index].reset();
    }
    const std::string waits = who_waits_where();
    if (!waits.empty()) throw std::runtime_error("waits that never end:" + waits);
}

void Machine::admit() {
    const unsigned index = sequence_[admitted_++];
    blocks_[index] = std::make_unique<Block>(index, size_, shared_bytes_);
    resident_ += size_;
    release(*blocks_[index]);
}

// A random place in the queue, rather than a random choice from it, lets some warps run far ahead of the others.
void Machine::enqueue(Block& block, unsigned warp) {
    const uint64_t number = uint64_t{block.index} * (kMostThreads / kWarp) + warp;
    const uint64_t key = order_.kind == Order::ascending ? number : order_.kind == Order::descending ? ~number : random_();
    block.warps[warp].queued = true;
    ready_.push({key, &block, warp});
}

void Machine::release(Block& block, unsigned warp, uint32_t lanes) {
    block.warps[warp].runnable |= lanes;
    if (!block.warps[warp].queued) enqueue(block, warp);
}

void Machine::release(Block& block) {
    for (unsigned warp = 0; warp < block.warps.size(); ++warp) release(block, warp, block.warps[warp].existing);
}

void Machine::run_warp(Block& block, unsigned warp) {
    block_ = &block;
    blockIdx.x = block.index;
    uint32_t lanes = std::exchange(block.warps[warp].runnable, 0);
    while (lanes && !failure_) {
        const uint32_t lane = next_lane(lanes);
        lanes &= ~(1u << lane);
        thread_ = &block.threads[warp * kWarp + lane];
        threadIdx.x = thread_->index;
        thread_->fiber.resume();
        block.returned += thread_->returned;
    }
    block.warps[warp].queued = false;
    if (block.warps[warp].runnable) enqueue(block, warp);
}

uint32_t Machine::next_lane(uint32_t lanes) {
    if (order_.kind == Order::ascending) return static_cast<uint32_t>(__builtin_ctz(lanes));
    if (order_.kind == Order::descending) return kWarp - 1 - static_cast<uint32_t>(__builtin_clz(lanes));
    const auto start = static_cast<uint32_t>(random_() % kWarp);  // the first lane from there on, round the end
    const auto turned = static_cast<uint32_t>((uint64_t{lanes} << kWarp | lanes) >> start);
    return (start + static_cast<uint32_t>(__builtin_ctz(turned))) % kWarp;
}

void Machine::run_kernel() {
    try {
        kernel_();
        if (!thread_->copies.empty())
            fail("ends with " + std::to_string(thread_->copies.size()) + " copies that it never waited for");
    } catch (...) {
        failure_ = std::current_exception();
    }
}

void Machine::meet_warp(const Wait& wait, void* brings) {
    Thread& self = *thread_;
    Warp& warp = block_->warps[self.index / kWarp];
    Thread* const lanes = &self - self.index % kWarp;
    const uint32_t mask = wait.mask, own = 1u << self.index % kWarp;
    if (!(mask & own)) fail(described(wait) + ": the mask does not name its own lane");
    if (mask & ~warp.existing) fail(described(wait) + ": the mask names lanes that do not exist");
    self.wait = wait;
    self.brings = brings;
    warp.meeting |= own;
    if ((warp.meeting & mask) == mask) {
        void* brought[kWarp] = {};
        bool complete = true;
        for (unsigned i = 0; i < kWarp; ++i) {
            if (!(mask >> i & 1)) continue;
            complete = complete && lanes[i].wait == wait;
            brought[i] = lanes[i].brings;
        }
        if (complete) {
            wait.exchange(brought, mask);
            warp.meeting &= ~mask;
            release(*block_, self.index / kWarp, mask);
        }
    }
    self.fiber.suspend();
}

void Machine::meet_block(const Wait& wait) {
    Block& block = *block_;
    if (block.arrived == 0) block.barrier = wait;
    if (!(block.barrier == wait)) {
        const bool rounds = wait.counter && block.barrier.counter;
        fail("comes to " + described(wait) + (rounds ? " of round " + std::to_string(wait.round) : "") +
             " while others of its block wait at " + described(block.barrier) +
             (rounds ? " of round " + std::to_string(block.barrier.round) : ""));
    }
    thread_->wait = wait;
    if (++block.arrived == size_) {
        block.arrived = 0;
        if (wait.counter) enter_barrier_of_grid(block);
        else release(block);
    }
    thread_->fiber.suspend();  // the last one too: it has no right to be the first beyond
}

void Machine::enter_barrier_of_grid(Block& block) {
    unsigned* const counter = block.barrier.counter;
    if (*counter / grid_ != block.barrier.round)
        fail(described(block.barrier) + " of round " + std::to_string(block.barrier.round) + " finds its counter at " +
             std::to_string(*counter) + ": it did not start at 0, or the rounds are not 0, 1, 2, ...");
    ++*counter;
    at_barrier_of_grid_.push_back(&block);
    if (*counter % grid_) return;
    for (Block* waiting : std::exchange(at_barrier_of_grid_, {})) release(*waiting);
}

std::string Machine::who_waits_where() const {
    constexpr int kMostLines = 8;
    int lines = 0;
    std::string text;
    for (const auto& block : blocks_) {
        if (!block) continue;
        for (unsigned i = 0, next; i < size_; i = next) {
            const Thread& one = block->threads[i];
            for (next = i + 1; next < size_; ++next) {
                const Thread& other = block->threads[next];
                if (other.returned != one.returned || (!one.returned && !(other.wait == one.wait))) break;
            }
            if (++lines > kMostLines) return text + "\n  ...";
            text += "\n  block " + std::to_string(block->index) + ", threads " + std::to_string(i) + "-" +
                    std::to_string(next - 1) + ": " + (one.returned ? "returned" : described(one.wait));
        }
    }
    return text;
}

// A half is 1 sign, 5 exponent and 10 mantissa bits. Moved to where a float has them they mean 2^-112 of their value,
// subnormal or not.
float from_half(uint32_t half) {
    const uint32_t magnitude = (half & 0x7fff) << 13;
    const bool finite = (half & 0x7c00) != 0x7c00;
    const float value = finite ? bits_as<float>(magnitude) * 0x1p112f : bits_as<float>(magnitude | 0x7f800000);
    return half & 0x8000 ? -value : value;
}

// To the nearest half, ties to even. 2^52 times the distance of the halves around x, added to x, leaves in the low bits how
// many of these distances x is.
uint32_t to_half(double x) {
    if (std::isnan(x)) return 0x7fff;
    const double magnitude = std::min(std::fabs(x), 0x1p16);  // infinite, as is all from 65520 on
    const auto exponent = static_cast<int>(bits_as<uint64_t>(magnitude) >> 52) - 1023;
    const int steps = std::max(exponent, -14) + 14;
    const double shift = bits_as<double>(static_cast<uint64_t>(1023 + 52 - 24 + steps) << 52);
    const uint64_t count = bits_as<uint64_t>(magnitude + shift) - bits_as<uint64_t>(shift);
    return static_cast<uint32_t>(count) + static_cast<uint32_t>(steps) * 1024 + (std::signbit(x) ? 0x8000 : 0);
}

struct Fragments {
    float* d;
    const uint32_t* a;
    const uint32_t* b;
};

// d + sum x y, added as the A100 does: at once, each addend cut off below the 24th bit of the largest, and so the sum.
template <int depth>
float add_products(float d, const double* x, const double* y) {
    double addends[depth + 1] = {static_cast<double>(d)}, largest = std::fabs(static_cast<double>(d)), sum = 0;
    for (int k = 0; k < depth; ++k) {
        addends[k + 1] = x[k] * y[k];
        largest = std::max(largest, std::fabs(addends[k + 1]));
        sum += addends[k + 1];
    }
    sum += static_cast<double>(d);
    if (!std::isfinite(sum) || largest == 0) return static_cast<float>(sum);
    const double unit = std::ldexp(1.0, std::ilogb(largest) - 23);
    sum = 0;
    for (double addend : addends) sum += std::trunc(addend / unit);
    sum *= unit;
    const double last = sum == 0 ? unit : std::max(std::ldexp(1.0, std::ilogb(sum) - 23), 0x1p-149);
    return static_cast<float>(std::trunc(sum / last) * last);
}

// d += a b, with `each` numbers in a word. For the place of each word see csrc/cuda/device.h.
template <int each, class Unpack>
void multiply(void* const* brought, Unpack unpack) {
    constexpr int depth = 8 * each;
    double a[16][depth], b[8][depth];
    for (int lane = 0; lane < 32; ++lane) {
        const auto& from = *static_cast<const Fragments*>(brought[lane]);
        const int row = lane / 4, column = lane % 4 * each;
        for (int i = 0; i < each; ++i) {
            for (int word = 0; word < 4; ++word)
                a[row + word % 2 * 8][column + word / 2 * 4 * each + i] = unpack(from.a[word], i);
            for (int word = 0; word < 2; ++word) b[row][column + word * 4 * each + i] = unpack(from.b[word], i);
        }
    }
    for (int lane = 0; lane < 32; ++lane) {
        for (int word = 0; word < 4; ++word) {
            float& d = static_cast<const Fragments*>(brought[lane])->d[word];
            d = add_products<depth>(d, a[lane / 4 + word / 2 * 8], b[lane % 4 * 2 + word % 2]);
        }
    }
}

}  // namespace

void fail(const std::string& what) {
    throw std::runtime_error("block " + std::to_string(machine->block().index) + ", thread " +
                             std::to_string(machine->thread().index) + ": " + what);
}

void meet_warp(const char* name, Place place, unsigned mask, void* brings, Exchange exchange) {
    machine->meet_warp({name, place, mask, exchange, nullptr, 0}, brings);
}

unsigned ballot(const char* name, Place place, unsigned mask, bool predicate) {
    struct Lane {
        bool predicate;
        unsigned result;
    } lane{predicate, 0};
    meet_warp(name, place, mask, &lane, [](void* const* brought, unsigned among) {
        unsigned result = 0;
        for (unsigned i = 0; i < kWarp; ++i)
            if (among >> i & 1 && static_cast<Lane*>(brought[i])->predicate) result |= 1u << i;
        for (unsigned i = 0; i < kWarp; ++i)
            if (among >> i & 1) static_cast<Lane*>(brought[i])->result = result;
    });
    return lane.result;
}

}  // namespace dds::emulation

namespace dds::cuda {

using namespace emulation;

void emulate(Order order, unsigned grid, unsigned block, size_t shared_bytes, const std::function<void()>& kernel) {
    Machine one(order, grid, block, shared_bytes, kernel);
    machine = &one;
    one.run();
}

char* shared_memory() { return machine->block().shared; }

void copy_async(void* shared, const void* global, unsigned bytes) {
    const Block& block = machine->block();
    char* const to = static_cast<char*>(shared);
    if (to < block.shared || to + bytes > block.shared + block.shared_bytes)
        fail("copies to outside of the block's shared memory");
    if (reinterpret_cast<uintptr_t>(shared) % bytes || reinterpret_cast<uintptr_t>(global) % bytes)
        fail("copies " + std::to_string(bytes) + " bytes to or from an address that is not aligned to them");
    std::memset(to, 0xff, bytes);
    Thread& self = machine->thread();
    self.copies.push_back({to, static_cast<const char*>(global), bytes, self.groups});
}

void commit_copies() { ++machine->thread().groups; }

void wait_copies(unsigned groups) {
    Thread& self = machine->thread();
    auto copy = self.copies.begin();
    for (; copy != self.copies.end() && copy->group + groups < self.groups; ++copy) {
        std::memcpy(copy->to, copy->from, copy->bytes);
    }
    self.copies.erase(self.copies.begin(), copy);
}

void barrier_of_grid(unsigned* counter, unsigned round, Place place) {
    machine->meet_block({"barrier_of_grid", place, 0, nullptr, counter, round});
}

void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Place place) {
    Fragments fragments{d, a, b};
    meet_warp("mma_tf32", place, 0xffffffff, &fragments, [](void* const* brought, unsigned) {
        multiply<1>(brought, [](uint32_t word, int) { return static_cast<double>(bits_as<float>(word & 0xffffe000)); });
    });
}

void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Place place) {
    Fragments fragments{d, a, b};
    meet_warp("mma_f16", place, 0xffffffff, &fragments, [](void* const* brought, unsigned) {
        multiply<2>(brought, [](uint32_t word, int i) { return static_cast<double>(from_half(word >> 16 * i)); });
    });
}

void load_matrices(uint32_t (&words)[4], const void* row, Place place) {
    struct Lane {
        uint32_t* words;
        const char* row;
    } self{words, static_cast<const char*>(row)};
    const Block& block = machine->block();
    if (self.row < block.shared || self.row + 16 > block.shared + block.shared_bytes || (self.row - block.shared) % 16)
        fail("loads a row of a matrix from outside of the block's shared memory, or not aligned to 16 bytes");
    meet_warp("load_matrices", place, 0xffffffff, &self, [](void* const* brought, unsigned) {
        for (int lane = 0; lane < 32; ++lane)
            for (int matrix = 0; matrix < 4; ++matrix)
                std::memcpy(static_cast<Lane*>(brought[lane])->words + matrix,
                            static_cast<Lane*>(brought[8 * matrix + lane / 4])->row + lane % 4 * 4, 4);
    });
}

// Half a step more in magnitude, and the rest cut off.
uint32_t to_tf32(float x) {
    if (std::isnan(x)) return 0x7fffe000;
    return std::isinf(x) ? bits_as<uint32_t>(x) : (bits_as<uint32_t>(x) + 0x1000) & 0xffffe000;
}

uint32_t relu_difference(uint32_t a, uint32_t b) {
    uint32_t packed = 0;
    for (int i = 0; i < 32; i += 16) {
        // exact in float64
        const double difference = static_cast<double>(from_half(a >> i)) - static_cast<double>(from_half(b >> i));
        packed |= to_half(difference <= 0 ? 0 : difference) << i;
    }
    return packed;
}

float2 unpack_half2(uint32_t packed) { return {from_half(packed), from_half(packed >> 16)}; }

uint32_t pack_half2(float lo, float hi) { return to_half(static_cast<double>(lo)) | to_half(static_cast<double>(hi)) << 16; }

}  // namespace dds::cuda

void __syncthreads(dds::emulation::Place place) {
    dds::emulation::machine->meet_block({"__syncthreads", place, 0, nullptr, nullptr, 0});
}
