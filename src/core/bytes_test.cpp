// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/core/bytes.hpp"

#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <vector>

#include "nacre/core/crc32c.hpp"

namespace nacre {
namespace {

constexpr std::uint64_t u64_max = std::numeric_limits<std::uint64_t>::max();

TEST(bytes, little_and_big_endian_differ_in_the_order_of_bytes) {
    std::array<std::byte, 9> at{};
    store_le<std::uint32_t>(at.data() + 1, 0x01020304);
    EXPECT_EQ(to_hex(at), "000403020100000000");
    EXPECT_EQ(load_le<std::uint32_t>(at.data() + 1), 0x01020304u);
    EXPECT_EQ(load_be<std::uint32_t>(at.data() + 1), 0x04030201u);
    store_be<std::uint64_t>(at.data() + 1, 0x0102030405060708);
    EXPECT_EQ(to_hex(at), "000102030405060708");
    EXPECT_EQ(load_be<std::uint16_t>(at.data() + 1), 0x0102u);
    EXPECT_EQ(load_le<std::uint8_t>(at.data() + 8), 8u);
}

TEST(bytes, alignment_works_for_units_that_are_no_powers_of_two) {
    EXPECT_EQ(align_up(0, 520), 0u);
    EXPECT_EQ(align_up(1, 520), 520u);
    EXPECT_EQ(align_up(1040, 520), 1040u);
    EXPECT_EQ(align_down(1039, 520), 520u);
    EXPECT_EQ(divide_up(1, 512), 1u);
    EXPECT_EQ(divide_up(u64_max, 2), u64_max / 2 + 1);
    EXPECT_TRUE(is_aligned(4096, 512));
    EXPECT_FALSE(is_aligned(4097, 512));
    EXPECT_TRUE(is_power_of_two(4096));
    EXPECT_FALSE(is_power_of_two(0));
    EXPECT_FALSE(is_power_of_two(520));
}

TEST(bytes, checked_arithmetic_refuses_what_wraps) {
    EXPECT_EQ(checked_add(1, 2), 3u);
    EXPECT_EQ(checked_add(u64_max, 0), u64_max);
    EXPECT_EQ(checked_add(u64_max, 1), std::nullopt);
    EXPECT_EQ(checked_mul(1ull << 32, (1ull << 32) - 1), u64_max - (1ull << 32) + 1);
    EXPECT_EQ(checked_mul(1ull << 32, 1ull << 32), std::nullopt);
}

TEST(bytes, a_range_at_the_end_fits_and_one_beyond_does_not) {
    EXPECT_TRUE(range_fits(0, 0, 0));
    EXPECT_TRUE(range_fits(7, 1, 8));
    EXPECT_TRUE(range_fits(8, 0, 8));
    EXPECT_FALSE(range_fits(8, 1, 8));
    EXPECT_FALSE(range_fits(u64_max, 2, 8));
    EXPECT_FALSE(range_fits(2, u64_max, 8));
}

TEST(bytes, all_zero_sees_one_bit_anywhere) {
    for (const std::size_t size : {0u, 1u, 7u, 63u, 64u, 65u, 200u}) {
        std::vector<std::byte> data(size);
        EXPECT_TRUE(all_zero(data));
        for (std::size_t i = 0; i < size; ++i) {
            data[i] = std::byte{0x80};
            EXPECT_FALSE(all_zero(data)) << size << " bytes, at " << i;
            data[i] = std::byte{0};
        }
    }
}

TEST(bytes, a_hex_dump_has_offsets_bytes_and_text) {
    EXPECT_EQ(hex_dump(bytes_of("Hello, block world\n"), 0x10),
              "00000010  48 65 6c 6c 6f 2c 20 62  6c 6f 63 6b 20 77 6f 72  |Hello, block wor|\n"
              "00000020  6c 64 0a                                          |ld.|\n");
    EXPECT_EQ(hex_dump({}), "");
}

TEST(bytes, an_object_is_seen_as_its_bytes) {
    std::uint32_t number = 0;
    writable_object_bytes(number)[0] = std::byte{1};
    EXPECT_EQ(load_le<std::uint32_t>(object_bytes(number).data()), 1u);
    EXPECT_EQ(text_of(bytes_of("abc")), "abc");
}

TEST(crc32c, has_the_standard_check_value) {
    EXPECT_EQ(crc32c(bytes_of("123456789")), 0xE3069283u);
    EXPECT_EQ(crc32c({}), 0u);
}

TEST(crc32c, raw_update_from_zero_has_the_check_value_of_the_raid_superblock) {
    EXPECT_EQ(crc32c_raw(bytes_of("123456789"), 0), 0x58E3FA20u);
    EXPECT_EQ(crc32c_raw({}, 0x1234u), 0x1234u);
}

TEST(crc32c, of_parts_equals_that_of_the_whole) {
    const std::string text(5000, 'x');
    const auto whole = bytes_of(text);
    for (const std::size_t cut : {0u, 1u, 63u, 64u, 4999u, 5000u})
        EXPECT_EQ(crc32c(whole.subspan(cut), crc32c(whole.first(cut))), crc32c(whole));
}

TEST(bytes, are_shown_in_base_64) {
    const auto text = [](std::string_view t) { return to_base64(std::as_bytes(std::span(t))); };
    // RFC 4648, 10.
    EXPECT_EQ(text(""), "");
    EXPECT_EQ(text("f"), "Zg==");
    EXPECT_EQ(text("fo"), "Zm8=");
    EXPECT_EQ(text("foo"), "Zm9v");
    EXPECT_EQ(text("foob"), "Zm9vYg==");
    EXPECT_EQ(text("fooba"), "Zm9vYmE=");
    EXPECT_EQ(text("foobar"), "Zm9vYmFy");
    EXPECT_EQ(text("\xff\xfb\xff"), "//v/");
}

TEST(bytes, read_back_base64_of_urls) {
    for (std::size_t n = 0; n < 70; ++n) {
        std::vector<std::byte> bytes(n);
        for (std::size_t i = 0; i < n; ++i) bytes[i] = static_cast<std::byte>(i * 37 + n);
        const result<std::vector<std::byte>> again = from_base64url(to_base64url(bytes));
        ASSERT_TRUE(again) << n;
        EXPECT_EQ(*again, bytes);
    }
    const std::array odd{std::byte{0xfb}, std::byte{0xff}};
    EXPECT_EQ(to_base64url(odd), "-_8=");
    for (const char* bad : {"-_8", "-_8==", "-_9=", "+/8=", "a===", "====", "=", "ab=c", "a b="})
        EXPECT_FALSE(from_base64url(bad)) << bad;
}

}  // namespace
}  // namespace nacre
