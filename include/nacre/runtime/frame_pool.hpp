// SPDX-License-Identifier: BSD-3-Clause
//
// Memory of coroutine frames and other small short-lived objects: one free list per size class and
// OS thread, blocks of whole cache lines, 64-byte aligned. A block may be freed on another OS
// thread than the one that took it; it then serves that one.
//
// Cost: 7 instructions to take or give back a block of up to 2 KiB once the lists are warm.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nacre {

namespace detail {
struct free_block {
    free_block* next;
};
struct frame_lists {
    static constexpr std::size_t classes = 33;  // class c holds c * 64 bytes
    free_block* head[classes];
    /// Classes from here on are not kept, and so not served; 0 under an injector or a sanitizer.
    std::size_t limit;
};
extern constinit thread_local frame_lists t_frames;
}  // namespace detail

class frame_pool {
public:
    /// Null when memory is exhausted (or when the injector says so).
    [[nodiscard]] static void* allocate(std::size_t bytes) noexcept {
        const std::size_t size_class = (bytes + 63) >> 6;
        detail::frame_lists& lists = detail::t_frames;
        // Where a block lies nothing has limited its class.
        if (size_class < detail::frame_lists::classes) [[likely]] {
            detail::free_block* block = lists.head[size_class];
            if (block != nullptr) [[likely]] {
                lists.head[size_class] = block->next;
                return block;
            }
        }
        return allocate_slow(size_class);
    }
    static void deallocate(void* p, std::size_t bytes) noexcept {
        const std::size_t size_class = (bytes + 63) >> 6;
        detail::frame_lists& lists = detail::t_frames;
        if (size_class < detail::frame_lists::classes && size_class < lists.limit) [[likely]] {
            auto* block = static_cast<detail::free_block*>(p);
            block->next = lists.head[size_class];
            lists.head[size_class] = block;
            return;
        }
        deallocate_slow(p);
    }

    /// Tests: on this OS thread the n-th allocation from now (1 is the next) fails, once. 0 ends
    /// it.
    static void fail_nth_allocation(std::uint64_t n) noexcept;
    /// Whether the failure asked for has happened.
    [[nodiscard]] static bool injected_failure_happened() noexcept;
    /// Blocks ever taken from the system by this OS thread: constant in steady state.
    [[nodiscard]] static std::uint64_t system_allocations() noexcept;

private:
    [[gnu::noinline]] static void* allocate_slow(std::size_t size_class) noexcept;
    [[gnu::noinline]] static void deallocate_slow(void* p) noexcept;
};

}  // namespace nacre
