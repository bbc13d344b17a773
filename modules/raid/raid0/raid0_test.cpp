// SPDX-License-Identifier: BSD-3-Clause
//
// Where a raid0 keeps what, as SPDK has it.
#include "modules/raid/raid0/raid0.hpp"

#include "modules/raid/test_bed.hpp"

namespace nacre::raid {
namespace {

constexpr std::uint64_t strip = 4;  // of 16 KiB

TEST(raid0, deals_its_strips_out_in_turn_as_spdk_does) {
    for (const bool superblock : {true, false}) {
        test_bed bed;
        bed.live(superblock ? [](test_bed& b) -> task<void> {
            raid_options o = test_bed::options_of(raid_level::raid0, "abc");
            o.superblock = true;
            co_await b.make(std::move(o));
            for (std::uint64_t block = 0; block < 100; ++block) {
                result<> written = co_await b.write(block, 3);
                EXPECT_TRUE(written);
            }
        } : [](test_bed& b) -> task<void> {
            raid_options o = test_bed::options_of(raid_level::raid0, "abc");
            co_await b.make(std::move(o));
            for (std::uint64_t block = 0; block < 100; ++block) {
                result<> written = co_await b.write(block, 3);
                EXPECT_TRUE(written);
            }
        });
        for (std::uint64_t block = 0; block < 100; ++block) {
            const std::uint64_t s = block / strip;
            const std::string disk(1, static_cast<char>('a' + s % 3));
            const std::uint64_t there = s / 3 * strip + block % strip;
            std::vector<std::byte> data(block_bytes);
            bed.disk(disk).peek((superblock ? data_at : 0) + there * block_bytes, data);
            EXPECT_EQ(test_bed::version_of(block, data), 3U) << block;
        }
    }
}

TEST(raid0, says_so_in_its_superblock_as_spdk_does) {
    test_bed bed;
    bed.world.make_file("/b", disk_bytes + 3 * 65536 + 12288);  // 51 blocks more
    bed.live([](test_bed& b) -> task<void> {
        raid_options o = test_bed::options_of(raid_level::raid0, "bac");
        o.strip_size_kb = 64;
        o.superblock = true;
        co_await b.make(std::move(o));
        EXPECT_EQ(b.registry->find("r0")->blocks().value(), 3 * 768U);
        EXPECT_EQ(b.registry->find("r0")->attributes().optimal_boundary.value(), 16U);
        EXPECT_EQ(b.shown()["strip_size_kb"].as_uint64(), 64U);
        EXPECT_EQ(b.shown()["raid_level"].as_string(), "raid0");
        EXPECT_EQ(b.shown()["num_base_bdevs_operational"].as_uint64(), 3U);
        EXPECT_EQ(b.shown()["base_bdevs_list"][0]["data_size"].as_uint64(), 768U);
    });
    const superblock sb = bed.superblock_on("c");
    EXPECT_EQ(sb.level, 0U);
    EXPECT_EQ(sb.strip_size, 16U);
    EXPECT_EQ(sb.blocks, 3 * 768U);
    EXPECT_EQ(sb.block_size, block_bytes);
    EXPECT_EQ(sb.sequence, 1U);
    EXPECT_EQ(sb.slots, 3U);
    for (std::size_t i = 0; i < 3; ++i) {
        EXPECT_EQ(sb.legs[i].id, test_bed::id_of(std::string(1, "bac"[i])));
        EXPECT_EQ(sb.legs[i].data_offset, 256U);
        EXPECT_EQ(sb.legs[i].data_size, 768U);
        EXPECT_EQ(sb.legs[i].slot, i);
    }
}

/// What SPDK writes: every number at its place, without our encoder.
std::vector<std::byte> superblock_of_spdk(std::uint64_t sequence) {
    std::vector<std::byte> bytes(block_bytes);
    const auto put = [&](std::size_t at, std::uint64_t value, std::size_t length) {
        for (std::size_t i = 0; i < length; ++i)
            bytes[at + i] = static_cast<std::byte>(value >> (8 * i));
    };
    const auto text = [&](std::size_t at, std::string_view s) {
        for (std::size_t i = 0; i < s.size(); ++i) bytes[at + i] = static_cast<std::byte>(s[i]);
    };
    text(0, "SPDKRAID");
    put(8, 1, 2);
    put(12, 256 + 2 * 64, 4);
    std::ranges::copy(test_bed::id_of("made by spdk").bytes(), bytes.begin() + 24);
    text(40, "Raid0");
    put(104, 2 * 640, 8);
    put(112, block_bytes, 4);
    put(116, 0, 4);
    put(120, 32, 4);
    put(128, sequence, 8);
    put(136, 2, 1);
    put(255, 2, 1);
    for (std::size_t i = 0; i < 2; ++i) {
        const std::size_t at = 256 + 64 * i;
        std::ranges::copy(test_bed::id_of(i == 0 ? "a" : "b").bytes(),
                          bytes.begin() + static_cast<std::ptrdiff_t>(at));
        put(at + 16, 320, 8);  // SPDK rounds up to the leg's optimal boundary
        put(at + 24, 640, 8);
        put(at + 32, 1, 4);
        put(at + 40, i, 1);
    }
    std::uint32_t crc = 0;  // CRC-32C, bit by bit: nothing inverted
    for (std::size_t i = 0; i < 256 + 2 * 64; ++i) {
        crc ^= std::to_integer<std::uint32_t>(bytes[i]);
        for (int k = 0; k < 8; ++k) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82F63B78U : 0);
    }
    put(16, crc, 4);
    return bytes;
}

TEST(raid0, of_spdk_assembles_and_its_superblock_stays_as_it_was) {
    test_bed bed;
    for (const char* disk : {"a", "b"}) bed.disk(disk).poke(0, superblock_of_spdk(7));
    // Block 33 of the array: the second strip, so on b.
    std::vector<std::byte> data(block_bytes, test_bed::pattern(33, 5));
    bed.disk("b").poke((320 + 1) * block_bytes, data);
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug_all("ba");
        bdev* const device = b.registry->find("Raid0");
        EXPECT_NE(device, nullptr);
        if (device == nullptr) co_return;
        EXPECT_EQ(device->blocks().value(), 1280U);
        EXPECT_EQ(device->attributes().id, test_bed::id_of("made by spdk"));
        outcome<bdev_desc> desc = b.registry->open("Raid0", access::write);
        outcome<bdev_channel> channel = desc->open_channel();
        std::vector<std::byte> block(block_bytes);
        const iov_view view(block.data(), block.size());
        result<> got = co_await channel->read(lba(33), view);
        EXPECT_TRUE(got);
        EXPECT_EQ(test_bed::version_of(33, block), 5U);
        got = co_await channel->write(lba(1279), view);
        EXPECT_TRUE(got);
        got = co_await channel->write(lba(1280), view);
        EXPECT_TRUE(got.error().is(ERANGE));
    });
    for (const char* disk : {"a", "b"}) {
        std::vector<std::byte> now(block_bytes);
        bed.disk(disk).peek_durable(0, now);
        EXPECT_EQ(now, superblock_of_spdk(7));
    }
}

TEST(raid0, is_made_by_a_uri_and_saved_as_a_call) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug_all("ab");
        outcome<uri> address = uri::parse("raid0:///r7?base=a,b&strip_size_kb=64");
        EXPECT_TRUE(address);
        outcome<std::string> made = co_await create_raid_from_uri(*b.registry, *address);
        EXPECT_TRUE(made) << made.error().message;
        const json::value saved = b.registry->find("r7")->configuration();
        EXPECT_EQ(saved["method"].as_string(), "bdev_raid_create");
        EXPECT_EQ(saved["params"]["raid_level"].as_string(), "raid0");
        EXPECT_EQ(saved["params"]["strip_size_kb"].as_uint64(), 64U);
        EXPECT_EQ(saved["params"]["base_bdevs"].dump(), "[\"a\",\"b\"]");
        address = uri::parse("raid0:///r8?base=c");
        made = co_await create_raid_from_uri(*b.registry, *address);
        EXPECT_FALSE(made) << "without a strip size";
    });
}

}  // namespace
}  // namespace nacre::raid
