// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/core/json.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace nacre {
namespace {

using json::array;
using json::object;
using json::value;

std::string refusal_of(std::string_view text, json::parse_options options = {}) {
    const outcome<value> parsed = json::parse(text, options);
    return parsed ? "taken: " + parsed->dump() : parsed.error().message;
}
std::string rewritten(std::string_view text) { return json::parse(text).value().dump(); }

TEST(json_value, is_made_from_what_stands_there) {
    const std::string text = "s";
    const value v = object{{"name", "x"},
                           {"n", 3},
                           {"text", text},
                           {"view", std::string_view("v")},
                           {"yes", true},
                           {"half", 0.5},
                           {"none", nullptr},
                           {"small", std::uint8_t{7}},
                           {"list", array{1, "two", false}},
                           {"inner", object{{"y", -1}}}};
    EXPECT_EQ(v.dump(),
              R"({"name":"x","n":3,"text":"s","view":"v","yes":true,"half":0.5,"none":null,)"
              R"("small":7,"list":[1,"two",false],"inner":{"y":-1}})");
    EXPECT_EQ(value(object{}).dump(), "{}");
    EXPECT_EQ(value(array{}).dump(), "[]");
    static_assert(!std::is_constructible_v<value, const void*>);
    static_assert(!std::is_constructible_v<value, char>);
}

TEST(json_value, keeps_all_64_bits_of_integers) {
    constexpr auto umax = std::numeric_limits<std::uint64_t>::max();
    constexpr auto imin = std::numeric_limits<std::int64_t>::min();
    EXPECT_EQ(value(umax).dump(), "18446744073709551615");
    EXPECT_EQ(value(imin).dump(), "-9223372036854775808");
    EXPECT_EQ(value(umax).as_uint64(), umax);
    EXPECT_EQ(value(umax).as_int64(), std::nullopt);
    EXPECT_EQ(value(imin).as_int64(), imin);
    EXPECT_EQ(value(-1).as_uint64(), std::nullopt);
    EXPECT_EQ(value(5).as_int64(), 5);
    EXPECT_EQ(value(5.0).as_uint64(), 5u);
    EXPECT_EQ(value(-5.0).as_int64(), -5);
    EXPECT_EQ(value(5.5).as_uint64(), std::nullopt);
    EXPECT_EQ(value(0x1p64).as_uint64(), std::nullopt);
    EXPECT_EQ(value(0x1p63).as_int64(), std::nullopt);
    EXPECT_EQ(value(std::numeric_limits<double>::quiet_NaN()).as_uint64(), std::nullopt);
    EXPECT_EQ(value(7).as_double(), 7.0);
    EXPECT_EQ(value("7").as_uint64(), std::nullopt);
}

TEST(json_value, is_reached_through_chains_that_never_fail) {
    const value v = object{{"result", array{object{{"name", "m0"}}}}};
    EXPECT_EQ(v["result"][0]["name"].as_string(), "m0");
    EXPECT_TRUE(v["result"][1]["name"].is_null());
    EXPECT_TRUE(v["error"]["code"].is_null());
    EXPECT_EQ(v["result"].size(), 1u);
    EXPECT_EQ(v.find("error"), nullptr);
    EXPECT_EQ(v["result"][0]["name"].as_bool(), std::nullopt);
    EXPECT_EQ(value(true).as_bool(), true);
}

TEST(json_value, compares_numbers_by_value_and_objects_without_order) {
    EXPECT_EQ(value(10), value(10.0));
    EXPECT_NE(value(10), value(10.5));
    EXPECT_NE(value(1), value(true));
    EXPECT_NE(value(0), value());
    EXPECT_EQ(value(object{{"a", 1}, {"b", 2}}), value(object{{"b", 2}, {"a", 1}}));
    EXPECT_NE(value(object{{"a", 1}}), value(object{{"a", 1}, {"b", 2}}));
    EXPECT_NE(value(array{1, 2}), value(array{2, 1}));
}

TEST(json_object, keeps_the_order_of_insertion) {
    object o{{"z", 1}, {"a", 2}};
    o.set("m", 3);
    o.set("z", 4);
    o["b"] = true;
    EXPECT_EQ(value(o).dump(), R"({"z":4,"a":2,"m":3,"b":true})");
    EXPECT_TRUE(o.erase("a"));
    EXPECT_FALSE(o.erase("a"));
    EXPECT_EQ(o.size(), 3u);
    EXPECT_TRUE(o.contains("m"));
    EXPECT_EQ(o.find("a"), nullptr);
}

TEST(json_dump, escapes_as_spdk_does) {
    EXPECT_EQ(value("q\" b\\ /\b\f\n\r\t\x01\x7f").dump(), R"("q\" b\\ /\b\f\n\r\t\u0001\u007F")");
    EXPECT_EQ(value("é€😀").dump(), R"("\u00E9\u20AC\uD83D\uDE00")");
    EXPECT_EQ(value(std::string("a\0b", 3)).dump(), R"("a\u0000b")");
}

TEST(json_dump, replaces_bytes_that_are_no_utf8) {
    EXPECT_EQ(value("a\xff\xc3").dump(), R"("a\uFFFD\uFFFD")");
    EXPECT_EQ(value("\xed\xa0\x80").dump(), R"("\uFFFD\uFFFD\uFFFD")") << "a surrogate";
    EXPECT_EQ(value("\xc0\x80").dump(), R"("\uFFFD\uFFFD")") << "an overlong form";
    EXPECT_EQ(value("\xf4\x90\x80\x80").dump(), R"("\uFFFD\uFFFD\uFFFD\uFFFD")") << "too large";
}

TEST(json_dump, writes_doubles_as_python_does) {
    EXPECT_EQ(value(0.1).dump(), "0.1");
    EXPECT_EQ(value(1.0).dump(), "1.0");
    EXPECT_EQ(value(-0.0).dump(), "-0.0");
    EXPECT_EQ(value(123456789.125).dump(), "123456789.125");
    EXPECT_EQ(value(1e15).dump(), "1000000000000000.0");
    EXPECT_EQ(value(1e16).dump(), "1e+16");
    EXPECT_EQ(value(1.5e300).dump(), "1.5e+300");
    EXPECT_EQ(value(0.0001).dump(), "0.0001");
    EXPECT_EQ(value(0.00001).dump(), "1e-05");
    EXPECT_EQ(value(2.5e-7).dump(), "2.5e-07");
    EXPECT_EQ(value(std::numeric_limits<double>::infinity()).dump(), "null");
}

TEST(json_dump, writes_a_response_without_spaces) {
    const value response = object{
        {"jsonrpc", "2.0"}, {"id", 2}, {"result", object{{"version", "x"}, {"fields", array{}}}}};
    EXPECT_EQ(response.dump(), R"({"jsonrpc":"2.0","id":2,"result":{"version":"x","fields":[]}})");
    std::string out = "x";
    response["id"].dump_to(out);
    EXPECT_EQ(out, "x2");
}

TEST(json_dump, indents_as_python_does) {
    const value v = object{{"a", array{1, array{}, object{}}}, {"é", object{{"b", nullptr}}}};
    EXPECT_EQ(v.dump_pretty(), R"({
  "a": [
    1,
    [],
    {}
  ],
  "\u00e9": {
    "b": null
  }
})");
    EXPECT_EQ(value(array{1}).dump_pretty(4), "[\n    1\n]");
    EXPECT_EQ(value(5).dump_pretty(), "5");
}

