// SPDX-License-Identifier: BSD-3-Clause
//
// Transmission: what each request does, in whole blocks and in parts of them, alone and in crowds.
#include <gtest/gtest.h>

#include <cstring>

#include "modules/file/file.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/random.hpp"
#include "test_nbd.hpp"

namespace nacre::nbd {
namespace {

std::string_view bytes_at(const tray_bdev& tray, std::size_t offset, std::size_t n) {
    return text_of(std::span(tray.bytes).subspan(offset, n));
}

TEST(nbd_connection, reads_back_what_was_written_with_both_kinds_of_replies) {
    fixture().run([](fixture& f) -> task<void> {
        for (const bool structured : {false, true}) {
            test_client client(f);
            const bool went = co_await client.go("tray0", structured);
            EXPECT_TRUE(went);
            const std::string data(8192, structured ? 's' : 'p');
            const reply wrote = co_await client.ask(command::write, 4096, 8192, 0, data);
            EXPECT_EQ(wrote.code, wire_error::none);
            EXPECT_FALSE(wrote.structured);
            const reply read = co_await client.ask(command::read, 4096, 8192);
            EXPECT_EQ(read.structured, structured);
            EXPECT_EQ(read.data, data);
            const reply nothing = co_await client.ask(command::read, 0, 0);
            EXPECT_EQ(nothing.code, wire_error::none);
            EXPECT_EQ(nothing.data, "");
        }
    });
}

TEST(nbd_connection, answers_errors_in_the_reply_and_goes_on) {
    fixture().run([](fixture& f) -> task<void> {
        for (const bool structured : {false, true}) {
            test_client client(f);
            const bool went = co_await client.go("tray0", structured);
            EXPECT_TRUE(went);
            reply r = co_await client.ask(command::read, 64 * 4096, 1);
            EXPECT_EQ(r.code, wire_error::inval);
            r = co_await client.ask(command::write, 64 * 4096 - 1, 4, 0, "abcd");
            EXPECT_EQ(r.code, wire_error::nospc);
            r = co_await client.ask(static_cast<command>(99), 0, 0);
            EXPECT_EQ(r.code, wire_error::inval);
            r = co_await client.ask(command::cache, 0, 4096);
            EXPECT_EQ(r.code, wire_error::inval);
            f.tray->next_error = error::posix(EILSEQ);
            r = co_await client.ask(command::read, 0, 4096);
            EXPECT_EQ(r.code, wire_error::io);
            f.tray->next_error = error::posix(ENOSPC);
            r = co_await client.ask(command::write, 0, 4096, 0, std::string(4096, 'n'));
            EXPECT_EQ(r.code, wire_error::nospc);
            r = co_await client.ask(command::read, 0, 4096);
            EXPECT_EQ(r.code, wire_error::none);
        }
    });
}

TEST(nbd_connection, refuses_changes_of_a_read_only_export_and_skips_their_payload) {
    fixture().run([](fixture& f) -> task<void> {
        outcome<> added = co_await f.add("tray0", "ro", true);
        EXPECT_TRUE(added.has_value());
        test_client client(f);
        const bool went = co_await client.go("ro");
        EXPECT_TRUE(went);
        reply r = co_await client.ask(command::write, 0, 200000, 0, std::string(200000, 'r'));
        EXPECT_EQ(r.code, wire_error::perm);
        r = co_await client.ask(command::trim, 0, 4096);
        EXPECT_EQ(r.code, wire_error::perm);
        r = co_await client.ask(command::flush, 0, 0);
        EXPECT_EQ(r.code, wire_error::none);
        EXPECT_TRUE(all_zero(f.tray->bytes));
    });
}

TEST(nbd_connection, makes_writes_durable_when_asked) {
    fixture().run([](fixture& f) -> task<void> {
        test_client client(f);
        const bool went = co_await client.go("tray0");
        EXPECT_TRUE(went);
        const std::string block(4096, 'd');
        reply r = co_await client.ask(command::write, 0, 4096, command_flag::fua, block);
        EXPECT_EQ(f.tray->durable_writes, 1U);
        r = co_await client.ask(command::write, 10, 100, command_flag::fua, block.substr(0, 100));
        EXPECT_EQ(f.tray->durable_writes, 2U);
        EXPECT_EQ(f.tray->flushes, 0U);
        r = co_await client.ask(command::trim, 0, 4096, command_flag::fua);
        EXPECT_EQ(f.tray->flushes, 1U);
        r = co_await client.ask(command::write_zeroes, 0, 4096, command_flag::fua);
        EXPECT_EQ(f.tray->flushes, 2U);
        r = co_await client.ask(command::write_zeroes, 1, 4096, command_flag::fua);
        EXPECT_EQ(f.tray->flushes, 3U);
        r = co_await client.ask(command::flush, 0, 0);
        EXPECT_EQ(f.tray->flushes, 4U);
        r = co_await client.ask(command::write, 0, 4096, 0, block);
        EXPECT_EQ(f.tray->durable_writes, 2U);
    });
}

TEST(nbd_connection, changes_only_the_bytes_that_were_named) {
    fixture().run([](fixture& f) -> task<void> {
        test_client client(f);
        const bool went = co_await client.go("tray0");
        EXPECT_TRUE(went);
        std::string model(64 * 4096, 'm');
        reply r = co_await client.ask(command::write, 0, 64 * 4096, 0, model);
        EXPECT_EQ(r.code, wire_error::none);
        const std::pair<std::uint32_t, std::uint32_t> ranges[] = {
            {1, 1},       {100, 300},    {4000, 200},    {4095, 2},    {4096, 100},
            {8192, 4096}, {8000, 10000}, {12288, 12289}, {20479, 4098}};
        char mark = 'A';
        for (const auto& [offset, length] : ranges) {
            r = co_await client.ask(command::write, offset, length, 0, std::string(length, mark));
            EXPECT_EQ(r.code, wire_error::none);
            model.replace(offset, length, length, mark++);
            EXPECT_TRUE(bytes_at(*f.tray, 0, model.size()) == model) << offset;
            r = co_await client.ask(command::read, offset, length);
            EXPECT_TRUE(r.data == model.substr(offset, length)) << offset;
        }
        for (const auto& [offset, length] : ranges) {
            r = co_await client.ask(command::write_zeroes, offset, length);
            EXPECT_EQ(r.code, wire_error::none);
            model.replace(offset, length, length, '\0');
            EXPECT_TRUE(bytes_at(*f.tray, 0, model.size()) == model) << offset;
        }
        // A trim leaves parts of blocks alone.
        r = co_await client.ask(command::trim, 30000, 10000);
        model.replace(32768, 4096, 4096, '\0');
        EXPECT_TRUE(bytes_at(*f.tray, 0, model.size()) == model);
    });
}

TEST(nbd_connection, zeroes_fast_only_what_the_device_zeroes) {
    fixture().run([](fixture& f) -> task<void> {
        test_client client(f);
        const bool went = co_await client.go("tray0");
        EXPECT_TRUE(went);
        reply r = co_await client.ask(command::write_zeroes, 0, 8192, command_flag::fast_zero);
        EXPECT_EQ(r.code, wire_error::none);
        r = co_await client.ask(command::write_zeroes, 512, 8192, command_flag::fast_zero);
        EXPECT_EQ(r.code, wire_error::notsup);
        r = co_await client.ask(command::write_zeroes, 512, 8192, command_flag::no_hole);
        EXPECT_EQ(r.code, wire_error::none);
    });
}

TEST(nbd_connection, reports_which_parts_hold_data) {
    fixture().run([](fixture& f) -> task<void> {
        test_client client(f);
        const bool went = co_await client.go("tray0");
        EXPECT_TRUE(went);
        reply r = co_await client.ask(command::write, 8192, 8192, 0, std::string(8192, 'd'));
        r = co_await client.ask(command::block_status, 100, 30000);
        EXPECT_EQ(r.type, chunk::block_status);
        EXPECT_EQ(r.data, u32(allocation_context_id) + u32(8092) + u32(3) + u32(8192) + u32(0) +
                              u32(13716) + u32(3));
        r = co_await client.ask(command::block_status, 9000, 30000, command_flag::req_one);
        EXPECT_EQ(r.data, u32(allocation_context_id) + u32(7384) + u32(0));
        r = co_await client.ask(command::block_status, 0, 0);
        EXPECT_EQ(r.code, wire_error::inval);
        f.tray->next_error = error::posix(EIO);
        r = co_await client.ask(command::block_status, 0, 4096);
        EXPECT_EQ(r.code, wire_error::io);
    });
}

TEST(nbd_connection, finishes_what_was_asked_before_a_disconnect_or_a_half_close) {
    fixture().run([](fixture& f) -> task<void> {
        for (const bool polite : {true, false}) {
            test_client client(f);
            const bool went = co_await client.go("tray0");
            EXPECT_TRUE(went);
            f.tray->holds = true;
            co_await client.send(test_client::request(command::read, 5, 0, 512));
            if (polite) co_await client.send(test_client::request(command::disconnect, 0, 0, 0));
            client.half_close();
            while (f.tray->held.empty()) co_await yield();
            f.tray->let_go();
            auto answered = co_await client.any_reply();
            EXPECT_TRUE(answered && answered->first == 5 &&
                        answered->second.code == wire_error::none);
            const bool ended = co_await client.at_end();
            EXPECT_TRUE(ended);
        }
    });
}

TEST(nbd_connection, keeps_to_its_bound_of_requests_and_answers_them_all) {
    fixture_options options;
    options.bounds.requests_max = 4;
    fixture(options).run([](fixture& f) -> task<void> {
        test_client client(f);
        const bool went = co_await client.go("tray0");
        EXPECT_TRUE(went);
        f.tray->holds = true;
        std::string many;
        for (unsigned i = 1; i <= 20; ++i) many += test_client::request(command::read, i, 0, 4096);
        co_await client.send(std::move(many));
        result<> slept = co_await sleep_for(10'000'000);
        EXPECT_TRUE(slept.has_value());
        EXPECT_EQ(f.tray->held.size(), 4U);
        f.tray->let_go();
        for (unsigned i = 0; i < 20; ++i) {
            auto answered = co_await client.any_reply();
            EXPECT_TRUE(answered.has_value());
        }
    });
}

TEST(nbd_connection, keeps_to_its_bound_of_bytes_but_lets_any_single_request_through) {
    fixture_options options;
    options.bounds.request_bytes_max = 16384;
    fixture(options).run([](fixture& f) -> task<void> {
        test_client client(f);
        const bool went = co_await client.go("tray0");
        EXPECT_TRUE(went);
        f.tray->holds = true;
        std::string many;
        for (unsigned i = 1; i <= 10; ++i) many += test_client::request(command::read, i, 0, 8192);
        co_await client.send(std::move(many));
        result<> slept = co_await sleep_for(10'000'000);
        EXPECT_TRUE(slept.has_value());
        EXPECT_EQ(f.tray->held.size(), 2U);
        f.tray->let_go();
        for (unsigned i = 0; i < 10; ++i) {
            auto answered = co_await client.any_reply();
            EXPECT_TRUE(answered.has_value());
        }
        const reply big = co_await client.ask(command::write, 0, 65536, 0, std::string(65536, 'b'));
        EXPECT_EQ(big.code, wire_error::none);
    });
}

// Neighbours that share blocks are written at once, over a device that takes its time: what a
// write leaves in the rest of a block must be what the others wrote.
task<void> write_neighbours(fixture& f, prng& dice, std::string& model) {
    test_client one(f), two(f);
    const bool first = co_await one.go("disk0");
    const bool second = co_await two.go("disk0", false);
    EXPECT_TRUE(first && second);
    for (unsigned round = 0; round < 6; ++round) {
        std::map<std::uint64_t, bool> waiting[2];
        std::uint64_t at = 0;
        std::uint64_t cookie = 1;
        while (at < model.size()) {
            const std::uint64_t left = model.size() - at;
            std::uint64_t n = dice.chance(0.4) ? 512 * (1 + dice.below(4)) : 1 + dice.below(9000);
            if (dice.chance(0.2)) n = align_up(at + 1, 4096) - at;
            n = std::min(n, left);
            const auto length = static_cast<std::uint32_t>(n);
            const bool zero = dice.chance(0.2);
            const char mark = zero ? '\0' : static_cast<char>('a' + dice.below(26));
            model.replace(at, n, n, mark);
            const unsigned who = static_cast<unsigned>(dice.below(2));
            std::string message = test_client::request(
                zero ? command::write_zeroes : command::write, cookie, at, length);
            if (!zero) message += std::string(n, mark);
            waiting[who][cookie++] = true;
            co_await (who == 0 ? one : two).send(std::move(message));
            at += n;
        }
        for (unsigned who = 0; who < 2; ++who) {
            while (!waiting[who].empty()) {
                auto answered = co_await (who == 0 ? one : two).any_reply();
                if (!answered) co_return;
                EXPECT_EQ(answered->second.code, wire_error::none);
                EXPECT_EQ(waiting[who].erase(answered->first), 1U);
            }
        }
        const reply all = co_await one.ask(command::read, 0, static_cast<std::uint32_t>(at));
        EXPECT_TRUE(all.data == model) << "round " << round;
    }
}

TEST(nbd_connection, loses_no_part_of_a_block_that_several_write_at_once) {
    for (std::uint64_t seed = 1; seed <= 30; ++seed) {
        SCOPED_TRACE(seed);
        fixture({.seed = seed}).run([](fixture& f) -> task<void> {
            file_options options;
            options.name = "disk0";
            options.filename = "/disk.img";
            options.size = 40 * 4096;
            options.block_size = 4096;
            outcome<std::string> made = co_await create_file(f.registry, options);
            EXPECT_TRUE(made.has_value());
            outcome<> added = co_await f.add("disk0", "disk0");
            EXPECT_TRUE(added.has_value());
            std::string model(40 * 4096, '\0');
            co_await write_neighbours(f, f.outside.dice(), model);
        });
    }
}

}  // namespace
}  // namespace nacre::nbd
