// SPDX-License-Identifier: BSD-3-Clause
//
// Fuzz target: the parser, the framer and the writers agree.
//
//  - What the parser takes, the framer finds as exactly one value with the same text.
//  - What the framer refuses, the parser refuses.
//  - However the stream is cut into pieces, the framer says the same.
//  - What is written is read back equal, and from then on each writing gives the same bytes. (Only
//    from then on: 1.0000000000000000001 is kept as the double 1.0, written "1.0", read as 1.)
#include <cstdint>
#include <string>
#include <vector>

#include "nacre/core/assert.hpp"
#include "nacre/core/json.hpp"
#include "nacre/core/json_scan.hpp"
#include "nacre/core/random.hpp"

namespace {

using namespace nacre;

constexpr std::size_t value_bytes_max = 4096;

struct framing {
    std::vector<std::string> values;
    std::string error;
    std::uint64_t error_offset = 0;
    friend bool operator==(const framing&, const framing&) = default;
};

/// Takes everything the framer has; false after an error.
bool drain(json::framer& f, framing& to) {
    while (true) {
        switch (f.next()) {
            case json::framer::status::need_more:
                return true;
            case json::framer::status::value:
                to.values.emplace_back(f.text());
                break;
            case json::framer::status::error:
                to.error = f.error_text();
                to.error_offset = f.error_offset();
                NACRE_ASSERT(!to.error.empty());
                NACRE_ASSERT(f.next() == json::framer::status::error);
                return false;
        }
    }
}

template <typename NextSize>
framing frame_in_pieces(std::string_view text, NextSize next_size) {
    framing found;
    json::framer f(value_bytes_max);
    while (!text.empty()) {
        const std::size_t n = std::min<std::size_t>(next_size(), text.size());
        // A copy of its own that is gone afterwards, so that a checker sees a slice kept too long.
        const std::string piece(text.substr(0, n));
        f.feed(piece);
        if (!drain(f, found)) return found;
        text.remove_prefix(n);
    }
    f.finish();
    drain(f, found);
    return found;
}

std::string_view trimmed(std::string_view text) {
    constexpr std::string_view space = " \n\r\t";
    const std::size_t from = text.find_first_not_of(space);
    if (from == std::string_view::npos) return {};
    return text.substr(from, text.find_last_not_of(space) - from + 1);
}

void check_writers(const json::value& v) {
    const json::parse_options no_bounds{
        .allow_comments = false, .depth_max = 64, .values_max = SIZE_MAX};
    const std::string compact = v.dump();
    const outcome<json::value> again = json::parse(compact, no_bounds);
    NACRE_ASSERT(again.has_value());
    NACRE_ASSERT(*again == v);
    const outcome<json::value> third = json::parse(again->dump(), no_bounds);
    NACRE_ASSERT(third.has_value() && third->dump() == again->dump());
    const outcome<json::value> pretty = json::parse(v.dump_pretty(), no_bounds);
    NACRE_ASSERT(pretty.has_value());
    NACRE_ASSERT(*pretty == v);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const framing whole = frame_in_pieces(text, [size] { return size; });
    NACRE_ASSERT(whole == frame_in_pieces(text, [] { return 1; }));
    prng random(size == 0 ? 0 : data[0] + size);
    NACRE_ASSERT(whole == frame_in_pieces(text, [&random] { return 1 + random.below(16); }));

    const outcome<json::value> parsed = json::parse(text);
    if (!parsed) NACRE_ASSERT(!parsed.error().message.empty());
    if (parsed && trimmed(text).size() <= value_bytes_max) {
        NACRE_ASSERT(whole.error.empty());
        NACRE_ASSERT(whole.values.size() == 1 && whole.values[0] == trimmed(text));
    }
    if (!whole.error.empty() && trimmed(text).size() <= value_bytes_max)
        NACRE_ASSERT(!parsed.has_value());
    if (parsed) check_writers(*parsed);
    const json::parse_options with_comments{.allow_comments = true};
    const outcome<json::value> commented = json::parse(text, with_comments);
    if (parsed) NACRE_ASSERT(commented.has_value() && *commented == *parsed);
    return 0;
}
