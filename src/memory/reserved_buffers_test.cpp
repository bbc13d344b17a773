// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/memory/reserved_buffers.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "nacre/memory/memory_policy.hpp"
#include "nacre/runtime/runtime.hpp"
#include "nacre/runtime/scope.hpp"
#include "nacre/runtime/sleep.hpp"

namespace nacre {
namespace {

constexpr std::uint64_t chunk = 2 << 20;

void run(task<void> (*test)()) {
    auto rt = runtime::make(real_world());
    ASSERT_TRUE(rt.has_value());
    const std::uint64_t before = data_memory_bytes();
    (*rt)->block_on(test);
    EXPECT_EQ(data_memory_bytes(), before);
}

task<void> take_and_note(reserved_buffers& from, std::size_t bytes,
                         std::vector<std::size_t>& taken) {
    result<pooled_buffer> buffer = co_await from.acquire(bytes);
    EXPECT_TRUE(buffer);
    taken.push_back(bytes);
    co_await yield();
}

task<void> check_order() {
    const std::uint64_t before = data_memory_bytes();
    buffer_pool common({.limit = byte_count(chunk)});
    reserved_buffers mine(common), others(common);
    EXPECT_EQ(data_memory_bytes(), before);
    result<pooled_buffer> first = co_await mine.acquire(1 << 20);
    result<pooled_buffer> second = co_await mine.acquire(1 << 20);
    EXPECT_EQ(common.buffers_in_use(), 2U);              // what is free there comes first
    EXPECT_EQ(data_memory_bytes(), before + 2 * chunk);  // but the reserve stands already
    result<pooled_buffer> third = co_await mine.acquire(4096);
    result<pooled_buffer> fourth = co_await others.acquire(1 << 20);
    EXPECT_TRUE(third && fourth);  // two that do not wait for each other
    EXPECT_EQ(data_memory_bytes(), before + 3 * chunk);
    // One that needs the whole chunk is not overtaken by those that would fit.
    std::vector<std::size_t> taken;
    scope takers;
    takers.spawn(take_and_note(mine, 1 << 20, taken));
    takers.spawn(take_and_note(mine, 4096, taken));
    for (int i = 0; i < 5; ++i) co_await yield();
    EXPECT_TRUE(taken.empty());
    third->reset();
    result<> joined = co_await takers.join();
    EXPECT_TRUE(joined);
    EXPECT_EQ(taken, (std::vector<std::size_t>{1 << 20, 4096}));
    EXPECT_EQ(common.waits(), 0U);
    EXPECT_EQ(data_memory_bytes(), before + 3 * chunk);
    result<pooled_buffer> too_large = co_await mine.acquire(buffer_pool::bytes_max + 1);
    EXPECT_TRUE(!too_large && too_large.error().is(EINVAL));
}

TEST(reserved_buffers, are_a_chunk_of_ones_own_behind_the_common_pool) { run(&check_order); }

task<void> check_refusal() {
    const std::uint64_t before = data_memory_bytes();
    buffer_pool common({.limit = byte_count(chunk)});
    pooled_buffer held = common.try_acquire(4096);
    reserved_buffers mine(common);
    set_memory_policy({.bytes_max = data_memory_bytes()});
    EXPECT_TRUE(mine.reserve().error().is(ENOMEM));
    result<pooled_buffer> buffer = co_await mine.acquire(4096);
    EXPECT_TRUE(buffer);
    set_memory_policy({});
    EXPECT_TRUE(mine.reserve());
    EXPECT_TRUE(mine.reserve());
    EXPECT_EQ(data_memory_bytes(), before + 2 * chunk);
}

TEST(reserved_buffers, say_when_the_system_has_none) { run(&check_refusal); }

}  // namespace
}  // namespace nacre
