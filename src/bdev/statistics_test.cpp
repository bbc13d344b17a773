// SPDX-License-Identifier: BSD-3-Clause
//
// What passes a device is counted, once, by opcode; and the figures can be reset.
#include "modules/malloc/malloc.hpp"
#include "modules/modules.hpp"
#include "nacre/runtime/frame_pool.hpp"
#include "test_bdev.hpp"

namespace nacre::test {
namespace {

constexpr opcode counted[] = {opcode::read,
                              opcode::write,
                              opcode::flush,
                              opcode::unmap,
                              opcode::compare,
                              opcode::write_zeroes,
                              opcode::copy,
                              opcode::seek_data,
                              opcode::seek_hole,
                              opcode::reset,
                              opcode::compare_and_write};

bool has_data(opcode code) {
    return code == opcode::read || code == opcode::write || code == opcode::compare ||
           code == opcode::compare_and_write;
}

task<void> check_opcodes(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t"));
    user u(registry);
    std::vector<std::byte> buffer(3 * 512);
    for (const opcode code : counted) {
        for (unsigned i = 0; i < 2; ++i) {
            result<> r = co_await ask(u.channel, code, 4, 3, buffer.data());
            EXPECT_TRUE(r) << name_of(code);
        }
        io_statistics s = co_await (*made)->collect_statistics(statistics_reset::all);
        for (unsigned i = 0; i < opcode_count; ++i) {
            const io_counters& c = s.by_opcode[i];
            const bool this_one = opcode(i) == code;
            EXPECT_EQ(c.operations, this_one ? 2U : 0U) << name_of(opcode(i));
            EXPECT_EQ(c.bytes, this_one && has_data(code) ? 2U * 3 * 512 : 0U) << name_of(code);
        }
        EXPECT_EQ(s.errors, 0U);
    }
}

TEST(bdev_statistics, count_each_opcode_by_itself) { simulate(&check_opcodes); }

task<void> check_latency(bdev_registry& registry) {
    outcome<std::string> created = co_await create_from_uri(
        registry,
        "delay:///d?base=null:///n?size=1MiB&avg_read_latency=1000&p99_read_latency=1000");
    EXPECT_TRUE(created) << created.error().message;
    user u(registry, "d");
    std::vector<std::byte> buffer(4096);
    for (unsigned i = 0; i < 10; ++i) {
        result<> r = co_await ask(u.channel, opcode::read, i, 1, buffer.data());
        EXPECT_TRUE(r);
    }
    io_statistics s = co_await u.desc.device().collect_statistics(statistics_reset::max_min);
    const io_counters& reads = s.of(opcode::read);
    EXPECT_GE(reads.latency_ns_min, 1'000'000U);
    EXPECT_LT(reads.latency_ns_max, 1'200'000U);
    EXPECT_GE(reads.latency_ns, 10 * reads.latency_ns_min);
    EXPECT_LE(reads.latency_ns, 10 * reads.latency_ns_max);
    // Below, where the ops were forwarded to, they are counted without latency.
    io_statistics below = co_await registry.find("n")->collect_statistics();
    EXPECT_EQ(below.of(opcode::read).operations, 10U);
    EXPECT_EQ(below.of(opcode::read).bytes, 40960U);
    EXPECT_EQ(below.of(opcode::read).latency_ns, 0U);
    s = co_await u.desc.device().collect_statistics();
    EXPECT_EQ(s.of(opcode::read).operations, 10U);
    EXPECT_EQ(s.of(opcode::read).latency_ns_max, 0U);
    EXPECT_EQ(s.of(opcode::read).latency_ns_min, UINT64_MAX);
}

TEST(bdev_statistics, take_latency_where_ops_enter_and_count_them_where_they_pass) {
    simulate(&check_latency);
}

task<void> check_errors(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t"));
    test_bdev& device = **made;
    user u(registry);
    std::vector<std::byte> buffer(512);
    device.hold = true;
    scope asked;
    for (unsigned i = 0; i < 3; ++i)
        asked.spawn(ask_and_note(u, i, opcode::write, i, 1, buffer.data()));
    co_await settle();
    device.answer_held(0, EIO);
    device.answer_held(0, ENOSPC);
    device.answer_held(0);
    result<> joined = co_await asked.join();
    EXPECT_TRUE(joined);
    io_statistics s = co_await device.collect_statistics(statistics_reset::errors);
    EXPECT_EQ(s.errors, 2U);
    EXPECT_EQ(s.of(opcode::write).operations, 1U);  // what failed is no operation
    EXPECT_EQ(s.of(opcode::write).bytes, 512U);
    s = co_await device.collect_statistics();
    EXPECT_EQ(s.errors, 0U);
    EXPECT_EQ(s.of(opcode::write).operations, 1U);
}

TEST(bdev_statistics, count_failures_apart_and_reset_them_apart) { simulate(&check_errors); }

task<result<>> read_some(across<bdev_desc> desc, unsigned count) {
    outcome<bdev_channel> channel = desc->open_channel();
    if (!channel) co_return fail(channel.error().code);
    std::vector<std::byte> buffer(4096);
    for (unsigned i = 0; i < count; ++i) {
        result<> r = co_await ask(*channel, opcode::read, 0, 1, buffer.data());
        if (!r) co_return r;
    }
    co_return result<>();
}

task<void> check_threads(bdev_registry& registry) {
    outcome<std::string> created = co_await create_from_uri(registry, "malloc:///m?size=1MiB");
    outcome<bdev_desc> desc = registry.open("m", access::read);
    std::vector<join_handle<result<>>> readers;
    for (unsigned i = 0; i < 3; ++i) {
        thread& t = registry.host().make_thread("reader", static_cast<int>(i));
        readers.push_back(t.spawn(&read_some, across<bdev_desc>(*desc), 100 * (i + 1)));
    }
    // Read over and over while channels come, work and go: nothing is lost or counted twice.
    std::uint64_t least = 0;
    for (unsigned i = 0; i < 200; ++i) {
        io_statistics s = co_await desc->device().collect_statistics();
        EXPECT_GE(s.of(opcode::read).operations, least);
        EXPECT_LE(s.of(opcode::read).operations, 600U);
        least = s.of(opcode::read).operations;
    }
    for (auto& r : readers) {
        result<> ended = co_await r;
        EXPECT_TRUE(ended);
    }
    io_statistics s = co_await desc->device().collect_statistics();
    EXPECT_EQ(s.of(opcode::read).operations, 600U);
    EXPECT_EQ(s.of(opcode::read).bytes, 600U * 4096);
    s = co_await desc->device().collect_statistics(statistics_reset::all);
    EXPECT_EQ(s.of(opcode::read).operations, 600U);
    s = co_await desc->device().collect_statistics();
    EXPECT_EQ(s.of(opcode::read).operations, 0U);
}

TEST(bdev_statistics, are_the_sum_over_threads_that_are_there_and_gone) {
    simulate(&check_threads, 3);
}

task<void> check_by_channel(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t"));
    user u(registry);
    std::vector<std::byte> buffer(512);
    result<> r = co_await ask(u.channel, opcode::write, 0, 1, buffer.data());
    EXPECT_TRUE(r);
    std::vector<channel_statistics> list = co_await (*made)->collect_channel_statistics();
    EXPECT_EQ(list.size(), 1U);
    EXPECT_EQ(list[0].thread_id, thread::current()->id());
    EXPECT_EQ(list[0].figures.of(opcode::write).operations, 1U);
    // One that is closed while it is read is not counted twice either.
    u.channel.close();
    list = co_await (*made)->collect_channel_statistics();
    EXPECT_TRUE(list.empty());
    io_statistics s = co_await (*made)->collect_statistics();
    EXPECT_EQ(s.of(opcode::write).operations, 1U);
}

TEST(bdev_statistics, can_be_had_by_channel) { simulate(&check_by_channel); }

// --- Errors by status ---------------------------------------------------------------------------

task<void> check_kinds(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t"));
    test_bdev& device = **made;
    user u(registry);
    device.hold = true;
    std::vector<std::byte> buffer(512);
    const std::pair<int, io_failure> failures[] = {{EIO, io_failure::failed},
                                                   {ECANCELED, io_failure::aborted},
                                                   {EILSEQ, io_failure::miscompare},
                                                   {ENOSPC, io_failure::failed}};
    for (const auto& [errno_value, kind] : failures) {
        scope asked;
        asked.spawn(ask_and_note(u, 0, opcode::read, 0, 1, buffer.data()));
        co_await settle();
        device.answer_held(0, errno_value);
        result<> joined = co_await asked.join();
        (void)joined;
    }
    scope asked;
    asked.spawn(ask_and_note(u, 0, opcode::read, 0, 1, buffer.data()));
    co_await settle();
    device.held.front()->complete(error::nvme(2, 0x81));
    device.held.clear();
    result<> joined = co_await asked.join();
    (void)joined;
    const std::array<std::uint64_t, io_failure_count> wanted{1, 1, 0, 1, 2};
    io_statistics s = co_await device.collect_statistics(statistics_reset::max_min);
    EXPECT_EQ(s.errors, 5U);
    EXPECT_EQ(s.errors_by_kind, wanted);
    s = co_await device.collect_statistics(statistics_reset::errors);
    EXPECT_EQ(s.errors_by_kind, wanted);
    s = co_await device.collect_statistics();
    EXPECT_EQ(s.errors, 0U);
    EXPECT_EQ(s.errors_by_kind, (std::array<std::uint64_t, io_failure_count>{}));
}

TEST(bdev_statistics, tell_failures_apart_by_their_status) { simulate(&check_kinds); }

// --- Queue depth --------------------------------------------------------------------------------

task<result<>> read_and_hold(across<bdev_desc> desc, unsigned depth) {
    outcome<bdev_channel> channel = desc->open_channel();
    if (!channel) co_return fail(channel.error().code);
    std::vector<std::byte> buffer(512);
    scope asked;
    const auto read_one = [](const bdev_channel& c, std::byte* into) -> task<result<>> {
        result<> r = co_await c.read(lba(0), iov_view(into, 512));
        co_return r;
    };
    for (unsigned i = 0; i < depth; ++i) asked.spawn(read_one(*channel, buffer.data()));
    result<> joined = co_await asked.join();
    co_return joined;
}

task<void> check_sampling(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t"));
    test_bdev& device = **made;
    outcome<std::string> above = co_await create_from_uri(registry, "passthru:///p?base=t");
    EXPECT_TRUE(above) << above.error().message;
    outcome<bdev_desc> desc = registry.open("p", access::read);
    co_await device.set_queue_sampling(1'000);
    result<> slept = co_await sleep_for(10'500'000);
    EXPECT_EQ(device.queue().depth, 0U);
    EXPECT_EQ(device.queue().io_time, 0U);
    // Ops of three threads, forwarded by a layer, are under way for a while.
    device.hold = true;
    std::vector<join_handle<result<>>> readers;
    for (unsigned i = 0; i < 3; ++i) {
        thread& t = registry.host().make_thread("reader", static_cast<int>(i));
        readers.push_back(t.spawn(&read_and_hold, across<bdev_desc>(*desc), 2 + i));
    }
    slept = co_await sleep_for(20'000'000);
    EXPECT_EQ(device.held.size(), 9U);
    EXPECT_EQ(device.queue().depth, 9U);
    const std::uint64_t busy = device.queue().io_time;
    EXPECT_GE(busy, 17'000U);
    EXPECT_LE(busy, 21'000U);
    EXPECT_LE(device.queue().weighted_io_time, 9 * busy);
    EXPECT_GE(device.queue().weighted_io_time, 9 * busy - 9'000) << "but for the first";
    device.hold = false;
    while (!device.held.empty()) {
        // Each on the thread that it belongs to.
        io_op* const op = device.held.front();
        device.held.pop_front();
        co_await call_on(
            op->entry().home(), [](across<test_bdev> d, across<io_op> o) { d->answer(*o); },
            across<test_bdev>(device), across<io_op>(*op));
    }
    for (auto& r : readers) {
        result<> ended = co_await r;
        EXPECT_TRUE(ended);
    }
    slept = co_await sleep_for(5'000'000);
    EXPECT_EQ(device.queue().depth, 0U);
    co_await device.set_queue_sampling(0);
    const queue_samples last = device.queue();
    EXPECT_EQ(last.period_us, 0U);
    slept = co_await sleep_for(5'000'000);
    EXPECT_EQ(device.queue().io_time, last.io_time);
    // On again, and still on when the device goes away.
    co_await device.set_queue_sampling(UINT64_MAX);
    co_await device.set_queue_sampling(50);
    desc->close();
    outcome<> removed = co_await registry.remove("t");
    EXPECT_TRUE(removed);
}

TEST(bdev_queue_depth, is_sampled_over_all_threads_and_layers) { simulate(&check_sampling, 3); }

/// Without a frame but its own.
task<result<>> read_one(user& u, std::span<std::byte> buffer) {
    const iov_view into(buffer);
    result<> r = co_await u.channel.read(lba(1), into);
    u.answers.push_back({0, errno_of(r)});
    co_return result<>();
}

task<void> check_sampling_without_memory(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t"));
    test_bdev& device = **made;
    user u(registry);
    std::vector<std::byte> buffer(512);
    unsigned failures = 0;
    for (unsigned n = 1; n <= 4; ++n) {
        task<void> starting = device.set_queue_sampling(1'000);
        frame_pool::fail_nth_allocation(n);
        co_await std::move(starting);
        failures += frame_pool::injected_failure_happened();
        frame_pool::fail_nth_allocation(0);
        device.hold = true;
        scope asked;
        // One of the first allocations is that of a note, the others are of samples.
        asked.spawn(read_one(u, buffer));
        frame_pool::fail_nth_allocation(n);
        result<> slept = co_await sleep_for(10'500'000);
        failures += frame_pool::injected_failure_happened();
        frame_pool::fail_nth_allocation(0);
        EXPECT_TRUE(slept);
        EXPECT_EQ(device.queue().depth, 1U) << n;
        device.hold = false;
        while (!device.held.empty()) device.answer_held(0);
        result<> joined = co_await asked.join();
        EXPECT_TRUE(joined);
        EXPECT_EQ(u.answers.back(), (user::answer{0, 0}));
        co_await device.set_queue_sampling(0);
    }
    EXPECT_GE(failures, 4U);
}

TEST(bdev_queue_depth, is_sampled_where_memory_lacks_for_a_moment) {
    simulate(&check_sampling_without_memory);
}

}  // namespace
}  // namespace nacre::test
