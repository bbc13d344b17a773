// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/runtime/channel.hpp"

#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <vector>

#include "nacre/core/random.hpp"
#include "nacre/runtime/sleep.hpp"
#include "nacre/runtime/timeout.hpp"
#include "stepped_world.hpp"

namespace nacre {
namespace {

using boxed = std::unique_ptr<int>;

task<result<>> send_range(channel<boxed>* c, int first, int count) {
    for (int i = first; i < first + count; ++i) {
        result<> sent = co_await c->send(std::make_unique<int>(i));
        if (!sent) co_return sent;
    }
    co_return {};
}

task<result<>> send_and_close(channel<boxed>* c, int count) {
    result<> sent = co_await send_range(c, 0, count);
    c->close();
    co_return sent;
}

task<result<>> receive_all(channel<boxed>* c, std::vector<int>* out) {
    for (;;) {
        auto item = co_await c->receive();
        if (!item) {
            if (!item.error().is(EPIPE)) co_return fail(item.error());
            co_return {};
        }
        out->push_back(**item);
    }
}

task<result<>> pass(std::size_t capacity, int count, std::vector<int>* out) {
    channel<boxed> c(capacity);
    scope children;
    children.spawn(receive_all(&c, out));
    children.spawn(send_and_close(&c, count));
    result<> joined = co_await children.join();
    co_return joined;
}

TEST(channel, keeps_the_order_for_any_capacity) {
    stepped_runtime r;
    for (std::size_t capacity : {1U, 2U, 3U, 7U, 200U}) {
        std::vector<int> out;
        EXPECT_TRUE(r.run(pass, capacity, 100, &out).has_value());
        ASSERT_EQ(out.size(), 100U);
        for (int i = 0; i < 100; ++i) EXPECT_EQ(out[static_cast<std::size_t>(i)], i);
    }
}

task<result<>> send_one(channel<boxed>* c, int value, std::vector<int>* order) {
    result<> sent = co_await c->send(std::make_unique<int>(value));
    order->push_back(sent ? value : -value);
    co_return {};
}
task<result<>> receive_one(channel<boxed>* c, int number, std::vector<int>* order) {
    auto item = co_await c->receive();
    order->push_back(item ? number * 100 + **item : -number);
    co_return {};
}

task<result<>> serve_receivers(std::vector<int>* order) {
    channel<boxed> c(4);
    scope children;
    for (int i = 1; i <= 3; ++i) children.spawn(receive_one(&c, i, order));
    co_await yield();
    for (int i = 7; i <= 9; ++i) {
        boxed value = std::make_unique<int>(i);
        if (!c.try_send(value)) co_return fail(EPROTO);
    }
    // All three are spoken for: nobody takes one on the way.
    if (c.size() != 0 || c.try_receive().has_value()) co_return fail(EPROTO);
    result<> joined = co_await children.join();
    co_return joined;
}

TEST(channel, hands_values_to_waiting_receivers_in_their_order) {
    stepped_runtime r;
    std::vector<int> order;
    EXPECT_TRUE(r.run(serve_receivers, &order).has_value());
    EXPECT_EQ(order, (std::vector<int>{107, 208, 309}));
}

task<result<>> wait_to_send(std::vector<int>* order) {
    channel<boxed> c(1);
    scope children;
    for (int i = 1; i <= 4; ++i) children.spawn(send_one(&c, i, order));
    co_await yield();
    boxed extra = std::make_unique<int>(5);
    if (c.try_send(extra) || !extra) co_return fail(EPROTO);  // full, and untouched
    for (int i = 1; i <= 4; ++i) {
        auto item = co_await c.receive();
        if (!item || **item != i) co_return fail(EPROTO);
    }
    result<> joined = co_await children.join();
    if (!c.try_send(extra) || extra || *c.try_receive().value() != 5) co_return fail(EPROTO);
    co_return joined;
}

TEST(channel, lets_waiting_senders_in_one_by_one_in_their_order) {
    stepped_runtime r;
    std::vector<int> order;
    EXPECT_TRUE(r.run(wait_to_send, &order).has_value());
    EXPECT_EQ(order, (std::vector<int>{1, 2, 3, 4}));
}

task<result<>> close_full(std::vector<int>* order) {
    channel<boxed> c(2);
    scope children;
    for (int i = 1; i <= 4; ++i) children.spawn(send_one(&c, i, order));
    co_await yield();
    c.close();
    c.close();
    result<> joined = co_await children.join();
    children.spawn(send_one(&c, 5, order));
    for (int i = 0; i < 3; ++i) children.spawn(receive_one(&c, i + 1, order));
    joined = co_await children.join();
    co_return joined;
}

TEST(channel, after_close_refuses_to_send_and_still_gives_what_it_accepted) {
    stepped_runtime r;
    std::vector<int> order;
    EXPECT_TRUE(r.run(close_full, &order).has_value());
    EXPECT_EQ(order, (std::vector<int>{1, 2, -3, -4, -5, 101, 202, -3}));
}

task<result<>> cancel_waiters(std::vector<int>* order) {
    channel<boxed> c(1);
    scope receivers, senders, kept;
    receivers.spawn(receive_one(&c, 1, order));
    co_await yield();
    receivers.request_stop();
    result<> joined = co_await receivers.join();
    boxed value = std::make_unique<int>(7);
    if (!joined || !c.try_send(value)) co_return fail(EPROTO);  // not to the one that is gone
    senders.spawn(send_one(&c, 8, order));
    co_await yield();
    kept.spawn(send_one(&c, 9, order));
    co_await yield();
    senders.request_stop();
    joined = co_await senders.join();
    for (int expected : {7, 9}) {
        auto item = co_await c.receive();
        if (!item || **item != expected) co_return fail(EPROTO);
    }
    joined = co_await kept.join();
    co_return joined;
}

TEST(channel, loses_and_doubles_nothing_when_waits_are_cancelled) {
    stepped_runtime r;
    std::vector<int> order;
    EXPECT_TRUE(r.run(cancel_waiters, &order).has_value());
    EXPECT_EQ(order, (std::vector<int>{-1, -8, 9}));
}

task<result<>> produce(channel<int>* c, prng* random, int first, int count) {
    for (int i = first; i < first + count; ++i) {
        result<> sent = co_await c->send(i);
        if (!sent) co_return sent;
        if (random->chance(0.3)) co_await yield();
    }
    co_return {};
}
task<result<>> consume(channel<int>* c, prng* random, std::vector<int>* got) {
    for (;;) {
        auto item = co_await c->receive();
        if (!item) co_return {};
        got->push_back(*item);
        if (random->chance(0.3)) co_await yield();
    }
}

task<result<>> many_to_many(std::uint64_t seed, std::vector<int>* got) {
    prng random(seed);
    channel<int> c(1 + random.below(5));
    scope producers, consumers;
    for (int i = 0; i < 4; ++i) producers.spawn(produce(&c, &random, i * 100, 100));
    for (int i = 0; i < 3; ++i) consumers.spawn(consume(&c, &random, got));
    result<> sent = co_await producers.join();
    c.close();
    result<> received = co_await consumers.join();
    co_return sent ? received : sent;
}

TEST(channel, delivers_each_value_once_among_many_senders_and_receivers) {
    stepped_runtime r;
    for (std::uint64_t seed = 1; seed <= 50; ++seed) {
        std::vector<int> got;
        EXPECT_TRUE(r.run(many_to_many, seed, &got).has_value());
        std::sort(got.begin(), got.end());
        ASSERT_EQ(got.size(), 400U);
        for (int i = 0; i < 400; ++i) ASSERT_EQ(got[static_cast<std::size_t>(i)], i);
    }
}

}  // namespace
}  // namespace nacre
