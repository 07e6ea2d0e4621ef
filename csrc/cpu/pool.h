// The process's one pool of worker threads.
#pragma once

#include <atomic>
#include <cstdint>

namespace dds {

class Pool;

// How many of the threads a call should use that takes so many steps, of which a core does some 60 in a nanosecond: its own
// alone where it would be done before others are awake.
inline int worth_waking(int threads, int64_t steps) {
    constexpr int64_t kLeast = 1 << 19;
    return steps < kLeast ? 1 : threads;
}

// The threads that one call may use: the calling one and, unless another call has the pool, its workers. Loops run one
// after another; which thread runs which index never changes a result.
class Team {
public:
    explicit Team(int threads);  // 1: the calling thread alone
    ~Team();
    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;

    // f(i) for every i in [0, count); returns when all are done. What f throws stops the loop and is thrown here.
    template <class F>
    void for_each(int64_t count, F&& f) {
        run(count, [](void* context, int64_t i) { (*static_cast<F*>(context))(i); }, &f);
    }

private:
    void run(int64_t count, void (*body)(void*, int64_t), void* context);

    Pool* pool_ = nullptr;  // held by this team; nullptr: the calling thread alone
    int workers_ = 0;
};

}  // namespace dds
