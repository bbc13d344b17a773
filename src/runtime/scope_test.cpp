// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/runtime/scope.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "nacre/runtime/sleep.hpp"
#include "nacre/runtime/sync.hpp"
#include "stepped_world.hpp"

namespace nacre {
namespace {

task<result<>> append(std::vector<int>* to, int value, int yields) {
    for (; yields > 0; --yields) co_await yield();
    to->push_back(value);
    co_return {};
}

task<result<>> fail_after(std::uint64_t ns, int errno_value) {
    result<> slept = co_await sleep_for(ns);
    if (!slept) co_return slept;
    co_return fail(errno_value);
}

task<result<>> join_three(std::vector<int>* order) {
    scope children;
    children.spawn(append(order, 1, 2));
    children.spawn(append(order, 2, 0));
    children.spawn(append(order, 3, 1));
    order->push_back(0);  // spawning queues, it does not run
    result<> joined = co_await children.join();
    co_return joined;
}

TEST(scope, runs_children_from_the_ready_list_and_joins_them_all) {
    stepped_runtime r;
    std::vector<int> order;
    EXPECT_TRUE(r.run(join_three, &order).has_value());
    EXPECT_EQ(order, (std::vector<int>{0, 2, 3, 1}));
}

task<result<>> join_failures() {
    scope children;
    children.spawn(fail_after(3'000'000, EIO));
    children.spawn(fail_after(1'000'000, ENOSPC));
    children.spawn(fail_after(2'000'000, EPERM));
    result<> joined = co_await children.join();
    if (joined) co_return fail(EPROTO);
    result<> again = co_await children.join();  // reported once, and usable again
    if (!again) co_return fail(EPROTO);
    co_return joined;
}

TEST(scope, reports_the_first_error_in_time_once) {
    stepped_runtime r;
    const result<> joined = r.run(join_failures);
    ASSERT_FALSE(joined.has_value());
    EXPECT_TRUE(joined.error().is(ENOSPC));
}

task<result<>> sleep_long(int* canceled) {
    result<> slept = co_await sleep_for(3'600'000'000'000);
    if (!slept && slept.error().is(ECANCELED)) ++*canceled;
    co_return slept;
}

task<result<>> stop_children(int* canceled) {
    scope children;
    for (int i = 0; i < 10; ++i) children.spawn(sleep_long(canceled));
    co_await yield();
    children.request_stop();
    result<> joined = co_await children.join();
    co_return joined;
}

TEST(scope, asks_its_children_to_stop_and_still_awaits_them) {
    stepped_runtime r;
    int canceled = 0;
    const result<> joined = r.run(stop_children, &canceled);
    EXPECT_TRUE(joined.error().is(ECANCELED));
    EXPECT_EQ(canceled, 10);
    EXPECT_LT(r.w.now, stepped_world::start_ns + 1'000'000'000);
}

task<result<>> join_forever(int* canceled) {
    scope children;
    children.spawn(sleep_long(canceled));
    result<> joined = co_await children.join();
    co_return joined;
}

task<result<>> stop_the_joiner(int* canceled) {
    scope outer;
    outer.spawn(join_forever(canceled));
    result<> slept = co_await sleep_for(1'000'000);
    if (!slept) co_return slept;
    outer.request_stop();
    result<> joined = co_await outer.join();
    co_return joined;
}

TEST(scope, passes_a_stop_of_the_joining_task_on_to_its_children) {
    stepped_runtime r;
    int canceled = 0;
    EXPECT_TRUE(r.run(stop_the_joiner, &canceled).error().is(ECANCELED));
    EXPECT_EQ(canceled, 1);
}

task<result<>> spawn_later(scope* into, std::vector<int>* order) {
    co_await yield();
    into->spawn(append(order, 7, 3));
    co_return {};
}

task<result<>> child_spawns_sibling(std::vector<int>* order) {
    scope children;
    children.spawn(spawn_later(&children, order));
    result<> joined = co_await children.join();
    order->push_back(8);
    co_return joined;
}

TEST(scope, waits_for_a_child_that_a_child_spawned) {
    stepped_runtime r;
    std::vector<int> order;
    EXPECT_TRUE(r.run(child_spawns_sibling, &order).has_value());
    EXPECT_EQ(order, (std::vector<int>{7, 8}));
}

task<void> set_event(event* e) {
    e->set();
    co_return;
}

task<result<>> spawn_void(event* e) {
    scope children;
    children.spawn(set_event(e));
    result<> waited = co_await e->wait();
    if (!waited) co_return waited;
    result<> joined = co_await children.join();
    co_return joined;
}

TEST(scope, takes_children_without_a_result) {
    stepped_runtime r;
    event e;
    EXPECT_TRUE(r.run(spawn_void, &e).has_value());
}

task<result<>> join_without_memory() {
    scope children;
    frame_pool::fail_nth_allocation(1);
    children.spawn(fail_after(1, EIO));
    frame_pool::fail_nth_allocation(0);
    result<> joined = co_await children.join();
    co_return joined;
}

TEST(scope, counts_a_child_without_a_frame_as_failed) {
    stepped_runtime r;
    EXPECT_TRUE(r.run(join_without_memory).error().is(ENOMEM));
}

TEST(scope_death, is_not_destroyed_while_a_child_runs) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_DEATH(
        {
            scope s;
            s.enter();
        },
        "running_ == 0");
}

}  // namespace
}  // namespace nacre
