// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/runtime/sync.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "nacre/runtime/sleep.hpp"
#include "stepped_world.hpp"

namespace nacre {
namespace {

using log = std::vector<int>;

// Each waits, notes its number, or the negative of it when it was cancelled.
template <typename Awaiter>
void record(log* order, int number, const Awaiter& r) {
    order->push_back(r ? number : r.error().is(ECANCELED) ? -number : 0);
}

task<result<>> wait_event(event* e, log* order, int number) {
    result<> r = co_await e->wait();
    record(order, number, r);
    co_return {};
}

task<result<>> event_wakes_in_order(log* order) {
    event e;
    scope children;
    for (int i = 1; i <= 3; ++i) children.spawn(wait_event(&e, order, i));
    co_await yield();
    order->push_back(100);
    e.set();
    order->push_back(101);  // setting resumes nobody on the spot
    children.spawn(wait_event(&e, order, 4));
    result<> joined = co_await children.join();
    e.reset();
    order->push_back(e.is_set() ? 1 : 102);
    co_return joined;
}

TEST(event, wakes_all_in_order_and_lets_everybody_pass_until_reset) {
    stepped_runtime r;
    log order;
    EXPECT_TRUE(r.run(event_wakes_in_order, &order).has_value());
    EXPECT_EQ(order, (log{100, 101, 1, 2, 3, 4, 102}));
}

// A waiter in the middle, under a stop source of its own.
template <typename Primitive>
task<result<>> cancel_the_middle(Primitive* p, log* order,
                                 task<result<>> (*wait)(Primitive*, log*, int),
                                 void (*wake)(Primitive*)) {
    scope first, middle, last;
    first.spawn(wait(p, order, 1));
    co_await yield();
    middle.spawn(wait(p, order, 2));
    co_await yield();
    last.spawn(wait(p, order, 3));
    co_await yield();
    middle.request_stop();
    result<> gone = co_await middle.join();
    (void)gone;
    wake(p);
    result<> a = co_await first.join();
    (void)a;
    wake(p);
    result<> b = co_await last.join();
    co_return b;
}

template <typename Primitive>
log cancelled_in_the_middle(Primitive* p, task<result<>> (*wait)(Primitive*, log*, int),
                            void (*wake)(Primitive*)) {
    stepped_runtime r;
    log order;
    EXPECT_TRUE(r.run(cancel_the_middle<Primitive>, p, &order, wait, wake).has_value());
    return order;
}

task<result<>> wait_semaphore(semaphore* s, log* order, int number) {
    result<> r = co_await s->acquire();
    record(order, number, r);
    co_return {};
}
task<result<>> wait_condition(condition* c, log* order, int number) {
    result<> r = co_await c->wait();
    record(order, number, r);
    co_return {};
}
task<result<>> wait_gate(gate* g, log* order, int number) {
    result<> r = co_await g->close();
    record(order, number, r);
    co_return {};
}

TEST(event, forgets_a_cancelled_waiter) {
    event e;
    EXPECT_EQ(cancelled_in_the_middle<event>(&e, wait_event, [](event* x) { x->set(); }),
              (log{-2, 1, 3}));
}
TEST(semaphore, forgets_a_cancelled_waiter) {
    semaphore s(0);
    EXPECT_EQ(
        cancelled_in_the_middle<semaphore>(&s, wait_semaphore, [](semaphore* x) { x->release(); }),
        (log{-2, 1, 3}));
    EXPECT_EQ(s.available(), 0U);
}
TEST(condition, forgets_a_cancelled_waiter) {
    condition c;
    EXPECT_EQ(cancelled_in_the_middle<condition>(&c, wait_condition,
                                                 [](condition* x) { x->notify_one(); }),
              (log{-2, 1, 3}));
    EXPECT_FALSE(c.has_waiters());
}
TEST(gate, forgets_a_cancelled_waiter) {
    gate g;
    ASSERT_TRUE(g.enter());
    EXPECT_EQ(cancelled_in_the_middle<gate>(&g, wait_gate,
                                            [](gate* x) {
                                                if (x->inside() != 0) x->leave();
                                            }),
              (log{-2, 1, 3}));
}

task<result<>> take(semaphore* s, log* order, int number, std::uint64_t permits) {
    result<> r = co_await s->acquire(permits);
    record(order, number, r);
    co_return {};
}

task<result<>> large_before_small(log* order) {
    semaphore s(2);
    scope large, small;
    result<> mine = co_await s.acquire(2);
    if (!mine) co_return mine;
    large.spawn(take(&s, order, 1, 3));
    co_await yield();
    small.spawn(take(&s, order, 2, 1));
    small.spawn(take(&s, order, 3, 1));
    co_await yield();
    s.release(2);  // enough for a small one, but the large one is first
    co_await yield();
    co_await yield();
    order->push_back(s.try_acquire() ? 1 : 99);
    s.release(1);
    result<> a = co_await large.join();
    s.release(3);
    result<> b = co_await small.join();
    order->push_back(static_cast<int>(s.available()));
    co_return a ? b : a;
}

TEST(semaphore, does_not_let_small_requests_overtake_a_large_one) {
    stepped_runtime r;
    log order;
    EXPECT_TRUE(r.run(large_before_small, &order).has_value());
    EXPECT_EQ(order, (log{99, 1, 2, 3, 1}));
}

task<result<>> cancel_the_large_one(log* order) {
    semaphore s(1);
    scope large, small;
    large.spawn(take(&s, order, 1, 2));
    co_await yield();
    small.spawn(take(&s, order, 2, 1));
    co_await yield();
    large.request_stop();
    result<> a = co_await large.join();
    (void)a;
    result<> b = co_await small.join();
    co_return b;
}

TEST(semaphore, serves_who_stood_behind_a_cancelled_large_request) {
    stepped_runtime r;
    log order;
    EXPECT_TRUE(r.run(cancel_the_large_one, &order).has_value());
    EXPECT_EQ(order.size(), 2U);
    EXPECT_NE(std::find(order.begin(), order.end(), 2), order.end());
    EXPECT_NE(std::find(order.begin(), order.end(), -1), order.end());
}

task<result<>> stop_after_wake(log* order) {
    semaphore s(0);
    scope children;
    children.spawn(take(&s, order, 1, 1));
    co_await yield();
    s.release(1);             // it is woken, and owns the permit…
    children.request_stop();  // …so the stop comes too late
    result<> joined = co_await children.join();
    order->push_back(static_cast<int>(s.available()));
    co_return joined;
}

TEST(semaphore, gives_the_permit_to_a_waiter_that_is_asked_to_stop_after_it_was_woken) {
    stepped_runtime r;
    log order;
    EXPECT_TRUE(r.run(stop_after_wake, &order).has_value());
    EXPECT_EQ(order, (log{1, 0}));
}

task<result<>> work_under(mutex* m, int* inside, int* inside_max, log* order, int number) {
    for (int round = 0; round < 3; ++round) {
        result<> locked = co_await m->lock();
        if (!locked) co_return locked;
        const unlock_guard guard(*m);
        *inside_max = std::max(*inside_max, ++*inside);
        order->push_back(number);
        co_await yield();
        --*inside;
    }
    co_return {};
}

task<result<>> contend(log* order, int* inside_max) {
    mutex m;
    int inside = 0;
    scope children;
    for (int i = 1; i <= 3; ++i) children.spawn(work_under(&m, &inside, inside_max, order, i));
    result<> joined = co_await children.join();
    if (m.locked() || !m.try_lock() || m.try_lock()) co_return fail(EPROTO);
    m.unlock();
    co_return joined;
}

TEST(mutex, holds_one_at_a_time_and_takes_turns) {
    stepped_runtime r;
    log order;
    int inside_max = 0;
    EXPECT_TRUE(r.run(contend, &order, &inside_max).has_value());
    EXPECT_EQ(inside_max, 1);
    EXPECT_EQ(order, (log{1, 2, 3, 1, 2, 3, 1, 2, 3}));
}

struct rw_state {
    shared_mutex m;
    int readers = 0, readers_max = 0, writers = 0;
    bool broken = false;
    log order;
};

task<result<>> read_under(rw_state* s, int number) {
    result<> locked = co_await s->m.lock_shared();
    if (!locked) co_return locked;
    s->readers_max = std::max(s->readers_max, ++s->readers);
    s->broken |= s->writers != 0;
    s->order.push_back(number);
    co_await yield();
    --s->readers;
    s->m.unlock_shared();
    co_return {};
}
task<result<>> write_under(rw_state* s, int number) {
    result<> locked = co_await s->m.lock();
    if (!locked) co_return locked;
    s->broken |= s->readers != 0 || s->writers++ != 0;
    s->order.push_back(number);
    co_await yield();
    --s->writers;
    s->m.unlock();
    co_return {};
}

task<result<>> read_and_write(rw_state* s) {
    scope children;
    children.spawn(read_under(s, 1));
    children.spawn(read_under(s, 2));
    children.spawn(write_under(s, 10));
    children.spawn(read_under(s, 3));
    children.spawn(write_under(s, 11));
    result<> joined = co_await children.join();
    if (!s->m.try_lock_shared() || s->m.try_lock()) co_return fail(EPROTO);
    s->m.unlock_shared();
    co_return joined;
}

TEST(shared_mutex, lets_readers_in_together_and_a_waiting_writer_before_later_readers) {
    stepped_runtime r;
    rw_state s;
    EXPECT_TRUE(r.run(read_and_write, &s).has_value());
    EXPECT_FALSE(s.broken);
    EXPECT_EQ(s.readers_max, 2);
    EXPECT_EQ(s.order, (log{1, 2, 10, 3, 11}));
}

task<result<>> notify(condition* c, log* order) {
    scope children;
    for (int i = 1; i <= 4; ++i) children.spawn(wait_condition(c, order, i));
    co_await yield();
    c->notify_one();
    co_await yield();
    co_await yield();
    order->push_back(100);
    c->notify_all();
    result<> joined = co_await children.join();
    c->notify_all();  // nobody there
    co_return joined;
}

TEST(condition, wakes_the_first_or_all_in_order) {
    stepped_runtime r;
    condition c;
    log order;
    EXPECT_TRUE(r.run(notify, &c, &order).has_value());
    EXPECT_EQ(order, (log{1, 100, 2, 3, 4}));
}

task<result<>> visit_gate(gate* g, log* order, int number, std::uint64_t ns) {
    if (!g->enter()) {
        order->push_back(-number);
        co_return {};
    }
    result<> slept = co_await sleep_for(ns);
    order->push_back(number);
    g->leave();
    co_return slept;
}

task<result<>> close_gate(log* order) {
    gate g;
    scope children;
    children.spawn(visit_gate(&g, order, 1, 2'000'000));
    children.spawn(visit_gate(&g, order, 2, 1'000'000));
    co_await yield();
    scope late;
    late.spawn(visit_gate(&g, order, 3, 1));
    result<> closed = co_await g.close();
    order->push_back(static_cast<int>(g.inside()) + 100);
    result<> again = co_await g.close();  // closed and empty: at once
    result<> a = co_await children.join();
    result<> b = co_await late.join();
    if (!closed || !again || !a) co_return fail(EPROTO);
    co_return b;
}

TEST(gate, refuses_after_close_and_closes_when_the_last_has_left) {
    stepped_runtime r;
    log order;
    EXPECT_TRUE(r.run(close_gate, &order).has_value());
    EXPECT_EQ(order, (log{-3, 2, 1, 100}));
}

task<result<>> wait_when_already_stopped(log* order) {
    scope children;
    children.request_stop();
    event unset, set;
    set.set();
    children.spawn(wait_event(&unset, order, 1));
    children.spawn(wait_event(&set, order, 2));
    result<> joined = co_await children.join();
    co_return joined;
}

TEST(waiter, of_a_stopped_task_does_not_suspend_but_takes_what_is_there) {
    stepped_runtime r;
    log order;
    EXPECT_TRUE(r.run(wait_when_already_stopped, &order).has_value());
    EXPECT_EQ(order, (log{-1, 2}));
}

}  // namespace
}  // namespace nacre
