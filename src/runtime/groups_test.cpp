// SPDX-License-Identifier: BSD-3-Clause
//
// sleep, timeout, when_all, when_any.
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "nacre/runtime/callback.hpp"
#include "nacre/runtime/sleep.hpp"
#include "nacre/runtime/sync.hpp"
#include "nacre/runtime/timeout.hpp"
#include "nacre/runtime/when_all.hpp"
#include "nacre/runtime/when_any.hpp"
#include "stepped_world.hpp"

namespace nacre {
namespace {

constexpr std::uint64_t ms = 1'000'000;

std::uint64_t now_ns() { return thread::current()->now_ns(); }

task<result<int>> after(std::uint64_t ns, int value) {
    result<> slept = co_await sleep_for(ns);
    if (!slept) co_return fail(slept.error());
    if (value < 0) co_return fail(-value);
    co_return value;
}

// sleep

task<result<std::uint64_t>> measure_sleep(std::uint64_t ns) {
    const std::uint64_t before = now_ns();
    result<> slept = co_await sleep_for(ns);
    if (!slept) co_return fail(slept.error());
    co_return now_ns() - before;
}

TEST(sleep, takes_as_long_as_asked_and_a_tick_at_most_more) {
    stepped_runtime r;
    for (const std::uint64_t ns : {1ULL, 8191ULL, 8192ULL, 1'000'000ULL, 86'400'000'000'000ULL}) {
        const auto took = r.run(measure_sleep, ns);
        ASSERT_TRUE(took.has_value());
        EXPECT_GE(*took, ns);
        EXPECT_LE(*took, ns + 2 * 8192);
    }
    EXPECT_EQ(*r.run(measure_sleep, std::uint64_t{0}), 0U);
}

task<result<>> sleep_into_the_past() {
    result<> slept = co_await sleep_until(5);
    co_return slept;
}

TEST(sleep, until_a_past_deadline_does_not_suspend) {
    stepped_runtime r;
    const auto before = r.w.now;
    EXPECT_TRUE(r.run(sleep_into_the_past).has_value());
    EXPECT_EQ(r.w.now, before);
}

task<result<>> sleep_for_ever() {
    result<> slept = co_await sleep_for(UINT64_MAX);
    co_return slept;
}

task<result<>> stop_a_sleeper() {
    scope children;
    children.spawn(sleep_for_ever());
    result<> slept = co_await sleep_for(5 * ms);
    if (!slept) co_return slept;
    children.request_stop();
    result<> joined = co_await children.join();
    co_return joined;
}

TEST(sleep, ends_when_its_task_is_asked_to_stop) {
    stepped_runtime r;
    EXPECT_TRUE(r.run(stop_a_sleeper).error().is(ECANCELED));
    EXPECT_LT(r.w.now, stepped_world::start_ns + 6 * ms);
}

task<result<>> sort_by_sleeping(std::vector<int>* order, int value) {
    result<> slept = co_await sleep_for(static_cast<std::uint64_t>(value) * ms);
    order->push_back(value);
    co_return slept;
}

task<result<>> sort_all(std::vector<int>* order) {
    scope children;
    for (int value : {7, 3, 900, 1, 60}) children.spawn(sort_by_sleeping(order, value));
    result<> joined = co_await children.join();
    co_return joined;
}

TEST(sleep, wakes_in_the_order_of_deadlines) {
    stepped_runtime r;
    std::vector<int> order;
    EXPECT_TRUE(r.run(sort_all, &order).has_value());
    EXPECT_EQ(order, (std::vector<int>{1, 3, 7, 60, 900}));
}

task<result<>> count_turns(std::vector<int>* order, int id) {
    for (int i = 0; i < 3; ++i) {
        order->push_back(id);
        co_await yield();
    }
    co_return {};
}

task<result<>> yield_in_turns(std::vector<int>* order) {
    auto both = co_await when_all(count_turns(order, 1), count_turns(order, 2));
    co_return std::get<0>(both);
}

TEST(yield, lets_others_go_first) {
    stepped_runtime r;
    std::vector<int> order;
    EXPECT_TRUE(r.run(yield_in_turns, &order).has_value());
    EXPECT_EQ(order, (std::vector<int>{1, 2, 1, 2, 1, 2}));
}

// timeout

task<result<int>> bounded(std::uint64_t work_ns, int value, std::uint64_t bound_ns) {
    auto r = co_await with_timeout(after(work_ns, value), bound_ns);
    co_return r;
}

TEST(timeout, gives_the_value_or_the_error_of_a_task_in_time) {
    stepped_runtime r;
    EXPECT_EQ(*r.run(bounded, 1 * ms, 42, 5 * ms), 42);
    EXPECT_TRUE(r.run(bounded, 1 * ms, -EIO, 5 * ms).error().is(EIO));
    EXPECT_EQ(*r.run(bounded, std::uint64_t{0}, 42, std::uint64_t{0}), 42);
    EXPECT_EQ(*r.run(bounded, 1 * ms, 42, UINT64_MAX), 42);
}

TEST(timeout, stops_a_task_that_takes_too_long) {
    stepped_runtime r;
    EXPECT_TRUE(r.run(bounded, 500 * ms, 42, 5 * ms).error().is(ETIMEDOUT));
    EXPECT_LT(r.w.now, stepped_world::start_ns + 6 * ms);
}

task<result<int>> stubborn(callback_token<>** device) {
    result<> answered = co_await from_callback([&](callback_token<>& token) {
        *device = &token;
        return 0;
    });
    if (!answered) co_return fail(answered.error());
    co_return 7;
}

task<result<>> answer_later(callback_token<>** device, std::uint64_t ns) {
    result<> slept = co_await sleep_for(ns);
    (*device)->complete();
    co_return slept;
}

task<result<int>> await_the_loser(std::uint64_t* took) {
    callback_token<>* device = nullptr;  // owns a buffer until it answers
    scope children;
    children.spawn(answer_later(&device, 20 * ms));
    const std::uint64_t before = now_ns();
    auto r = co_await with_timeout(stubborn(&device), 5 * ms);
    *took = now_ns() - before;
    result<> joined = co_await children.join();
    if (!joined) co_return fail(joined.error());
    co_return r;
}

TEST(timeout, awaits_the_loser_and_keeps_a_value_that_came_late) {
    stepped_runtime r;
    std::uint64_t took = 0;
    const auto late = r.run(await_the_loser, &took);
    ASSERT_TRUE(late.has_value());
    EXPECT_EQ(*late, 7);
    EXPECT_GE(took, 20 * ms);
}

task<result<>> bounded_and_stopped() {
    auto r = co_await with_timeout(after(100 * ms, 1), 50 * ms);
    if (r) co_return {};
    co_return fail(r.error());
}

task<result<>> stop_before_the_timeout() {
    scope children;
    children.spawn(bounded_and_stopped());
    result<> slept = co_await sleep_for(1 * ms);
    if (!slept) co_return slept;
    children.request_stop();
    result<> joined = co_await children.join();
    co_return joined;
}

TEST(timeout, passes_a_stop_of_the_parent_on_as_canceled) {
    stepped_runtime r;
    EXPECT_TRUE(r.run(stop_before_the_timeout).error().is(ECANCELED));
}

task<result<>> bounded_without_memory() {
    frame_pool::fail_nth_allocation(1);
    auto child = after(1, 1);
    frame_pool::fail_nth_allocation(0);
    auto r = co_await with_timeout(std::move(child), ms);
    if (r) co_return fail(EPROTO);
    co_return fail(r.error());
}

TEST(timeout, of_a_task_without_a_frame_is_out_of_memory) {
    stepped_runtime r;
    EXPECT_TRUE(r.run(bounded_without_memory).error().is(ENOMEM));
}

task<result<int>> nested_timeouts() {
    auto inner = co_await with_timeout(bounded(500 * ms, 1, 100 * ms), 5 * ms);
    co_return inner;
}

TEST(timeout, reaches_through_an_inner_one) {
    stepped_runtime r;
    EXPECT_TRUE(r.run(nested_timeouts).error().is(ETIMEDOUT));
    EXPECT_LT(r.w.now, stepped_world::start_ns + 6 * ms);
}

// when_all

task<std::unique_ptr<std::string>> a_string() {
    co_await yield();
    co_return std::make_unique<std::string>("text");
}
task<void> nothing() { co_return; }

task<result<>> gather(std::string* out) {
    auto all = co_await when_all(after(2 * ms, 5), a_string(), nothing());
    auto& number = std::get<0>(all);
    if (!number) co_return fail(number.error());
    *out = *std::get<1>(all) + std::to_string(*number);
    co_return {};
}

TEST(when_all, gives_what_each_returned) {
    stepped_runtime r;
    std::string out;
    EXPECT_TRUE(r.run(gather, &out).has_value());
    EXPECT_EQ(out, "text5");
}

task<result<>> gather_with_error(std::array<int, 3>* errors) {
    auto all = co_await when_all(after(900 * ms, 1), after(1 * ms, -EIO), after(900 * ms, 3));
    (*errors)[0] = std::get<0>(all) ? 0 : std::get<0>(all).error().to_errno();
    (*errors)[1] = std::get<1>(all) ? 0 : std::get<1>(all).error().to_errno();
    (*errors)[2] = std::get<2>(all) ? 0 : std::get<2>(all).error().to_errno();
    co_return {};
}

TEST(when_all, asks_the_siblings_to_stop_at_the_first_error_and_awaits_them) {
    stepped_runtime r;
    std::array<int, 3> errors{};
    EXPECT_TRUE(r.run(gather_with_error, &errors).has_value());
    EXPECT_EQ(errors, (std::array<int, 3>{ECANCELED, EIO, ECANCELED}));
    EXPECT_LT(r.w.now, stepped_world::start_ns + 2 * ms);
}

task<result<>> one_of_many(int n, int fails) {
    std::uint64_t delay = n == fails ? ms : 10 * ms;
    auto r = co_await after(delay, n == fails ? -EIO : n);
    if (!r) co_return fail(r.error());
    co_return {};
}

task<result<>> gather_many(int count, int fails) {
    std::vector<task<result<>>> tasks;
    for (int i = 1; i <= count; ++i) tasks.push_back(one_of_many(i, fails));
    result<> r = co_await when_all(tasks);
    co_return r;
}

TEST(when_all, of_a_vector_gives_the_first_error_in_time) {
    stepped_runtime r;
    EXPECT_TRUE(r.run(gather_many, 0, 0).has_value());
    EXPECT_TRUE(r.run(gather_many, 100, 0).has_value());
    const auto before = r.w.now;
    EXPECT_TRUE(r.run(gather_many, 100, 77).error().is(EIO));
    EXPECT_LT(r.w.now, before + 3 * ms);
}

task<result<>> stop_a_gathering() {
    scope children;
    children.spawn(gather_many(10, 0));
    co_await yield();
    children.request_stop();
    result<> joined = co_await children.join();
    co_return joined;
}

TEST(when_all, passes_a_stop_of_the_parent_on) {
    stepped_runtime r;
    EXPECT_TRUE(r.run(stop_a_gathering).error().is(ECANCELED));
    EXPECT_EQ(r.w.now, stepped_world::start_ns);
}

// when_any

task<result<>> race(std::uint64_t a_ns, std::uint64_t b_ns, int b, std::size_t* index,
                    std::array<int, 2>* values) {
    auto first = co_await when_any(after(a_ns, 10), after(b_ns, b));
    *index = first.index;
    auto& ra = std::get<0>(first.values);
    auto& rb = std::get<1>(first.values);
    *values = {ra ? *ra : -ra.error().to_errno(), rb ? *rb : -rb.error().to_errno()};
    co_return {};
}

TEST(when_any, names_the_first_and_awaits_the_cancelled_others) {
    stepped_runtime r;
    std::size_t index = 9;
    std::array<int, 2> values{};
    EXPECT_TRUE(r.run(race, 1 * ms, 100 * ms, 20, &index, &values).has_value());
    EXPECT_EQ(index, 0U);
    EXPECT_EQ(values, (std::array<int, 2>{10, -ECANCELED}));
    EXPECT_LT(r.w.now, stepped_world::start_ns + 2 * ms);
    EXPECT_TRUE(r.run(race, 100 * ms, 1 * ms, -EIO, &index, &values).has_value());
    EXPECT_EQ(index, 1U);  // an error is an answer too
    EXPECT_EQ(values, (std::array<int, 2>{-ECANCELED, -EIO}));
}

TEST(when_any, gives_both_values_when_both_were_ready) {
    stepped_runtime r;
    std::size_t index = 9;
    std::array<int, 2> values{};
    EXPECT_TRUE(r.run(race, std::uint64_t{0}, std::uint64_t{0}, 20, &index, &values).has_value());
    EXPECT_EQ(index, 0U);
    EXPECT_EQ(values, (std::array<int, 2>{10, 20}));
}

task<void> pause_then_note(bool* noted) {
    result<> slept = co_await sleep_for(50 * ms);
    *noted = !slept;
}

task<std::size_t> race_of_voids(bool* noted) {
    auto first = co_await when_any(pause_then_note(noted), nothing());
    co_return first.index;
}

TEST(when_any, takes_tasks_that_return_nothing) {
    stepped_runtime r;
    bool noted = false;
    EXPECT_EQ(r.run(race_of_voids, &noted), 1U);
    EXPECT_TRUE(noted);
}

}  // namespace
}  // namespace nacre
