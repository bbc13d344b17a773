// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/core/json_scan.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace nacre {
namespace {

using json::framer;
using status = framer::status;
using strings = std::vector<std::string>;

/// Values found when the stream comes in pieces of the given size; an error is the last of them, as
/// "error 12: text".
strings frame(std::string_view stream, std::size_t piece_bytes, std::size_t bytes_max = 1000) {
    framer f(bytes_max);
    strings found;
    const auto drain = [&] {
        for (status s = f.next(); s != status::need_more; s = f.next()) {
            if (s == status::error) {
                found.push_back("error " + std::to_string(f.error_offset()) + ": " +
                                std::string(f.error_text()));
                return false;
            }
            found.emplace_back(f.text());
        }
        return true;
    };
    for (std::size_t at = 0; at < stream.size(); at += piece_bytes) {
        f.feed(stream.substr(at, piece_bytes));
        if (!drain()) return found;
    }
    f.finish();
    drain();
    return found;
}

/// The same, in pieces of every size, which must make no difference.
strings frame(std::string_view stream) {
    const strings whole = frame(stream, stream.size() + 1);
    for (std::size_t n = 1; n <= stream.size(); ++n)
        EXPECT_EQ(frame(stream, n), whole) << stream << " in pieces of " << n;
    return whole;
}

TEST(json_framer, finds_values_that_stand_one_after_the_other) {
    EXPECT_EQ(frame(R"({"a":1}{"b":[2,{}]}[]"x""y")"),
              (strings{R"({"a":1})", R"({"b":[2,{}]})", "[]", "\"x\"", "\"y\""}));
    EXPECT_EQ(frame(" {} \n\t[ 1 , 2 ]\r\n true false null "),
              (strings{"{}", "[ 1 , 2 ]", "true", "false", "null"}));
    EXPECT_EQ(frame(""), strings{});
    EXPECT_EQ(frame(" \n "), strings{});
}

TEST(json_framer, is_not_misled_by_brackets_and_quotes_in_strings) {
    constexpr std::string_view text = R"({"}":"{[\"]\\","é":"\u007d\\\""})";
    EXPECT_EQ(frame(text), strings{std::string(text)});
}

TEST(json_framer, ends_a_number_at_what_follows_or_at_the_end) {
    EXPECT_EQ(frame("1 -2.5e+7 0[1]12\"x\"34"),
              (strings{"1", "-2.5e+7", "0", "[1]", "12", "\"x\"", "34"}));
    framer f;
    f.feed("12");
    EXPECT_EQ(f.next(), status::need_more) << "more digits may follow";
    f.finish();
    EXPECT_EQ(f.next(), status::value);
    EXPECT_EQ(f.text(), "12");
    EXPECT_EQ(f.next(), status::need_more);
}

TEST(json_framer, hands_out_a_value_inside_a_piece_without_copying_it) {
    const std::string piece = R"( {"a":1} {"b")";
    framer f;
    f.feed(piece);
    ASSERT_EQ(f.next(), status::value);
    EXPECT_EQ(f.text().data(), piece.data() + 1);
    EXPECT_TRUE(f.idle());
    EXPECT_EQ(f.next(), status::need_more);
    EXPECT_FALSE(f.idle());
    const std::string rest = ":2}";
    f.feed(rest);
    ASSERT_EQ(f.next(), status::value);
    EXPECT_EQ(f.text(), R"({"b":2})");
    EXPECT_EQ(f.next(), status::need_more);
}

