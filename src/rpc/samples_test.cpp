// SPDX-License-Identifier: BSD-3-Clause
//
// Conversations captured from a real SPDK (testdata/spdk-samples.md), held again with nacre. What
// must be the same: the keys of every object and their order, kinds and values, error codes. What
// may differ: UUIDs, times and counts, lists of what is inside the server, sentences of errors.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>

#include "test_fixture.hpp"

namespace nacre::rpc {
namespace {

struct exchange {
    std::string title;
    std::string needs;
    std::string sent;
    std::string received;
    bool cut = false;
};

/// The blocks of one part ("First capture") of the file.
std::vector<exchange> read_samples(std::string_view part) {
    std::ifstream file(NACRE_SOURCE_DIR "/src/rpc/testdata/spdk-samples.md");
    EXPECT_TRUE(file.good());
    std::vector<exchange> all;
    std::string title;
    std::string needs;
    bool inside = false;
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with("# ")) inside = line.substr(2) == part;
        if (!inside) continue;
        if (line.starts_with("## ")) {
            title = line.substr(3);
            needs.clear();
        }
        if (line.starts_with("needs: ")) needs = line.substr(7);
        if (line.starts_with("> ")) all.push_back({title, needs, line.substr(2), {}});
        if (line.starts_with("< ")) all.back().received = line.substr(2);
        if (line.starts_with("... (cut")) all.back().cut = true;
    }
    return all;
}

/// Figures and lists that are each server's own: only the kinds of values are compared, and of
/// lists the first elements.
bool only_shape(std::string_view method) {
    return method == "spdk_get_version" || method == "framework_get_reactors" ||
           method == "rpc_get_methods" || method == "framework_get_subsystems" ||
           method == "log_get_flags" || method == "bdev_get_iostat" ||
           method.starts_with("thread_get_");
}

class comparison {
public:
    explicit comparison(bool shape) : shape_(shape) {}
    std::string differences;

    void compare(const json::value& expected, const json::value& actual, const std::string& at) {
        if (const json::object* members = expected.if_object()) {
            if (!actual.is_object()) return note(at, expected, actual);
            compare_members(*members, *actual.if_object(), at);
        } else if (const json::array* elements = expected.if_array()) {
            if (!actual.is_array()) return note(at, expected, actual);
            if (!shape_ && elements->size() != actual.size()) return note(at, expected, actual);
            for (std::size_t i = 0; i < std::min(elements->size(), actual.size()); ++i) {
                compare((*elements)[i], actual[i], at + "[" + std::to_string(i) + "]");
                if (shape_) break;
            }
        } else {
            compare_scalars(expected, actual, at);
        }
    }

private:
    void compare_members(const json::object& expected, const json::object& actual,
                         const std::string& at) {
        // The log's flags are the components of each program.
        if (at == ".result" && shape_ && !expected.contains("tick_rate") &&
            !expected.contains("version"))
            return;
        auto have = actual.begin();
        for (const auto& [key, v] : expected) {
            // Nacre has neither NUMA placement nor memory domains.
            if (key == "numa_id" || key == "memory_domains") {
                if (have == actual.end() || have->first != key) continue;
            }
            if (have == actual.end() || have->first != key) {
                differences += at + ": expected key " + key + ", got " +
                               (have == actual.end() ? "none" : have->first) + "\n";
                return;
            }
            compare(v, have->second, at + "." + key);
            ++have;
        }
        if (have != actual.end()) differences += at + ": has key " + have->first + "\n";
    }
    void compare_scalars(const json::value& expected, const json::value& actual,
                         const std::string& at) {
        static const std::regex uuid("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}");
        const bool same_kind = (expected.is_number() && actual.is_number()) ||
                               (expected.is_bool() && actual.is_bool()) ||
                               (expected.is_string() && actual.is_string()) ||
                               (expected.is_null() && actual.is_null());
        if (!same_kind) return note(at, expected, actual);
        if (shape_ || expected == actual) return;
        // What a kind of bdev can do is its own affair.
        if (at.find(".supported_io_types.") != std::string::npos) return;
        if (at.ends_with(".message")) return;
        if (expected.is_string() && std::regex_match(*expected.if_string(), uuid) &&
            std::regex_match(*actual.if_string(), uuid))
            return;
        note(at, expected, actual);
    }
    void note(const std::string& at, const json::value& expected, const json::value& actual) {
        differences +=
            at + ": expected " + expected.dump() + ", got " + actual.dump().substr(0, 200) + "\n";
    }
    bool shape_;
};

/// SPDK shows a RAID bdev's uuid twice, which makes it no JSON by our parser.
std::string without_doubled_uuid(const std::string& text) {
    static const std::regex doubled("(\"uuid\":\"[0-9a-f-]{36}\",)\"uuid\":\"[0-9a-f-]{36}\",");
    return std::regex_replace(text, doubled, "$1");
}

std::string method_of(const std::string& request) {
    std::smatch found;
    static const std::regex method("\"method\": ?\"([a-z0-9_]+)\"");
    return std::regex_search(request, found, method) ? found[1].str() : "";
}

