// A function on a stack of its own, that can stop in the middle and go on later. One thread of the system runs them all.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <stdexcept>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__has_feature)  // Clang
#define DDS_ADDRESS_SANITIZER __has_feature(address_sanitizer)
#elif defined(__SANITIZE_ADDRESS__)
#define DDS_ADDRESS_SANITIZER 1
#else
#define DDS_ADDRESS_SANITIZER 0
#endif
#if DDS_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace dds::emulation {

#if defined(__x86_64__)

using Context = void*;  // the stack pointer; the registers that a call preserves lie on the stack

__attribute__((naked, noinline)) inline void switch_context(Context* /* from: rdi */, const Context* /* to: rsi */) {
    asm("pushq %rbp\n\t"
        "pushq %rbx\n\t"
        "pushq %r12\n\t"
        "pushq %r13\n\t"
        "pushq %r14\n\t"
        "pushq %r15\n\t"
        "movq %rsp, (%rdi)\n\t"
        "movq (%rsi), %rsp\n\t"
        "popq %r15\n\t"
        "popq %r14\n\t"
        "popq %r13\n\t"
        "popq %r12\n\t"
        "popq %rbx\n\t"
        "popq %rbp\n\t"
        "ret");
}

inline void prepare_context(Context* context, char* stack, size_t bytes, void (*enter)()) {
    void** top = reinterpret_cast<void**>(stack + bytes);
    *--top = nullptr;  // where `enter` would return to
    *--top = reinterpret_cast<void*>(enter);
    for (int i = 0; i < 6; ++i) *--top = nullptr;  // the registers
    *context = top;
}

#else

using Context = ucontext_t;

inline void switch_context(Context* from, const Context* to) { swapcontext(from, to); }

inline void prepare_context(Context* context, char* stack, size_t bytes, void (*enter)()) {
    getcontext(context);
    context->uc_stack.ss_sp = stack;
    context->uc_stack.ss_size = bytes;
    context->uc_link = nullptr;
    makecontext(context, enter, 0);
}

#endif

// AddressSanitizer must know which stack is in use.
#if DDS_ADDRESS_SANITIZER
inline void before_switch(void** own, const void* stack, size_t bytes) { __sanitizer_start_switch_fiber(own, stack, bytes); }
inline void after_switch(void* own, const void** stack, size_t* bytes) {
    __sanitizer_finish_switch_fiber(own, stack, bytes);
}
inline void unpoison(char* stack, size_t bytes) { __asan_unpoison_memory_region(stack, bytes); }
constexpr size_t kStackBytes = 256 << 10;
#else
inline void before_switch(void**, const void*, size_t) {}
inline void after_switch(void*, const void**, size_t*) {}
inline void unpoison(char*, size_t) {}
constexpr size_t kStackBytes = 64 << 10;
#endif

// Stacks are kept for the next fiber: mapping one takes longer than most kernels use it.
inline std::vector<char*> spare_stacks;

inline char* take_stack() {
    if (spare_stacks.empty()) {
        const auto guard = static_cast<size_t>(sysconf(_SC_PAGESIZE));
        void* memory =
            mmap(nullptr, guard + kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED || mprotect(memory, guard, PROT_NONE))
            throw std::runtime_error("no memory for one more stack: too many threads are resident together");
        return static_cast<char*>(memory) + guard;
    }
    char* stack = spare_stacks.back();
    spare_stacks.pop_back();
    unpoison(stack, kStackBytes);  // its last fiber may have been left in the middle
    return stack;
}

class Fiber {
public:
    Fiber(void (*body)(void*), void* argument) : body_(body), argument_(argument), stack_(take_stack()) {
        prepare_context(&inside_, stack_, kStackBytes, enter);
    }
    ~Fiber() { spare_stacks.push_back(stack_); }
    Fiber(const Fiber&) = delete;
    Fiber& operator=(const Fiber&) = delete;

    // From outside: runs until the body suspends itself or returns.
    void resume() {
        void* own = nullptr;
        entering_ = this;
        before_switch(&own, stack_, kStackBytes);
        switch_context(&outside_, &inside_);
        after_switch(own, nullptr, nullptr);
    }

    // From the body: goes on after the next resume().
    void suspend() {
        void* own = nullptr;
        before_switch(&own, outside_stack_, outside_bytes_);
        switch_context(&inside_, &outside_);
        after_switch(own, &outside_stack_, &outside_bytes_);
    }

private:
    static void enter() {
        Fiber* self = entering_;
        after_switch(nullptr, &self->outside_stack_, &self->outside_bytes_);
        self->body_(self->argument_);
        before_switch(nullptr, self->outside_stack_, self->outside_bytes_);
        switch_context(&self->inside_, &self->outside_);
    }

    inline static Fiber* entering_ = nullptr;

    void (*body_)(void*);
    void* argument_;
    char* stack_;
    Context inside_, outside_;
    const void* outside_stack_ = nullptr;
    size_t outside_bytes_ = 0;
};

}  // namespace dds::emulation