TEST(json_framer, refuses_garbage_at_its_first_byte) {
    EXPECT_EQ(frame("{}}"), (strings{"{}", "error 2: expected a value"}));
    EXPECT_EQ(frame("GET / HTTP/1.1"), strings{"error 0: expected a value"});
    EXPECT_EQ(frame("[1,]"), strings{"error 3: expected a value"});
    EXPECT_EQ(frame("[1 2"), strings{"error 3: expected a comma or ]"});
    EXPECT_EQ(frame("{\"a\":1 \"b\""), strings{"error 7: expected a comma or }"});
    EXPECT_EQ(frame("{\"a\" 1"), strings{"error 5: expected a colon after the name"});
    EXPECT_EQ(frame("{1"), strings{"error 1: expected a name in quotes"});
    EXPECT_EQ(frame("{\"a\":1,}"), strings{"error 7: expected a name in quotes"});
    EXPECT_EQ(frame("[1}"), strings{"error 2: expected a comma or ]"});
    EXPECT_EQ(frame("trux"), strings{"error 3: expected true, false or null"});
    EXPECT_EQ(frame("\"a\n"), strings{"error 2: a control character in a string"});
    EXPECT_EQ(frame("\"\\x"), strings{"error 2: an unknown escape in a string"});
    EXPECT_EQ(frame("\"\\u12g"), strings{"error 5: expected four hexadecimal digits after \\u"});
    EXPECT_EQ(frame("-a"), strings{"error 1: expected a digit after the sign"});
    EXPECT_EQ(frame("01"), strings{"error 1: a number has a leading zero"});
    EXPECT_EQ(frame("1.x"), strings{"error 2: expected a digit after the point"});
    EXPECT_EQ(frame("[1.2.3]"), strings{"error 4: a number has two points"});
    EXPECT_EQ(frame("1e+]"), strings{"error 3: expected a digit of the exponent"});
    EXPECT_EQ(frame("\xef\xbb\xbf{}"), strings{"error 0: expected a value"});
}

TEST(json_framer, stays_in_error) {
    framer f;
    f.feed("] {}");
    EXPECT_EQ(f.next(), status::error);
    EXPECT_EQ(f.next(), status::error);
    EXPECT_EQ(f.error_offset(), 0u);
}

TEST(json_framer, tells_a_stream_that_ends_inside_a_value) {
    EXPECT_EQ(frame("{} [1,"), (strings{"{}", "error 6: the stream ends inside a value"}));
    EXPECT_EQ(frame("\"x"), strings{"error 2: the stream ends inside a value"});
    EXPECT_EQ(frame("1."), strings{"error 2: the stream ends inside a value"});
    EXPECT_EQ(frame("tru"), strings{"error 3: the stream ends inside a value"});
}

TEST(json_framer, bounds_the_length_of_a_value_not_of_the_stream) {
    for (const std::size_t piece : {1u, 3u, 100u}) {
        EXPECT_EQ(frame("[123456]  [123456]  [123456]", piece, 8).size(), 3u);
        EXPECT_EQ(frame("[1234567]", piece, 8), strings{"error 8: the value is too long"});
        EXPECT_EQ(frame("\"1234567\"", piece, 8), strings{"error 8: the value is too long"});
        EXPECT_EQ(frame("\"123456\"", piece, 8), strings{"\"123456\""});
        EXPECT_EQ(frame("12345678 ", piece, 8), strings{"12345678"});
        EXPECT_EQ(frame("123456789 ", piece, 8), strings{"error 8: the value is too long"});
        EXPECT_EQ(frame(std::string(100, ' ') + "[1]", piece, 8), strings{"[1]"});
    }
}

TEST(json_framer, bounds_depth) {
    const std::string deep = std::string(64, '[') + std::string(64, ']');
    EXPECT_EQ(frame(deep, 7), strings{deep});
    EXPECT_EQ(frame("[" + deep + "]", 7), strings{"error 64: nested too deeply"});
    std::string mixed;
    for (int i = 0; i < 32; ++i) mixed += "[{\"a\":";
    mixed += "1";
    for (int i = 0; i < 32; ++i) mixed += "}]";
    EXPECT_EQ(frame(mixed, 5), strings{mixed});
}

TEST(json_framer, takes_empty_pieces) {
    framer f;
    f.feed("");
    EXPECT_EQ(f.next(), status::need_more);
    f.feed("{");
    EXPECT_EQ(f.next(), status::need_more);
    f.feed("");
    EXPECT_EQ(f.next(), status::need_more);
    f.feed("}");
    EXPECT_EQ(f.next(), status::value);
    EXPECT_EQ(f.text(), "{}");
}

TEST(json_framer_death, insists_on_being_drained_before_it_is_fed) {
    framer f;
    f.feed("{} {}");
    EXPECT_EQ(f.next(), status::value);
    EXPECT_DEATH(f.feed("{}"), "assertion failed");
}

}  // namespace
}  // namespace nacre
