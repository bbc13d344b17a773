// SPDX-License-Identifier: BSD-3-Clause
#include "block_stamps.hpp"

#include <gtest/gtest.h>

namespace nacre::cli {
namespace {

constexpr std::size_t block_bytes = 512;
using block = std::vector<std::byte>;

block written(block_stamps& stamps, std::uint64_t position) {
    block b(block_bytes);
    stamps.fill(position, b);
    stamps.note_written(position);
    return b;
}

std::string problem(const block_stamps& stamps, std::uint64_t position, const block& b) {
    outcome<> checked = stamps.check(position, b);
    return checked ? "" : checked.error().message;
}

TEST(block_stamps, know_what_they_wrote) {
    block_stamps stamps(8, 100, 1);
    EXPECT_FALSE(stamps.written(3));
    const block b = written(stamps, 3);
    EXPECT_TRUE(stamps.written(3));
    EXPECT_EQ(problem(stamps, 3, b), "");
}

TEST(block_stamps, tell_a_lost_a_misdirected_and_an_altered_write) {
    block_stamps stamps(8, 100, 1);
    const block old = written(stamps, 3);
    const block other = written(stamps, 4);
    const block last = written(stamps, 3);
    EXPECT_EQ(problem(stamps, 3, old), "block 103: holds write 1 of 2");
    EXPECT_EQ(problem(stamps, 3, other), "block 103: holds what was written to block 104");
    EXPECT_NE(problem(stamps, 3, block(block_bytes)), "");
    for (std::size_t i = 0; i < block_bytes; ++i) {
        block altered = last;
        altered[i] ^= std::byte{1};
        EXPECT_NE(problem(stamps, 3, altered), "") << "byte " << i;
    }
    block torn = old;
    std::copy(last.begin(), last.begin() + 256, torn.begin());
    EXPECT_NE(problem(stamps, 3, torn), "");
    block_stamps another_run(8, 100, 2);
    EXPECT_NE(problem(stamps, 3, written(another_run, 3)), "");
}

TEST(block_stamps, let_a_position_fly_once) {
    block_stamps stamps(8, 0, 1);
    EXPECT_TRUE(stamps.begin(5));
    EXPECT_FALSE(stamps.begin(5));
    EXPECT_TRUE(stamps.begin(6));
    stamps.end(5);
    EXPECT_TRUE(stamps.begin(5));
}

}  // namespace
}  // namespace nacre::cli
