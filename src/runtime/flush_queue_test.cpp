// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/runtime/flush_queue.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "nacre/runtime/sleep.hpp"
#include "stepped_world.hpp"

namespace nacre {
namespace {

constexpr std::uint64_t ms = 1'000'000;

struct journal {
    flush_queue order;
    std::vector<int> written, acknowledged;
};

/// A negative number is a record whose write fails.
task<result<>> append(journal* j, int number, std::uint64_t write_ns) {
    flush_queue::place mine(j->order);
    result<> written = co_await sleep_for(write_ns);
    if (!written) co_return written;
    j->written.push_back(number);
    if (number < 0) co_return fail(EIO);
    result<> turn = co_await mine.turn();
    if (!turn) co_return turn;
    co_await yield();  // the next one has to wait for the end of this, not for its beginning
    j->acknowledged.push_back(number);
    co_return {};
}

task<result<>> append_five(journal* j) {
    scope writers;
    const std::uint64_t took[] = {50, 10, 40, 20, 30};
    for (int i = 0; i < 5; ++i) writers.spawn(append(j, i, took[i] * ms));
    result<> joined = co_await writers.join();
    co_return joined;
}

TEST(flush_queue, acknowledges_in_order_what_is_done_in_any_order) {
    stepped_runtime r;
    journal j;
    EXPECT_TRUE(r.run(append_five, &j).has_value());
    EXPECT_EQ(j.written, (std::vector<int>{1, 3, 4, 2, 0}));
    EXPECT_EQ(j.acknowledged, (std::vector<int>{0, 1, 2, 3, 4}));
    EXPECT_TRUE(j.order.empty());
}

task<result<>> append_with_failures(journal* j) {
    scope writers;
    writers.spawn(append(j, -1, 30 * ms));
    writers.spawn(append(j, 1, 10 * ms));
    writers.spawn(append(j, -2, 5 * ms));
    writers.spawn(append(j, 2, 10 * ms));
    result<> joined = co_await writers.join();
    co_return joined;
}

TEST(flush_queue, is_not_held_up_by_who_goes_without_a_turn) {
    stepped_runtime r;
    journal j;
    EXPECT_TRUE(r.run(append_with_failures, &j).error().is(EIO));
    EXPECT_EQ(j.acknowledged, (std::vector<int>{1, 2}));
}

task<result<>> append_and_stop(journal* j) {
    scope first, second, third;
    first.spawn(append(j, 1, 30 * ms));
    co_await yield();
    second.spawn(append(j, 2, 10 * ms));
    co_await yield();
    third.spawn(append(j, 3, 10 * ms));
    result<> slept = co_await sleep_for(20 * ms);  // both wait for their turn
    if (!slept) co_return slept;
    second.request_stop();
    result<> stopped = co_await second.join();
    if (!j->acknowledged.empty()) co_return fail(EPROTO);
    result<> joined = co_await first.join();
    if (joined) joined = co_await third.join();
    if (!joined) co_return joined;
    co_return stopped;
}

TEST(flush_queue, forgets_a_cancelled_waiter) {
    stepped_runtime r;
    journal j;
    EXPECT_TRUE(r.run(append_and_stop, &j).error().is(ECANCELED));
    EXPECT_EQ(j.acknowledged, (std::vector<int>{1, 3}));
}

}  // namespace
}  // namespace nacre
