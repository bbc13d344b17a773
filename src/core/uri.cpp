// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/core/uri.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "nacre/core/parse.hpp"
#include "utf8.hpp"

namespace nacre {

namespace {

bool is_alpha(char c) noexcept { return c >= 'a' && c <= 'z'; }
bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

bool valid_scheme(std::string_view scheme) noexcept {
    return !scheme.empty() && is_alpha(scheme.front()) && std::ranges::all_of(scheme, [](char c) {
        return is_alpha(c) || is_digit(c) || c == '+' || c == '-' || c == '.';
    });
}

std::optional<unsigned> hex_value(char c) noexcept {
    if (is_digit(c)) return static_cast<unsigned>(c - '0');
    if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a' + 10);
    if (c >= 'A' && c <= 'F') return static_cast<unsigned>(c - 'A' + 10);
    return std::nullopt;
}

/// Decodes into `out`; "" if that went well, else why not.
std::string_view percent_decode(std::string_view text, std::string& out) {
    out.clear();
    for (std::size_t i = 0; i < text.size(); ++i) {
        char c = text[i];
        if (c == '%') {
            if (i + 2 >= text.size()) return "a percent sign needs two hexadecimal digits after it";
            const auto high = hex_value(text[i + 1]);
            const auto low = hex_value(text[i + 2]);
            if (!high || !low) return "a percent sign needs two hexadecimal digits after it";
            c = static_cast<char>(*high << 4 | *low);
            i += 2;
        }
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return "it has a control character";
        out += c;
    }
    return utf8::valid(out) ? "" : "it is not UTF-8";
}

/// Letters, digits, "-._~" and what the part allows besides stand for themselves.
void percent_encode(std::string_view text, std::string_view also, std::string& out) {
    static constexpr char digits[] = "0123456789ABCDEF";
    for (const char c : text) {
        const bool plain = is_alpha(c) || is_digit(c) || (c >= 'A' && c <= 'Z') || c == '-' ||
                           c == '.' || c == '_' || c == '~' ||
                           also.find(c) != std::string_view::npos;
        if (plain) {
            out += c;
        } else {
            const auto byte = static_cast<unsigned char>(c);
            out += '%';
            out += digits[byte >> 4];
            out += digits[byte & 15];
        }
    }
}

std::string_view parse_query(std::string_view text, std::vector<uri::parameter>& query) {
    while (true) {
        const std::size_t end = std::min(text.find('&'), text.size());
        const std::string_view item = text.substr(0, end);
        const std::size_t equals = item.find('=');
        uri::parameter made;
        if (const auto why = percent_decode(item.substr(0, equals), made.first); !why.empty())
            return why;
        if (made.first.empty()) return "a parameter has no name";
        if (equals == std::string_view::npos) {
            made.second = "true";
        } else if (const auto why = percent_decode(item.substr(equals + 1), made.second);
                   !why.empty()) {
            return why;
        }
        if (std::ranges::find(query, made.first, &uri::parameter::first) != query.end())
            return "a parameter is given twice";
        query.push_back(std::move(made));
        if (end == text.size()) return "";
        text.remove_prefix(end + 1);
    }
}

}  // namespace

outcome<uri> uri::parse(std::string_view text) {
    const auto refuse = [text](std::string_view why) {
        return fail(EINVAL, fmt::format("\"{}\" is not a device's URI: {}", text, why));
    };
    const std::size_t colon = text.find("://");
    if (colon == std::string_view::npos)
        return refuse("expected scheme://…, as in malloc:///m0?size=64MiB");
    uri made;
    made.scheme_ = text.substr(0, colon);
    if (!valid_scheme(made.scheme_))
        return refuse("a scheme is made of lower-case letters, digits, + - and .");
    std::string_view rest = text.substr(colon + 3);
    if (rest.find('#') != std::string_view::npos) return refuse("write # as %23");

    const std::size_t question = std::min(rest.find('?'), rest.size());
    const std::string_view before = rest.substr(0, question);
    const std::size_t slash = std::min(before.find('/'), before.size());
    std::string_view why = percent_decode(before.substr(0, slash), made.authority_);
    if (why.empty()) why = percent_decode(before.substr(slash), made.path_);
    if (why.empty() && question + 1 < rest.size())
        why = parse_query(rest.substr(question + 1), made.query_);
    if (!why.empty()) return refuse(why);
    return made;
}

std::optional<std::string_view> uri::find(std::string_view key) const noexcept {
    const auto found = std::ranges::find(query_, key, &parameter::first);
    if (found == query_.end()) return std::nullopt;
    return found->second;
}

void uri::set(std::string_view key, std::string value) {
    const auto found = std::ranges::find(query_, key, &parameter::first);
    if (found != query_.end())
        found->second = std::move(value);
    else
        query_.emplace_back(key, std::move(value));
}

std::optional<std::string> uri::take(std::string_view key) {
    const auto found = std::ranges::find(query_, key, &parameter::first);
    if (found == query_.end()) return std::nullopt;
    std::string value = std::move(found->second);
    query_.erase(found);
    return value;
}

outcome<> uri::expect_only(std::initializer_list<std::string_view> known) const {
    for (const auto& [key, value] : query_) {
        if (std::ranges::find(known, key) != known.end()) continue;
        if (known.size() == 0)
            return fail(EINVAL, fmt::format("{}: \"{}\" takes no parameters, got \"{}\"",
                                            to_string(), scheme_, key));
        return fail(EINVAL, fmt::format("{}: \"{}\" has no parameter \"{}\"; it has: {}",
                                        to_string(), scheme_, key, fmt::join(known, ", ")));
    }
    return {};
}

std::string uri::to_string() const {
    std::string out = scheme_ + "://";
    percent_encode(authority_, ":[]@,", out);
    percent_encode(path_, "/:,=@+[]", out);
    char separator = '?';
    for (const auto& [key, value] : query_) {
        out += separator;
        percent_encode(key, ":,/@+", out);
        out += '=';
        percent_encode(value, ":,/@+[]", out);
        separator = '&';
    }
    return out;
}

outcome<host_and_port> parse_host_and_port(std::string_view text, std::uint16_t default_port) {
    const auto refuse = [text](std::string_view why) {
        return fail(EINVAL, fmt::format("\"{}\" is not an address: {}", text, why));
    };
    host_and_port made;
    std::string_view port;
    bool has_port = false;
    if (text.starts_with('[')) {
        const std::size_t close = text.find(']');
        if (close == std::string_view::npos) return refuse("the bracket is not closed");
        made.host = text.substr(1, close - 1);
        std::string_view rest = text.substr(close + 1);
        if (!rest.empty() && rest.front() != ':') return refuse("expected :PORT after the bracket");
        has_port = !rest.empty();
        if (has_port) port = rest.substr(1);
    } else {
        const std::size_t colon = text.find(':');
        if (colon != text.rfind(':')) return refuse("an IPv6 address stands in brackets");
        made.host = text.substr(0, colon);
        has_port = colon != std::string_view::npos;
        if (has_port) port = text.substr(colon + 1);
    }
    if (made.host.empty()) return refuse("it has no host");
    made.port = default_port;
    if (has_port) {
        const outcome<std::uint64_t> number = parse_uint(port, 65535);
        if (!number || *number == 0) return refuse("a port is a number from 1 to 65535");
        made.port = static_cast<std::uint16_t>(*number);
    }
    if (made.port == 0) return refuse("it has no port");
    return made;
}

}  // namespace nacre
