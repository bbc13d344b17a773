// SPDX-License-Identifier: BSD-3-Clause
//
// Rate limits of bdevs: how exact, how fair, changed while ops wait.
#include "modules/modules.hpp"
#include "nacre/runtime/timeout.hpp"
#include "test_bdev.hpp"

namespace nacre::test {
namespace {

constexpr std::uint64_t second_ns = 1'000'000'000;
constexpr std::uint64_t mib = 1 << 20;

// --- Load ---------------------------------------------------------------------------------------

struct load {
    using may_cross_threads = void;
    opcode code = opcode::read;
    std::uint64_t blocks = 1;
    unsigned depth = 8;
    std::uint64_t until_ns = 0;
};

task<result<>> ask_until(const bdev_channel& channel, const load& what, std::byte* buffer,
                         std::uint64_t& done) {
    while (true) {
        result<> r = co_await ask(channel, what.code, 0, what.blocks, buffer);
        if (!r) co_return r;
        if (thread::current()->now_ns() >= what.until_ns) co_return result<>();
        ++done;
    }
}

/// How many ops of a user with a thread of its own came back in time.
task<result<std::uint64_t>> count_done(across<bdev_desc> desc, load what) {
    outcome<bdev_channel> channel = desc->open_channel();
    if (!channel) co_return fail(channel.error().code);
    std::vector<std::byte> buffer(what.blocks * 512);
    std::uint64_t done = 0;
    scope users;
    for (unsigned i = 0; i < what.depth; ++i)
        users.spawn(ask_until(*channel, what, buffer.data(), done));
    result<> joined = co_await users.join();
    if (!joined) co_return fail(joined.error());
    co_return done;
}

/// One user a thread and reactor; what each got done.
task<std::vector<double>> run_loads(bdev_registry& registry, bdev_desc& desc,
                                    std::vector<load> loads) {
    std::vector<join_handle<result<std::uint64_t>>> users;
    for (std::size_t i = 0; i < loads.size(); ++i) {
        thread& t = registry.host().make_thread("user", static_cast<int>(i % 3));
        users.push_back(t.spawn(&count_done, across<bdev_desc>(desc), loads[i]));
    }
    std::vector<double> done;
    for (auto& u : users) {
        result<std::uint64_t> n = co_await u;
        EXPECT_TRUE(n);
        done.push_back(n ? static_cast<double>(*n) : 0);
    }
    co_return done;
}

void expect_near(double is, double wanted, double fraction, const char* what) {
    EXPECT_GT(is, wanted * (1 - fraction)) << what;
    EXPECT_LT(is, wanted * (1 + fraction)) << what;
}

// --- Exactness ----------------------------------------------------------------------------------

struct limit_case {
    const char* what;
    rate_limits limits;
    std::uint64_t blocks;
    double reads, writes;  // a second; 0: none asked
};
constexpr limit_case limit_cases[] = {
    {"I/Os, both", {.rw_ios_per_sec = 5'000}, 1, 2'500, 2'500},
    {"I/Os, at least", {.rw_ios_per_sec = 1'000}, 8, 0, 1'000},
    {"bytes, both", {.rw_bytes_per_sec = 8 * mib}, 8, 1'024, 1'024},
    {"bytes read", {.r_bytes_per_sec = 4 * mib}, 16, 512, 0},
    {"bytes written", {.w_bytes_per_sec = 4 * mib}, 16, 0, 512},
    {"each its own", {.r_bytes_per_sec = 2 * mib, .w_bytes_per_sec = 4 * mib}, 4, 1'024, 2'048},
    {"the tighter of two", {.rw_ios_per_sec = 10'000, .rw_bytes_per_sec = 4 * mib}, 16, 256, 256},
    {"larger than a slice", {.rw_bytes_per_sec = 16 * mib}, 128, 128, 128},
};

task<void> check_exact(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t"));
    test_bdev& device = **made;
    outcome<bdev_desc> desc = registry.open("t", access::write);
    for (const limit_case& c : limit_cases) {
        co_await device.set_rate_limits(c.limits);
        EXPECT_EQ(device.assigned_rate_limits(), c.limits);
        load reading{.code = opcode::read,
                     .blocks = c.blocks,
                     .until_ns = thread::current()->now_ns() + second_ns};
        load writing = reading;
        writing.code = opcode::write;
        std::vector<load> loads;
        if (c.reads != 0) loads.push_back(reading);
        if (c.writes != 0) loads.push_back(writing);
        std::vector<double> done = co_await run_loads(registry, *desc, loads);
        std::size_t i = 0;
        if (c.reads != 0) expect_near(done[i++], c.reads, 0.03, c.what);
        if (c.writes != 0) expect_near(done[i++], c.writes, 0.03, c.what);
    }
    // None of it failed, and all of it was counted.
    io_statistics s = co_await device.collect_statistics();
    EXPECT_EQ(s.errors, 0U);
    desc->close();
}

TEST(bdev_rate_limits, are_kept_within_three_percent_over_a_second) { simulate(&check_exact, 3); }

// --- Fairness -----------------------------------------------------------------------------------

task<void> check_fair(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t"));
    test_bdev& device = **made;
    outcome<bdev_desc> desc = registry.open("t", access::write);
    co_await device.set_rate_limits({.rw_ios_per_sec = 12'000});
    const load greedy{
        .blocks = 1, .depth = 128, .until_ns = thread::current()->now_ns() + second_ns};
    load modest = greedy;
    modest.depth = 16;
    std::vector<load> three{greedy, modest, greedy};
    std::vector<double> done = co_await run_loads(registry, *desc, three);
    for (const double n : done) expect_near(n, 4'000, 0.05, "a third each");
    // Who asks for little gets it, and the others share the rest; also one at a time.
    load single = greedy;
    single.depth = 1;
    single.until_ns = thread::current()->now_ns() + second_ns;
    load hungry = greedy;
    hungry.until_ns = single.until_ns;
    std::vector<load> both{hungry, single};
    done = co_await run_loads(registry, *desc, both);
    EXPECT_GT(done[1], 3'000.0);
    expect_near(done[0] + done[1], 12'000, 0.03, "nothing is wasted");
    // By bytes, large ops get no more than small ones.
    co_await device.set_rate_limits({.rw_bytes_per_sec = 16 * mib});
    load large{.blocks = 64, .depth = 8, .until_ns = thread::current()->now_ns() + second_ns};
    load small = large;
    small.blocks = 4;
    small.depth = 16;
    both = {large, small};
    done = co_await run_loads(registry, *desc, both);
    expect_near(done[0] * 64 * 512, 8.0 * mib, 0.06, "large");
    expect_near(done[1] * 4 * 512, 8.0 * mib, 0.06, "small");
    desc->close();
}

TEST(bdev_rate_limits, are_shared_equally_by_channels_that_wait) { simulate(&check_fair, 3); }

// --- Changes ------------------------------------------------------------------------------------

task<void> check_lifted(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t"));
    test_bdev& device = **made;
    user u(registry);
    co_await device.set_rate_limits({.rw_ios_per_sec = 1'000});
    std::vector<std::byte> buffer(512);
    scope asked;
    for (unsigned i = 0; i < 500; ++i)
        asked.spawn(ask_and_note(u, i, i % 2 == 0 ? opcode::read : opcode::write, i % 256, 1,
                                 buffer.data()));
    result<> slept = co_await sleep_for(second_ns / 100);
    EXPECT_LT(u.answers.size(), 20U);
    // What no limit counts passes.
    result<> r = co_await ask(u.channel, opcode::unmap, 3, 1, nullptr);
    EXPECT_TRUE(r);
    r = co_await ask(u.channel, opcode::flush, 0, 0, nullptr);
    EXPECT_TRUE(r);
    // Ten times as much: those that wait notice.
    co_await device.set_rate_limits({.rw_ios_per_sec = 10'000});
    const std::size_t before = u.answers.size();
    slept = co_await sleep_for(second_ns / 100);
    expect_near(static_cast<double>(u.answers.size() - before), 100, 0.2, "ten times as fast");
    // Lifted: they go at once, in their order.
    const std::uint64_t then = thread::current()->now_ns();
    co_await device.set_rate_limits({});
    result<> joined = co_await asked.join();
    EXPECT_TRUE(joined);
    EXPECT_LT(thread::current()->now_ns() - then, 500'000U);
    EXPECT_EQ(u.answers.size(), 500U);
    for (std::size_t i = 2; i < device.seen.size(); ++i) {
        if (device.seen[i].code == opcode::read || device.seen[i].code == opcode::write) continue;
        device.seen.erase(device.seen.begin() + static_cast<std::ptrdiff_t>(i--));
    }
    EXPECT_EQ(device.seen.size(), 500U);
    for (std::size_t i = 0; i < 500; ++i) EXPECT_EQ(device.seen[i].first, i % 256) << i;
    EXPECT_EQ(u.channel.base().in_flight(), 0U);
    // And nothing is left behind that wakes anybody.
    slept = co_await sleep_for(second_ns);
    EXPECT_EQ(thread::current()->next_expiration_ns(), UINT64_MAX);
    EXPECT_EQ(device.assigned_rate_limits(), rate_limits());
}

TEST(bdev_rate_limits, can_be_changed_and_lifted_while_ops_wait) {
    simulate_in_order(&check_lifted);
}

/// A small op does not overtake a large one that waits for its tokens.
task<void> check_no_overtaking(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t"));
    test_bdev& device = **made;
    user u(registry);
    co_await device.set_rate_limits({.rw_bytes_per_sec = 16 * mib});  // 16 KiB a slice
    std::vector<std::byte> buffer(64 * 512);
    scope asked;
    for (unsigned i = 0; i < 4; ++i)
        asked.spawn(ask_and_note(u, i, opcode::read, i, 20, buffer.data()));
    result<> slept = co_await sleep_for(800'000);  // room for a small one, not for a large one
    asked.spawn(ask_and_note(u, 9, opcode::read, 9, 1, buffer.data()));
    (void)slept;
    result<> joined = co_await asked.join();
    EXPECT_TRUE(joined);
    EXPECT_EQ(device.seen.back().first, 9U);
}

TEST(bdev_rate_limits, keep_the_order_of_large_and_small_ops) {
    simulate_in_order(&check_no_overtaking);
}

task<void> check_idle(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t"));
    user u(registry);
    co_await (*made)->set_rate_limits({.rw_ios_per_sec = 1'000});
    std::vector<std::byte> buffer(512);
    scope asked;
    for (unsigned i = 0; i < 20; ++i)
        asked.spawn(ask_and_note(u, i, opcode::read, i, 1, buffer.data()));
    result<> joined = co_await asked.join();
    EXPECT_TRUE(joined);
    result<> slept = co_await sleep_for(10'000'000);
    (void)slept;
    EXPECT_EQ(thread::current()->next_expiration_ns(), UINT64_MAX) << "limited, but nobody waits";
}

TEST(bdev_rate_limits, keep_no_timer_while_nobody_waits) { simulate(&check_idle); }

// --- Those that wait ----------------------------------------------------------------------------

/// `n` reads wait; the first of all has gone.
void ask_for(scope& asked, user& u, unsigned n, std::byte* buffer) {
    for (unsigned i = 0; i <= n; ++i) asked.spawn(ask_and_note(u, i, opcode::read, i, 1, buffer));
}
unsigned answered_with(const user& u, int errno_value) {
    unsigned n = 0;
    for (const user::answer& a : u.answers) n += a.errno_value == errno_value ? 1U : 0U;
    return n;
}

task<void> check_given_up(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t"));
    test_bdev& device = **made;
    co_await device.set_rate_limits({.rw_ios_per_sec = 1'000});
    std::vector<std::byte> buffer(512);
    {
        user u(registry);
        scope asked;
        ask_for(asked, u, 50, buffer.data());
        co_await settle();
        asked.stop().request_stop();
        result<> joined = co_await asked.join();
        (void)joined;
        EXPECT_EQ(u.answers.size(), 51U);
        EXPECT_EQ(answered_with(u, ECANCELED), 50U);
        EXPECT_EQ(device.abort_requests, 0U) << "the device has never heard of them";
    }
    result<> slept = co_await sleep_for(second_ns / 10);
    {
        user u(registry);
        u.channel.set_timeout(5'000'000);
        scope asked;
        ask_for(asked, u, 50, buffer.data());
        result<> joined = co_await asked.join();
        (void)joined;
        EXPECT_EQ(u.answers.size(), 51U);
        EXPECT_GT(answered_with(u, ETIMEDOUT), 40U);
        EXPECT_GT(answered_with(u, 0), 3U);
        u.channel.set_timeout(0);
    }
    slept = co_await sleep_for(second_ns / 10);
    {
        user u(registry);
        scope asked;
        ask_for(asked, u, 50, buffer.data());
        co_await settle();
        result<> r = co_await ask(u.channel, opcode::reset, 0, 0, nullptr);
        EXPECT_TRUE(r);
        result<> joined = co_await asked.join();
        (void)joined;
        EXPECT_EQ(answered_with(u, ECANCELED), 50U);
        io_statistics s = co_await device.collect_statistics();
        EXPECT_EQ(s.errors_by_kind[static_cast<unsigned>(io_failure::aborted)], s.errors);
    }
    slept = co_await sleep_for(second_ns / 10);
    {
        user u(registry);
        scope asked;
        ask_for(asked, u, 50, buffer.data());
        co_await settle();
        outcome<> removed = co_await registry.remove("t");
        EXPECT_TRUE(removed);
        result<> joined = co_await asked.join();
        (void)joined;
        EXPECT_EQ(answered_with(u, ENODEV), 50U);
        EXPECT_EQ(u.channel.base().in_flight(), 0U);
    }
}

TEST(bdev_rate_limits, let_go_of_ops_that_are_aborted_late_reset_or_removed) {
    simulate(&check_given_up);
}

// --- Stacks -------------------------------------------------------------------------------------

task<void> check_cut_up(bdev_registry& registry) {
    bdev_attributes a = attributes_of("t");
    a.optimal_boundary = block_count(4);
    result<test_bdev*> made = co_await add_bdev(registry, a);
    co_await (*made)->set_rate_limits({.rw_ios_per_sec = 2'000});
    outcome<bdev_desc> desc = registry.open("t", access::write);
    const load reading{.blocks = 16, .until_ns = thread::current()->now_ns() + second_ns};
    std::vector<load> one{reading};
    std::vector<double> done = co_await run_loads(registry, *desc, one);
    expect_near(done[0], 2'000, 0.03, "whole ops");
    EXPECT_GT((*made)->seen.size(), 7'000U);
    desc->close();
}

TEST(bdev_rate_limits, count_an_op_once_that_is_cut_up) { simulate(&check_cut_up, 2); }

task<void> check_below(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t"));
    test_bdev& device = **made;
    outcome<std::string> above = co_await create_from_uri(registry, "passthru:///p?base=t");
    EXPECT_TRUE(above) << above.error().message;
    co_await device.set_rate_limits({.rw_ios_per_sec = 2'000});
    outcome<bdev_desc> desc = registry.open("p", access::write);
    const load reading{.blocks = 16, .until_ns = thread::current()->now_ns() + second_ns};
    std::vector<load> two{reading, reading};
    std::vector<double> done = co_await run_loads(registry, *desc, two);
    expect_near(done[0] + done[1], 2'000, 0.03, "through the layer");
    // They can be given up from above, and the layer can leave while they wait.
    std::vector<std::byte> buffer(512);
    user u(registry, "p");
    scope asked;
    ask_for(asked, u, 20, buffer.data());
    co_await settle();
    asked.stop().request_stop();
    result<> joined = co_await asked.join();
    EXPECT_GE(answered_with(u, ECANCELED), 19U);
    u.answers.clear();
    scope later;
    ask_for(later, u, 20, buffer.data());
    co_await settle();
    outcome<> removed = co_await registry.remove("t");
    EXPECT_TRUE(removed);
    joined = co_await later.join();
    EXPECT_EQ(u.answers.size(), 21U);
    EXPECT_GE(answered_with(u, ENODEV), 19U);
    desc->close();
}

TEST(bdev_rate_limits, count_what_layers_above_forward) { simulate(&check_below, 3); }

}  // namespace
}  // namespace nacre::test