TEST(json_summary, says_what_a_value_is_in_a_few_words) {
    EXPECT_EQ(value("12").summary(), "string \"12\"");
    EXPECT_EQ(value(-1).summary(), "number -1");
    EXPECT_EQ(value(1.5).summary(), "number 1.5");
    EXPECT_EQ(value().summary(), "null");
    EXPECT_EQ(value(false).summary(), "false");
    EXPECT_EQ(value(array{1}).summary(), "an array");
    EXPECT_EQ(value(object{}).summary(), "an object");
    EXPECT_LT(value(std::string(1000, 'x')).summary().size(), 60u);
}

TEST(json_parse, reads_every_kind_of_value) {
    constexpr std::string_view text = R"({"a":[null,true,false,0,-1,1.5,"x"],"b":{"c":{}}})";
    EXPECT_EQ(rewritten(text), text);
    EXPECT_EQ(rewritten(" \t\r\n[ 1 , 2 ] \n"), "[1,2]");
    EXPECT_EQ(rewritten(R"("\u00e9\ud83d\ude00\/")"), R"("\u00E9\uD83D\uDE00/")");
    EXPECT_EQ(json::parse(R"("é")").value().as_string(), "é");
}

TEST(json_parse, reads_integral_numbers_in_any_form_exactly) {
    EXPECT_EQ(rewritten("[1e3,10.0,1.5e1,-7.00,100e-2,0.0,0e99]"), "[1000,10,15,-7,1,0,0]");
    EXPECT_EQ(rewritten("18446744073709551615.0"), "18446744073709551615");
    EXPECT_EQ(rewritten("1.8446744073709551615e19"), "18446744073709551615");
    EXPECT_EQ(rewritten("-9.223372036854775808E+18"), "-9223372036854775808");
    EXPECT_EQ(rewritten("-0"), "0");
    EXPECT_FALSE(json::parse("1e20").value().is_integer());
    EXPECT_FALSE(json::parse("18446744073709551616").value().is_integer());
    EXPECT_FALSE(json::parse("-9223372036854775809.0").value().is_integer());
    EXPECT_FALSE(json::parse("1.25").value().is_integer());
    EXPECT_FALSE(json::parse("1e-1").value().is_integer());
}

