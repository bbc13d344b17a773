// SPDX-License-Identifier: BSD-3-Clause
//
// Threads on real reactors, each with an OS thread of its own.
#include "nacre/runtime/thread.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "nacre/runtime/cpu.hpp"
#include "nacre/runtime/sleep.hpp"
#include "nacre/runtime/sync.hpp"
#include "stepped_world.hpp"

namespace nacre {
namespace {

class real_reactors : public testing::Test {
protected:
    real_reactors() {
        auto made = runtime::make(real_world(), {.reactors = 3});
        if (!made) std::abort();
        rt = std::move(*made);
        a = &rt->make_thread("a", 1);
        b = &rt->make_thread("b", 2);
    }
    std::unique_ptr<runtime> rt;
    thread* a = nullptr;
    thread* b = nullptr;
};

task<result<std::string>> where(std::string text) {
    co_await yield();
    co_return text + thread::current()->name();
}

task<result<std::string>> ask(thread* t) {
    auto handle = t->spawn(where, std::string("on "));
    auto r = co_await handle;
    if (!r) co_return r;
    co_return *r + " for " + thread::current()->name();
}

TEST_F(real_reactors, spawn_runs_there_and_resumes_here) {
    EXPECT_EQ(*rt->block_on(ask, a), "on a for app_thread");
    EXPECT_EQ(*rt->block_on(ask, b), "on b for app_thread");
    EXPECT_EQ(*rt->block_on(ask, &rt->main_thread()), "on app_thread for app_thread");
}

task<std::unique_ptr<int>> move_only_value(std::unique_ptr<int> in) { co_return in; }

task<int> pass_through(thread* t) {
    auto handle = t->spawn(move_only_value, std::make_unique<int>(12));
    auto r = co_await handle;
    co_return *r;
}

TEST_F(real_reactors, spawn_carries_move_only_values_both_ways) {
    EXPECT_EQ(rt->block_on(pass_through, a), 12);
}

TEST_F(real_reactors, a_foreign_os_thread_spawns_and_waits) {
    for (int i = 0; i < 200; ++i) {
        auto handle = (i % 2 == 0 ? a : b)->spawn(where, std::string());
        const auto r = handle.wait();
        ASSERT_TRUE(r.has_value());
        ASSERT_EQ(*r, i % 2 == 0 ? "a" : "b");
        ASSERT_TRUE(handle.done());
    }
}

TEST_F(real_reactors, a_dropped_handle_does_not_stop_the_work) {
    std::atomic<int> ran = 0;
    {
        auto dropped = a->spawn(
            [](across<std::atomic<int>> count) -> task<void> {
                co_await yield();
                ++*count;
            },
            across(ran));
    }
    while (ran == 0) std::this_thread::yield();
    EXPECT_EQ(ran, 1);
}

struct tally {
    std::vector<int> seen;  // on the receiver's thread only
    std::atomic<int> count = 0;
};

void receive(across<tally> t, int value) {
    t->seen.push_back(value);
    t->count.fetch_add(1, std::memory_order_release);
}

task<void> send_many(thread* to, tally* t, int n) {
    for (int i = 0; i < n; ++i) {
        to->send_message(receive, across(*t), i);
        if (i % 7 == 0) co_await yield();
    }
}

TEST_F(real_reactors, messages_of_one_sender_arrive_in_their_order) {
    tally t;
    rt->block_on(send_many, a, &t, 10'000);
    while (t.count.load(std::memory_order_acquire) < 10'000) std::this_thread::yield();
    for (int i = 0; i < 10'000; ++i) ASSERT_EQ(t.seen[static_cast<std::size_t>(i)], i);
}

TEST_F(real_reactors, messages_of_many_os_threads_all_arrive) {
    tally t;
    std::vector<std::thread> senders;
    for (int s = 0; s < 4; ++s)
        senders.emplace_back([&] {
            for (int i = 0; i < 2000; ++i) a->send_message(receive, across(t), i);
        });
    for (auto& s : senders) s.join();
    while (t.count.load(std::memory_order_acquire) < 8000) std::this_thread::yield();
    EXPECT_EQ(t.seen.size(), 8000U);
}

int twice(int value) { return 2 * value; }
std::string name_here() { return thread::current()->name(); }

task<int> call_back_and_forth(thread* x, thread* y, int rounds) {
    int value = 1;
    for (int i = 0; i < rounds; ++i) {
        auto there = co_await call_on(i % 2 == 0 ? *x : *y, twice, value);
        value = there % 1'000'003;
    }
    co_return value;
}

TEST_F(real_reactors, call_on_returns_what_the_function_returned) {
    int expected = 1;
    for (int i = 0; i < 1000; ++i) expected = 2 * expected % 1'000'003;
    EXPECT_EQ(rt->block_on(call_back_and_forth, a, b, 1000), expected);
}

task<std::vector<std::string>> names_of_cores(runtime* r) {
    std::vector<std::string> names;
    for (unsigned core : cores(*r)) {
        auto name = co_await call_on(*r, core, name_here);
        names.push_back(std::move(name));
    }
    co_return names;
}

TEST_F(real_reactors, call_on_a_core_reaches_each_reactor) {
    EXPECT_EQ(rt->block_on(names_of_cores, rt.get()),
              (std::vector<std::string>{"core_0", "core_1", "core_2"}));
}

// Each thread calls the next one, for ever in circles: every pair of reactors talks at once.
task<result<>> circulate(across<runtime> r, int rounds) {
    const cores all(*r);
    for (int i = 0; i < rounds; ++i) {
        const unsigned here = *cores::current();
        const unsigned next = all.next(here).value_or(0);
        auto value = co_await call_on(*r, next, twice, i);
        if (value != 2 * i || *cores::current() != here) co_return fail(EPROTO);
    }
    co_return {};
}

task<result<>> circulate_everywhere(runtime* r) {
    std::vector<join_handle<result<>>> handles;
    for (unsigned core : cores(*r))
        for (int i = 0; i < 8; ++i)
            handles.push_back(r->service_thread(core).spawn(circulate, across(*r), 500));
    for (auto& handle : handles) {
        result<> done = co_await handle;
        if (!done) co_return done;
    }
    co_return {};
}

TEST_F(real_reactors, calls_cross_in_all_directions_at_once) {
    EXPECT_TRUE(rt->block_on(circulate_everywhere, rt.get()).has_value());
}

task<void> ends_when_asked(across<std::atomic<int>> canceled) {
    result<> slept = co_await sleep_for(UINT64_MAX);
    if (!slept && slept.error().is(ECANCELED)) ++*canceled;
}

TEST_F(real_reactors, exit_asks_the_threads_work_to_stop_and_waits_for_it) {
    std::atomic<int> canceled = 0;
    for (int i = 0; i < 10; ++i) (void)a->spawn(ends_when_asked, across(canceled));
    auto handle = b->spawn(ends_when_asked, across(canceled));
    a->request_exit();
    a->request_exit();
    while (!a->exited()) std::this_thread::yield();
    EXPECT_EQ(canceled, 10);
    EXPECT_FALSE(b->exited());
    rt.reset();  // the rest; nobody has to wake it by hand
    EXPECT_EQ(canceled, 11);
    handle.wait();
}

TEST_F(real_reactors, the_runtime_ends_while_all_its_reactors_sleep) {
    // Work that only ends because it is asked to, on a reactor that the destructor's does not see.
    std::atomic<int> canceled = 0;
    (void)a->spawn(ends_when_asked, across(canceled));
    while (rt->reactor_at(1).statistics().sleeps == 0) std::this_thread::yield();
    rt.reset();
    EXPECT_EQ(canceled, 1);
}

task<bool> query_self() {
    thread& t = *thread::current();
    co_return t.idle();  // it runs this, so it is not
}

task<std::uint64_t> query_expiration() {
    scope children;
    children.spawn([]() -> task<result<>> {
        result<> slept = co_await sleep_for(1'000'000'000);
        co_return slept;
    }());
    co_await yield();
    const std::uint64_t next = thread::current()->next_expiration_ns();
    children.request_stop();
    result<> joined = co_await children.join();
    (void)joined;
    co_return next;
}

TEST(thread, answers_whether_it_is_idle_and_when_a_timer_is_due) {
    stepped_runtime r;
    thread& t = r.rt->main_thread();
    EXPECT_TRUE(t.idle());
    EXPECT_FALSE(r.run(query_self));
    EXPECT_TRUE(t.idle());
    const auto next = r.run(query_expiration);
    EXPECT_GT(next, stepped_world::start_ns);
    EXPECT_LE(next, stepped_world::start_ns + 1'000'008'192);
    EXPECT_GT(t.statistics().runs, 0U);
}

TEST(thread, guard_sets_and_restores_the_current_one) {
    stepped_runtime r;
    thread& other = r.rt->make_thread("other");
    EXPECT_EQ(thread::current(), nullptr);
    {
        const thread_guard outer(r.rt->main_thread());
        EXPECT_EQ(thread::current(), &r.rt->main_thread());
        {
            const thread_guard inner(other);
            EXPECT_EQ(thread::current(), &other);
        }
        EXPECT_EQ(thread::current(), &r.rt->main_thread());
    }
    EXPECT_EQ(thread::current(), nullptr);
}

task<result<int>> never_started() { co_return 1; }

task<result<int>> spawn_without_memory(thread* t) {
    frame_pool::fail_nth_allocation(1);  // virtual time: all reactors are on this OS thread
    auto handle = t->spawn(never_started);
    auto r = co_await handle;
    frame_pool::fail_nth_allocation(0);
    co_return r;
}

TEST(thread, spawn_without_memory_for_the_frame_gives_enomem) {
    stepped_runtime r({.reactors = 2});
    EXPECT_TRUE(r.run(spawn_without_memory, &r.rt->make_thread("t", 1)).error().is(ENOMEM));
}

}  // namespace
}  // namespace nacre
