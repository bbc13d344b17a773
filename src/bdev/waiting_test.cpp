// SPDX-License-Identifier: BSD-3-Clause
//
// Ops that wait: for a device out of memory, for an answer that comes late or never.
#include "modules/delay/delay.hpp"
#include "modules/error/error.hpp"
#include "modules/modules.hpp"
#include "nacre/runtime/timeout.hpp"
#include "test_bdev.hpp"

namespace nacre::test {
namespace {

std::vector<std::uint64_t> firsts(const test_bdev& device) {
    std::vector<std::uint64_t> list;
    for (const request& r : device.seen) list.push_back(r.first);
    return list;
}
std::vector<std::uint64_t> up_to(std::uint64_t n) {
    std::vector<std::uint64_t> list(n);
    for (std::uint64_t i = 0; i < n; ++i) list[i] = i;
    return list;
}

// --- Lack of memory -----------------------------------------------------------------------------

task<void> check_fifo(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t"));
    test_bdev& device = **made;
    user u(registry);
    device.hold = true;
    device.room = 2;
    std::vector<std::byte> buffer(512);
    scope asked;
    for (unsigned i = 0; i < 10; ++i)
        asked.spawn(ask_and_note(u, i, opcode::write, i, 1, buffer.data()));
    co_await settle();
    EXPECT_EQ(firsts(device), up_to(2));
    EXPECT_TRUE(u.answers.empty());
    // Those that go down again and find nothing keep their places before all others.
    for (unsigned round = 0; round < 4; ++round) {
        result<> slept = co_await sleep_for(1'000'000U << round);
        EXPECT_TRUE(slept);
    }
    // One comes back while there is still nothing: two ask again, and neither gets it.
    device.answer_held(0);
    co_await settle();
    EXPECT_EQ(firsts(device), up_to(2));
    // Newcomers wait behind them although there is room by now.
    device.room = 1;
    asked.spawn(ask_and_note(u, 10, opcode::write, 10, 1, buffer.data()));
    device.answer_held(0);
    co_await settle();
    EXPECT_EQ(firsts(device), up_to(3));
    device.room = UINT_MAX;
    device.hold = false;
    device.answer_held(0);
    result<> joined = co_await asked.join();
    EXPECT_TRUE(joined);
    EXPECT_EQ(firsts(device), up_to(11));
    std::vector<user::answer> all;
    for (unsigned i = 0; i < 11; ++i) all.push_back({i, 0});
    EXPECT_EQ(u.answers, all);
    // None of it was an error, and the short way is open again.
    io_statistics s = co_await device.collect_statistics();
    EXPECT_EQ(s.errors, 0U);
    EXPECT_EQ(s.of(opcode::write).operations, 11U);
    EXPECT_EQ(u.channel.base().in_flight(), 0U);
}

TEST(bdev_memory_wait, serves_first_who_came_first) { simulate_in_order(&check_fifo); }

task<void> check_only_the_timer(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t"));
    test_bdev& device = **made;
    user u(registry);
    device.room = 0;
    std::vector<std::byte> buffer(512);
    scope asked;
    for (unsigned i = 0; i < 5; ++i)
        asked.spawn(ask_and_note(u, i, opcode::read, i, 1, buffer.data()));
    result<> slept = co_await sleep_for(1'000'000'000);
    EXPECT_TRUE(slept);
    EXPECT_TRUE(u.answers.empty());
    // It asks ever more seldom, and goes on asking.
    EXPECT_GT(device.refusals, 20U);
    EXPECT_LT(device.refusals, 200U);
    device.room = UINT_MAX;
    result<> joined = co_await asked.join();
    EXPECT_TRUE(joined);
    EXPECT_EQ(u.answers.size(), 5U);
}

TEST(bdev_memory_wait, ends_without_anything_else_coming_back) { simulate(&check_only_the_timer); }

task<void> check_waiting_pieces(bdev_registry& registry) {
    bdev_attributes a = attributes_of("t");
    a.optimal_boundary = block_count(1);
    result<test_bdev*> made = co_await add_bdev(registry, a);
    test_bdev& device = **made;
    user u(registry);
    device.room = 3;
    std::vector<std::byte> buffer(5 * 512);
    scope asked;
    asked.spawn(ask_and_note(u, 0, opcode::write, 0, 5, buffer.data()));
    asked.spawn(ask_and_note(u, 1, opcode::write, 5, 5, buffer.data()));
    co_await settle();
    EXPECT_EQ(device.seen.size(), 3U);
    device.room = UINT_MAX;
    result<> joined = co_await asked.join();
    EXPECT_TRUE(joined);
    EXPECT_EQ(device.seen.size(), 10U);
    io_statistics s = co_await device.collect_statistics();
    EXPECT_EQ(s.errors, 0U);
    EXPECT_EQ(s.of(opcode::write).operations, 10U);
    EXPECT_EQ(s.of(opcode::write).bytes, 10U * 512);
}

TEST(bdev_memory_wait, holds_pieces_of_split_ops_too) { simulate(&check_waiting_pieces); }

task<void> check_error_module(bdev_registry& registry) {
    outcome<std::string> made =
        co_await create_from_uri(registry, "error:///?base=malloc:///m?size=1MiB");
    EXPECT_TRUE(made) << made.error().message;
    user u(registry, "EE_m");
    error_injection lack;
    lack.name = "EE_m";
    lack.io_type = error_io_type::all;
    lack.error_type = error_type::nomem;
    lack.num = 7;
    outcome<> set = inject_error(registry, lack);
    EXPECT_TRUE(set);
    std::vector<std::byte> buffer(4096);
    scope asked;
    for (unsigned i = 0; i < 4; ++i)
        asked.spawn(
            ask_and_note(u, i, i % 2 == 0 ? opcode::write : opcode::read, i, 1, buffer.data()));
    result<> joined = co_await asked.join();
    EXPECT_TRUE(joined);
    EXPECT_EQ(u.answers.size(), 4U);
    for (const user::answer& got : u.answers) EXPECT_EQ(got.errno_value, 0);
}

TEST(bdev_memory_wait, hides_the_lack_of_a_real_module_from_its_users) {
    simulate(&check_error_module);
}

// --- Abort --------------------------------------------------------------------------------------

task<void> check_abort(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t"));
    test_bdev& device = **made;
    user u(registry);
    device.hold = true;
    std::vector<std::byte> buffer(512);
    scope stopped, kept;
    for (unsigned i = 0; i < 3; ++i)
        stopped.spawn(ask_and_note(u, i, opcode::read, i, 1, buffer.data()));
    kept.spawn(ask_and_note(u, 3, opcode::read, 3, 1, buffer.data()));
    co_await settle();
    // One has its answer already when the stop comes; it is not lost.
    const auto answered = std::find_if(device.held.begin(), device.held.end(),
                                       [](io_op* op) { return op->first == lba(1); });
    device.answer_held(static_cast<std::size_t>(answered - device.held.begin()));
    stopped.stop().request_stop();
    stopped.stop().request_stop();
    result<> joined = co_await stopped.join();
    EXPECT_EQ(u.answers.size(), 3U);
    for (const user::answer& got : u.answers)
        EXPECT_EQ(got.errno_value, got.id == 1 ? 0 : ECANCELED) << got.id;
    EXPECT_EQ(device.held.size(), 1U);
    device.answer_held(0);
    joined = co_await kept.join();
    EXPECT_EQ(u.answers.back(), (user::answer{3, 0}));
    // Whoever was asked to stop before does not begin.
    scope late;
    late.stop().request_stop();
    late.spawn(ask_and_note(u, 4, opcode::read, 4, 1, buffer.data()));
    joined = co_await late.join();
    EXPECT_EQ(u.answers.back(), (user::answer{4, ECANCELED}));
    EXPECT_EQ(device.seen.size(), 4U);
    EXPECT_EQ(u.answers.size(), 5U);
}

TEST(bdev_abort, completes_each_op_once_when_its_task_is_stopped) { simulate(&check_abort); }

task<void> check_deaf(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t"));
    test_bdev& device = **made;
    user u(registry);
    device.hold = device.deaf = true;
    std::vector<std::byte> buffer(512);
    scope stopped;
    stopped.spawn(ask_and_note(u, 0, opcode::read, 0, 1, buffer.data()));
    co_await settle();
    stopped.stop().request_stop();
    co_await settle();
    EXPECT_EQ(device.abort_requests, 1U);
    EXPECT_TRUE(u.answers.empty());  // the device has the buffer still
    device.answer_held(0);
    result<> joined = co_await stopped.join();
    EXPECT_TRUE(joined);
    EXPECT_EQ(u.answers, (std::vector<user::answer>{{0, 0}}));
}

TEST(bdev_abort, waits_for_a_device_that_goes_on) { simulate(&check_deaf); }

task<void> check_abort_of_pieces(bdev_registry& registry) {
    bdev_attributes a = attributes_of("t");
    a.optimal_boundary = block_count(1);
    result<test_bdev*> made = co_await add_bdev(registry, a);
    test_bdev& device = **made;
    user u(registry);
    device.hold = true;
    std::vector<std::byte> buffer(4 * 512);
    scope stopped;
    stopped.spawn(ask_and_note(u, 0, opcode::write, 0, 4, buffer.data()));
    co_await settle();
    device.answer_held(0);
    co_await settle();
    stopped.stop().request_stop();
    result<> joined = co_await stopped.join();
    EXPECT_EQ(u.answers, (std::vector<user::answer>{{0, ECANCELED}}));
    EXPECT_EQ(firsts(device), up_to(2));
    // And what waits for memory is given up where it waits.
    device.room = 0;
    scope waiting;
    waiting.spawn(ask_and_note(u, 1, opcode::write, 0, 1, buffer.data()));
    waiting.spawn(ask_and_note(u, 2, opcode::write, 0, 4, buffer.data()));
    waiting.spawn(ask_and_note(u, 3, opcode::read, 0, 1, buffer.data()));
    co_await settle();
    waiting.stop().request_stop();
    joined = co_await waiting.join();
    EXPECT_EQ(u.answers.size(), 4U);
    for (const user::answer& got : u.answers) EXPECT_EQ(got.errno_value, ECANCELED);
    device.room = UINT_MAX;
    device.hold = false;
    result<> r = co_await ask(u.channel, opcode::read, 0, 1, buffer.data());
    EXPECT_TRUE(r);
    EXPECT_EQ(u.channel.base().in_flight(), 0U);
}

TEST(bdev_abort, reaches_pieces_and_what_waits_for_memory) { simulate(&check_abort_of_pieces); }

task<void> check_reset(bdev_registry& registry) {
    outcome<std::string> made = co_await create_from_uri(
        registry, "delay:///d?base=null:///n?size=1MiB&avg_read_latency=1000000");
    EXPECT_TRUE(made) << made.error().message;
    user u(registry, "d");
    std::vector<std::byte> buffer(4096);
    scope asked;
    for (unsigned i = 0; i < 5; ++i)
        asked.spawn(ask_and_note(u, i, opcode::read, i, 1, buffer.data()));
    co_await settle();
    const std::uint64_t start = registry.home_world().monotonic_ns();
    result<> r = co_await u.channel.reset();
    EXPECT_TRUE(r);
    r = co_await asked.join();
    EXPECT_TRUE(r);
    EXPECT_EQ(u.answers.size(), 5U);
    for (const user::answer& got : u.answers) EXPECT_EQ(got.errno_value, ECANCELED);
    EXPECT_LT(registry.home_world().monotonic_ns() - start, 900'000'000U);
}

TEST(bdev_abort, is_what_a_reset_does_to_what_is_outstanding) { simulate(&check_reset); }

// --- Timeouts -----------------------------------------------------------------------------------

task<void> check_timeout(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t"));
    test_bdev& device = **made;
    user u(registry);
    std::vector<std::byte> buffer(512);
    world& w = registry.home_world();
    u.channel.set_timeout(5'000'000);
    device.hold = true;
    const std::uint64_t start = w.monotonic_ns();
    result<> r = co_await ask(u.channel, opcode::read, 0, 1, buffer.data());
    EXPECT_EQ(errno_of(r), ETIMEDOUT);
    EXPECT_GE(w.monotonic_ns() - start, 5'000'000U);
    EXPECT_LT(w.monotonic_ns() - start, 6'000'000U);
    // A device that does not give it up answers late: with success, which stands, or with an error.
    device.deaf = true;
    scope asked;
    asked.spawn(ask_and_note(u, 0, opcode::read, 0, 1, buffer.data()));
    asked.spawn(ask_and_note(u, 1, opcode::read, 1, 1, buffer.data()));
    asked.spawn(ask_and_note(u, 2, opcode::read, 2, 1, buffer.data()));
    r = co_await sleep_for(50'000'000);
    EXPECT_EQ(device.abort_requests, 1U + 3);  // once each
    EXPECT_TRUE(u.answers.empty());
    while (!device.held.empty()) {
        const bool fails = device.held[0]->first == lba(1);
        device.answer_held(0, fails ? EIO : 0);
    }
    r = co_await asked.join();
    EXPECT_EQ(u.answers.size(), 3U);
    for (const user::answer& got : u.answers)
        EXPECT_EQ(got.errno_value, got.id == 1 ? ETIMEDOUT : 0);
    // In time it is no matter.
    device.hold = false;
    r = co_await ask(u.channel, opcode::read, 0, 1, buffer.data());
    EXPECT_TRUE(r);
}

TEST(bdev_timeout, gives_up_and_still_waits_for_the_answer) { simulate(&check_timeout); }

task<void> check_timeout_ended(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t"));
    test_bdev& device = **made;
    user u(registry);
    std::vector<std::byte> buffer(512);
    // Ended and begun again while ops are out: they come back as if there had been none.
    u.channel.set_timeout(5'000'000);
    device.hold = true;
    scope asked;
    for (unsigned i = 0; i < 3; ++i)
        asked.spawn(ask_and_note(u, i, opcode::read, i, 1, buffer.data()));
    co_await settle();
    u.channel.set_timeout(0);
    device.answer_held(1);
    co_await settle();
    EXPECT_EQ(u.answers.size(), 1U);
    u.channel.set_timeout(1'000'000);
    result<> r = co_await sleep_for(20'000'000);
    EXPECT_EQ(device.abort_requests, 0U);
    EXPECT_EQ(device.held.size(), 2U);
    // A shorter one concerns what is in the list, from where it entered.
    asked.spawn(ask_and_note(u, 3, opcode::read, 3, 1, buffer.data()));
    co_await settle();
    u.channel.set_timeout(500'000);
    r = co_await sleep_for(700'000);
    EXPECT_EQ(u.answers.back(), (user::answer{3, ETIMEDOUT}));
    u.channel.set_timeout(0);
    while (!device.held.empty()) device.answer_held(0);
    r = co_await asked.join();
    EXPECT_EQ(u.answers.size(), 4U);
    EXPECT_EQ(u.channel.base().in_flight(), 0U);
}

TEST(bdev_timeout, can_end_and_change_while_ops_are_outstanding) { simulate(&check_timeout_ended); }

task<void> check_timeout_of_waiting(bdev_registry& registry) {
    bdev_attributes a = attributes_of("t");
    a.optimal_boundary = block_count(1);
    result<test_bdev*> made = co_await add_bdev(registry, a);
    test_bdev& device = **made;
    user u(registry);
    std::vector<std::byte> buffer(2 * 512);
    u.channel.set_timeout(5'000'000);
    device.room = 0;
    scope asked;
    asked.spawn(ask_and_note(u, 0, opcode::read, 0, 1, buffer.data()));
    asked.spawn(ask_and_note(u, 1, opcode::write, 1, 2, buffer.data()));
    result<> r = co_await asked.join();
    EXPECT_TRUE(r);
    EXPECT_EQ(u.answers.size(), 2U);
    for (const user::answer& got : u.answers) EXPECT_EQ(got.errno_value, ETIMEDOUT);
    EXPECT_TRUE(device.seen.empty());
}

TEST(bdev_timeout, covers_the_wait_for_memory_and_split_ops) {
    simulate(&check_timeout_of_waiting);
}

}  // namespace
}  // namespace nacre::test
