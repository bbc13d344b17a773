// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/rpc/documents.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace nacre::rpc {
namespace {

struct odd_params {
    std::string name;
    std::optional<std::uint64_t> size;
    std::uint32_t detected = 0;
    std::uint32_t count = 7;

    static std::span<const json::field> fields() {
        using self = odd_params;
        static constexpr json::field table[] = {
            json::required<&self::name>("name", "A \"name\" with 100 % of a \\"),
            json::optional<&self::size>("size", "-1 is none"),
            json::automatic<&self::detected>("detected", "Found out"),
            json::optional<&self::count>("count", "How many"),
        };
        return table;
    }
};

task<reply> odd(context&, odd_params) { co_return json::value(true); }

constexpr method odd_methods[] = {
    declare<&odd>("odd_one", state::startup, "'Does' it"),
};

method_table odd_table() {
    method_table table;
    table.add(odd_methods);
    return table;
}

TEST(rpc_documents, show_a_default_only_where_there_is_one) {
    const json::array all = schemas(odd_table());
    ASSERT_EQ(all.size(), 1U);
    const json::value& parameters = all[0]["parameters"];
    EXPECT_EQ(parameters[1].find("default"), nullptr) << "an empty optional";
    EXPECT_EQ(parameters[2].find("default"), nullptr) << "worked out later";
    EXPECT_EQ(parameters[3]["default"], json::value(7));
    EXPECT_EQ(all[0]["creates"], json::value(false));
}

TEST(rpc_documents, are_of_the_methods_that_are_asked_for) {
    const json::array all = schemas(all_methods());
    EXPECT_EQ(all.size(), all_methods().all().size());
    for (const json::value& m : schemas(all_methods(), "raid"))
        EXPECT_NE(m["method"].as_string()->find("raid"), std::string_view::npos);
}

TEST(rpc_documents, escape_what_roff_would_take_for_itself) {
    EXPECT_EQ(roff("a-b \\ c"), "a\\-b \\e c");
    EXPECT_EQ(roff("… é 😀"), "\\[u2026] \\[u00E9] \\[u1F600]");
    EXPECT_EQ(roff(".x\n'y"), "\\&.x\n\\&'y");
    const std::string page = manual_page(schemas(odd_table()), "1.2");
    EXPECT_NE(page.find("\n\\&'Does' it.\n"), std::string::npos) << page;
    EXPECT_NE(page.find("Before framework_start_init only."), std::string::npos);
    EXPECT_NE(page.find("\\-1 is none (uint64)"), std::string::npos) << page;
}

TEST(rpc_documents, describe_each_method_in_the_manual_and_the_plug_in) {
    const method_table table = all_methods();
    const json::array all = schemas(table);
    const std::string page = manual_page(all, "1.2");
    const std::string plugin = rpc_py_plugin(all, "nacre");
    for (const method* m : table.all()) {
        EXPECT_NE(page.find(roff(m->name)), std::string::npos) << m->name;
        EXPECT_NE(plugin.find("\"" + std::string(m->name) + "\""), std::string::npos) << m->name;
    }
    for (std::size_t at = 0; (at = page.find('\n', at)) != std::string::npos; ++at)
        EXPECT_NE(page.substr(at, 2), "\n'") << "a request to roff: " << page.substr(at, 40);
}

}  // namespace
}  // namespace nacre::rpc
