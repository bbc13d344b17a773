// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/memory/buffer_pool.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <vector>

#include "nacre/core/random.hpp"
#include "nacre/memory/memory_policy.hpp"
#include "nacre/runtime/runtime.hpp"
#include "nacre/runtime/sleep.hpp"
#include "nacre/runtime/timeout.hpp"
#include "nacre/sim/sweep.hpp"
#include "nacre/sim/world.hpp"

namespace nacre {
namespace {

using namespace literals;

void simulate(task<void> (*test)(), std::uint64_t seed = 1) {
    sim::world w(seed);
    auto rt = runtime::make(w);
    (*rt)->block_on([](task<void> (*t)()) -> task<void> { co_await t(); }, test);
}

constexpr buffer_pool::options one_chunk{.limit = 2_MiB};

task<void> check_classes() {
    buffer_pool pool;
    for (const std::size_t bytes :
         {1UL, 4096UL, 4097UL, 16384UL, 50'000UL, 65536UL, 131072UL, 131073UL, 1UL << 20}) {
        result<pooled_buffer> buffer = co_await pool.acquire(bytes);
        EXPECT_TRUE(buffer);
        EXPECT_EQ(buffer->size(), bytes);
        const std::size_t alignment = bytes <= 4096 ? 4096 : bytes <= 16384 ? 16384 : 65536;
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer->data()) % alignment, 0U);
        std::memset(buffer->data(), 1, bytes);
    }
    result<pooled_buffer> none = co_await pool.acquire(0);
    EXPECT_TRUE(none.error().is(EINVAL));
    result<pooled_buffer> large = co_await pool.acquire((1 << 20) + 1);
    EXPECT_TRUE(large.error().is(EINVAL));
    EXPECT_EQ(pool.buffers_in_use(), 0U);
    EXPECT_EQ(pool.chunk_count(), 1U);  // each time the same one, cut anew
    pool.release_unused();
    EXPECT_EQ(pool.chunk_count(), 0U);
    EXPECT_EQ(pool.waits(), 0U);
}

TEST(buffer_pool, has_classes_up_to_one_mebibyte) { simulate(&check_classes); }

task<void> check_distinct() {
    buffer_pool pool({.limit = 8_MiB});
    std::vector<pooled_buffer> held;
    while (true) {
        pooled_buffer buffer = pool.try_acquire(4096);
        if (buffer.empty()) break;
        std::memset(buffer.data(), static_cast<int>(held.size() % 251), 4096);
        held.push_back(std::move(buffer));
    }
    EXPECT_EQ(held.size(), 4U * 512);
    EXPECT_EQ(pool.chunk_count(), 4U);
    for (std::size_t i = 0; i < held.size(); ++i) {
        EXPECT_EQ(held[i].data()[0], static_cast<std::byte>(i % 251));
        EXPECT_EQ(held[i].data()[4095], static_cast<std::byte>(i % 251));
    }
    held[77] = pooled_buffer();
    pooled_buffer again = pool.try_acquire(4096);
    EXPECT_FALSE(again.empty());
    EXPECT_TRUE(pool.try_acquire(4096).empty());
    co_return;
}

TEST(buffer_pool, hands_out_each_byte_once_and_stops_at_its_bound) { simulate(&check_distinct); }

task<result<>> take_and_hold(buffer_pool& pool, std::size_t bytes, std::uint64_t hold_ns,
                             std::vector<int>& order, int number) {
    result<pooled_buffer> buffer = co_await pool.acquire(bytes);
    if (!buffer) co_return fail(buffer.error());
    order.push_back(number);
    result<> slept = co_await sleep_for(hold_ns);
    co_return slept;
}

task<void> check_order() {
    buffer_pool pool(one_chunk);
    std::vector<int> order;
    scope holders;
    // Two large ones fill the pool; then a small one waits, a large one, and a small one behind it
    // that would fit sooner.
    for (int number = 0; number < 6; ++number) {
        const bool large = number != 2 && number != 4;
        holders.spawn(take_and_hold(pool, large ? 1 << 20 : 4096,
                                    static_cast<std::uint64_t>(number + 1) * 1'000'000, order,
                                    number));
        result<> slept = co_await sleep_for(1000);
        EXPECT_TRUE(slept);
    }
    result<> joined = co_await holders.join();
    EXPECT_TRUE(joined);
    EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4, 5}));
    EXPECT_EQ(pool.waits(), 4U);
    EXPECT_EQ(pool.chunk_count(), 1U);
}

TEST(buffer_pool, serves_those_who_wait_in_order) {
    auto swept = sim::for_seeds(10, [](std::uint64_t seed) { simulate(&check_order, seed); });
    EXPECT_TRUE(swept) << swept.error().message;
}

task<result<>> take_in_time(buffer_pool& pool, std::size_t bytes, std::uint64_t ns) {
    std::vector<int> order;
    result<> taken = co_await with_timeout(take_and_hold(pool, bytes, 0, order, 0), ns);
    co_return taken;
}

