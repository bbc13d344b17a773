// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/runtime/poller.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "nacre/runtime/remote_poller.hpp"
#include "nacre/runtime/sleep.hpp"
#include "stepped_world.hpp"

namespace nacre {
namespace {

constexpr std::uint64_t ms = 1'000'000;

struct counter {
    bool poll() noexcept {
        ++polls;
        seen_on = thread::current();
        return work_every != 0 && polls % work_every == 0;
    }
    bool arm() noexcept {
        ++arms;
        return may_sleep;
    }
    void disarm() noexcept { ++disarms; }
    unsigned polls = 0, arms = 0, disarms = 0;
    unsigned work_every = 0;
    bool may_sleep = true;
    thread* seen_on = nullptr;
};

task<result<>> poll_busily(counter* c, poller_statistics* statistics) {
    c->work_every = 4;
    poller p("busy", *c);
    for (int i = 0; i < 40; ++i) co_await yield();
    *statistics = p.statistics();
    co_return {};
}

TEST(poller, busy_is_polled_once_a_turn_and_counts_the_turns_that_found_work) {
    stepped_runtime r;
    counter c;
    poller_statistics statistics;
    EXPECT_TRUE(r.run(poll_busily, &c, &statistics).has_value());
    EXPECT_EQ(c.polls, 40U);
    EXPECT_EQ(statistics.run_count, 40U);
    EXPECT_EQ(statistics.busy_count, 10U);
    EXPECT_EQ(c.seen_on, &r.rt->main_thread());
}

task<result<>> poll_periodically(counter* c, std::vector<unsigned>* counts) {
    poller p("tick", *c, 10 * ms);
    if (p.period_ns() != 10 * ms || p.name() != "tick" || p.paused()) co_return fail(EPROTO);
    result<> slept = co_await sleep_for(1005 * ms);
    counts->push_back(c->polls);
    p.pause();
    p.pause();
    slept = co_await sleep_for(1000 * ms);
    counts->push_back(c->polls);
    p.resume();
    p.resume();
    slept = co_await sleep_for(105 * ms);
    counts->push_back(c->polls);
    co_return slept;
}

TEST(poller, periodic_keeps_its_period_and_pauses) {
    stepped_runtime r;
    counter c;
    std::vector<unsigned> counts;
    EXPECT_TRUE(r.run(poll_periodically, &c, &counts).has_value());
    ASSERT_EQ(counts.size(), 3U);
    EXPECT_EQ(counts[0], 100U);
    EXPECT_EQ(counts[1], counts[0]);
    EXPECT_EQ(counts[2], counts[1] + 10);
}

struct self_pausing {
    bool poll() noexcept {
        ++polls;
        if (owner != nullptr) owner->pause();
        if (victim != nullptr) victim->reset();
        return true;
    }
    bool arm() noexcept { return true; }
    void disarm() noexcept {}
    unsigned polls = 0;
    poller* owner = nullptr;
    std::unique_ptr<poller>* victim = nullptr;
};

task<result<>> pause_and_destroy_from_a_poll(self_pausing* a, self_pausing* b, counter* c) {
    auto first = std::make_unique<poller>("pauses itself", *a);
    auto second = std::make_unique<poller>("destroys another", *b);
    auto third = std::make_unique<poller>("destroyed", *c);
    a->owner = first.get();
    b->victim = &third;
    for (int i = 0; i < 5; ++i) co_await yield();
    first->resume();
    a->owner = nullptr;
    for (int i = 0; i < 5; ++i) co_await yield();
    co_return {};
}

TEST(poller, may_pause_itself_and_destroy_another_from_its_function) {
    stepped_runtime r;
    self_pausing a, b;
    counter c;
    EXPECT_TRUE(r.run(pause_and_destroy_from_a_poll, &a, &b, &c).has_value());
    EXPECT_EQ(a.polls, 1U + 5U);
    EXPECT_EQ(b.polls, 10U);
    EXPECT_EQ(c.polls, 0U);
}

task<result<>> look_at_pollers(std::vector<std::string>* names, bool* has_before, bool* has_now) {
    *has_before = thread::current()->has_pollers();
    counter c;
    poller a("a", c);
    poller b("b", c, 5 * ms);
    *has_now = thread::current()->has_pollers();
    thread::current()->for_each_poller([&](poller& p) { names->push_back(p.name()); });
    co_return {};
}

TEST(poller, is_listed_by_its_thread) {
    stepped_runtime r;
    std::vector<std::string> names;
    bool before = true, now = false;
    EXPECT_TRUE(r.run(look_at_pollers, &names, &before, &now).has_value());
    EXPECT_FALSE(before);
    EXPECT_TRUE(now);
    EXPECT_EQ(names, (std::vector<std::string>{"a", "b"}));
    EXPECT_FALSE(r.rt->main_thread().has_pollers());
}

task<result<>> be_armed(counter* c) {
    poller p("armed", *c);
    result<> slept = co_await sleep_for(20 * ms);
    co_return slept;
}

TEST(poller, is_armed_before_the_reactor_sleeps_and_disarmed_after) {
    auto rt = runtime::make(real_world());
    ASSERT_TRUE(rt.has_value());
    counter c;
    EXPECT_TRUE((*rt)->block_on(be_armed, &c).has_value());
    EXPECT_GE(c.arms, 1U);
    EXPECT_EQ(c.arms, c.disarms);
    EXPECT_LT(c.polls, 100U);  // it slept
}

TEST(poller, that_cannot_sleep_now_keeps_the_reactor_awake) {
    auto rt = runtime::make(real_world());
    ASSERT_TRUE(rt.has_value());
    counter c;
    c.may_sleep = false;
    const auto before = (*rt)->reactor_at(0).statistics().sleeps;
    EXPECT_TRUE((*rt)->block_on(be_armed, &c).has_value());
    EXPECT_EQ((*rt)->reactor_at(0).statistics().sleeps, before);
    EXPECT_EQ(c.disarms, 0U);
    EXPECT_GT(c.polls, 100U);
}

task<result<>> poll_elsewhere(runtime* rt, counter* c, poller_statistics* statistics) {
    thread& other = rt->make_thread("other", 1);
    auto p = co_await make_poller_on(other, "remote", across(*c), 1 * ms);
    result<> slept = co_await sleep_for(50 * ms);
    co_await p.pause();
    const unsigned polls = c->polls;
    slept = co_await sleep_for(50 * ms);
    if (c->polls != polls) co_return fail(EPROTO);
    co_await p.resume();
    slept = co_await sleep_for(50 * ms);
    *statistics = co_await p.statistics();
    co_await p.close();
    auto busy = co_await make_poller_on(other, "remote busy", across(*c));
    co_await busy.close();
    co_return slept;
}

TEST(poller, runs_on_another_core_for_its_owner) {
    stepped_runtime r({.reactors = 2});
    counter c;
    poller_statistics statistics;
    EXPECT_TRUE(r.run(poll_elsewhere, r.rt.get(), &c, &statistics).has_value());
    ASSERT_NE(c.seen_on, nullptr);
    EXPECT_EQ(c.seen_on->name(), "other");
    EXPECT_GE(statistics.run_count, 90U);
    EXPECT_LE(statistics.run_count, 101U);
}

}  // namespace
}  // namespace nacre
