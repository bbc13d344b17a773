// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/core/crc16.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace nacre {
namespace {

std::uint16_t of(std::span<const std::byte> data, std::uint16_t seed = 0) {
    return crc16_t10dif(data, seed);
}

// The check value of CRC-16/T10-DIF in the catalogue of parametrised CRC algorithms, and T10's own
// test vectors (SBC-4, the example of the logical block guard).
TEST(crc16, has_the_published_values) {
    std::vector<std::byte> digits(9);
    std::memcpy(digits.data(), "123456789", digits.size());
    EXPECT_EQ(of(digits), 0xd0db);
    std::vector<std::byte> zeros(32), ones(32, std::byte{0xff}), rising(32), falling(32), start(32);
    for (unsigned i = 0; i < 32; ++i) {
        rising[i] = std::byte(i);
        falling[i] = std::byte(0xff - i);
    }
    start[0] = start[1] = std::byte{0xff};
    EXPECT_EQ(of(zeros), 0x0000);
    EXPECT_EQ(of(ones), 0xa293);
    EXPECT_EQ(of(rising), 0x0224);
    EXPECT_EQ(of(falling), 0xa0b7);
    EXPECT_EQ(of(start), 0x21b8);
}

TEST(crc16, goes_on_from_what_came_before) {
    std::vector<std::byte> data(1000);
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = std::byte(i * 7);
    const std::span<const std::byte> all(data);
    for (std::size_t cut : {0U, 1U, 15U, 16U, 17U, 512U, 999U, 1000U})
        EXPECT_EQ(of(all.subspan(cut), of(all.first(cut))), of(all)) << cut;
}

}  // namespace
}  // namespace nacre
