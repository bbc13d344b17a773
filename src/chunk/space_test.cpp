// SPDX-License-Identifier: BSD-3-Clause
#include "space.hpp"

#include <gtest/gtest.h>

namespace nacre::chunks {
namespace {

constexpr std::uint64_t segment_bytes = set_pages * page_bytes;

TEST(chunk_space, is_given_out_from_a_segment_of_each_lanes_own) {
    space s(segment_bytes);
    s.add_segment(0);
    s.add_segment(1);
    EXPECT_EQ(s.take(0, 10, false), (extent{0, 10}));
    EXPECT_EQ(s.take(1, 10, false), (extent{512, 10}));
    EXPECT_EQ(s.take(0, 10, false), (extent{10, 10}));
    EXPECT_EQ(s.take(2, 10, false), std::nullopt);
    EXPECT_EQ(s.take(2, 10, true), (extent{20, 10}));
    EXPECT_EQ(s.taken_pages(), 40U);
    EXPECT_EQ(s.unused_number(), 2U);
}

TEST(chunk_space, that_is_given_back_is_found_again_around_the_end) {
    space s(segment_bytes);
    s.add_segment(0);
    EXPECT_EQ(s.take(0, 500, false), (extent{0, 500}));
    s.give_back({{3, 2}, {64, 1}});
    EXPECT_EQ(s.take(0, 100, false), (extent{500, 12}));
    EXPECT_EQ(s.take(0, 100, false), (extent{3, 2}));
    EXPECT_EQ(s.take(0, 100, false), (extent{64, 1}));
    EXPECT_EQ(s.take(0, 1, false), std::nullopt);
    s.give_back({{0, 512}});
    EXPECT_EQ(s.taken_pages(), 0U);
}

TEST(chunk_space, that_is_empty_goes_but_for_what_lanes_have_and_some) {
    space s(segment_bytes);
    for (std::uint64_t i = 0; i < 4; ++i) s.add_segment(i);
    EXPECT_EQ(s.take(0, 1, false), (extent{0, 1}));
    EXPECT_EQ(s.drop_empty(1), (std::vector<std::uint64_t>{2, 3}));
    s.give_back({{0, 1}});
    EXPECT_EQ(s.drop_empty(0), (std::vector<std::uint64_t>{1}));
    EXPECT_TRUE(s.has_segment(0));
}

TEST(chunk_space, is_restored_from_records) {
    space s(2 * segment_bytes);
    s.add_segment(1);
    used_set bits;
    bits[0] = bits[511] = true;
    EXPECT_FALSE(s.restore(0, bits));
    EXPECT_TRUE(s.restore(2, bits));
    EXPECT_TRUE(s.restore(3, bits));
    EXPECT_EQ(s.taken_pages(), 4U);
    EXPECT_EQ(s.take(0, 2000, false), (extent{1025, 510}));
    EXPECT_EQ(s.durable(3), bits);
}

TEST(chunk_space, pages_that_follow_each_other_are_one_extent) {
    std::vector<extent> all;
    for (const std::uint64_t place : {5, 6, 7, 9, 4}) append(all, place);
    EXPECT_EQ(all, (std::vector<extent>{{5, 3}, {9, 1}, {4, 1}}));
}

}  // namespace
}  // namespace nacre::chunks
