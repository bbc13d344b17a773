// SPDX-License-Identifier: BSD-3-Clause
//
// Buffers while the system refuses memory: every allocation that a pool or a buffer makes fails
// once, in turn. What a pool does when its own bound is reached is shown on virtual time, in
// sim/buffer_pool_test.cpp.
#include "nacre/memory/buffer_pool.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <new>
#include <vector>

#include "nacre/memory/memory_policy.hpp"
#include "nacre/runtime/frame_pool.hpp"
#include "nacre/runtime/runtime.hpp"
#include "nacre/runtime/sleep.hpp"

// TSan's own operator new cannot be replaced; lack of memory is no matter of threads.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define NACRE_OWN_NEW 0
#endif
#endif
#ifndef NACRE_OWN_NEW
#define NACRE_OWN_NEW 1
#endif

#if NACRE_OWN_NEW
namespace {

/// Allocations of this OS thread until the one that fails; 0: none does.
constinit thread_local std::uint64_t allocations_left = 0;
constinit thread_local bool failed_one = false;

bool this_one_fails() noexcept {
    if (allocations_left == 0 || --allocations_left != 0) return false;
    failed_one = true;
    return true;
}

}  // namespace

// Out of line, or g++ sees the two ends of what it then calls a mismatched pair.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
    void* p = this_one_fails() ? nullptr : std::malloc(bytes);
    if (p == nullptr) throw std::bad_alloc();
    return p;
}
[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
    return this_one_fails() ? nullptr : std::malloc(bytes);
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, const std::nothrow_t&) noexcept { std::free(p); }
#endif

namespace nacre {
namespace {

using namespace literals;

constexpr std::uint64_t points_max = 100;

#if NACRE_OWN_NEW

/// While it lives the n-th allocation fails.
class failing_allocation {
public:
    explicit failing_allocation(std::uint64_t n) noexcept {
        allocations_left = n;
        failed_one = false;
    }
    failing_allocation(const failing_allocation&) = delete;
    failing_allocation& operator=(const failing_allocation&) = delete;
    ~failing_allocation() { allocations_left = 0; }
    [[nodiscard]] static bool happened() noexcept { return failed_one; }
};

TEST(dma_buffer, that_cannot_be_had_costs_nothing) {
    const std::uint64_t before = data_memory_bytes();
    std::uint64_t failures = 0;
    for (std::uint64_t n = 1; n < points_max; ++n) {
        const failing_allocation injected(n);
        const result<dma_buffer> buffer = dma_buffer::allocate(64_KiB);
        if (!failing_allocation::happened()) {
            EXPECT_TRUE(buffer);
            break;
        }
        ++failures;
        ASSERT_FALSE(buffer);
        EXPECT_TRUE(buffer.error().is(ENOMEM));
        EXPECT_EQ(data_memory_bytes(), before);
    }
    EXPECT_GE(failures, 1U);
    EXPECT_LT(failures, points_max - 1);
    // The kernel refuses the mapping.
    EXPECT_TRUE(dma_buffer::allocate(byte_count(1ULL << 60)).error().is(ENOMEM));
    EXPECT_EQ(data_memory_bytes(), before);
}

/// Two chunks and every list of the pool are made here. Each acquire must succeed, some later.
task<void> fill_and_empty(std::uint64_t n, bool* injected, std::uint64_t* waits) {
    buffer_pool pool({.limit = 4_MiB});
    std::vector<pooled_buffer> held;
    held.reserve(3);
    const failing_allocation failing(n);
    for (unsigned i = 0; i < 3; ++i) {
        result<pooled_buffer> buffer = co_await pool.acquire(1 << 20);
        EXPECT_TRUE(buffer);
        if (buffer) held.push_back(std::move(*buffer));
    }
    *injected = failing_allocation::happened();
    *waits = pool.waits();
    EXPECT_EQ(pool.buffers_in_use(), 3U);
    EXPECT_EQ(pool.chunk_count(), 2U);
    held.clear();
    EXPECT_EQ(pool.buffers_in_use(), 0U);
}

TEST(buffer_pool, waits_whatever_allocation_the_system_refuses) {
    const std::uint64_t before = data_memory_bytes();
    auto rt = runtime::make(real_world());
    ASSERT_TRUE(rt.has_value());
    std::uint64_t n = 1;
    for (; n < points_max; ++n) {
        bool injected = false;
        std::uint64_t waits = 0;
        (*rt)->block_on(&fill_and_empty, n, &injected, &waits);
        EXPECT_EQ(waits, injected ? 1U : 0U) << n;
        if (!injected) break;
        EXPECT_EQ(data_memory_bytes(), before);
    }
    EXPECT_GE(n, 5U);  // the list, and for each chunk its memory's owner and itself
    EXPECT_LT(n, points_max);
}

#endif  // NACRE_OWN_NEW

struct outcomes {
    unsigned served = 0;
    unsigned out_of_memory = 0;
};

task<result<>> take_one(buffer_pool* pool) {
    result<pooled_buffer> buffer = co_await pool->acquire(1 << 20);
    if (!buffer) co_return fail(buffer.error());
    co_await yield();
    co_return {};
}

task<result<>> take_and_count(buffer_pool* pool, outcomes* seen) {
    result<> taken = co_await take_one(pool);
    if (taken)
        ++seen->served;
    else if (taken.error().is(ENOMEM))
        ++seen->out_of_memory;
    co_return {};
}

task<void> crowd_with_failing_frame(std::uint64_t n, bool* injected) {
    buffer_pool pool({.limit = 2_MiB});  // two at a time
    outcomes seen;
    scope takers;
    frame_pool::fail_nth_allocation(n);
    for (unsigned i = 0; i < 6; ++i) takers.spawn(take_and_count(&pool, &seen));
    result<> joined = co_await takers.join();
    *injected = frame_pool::injected_failure_happened();
    frame_pool::fail_nth_allocation(0);
    const bool no_child = !joined && joined.error().is(ENOMEM);
    EXPECT_TRUE(joined || no_child);
    EXPECT_EQ(seen.out_of_memory + (no_child ? 1U : 0U), *injected ? 1U : 0U) << n;
    EXPECT_EQ(seen.served, *injected ? 5U : 6U) << n;  // one has no frame; nobody else is hurt
    EXPECT_EQ(pool.buffers_in_use(), 0U);
    EXPECT_GE(pool.waits(), 3U);
}

TEST(buffer_pool, loses_no_buffer_and_no_waiter_to_a_frame_that_cannot_be_had) {
    auto rt = runtime::make(real_world());
    ASSERT_TRUE(rt.has_value());
    std::uint64_t n = 1;
    for (; n < points_max; ++n) {
        bool injected = false;
        (*rt)->block_on(&crowd_with_failing_frame, n, &injected);
        if (!injected) break;
    }
    // Two frames for each of six, or one where an optimising clang makes one of the two.
    EXPECT_LE(n, 13U);
    EXPECT_GE(n, 7U);
}

}  // namespace
}  // namespace nacre