TEST(json_parse, refuses_what_rfc_8259_refuses) {
    for (const char* text :
         {"",       " ",    "[1,]", "{\"a\":1,}", "{a:1}",   "{'a':1}",   "[1 2]",   "{\"a\" 1}",
          "01",     "+1",   "1.",   ".5",         "1e",      "0x10",      "NaN",     "Infinity",
          "tru",    "True", "[",    "{",          "}",       "\"a",       "\"\\x\"", "\"\\u12\"",
          "\"\n\"", "1 2",  "[1]]", "{\"a\":}",   "// x\n1", "/* x */ 1", "-",       "[,1]"})
        EXPECT_FALSE(json::parse(text)) << text;
}

TEST(json_parse, refuses_what_is_not_utf8) {
    EXPECT_FALSE(json::parse("\"\xff\""));
    EXPECT_FALSE(json::parse("\"\xc0\x80\""));
    EXPECT_FALSE(json::parse("\"\xed\xa0\x80\""));
    EXPECT_FALSE(json::parse("\"\xf4\x90\x80\x80\""));
    EXPECT_FALSE(json::parse("\"\xe2\x82\""));
    EXPECT_FALSE(json::parse(R"("\ud800")"));
    EXPECT_FALSE(json::parse(R"("\udc00")"));
}

TEST(json_parse, refuses_a_nul_byte_and_a_byte_order_mark) {
    EXPECT_EQ(refusal_of(std::string_view("1\0 garbage", 10)),
              "line 1, column 2 (byte 1): a NUL byte");
    EXPECT_EQ(refusal_of("\xef\xbb\xbf{}"), "line 1, column 1 (byte 0): a byte order mark");
}

TEST(json_parse, says_where_and_why) {
    EXPECT_EQ(refusal_of("{\n  \"a\": 1,\n  \"b\" 2\n}"),
              "line 3, column 7 (byte 18): syntax error while parsing object separator - "
              "unexpected number literal; expected ':'");
    EXPECT_EQ(refusal_of("[1,\n2"),
              "line 2, column 2 (byte 5): syntax error while parsing array - unexpected end of "
              "input; expected ']'");
    EXPECT_EQ(refusal_of("1e999"), "line 1, column 5 (byte 4): number overflow parsing '1e999'");
    EXPECT_TRUE(json::parse("x").error().code.is(EINVAL));
}

TEST(json_parse, refuses_duplicate_keys_at_any_depth_and_size) {
    EXPECT_EQ(refusal_of(R"({"a":1,"b":2,"a":3})"),
              "line 1, column 16 (byte 15): duplicate key string \"a\"");
    EXPECT_FALSE(json::parse(R"([{"x":{"a":1,"\u0061":2}}])"));
    EXPECT_TRUE(json::parse(R"({"a":{"a":{"a":1}},"b":{"a":1}})"));
    std::string many = "{";
    for (int i = 0; i < 1000; ++i) many += "\"k" + std::to_string(i) + "\":0,";
    EXPECT_TRUE(json::parse(many + "\"k1000\":0}"));
    EXPECT_FALSE(json::parse(many + "\"k0\":0}"));
    EXPECT_FALSE(json::parse(many + "\"k999\":0}"));
}

TEST(json_parse, bounds_depth) {
    const std::string deep = std::string(64, '[') + std::string(64, ']');
    EXPECT_TRUE(json::parse(deep));
    const outcome<value> deeper = json::parse("[" + deep + "]");
    ASSERT_FALSE(deeper);
    EXPECT_TRUE(deeper.error().code.is(E2BIG));
    EXPECT_EQ(deeper.error().message, "line 1, column 65 (byte 64): nested deeper than 64 levels");
    EXPECT_TRUE(json::parse("[" + deep + "]", {.depth_max = 65}));
    EXPECT_FALSE(json::parse(std::string(1'000'000, '[')));
}

TEST(json_parse, bounds_the_number_of_values_counting_as_spdk_does) {
    // "[", "]" and the elements; an object's names count too.
    EXPECT_TRUE(json::parse("[1,2]", {.values_max = 4}));
    EXPECT_FALSE(json::parse("[1,2]", {.values_max = 3}));
    EXPECT_TRUE(json::parse(R"({"a":1})", {.values_max = 4}));
    EXPECT_FALSE(json::parse(R"({"a":1})", {.values_max = 3}));
    std::string many = "[0";
    for (int i = 1; i < 8190; ++i) many += ",0";
    EXPECT_TRUE(json::parse(many + "]"));
    EXPECT_EQ(refusal_of(many + ",0]"), "line 1, column 16383 (byte 16382): more than 8192 values");
}

TEST(json_parse, takes_comments_where_they_are_allowed) {
    constexpr std::string_view text = "// first\n{ /* \" */ \"a\": 1, // end\n \"b\": \"//\" }";
    EXPECT_EQ(json::parse(text, {.allow_comments = true}).value().dump(), R"({"a":1,"b":"//"})");
    EXPECT_FALSE(json::parse(text));
    EXPECT_FALSE(json::parse("1 /* open", {.allow_comments = true}));
}

}  // namespace
}  // namespace nacre
