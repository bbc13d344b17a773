// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/core/cpu_set.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace nacre {
namespace {

std::string list_of(std::string_view text) {
    const outcome<cpu_set> set = cpu_set::parse(text);
    return set ? set->to_list() : set.error().message;
}
std::string list_of_mask(std::string_view text) {
    const outcome<cpu_set> set = cpu_set::parse_mask(text);
    return set ? set->to_list() : set.error().message;
}

TEST(cpu_set, reads_lists_and_masks) {
    EXPECT_EQ(list_of("0-3,5"), "0-3,5");
    EXPECT_EQ(list_of("[0,1]"), "0-1");
    EXPECT_EQ(list_of("[0-1, 7]"), "0-1,7");
    EXPECT_EQ(list_of("0x3"), "0-1");
    EXPECT_EQ(list_of("0XfF00"), "8-15");
    EXPECT_EQ(list_of("3"), "3");
    EXPECT_EQ(list_of(" 2 "), "2");
    EXPECT_EQ(list_of("5,1,1,0-2"), "0-2,5");
    EXPECT_EQ(list_of("1023"), "1023");
}

TEST(cpu_set, reads_a_bare_number_as_a_mask_where_spdk_does) {
    EXPECT_EQ(list_of_mask("3"), "0-1");
    EXPECT_EQ(list_of_mask("0xF"), "0-3");
    EXPECT_EQ(list_of_mask("[3]"), "3");
    EXPECT_EQ(list_of_mask("1,00000001"), "0,32");
    EXPECT_EQ(list_of_mask("0"), "");
}

TEST(cpu_set, refuses_what_is_neither) {
    for (const char* text : {"", " ", "[", "[]", "[0", "0-", "-1", "3-1", "a", "0,,1", "0,", "1024",
                             "0-9999999999", "0x", "0xg", "1 2", "1-2-3"})
        EXPECT_FALSE(cpu_set::parse(text)) << text;
    EXPECT_FALSE(cpu_set::parse_mask(""));
    EXPECT_FALSE(cpu_set::parse_mask("0-3"));
    EXPECT_FALSE(cpu_set::parse_mask("1" + std::string(256, '0')));
    EXPECT_TRUE(cpu_set::parse_mask("8" + std::string(255, '0')));
    const outcome<cpu_set> wrong = cpu_set::parse("3-1");
    EXPECT_EQ(wrong.error().message,
              "\"3-1\" is not a set of processors: a range ends before it begins");
}

TEST(cpu_set, writes_masks_as_spdk_does) {
    EXPECT_EQ(cpu_set({0}).to_mask(), "1");
    EXPECT_EQ(cpu_set({0, 1, 2, 3}).to_mask(), "f");
    EXPECT_EQ(cpu_set({4, 64}).to_mask(), "10000000000000010");
    EXPECT_EQ(cpu_set().to_mask(), "0");
    EXPECT_EQ(cpu_set().to_list(), "");
    EXPECT_EQ(cpu_set({0, 2, 3, 63, 64}).to_list(), "0,2-3,63-64");
}

TEST(cpu_set, iterates_in_ascending_order) {
    const cpu_set set{1023, 0, 63, 64, 5};
    std::vector<unsigned> seen;
    for (const unsigned cpu : set) seen.push_back(cpu);
    EXPECT_EQ(seen, (std::vector<unsigned>{0, 5, 63, 64, 1023}));
    EXPECT_EQ(set.count(), 5u);
    EXPECT_EQ(set.first(), 0u);
    EXPECT_EQ(set.next(5), 63u);
    EXPECT_EQ(set.next(1023), std::nullopt);
    EXPECT_EQ(cpu_set().first(), std::nullopt);
    EXPECT_TRUE(cpu_set().begin() == cpu_set().end());
}

TEST(cpu_set, has_the_operations_of_sets) {
    const cpu_set a{0, 1, 2};
    const cpu_set b{2, 3};
    EXPECT_EQ((a | b).to_list(), "0-3");
    EXPECT_EQ((a & b).to_list(), "2");
    EXPECT_EQ((a - b).to_list(), "0-1");
    EXPECT_TRUE(a.contains(1));
    EXPECT_FALSE(a.contains(3));
    EXPECT_FALSE(a.contains(5000));
    cpu_set c = a;
    c.remove(0);
    EXPECT_NE(c, a);
    c.add(0);
    EXPECT_EQ(c, a);
    c.clear();
    EXPECT_TRUE(c.empty());
}

TEST(cpu_set_death, has_room_for_1024) {
    cpu_set set;
    EXPECT_DEATH(set.add(1024), "assertion failed");
}

}  // namespace
}  // namespace nacre
