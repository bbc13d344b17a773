// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/runtime/channel.hpp"
#include "nacre/runtime/oneshot.hpp"
#include "nacre/runtime/poller.hpp"
#include "nacre/runtime/sleep.hpp"
#include "nacre/runtime/sync.hpp"
#include "nacre/runtime/timeout.hpp"
#include "nacre/runtime/when_all.hpp"
#include "primitives.hpp"

namespace nacre {
namespace {

constexpr std::uint64_t crowd = 64;

template <typename T>
void keep(const T& value) noexcept {
    asm volatile("" : : "g"(&value) : "memory");
}

// One coroutine.

[[gnu::noinline]] task<result<int>> child(int value) { co_return value; }

task<void> await_children(std::uint64_t n) {
    for (std::uint64_t i = 0; i < n; ++i) {
        auto value = co_await child(static_cast<int>(i));
        keep(value);
    }
}

task<void> await_bounded_children(std::uint64_t n) {
    for (std::uint64_t i = 0; i < n; ++i) {
        auto value = co_await with_timeout(child(static_cast<int>(i)), 1'000'000);
        keep(value);
    }
}

task<void> await_pairs(std::uint64_t n) {
    for (std::uint64_t i = 0; i < n; ++i) {
        auto both = co_await when_all(child(1), child(2));
        keep(both);
    }
}

[[gnu::noinline]] task<result<>> nothing() { co_return result<>(); }

task<void> spawn_and_join(std::uint64_t n) {
    scope children;
    for (std::uint64_t i = 0; i < n; ++i) {
        children.spawn(nothing());
        result<> joined = co_await children.join();
        keep(joined);
    }
}

task<void> spawn_crowds(std::uint64_t n) {
    scope children;
    for (std::uint64_t i = 0; i < n; i += crowd) {
        for (std::uint64_t k = 0; k < crowd; ++k) children.spawn(nothing());
        result<> joined = co_await children.join();
        keep(joined);
    }
}

task<void> lock_and_unlock(std::uint64_t n) {
    mutex m;
    for (std::uint64_t i = 0; i < n; ++i) {
        result<> locked = co_await m.lock();
        keep(locked);
        m.unlock();
    }
}

task<void> set_and_take(std::uint64_t n) {
    for (std::uint64_t i = 0; i < n; ++i) {
        oneshot<std::uint64_t> o;
        o.set(i);
        auto value = co_await o.wait();
        keep(value);
    }
}

// A crowd of coroutines, so that a turn's own cost is shared among them.

template <typename Body, typename... Args>
task<void> run_crowd(std::uint64_t n, Body body, Args... args) {
    scope children;
    for (std::uint64_t i = 0; i < crowd; ++i) children.spawn(body(n / crowd, args...));
    result<> joined = co_await children.join();
    keep(joined);
}

task<result<>> yield_often(std::uint64_t n) {
    for (std::uint64_t i = 0; i < n; ++i) co_await yield();
    co_return {};
}
task<void> yield_all(std::uint64_t n) { co_await run_crowd(n, yield_often); }
task<void> yield_alone(std::uint64_t n) {
    for (std::uint64_t i = 0; i < n; ++i) co_await yield();
}

task<result<>> acquire_often(std::uint64_t n, semaphore* s) {
    for (std::uint64_t i = 0; i < n; ++i) {
        result<> acquired = co_await s->acquire();
        if (!acquired) co_return acquired;
        s->release();
    }
    co_return {};
}
task<void> acquire_all(std::uint64_t n) {
    semaphore s(1);
    co_await run_crowd(n, acquire_often, &s);
}

task<result<>> hold_often(std::uint64_t n, semaphore* s) {
    for (std::uint64_t i = 0; i < n; ++i) {
        result<> acquired = co_await s->acquire();
        if (!acquired) co_return acquired;
        co_await yield();
        s->release();
    }
    co_return {};
}
task<void> hold_all(std::uint64_t n) {
    semaphore s(crowd / 2);
    co_await run_crowd(n, hold_often, &s);
}

struct pair_of_events {
    event there, back;
};
task<result<>> answer_events(std::uint64_t n, pair_of_events* e) {
    for (std::uint64_t i = 0; i < n; ++i) {
        result<> asked = co_await e->there.wait();
        if (!asked) co_return asked;
        e->there.reset();
        e->back.set();
    }
    co_return {};
}
task<result<>> ask_events(std::uint64_t n, pair_of_events* e) {
    for (std::uint64_t i = 0; i < n; ++i) {
        e->there.set();
        result<> answered = co_await e->back.wait();
        if (!answered) co_return answered;
        e->back.reset();
    }
    co_return {};
}
// n waits, half of them on either side.
task<void> exchange_events(std::uint64_t n) {
    pair_of_events pairs[crowd / 2];
    scope children;
    for (auto& e : pairs) {
        children.spawn(answer_events(n / crowd, &e));
        children.spawn(ask_events(n / crowd, &e));
    }
    result<> joined = co_await children.join();
    keep(joined);
}

task<result<>> send_often(std::uint64_t n, channel<std::uint64_t>* c) {
    for (std::uint64_t i = 0; i < n; ++i) {
        result<> sent = co_await c->send(i);
        if (!sent) co_return sent;
    }
    co_return {};
}
task<result<>> receive_often(std::uint64_t n, channel<std::uint64_t>* c) {
    for (std::uint64_t i = 0; i < n; ++i) {
        auto received = co_await c->receive();
        if (!received) co_return fail(received.error());
    }
    co_return {};
}
task<void> pass_values(std::uint64_t n) {
    channel<std::uint64_t> c(crowd);
    scope children;
    children.spawn(send_often(n, &c));
    children.spawn(receive_often(n, &c));
    result<> joined = co_await children.join();
    keep(joined);
}

task<result<>> sleep_often(std::uint64_t n) {
    for (std::uint64_t i = 0; i < n; ++i) {
        result<> slept = co_await sleep_for(100'000);
        if (!slept) co_return slept;
    }
    co_return {};
}
task<void> sleep_all(std::uint64_t n) { co_await run_crowd(n, sleep_often); }

// No coroutine of their own.

struct idle_timer : timer {
    idle_timer() noexcept : timer([](timer&) noexcept {}) {}
};
// Plain functions: a coroutine keeps its loop counter in memory.
void arm_and_cancel(runtime& rt, std::uint64_t n) {
    idle_timer t;
    reactor& here = rt.reactor_at(0);
    for (std::uint64_t i = 0; i < n; i += 8) {
#pragma GCC unroll 8
        for (int k = 0; k < 8; ++k) {
            here.timers().arm(t, here.now_ns() + 30'000'000'000);
            keep(t);
            t.cancel();
        }
    }
}

struct idle_stop : stop_callback {
    idle_stop() noexcept : stop_callback([](stop_callback&) noexcept {}) {}
};
void link_and_unlink(runtime&, std::uint64_t n) {
    stop_source source;
    idle_stop callback;
    for (std::uint64_t i = 0; i < n; i += 8) {
#pragma GCC unroll 8
        for (int k = 0; k < 8; ++k) {
            source.link(callback);
            keep(callback);
            callback.unlink();
        }
    }
}

struct counted_message : message {
    counted_message() noexcept {
        run = [](work& w) noexcept {
            ++static_cast<counted_message&>(static_cast<message&>(w)).runs;
        };
    }
    std::atomic<std::uint64_t> runs = 0;
};
task<void> post_batches(std::uint64_t n, thread* to) {
    counted_message batch[8];
    for (std::uint64_t i = 0; i < n; i += 8) {
        for (auto& m : batch) to->post(m);
        while (batch[7].runs.load(std::memory_order_acquire) != i / 8 + 1) co_await yield();
    }
}

struct idle_subject {
    bool poll() noexcept { return false; }
    bool arm() noexcept { return true; }
    void disarm() noexcept {}
};
void turn_idly(runtime& rt, std::uint64_t n) {
    for (std::uint64_t i = 0; i < n; ++i) (void)rt.reactor_at(0).turn();
}
void turn_pollers(runtime& rt, std::uint64_t n) {
    const thread_guard guard(rt.main_thread());
    idle_subject subject;
    poller p[8] = {{"0", subject}, {"1", subject}, {"2", subject}, {"3", subject},
                   {"4", subject}, {"5", subject}, {"6", subject}, {"7", subject}};
    keep(p);
    turn_idly(rt, n);
}

template <task<void> (*Body)(std::uint64_t)>
void on_main(runtime& rt, std::uint64_t n) {
    rt.block_on(Body, n);
}
void post_to_second(runtime& rt, std::uint64_t n) {
    thread* second = nullptr;
    rt.for_each_thread([&](thread& t) {
        if (t.name() == "second") second = &t;
    });
    if (second == nullptr) second = &rt.make_thread("second", 1);
    rt.block_on(post_batches, n, second);
}

constexpr primitive table[] = {
    {"task_child", 1, on_main<await_children>},
    {"spawn_join", 1, on_main<spawn_and_join>},
    {"spawn_join_64", 1, on_main<spawn_crowds>},
    {"yield", 1, on_main<yield_all>},
    {"yield_alone", 1, on_main<yield_alone>},
    {"timer_arm_cancel", 1, arm_and_cancel},
    {"sleep", 1, on_main<sleep_all>},
    {"stop_link_unlink", 1, link_and_unlink},
    {"event", 1, on_main<exchange_events>},
    {"mutex", 1, on_main<lock_and_unlock>},
    {"semaphore", 1, on_main<acquire_all>},
    {"semaphore_contended", 1, on_main<hold_all>},
    {"oneshot", 1, on_main<set_and_take>},
    {"channel", 1, on_main<pass_values>},
    {"with_timeout", 1, on_main<await_bounded_children>},
    {"when_all_2", 1, on_main<await_pairs>},
    {"message_batch_8", 2, post_to_second},
    {"turn_idle", 1, turn_idly},
    {"turn_8_pollers", 1, turn_pollers},
};

}  // namespace

std::span<const primitive> primitives() noexcept { return table; }

}  // namespace nacre
