// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/core/uri.hpp"

#include <gtest/gtest.h>

namespace nacre {
namespace {

std::string refusal_of(std::string_view text) {
    const outcome<uri> parsed = uri::parse(text);
    return parsed ? "taken" : parsed.error().message;
}

TEST(uri, has_scheme_authority_path_and_parameters) {
    const uri u =
        uri::parse("nvme+tcp://127.0.0.1:4420/nqn.2026-11.io.nacre:vol0?ns=1&a=b").value();
    EXPECT_EQ(u.scheme(), "nvme+tcp");
    EXPECT_EQ(u.authority(), "127.0.0.1:4420");
    EXPECT_EQ(u.path(), "/nqn.2026-11.io.nacre:vol0");
    EXPECT_EQ(u.name(), "nqn.2026-11.io.nacre:vol0");
    ASSERT_EQ(u.query().size(), 2u);
    EXPECT_EQ(u.query()[0], (uri::parameter{"ns", "1"}));
    EXPECT_EQ(u.find("a"), "b");
    EXPECT_EQ(u.find("c"), std::nullopt);
}

TEST(uri, names_a_bdev_without_an_authority) {
    const uri u = uri::parse("malloc:///m0?size=64MiB").value();
    EXPECT_EQ(u.authority(), "");
    EXPECT_EQ(u.name(), "m0");
    EXPECT_EQ(u.find("size"), "64MiB");
    EXPECT_EQ(uri::parse("null://").value().name(), "");
}

TEST(uri, decodes_percent_and_leaves_plus) {
    const uri u = uri::parse("file:///a%20b%3Fc%25+?x%26=%C3%A9+").value();
    EXPECT_EQ(u.path(), "/a b?c%+");
    EXPECT_EQ(u.find("x&"), "é+");
}

TEST(uri, takes_a_parameter_without_a_value_as_true) {
    EXPECT_EQ(uri::parse("raid1:///r0?superblock").value().find("superblock"), "true");
    EXPECT_EQ(uri::parse("raid1:///r0?superblock=").value().find("superblock"), "");
    EXPECT_TRUE(uri::parse("null:///n0?").value().query().empty());
    EXPECT_EQ(uri::parse("a:///b?k=x=y").value().find("k"), "x=y");
}

TEST(uri, refuses_what_is_none_with_the_reason) {
    EXPECT_EQ(refusal_of("vol0"),
              "\"vol0\" is not a device's URI: expected scheme://…, as in malloc:///m0?size=64MiB");
    for (const char* text : {"", "://x", "Malloc:///m0", "1a:///m0", "a b:///m0", "a:///m0#f",
                             "a:///%", "a:///%4", "a:///%zz", "a:///%00", "a:///x\ny", "a:///%ff",
                             "a:///m0?=1", "a:///m0?x=1&&y=2", "a:///m0?x&x", "a:///m0?x=1&%78=2"})
        EXPECT_FALSE(uri::parse(text)) << text;
    EXPECT_NE(refusal_of("a:///m0?x=1&x=2").find("given twice"), std::string::npos);
}

TEST(uri, writes_what_it_reads_back) {
    for (const char* text :
         {"malloc:///m0?size=64MiB", "nvme+tcp://127.0.0.1:4420/nqn.2026-11.io.nacre:vol0?ns=1",
          "nvme+tcp://[::1]:4420/n", "raid1:///r0?base=a,b", "nvme+pcie://0000:00:04.0?ns=1"})
        EXPECT_EQ(uri::parse(text).value().to_string(), text);
    const uri odd("file", "h/o?st", "/a b%/é#", {{"k=&", "v&=\n"}, {"empty", ""}});
    EXPECT_EQ(odd.to_string(), "file://h%2Fo%3Fst/a%20b%25/%C3%A9%23?k%3D%26=v%26%3D%0A&empty=");
    const uri fine("file", "", "rel", {{"a", "b c"}});
    EXPECT_EQ(fine.path(), "/rel");
    EXPECT_EQ(uri::parse(fine.to_string()).value(), fine);
}

TEST(uri, sets_and_takes_parameters) {
    uri u = uri::parse("a:///b?x=1&y=2").value();
    u.set("y", "3");
    u.set("z", "4");
    EXPECT_EQ(u.to_string(), "a:///b?x=1&y=3&z=4");
    EXPECT_EQ(u.take("x"), "1");
    EXPECT_EQ(u.take("x"), std::nullopt);
    EXPECT_EQ(u.to_string(), "a:///b?y=3&z=4");
}

TEST(uri, tells_unknown_parameters) {
    const uri u = uri::parse("malloc:///m0?size=1&sise=2").value();
    EXPECT_TRUE(u.expect_only({"size", "sise"}));
    EXPECT_EQ(u.expect_only({"size", "block_size"}).error().message,
              "malloc:///m0?size=1&sise=2: \"malloc\" has no parameter \"sise\"; it has: size, "
              "block_size");
    EXPECT_FALSE(u.expect_only({}));
    EXPECT_TRUE(uri::parse("null:///n0").value().expect_only({}));
}

TEST(host_and_port, reads_names_and_both_families) {
    EXPECT_EQ(parse_host_and_port("127.0.0.1:4420").value(), (host_and_port{"127.0.0.1", 4420}));
    EXPECT_EQ(parse_host_and_port("[::1]:4420").value(), (host_and_port{"::1", 4420}));
    EXPECT_EQ(parse_host_and_port("[::1]", 10809).value(), (host_and_port{"::1", 10809}));
    EXPECT_EQ(parse_host_and_port("host", 10809).value(), (host_and_port{"host", 10809}));
    for (const char* text : {"", ":80", "host", "host:", "host:0", "host:65536", "host:x", "::1:80",
                             "[::1", "[::1]80", "[]:80"})
        EXPECT_FALSE(parse_host_and_port(text)) << text;
}

}  // namespace
}  // namespace nacre
