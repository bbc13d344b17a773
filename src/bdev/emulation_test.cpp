// SPDX-License-Identifier: BSD-3-Clause
//
// What a channel does for a module: write_zeroes, compare, copy, splitting, aligned buffers.
#include "nacre/runtime/frame_pool.hpp"
#include "test_bdev.hpp"

namespace nacre::test {
namespace {

constexpr std::uint32_t plain = bit(opcode::read) | bit(opcode::write) | bit(opcode::abort);
using requests = std::vector<request>;

requests of(opcode code, std::initializer_list<std::pair<std::uint64_t, std::uint64_t>> parts) {
    requests list;
    for (const auto& [first, blocks] : parts) list.push_back({code, first, blocks, false});
    return list;
}

task<void> check_write_zeroes(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t", 400, 512, plain));
    test_bdev& device = **made;
    EXPECT_TRUE(device.supports(opcode::write_zeroes));
    user u(registry);
    std::fill(device.bytes.begin(), device.bytes.end(), std::byte{0xee});
    result<> r = co_await u.channel.write_zeroes(lba(5), block_count(300));
    EXPECT_TRUE(r);
    // 64 KiB at a time.
    EXPECT_EQ(device.seen, of(opcode::write, {{5, 128}, {133, 128}, {261, 44}}));
    for (std::size_t i = 0; i < device.bytes.size(); ++i) {
        const bool zeroed = i / 512 >= 5 && i / 512 < 305;
        if (device.bytes[i] != (zeroed ? std::byte{0} : std::byte{0xee})) {
            ADD_FAILURE() << "byte " << i;
            break;
        }
    }
    r = co_await u.channel.write_zeroes(lba(399), block_count(2));
    EXPECT_EQ(errno_of(r), ERANGE);
    r = co_await u.channel.write_zeroes(lba(3), block_count(0));
    EXPECT_EQ(errno_of(r), EINVAL);
    EXPECT_EQ(device.seen.size(), 3U);
    // What was asked and what was done for it.
    io_statistics s = co_await device.collect_statistics();
    EXPECT_EQ(s.of(opcode::write_zeroes).operations, 1U);
    EXPECT_EQ(s.of(opcode::write).operations, 3U);
    EXPECT_EQ(s.of(opcode::write).bytes, 300U * 512);
}

TEST(bdev_emulation, writes_zeroes_where_the_module_cannot) { simulate(&check_write_zeroes); }

task<void> check_write_zeroes_limits(bdev_registry& registry) {
    bdev_attributes a = attributes_of("t", 400, 512, plain);
    a.optimal_boundary = block_count(10);
    a.transfer_bytes_max = 4096;
    result<test_bdev*> made = co_await add_bdev(registry, a);
    user u(registry);
    result<> r = co_await u.channel.write_zeroes(lba(7), block_count(20));
    EXPECT_TRUE(r);
    EXPECT_EQ((*made)->seen, of(opcode::write, {{7, 3}, {10, 8}, {18, 2}, {20, 7}}));
    io_statistics s = co_await (*made)->collect_statistics();
    EXPECT_EQ(s.of(opcode::write_zeroes).operations, 1U);
    EXPECT_EQ(s.of(opcode::write).operations, 4U);
}

TEST(bdev_emulation, writes_zeroes_within_the_limits_of_the_module) {
    simulate(&check_write_zeroes_limits);
}

/// Blocks of as many bytes as are written at a time, and metadata.
task<void> check_write_zeroes_of_long_blocks(bdev_registry& registry) {
    bdev_attributes a = attributes_of("t", 8, 65536 + 8, plain);
    a.metadata_size = 8;
    a.metadata_interleaved = true;
    a.transfer_bytes_max = 1 << 20;
    result<test_bdev*> made = co_await add_bdev(registry, a);
    test_bdev& device = **made;
    user u(registry);
    std::fill(device.bytes.begin(), device.bytes.end(), std::byte{0xee});
    result<> r = co_await u.channel.write_zeroes(lba(2), block_count(3));
    EXPECT_TRUE(r);
    EXPECT_EQ(device.seen, of(opcode::write, {{2, 1}, {3, 1}, {4, 1}}));
    const auto kept = std::ranges::count(device.bytes, std::byte{0xee});
    EXPECT_EQ(kept, 5 * (65536 + 8));
}

TEST(bdev_emulation, writes_zeroes_to_blocks_of_64_kib_and_metadata) {
    simulate(&check_write_zeroes_of_long_blocks);
}

task<void> check_write_zeroes_failure(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t", 400, 512, plain));
    test_bdev& device = **made;
    user u(registry);
    device.hold = true;
    scope asked;
    asked.spawn(ask_and_note(u, 0, opcode::write_zeroes, 0, 400, nullptr));
    co_await settle();
    device.answer_held(0);
    co_await settle();
    device.answer_held(0, EIO);
    result<> joined = co_await asked.join();
    EXPECT_TRUE(joined);
    EXPECT_EQ(u.answers, (std::vector<user::answer>{{0, EIO}}));
    EXPECT_EQ(device.seen.size(), 2U);  // the rest is not tried
    io_statistics s = co_await device.collect_statistics();
    EXPECT_EQ(s.of(opcode::write_zeroes).operations, 0U);
    EXPECT_EQ(s.of(opcode::write).operations, 1U);
}

TEST(bdev_emulation, ends_with_the_first_piece_that_fails) {
    simulate(&check_write_zeroes_failure);
}

task<void> check_compare(bdev_registry& registry) {
    bdev_attributes a = attributes_of("t", 400, 512, plain);
    a.optimal_boundary = block_count(100);
    result<test_bdev*> made = co_await add_bdev(registry, a);
    test_bdev& device = **made;
    EXPECT_TRUE(device.supports(opcode::compare));
    user u(registry);
    for (std::size_t i = 0; i < device.bytes.size(); ++i)
        device.bytes[i] = static_cast<std::byte>(i / 512 + i);
    const std::vector<std::byte> same(device.bytes.begin() + 50 * 512,
                                      device.bytes.begin() + 350 * 512);
    const const_iov_view expected(same.data(), same.size());
    result<> r = co_await u.channel.compare(lba(50), expected);
    EXPECT_TRUE(r);
    EXPECT_EQ(device.seen, of(opcode::read, {{50, 50}, {100, 100}, {200, 100}, {300, 50}}));
    device.bytes[250 * 512 + 511] ^= std::byte{1};
    device.seen.clear();
    r = co_await u.channel.compare(lba(50), expected);
    EXPECT_EQ(errno_of(r), EILSEQ);
    EXPECT_EQ(device.seen.size(), 3U) << "no further than the difference";
    io_statistics s = co_await device.collect_statistics();
    EXPECT_EQ(s.of(opcode::compare).operations, 1U);
    EXPECT_EQ(s.of(opcode::read).operations, 7U);
    EXPECT_EQ(s.errors, 1U);
}

TEST(bdev_emulation, compares_by_reading) { simulate(&check_compare); }

task<void> check_copy(bdev_registry& registry) {
    for (const std::uint64_t boundary : {0U, 7U}) {
        bdev_attributes a = attributes_of("t", 400, 512, plain);
        a.optimal_boundary = block_count(boundary);
        a.transfer_bytes_max = std::uint64_t{16} << 9;
        result<test_bdev*> made = co_await add_bdev(registry, a);
        test_bdev& device = **made;
        {
            user u(registry);
            struct range {
                std::uint64_t to, from, blocks;
            };
            // Apart, overlapping both ways, onto itself.
            for (const range& c : {range{300, 3, 50}, range{13, 10, 60}, range{10, 13, 60},
                                   range{100, 100, 20}, range{0, 1, 399}, range{1, 0, 399}}) {
                for (std::size_t i = 0; i < device.bytes.size(); ++i)
                    device.bytes[i] = static_cast<std::byte>(i / 512 * 7 + i);
                std::vector<std::byte> model = device.bytes;
                std::memmove(&model[c.to * 512], &model[c.from * 512], c.blocks * 512);
                device.seen.clear();
                result<> r = co_await u.channel.copy(lba(c.to), lba(c.from), block_count(c.blocks));
                EXPECT_TRUE(r);
                EXPECT_EQ(device.bytes, model) << c.to << " from " << c.from;
                for (const request& piece : device.seen) {
                    EXPECT_LE(piece.blocks, 16U);
                    if (boundary != 0) {
                        EXPECT_LE(piece.first % boundary + piece.blocks, boundary);
                    }
                }
            }
            result<> r = co_await u.channel.copy(lba(0), lba(399), block_count(2));
            EXPECT_EQ(errno_of(r), ERANGE);
            io_statistics s = co_await device.collect_statistics();
            EXPECT_EQ(s.of(opcode::copy).operations, 6U);
            EXPECT_EQ(s.of(opcode::read).operations, s.of(opcode::write).operations);
            EXPECT_EQ(s.of(opcode::write).bytes, (50U + 60 + 60 + 20 + 399 + 399) * 512);
        }
        outcome<> removed = co_await registry.remove("t");
        EXPECT_TRUE(removed);
    }
}

TEST(bdev_emulation, copies_by_reading_and_writing) { simulate(&check_copy); }

task<void> check_copy_failure(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t", 400, 512, plain));
    test_bdev& device = **made;
    device.hold = true;
    user u(registry);
    for (const unsigned failing : {0U, 1U}) {
        scope asked;
        asked.spawn(ask_and_note(u, failing, opcode::copy, 100, 4, nullptr));
        for (unsigned i = 0; i <= failing; ++i) {
            co_await settle();
            EXPECT_EQ(device.held.size(), 1U);
            device.answer_held(0, i == failing ? EIO : 0);
        }
        result<> joined = co_await asked.join();
        EXPECT_TRUE(joined);
        EXPECT_EQ(u.answers.back(), (user::answer{failing, EIO}));
    }
    EXPECT_EQ(device.seen.size(), 3U) << "what could not be read is not written";
}

TEST(bdev_emulation, ends_a_copy_with_the_first_piece_that_fails) { simulate(&check_copy_failure); }

// --- Splitting ----------------------------------------------------------------------------------

task<void> check_boundary(bdev_registry& registry) {
    bdev_attributes a = attributes_of("t");
    a.optimal_boundary = block_count(8);
    result<test_bdev*> made = co_await add_bdev(registry, a);
    test_bdev& device = **made;
    user u(registry);
    std::vector<std::byte> out(20 * 512), in(20 * 512);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = std::byte(i / 512 + 1);
    result<> r = co_await u.channel.write(lba(6), iov_view(out.data(), out.size()));
    EXPECT_TRUE(r);
    EXPECT_EQ(device.seen, of(opcode::write, {{6, 2}, {8, 8}, {16, 8}, {24, 2}}));
    device.seen.clear();
    r = co_await u.channel.read(lba(6), iov_view(in.data(), in.size()));
    EXPECT_TRUE(r);
    EXPECT_EQ(device.seen, of(opcode::read, {{6, 2}, {8, 8}, {16, 8}, {24, 2}}));
    EXPECT_EQ(in, out);
    device.seen.clear();
    r = co_await u.channel.compare(lba(6), const_iov_view(out.data(), out.size()));
    EXPECT_TRUE(r);
    EXPECT_EQ(device.seen.size(), 4U);
    device.seen.clear();
    // Up to a boundary and from one there is nothing to cut.
    r = co_await u.channel.read(lba(8), iov_view(in.data(), 8 * 512));
    r = co_await u.channel.read(lba(14), iov_view(in.data(), 2 * 512));
    EXPECT_EQ(device.seen, of(opcode::read, {{8, 8}, {14, 2}}));
    device.seen.clear();
    r = co_await u.channel.write(lba(7), iov_view(out.data(), 2 * 512), true);
    EXPECT_EQ(device.seen, (requests{{opcode::write, 7, 1, true}, {opcode::write, 8, 1, true}}));
}

TEST(bdev_split, cuts_reads_writes_and_compares_at_the_optimal_boundary) {
    simulate(&check_boundary);
}

task<void> check_transfer(bdev_registry& registry) {
    bdev_attributes a = attributes_of("t");
    a.transfer_bytes_max = 3 * 512 + 100;
    result<test_bdev*> made = co_await add_bdev(registry, a);
    test_bdev& device = **made;
    user u(registry);
    std::vector<std::byte> buffer(8 * 512);
    result<> r = co_await u.channel.read(lba(1), iov_view(buffer.data(), 8 * 512));
    EXPECT_TRUE(r);
    EXPECT_EQ(device.seen, of(opcode::read, {{1, 3}, {4, 3}, {7, 2}}));
    device.seen.clear();
    r = co_await u.channel.read(lba(1), iov_view(buffer.data(), 3 * 512));
    EXPECT_EQ(device.seen, of(opcode::read, {{1, 3}}));
    // What must happen at once is not cut.
    const const_iov_view fits(buffer.data(), 3 * 512);
    const const_iov_view long_one(buffer.data(), 4 * 512);
    r = co_await u.channel.compare_and_write(lba(0), fits, fits);
    EXPECT_TRUE(r);
    r = co_await u.channel.compare_and_write(lba(0), long_one, long_one);
    EXPECT_EQ(errno_of(r), EINVAL);
}

TEST(bdev_split, cuts_what_is_longer_than_a_transfer) { simulate(&check_transfer); }

task<void> check_split_order(bdev_registry& registry) {
    bdev_attributes a = attributes_of("t");
    a.optimal_boundary = block_count(2);
    result<test_bdev*> made = co_await add_bdev(registry, a);
    test_bdev& device = **made;
    user u(registry);
    device.hold = true;
    std::vector<std::byte> buffer(16 * 512);
    scope asked;
    for (unsigned i = 0; i < 4; ++i)
        asked.spawn(ask_and_note(u, i, opcode::write, 1 + 4 * i, 4, buffer.data()));
    co_await settle();
    // Each has one piece out; they are answered last one first, some of them with failure.
    unsigned pieces = 0;
    while (!device.held.empty()) {
        const std::uint64_t first = device.held.back()->first.value();
        device.answer_held(device.held.size() - 1, first == 6 ? EIO : 0);
        ++pieces;
        co_await settle();
    }
    result<> joined = co_await asked.join();
    EXPECT_TRUE(joined);
    EXPECT_EQ(pieces, 3U * 3 + 2);
    EXPECT_EQ(u.answers.size(), 4U);
    for (const user::answer& got : u.answers) EXPECT_EQ(got.errno_value, got.id == 1 ? EIO : 0);
    io_statistics s = co_await device.collect_statistics();
    EXPECT_EQ(s.of(opcode::write).operations, 3U * 3 + 1);
    EXPECT_EQ(s.of(opcode::write).bytes, (3U * 4 + 1) * 512);
}

TEST(bdev_split, completes_each_op_once_in_whatever_order_its_pieces_come_back) {
    simulate(&check_split_order);
}

// --- Aligned buffers ----------------------------------------------------------------------------

task<void> check_bounce(bdev_registry& registry) {
    bdev_attributes a = attributes_of("t", 8192);
    a.buffer_alignment = 4096;
    result<test_bdev*> made = co_await add_bdev(registry, a);
    test_bdev& device = **made;
    user u(registry);
    // Longer than the largest pooled buffer, too.
    for (const std::size_t blocks : {std::size_t{1}, std::size_t{9}, std::size_t{4100}}) {
        std::vector<std::byte> out(blocks * 512 + 1), in(blocks * 512 + 1);
        for (std::size_t i = 0; i < out.size(); ++i) out[i] = std::byte(i / 512 + i);
        result<> r = co_await ask(u.channel, opcode::write, 5, blocks, out.data() + 1);
        EXPECT_TRUE(r);
        r = co_await ask(u.channel, opcode::read, 5, blocks, in.data() + 1);
        EXPECT_TRUE(r);
        EXPECT_TRUE(std::equal(in.begin() + 1, in.end(), out.begin() + 1));
        r = co_await ask(u.channel, opcode::compare, 5, blocks, out.data() + 1);
        EXPECT_TRUE(r);
        r = co_await ask(u.channel, opcode::compare_and_write, 5, blocks, out.data() + 1);
        EXPECT_TRUE(r);
        out.back() ^= std::byte{1};
        r = co_await ask(u.channel, opcode::compare, 5, blocks, out.data() + 1);
        EXPECT_EQ(errno_of(r), EILSEQ);
        r = co_await ask(u.channel, opcode::compare_and_write, 5, blocks, out.data() + 1);
        EXPECT_EQ(errno_of(r), EILSEQ);
    }
    EXPECT_EQ(device.odd_buffers, 0U);
    // One request each, though the buffers are copied in two: it is atomic.
    unsigned atomic = 0;
    for (const request& r : device.seen) {
        if (r.code == opcode::compare_and_write) ++atomic;
    }
    EXPECT_EQ(atomic, 6U);
}

TEST(bdev_bounce, gives_the_module_buffers_as_it_asks_for_them) { simulate(&check_bounce); }

task<void> check_bounce_without_memory(bdev_registry& registry) {
    bdev_attributes a = attributes_of("t", 64);
    a.buffer_alignment = 4096;
    result<test_bdev*> made = co_await add_bdev(registry, a);
    test_bdev& device = **made;
    user u(registry);
    std::vector<std::byte> buffer(4096 + 1);
    device.room = 0;
    scope asked;
    asked.spawn(ask_and_note(u, 0, opcode::compare_and_write, 3, 4, buffer.data() + 1));
    asked.spawn(ask_and_note(u, 1, opcode::write, 9, 4, buffer.data() + 1));
    co_await settle();
    EXPECT_GE(device.refusals, 1U);  // the other may wait behind it
    EXPECT_TRUE(u.answers.empty());
    device.room = UINT_MAX;
    result<> joined = co_await asked.join();
    EXPECT_TRUE(joined);
    EXPECT_EQ(u.answers.size(), 2U);
    for (const user::answer& got : u.answers) EXPECT_EQ(got.errno_value, 0);
    EXPECT_EQ(device.odd_buffers, 0U);
    EXPECT_EQ(device.seen.size(), 2U);
}

TEST(bdev_bounce, waits_where_the_device_is_out_of_memory) {
    simulate(&check_bounce_without_memory);
}

task<void> check_bounce_frames(bdev_registry& registry) {
    bdev_attributes a = attributes_of("t", 64);
    a.buffer_alignment = 4096;
    result<test_bdev*> made = co_await add_bdev(registry, a);
    user u(registry);
    std::vector<std::byte> buffer(4096 + 1, std::byte{5});
    const iov_view view(buffer.data() + 1, 4096);
    // No frame for the coroutine that copies: the op waits like any other that lacks memory.
    frame_pool::fail_nth_allocation(1);
    result<> r = co_await u.channel.write(lba(0), view);
    EXPECT_TRUE(frame_pool::injected_failure_happened());
    frame_pool::fail_nth_allocation(0);
    EXPECT_TRUE(r) << describe(r.error());
    EXPECT_EQ((*made)->bytes[4095], std::byte{5});
}

TEST(bdev_bounce, waits_where_there_is_no_memory_for_itself) { simulate(&check_bounce_frames); }

}  // namespace
}  // namespace nacre::test