task<void> check_cancel() {
    buffer_pool pool(one_chunk);
    pooled_buffer small = pool.try_acquire(1);
    std::vector<int> order;
    scope holders;
    // The large one waits for the small buffer's chunk; another small one waits behind it, and goes
    // ahead as soon as the large one has given up.
    holders.spawn(take_and_hold(pool, 4096, 0, order, 2));
    result<> timed_out = co_await take_in_time(pool, 1 << 20, 1'000'000);
    EXPECT_TRUE(timed_out.error().is(ETIMEDOUT));
    result<> joined = co_await holders.join();
    EXPECT_TRUE(joined);
    EXPECT_EQ(pool.buffers_in_use(), 1U);
}

TEST(buffer_pool, lets_the_next_go_ahead_when_a_waiter_gives_up) {
    auto swept = sim::for_seeds(10, [](std::uint64_t seed) { simulate(&check_cancel, seed); });
    EXPECT_TRUE(swept) << swept.error().message;
}

task<void> check_refusal() {
    // The system has no memory at all, and then it has.
    const memory_policy before = current_memory_policy();
    set_memory_policy({.bytes_max = 0});
    buffer_pool pool;
    std::vector<int> order;
    scope holders;
    for (int number = 0; number < 4; ++number)
        holders.spawn(take_and_hold(pool, 65536, 1000, order, number));
    result<> slept = co_await sleep_for(100'000'000);
    EXPECT_TRUE(slept);
    EXPECT_EQ(order.size(), 0U);
    set_memory_policy(before);
    result<> joined = co_await holders.join();
    EXPECT_TRUE(joined);
    EXPECT_EQ(order.size(), 4U);
}

TEST(buffer_pool, waits_for_a_system_that_has_no_memory) { simulate(&check_refusal); }

// --- Exhaustion ---------------------------------------------------------------------------------

struct crowd {
    buffer_pool pool{{.limit = 4_MiB}};
    std::map<std::byte*, std::size_t> held;  // what is out, by address
    prng dice;
    unsigned given_up = 0;
    explicit crowd(std::uint64_t seed) : dice(seed) {}
};

/// Takes buffers of all sizes again and again, sometimes giving up; what it holds overlaps nothing
/// that somebody else holds.
task<result<>> take_and_check(crowd& c) {
    for (unsigned n = 0; n < 60; ++n) {
        const std::size_t bytes =
            1 +
            c.dice.below(buffer_pool::class_bytes[c.dice.below(buffer_pool::class_bytes.size())]);
        result<pooled_buffer> buffer = co_await c.pool.acquire(bytes);
        if (!buffer) {
            ++c.given_up;
            co_return result<>();
        }
        const auto after = c.held.upper_bound(buffer->data());
        if (after != c.held.end() && buffer->data() + bytes > after->first)
            co_return fail(EOVERFLOW);
        if (after != c.held.begin()) {
            const auto earlier = std::prev(after);
            if (earlier->first + earlier->second > buffer->data()) co_return fail(EOVERFLOW);
        }
        c.held.emplace(buffer->data(), bytes);
        result<> slept = co_await sleep_for(c.dice.below(1'000'000));
        c.held.erase(buffer->data());
        if (!slept) co_return result<>();
    }
    co_return result<>();
}

void exhaust(std::uint64_t seed) {
    sim::world w(seed);
    auto rt = runtime::make(w);
    (*rt)->block_on(
        [](std::uint64_t s) -> task<void> {
            crowd c(s);
            scope patient, impatient;
            for (unsigned i = 0; i < 40; ++i) patient.spawn(take_and_check(c));
            for (unsigned i = 0; i < 10; ++i) impatient.spawn(take_and_check(c));
            result<> slept = co_await sleep_for(3'000'000);
            EXPECT_TRUE(slept);
            impatient.request_stop();
            result<> joined = co_await impatient.join();
            EXPECT_TRUE(joined) << describe(joined.error());
            joined = co_await patient.join();
            EXPECT_TRUE(joined) << describe(joined.error());
            EXPECT_GT(c.pool.waits(), 0U);
            EXPECT_LE(c.pool.chunk_count(), 2U);
            EXPECT_EQ(c.pool.buffers_in_use(), 0U);
        },
        seed);
}

TEST(buffer_pool, exhaustion_delays_and_never_fails_or_hangs) {
    auto swept = sim::for_seeds(100, [](std::uint64_t seed) { exhaust(seed); });
    EXPECT_TRUE(swept) << swept.error().message;
}

TEST(buffer_pools, give_each_thread_its_own) {
    auto rt = runtime::make(real_world());
    buffer_pools pools;
    thread& other = (*rt)->make_thread("other");
    (*rt)->block_on(
        [](across<buffer_pools> p, across<thread> t) -> task<void> {
            buffer_pool& mine = p->here();
            const auto address = [](across<buffer_pools> q) {
                return reinterpret_cast<std::uintptr_t>(&q->here());
            };
            const std::uintptr_t theirs = co_await call_on(*t, address, p);
            EXPECT_NE(theirs, reinterpret_cast<std::uintptr_t>(&mine));
            EXPECT_EQ(&p->here(), &mine);
        },
        across<buffer_pools>(pools), across<thread>(other));
}

}  // namespace
}  // namespace nacre
