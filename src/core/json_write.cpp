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

    void operator()(const value& v) { v.visit(*this); }
    void operator()(std::monostate) { out_ += "null"; }
    void operator()(bool b) { out_ += b ? "true" : "false"; }
    void operator()(std::int64_t n) { out_ += fmt::format_int(n).c_str(); }
    void operator()(std::uint64_t n) { out_ += fmt::format_int(n).c_str(); }
    void operator()(double d) { append_double(d, out_); }
    void operator()(const array& elements) {
        bracketed('[', ']', elements, [this](const value& element) { (*this)(element); });
    }
    void operator()(const object& members) {
        bracketed('{', '}', members, [this](const object::member& m) {
            (*this)(m.first);
            out_ += indent_ == 0 ? ":" : ": ";
            (*this)(m.second);
        });
    }
    void operator()(const std::string& text) { string(text); }

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
    template <typename Range, typename F>
    void bracketed(char open, char close, const Range& range, F write_one) {
        out_ += open;
        if (!range.empty()) {
            ++depth_;
            bool first = true;
            for (const auto& each : range) {
                if (!first) out_ += ',';
                first = false;
                line_break();
                write_one(each);
            }
            --depth_;
            line_break();
        }
        out_ += close;
    }

    std::string& out_;
    unsigned indent_;
    unsigned depth_ = 0;
};

/// At most `bytes_max` bytes, cut between characters.
std::string shortened(std::string_view text, std::size_t bytes_max) {
    if (text.size() <= bytes_max) return std::string(text);
    std::size_t end = bytes_max;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
    return std::string(text.substr(0, end)) + "…";
}

}  // namespace

std::string value::dump() const {
    std::string out;
    dump_to(out);
    return out;
}

void value::dump_to(std::string& out) const { writer(out, 0)(*this); }

std::string value::dump_pretty(unsigned indent) const {
    std::string out;
    writer(out, indent)(*this);
    return out;
}

std::string value::summary() const {
    constexpr std::size_t text_bytes_max = 40;
    if (is_object()) return "an object";
    if (is_array()) return "an array";
    if (is_number()) return "number " + dump();
    if (const std::string* text = if_string())
        return "string " + value(shortened(*text, text_bytes_max)).dump();
    return dump();
}

}  // namespace nacre::json
