// SPDX-License-Identifier: BSD-3-Clause
//
// The parser: nlohmann's lexer and grammar, with the bounds, the check for duplicate keys and the
// handling of numbers that a daemon needs. The grammar's stack is a bit vector, not the call stack.
#include <fmt/format.h>

#include <charconv>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "nacre/core/json.hpp"

namespace nacre::json {

namespace {

/// Counts the bytes that the lexer has taken, which is how the handler knows where it is.
class counting_iterator {
public:
    using iterator_category = std::input_iterator_tag;
    using value_type = char;
    using difference_type = std::ptrdiff_t;
    using pointer = const char*;
    using reference = const char&;

    counting_iterator(const char* at, const char** furthest) noexcept
        : at_(at), furthest_(furthest) {}
    reference operator*() const noexcept { return *at_; }
    counting_iterator& operator++() noexcept {
        *furthest_ = ++at_;
        return *this;
    }
    counting_iterator operator++(int) noexcept {
        counting_iterator before = *this;
        ++*this;
        return before;
    }
    friend bool operator==(const counting_iterator& a, const counting_iterator& b) noexcept {
        return a.at_ == b.at_;
    }

private:
    const char* at_;
    const char** furthest_;
};

/// The integer that a number with point or exponent denotes: "1e3" is 1000, "10.0" is 10. Exact
/// over all 64 bits, which a detour over double would not be. Empty when it is none or does not
/// fit.
std::optional<value> integral_number(std::string_view token) {
    constexpr std::size_t digits_max = 20;  // of 2^64
    const bool negative = token.starts_with('-');
    if (negative) token.remove_prefix(1);
    const std::size_t e = std::min(token.find_first_of("eE"), token.size());
    int exponent = 0;
    if (e < token.size()) {
        std::string_view text = token.substr(e + 1);
        if (text.starts_with('+')) text.remove_prefix(1);
        const auto code = std::from_chars(text.data(), text.data() + text.size(), exponent).ec;
        if (code != std::errc()) return std::nullopt;
    }
    std::string_view mantissa = token.substr(0, e);
    const std::size_t point = std::min(mantissa.find('.'), mantissa.size());
    std::string digits(mantissa.substr(0, point));
    std::int64_t shift = exponent;
    if (point < mantissa.size()) {
        const std::string_view fraction = mantissa.substr(point + 1);
        digits += fraction;
        shift -= static_cast<std::int64_t>(fraction.size());
    }
    digits.erase(0, std::min(digits.find_first_not_of('0'), digits.size()));
    if (digits.empty()) return negative ? std::nullopt : std::optional<value>(0);
    while (shift < 0 && digits.ends_with('0')) {
        digits.pop_back();
        ++shift;
    }
    if (shift < 0 || digits.size() + static_cast<std::size_t>(shift) > digits_max)
        return std::nullopt;
    digits.append(static_cast<std::size_t>(shift), '0');
    std::uint64_t number = 0;
    if (std::from_chars(digits.data(), digits.data() + digits.size(), number).ec != std::errc())
        return std::nullopt;
    if (!negative) return value(number);
    if (number > std::uint64_t{1} << 63) return std::nullopt;
    return value(static_cast<std::int64_t>(0 - number));
}

/// What the lexer calls; builds the value and keeps the first error.
class builder {
public:
    using number_integer_t = nlohmann::json::number_integer_t;
    using number_unsigned_t = nlohmann::json::number_unsigned_t;
    using number_float_t = nlohmann::json::number_float_t;
    using string_t = nlohmann::json::string_t;
    using binary_t = nlohmann::json::binary_t;

    builder(std::string_view text, const parse_options& options, const char* const& at)
        : text_(text), options_(options), at_(at) {}

    bool null() { return scalar(value()); }
    bool boolean(bool b) { return scalar(value(b)); }
    bool number_integer(number_integer_t n) { return scalar(value(n)); }
    bool number_unsigned(number_unsigned_t n) { return scalar(value(n)); }
    bool number_float(number_float_t n, const string_t& token) {
        std::optional<value> integral = integral_number(token);
        return scalar(integral ? std::move(*integral) : value(n));
    }
    bool string(string_t& text) { return scalar(value(std::move(text))); }
    bool binary(binary_t&) { return false; }  // JSON text has none

