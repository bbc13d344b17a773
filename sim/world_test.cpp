// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/sim/world.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <vector>

#include "nacre/runtime/poller.hpp"
#include "nacre/runtime/sync.hpp"
#include "test_io.hpp"

namespace nacre::sim {
namespace {

constexpr std::uint64_t second = 1'000'000'000;

task<result<std::uint64_t>> sleep_an_hour() {
    thread& here = *thread::current();
    const std::uint64_t before = here.now_ns();
    result<> slept = co_await sleep_for(3600 * second);
    if (!slept) co_return fail(slept.error());
    co_return here.now_ns() - before;
}

TEST(sim_world, sleeps_for_an_hour_in_no_time) {
    const auto begun = std::chrono::steady_clock::now();
    world w(1);
    auto rt = *runtime::make(w);
    const auto slept = rt->block_on(sleep_an_hour);
    ASSERT_TRUE(slept);
    EXPECT_GE(*slept, 3600 * second);
    EXPECT_LT(*slept, 3601 * second);
    EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(10));
}

TEST(sim_world, moves_the_wall_clock_with_the_monotonic_one) {
    world w(1);
    const std::uint64_t monotonic = w.monotonic_ns(), wall = w.wall_clock_ns();
    auto rt = *runtime::make(w);
    (void)rt->block_on(sleep_an_hour);
    EXPECT_EQ(w.wall_clock_ns() - wall, w.monotonic_ns() - monotonic);
    EXPECT_GE(w.monotonic_ns() - monotonic, 3600 * second);
}

task<result<int>> add_one(int n) { co_return n + 1; }

task<result<int>> play_ping_pong(across<thread> other, int rounds) {
    int n = 0;
    for (int i = 0; i < rounds; ++i) {
        result<int> answer = co_await other->spawn(add_one, n);
        if (!answer) co_return fail(answer.error());
        n = *answer;
        result<> slept = co_await sleep_for(1000);
        if (!slept) co_return fail(slept.error());
    }
    co_return n;
}

TEST(sim_world, carries_messages_between_two_reactors) {
    world w(2);
    auto rt = *runtime::make(w, {.reactors = 2});
    thread& other = rt->make_thread("other", 1);
    const auto answer = rt->block_on(play_ping_pong, across<thread>(other), 100);
    ASSERT_TRUE(answer);
    EXPECT_EQ(*answer, 100);
}

// Many children that write down the order in which they run.
struct diary {
    std::vector<int> lines;
};
task<result<>> write_down(diary& d, int n) {
    for (int i = 0; i < 3; ++i) {
        d.lines.push_back(n);
        co_await yield();
    }
    co_return result<>{};
}
task<result<>> write_together(across<diary> d) {
    scope children;
    for (int n = 0; n < 8; ++n) children.spawn(write_down(*d, n));
    result<> joined = co_await children.join();
    co_return joined;
}

std::vector<int> order_of(std::uint64_t seed, bool shuffle = true) {
    world_options options;
    options.shuffle = shuffle;
    world w(seed, options);
    auto rt = *runtime::make(w);
    diary d;
    EXPECT_TRUE(rt->block_on(write_together, across<diary>(d)));
    return d.lines;
}

TEST(sim_world, permutes_ready_work_by_its_seed) {
    EXPECT_EQ(order_of(1), order_of(1));
    std::vector<std::vector<int>> orders;
    for (std::uint64_t seed = 1; seed <= 20; ++seed) orders.push_back(order_of(seed));
    std::sort(orders.begin(), orders.end());
    orders.erase(std::unique(orders.begin(), orders.end()), orders.end());
    EXPECT_GE(orders.size(), 19U);
}

TEST(sim_world, runs_ready_work_in_order_when_asked_to) {
    const std::vector<int> in_order{0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3,
                                    4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7};
    EXPECT_EQ(order_of(1, false), in_order);
    EXPECT_EQ(order_of(2, false), in_order);
}

// Two reactors that write and read a file, with some waiting in between.
task<result<>> scribble(across<world> w, std::uint64_t base) {
    const int fd = open_at(*w, "/disk");
    std::array<std::byte, 512> sector{};
    for (std::uint64_t i = 0; i < 20; ++i) {
        sector.fill(static_cast<std::byte>(base + i));
        int written = co_await write_at(fd, (base + i) * 512, sector);
        if (written != 512) co_return fail(EIO);
        if (i % 5 != 0) continue;
        int synced = co_await sync_file(fd);
        if (synced != 0) co_return fail(EIO);
    }
    w->close_file(fd);
    co_return result<>{};
}
task<result<>> scribble_on_both(across<world> w, across<thread> other) {
    auto there = other->spawn(scribble, w, std::uint64_t{100});
    result<> here = co_await scribble(w, 0);
    result<> theirs = co_await there;
    co_return here ? theirs : here;
}

std::uint64_t fingerprint_of(std::uint64_t seed, std::string* trace = nullptr) {
    world w(seed);
    if (trace != nullptr)
        w.trace([trace](std::string_view line) { trace->append(line).append("\n"); });
    auto rt = *runtime::make(w, {.reactors = 2});
    thread& other = rt->make_thread("other", 1);
    EXPECT_TRUE(rt->block_on(scribble_on_both, across(w), across<thread>(other)));
    rt.reset();
    return w.fingerprint();
}

TEST(sim_world, repeats_a_run_exactly_from_its_seed) {
    std::string first, second_time, other;
    EXPECT_EQ(fingerprint_of(7, &first), fingerprint_of(7, &second_time));
    EXPECT_EQ(first, second_time);
    EXPECT_NE(fingerprint_of(8, &other), fingerprint_of(7));
    EXPECT_NE(first, other);
    EXPECT_NE(first.find("submit      file 1 kind 1 offset 0 length 512"), std::string::npos)
        << first;
}

TEST(sim_world, is_not_changed_by_being_traced) {
    std::string trace;
    EXPECT_EQ(fingerprint_of(9, &trace), fingerprint_of(9));
    EXPECT_GT(std::count(trace.begin(), trace.end(), '\n'), 50);
}

task<result<>> wait_for_nothing() {
    event never;
    result<> waited = co_await never.wait();
    co_return waited;
}

TEST(sim_world_death, tells_a_run_that_is_stuck_and_its_seed) {
    EXPECT_DEATH(
        {
            world w(4711);
            auto rt = *runtime::make(w);
            (void)rt->block_on(wait_for_nothing);
        },
        "seed 4711 is stuck");
}

task<result<>> never_end() {
    for (;;) co_await yield();
}

TEST(sim_world_death, ends_a_run_that_never_ends) {
    EXPECT_DEATH(
        {
            world_options options;
            options.steps_max = 1000;
            world w(12, options);
            auto rt = *runtime::make(w);
            (void)rt->block_on(never_end);
        },
        "seed 12 did not end");
}

task<result<>> wait_for_time(std::uint64_t until) {
    // Work that spins on the clock must see it move.
    while (thread::current()->now_ns() < until) co_await yield();
    co_return result<>{};
}

TEST(sim_world, lets_time_pass_for_work_that_only_yields) {
    world w(3);
    auto rt = *runtime::make(w);
    EXPECT_TRUE(rt->block_on(wait_for_time, w.monotonic_ns() + 100'000));
}

TEST(sim_world, calls_scheduled_actions_at_their_time) {
    world w(5);
    std::vector<std::uint64_t> called;
    const std::uint64_t start = w.monotonic_ns();
    w.schedule(2 * second, [&] { called.push_back(w.monotonic_ns() - start); });
    w.schedule(1 * second, [&] { called.push_back(w.monotonic_ns() - start); });
    w.schedule(7200 * second, [&] { called.push_back(0); });
    auto rt = *runtime::make(w);
    (void)rt->block_on(sleep_an_hour);
    EXPECT_EQ(called, (std::vector<std::uint64_t>{second, 2 * second}));
}

TEST(sim_world, draws_random_bytes_from_the_seed) {
    std::array<std::byte, 40> a{}, b{}, c{};
    world(1).fill_random(a);
    world(1).fill_random(b);
    world(2).fill_random(c);
    EXPECT_EQ(a, b);
    EXPECT_NE(a, c);
}

TEST(sim_world, stalls_a_reactor_when_asked_to) {
    world_options options;
    options.stall = 1;
    options.stall_ns_max = second;
    world w(6, options);
    auto rt = *runtime::make(w, {.reactors = 2});
    thread& other = rt->make_thread("other", 1);
    const std::uint64_t before = w.monotonic_ns();
    const auto answer = rt->block_on(play_ping_pong, across<thread>(other), 100);
    ASSERT_TRUE(answer);
    EXPECT_EQ(*answer, 100);
    EXPECT_GT(w.monotonic_ns() - before, 10 * second);
}

// A poller that looks at memory which another reactor writes, and is never told.
struct watched {
    bool flag = false;
    event seen;
    [[nodiscard]] bool poll() noexcept {
        if (!flag || seen.is_set()) return false;
        seen.set();
        return true;
    }
    [[nodiscard]] bool arm() const noexcept { return !flag; }
    void disarm() const noexcept {}
};
task<result<>> watch(across<watched> m) {
    poller p("watch", *m);
    result<> waited = co_await m->seen.wait();
    co_return waited;
}
task<result<>> write_what_is_watched(across<watched> m, across<thread> other) {
    auto watching = other->spawn(watch, m);
    result<> slept = co_await sleep_for(second);
    m->flag = true;
    result<> seen = co_await watching;
    co_return slept ? seen : slept;
}

TEST(sim_world, polls_before_it_lets_time_pass) {
    world w(9);
    auto rt = *runtime::make(w, {.reactors = 2});
    thread& other = rt->make_thread("watcher", 1);
    watched memory;
    const std::uint64_t before = w.monotonic_ns();
    ASSERT_TRUE(rt->block_on(write_what_is_watched, across(memory), across<thread>(other)));
    EXPECT_LT(w.monotonic_ns() - before, second + 1'000'000);
}

TEST(sim_world, steps_a_second_runtime_too) {
    world w(8);
    auto one = *runtime::make(w);
    auto two = *runtime::make(w);
    w.attach(*two);
    const auto answer = one->block_on(play_ping_pong, across<thread>(two->main_thread()), 10);
    ASSERT_TRUE(answer);
    EXPECT_EQ(*answer, 10);
    two.reset();
    EXPECT_TRUE(one->block_on(sleep_an_hour));
}

}  // namespace
}  // namespace nacre::sim
