// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/core/json_decode.hpp"

#include <gtest/gtest.h>

#include "nacre/core/uri.hpp"

namespace nacre {
namespace {

using json::array;
using json::field;
using json::object;
using json::value;

enum class raid_level { raid0, raid1, concat = 99 };

constexpr auto json_names(raid_level) {
    return std::to_array<json::enum_name<raid_level>>({{"raid0", raid_level::raid0},
                                                       {"raid1", raid_level::raid1},
                                                       {"1", raid_level::raid1},
                                                       {"concat", raid_level::concat}});
}

struct limits {
    std::uint16_t queue_depth = 32;
    std::int32_t priority = -1;
    bool operator==(const limits&) const = default;

    static std::span<const field> fields() {
        static constexpr field table[] = {
            json::required<&limits::queue_depth>("queue_depth", "Requests in flight"),
            json::optional<&limits::priority>("priority", "Lower goes first")};
        return table;
    }
};

struct options {
    std::string name;
    std::uint64_t num_blocks = 0;
    std::uint32_t block_size = 512;
    std::uint8_t percent = 50;
    bool readonly = false;
    double ratio = 0.5;
    raid_level level = raid_level::raid1;
    std::vector<std::string> base_bdevs;
    std::optional<nacre::uuid> uuid;
    std::optional<limits> bounds;
    std::vector<limits> history;
    value extra;
    bool operator==(const options&) const = default;

