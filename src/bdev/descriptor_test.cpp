// SPDX-License-Identifier: BSD-3-Clause
//
// Descriptors, their events, and devices that go or change their size under I/O.
#include "modules/malloc/malloc.hpp"
#include "modules/modules.hpp"
#include "modules/null/null.hpp"
#include "modules/split/split.hpp"
#include "test_bdev.hpp"

namespace nacre::test {
namespace {

task<result<>> note_events(bdev_desc& desc, std::vector<bdev_event>& events) {
    while (true) {
        result<bdev_event> e = co_await desc.next_event();
        if (!e) co_return fail(e.error());
        events.push_back(*e);
        if (*e == bdev_event::removed) co_return result<>();
    }
}

task<void> check_events(bdev_registry& registry) {
    outcome<std::string> created = co_await create_from_uri(registry, "null:///n?size=1MiB");
    EXPECT_TRUE(created);
    outcome<bdev_desc> listening = registry.open("n", access::read);
    outcome<bdev_desc> later = registry.open("n", access::read);
    outcome<bdev_desc> never = registry.open("n", access::read);
    std::vector<bdev_event> events;
    scope listeners;
    listeners.spawn(note_events(*listening, events));
    co_await settle();
    EXPECT_TRUE(events.empty());
    outcome<> done = co_await resize_null(registry, "n", block_count(512));
    EXPECT_TRUE(done);
    co_await settle();
    EXPECT_EQ(events, (std::vector{bdev_event::resized}));
    done = co_await resize_null(registry, "n", block_count(1024));
    co_await settle();
    EXPECT_EQ(events, (std::vector{bdev_event::resized, bdev_event::resized}));
    done = co_await registry.remove("n");  // does not wait for those that do not look
    EXPECT_TRUE(done);
    result<> ended = co_await listeners.join();
    EXPECT_TRUE(ended);
    EXPECT_EQ(events.back(), bdev_event::removed);
    EXPECT_EQ(events.size(), 3U);
    // What nobody waited for is kept, each kind once.
    result<bdev_event> kept = co_await later->next_event();
    EXPECT_EQ(*kept, bdev_event::removed);
    kept = co_await later->next_event();
    EXPECT_EQ(*kept, bdev_event::resized);
    listeners.spawn(note_events(*later, events));
    co_await settle();
    EXPECT_EQ(events.size(), 3U);
    listeners.stop().request_stop();
    ended = co_await listeners.join();
}

TEST(bdev_descriptors, tell_of_removal_and_resizing_as_a_stream) { simulate(&check_events); }

task<void> check_stopped_wait(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t"));
    outcome<bdev_desc> desc = registry.open("t", access::read);
    std::vector<bdev_event> events;
    scope listeners;
    listeners.spawn(note_events(*desc, events));
    co_await settle();
    listeners.stop().request_stop();
    result<> ended = co_await listeners.join();
    EXPECT_EQ(errno_of(ended), ECANCELED);
    co_await (*made)->resized(block_count(7));
    result<bdev_event> e = co_await desc->next_event();
    EXPECT_EQ(*e, bdev_event::resized);
}

TEST(bdev_descriptors, lose_no_event_when_their_listener_is_stopped) {
    simulate(&check_stopped_wait);
}

task<void> check_drain(bdev_registry& registry, user& u, test_bdev& device, scope& removal) {
    std::vector<std::byte> buffer(4 * 512);
    device.hold = true;
    device.room = 3;
    scope asked;
    for (unsigned i = 0; i < 3; ++i)
        asked.spawn(ask_and_note(u, i, opcode::write, i, 1, buffer.data()));
    co_await settle();
    asked.spawn(ask_and_note(u, 3, opcode::write, 3, 1, buffer.data()));  // waits for memory
    co_await settle();
    removal.spawn([](bdev_registry& r) -> task<result<>> {
        outcome<> removed = co_await r.remove("t");
        EXPECT_TRUE(removed);
        co_return result<>();
    }(registry));
    co_await settle();
    // Nobody finds it; new ops and channels are refused; those that wait come back.
    EXPECT_EQ(registry.find("t"), nullptr);
    EXPECT_TRUE(u.desc.device().removed());
    result<> r = co_await ask(u.channel, opcode::read, 0, 1, buffer.data());
    EXPECT_EQ(errno_of(r), ENODEV);
    r = co_await ask(u.channel, opcode::write_zeroes, 0, 1, buffer.data());
    EXPECT_EQ(errno_of(r), ENODEV);
    EXPECT_EQ(u.answers, (std::vector<user::answer>{{3, ENODEV}}));
    // The device is closed only when it has given its last answer.
    for (unsigned i = 0; i < 3; ++i) {
        EXPECT_FALSE(device.closed);
        device.answer_held(0);
        co_await settle();
    }
    r = co_await asked.join();
    EXPECT_EQ(u.answers.size(), 4U);
    for (const user::answer& got : u.answers) EXPECT_EQ(got.errno_value, got.id == 3 ? ENODEV : 0);
}

task<void> check_removal(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t"));
    test_bdev& device = **made;
    user u(registry);
    scope removal;
    co_await check_drain(registry, u, device, removal);
    result<> removed = co_await removal.join();
    EXPECT_TRUE(removed);
    EXPECT_TRUE(device.closed);
    outcome<bdev_channel> channel = u.desc.open_channel();
    EXPECT_TRUE(channel) << "this thread has one, which refuses";
    u.channel.close();
    channel->close();
    channel = u.desc.open_channel();
    EXPECT_TRUE(channel.error().code.is(ENODEV));
}

TEST(bdev_removal, drains_what_is_in_flight_and_refuses_the_rest) { simulate(&check_removal); }

task<void> check_removal_of_pieces(bdev_registry& registry) {
    bdev_attributes a = attributes_of("t", 64, 512, bit(opcode::read) | bit(opcode::write));
    a.buffer_alignment = 4096;
    a.optimal_boundary = block_count(2);
    result<test_bdev*> made = co_await add_bdev(registry, a);
    test_bdev& device = **made;
    user u(registry);
    std::vector<std::byte> buffer(4096 + 1);
    device.hold = true;
    scope asked;
    asked.spawn(ask_and_note(u, 0, opcode::write, 0, 8, buffer.data() + 1));
    asked.spawn(ask_and_note(u, 1, opcode::write_zeroes, 8, 8, nullptr));
    co_await settle();
    EXPECT_EQ(device.held.size(), 2U);
    scope removal;
    removal.spawn([](bdev_registry& r) -> task<result<>> {
        outcome<> removed = co_await r.remove("t");
        EXPECT_TRUE(removed);
        co_return result<>();
    }(registry));
    co_await settle();
    EXPECT_FALSE(device.closed);
    while (!device.held.empty()) device.answer_held(0);
    result<> joined = co_await removal.join();
    joined = co_await asked.join();
    EXPECT_EQ(u.answers.size(), 2U);
    for (const user::answer& got : u.answers) EXPECT_EQ(got.errno_value, ENODEV);
    EXPECT_EQ(device.seen.size(), 2U);  // pieces that had not begun do not
}

TEST(bdev_removal, ends_split_ops_between_their_pieces) { simulate(&check_removal_of_pieces); }

/// On a thread of its own, until the device is gone.
task<result<>> use_until_gone(across<bdev_desc> desc, unsigned user) {
    std::vector<std::byte> buffer(8 * 512);
    for (unsigned i = user;; ++i) {
        // Channels come and go while the device does.
        outcome<bdev_channel> channel = desc->open_channel();
        if (!channel) {
            EXPECT_TRUE(channel.error().code.is(ENODEV)) << channel.error().message;
            co_return result<>();
        }
        for (unsigned k = 0; k < 3; ++k) {
            const opcode code = opcode((i + k) % 5);  // read, write, flush, unmap, write_zeroes
            // Blocks of its own: two threads at one block of a RAM disk are a race.
            const std::uint64_t at = std::uint64_t{user} * 16 + (i * 7 + k) % 8;
            result<> r = co_await ask(*channel, code, at, 8, buffer.data());
            if (r) continue;
            EXPECT_EQ(errno_of(r), ENODEV) << name_of(code);
            co_return result<>();
        }
    }
}

task<void> check_hot_removal(bdev_registry& registry) {
    outcome<std::string> made = co_await create_from_uri(registry, "file:///disk?block_size=512");
    EXPECT_TRUE(made) << made.error().message;
    outcome<bdev_desc> desc = registry.open("disk", access::write);
    std::vector<join_handle<result<>>> users;
    for (unsigned i = 0; i < 6; ++i) {
        thread& t = registry.host().make_thread("user", static_cast<int>(i % 3));
        users.push_back(t.spawn(&use_until_gone, across<bdev_desc>(*desc), i));
    }
    result<> slept = co_await sleep_for(3'000'000);
    EXPECT_TRUE(slept);
    outcome<> removed = co_await registry.remove("disk");
    EXPECT_TRUE(removed);
    for (auto& u : users) {
        result<> ended = co_await u;
        EXPECT_TRUE(ended) << describe(ended.error());
    }
}

TEST(bdev_removal, under_io_of_several_threads_leaves_no_op_behind) {
    simulate(&check_hot_removal, 3);
}

TEST(bdev_removal, under_io_of_several_os_threads_leaves_no_op_behind) {
    const auto body = [](bdev_registry& registry) -> task<void> {
        malloc_options o;
        o.name = "disk";
        o.num_blocks = 64;
        o.block_size = 512;
        for (unsigned round = 0; round < 20; ++round) {
            outcome<std::string> made = co_await create_malloc(registry, o);
            EXPECT_TRUE(made);
            outcome<bdev_desc> desc = registry.open("disk", access::write);
            std::vector<join_handle<result<>>> users;
            for (unsigned i = 0; i < 4; ++i) {
                thread& t = registry.host().make_thread("user", static_cast<int>(i % 3));
                users.push_back(t.spawn(&use_until_gone, across<bdev_desc>(*desc), i));
            }
            for (unsigned i = 0; i < 50 * round; ++i) co_await yield();
            outcome<> removed = co_await registry.remove("disk");
            EXPECT_TRUE(removed);
            for (auto& u : users) {
                result<> ended = co_await u;
                EXPECT_TRUE(ended);
            }
        }
    };
    sim::with_registry(real_world(), body, 3);
}

task<void> check_no_channel(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t"));
    (*made)->channel_error = EMFILE;
    outcome<bdev_desc> desc = registry.open("t", access::read);
    outcome<bdev_channel> channel = desc->open_channel();
    EXPECT_TRUE(channel.error().code.is(EMFILE));
    EXPECT_NE(channel.error().message.find("no channel today"), std::string::npos);
    (*made)->channel_error = 0;
    channel = desc->open_channel();
    EXPECT_TRUE(channel);
    outcome<bdev_channel> same = desc->open_channel();
    EXPECT_EQ(&same->base(), &channel->base());
}

TEST(bdev_channels, are_one_a_thread_and_pass_on_why_there_is_none) { simulate(&check_no_channel); }

task<void> check_resize(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t", 64));
    test_bdev& device = **made;
    user u(registry);
    std::vector<std::byte> buffer(512);
    device.hold = true;
    scope asked;
    asked.spawn(ask_and_note(u, 0, opcode::read, 63, 1, buffer.data()));
    co_await settle();
    co_await device.resized(block_count(32));
    EXPECT_EQ(u.desc.device().size().value(), 32U * 512);
    device.answer_held(0);  // began before
    result<> r = co_await asked.join();
    EXPECT_EQ(u.answers, (std::vector<user::answer>{{0, 0}}));
    device.hold = false;
    r = co_await ask(u.channel, opcode::read, 32, 1, buffer.data());
    EXPECT_EQ(errno_of(r), ERANGE);
    co_await device.resized(block_count(48));
    r = co_await ask(u.channel, opcode::read, 47, 1, buffer.data());
    EXPECT_TRUE(r);
}

TEST(bdev_resize, holds_for_the_next_op_on_channels_that_are_open) { simulate(&check_resize); }

// --- Media-management events --------------------------------------------------------------------

task<void> check_media_events(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t"));
    test_bdev& device = **made;
    outcome<bdev_desc> writer = registry.open("t", access::write);
    outcome<bdev_desc> reader = registry.open("t", access::read);
    std::vector<bdev_event> events, others;
    scope listeners;
    listeners.spawn(note_events(*writer, events));
    listeners.spawn(note_events(*reader, others));
    co_await settle();
    const media_event two[] = {{lba(3), block_count(4)}, {lba(100), block_count(1)}};
    EXPECT_EQ(device.post_media_events(two), 2U);
    co_await settle();
    EXPECT_EQ(events, (std::vector{bdev_event::media_management}));
    EXPECT_TRUE(others.empty()) << "who cannot move blocks is not asked to";
    std::vector<media_event> got(10);
    EXPECT_EQ(writer->take_media_events(std::span(got).first(1)), 1U);
    EXPECT_EQ(got[0], two[0]);
    EXPECT_EQ(writer->take_media_events(got), 1U);
    EXPECT_EQ(got[0], two[1]);
    EXPECT_EQ(writer->take_media_events(got), 0U);
    // The queue is bounded; the device learns how much was taken.
    const std::vector<media_event> many(100, {lba(1), block_count(1)});
    EXPECT_EQ(device.post_media_events(many), bdev_desc::media_events_max);
    EXPECT_EQ(device.post_media_events(many), 0U);
    listeners.stop().request_stop();
    result<> joined = co_await listeners.join();
    (void)joined;
    bdev_desc moved = std::move(*writer);
    got.resize(200);
    EXPECT_EQ(moved.take_media_events(got), bdev_desc::media_events_max);
}

TEST(bdev_media_events, reach_every_writer_in_a_bounded_queue) {
    simulate_in_order(&check_media_events);
}

task<void> check_media_layers(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t", 100));
    outcome<std::string> above = co_await create_from_uri(registry, "passthru:///p?base=t");
    EXPECT_TRUE(above) << above.error().message;
    split_options parts;
    parts.base_bdev = "p";
    parts.split_count = 2;
    outcome<std::vector<std::string>> split = co_await split_module::of(registry).create(parts);
    EXPECT_TRUE(split);
    outcome<bdev_desc> first = registry.open("pp0", access::write);
    outcome<bdev_desc> second = registry.open("pp1", access::write);
    const media_event across_both[] = {{lba(45), block_count(10)}};
    EXPECT_EQ((*made)->post_media_events(across_both), 1U);
    std::vector<media_event> got(4);
    EXPECT_EQ(first->take_media_events(got), 1U);
    EXPECT_EQ(got[0], (media_event{lba(45), block_count(5)}));
    EXPECT_EQ(second->take_media_events(got), 1U);
    EXPECT_EQ(got[0], (media_event{lba(0), block_count(5)}));
    EXPECT_EQ(first->device().attributes().numa_id, (*made)->attributes().numa_id);
}

TEST(bdev_media_events, pass_through_layers_by_their_own_addresses) {
    simulate(&check_media_layers);
}

}  // namespace
}  // namespace nacre::test