/// A message that SPDK gives word for word, and nacre at least to begin with.
bool is_kept(std::string_view message) {
    return message == "Method not found" || message == "Invalid request" ||
           message == "spdk_json_decode_object failed" ||
           message.ends_with(" method requires no parameters") ||
           message.starts_with("Method may only be called");
}

/// Of a cut answer: what stands before the first thing that is the server's own (a list's further
/// names, a figure) must be the same, with figures as #.
void compare_beginnings(const exchange& e, const std::string& got) {
    static const std::regex figure("[0-9]+");
    const std::string method = method_of(e.sent);
    std::string_view own;  // the last text that both have
    if (method == "rpc_get_methods") own = "\"rpc_get_methods\",";
    if (method == "bdev_get_histogram") own = "\"histogram\":\"AAAAAAAA";
    if (method == "bdev_get_iostat") own = "\"io_error\":{}},{\"name\":\"";
    const std::size_t end = e.received.find(own);
    ASSERT_FALSE(own.empty()) << e.sent;
    ASSERT_NE(end, std::string::npos) << e.sent;
    const std::string wanted =
        std::regex_replace(e.received.substr(0, end + own.size()), figure, "#");
    EXPECT_TRUE(std::regex_replace(got, figure, "#").starts_with(wanted))
        << e.sent << " gave " << got.substr(0, 2000);
}

/// SPDK's commands that nacre has: a saved configuration has those of every part of the program.
void leave_what_exists(context& here, json::value& commands) {
    std::erase_if(*commands.if_array(), [&](const json::value& c) {
        return here.methods().find(*c["method"].as_string()) == nullptr;
    });
}

void compare_answers(context& here, const exchange& e, const std::string& got) {
    if (e.cut) return compare_beginnings(e, got);
    outcome<json::value> expected = json::parse(without_doubled_uuid(e.received));
    outcome<json::value> actual = json::parse(got);
    ASSERT_TRUE(expected.has_value()) << e.received;
    ASSERT_TRUE(actual.has_value()) << e.sent << " gave " << got;
    if (method_of(e.sent) == "framework_get_config")
        leave_what_exists(here, *expected->if_object()->find("result"));
    comparison c(only_shape(method_of(e.sent)));
    c.compare(*expected, *actual, "");
    EXPECT_EQ(c.differences, "") << e.title << "\n> " << e.sent << "\n< " << got;
    const json::value& message = (*expected)["error"]["message"];
    if (!message.is_string()) return;
    const std::string ours(*(*actual)["error"]["message"].as_string());
    if (is_kept(*message.as_string())) {
        EXPECT_TRUE(ours.starts_with(*message.as_string())) << e.sent << " gave " << ours;
    } else {
        EXPECT_NE(ours.find(*message.as_string()), std::string::npos) << e.sent << " gave " << ours;
    }
}

unsigned replayed = 0;
unsigned passed_over = 0;

/// What the capture does not show: the legs of its RAID bdevs, made just before them.
task<void> make_legs(fixture& f, std::string creation) {
    static const std::regex leg("Malloc[3-6]");
    std::vector<std::string> names;
    for (std::sregex_iterator i(creation.begin(), creation.end(), leg), end; i != end; ++i)
        names.push_back(i->str());
    EXPECT_EQ(names.size(), 2U);
    for (const std::string& name : names) {
        std::string request = R"({"method":"bdev_malloc_create","id":1,"params":{"name":")" + name +
                              R"(","num_blocks":8192,"block_size":4096}})";
        std::string got = co_await f.ask(std::move(request));
        EXPECT_NE(got.find("result"), std::string::npos) << got;
    }
}

bool is_there(context& here, const std::string& needed) {
    if (needed.empty()) return true;
    return needed.find('/') == std::string::npos
               ? here.methods().find(needed) != nullptr
               : std::filesystem::exists(NACRE_SOURCE_DIR "/" + needed);
}

task<void> replay(fixture& f, std::string part) {
    std::vector<exchange> samples = read_samples(part);
    auto client = std::make_unique<raw_client>(f);
    for (const exchange& e : samples) {
        const std::string method = method_of(e.sent);
        if (!is_there(f.here, e.needs)) {
            ++passed_over;
            continue;
        }
        ++replayed;
        if (method == "bdev_raid_create") co_await make_legs(f, e.sent);
        co_await client->send(e.sent);
        if (e.received.empty()) {
            // SPDK only closes; nacre says why first.
            std::string got = co_await client->to_end();
            EXPECT_NE(got.find("-32700"), std::string::npos) << e.sent << " gave " << got;
            client = std::make_unique<raw_client>(f);
            continue;
        }
        std::string got = co_await client->line();
        compare_answers(f.here, e, got);
    }
}

task<void> replay_first(fixture& f) {
    co_await replay(f, "First capture");
    EXPECT_EQ(f.application.signal, 15);
}
task<void> replay_second(fixture& f) {
    co_await replay(f, "Second capture");
    EXPECT_EQ(f.application.signal, 15);
}

TEST(rpc_samples, are_answered_as_spdk_answers_them) {
    replayed = 0;
    fixture({.shuffle = false}).run(&replay_first);
    fixture({.shuffle = false}).run(&replay_second);
    EXPECT_EQ(replayed, 104U);
    EXPECT_EQ(passed_over, 0U);
}

}  // namespace
}  // namespace nacre::rpc
