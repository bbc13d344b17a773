// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/runtime/frame_pool.hpp"

#include <cstdlib>

namespace nacre {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr std::size_t normal_limit = 0;  // the sanitizer must see every free
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr std::size_t normal_limit = 0;
#else
constexpr std::size_t normal_limit = detail::frame_lists::classes;
#endif
#else
constexpr std::size_t normal_limit = detail::frame_lists::classes;
#endif

struct injector {
    std::uint64_t fail_in = 0;  // 0: off
    bool happened = false;
    std::uint64_t system_allocations = 0;
};
constinit thread_local injector t_injector;

void release_lists() noexcept {
    for (auto& head : detail::t_frames.head) {
        while (head != nullptr) {
            auto* block = head;
            head = block->next;
            std::free(block);
        }
    }
}

// Gives the lists back when the OS thread ends; constructed by its first slow allocation.
struct list_owner {
    ~list_owner() {
        detail::t_frames.limit = 0;
        release_lists();
    }
    void touch() noexcept {}
};
thread_local list_owner t_owner;

}  // namespace

constinit thread_local detail::frame_lists detail::t_frames{{}, normal_limit};

void* frame_pool::allocate_slow(std::size_t size_class) noexcept {
    t_owner.touch();
    if (t_injector.fail_in != 0 && --t_injector.fail_in == 0) {
        t_injector.happened = true;
        detail::t_frames.limit = normal_limit;
        return nullptr;
    }
    ++t_injector.system_allocations;
    return std::aligned_alloc(64, size_class == 0 ? 64 : size_class << 6);
}

void frame_pool::deallocate_slow(void* p) noexcept { std::free(p); }

void frame_pool::fail_nth_allocation(std::uint64_t n) noexcept {
    t_injector.fail_in = n;
    t_injector.happened = false;
    // With empty lists and a limit of 0 each allocation takes the slow path, where it is counted.
    release_lists();
    detail::t_frames.limit = n == 0 ? normal_limit : 0;
}

bool frame_pool::injected_failure_happened() noexcept { return t_injector.happened; }
std::uint64_t frame_pool::system_allocations() noexcept { return t_injector.system_allocations; }

}  // namespace nacre
