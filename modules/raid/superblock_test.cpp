// SPDX-License-Identifier: BSD-3-Clause
#include "modules/raid/superblock.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "modules/raid/intent_bitmap.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/crc32c.hpp"
#include "nacre/core/random.hpp"

namespace nacre::raid {
namespace {

/// The first bytes of a leg that a real SPDK wrote.
std::vector<std::byte> spdk_leg(const char* name) {
    const std::string command =
        std::string("gzip -dc " NACRE_SOURCE_DIR "/modules/raid/testdata/") + name;
    std::vector<std::byte> bytes(65536);
    FILE* pipe = popen(command.c_str(), "r");
    EXPECT_NE(pipe, nullptr);
    EXPECT_EQ(fread(bytes.data(), 1, bytes.size(), pipe), bytes.size());
    pclose(pipe);
    return bytes;
}

superblock two_legs() {
    superblock sb;
    sb.id = *uuid::parse("227e3499-16f2-4e42-aced-dbd6e9818cc3");
    sb.name = "R1";
    sb.blocks = 5888;
    sb.block_size = 4096;
    sb.sequence = 2;
    sb.slots = 2;
    for (std::uint8_t i = 0; i < 2; ++i)
        sb.legs.push_back({.id = *uuid::parse(i == 0 ? "11111111-2222-4333-8444-555555555501"
                                                     : "11111111-2222-4333-8444-555555555502"),
                           .data_offset = 256,
                           .data_size = 5888,
                           .state = leg_state::configured,
                           .slot = i});
    return sb;
}

TEST(superblock, of_a_real_spdk_is_read) {
    auto sb = superblock::decode(spdk_leg("raid1-leg_a.img.gz"));
    ASSERT_TRUE(sb) << sb.error().message;
    const superblock expected = two_legs();
    EXPECT_EQ(sb->id, expected.id);
    EXPECT_EQ(sb->name, "R1");
    EXPECT_EQ(sb->blocks, 5888U);
    EXPECT_EQ(sb->block_size, 4096U);
    EXPECT_EQ(sb->level, 1U);
    EXPECT_EQ(sb->sequence, 2U);
    EXPECT_EQ(sb->slots, 2U);
    EXPECT_EQ(sb->legs, expected.legs);
}

TEST(superblock, is_written_byte_for_byte_as_spdk_writes_it) {
    const auto original = spdk_leg("raid1-leg_b.img.gz");
    superblock sb = two_legs();
    const auto ours = sb.encode();
    ASSERT_EQ(ours.size(), 4096U);
    EXPECT_TRUE(std::equal(ours.begin(), ours.end(), original.begin()));
}

TEST(superblock, that_lost_any_one_bit_is_refused) {
    superblock sb = two_legs();
    const auto good = sb.encode();
    for (std::size_t bit = 0; bit < sb.length() * 8; ++bit) {
        auto bad = good;
        bad[bit / 8] ^= std::byte{1} << (bit % 8);
        EXPECT_FALSE(superblock::decode(bad)) << "bit " << bit;
    }
}

TEST(superblock, of_random_bytes_behind_a_right_signature_is_refused) {
    prng dice(7);
    for (int i = 0; i < 2000; ++i) {
        std::vector<std::byte> bytes(dice.below(20000));
        dice.fill(bytes);
        if (bytes.size() >= 16) {
            std::ranges::copy(bytes_of("SPDKRAID"), bytes.begin());
            store_le<std::uint32_t>(bytes.data() + 12,
                                    static_cast<std::uint32_t>(dice.below(20000)));
        }
        EXPECT_FALSE(superblock::decode(bytes));
    }
}

TEST(superblock, with_many_legs_takes_several_blocks) {
    superblock sb = two_legs();
    sb.block_size = 512;
    sb.slots = 30;
    sb.legs.clear();
    for (std::uint8_t i = 0; i < 30; ++i)
        sb.legs.push_back({.id = uuid(), .state = leg_state::failed, .slot = i});
    const auto bytes = sb.encode();
    EXPECT_EQ(bytes.size(), 2560U);
    auto back = superblock::decode(bytes);
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(back->legs, sb.legs);
    EXPECT_EQ(*superblock::length_of(bytes), sb.length());
    EXPECT_FALSE(superblock::decode(std::span(bytes).first(512)));
}

TEST(intent_geometry, keeps_regions_between_64_kib_and_what_the_slot_has_bits_for) {
    EXPECT_EQ(intent_geometry::of(262144, 4096).region_shift, 4U);  // 1 GiB: 64 KiB
    EXPECT_EQ(intent_geometry::of(262144, 4096).region_count, 16384U);
    EXPECT_EQ(intent_geometry::of(1, 65536).region_count, 1U);
    for (const std::uint32_t block_size : {512U, 4096U, 65536U})
        for (std::uint64_t blocks = 1; blocks < (1ULL << 44); blocks = blocks * 3 + 1) {
            const auto g = intent_geometry::of(blocks, block_size);
            EXPECT_LE(g.region_count, g.regions_max);
            EXPECT_GE(std::uint64_t{block_size} << g.region_shift, g.region_bytes_min);
            EXPECT_GE(std::uint64_t{g.region_count} << g.region_shift, blocks);
            EXPECT_LT(g.region_of(blocks - 1), g.region_count);
            EXPECT_LE(g.end_bytes(), 1U << 20);
            EXPECT_GE(g.slot_block(0) * block_size, superblock::bytes_max);
        }
}

TEST(intent_slot, comes_back_as_it_was_written) {
    superblock sb = two_legs();
    (void)sb.encode();
    const auto g = intent_geometry::of(sb.blocks, sb.block_size);
    intent_slot slot{.array = sb.id,
                     .sequence = sb.sequence,
                     .superblock_crc = sb.crc,
                     .generation = 9,
                     .dirty = region_set(g.region_count)};
    slot.dirty.set(0);
    slot.dirty.set(77);
    slot.dirty.set(g.region_count - 1);
    auto back = intent_slot::decode(slot.encode(g), g, sb);
    ASSERT_TRUE(back);
    EXPECT_EQ(back->generation, 9U);
    EXPECT_EQ(back->dirty, slot.dirty);
}

TEST(intent_slot, of_another_superblock_or_torn_is_refused) {
    superblock sb = two_legs();
    (void)sb.encode();
    const auto g = intent_geometry::of(sb.blocks, sb.block_size);
    const intent_slot slot{.array = sb.id,
                           .sequence = sb.sequence,
                           .superblock_crc = sb.crc,
                           .generation = 1,
                           .dirty = region_set(g.region_count, true)};
    const auto bytes = slot.encode(g);
    ASSERT_TRUE(intent_slot::decode(bytes, g, sb));
    superblock newer = sb;
    ++newer.sequence;
    EXPECT_FALSE(intent_slot::decode(bytes, g, newer));
    superblock same_sequence = sb;
    same_sequence.legs[1].state = leg_state::failed;
    (void)same_sequence.encode();
    EXPECT_FALSE(intent_slot::decode(bytes, g, same_sequence));
    EXPECT_FALSE(intent_slot::decode(bytes, intent_geometry::of(sb.blocks * 100, 4096), sb));
    auto torn = bytes;
    std::fill(torn.begin(), torn.begin() + 512, std::byte{0});
    EXPECT_FALSE(intent_slot::decode(torn, g, sb));
    EXPECT_FALSE(intent_slot::decode(std::span(bytes).first(100), g, sb));
}

TEST(region_set, finds_the_next_one_across_words) {
    region_set set(200);
    EXPECT_EQ(set.next(0), 200U);
    EXPECT_TRUE(set.empty());
    set.set(3);
    set.set(64);
    set.set(199);
    EXPECT_EQ(set.next(0), 3U);
    EXPECT_EQ(set.next(4), 64U);
    EXPECT_EQ(set.next(65), 199U);
    EXPECT_EQ(set.count(), 3U);
    EXPECT_EQ(region_set(200, true).count(), 200U);
}

TEST(raid_superblock, a_name_that_does_not_end_is_damage) {
    superblock sb = two_legs();
    sb.name = std::string(superblock::name_bytes_max, 'n');
    aligned_bytes bytes = sb.encode();
    const auto decoded = superblock::decode(bytes);
    EXPECT_TRUE(decoded && decoded->name == sb.name);
    bytes[40 + superblock::name_bytes_max] = std::byte{'n'};
    store_le<std::uint32_t>(bytes.data() + 16, 0);
    store_le<std::uint32_t>(bytes.data() + 16, crc32c_raw(std::span(bytes).first(sb.length()), 0));
    const auto refused = superblock::decode(bytes);
    EXPECT_TRUE(!refused && refused.error().code.is(EILSEQ));
}

}  // namespace
}  // namespace nacre::raid
