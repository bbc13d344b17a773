// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/runtime/io_device.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <vector>

#include "nacre/runtime/cpu.hpp"
#include "nacre/runtime/sleep.hpp"
#include "stepped_world.hpp"

namespace nacre {
namespace {

constexpr std::uint64_t ms = 1'000'000;

struct queue {
    queue() : home(thread::current()) { ++live; }
    ~queue() {
        EXPECT_EQ(thread::current(), home);
        --live;
    }
    thread* home;
    int visits = 0;
    static inline std::atomic<int> live = 0;
};
using device = io_device<queue>;

result<std::unique_ptr<queue>> make_queue() { return std::make_unique<queue>(); }

task<result<>> open_twice(device* d) {
    auto first = d->channel();
    auto second = d->channel();
    if (!first || !second) co_return fail(EPROTO);
    EXPECT_EQ(&**first, &**second);
    EXPECT_EQ(queue::live, 1);
    io_channel<queue> third = *first;
    first->reset();
    second->reset();
    EXPECT_FALSE(*first);
    EXPECT_EQ(queue::live, 1);
    unsigned references = 0;
    std::string name;
    thread::current()->for_each_channel([&](detail::channel_base& c) {
        references = c.references();
        name = c.device_name();
    });
    EXPECT_EQ(references, 1U);
    EXPECT_EQ(name, "disk");
    third.reset();
    EXPECT_EQ(queue::live, 0);
    auto again = d->channel();
    EXPECT_EQ(queue::live, 1);
    co_return {};
}

TEST(io_device, has_one_counted_channel_a_thread) {
    stepped_runtime r;
    device d("disk", make_queue);
    EXPECT_TRUE(r.run(open_twice, &d).has_value());
    EXPECT_EQ(queue::live, 0);
}

TEST(io_device, passes_on_why_a_channel_could_not_be_made) {
    stepped_runtime r;
    device d("disk", []() -> result<std::unique_ptr<queue>> { return fail(EMFILE); });
    const int error_number = r.run(
        [](device* x) -> task<int> {
            auto c = x->channel();
            co_return c ? 0 : c.error().to_errno();
        },
        &d);
    EXPECT_EQ(error_number, EMFILE);
}

// Holds a channel on its thread until told to let go.
task<result<>> hold(across<device> d, across<std::atomic<int>> holding,
                    across<std::atomic<bool>> release) {
    auto channel = d->channel();
    if (!channel) co_return fail(channel.error());
    ++*holding;
    while (!*release) {
        result<> slept = co_await sleep_for(ms / 10);
        (void)slept;
    }
    --*holding;
    co_return {};
}

result<> visit(queue& q, const across<std::atomic<int>>& visited) {
    EXPECT_EQ(thread::current(), q.home);
    ++q.visits;
    ++*visited;
    EXPECT_EQ(q.visits, 1);
    return {};
}
task<result<>> visit_slowly(queue& q, across<std::atomic<int>> visited) {
    result<> slept = co_await sleep_for(ms / 10);
    EXPECT_EQ(thread::current(), q.home);
    --q.visits;
    ++*visited;
    co_return slept;
}
result<> fail_third(queue&, const across<std::atomic<int>>& visited) {
    if (++*visited == 3) return fail(EIO);
    return {};
}

struct holders {
    std::atomic<int> holding = 0;
    std::atomic<bool> release = false;
};

task<result<>> visit_all(runtime* rt, device* d) {
    holders h;
    std::vector<join_handle<result<>>> handles;
    const int count = static_cast<int>(rt->reactor_count());
    for (unsigned core : cores(*rt))
        handles.push_back(
            rt->service_thread(core).spawn(hold, across(*d), across(h.holding), across(h.release)));
    while (h.holding != count) {
        result<> slept = co_await sleep_for(ms / 10);
        if (!slept) co_return slept;
    }
    EXPECT_EQ(queue::live, count);
    std::atomic<int> visited = 0;
    result<> r = co_await d->for_each_channel(visit, across(visited));
    EXPECT_TRUE(r.has_value());
    EXPECT_EQ(visited, count);
    r = co_await d->for_each_channel(visit_slowly, across(visited));
    EXPECT_TRUE(r.has_value());
    EXPECT_EQ(visited, 2 * count);
    visited = 0;
    r = co_await d->for_each_channel(fail_third, across(visited));
    EXPECT_EQ(visited, std::min(count, 3));
    EXPECT_EQ(r.has_value(), count < 3);
    h.release = true;
    for (auto& handle : handles) {
        result<> done = co_await handle;
        if (!done) co_return done;
    }
    EXPECT_EQ(queue::live, 0);
    r = co_await d->for_each_channel(visit, across(visited));
    co_return r;
}

TEST(io_device, visits_each_channel_once_on_its_own_thread) {
    stepped_runtime r({.reactors = 5});
    device d("disk", make_queue);
    EXPECT_TRUE(r.run(visit_all, r.rt.get(), &d).has_value());
}

TEST(io_device, visits_across_real_reactors) {
    auto rt = runtime::make(real_world(), {.reactors = 3});
    ASSERT_TRUE(rt.has_value());
    device d("disk", make_queue);
    EXPECT_TRUE((*rt)->block_on(visit_all, rt->get(), &d).has_value());
}

task<void> release_after(across<holders> h, std::uint64_t ns) {
    result<> slept = co_await sleep_for(ns);
    (void)slept;
    h->release = true;
}

task<result<>> unregister_while_held(runtime* rt, device* d) {
    holders h;
    std::vector<join_handle<result<>>> handles;
    for (unsigned core : cores(*rt))
        handles.push_back(
            rt->service_thread(core).spawn(hold, across(*d), across(h.holding), across(h.release)));
    while (h.holding != static_cast<int>(rt->reactor_count())) {
        result<> slept = co_await sleep_for(ms / 10);
        if (!slept) co_return slept;
    }
    auto releasing = rt->service_thread(0).spawn(release_after, across(h), 5 * ms);
    co_await d->unregister();
    EXPECT_EQ(h.holding, 0);
    EXPECT_EQ(queue::live, 0);
    auto refused = d->channel();
    EXPECT_FALSE(refused.has_value());
    if (!refused) {
        EXPECT_TRUE(refused.error().is(ENODEV));
    }
    co_await releasing;
    for (auto& handle : handles) {
        result<> done = co_await handle;
        if (!done) co_return done;
    }
    co_return {};
}

TEST(io_device, unregisters_when_the_last_channel_is_gone_and_refuses_new_ones) {
    stepped_runtime r({.reactors = 3});
    device d("disk", make_queue);
    EXPECT_TRUE(r.run(unregister_while_held, r.rt.get(), &d).has_value());
}

TEST(io_device, unregisters_across_real_reactors) {
    for (int i = 0; i < 20; ++i) {
        auto rt = runtime::make(real_world(), {.reactors = 3});
        ASSERT_TRUE(rt.has_value());
        auto d = std::make_unique<device>("disk", make_queue);
        EXPECT_TRUE((*rt)->block_on(unregister_while_held, rt->get(), d.get()).has_value());
        d.reset();
    }
}

// A device whose first channel's visit drops the second channel, and makes a third.
struct shifting {
    device d{"disk", make_queue};
    io_channel<queue> second;
    io_channel<queue> third;
};

task<result<>> hold_second(across<shifting> s) {
    auto channel = s->d.channel();
    if (!channel) co_return fail(channel.error());
    s->second = std::move(*channel);
    co_return {};
}
void drop_second(across<shifting> s) { s->second.reset(); }
task<result<>> make_third(across<shifting> s) {
    auto channel = s->d.channel();
    if (!channel) co_return fail(channel.error());
    s->third = std::move(*channel);
    co_return {};
}
void drop_third(across<shifting> s) { s->third.reset(); }

task<result<>> shift(queue& q, across<shifting> s, across<runtime> rt,
                     across<std::atomic<int>> visited) {
    ++*visited;
    if (q.visits++ != 0 || *visited != 1) co_return {};
    co_await call_on(*rt, 1, drop_second, s);
    auto handle = rt->service_thread(2).spawn(make_third, s);
    result<> made = co_await handle;
    co_return made;
}

task<result<>> shift_while_visiting(runtime* rt, shifting* s) {
    auto first = s->d.channel();
    auto holding = rt->service_thread(1).spawn(hold_second, across(*s));
    result<> held = co_await holding;
    if (!held) co_return held;
    std::atomic<int> visited = 0;
    result<> r = co_await s->d.for_each_channel(shift, across(*s), across(*rt), across(visited));
    EXPECT_EQ(visited, 2);  // the first and the third
    co_await call_on(*rt, 2, drop_third, across(*s));
    co_return r;
}

TEST(io_device, is_traversed_while_channels_come_and_go) {
    stepped_runtime r({.reactors = 3});
    shifting s;
    EXPECT_TRUE(r.run(shift_while_visiting, r.rt.get(), &s).has_value());
    EXPECT_EQ(queue::live, 0);
}

}  // namespace
}  // namespace nacre
