// SPDX-License-Identifier: BSD-3-Clause
//
// Devices that are written in units, and boundaries that may be crossed.
#include "test_bdev.hpp"

namespace nacre::test {
namespace {

task<void> check_units(bdev_registry& registry) {
    bdev_attributes a =
        attributes_of("t", 252, 512, bit(opcode::read) | bit(opcode::write) | bit(opcode::unmap));
    a.write_unit = block_count(6);
    a.optimal_boundary = block_count(4);
    a.transfer_bytes_max = 8 * 512;
    result<test_bdev*> made = co_await add_bdev(registry, std::move(a));
    test_bdev& device = **made;
    std::vector<std::byte> data(60 * 512, std::byte{9});
    user u(registry);
    for (const auto& [first, n] : {std::pair<unsigned, unsigned>{3, 6}, {6, 5}, {0, 7}}) {
        result<> r = co_await ask(u.channel, opcode::write, first, n, data.data());
        EXPECT_EQ(errno_of(r), EINVAL) << n << " at " << first;
        r = co_await ask(u.channel, opcode::write_zeroes, first, n, data.data());
        EXPECT_EQ(errno_of(r), EINVAL) << n << " at " << first;
    }
    EXPECT_TRUE(device.seen.empty());
    result<> r = co_await ask(u.channel, opcode::write, 6, 60, data.data());
    EXPECT_TRUE(r);
    const std::vector<request> whole{{opcode::write, 6, 60}};
    EXPECT_EQ(device.seen, whole) << "the module takes as many units as it is given";
    device.seen.clear();
    r = co_await ask(u.channel, opcode::read, 7, 3, data.data());
    EXPECT_TRUE(r);
    const std::vector<request> split{{opcode::read, 7, 1}, {opcode::read, 8, 2}};
    EXPECT_EQ(device.seen, split) << "reads know no unit";
    device.seen.clear();
    r = co_await ask(u.channel, opcode::write_zeroes, 12, 24, data.data());
    EXPECT_TRUE(r);
    std::uint64_t zeroed = 12;
    for (const request& q : device.seen) {
        EXPECT_EQ(q.code, opcode::write);
        EXPECT_EQ(q.first, zeroed);
        EXPECT_EQ(q.blocks % 6, 0U);
        zeroed += q.blocks;
    }
    EXPECT_EQ(zeroed, 36U);
    EXPECT_FALSE(u.channel.device().supports(opcode::copy)) << "pieces of it would be no units";
}

TEST(bdev_units, hold_for_writes_alone_and_whole_ones_are_not_cut) { simulate(&check_units); }

task<void> check_large_unit(bdev_registry& registry) {
    bdev_attributes a = attributes_of("t", 1024, 512, bit(opcode::read) | bit(opcode::write));
    a.write_unit = block_count(256);  // 128 KiB, more than the zeros there are
    a.buffer_alignment = 64;
    result<test_bdev*> made = co_await add_bdev(registry, std::move(a));
    test_bdev& device = **made;
    user u(registry);
    std::vector<std::byte> data(1024 * 512 + 64, std::byte{9});
    std::byte* const odd = data.data() + 1;
    result<> r = co_await ask(u.channel, opcode::write, 0, 1024, odd);
    EXPECT_TRUE(r);
    EXPECT_EQ(device.odd_buffers, 0U);
    for (const request& q : device.seen) EXPECT_EQ(q.first % 256 + q.blocks % 256, 0U);
    EXPECT_EQ(device.bytes, std::vector<std::byte>(1024 * 512, std::byte{9}));
    r = co_await ask(u.channel, opcode::write_zeroes, 256, 512, odd);
    EXPECT_TRUE(r);
    EXPECT_EQ(device.bytes[256 * 512 - 1], std::byte{9});
    EXPECT_EQ(std::count(device.bytes.begin(), device.bytes.end(), std::byte{0}), 512 * 512);
}

TEST(bdev_units, hold_for_what_is_bounced_and_for_emulated_zeroes) { simulate(&check_large_unit); }

task<void> check_optional(bdev_registry& registry) {
    bdev_attributes a = attributes_of("t");
    a.optimal_boundary = block_count(8);
    a.boundary_optional = true;
    result<test_bdev*> made = co_await add_bdev(registry, std::move(a));
    test_bdev& device = **made;
    user u(registry);
    std::vector<std::byte> data(32 * 512);
    result<> r = co_await ask(u.channel, opcode::write, 3, 32, data.data());
    EXPECT_TRUE(r);
    const std::vector<request> whole{{opcode::write, 3, 32}};
    EXPECT_EQ(device.seen, whole);
}

TEST(bdev_units, boundary_that_may_be_crossed_splits_nothing) { simulate(&check_optional); }

}  // namespace
}  // namespace nacre::test