    static std::span<const field> fields();
};

std::span<const field> options::fields() {
    using self = options;
    static constexpr field table[] = {
        json::required<&self::name>("name", "Name of the new bdev"),
        json::required<&self::num_blocks>("num_blocks", "Size in blocks"),
        json::optional<&self::block_size>("block_size", "Bytes in a block"),
        json::optional<&self::percent>("percent", "A small number"),
        json::optional<&self::readonly>("readonly", "Refuse writes"),
        json::optional<&self::ratio>("ratio", "Reads to writes"),
        json::optional<&self::level>("raid_level", "How data is spread"),
        json::optional<&self::base_bdevs>("base_bdevs", "What it is made of"),
        json::optional<&self::uuid>("uuid", "Its UUID"),
        json::optional<&self::bounds>("bounds", "Bounds"),
        json::optional<&self::history>("history", "Earlier bounds"),
        json::optional<&self::extra>("extra", "Anything"),
    };
    return table;
}

/// The parameters that every test needs, and one more as JSON text.
outcome<options> decoded(std::string_view member) {
    std::string text = R"({"name":"m0","num_blocks":8)";
    if (!member.empty()) text.append(",").append(member);
    text += "}";
    return json::decode<options>(json::parse(text).value());
}
std::string refusal_of(std::string_view member) {
    const outcome<options> made = decoded(member);
    return made ? "taken" : made.error().message;
}
std::string refusal_of_all(std::string_view params) {
    const outcome<options> made = json::decode<options>(json::parse(params).value());
    return made ? "taken" : made.error().message;
}

constexpr std::string_view full_text =
    R"({"name":"m0","num_blocks":18446744073709551615,"block_size":4096,"percent":255,)"
    R"("readonly":true,"ratio":0.25,"raid_level":"concat","base_bdevs":["a","b"],)"
    R"("uuid":"6ba7b810-9dad-11d1-80b4-00c04fd430c8","bounds":{"queue_depth":1,"priority":-2},)"
    R"("history":[{"queue_depth":2,"priority":3}],"extra":{"x":[1,null]}})";

TEST(json_decode, fills_every_kind_of_member) {
    const outcome<options> made = json::decode<options>(json::parse(full_text).value());
    ASSERT_TRUE(made) << made.error().message;
    EXPECT_EQ(made->name, "m0");
    EXPECT_EQ(made->num_blocks, ~std::uint64_t{0});
    EXPECT_EQ(made->block_size, 4096u);
    EXPECT_EQ(made->percent, 255u);
    EXPECT_TRUE(made->readonly);
    EXPECT_EQ(made->ratio, 0.25);
    EXPECT_EQ(made->level, raid_level::concat);
    EXPECT_EQ(made->base_bdevs, (std::vector<std::string>{"a", "b"}));
    EXPECT_EQ(made->uuid, *uuid::parse("6ba7b810-9dad-11d1-80b4-00c04fd430c8"));
    EXPECT_EQ(made->bounds, (limits{1, -2}));
    EXPECT_EQ(made->history, (std::vector<limits>{{2, 3}}));
    EXPECT_EQ(made->extra, value(object{{"x", array{1, nullptr}}}));
}

TEST(json_decode, keeps_the_defaults_of_what_is_absent) {
    const outcome<options> made = decoded("");
    ASSERT_TRUE(made) << made.error().message;
    options expected;
    expected.name = "m0";
    expected.num_blocks = 8;
    EXPECT_EQ(*made, expected);
    EXPECT_EQ(decoded(R"("bounds":{"queue_depth":7})")->bounds, (limits{7, -1}));
}

struct with_secret {
    secret_text key;
    std::optional<secret_text> other;
    static std::span<const field> fields() {
        static constexpr field table[] = {
            json::required<&with_secret::key>("key", "A key"),
            json::optional<&with_secret::other>("other", "Another key"),
        };
        return table;
    }
};

TEST(json_decode, reads_secrets_and_neither_writes_nor_quotes_them) {
    const outcome<with_secret> made =
        json::decode<with_secret>(json::parse(R"({"key":"12345678","other":"87654321"})").value());
    ASSERT_TRUE(made) << made.error().message;
    EXPECT_EQ(made->key.view(), "12345678");
    EXPECT_EQ(made->other->view(), "87654321");
    EXPECT_EQ(value(json::encode(*made)).dump(), "{}");
    for (const char* params :
         {R"({"key":12345678})", R"({"key":["12345678"]})", R"({"key":"12345678\u0000"})"}) {
        const outcome<with_secret> refused = json::decode<with_secret>(json::parse(params).value());
        ASSERT_FALSE(refused) << params;
        EXPECT_EQ(refused.error().message.find("12345678"), std::string::npos)
            << refused.error().message;
    }
}

TEST(json_decode, takes_integral_numbers_in_any_form) {
    EXPECT_EQ(decoded(R"("block_size":1e3)")->block_size, 1000u);
    EXPECT_EQ(decoded(R"("block_size":512.0)")->block_size, 512u);
    EXPECT_EQ(decoded(R"("ratio":1)")->ratio, 1.0);
}

TEST(json_decode, names_the_parameter_that_is_wrong_and_what_was_expected) {
    EXPECT_EQ(refusal_of_all(R"({"name":"x","num_blocks":"12"})"),
              "parameter \"num_blocks\": expected an unsigned integer up to 2^64-1, got string "
              "\"12\"");
    EXPECT_EQ(refusal_of(R"("block_size":4294967296)"),
              "parameter \"block_size\": expected an unsigned integer up to 4294967295, got number "
              "4294967296");
    EXPECT_EQ(refusal_of(R"("block_size":-1)"),
              "parameter \"block_size\": expected an unsigned integer up to 4294967295, got number "
              "-1");
    EXPECT_EQ(refusal_of(R"("percent":256)"),
              "parameter \"percent\": expected an unsigned integer up to 255, got number 256");
    EXPECT_EQ(refusal_of(R"("percent":1.5)"),
              "parameter \"percent\": expected an unsigned integer up to 255, got number 1.5");
    EXPECT_EQ(refusal_of(R"("readonly":1)"),
              "parameter \"readonly\": expected true or false, got number 1");
    EXPECT_EQ(refusal_of(R"("readonly":"true")"),
              "parameter \"readonly\": expected true or false, got string \"true\"");
    EXPECT_EQ(refusal_of(R"("ratio":"1")"),
              "parameter \"ratio\": expected a number, got string \"1\"");
    EXPECT_EQ(refusal_of(R"("raid_level":"RAID1")"),
              "parameter \"raid_level\": expected one of \"raid0\", \"raid1\", \"1\", \"concat\", "
              "got string \"RAID1\"");
    EXPECT_EQ(refusal_of(R"("uuid":"6ba7b810")"),
              "parameter \"uuid\": expected a UUID such as "
              "\"5e3b8c2a-6b1d-4f0e-9a77-0c2f4d5e6f70\", got string \"6ba7b810\"");
    EXPECT_TRUE(decoded(R"("percent":-1)").error().code.is(EINVAL));
}

TEST(json_decode, refuses_null_even_where_a_parameter_is_optional) {
    EXPECT_TRUE(refusal_of(R"("uuid":null)").ends_with(", got null"));
    EXPECT_NE(refusal_of(R"("bounds":null)"), "taken");
    EXPECT_NE(refusal_of(R"("base_bdevs":null)"), "taken");
    EXPECT_EQ(refusal_of(R"("extra":null)"), "taken") << "a json::value may be null";
}

TEST(json_decode, refuses_a_string_with_an_embedded_nul) {
    EXPECT_EQ(refusal_of(R"("base_bdevs":["a\u0000b"])"),
              "parameter \"base_bdevs[0]\": expected a string without NUL characters, got string "
              "\"a\\u0000b\"");
}

TEST(json_decode, gives_the_path_into_nested_parameters) {
    EXPECT_EQ(refusal_of(R"("bounds":{"queue_depth":65536})"),
              "parameter \"bounds.queue_depth\": expected an unsigned integer up to 65535, got "
              "number 65536");
    EXPECT_EQ(
        refusal_of(R"("history":[{"queue_depth":1},{"queue_depth":2,"priority":2147483648}])"),
        "parameter \"history[1].priority\": expected an integer from -2147483648 to "
        "2147483647, got number 2147483648");
    EXPECT_EQ(refusal_of(R"("history":[5])"),
              "parameter \"history[0]\": expected an object, got number 5");
    EXPECT_EQ(refusal_of(R"("bounds":{})"),
              "parameter \"bounds.queue_depth\": missing; it is required and of type uint16");
    EXPECT_EQ(refusal_of(R"("bounds":{"queue_depth":1,"x":2})"),
              "parameter \"bounds.x\": not known; known are: queue_depth, priority");
}

TEST(json_decode, refuses_unknown_keys_and_suggests) {
    EXPECT_EQ(refusal_of(R"("block_sise":512)"),
              "parameter \"block_sise\": not known; did you mean \"block_size\"?");
    EXPECT_TRUE(refusal_of(R"("zzz":1)")
                    .starts_with("parameter \"zzz\": not known; known are: name, num_blocks, "));
    const value params = object{{"name", "x"}, {"num_blocks", 1}, {"other", 1}};
    EXPECT_TRUE(json::decode<options>(params, json::unknown_keys::ignore));
}

TEST(json_decode, tells_what_is_missing) {
    EXPECT_EQ(refusal_of_all("{}"),
              "parameter \"name\": missing; it is required and of type string");
    EXPECT_EQ(refusal_of_all("null"),
              "parameter \"name\": missing; it is required and of type string");
    EXPECT_EQ(refusal_of_all("[1]"), "parameters: expected an object, got an array");
}

TEST(json_encode, writes_back_what_was_read_byte_for_byte) {
    const options made = json::decode<options>(json::parse(full_text).value()).value();
    EXPECT_EQ(value(json::encode(made)).dump(), full_text);
}

TEST(json_encode, leaves_out_empty_optionals_and_writes_the_first_name_of_an_enumerator) {
    options made;
    made.name = "n";
    made.level = raid_level::raid1;
    const object members = json::encode(made);
    EXPECT_FALSE(members.contains("uuid"));
    EXPECT_FALSE(members.contains("bounds"));
    EXPECT_EQ(*members.find("raid_level"), value("raid1"));
    EXPECT_EQ(decoded(R"("raid_level":"1")")->level, raid_level::raid1);
}

TEST(json_decode_text, reads_the_parameters_of_a_uri) {
    const uri u = uri::parse(
                      "raid1:///r0?name=r0&num_blocks=1k&block_size=4KiB&readonly=yes&"
                      "base_bdevs=a,b&raid_level=concat&ratio=0.75&"
                      "bounds={\"queue_depth\":3}")
                      .value();
    const outcome<options> made = json::decode_text<options>(u.query());
    ASSERT_TRUE(made) << made.error().message;
    EXPECT_EQ(made->num_blocks, 1024u);
    EXPECT_EQ(made->block_size, 4096u);
    EXPECT_TRUE(made->readonly);
    EXPECT_EQ(made->base_bdevs, (std::vector<std::string>{"a", "b"}));
    EXPECT_EQ(made->level, raid_level::concat);
    EXPECT_EQ(made->ratio, 0.75);
    EXPECT_EQ(made->bounds, (limits{3, -1}));
}

TEST(json_decode_text, names_the_parameter_that_is_wrong) {
    const auto refusal = [](std::vector<uri::parameter> parameters) {
        return json::decode_text<options>(parameters).error().message;
    };
    EXPECT_EQ(
        refusal({{"block_size", "4x"}}),
        "parameter \"block_size\": \"4x\" is not a size: the units are B, KiB, MiB, GiB, TiB, "
        "PiB, EiB, KB, MB, …");
    EXPECT_EQ(refusal({{"percent", "1k"}, {"name", "x"}, {"num_blocks", "1"}}),
              "parameter \"percent\": expected an unsigned integer up to 255, got number 1024");
    EXPECT_EQ(refusal({{"readonly", "maybe"}}),
              "parameter \"readonly\": \"maybe\" is neither true nor false");
    EXPECT_EQ(refusal({{"name", "a"}, {"name", "b"}}), "parameter \"name\": given twice");
    EXPECT_EQ(refusal({{"nane", "a"}}), "parameter \"nane\": not known; did you mean \"name\"?");
    EXPECT_EQ(refusal({{"name", "a"}}),
              "parameter \"num_blocks\": missing; it is required and of type uint64");
}

TEST(json_schema, lists_name_type_default_and_choices) {
    const value schema = json::schema<options>();
    EXPECT_EQ(schema[0].dump(), R"({"name":"name","type":"string","required":true,)"
                                R"("description":"Name of the new bdev"})");
    EXPECT_EQ(schema[2]["default"], value(512));
    EXPECT_EQ(schema[6]["type"], value("enum"));
    EXPECT_EQ(schema[6]["choices"], value(array{"raid0", "raid1", "1", "concat"}));
    EXPECT_EQ(schema[6]["default"], value("raid1"));
    EXPECT_EQ(schema[7]["type"], value("array of string"));
    EXPECT_EQ(schema[8].find("default"), nullptr);
    EXPECT_EQ(schema[9]["members"][0]["name"], value("queue_depth"));
}

TEST(json_document, prints_a_table_for_people) {
    EXPECT_EQ(json::document<limits>(),
              "  queue_depth  uint16  Requests in flight (required)\n"
              "  priority     int32   Lower goes first [-1]\n");
    EXPECT_NE(
        json::document<options>().find("raid0|raid1|1|concat  How data is spread [\"raid1\"]"),
        std::string::npos);
}

TEST(json_decoder, takes_parameters_one_by_one) {
    const value params = object{{"name", "n"}, {"count", 3}};
    json::decoder d(params);
    std::string name;
    std::uint32_t count = 0;
    bool flag = true;
    d.required("name", name).optional("count", count).optional("flag", flag);
    EXPECT_TRUE(d.has("count"));
    EXPECT_FALSE(d.has("flag"));
    EXPECT_TRUE(d.finish());
    EXPECT_EQ(name, "n");
    EXPECT_EQ(count, 3u);
    EXPECT_TRUE(flag);
}

TEST(json_decoder, keeps_the_first_problem) {
    const value params = object{{"count", "x"}, {"more", 1}};
    json::decoder d(params);
    std::uint32_t count = 0;
    std::string name;
    d.required("count", count).required("name", name);
    EXPECT_EQ(d.finish().error().message,
              "parameter \"count\": expected an unsigned integer up to 4294967295, got string "
              "\"x\"");
    json::decoder unknown(params);
    std::string text;
    unknown.optional("count", text);
    EXPECT_EQ(unknown.finish().error().message, "parameter \"more\": not known; known are: count");
    EXPECT_TRUE(json::decoder(params).finish(json::unknown_keys::ignore));
    const value list = array{};
    EXPECT_EQ(json::decoder(list).finish().error().message,
              "parameters: expected an object, got an array");
    const value nothing;
    EXPECT_TRUE(json::decoder(nothing).finish());
}

}  // namespace
}  // namespace nacre
