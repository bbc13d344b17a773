// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/core/parse.hpp"

#include <gtest/gtest.h>

#include <string>

namespace nacre {
namespace {

using namespace std::chrono_literals;

TEST(parse_size, reads_units_of_1024_and_of_1000) {
    EXPECT_EQ(parse_size("512").value(), 512u);
    EXPECT_EQ(parse_size("4k").value(), 4096u);
    EXPECT_EQ(parse_size("4K").value(), 4096u);
    EXPECT_EQ(parse_size("4KiB").value(), 4096u);
    EXPECT_EQ(parse_size("4KB").value(), 4000u);
    EXPECT_EQ(parse_size("64MiB").value(), 64u << 20);
    EXPECT_EQ(parse_size("64mib").value(), 64u << 20);
    EXPECT_EQ(parse_size("1GiB").value(), 1u << 30);
    EXPECT_EQ(parse_size("1G").value(), 1u << 30);
    EXPECT_EQ(parse_size("1TiB").value(), 1ull << 40);
    EXPECT_EQ(parse_size("2TB").value(), 2'000'000'000'000u);
    EXPECT_EQ(parse_size("10 MiB").value(), 10u << 20);
    EXPECT_EQ(parse_size("0x1000").value(), 4096u);
    EXPECT_EQ(parse_size("0").value(), 0u);
}

TEST(parse_size, reads_fractions_that_are_whole_bytes) {
    EXPECT_EQ(parse_size("1.5GiB").value(), 1536u << 20);
    EXPECT_EQ(parse_size("0.5k").value(), 512u);
    EXPECT_EQ(parse_size("1.50000000000000000000000").error().message,
              "\"1.50000000000000000000000\" is not a size: it is not a whole number of bytes");
    EXPECT_FALSE(parse_size("0.3k"));
    EXPECT_FALSE(parse_size("1."));
    EXPECT_FALSE(parse_size(".5k"));
}

TEST(parse_size, knows_its_limit) {
    EXPECT_EQ(parse_size("18446744073709551615").value(), ~std::uint64_t{0});
    EXPECT_FALSE(parse_size("18446744073709551616"));
    EXPECT_EQ(parse_size("15EiB").value(), 15ull << 60);
    EXPECT_FALSE(parse_size("16EiB"));
    EXPECT_FALSE(parse_size("99999999999999999999999999999999999999999999"));
}

TEST(parse_size, refuses_other_texts_with_a_sentence) {
    for (const char* text : {"", "k", "-1", "4 k b", "4x", "1,5k", "4kk", " 4k", "four"})
        EXPECT_FALSE(parse_size(text)) << text;
    EXPECT_EQ(parse_size("4x").error().message,
              "\"4x\" is not a size: the units are B, KiB, MiB, GiB, TiB, PiB, EiB, KB, MB, …");
}

TEST(format_size, writes_what_parse_size_reads) {
    EXPECT_EQ(format_size(0), "0");
    EXPECT_EQ(format_size(1000), "1000");
    EXPECT_EQ(format_size(4096), "4KiB");
    EXPECT_EQ(format_size(64u << 20), "64MiB");
    EXPECT_EQ(format_size(1536u << 20), "1536MiB");
    EXPECT_EQ(format_size(1ull << 63), "8EiB");
}

TEST(parse_duration, reads_its_units) {
    EXPECT_EQ(parse_duration("10ns").value(), 10ns);
    EXPECT_EQ(parse_duration("100us").value(), 100us);
    EXPECT_EQ(parse_duration("5ms").value(), 5ms);
    EXPECT_EQ(parse_duration("2s").value(), 2s);
    EXPECT_EQ(parse_duration("1.5s").value(), 1500ms);
    EXPECT_EQ(parse_duration("3m").value(), 3min);
    EXPECT_EQ(parse_duration("3min").value(), 3min);
    EXPECT_EQ(parse_duration("1h").value(), 1h);
}

TEST(parse_duration, takes_a_bare_number_as_the_unit_given) {
    EXPECT_EQ(parse_duration("5").value(), 5s);
    EXPECT_EQ(parse_duration("5", 1us).value(), 5us);
}

TEST(parse_duration, refuses_what_is_none_or_too_long) {
    for (const char* text : {"", "s", "-1s", "5 parsecs", "0.5ns", "1000000h1", "300000000h"})
        EXPECT_FALSE(parse_duration(text)) << text;
}

TEST(parse_uint, reads_decimal_and_hexadecimal_within_a_bound) {
    EXPECT_EQ(parse_uint("4420").value(), 4420u);
    EXPECT_EQ(parse_uint("0xff").value(), 255u);
    EXPECT_EQ(parse_uint("65535", 65535).value(), 65535u);
    const auto large = parse_uint("65536", 65535);
    EXPECT_TRUE(large.error().code.is(ERANGE));
    EXPECT_EQ(large.error().message, "65536 is out of range: the largest value is 65535");
    for (const char* text : {"", "0x", "-1", "+1", " 1", "1 ", "1.0", "1e3", "ten"})
        EXPECT_FALSE(parse_uint(text)) << text;
    EXPECT_FALSE(parse_uint("18446744073709551616"));
}

TEST(parse_bool, reads_the_usual_words) {
    for (const char* text : {"true", "Yes", "ON", "1"}) EXPECT_TRUE(parse_bool(text).value());
    for (const char* text : {"false", "no", "Off", "0"}) EXPECT_FALSE(parse_bool(text).value());
    EXPECT_FALSE(parse_bool(""));
    EXPECT_EQ(parse_bool("2").error().message, "\"2\" is neither true nor false");
}

TEST(parse_cpus, is_that_of_cpu_set) { EXPECT_EQ(parse_cpus("0-2").value().count(), 3u); }

}  // namespace
}  // namespace nacre
