// SPDX-License-Identifier: BSD-3-Clause
//
// Reactors as a whole: sleeping, poll mode, hosting by a foreign loop, choice of cores, exit.
#include "nacre/runtime/runtime.hpp"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "nacre/runtime/cpu.hpp"
#include "nacre/runtime/sleep.hpp"
#include "nacre/runtime/sync.hpp"
#include "stepped_world.hpp"

namespace nacre {
namespace {

constexpr std::uint64_t ms = 1'000'000;

std::uint64_t turns(const reactor& r) {
    const auto s = r.statistics();
    return s.turns_busy + s.turns_idle;
}

task<result<>> doze(std::uint64_t ns) {
    result<> slept = co_await sleep_for(ns);
    co_return slept;
}

TEST(reactor, sleeps_while_it_waits) {
    auto rt = runtime::make(real_world());
    ASSERT_TRUE(rt.has_value());
    reactor& r = (*rt)->reactor_at(0);
    const auto turns_before = turns(r);
    const auto sleeps_before = r.statistics().sleeps;
    EXPECT_TRUE((*rt)->block_on(doze, 50 * ms).has_value());
    EXPECT_GT(r.statistics().sleeps, sleeps_before);
    EXPECT_LT(turns(r) - turns_before, 30U);
}

TEST(reactor, of_several_sleeps_too_and_is_woken_by_messages) {
    auto rt = runtime::make(real_world(), {.reactors = 2});
    ASSERT_TRUE(rt.has_value());
    thread& t = (*rt)->make_thread("t", 1);
    reactor& r = (*rt)->reactor_at(1);
    EXPECT_TRUE((*rt)->block_on(doze, 50 * ms).has_value());
    const auto sleeps_before = r.statistics().sleeps;
    for (int i = 0; i < 20; ++i) {
        auto handle = t.spawn(doze, 1 * ms);
        EXPECT_TRUE(handle.wait().has_value());
    }
    EXPECT_GE(r.statistics().sleeps - sleeps_before, 20U);
}

TEST(reactor, in_poll_mode_never_sleeps) {
    auto rt = runtime::make(real_world(), {.mode = reactor_mode::poll});
    ASSERT_TRUE(rt.has_value());
    reactor& r = (*rt)->reactor_at(0);
    EXPECT_TRUE((*rt)->block_on(doze, 20 * ms).has_value());
    EXPECT_EQ(r.statistics().sleeps, 0U);
    EXPECT_GT(turns(r), 1000U);
}

task<result<>> busy_then_idle() {
    for (int i = 0; i < 100; ++i) co_await yield();
    result<> slept = co_await sleep_for(100 * ms);
    co_return slept;
}

TEST(reactor, counts_busy_and_idle_time_apart) {
    stepped_runtime r;
    EXPECT_TRUE(r.run(busy_then_idle).has_value());
    const auto s = r.rt->reactor_at(0).statistics();
    EXPECT_GE(s.turns_busy, 101U);
    EXPECT_GE(s.idle_ns, 99 * ms);
    EXPECT_LT(s.busy_ns, 2 * ms);
}

task<void> spin_until(const std::atomic<bool>* stop, std::uint64_t* rounds) {
    while (!stop->load()) {
        ++*rounds;
        co_await yield();
    }
}

struct flag_timer : timer {
    explicit flag_timer(std::atomic<bool>& f)
        : timer([](timer& t) noexcept { static_cast<flag_timer&>(t).flag->store(true); }),
          flag(&f) {}
    std::atomic<bool>* flag;
};

task<void> arm_and_spin(std::uint64_t* rounds) {
    std::atomic<bool> stop = false;
    flag_timer t(stop);
    reactor& here = thread::current()->host();
    here.timers().arm(t, here.now_ns() + 5 * ms);
    co_await spin_until(&stop, rounds);
}

TEST(reactor, fires_timers_while_work_never_runs_out) {
    auto rt = runtime::make(real_world());
    ASSERT_TRUE(rt.has_value());
    std::uint64_t rounds = 0;
    (*rt)->block_on(arm_and_spin, &rounds);
    EXPECT_GT(rounds, 100U);
}

task<void> count_up(std::uint64_t* count) {
    ++*count;
    co_return;
}

task<result<>> spawn_a_crowd(std::uint64_t* count, std::uint64_t* at_first_turn, unsigned n) {
    scope children;
    for (unsigned i = 0; i < n; ++i) children.spawn(count_up(count));
    // A budget bounds the turn: this goes to the end of the list, behind all of them.
    co_await yield();
    *at_first_turn = *count;
    result<> joined = co_await children.join();
    co_return joined;
}

TEST(reactor, runs_a_crowd_larger_than_its_budget_in_order) {
    stepped_runtime r;
    std::uint64_t count = 0, at_first_turn = 0;
    EXPECT_TRUE(r.run(spawn_a_crowd, &count, &at_first_turn, 10'000U).has_value());
    EXPECT_EQ(at_first_turn, 10'000U);
    EXPECT_GE(r.rt->reactor_at(0).statistics().turns_busy, 3U);
}

// Hosted by a foreign loop that sleeps in epoll.

class foreign_loop {
public:
    explicit foreign_loop(runtime& rt) : rt_(rt), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
        epoll_event event{.events = EPOLLIN, .data = {}};
        ::epoll_ctl(epoll_, EPOLL_CTL_ADD, rt.wake_fd(), &event);
    }
    ~foreign_loop() { ::close(epoll_); }
    /// False after `bound_ms` of real time.
    template <typename Done>
    bool run_until(Done done, int bound_ms) {
        const auto end = real_world().monotonic_ns() + static_cast<std::uint64_t>(bound_ms) * ms;
        for (;;) {
            while (rt_.poll()) {
            }
            if (done()) return true;
            const auto now = real_world().monotonic_ns();
            if (now >= end) return false;
            const auto deadline = std::min(end, rt_.next_deadline_ns());
            const auto left = deadline > now ? (deadline - now + ms - 1) / ms : 0;
            epoll_event event;
            const int n = ::epoll_wait(epoll_, &event, 1, static_cast<int>(left));
            ++sleeps;
            if (n > 0) ++wakes;
        }
    }
    unsigned sleeps = 0, wakes = 0;

private:
    runtime& rt_;
    int epoll_;
};

task<void> doze_and_set(across<std::atomic<int>> count) {
    result<> slept = co_await sleep_for(3 * ms);
    if (slept) ++*count;
}

/// On another reactor: the loop would not learn of the count by itself.
task<void> doze_set_and_tell(across<std::atomic<int>> count, across<thread> whom) {
    result<> slept = co_await sleep_for(3 * ms);
    if (slept) ++*count;
    whom->send_message([] {});
}

TEST(hosted, by_a_foreign_loop_runs_timers_and_wakes_for_messages) {
    auto rt = runtime::make(real_world());
    ASSERT_TRUE(rt.has_value());
    foreign_loop loop(**rt);
    std::atomic<int> count = 0;
    (void)(*rt)->main_thread().spawn(doze_and_set, across(count));
    EXPECT_TRUE(loop.run_until([&] { return count == 1; }, 10'000));

    // Another OS thread sends while the loop sleeps: only the descriptor can wake it.
    for (int i = 0; i < 20; ++i) {
        std::thread sender([&] {
            ::usleep(2000);
            (*rt)->main_thread().send_message([](across<std::atomic<int>> c) { ++*c; },
                                              across(count));
        });
        EXPECT_TRUE(loop.run_until([&] { return count == 2 + i; }, 10'000));
        sender.join();
    }
    EXPECT_LT(loop.sleeps, 200U);
}

TEST(hosted, and_driven_by_block_on_take_turns) {
    auto rt = runtime::make(real_world(), {.reactors = 2});
    ASSERT_TRUE(rt.has_value());
    foreign_loop loop(**rt);
    thread& other = (*rt)->make_thread("other", 1);
    for (int i = 0; i < 10; ++i) {
        std::atomic<int> count = 0;
        (void)other.spawn(doze_set_and_tell, across(count), across((*rt)->main_thread()));
        (void)(*rt)->main_thread().spawn(doze_and_set, across(count));
        EXPECT_TRUE(loop.run_until([&] { return count == 2; }, 10'000));
        EXPECT_TRUE((*rt)->block_on(doze, 1 * ms).has_value());
    }
}

// Cores and threads on them.

TEST(cores, are_walked_and_given_out_in_turn) {
    stepped_runtime r({.cpus = {2, 0, 3}, .main_index = 1});
    const cores all(*r.rt);
    EXPECT_EQ(all.count(), 3U);
    EXPECT_EQ(cores::first(), 0U);
    EXPECT_EQ(all.last(), 2U);
    EXPECT_EQ(all.next(0), 1U);
    EXPECT_EQ(all.next(2), std::nullopt);
    EXPECT_EQ(all.cpu(0), 0U);  // the main core comes first
    EXPECT_EQ(all.cpu(1), 3U);
    EXPECT_EQ(all.cpu(2), 2U);
    EXPECT_EQ(all.cpus(), (cpu_set{0, 2, 3}));
    EXPECT_EQ(cores::current(), std::nullopt);
    const unsigned start = all.next_round_robin();
    for (unsigned i = 1; i < 7; ++i) EXPECT_EQ(all.next_round_robin(), (start + i) % 3);
}

TEST(cores, of_threads_follow_their_cpu_set) {
    stepped_runtime r({.cpus = {0, 1, 2}});
    for (int i = 0; i < 4; ++i) {
        auto made = r.rt->make_thread_on("pinned", {1, 2, 7});
        ASSERT_TRUE(made.has_value());
        EXPECT_NE((*made)->host().options().cpu, 0);
        EXPECT_EQ((*made)->cpus(), (cpu_set{1, 2, 7}));
    }
    const auto one = r.rt->make_thread_on("one", {1});
    const auto two = r.rt->make_thread_on("two", {2});
    EXPECT_EQ((*one)->host().options().cpu, 1);
    EXPECT_EQ((*two)->host().options().cpu, 2);
    const auto none = r.rt->make_thread_on("none", {3, 900});
    ASSERT_FALSE(none.has_value());
    EXPECT_NE(none.error().message.find("\"none\""), std::string::npos);
    EXPECT_NE(none.error().message.find("3,900"), std::string::npos);
}

TEST(cores, of_a_floating_reactor_serve_only_a_set_of_all_cpus) {
    stepped_runtime r;
    EXPECT_FALSE(r.rt->make_thread_on("some", {1}).has_value());
    EXPECT_TRUE(r.rt->make_thread_on("all", {0, 1, 2, 3, 4}).has_value());
}

TEST(cores, that_are_pinned_run_where_they_should) {
    const auto allowed = real_world().allowed_cpus();
    auto rt = runtime::make(real_world(), {.cpus = {allowed.back()}});
    ASSERT_TRUE(rt.has_value());
    EXPECT_EQ(static_cast<unsigned>(::sched_getcpu()), allowed.back());
    (void)real_world().pin_os_thread({});
}

TEST(cores, not_of_this_machine_are_an_error_that_names_them) {
    auto rt = runtime::make(real_world(), {.cpus = {1000}});
    ASSERT_FALSE(rt.has_value());
    EXPECT_NE(rt.error().message.find("1000"), std::string::npos);
}

class broken_world : public stepped_world {
    outcome<std::unique_ptr<io_driver>> make_driver(const driver_options&) override {
        return fail(EPERM, "no io_uring here");
    }
};

TEST(runtime, that_cannot_have_a_driver_says_so) {
    broken_world w;
    const auto rt = runtime::make(w);
    ASSERT_FALSE(rt.has_value());
    EXPECT_EQ(rt.error().message, "no io_uring here");
}

TEST(runtime, lists_its_threads_until_they_exit) {
    stepped_runtime r({.reactors = 2});
    thread& t = r.rt->make_thread("short", 1);
    std::vector<std::string> names;
    r.rt->for_each_thread([&](thread& each) { names.push_back(each.name()); });
    EXPECT_EQ(names, (std::vector<std::string>{"app_thread", "short"}));
    t.request_exit();
    (void)r.run(doze, 1 * ms);
    names.clear();
    r.rt->for_each_thread([&](thread& each) { names.push_back(each.name()); });
    EXPECT_EQ(names, (std::vector<std::string>{"app_thread"}));
}

TEST(runtime, gives_blocking_work_an_os_thread_off_its_cores) {
    const auto allowed = real_world().allowed_cpus();
    auto rt = runtime::make(real_world(), {.cpus = {allowed.front()}});
    ASSERT_TRUE(rt.has_value());
    cpu_set_t seen;
    std::thread t = make_unaffinitized_os_thread(
        **rt, [](void* out) { ::sched_getaffinity(0, sizeof seen, static_cast<cpu_set_t*>(out)); },
        &seen);
    t.join();
    EXPECT_EQ(CPU_ISSET(allowed.front(), &seen) != 0, allowed.size() == 1);
    (void)real_world().pin_os_thread({});
}

TEST(runtime, two_in_one_process_do_not_mix_their_messages) {
    stepped_runtime a({.reactors = 2});
    stepped_runtime b({.reactors = 2});
    thread& in_a = a.rt->make_thread("in a", 1);
    thread& in_b = b.rt->make_thread("in b", 1);
    int hits_a = 0, hits_b = 0;
    a.run(
        [](thread* ta, thread* tb, int* ha, int* hb) -> task<void> {
            auto hit = [](across<int> n) { ++*n; };
            ta->send_message(hit, across(*ha));
            tb->send_message(hit, across(*hb));
            ta->send_message(hit, across(*ha));
            tb->send_message(hit, across(*hb));
            result<> slept = co_await sleep_for(1 * ms);
            (void)slept;
        },
        &in_a, &in_b, &hits_a, &hits_b);
    (void)b.run(doze, 1 * ms);
    EXPECT_EQ(hits_a, 2);
    EXPECT_EQ(hits_b, 2);
}

}  // namespace
}  // namespace nacre
