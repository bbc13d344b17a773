// SPDX-License-Identifier: BSD-3-Clause
#include "fuse_handles.hpp"

#include <gtest/gtest.h>

#include <set>

namespace nacre::fuse {
namespace {

TEST(fuse_handles, find_what_is_open_and_nothing_else) {
    handle_table table;
    EXPECT_EQ(table.find(0), nullptr);
    EXPECT_EQ(table.take_any(), nullptr);
    auto made = std::make_unique<open_node>();
    open_node* const node = made.get();
    const result<std::uint64_t> number = table.insert(std::move(made));
    ASSERT_TRUE(number);
    EXPECT_EQ(table.find(*number), node);
    EXPECT_EQ(table.find(*number + 1), nullptr);
    EXPECT_EQ(table.find(*number + (std::uint64_t{1} << 32)), nullptr);
    EXPECT_EQ(table.find(UINT64_MAX), nullptr);
    EXPECT_EQ(table.take(*number).get(), node);
    EXPECT_EQ(table.find(*number), nullptr);
    EXPECT_EQ(table.take(*number), nullptr);
    // The slot's next user has another number.
    const result<std::uint64_t> again = table.insert(std::make_unique<open_node>());
    ASSERT_TRUE(again);
    EXPECT_NE(*again, *number);
    EXPECT_EQ(table.find(*number), nullptr);
    EXPECT_NE(table.take_any(), nullptr);
    EXPECT_EQ(table.size(), 0U);
}

TEST(fuse_handles, are_as_many_as_are_needed) {
    handle_table table;
    std::set<std::uint64_t> numbers;
    for (int i = 0; i < 1000; ++i) {
        const result<std::uint64_t> n = table.insert(std::make_unique<open_node>());
        ASSERT_TRUE(n);
        EXPECT_NE(*n, 0U);
        numbers.insert(*n);
    }
    EXPECT_EQ(numbers.size(), 1000U);
    for (const std::uint64_t n : numbers) EXPECT_NE(table.take(n), nullptr);
    EXPECT_EQ(table.size(), 0U);
}

}  // namespace
}  // namespace nacre::fuse
