// SPDX-License-Identifier: BSD-3-Clause
#include "ublk_wire.hpp"

#include <gtest/gtest.h>

#include "nacre/bdev/module_channel.hpp"

namespace nacre::ublk {
namespace {

/// As the driver documents them; the sizes are asserted where they are declared.
TEST(ublk_wire, numbers_commands_as_ioctls) {
    EXPECT_EQ(static_cast<std::uint32_t>(control_code::get_info), 0x80207502U);
    EXPECT_EQ(static_cast<std::uint32_t>(control_code::add), 0xc0207504U);
    EXPECT_EQ(static_cast<std::uint32_t>(control_code::get_features), 0x80207513U);
    EXPECT_EQ(fetch, 0xc0107520U);
    EXPECT_EQ(commit_and_fetch, 0xc0107521U);
}

TEST(ublk_wire, finds_the_data_of_each_request_at_a_place_of_its_own) {
    EXPECT_EQ(data_position(0, 0), 0x80000000U);
    EXPECT_EQ(data_position(0, 1) - data_position(0, 0), 32U << 20);
    EXPECT_EQ(data_position(1, 0) - data_position(0, 0), std::uint64_t{1} << 41);
    EXPECT_EQ(descriptors_position(2), 2U * 4096 * 24);
}

constexpr geometry plain{.block_bytes = 4096, .blocks = 1000, .io_bytes_max = 1 << 20};

io_descriptor asks(operation what, std::uint64_t first_sector, std::uint32_t sectors,
                   std::uint32_t flags = 0) {
    return {static_cast<std::uint32_t>(what) | flags, sectors, first_sector, 0};
}

TEST(ublk_wire, turns_sectors_into_blocks) {
    const auto r = check(asks(operation::write, 80, 16, flag_fua), plain);
    ASSERT_TRUE(r);
    EXPECT_EQ(r->what, operation::write);
    EXPECT_TRUE(r->fua);
    EXPECT_EQ(r->first, 10U);
    EXPECT_EQ(r->blocks, 2U);
    EXPECT_EQ(r->bytes, 8192U);
    EXPECT_EQ(check(asks(operation::discard, 0, 8000), plain)->bytes, 0U);
    EXPECT_TRUE(check(asks(operation::flush, 12345, 7), plain));
}

TEST(ublk_wire, refuses_what_does_not_fit_the_disk) {
    for (const io_descriptor& d :
         {asks(operation::read, 4, 8), asks(operation::read, 0, 4), asks(operation::read, 0, 0),
          asks(operation::read, 7992, 16), asks(operation::read, 8000, 8),
          asks(operation::write_zeroes, UINT64_MAX - 7, 8),
          asks(operation::discard, UINT64_MAX / 8 * 8, 4294967288U),
          asks(operation::read, 0, 2056)}) {
        const auto r = check(d, plain);
        ASSERT_FALSE(r) << d.first_sector << '+' << d.sectors;
        EXPECT_TRUE(r.error().is(EINVAL));
    }
    for (const std::uint32_t unknown : {4U, 6U, 9U, 16U, 17U, 19U, 33U, 255U})
        EXPECT_TRUE(check({unknown, 8, 0, 0}, plain).error().is(EOPNOTSUPP)) << unknown;
    EXPECT_TRUE(check(asks(operation::zone_append, 0, 8), plain).error().is(EOPNOTSUPP));
    EXPECT_TRUE(check(asks(operation::zone_reset_all, 0, 0), plain).error().is(EOPNOTSUPP));
}

TEST(ublk_wire, refuses_changes_of_a_disk_that_is_read_only) {
    geometry fixed = plain;
    fixed.writable = false;
    for (const operation o : {operation::write, operation::discard, operation::write_zeroes})
        EXPECT_TRUE(check(asks(o, 0, 8), fixed).error().is(EROFS));
    EXPECT_TRUE(check(asks(operation::read, 0, 8), fixed));
}

constexpr geometry zoned{
    .block_bytes = 4096, .blocks = 1024, .zone_blocks = 128, .io_bytes_max = 4096};

TEST(ublk_wire, takes_zone_commands_at_the_start_of_a_zone_only) {
    for (const operation o : {operation::zone_open, operation::zone_close, operation::zone_finish,
                              operation::zone_reset}) {
        ASSERT_TRUE(check(asks(o, 1024, 0), zoned));
        EXPECT_EQ(check(asks(o, 1024, 0), zoned)->first, 128U);
        EXPECT_TRUE(check(asks(o, 1032, 0), zoned).error().is(EINVAL));
        EXPECT_TRUE(check(asks(o, 8192, 0), zoned).error().is(EINVAL));
    }
    EXPECT_TRUE(check(asks(operation::zone_append, 1024, 8), zoned));
    EXPECT_TRUE(check(asks(operation::zone_append, 1032, 8), zoned).error().is(EINVAL));
    EXPECT_TRUE(check(asks(operation::zone_reset_all, 0, 0), zoned));
}

TEST(ublk_wire, reports_no_more_zones_than_there_are_and_fit) {
    auto r = check(asks(operation::zone_report, 0, 1000), zoned);
    ASSERT_TRUE(r);
    EXPECT_EQ(r->blocks, 8U);
    EXPECT_EQ(r->bytes, 512U);
    EXPECT_EQ(check(asks(operation::zone_report, 7168, 5), zoned)->blocks, 1U);
    geometry many = zoned;
    many.blocks = 128 * 1000;
    EXPECT_EQ(check(asks(operation::zone_report, 0, 1000), many)->blocks, 64U);
    EXPECT_TRUE(check(asks(operation::zone_report, 0, 0), zoned).error().is(EINVAL));
}

TEST(ublk_wire, shows_zones_as_linux_counts_them) {
    zone_report_entry entry{};
    fill_report(entry, {lba(128), block_count(100), lba(130), zone_state::implicitly_open}, zoned);
    EXPECT_EQ(entry.start, 1024U);
    EXPECT_EQ(entry.length, 1024U);
    EXPECT_EQ(entry.capacity, 800U);
    EXPECT_EQ(entry.write_pointer, 1040U);
    EXPECT_EQ(entry.type, 2);
    EXPECT_EQ(entry.condition, 2);
    fill_report(entry, {lba(128), block_count(100), lba(), zone_state::full}, zoned);
    EXPECT_EQ(entry.write_pointer, 2048U);
    EXPECT_EQ(entry.condition, 14);
}

TEST(ublk_wire, answers_with_errors_that_the_kernel_has_a_status_for) {
    EXPECT_EQ(to_result(error()), 0);
    EXPECT_EQ(to_result(error::posix(ENOSPC)), -ENOSPC);
    EXPECT_EQ(to_result(error::posix(EPERM)), -EIO);
    EXPECT_EQ(to_result(error::posix(ENOMEM)), -EIO);
    EXPECT_EQ(to_result(zone_error::too_many_open), -ETOOMANYREFS);
    EXPECT_EQ(to_result(zone_error::too_many_active), -EOVERFLOW);
    EXPECT_EQ(to_result(zone_error::invalid_write), -EINVAL);
    EXPECT_EQ(to_result(error::nvme(2, 0x81)), -EIO);
}

// --- Disks --------------------------------------------------------------------------------------

class drawn_bdev final : public bdev {
public:
    explicit drawn_bdev(bdev_attributes a) : bdev(std::move(a)) {}
    outcome<std::unique_ptr<module_channel>> make_channel() override {
        return fail(ENOTSUP, "is looked at only");
    }
};

bdev_attributes attributes(std::uint64_t block_bytes, std::uint64_t blocks) {
    bdev_attributes a;
    a.name = "drawn";
    a.block_size = byte_count(block_bytes);
    a.blocks = block_count(blocks);
    a.operations = bit(opcode::read) | bit(opcode::write) | bit(opcode::flush);
    return a;
}

TEST(ublk_disk, has_the_size_and_the_blocks_of_its_bdev) {
    bdev_attributes a = attributes(512, 1000);
    a.physical_block_size = 4096;
    a.write_cache = true;
    a.operations |= bit(opcode::unmap);
    const auto p = describe_disk(drawn_bdev(a), 1 << 20);
    ASSERT_TRUE(p);
    EXPECT_EQ(p->device_sectors, 1000U);
    EXPECT_EQ(p->logical_block_shift, 9);
    EXPECT_EQ(p->physical_block_shift, 12);
    EXPECT_EQ(p->sectors_max, 2048U);
    EXPECT_EQ(p->attributes, attribute::volatile_cache | attribute::fua);
    EXPECT_EQ(p->kinds, parameters_of::basic | parameters_of::discard);
    EXPECT_EQ(p->discard_granularity, 512U);
    EXPECT_NE(p->discard_sectors_max, 0U);
    EXPECT_NE(p->write_zeroes_sectors_max, 0U);
}

TEST(ublk_disk, of_a_bdev_that_cannot_be_written_is_read_only) {
    bdev_attributes a = attributes(4096, 10);
    a.operations = bit(opcode::read);
    const auto p = describe_disk(drawn_bdev(a), 1 << 20);
    ASSERT_TRUE(p);
    EXPECT_EQ(p->attributes, attribute::read_only);
    EXPECT_EQ(p->kinds, parameters_of::basic);
}

TEST(ublk_disk, of_a_zoned_bdev_says_its_zones) {
    bdev_attributes a = attributes(4096, 1024);
    a.zoned.zone_size = block_count(128);
    a.zoned.zone_capacity = block_count(100);
    a.zoned.open_zones_max = 3;
    a.zoned.active_zones_max = 8;  // all of them: no limit
    const auto p = describe_disk(drawn_bdev(a), 1 << 20);
    ASSERT_TRUE(p);
    EXPECT_EQ(p->kinds, parameters_of::basic | parameters_of::zoned);
    EXPECT_EQ(p->chunk_sectors, 1024U);
    EXPECT_EQ(p->open_zones_max, 3U);
    EXPECT_EQ(p->active_zones_max, 0U);
    EXPECT_EQ(p->append_sectors_max, 800U);
}

TEST(ublk_disk, is_refused_with_the_reason) {
    bdev_attributes a = attributes(65536, 10);
    EXPECT_NE(describe_disk(drawn_bdev(a), 1 << 20).error().message.find("blocks of 65536"),
              std::string::npos);
    a = attributes(4096, 900);
    a.zoned.zone_size = block_count(100);
    EXPECT_NE(describe_disk(drawn_bdev(a), 1 << 20).error().message.find("powers of two"),
              std::string::npos);
    a = attributes(4096, 200);
    a.zoned.zone_size = block_count(128);
    EXPECT_NE(describe_disk(drawn_bdev(a), 1 << 20).error().message.find("part of a zone"),
              std::string::npos);
    a = attributes(4096, 200);
    a.metadata_size = 8;
    a.metadata_interleaved = true;
    EXPECT_FALSE(describe_disk(drawn_bdev(a), 1 << 20));
}

}  // namespace
}  // namespace nacre::ublk
