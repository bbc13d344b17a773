// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/runtime/task.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "nacre/runtime/sleep.hpp"
#include "nacre/runtime/when_all.hpp"
#include "nacre/runtime/when_any.hpp"
#include "stepped_world.hpp"

namespace nacre {
namespace {

task<result<int>> ready(int value) { co_return value; }

task<result<std::uint64_t>> count_down(std::uint64_t depth) {
    if (depth == 0) co_return 0;
    auto below = co_await count_down(depth - 1);
    if (!below) co_return below;
    co_return *below + 1;
}

TEST(task, awaits_a_million_deep_without_stack) {
    stepped_runtime r;
    const auto depth = r.run(count_down, std::uint64_t{1'000'000});
    ASSERT_TRUE(depth.has_value());
    EXPECT_EQ(*depth, 1'000'000U);
}

task<result<std::uint64_t>> sum_of(int n) {
    std::uint64_t sum = 0;
    for (int i = 0; i < n; ++i) {
        auto one = co_await ready(i);
        if (!one) co_return fail(one.error());
        sum += static_cast<std::uint64_t>(*one);
    }
    co_return sum;
}

TEST(task, awaits_a_million_times_in_a_loop_without_stack) {
    stepped_runtime r;
    const auto sum = r.run(sum_of, 1'000'000);
    ASSERT_TRUE(sum.has_value());
    EXPECT_EQ(*sum, 499'999'500'000U);
}

// Off under sanitizers, which must see every free.
bool frame_pool_is_on() {
    frame_pool::deallocate(frame_pool::allocate(64), 64);
    const auto before = frame_pool::system_allocations();
    frame_pool::deallocate(frame_pool::allocate(64), 64);
    return frame_pool::system_allocations() == before;
}

TEST(task, takes_no_memory_from_the_system_in_steady_state) {
    stepped_runtime r;
    (void)r.run(sum_of, 10);
    const bool pool = frame_pool_is_on();
    const auto before = frame_pool::system_allocations();
    (void)r.run(sum_of, 1000);
    if (pool) {
        EXPECT_EQ(frame_pool::system_allocations(), before);
    }
}

task<void> note(bool* ran) {
    *ran = true;
    co_return;
}

task<void> make_and_look(bool* ran, bool* ran_before_await) {
    task<void> lazy = note(ran);
    *ran_before_await = *ran;
    co_await std::move(lazy);
}

TEST(task, does_not_start_before_it_is_awaited) {
    stepped_runtime r;
    bool ran = false, before = true;
    r.run(make_and_look, &ran, &before);
    EXPECT_FALSE(before);
    EXPECT_TRUE(ran);
}

task<void> holds(std::shared_ptr<int> held) {
    (void)held;
    co_return;
}

TEST(task, destroys_its_parameters_when_it_is_never_awaited) {
    auto held = std::make_shared<int>(1);
    {
        task<void> never = holds(held);
        EXPECT_EQ(held.use_count(), 2);
        task<void> moved = std::move(never);
        EXPECT_FALSE(never.valid());  // NOLINT: that is what is tested
        EXPECT_TRUE(moved.valid());
        EXPECT_EQ(held.use_count(), 2);
    }
    EXPECT_EQ(held.use_count(), 1);
}

task<std::unique_ptr<std::string>> move_only() { co_return std::make_unique<std::string>("here"); }
task<result<>> success() { co_return {}; }
task<result<std::string>> failure_of(int errno_value) { co_return fail(errno_value); }

task<void> try_values(int* checks) {
    auto moved = co_await move_only();
    *checks += *moved == "here" ? 1 : 0;
    auto good = co_await success();
    *checks += good.has_value() ? 1 : 0;
    auto bad = co_await failure_of(EIO);
    *checks += !bad && bad.error().is(EIO) ? 1 : 0;
}

TEST(task, returns_move_only_values_successes_and_errors) {
    stepped_runtime r;
    int checks = 0;
    r.run(try_values, &checks);
    EXPECT_EQ(checks, 3);
}

task<stop_source*> source_seen_by_a_child() {
    auto* seen = co_await current_stop();
    co_return seen;
}

task<bool> child_and_parent_agree() {
    auto* mine = co_await current_stop();
    auto* childs = co_await source_seen_by_a_child();
    co_return mine != nullptr&& mine == childs;
}

TEST(task, inherits_the_stop_source_of_whoever_awaits_it) {
    stepped_runtime r;
    EXPECT_TRUE(r.run(child_and_parent_agree));
}

// A program with every way of starting a coroutine, to be run with each of its frames missing.
struct counted {
    explicit counted(int* l) noexcept : live(l) { ++*live; }
    counted(counted&& o) noexcept : live(o.live) { ++*live; }
    counted(const counted& o) noexcept : live(o.live) { ++*live; }
    ~counted() { --*live; }
    counted& operator=(const counted&) = delete;
    int* live;
};

task<result<>> leaf(counted c) {
    (void)c;
    co_await yield();
    result<> slept = co_await sleep_for(1000);
    co_return slept;
}

task<result<>> branch(int* live) {
    counted here(live);
    result<> r = co_await leaf(here);
    if (!r) co_return r;
    scope children;
    children.spawn(leaf(here));
    children.spawn(leaf(here));
    r = co_await children.join();
    co_return r;
}

task<result<>> tree(int* live) {
    auto both = co_await when_all(branch(live), branch(live));
    if (auto& first = std::get<0>(both); !first) co_return first;
    if (auto& second = std::get<1>(both); !second) co_return second;
    auto first = co_await when_any(leaf(counted(live)), leaf(counted(live)));
    if (auto& winner = std::get<0>(first.values); first.index == 0 && !winner) co_return winner;
    if (auto& winner = std::get<1>(first.values); first.index == 1 && !winner) co_return winner;
    co_return {};
}

TEST(task, without_memory_for_any_one_frame_ends_with_an_error_and_leaks_nothing) {
    stepped_runtime r;
    std::uint64_t n = 1;
    for (;; ++n) {
        int live = 0;
        frame_pool::fail_nth_allocation(n);
        const result<> done = r.run(tree, &live);
        const bool happened = frame_pool::injected_failure_happened();
        frame_pool::fail_nth_allocation(0);
        EXPECT_EQ(live, 0);
        if (!happened) {
            EXPECT_TRUE(done.has_value());
            break;
        }
        EXPECT_FALSE(done.has_value()) << "frame " << n;
        ASSERT_LT(n, 1000U);
    }
    // Tree, 2 branches, 3 leaves each, 2 leaves: each was missing once. An optimising clang keeps
    // some of them in their callers' frames.
    EXPECT_LE(n, 12U);
    EXPECT_GE(n, 4U);
}

}  // namespace
}  // namespace nacre
