// SPDX-License-Identifier: BSD-3-Clause
//
// Where a concat keeps what, as SPDK has it.
#include "modules/raid/concat/concat.hpp"

#include "modules/raid/test_bed.hpp"

namespace nacre::raid {
namespace {

TEST(concat, holds_one_leg_after_the_other_in_whole_strips) {
    test_bed bed;
    bed.world.make_file("/a", data_at + 37 * block_bytes);  // 9 strips of 4 blocks, and one block
    bed.live([](test_bed& b) -> task<void> {
        raid_options o = test_bed::options_of(raid_level::concat, "bac");
        o.superblock = true;
        co_await b.make(std::move(o));
        EXPECT_EQ(b.registry->find("r0")->blocks().value(), 768U + 36 + 768);
        EXPECT_EQ(b.registry->find("r0")->attributes().optimal_boundary.value(), 4U);
        EXPECT_EQ(b.shown()["raid_level"].as_string(), "concat");
        EXPECT_EQ(b.shown()["base_bdevs_list"][1]["data_size"].as_uint64(), 36U);
        for (const std::uint64_t block : {0U, 767U, 768U, 803U, 804U, 1571U}) {
            result<> written = co_await b.write(block, 3);
            EXPECT_TRUE(written);
        }
    });
    const struct {
        std::uint64_t block;
        const char* disk;
        std::uint64_t there;
    } expected[] = {{0, "b", 0},    {767, "b", 767}, {768, "a", 0},
                    {803, "a", 35}, {804, "c", 0},   {1571, "c", 767}};
    for (const auto& e : expected) {
        std::vector<std::byte> data(block_bytes);
        bed.disk(e.disk).peek(data_at + e.there * block_bytes, data);
        EXPECT_EQ(test_bed::version_of(e.block, data), 3U) << e.block;
    }
    const superblock sb = bed.superblock_on("a");
    EXPECT_EQ(sb.level, 99U);
    EXPECT_EQ(sb.strip_size, 4U);
    EXPECT_EQ(sb.blocks, 768U + 36 + 768);
    EXPECT_EQ(sb.legs[0].data_size, 768U);
    EXPECT_EQ(sb.legs[1].data_size, 36U);
}

TEST(concat, is_made_by_a_uri) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug_all("ab");
        outcome<uri> address = uri::parse("concat:///r7?base=a,b&strip_size_kb=4&superblock=true");
        EXPECT_TRUE(address);
        outcome<std::string> made = co_await create_raid_from_uri(*b.registry, *address);
        EXPECT_TRUE(made) << made.error().message;
        EXPECT_EQ(b.registry->find("r7")->blocks().value(), 2 * 768U);
    });
}

}  // namespace
}  // namespace nacre::raid
