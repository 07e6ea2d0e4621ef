#include "cpu/pool.h"

#include <pthread.h>

#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

namespace dds {
namespace {

// How long an idle worker looks for the next loop before it sleeps: longer than the pauses between the loops of one call
// and between calls in a row, short enough to leave the core to others.
constexpr auto kSpin = std::chrono::microseconds(200);

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    std::this_thread::yield();
#endif
}

}  // namespace

class Pool {
public:
    bool try_hold() { return !held_.exchange(true, std::memory_order_acquire); }
    void release() { held_.store(false, std::memory_order_release); }

    // Returns how many of `count` there are: fewer where the system gives no more threads.
    int ensure_workers(int count) {
        try {
            for (; started_ < count; ++started_) std::thread([this, id = started_] { work(id); }).detach();
        } catch (const std::system_error&) {
            return started_;
        }
        return count;
    }

    void run(int workers, int64_t count, void (*body)(void*, int64_t), void* context) {
        body_ = body;
        context_ = context;
        count_ = count;
        next_.store(0, std::memory_order_relaxed);
        const uint64_t open =
            (generation_ += 1) << kGenerationShift | static_cast<uint64_t>(workers) << kWorkersShift | kOpen;
        {
            std::lock_guard<std::mutex> lock(mutex_);  // so that a worker about to sleep sees the loop or is woken
            state_.store(open, std::memory_order_release);
        }
        if (sleepers_.load(std::memory_order_relaxed) > 0) wake_.notify_all();
        take(count);
        // nobody enters any more; wait for those inside
        state_.fetch_and(~kOpen, std::memory_order_acq_rel);
        for (int spins = 0; state_.load(std::memory_order_acquire) & kActive; ++spins)
            spins < 2000 ? pause() : std::this_thread::yield();
        if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
    }

private:
    // state_: generation | workers wanted | open | workers inside
    static constexpr uint64_t kActive = 0x7fff, kOpen = 0x8000;
    static constexpr int kWorkersShift = 16, kGenerationShift = 32;

    void take(int64_t count) {
        try {
            for (int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count;) body_(context_, i);
        } catch (...) {
            next_.store(count, std::memory_order_relaxed);
            std::lock_guard<std::mutex> lock(mutex_);
            failure_ = std::current_exception();
        }
    }

    void work(int id) {
        uint64_t seen = 0;  // generation of the last loop taken part in
        auto idle_since = std::chrono::steady_clock::now();
        for (;;) {
            uint64_t state = state_.load(std::memory_order_acquire);
            const bool mine = state & kOpen && state >> kGenerationShift != seen &&
                              static_cast<uint64_t>(id) < (state >> kWorkersShift & 0xffff);
            if (mine) {
                if (!state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel)) continue;
                seen = state >> kGenerationShift;
                take(count_);
                state_.fetch_sub(1, std::memory_order_release);
                idle_since = std::chrono::steady_clock::now();
            } else if (std::chrono::steady_clock::now() - idle_since < kSpin) {
                for (int i = 0; i < 16; ++i) pause();
            } else {
                std::unique_lock<std::mutex> lock(mutex_);
                if (state_.load(std::memory_order_acquire) == state) {
                    sleepers_.fetch_add(1, std::memory_order_relaxed);
                    wake_.wait(lock);
                    sleepers_.fetch_sub(1, std::memory_order_relaxed);
                }
                idle_since = std::chrono::steady_clock::now();
            }
        }
    }

    std::atomic<bool> held_{false};
    int started_ = 0;
    uint64_t generation_ = 0;
    std::atomic<uint64_t> state_{0};
    std::atomic<int64_t> next_{0};
    std::atomic<int> sleepers_{0};
    void (*body_)(void*, int64_t) = nullptr;
    void* context_ = nullptr;
    int64_t count_ = 0;
    std::exception_ptr failure_;  // under mutex_ while a loop runs
    std::mutex mutex_;
    std::condition_variable wake_;
};

namespace {

// Never destroyed: its threads may outlive every static object. A forked child has none of the threads and may have
// inherited a locked mutex, so it starts afresh.
std::atomic<Pool*> the_pool{nullptr};

Pool* pool() {
    static const bool once = [] {
        the_pool = new Pool;
        pthread_atfork(nullptr, nullptr, [] { the_pool = new Pool; });
        return true;
    }();
    (void)once;
    return the_pool;
}

}  // namespace

Team::Team(int threads) {
    constexpr int kMostThreads = 1024;
    if (threads <= 1 || !pool()->try_hold()) return;
    pool_ = pool();
    workers_ = pool_->ensure_workers((threads < kMostThreads ? threads : kMostThreads) - 1);
}

Team::~Team() {
    if (pool_) pool_->release();
}

void Team::run(int64_t count, void (*body)(void*, int64_t), void* context) {
    if (!pool_ || count <= 1) {
        for (int64_t i = 0; i < count; ++i) body(context, i);
        return;
    }
    pool_->run(workers_, count, body, context);
}

}  // namespace dds
