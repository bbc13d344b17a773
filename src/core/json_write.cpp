// SPDX-License-Identifier: BSD-3-Clause
//
// Two writers of JSON text, each equal byte for byte to one that clients know: SPDK's server
// (compact) and Python's json.dumps (indented).
#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <iterator>

#include "nacre/core/json.hpp"
#include "utf8.hpp"

namespace nacre::json {

namespace {

constexpr char32_t replacement_character = 0xfffd;

/// As Python's repr: the shortest digits that read back equal, an exponent below 1e-4 and from
/// 1e16.
void append_double(double number, std::string& out) {
    if (!std::isfinite(number)) {
        out += "null";  // JSON has no such number
        return;
    }
    std::array<char, 32> text{};
    const auto end =
        std::to_chars(text.data(), text.data() + text.size(), number, std::chars_format::scientific)
            .ptr;
    std::string_view whole(text.data(), static_cast<std::size_t>(end - text.data()));
    if (whole.starts_with('-')) {
        out += '-';
        whole.remove_prefix(1);
    }
    const std::size_t e = whole.find('e');
    std::string digits(1, whole[0]);
    if (e > 2) digits += whole.substr(2, e - 2);
    int exponent = 0;
    const char* from = whole.data() + e + 1;
    std::from_chars(*from == '+' ? from + 1 : from, whole.data() + whole.size(), exponent);
    if (exponent < -4 || exponent >= 16) {
        out += digits[0];
        if (digits.size() > 1) out.append(".").append(digits, 1);
        fmt::format_to(std::back_inserter(out), "e{}{:02}", exponent < 0 ? '-' : '+',
                       exponent < 0 ? -exponent : exponent);
        return;
    }
    if (exponent < 0) {
        out.append("0.").append(static_cast<std::size_t>(-exponent - 1), '0').append(digits);
        return;
    }
    const auto integer_digits = static_cast<std::size_t>(exponent) + 1;
    if (digits.size() <= integer_digits) digits.append(integer_digits + 1 - digits.size(), '0');
    out.append(digits, 0, integer_digits).append(".").append(digits, integer_digits);
}

class writer {
public:
    /// An indent of 0 writes compactly, as SPDK does.
    writer(std::string& out, unsigned indent) : out_(out), indent_(indent) {}

    void write(const value& v) {
        if (v.is_null()) {
            out_ += "null";
        } else if (const auto b = v.as_bool()) {
            out_ += *b ? "true" : "false";
        } else if (const std::string* text = v.if_string()) {
            string(*text);
        } else if (const array* elements = v.if_array()) {
            list(*elements);
        } else if (const object* members = v.if_object()) {
            map(*members);
        }
    }
    void integer(std::uint64_t n) { fmt::format_to(std::back_inserter(out_), "{}", n); }
    void integer(std::int64_t n) { fmt::format_to(std::back_inserter(out_), "{}", n); }
    void number(double d) { append_double(d, out_); }

    void string(std::string_view text) {
        out_ += '"';
        while (!text.empty()) {
            const std::size_t plain = plain_prefix(text);
            out_ += text.substr(0, plain);
            text.remove_prefix(plain);
            if (text.empty()) break;
            utf8::decoded d = utf8::decode(text);
            if (d.size == 0) d = {replacement_character, 1};
            escape(d.code_point);
            text.remove_prefix(d.size);
        }
        out_ += '"';
    }

private:
    static std::size_t plain_prefix(std::string_view text) noexcept {
        std::size_t n = 0;
        while (n < text.size() && text[n] >= ' ' && text[n] <= '~' && text[n] != '"' &&
               text[n] != '\\')
            ++n;
        return n;
    }
    void escape(char32_t c) {
        switch (c) {
            case U'"':
                out_ += "\\\"";
                return;
            case U'\\':
                out_ += "\\\\";
                return;
            case U'\b':
                out_ += "\\b";
                return;
            case U'\f':
                out_ += "\\f";
                return;
            case U'\n':
                out_ += "\\n";
                return;
            case U'\r':
                out_ += "\\r";
                return;
            case U'\t':
                out_ += "\\t";
                return;
            default:
                break;
        }
        if (c < 0x10000) {
            code_unit(c);
            return;
        }
        code_unit(0xd800 + ((c - 0x10000) >> 10));
        code_unit(0xdc00 + ((c - 0x10000) & 0x3ff));
    }
    void code_unit(char32_t unit) {
        // SPDK writes upper case, Python lower.
        const auto number = static_cast<unsigned>(unit);
        if (indent_ == 0)
            fmt::format_to(std::back_inserter(out_), "\\u{:04X}", number);
        else
            fmt::format_to(std::back_inserter(out_), "\\u{:04x}", number);
    }
    void line_break() {
        if (indent_ == 0) return;
        out_ += '\n';
        out_.append(std::size_t{indent_} * depth_, ' ');
    }
    void separate(bool& first) {
        if (!first) out_ += ',';
        first = false;
        line_break();
    }
    void list(const array& elements);
    void map(const object& members);
    void any(const value& v);

    std::string& out_;
    unsigned indent_;
    unsigned depth_ = 0;
};

}  // namespace

namespace {

void writer::any(const value& v) {
    if (!v.is_number()) {
        write(v);
    } else if (v.is_integer()) {
        if (const auto n = v.as_uint64())
            integer(*n);
        else
            integer(*v.as_int64());
    } else {
        number(*v.as_double());
    }
}

void writer::list(const array& elements) {
    out_ += '[';
    if (!elements.empty()) {
        bool first = true;
        ++depth_;
        for (const value& element : elements) {
            separate(first);
            any(element);
        }
        --depth_;
        line_break();
    }
    out_ += ']';
}

void writer::map(const object& members) {
    out_ += '{';
    if (!members.empty()) {
        bool first = true;
        ++depth_;
        for (const auto& [name, v] : members) {
            separate(first);
            string(name);
            out_ += indent_ == 0 ? ":" : ": ";
            any(v);
        }
        --depth_;
        line_break();
    }
    out_ += '}';
}

}  // namespace

}  // namespace nacre::json