    bool start_object(std::size_t) { return open(value(object())); }
    bool end_object() { return close(); }
    bool start_array(std::size_t) { return open(value(array())); }
    bool end_array() { return close(); }
    bool key(string_t& name) {
        if (!count_one()) return false;
        frame& top = stack_.back();
        if (known(top, name))
            return refuse(EEXIST, fmt::format("duplicate key {}", value(name).summary()));
        top.key = std::move(name);
        return true;
    }
    bool parse_error(std::size_t position, const std::string&,
                     const nlohmann::detail::exception& why) {
        constexpr std::size_t reason_max = 200;
        std::string_view reason = why.what();
        if (const auto begin = reason.find("syntax error "); begin != std::string_view::npos)
            reason = reason.substr(begin);
        else if (const auto bracket = reason.find("] "); bracket != std::string_view::npos)
            reason = reason.substr(bracket + 2);
        // Of a long token, which may be a key, nothing is quoted; the place says where it stands.
        constexpr std::size_t quoted_max = 24;
        if (const auto quote = reason.find("; last read: '");
            quote != std::string_view::npos && reason.size() > quote + quoted_max)
            reason = reason.substr(0, quote);
        // The lexer counts the offending byte itself.
        error_offset_ = std::min(position == 0 ? 0 : position - 1, text_.size());
        return refuse_here(EINVAL, std::string(reason.substr(0, reason_max)));
    }

    [[nodiscard]] value take() { return std::move(root_); }
    /// "line 3, column 14 (byte 52): why"
    [[nodiscard]] failure error() const {
        std::size_t line = 1;
        std::size_t line_start = 0;
        for (std::size_t i = 0; i < error_offset_; ++i) {
            if (text_[i] != '\n') continue;
            ++line;
            line_start = i + 1;
        }
        return failure(error_code_,
                       fmt::format("line {}, column {} (byte {}): {}", line,
                                   error_offset_ - line_start + 1, error_offset_, error_));
    }
    bool refuse_at(std::size_t offset, int code, std::string why) {
        error_offset_ = offset;
        return refuse_here(code, std::move(why));
    }

private:
    struct frame {
        value* container;
        std::string key;                        // of the member that comes next
        std::unordered_set<std::string> names;  // used once linear search would be slow
    };
    static constexpr std::size_t linear_search_max = 16;

    static bool known(frame& top, const std::string& name) {
        const object& members = *top.container->if_object();
        if (members.size() < linear_search_max) return members.contains(name);
        if (top.names.empty())
            for (const auto& [each, ignored] : members) top.names.insert(each);
        return !top.names.insert(name).second;
    }
    bool count_one() {
        if (++values_ <= options_.values_max) return true;
        return refuse(E2BIG, fmt::format("more than {} values", options_.values_max));
    }
    value* place(value&& v) {
        if (stack_.empty()) {
            root_ = std::move(v);
            return &root_;
        }
        frame& top = stack_.back();
        if (array* elements = top.container->if_array())
            return &elements->emplace_back(std::move(v));
        return &top.container->if_object()->append(std::move(top.key), std::move(v));
    }
    bool scalar(value&& v) {
        if (!count_one()) return false;
        place(std::move(v));
        return true;
    }
    bool open(value&& v) {
        if (!count_one()) return false;
        if (stack_.size() == options_.depth_max)
            return refuse(E2BIG, fmt::format("nested deeper than {} levels", options_.depth_max));
        stack_.push_back({place(std::move(v)), {}, {}});
        return true;
    }
    bool close() {
        stack_.pop_back();
        return count_one();
    }
    bool refuse(int code, std::string why) {
        const auto taken = static_cast<std::size_t>(at_ - text_.data());
        return refuse_at(taken == 0 ? 0 : taken - 1, code, std::move(why));
    }
    bool refuse_here(int code, std::string why) {
        error_code_ = code;
        error_ = std::move(why);
        return false;
    }

    std::string_view text_;
    const parse_options& options_;
    const char* const& at_;  // behind the last byte that the lexer has taken
    value root_;
    std::vector<frame> stack_;
    std::size_t values_ = 0;
    int error_code_ = EINVAL;
    std::size_t error_offset_ = 0;
    std::string error_;
};

constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";

}  // namespace

outcome<value> parse(std::string_view text, parse_options options) {
    const char* at = text.data();
    builder building(text, options, at);
    // The lexer would skip the one and take the other for the end of the text.
    if (text.starts_with(byte_order_mark)) {
        building.refuse_at(0, EINVAL, "a byte order mark");
        return fail(building.error());
    }
    if (const std::size_t nul = text.find('\0'); nul != std::string_view::npos) {
        building.refuse_at(nul, EINVAL, "a NUL byte");
        return fail(building.error());
    }
    const counting_iterator begin(text.data(), &at);
    const counting_iterator end(text.data() + text.size(), &at);
    const bool parsed = nlohmann::json::sax_parse(
        begin, end, &building, nlohmann::json::input_format_t::json, true, options.allow_comments);
    if (!parsed) return fail(building.error());
    return building.take();
}

}  // namespace nacre::json
