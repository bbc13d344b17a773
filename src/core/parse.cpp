// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/core/parse.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string>

namespace nacre {

namespace {

__extension__ using wide = unsigned __int128;

struct unit {
    std::string_view name;
    std::uint64_t factor;
};

constexpr std::uint64_t kib = 1024;
constexpr std::uint64_t kb = 1000;

// Each letter alone is a power of 1024; the names are compared in lower case.
constexpr auto size_units = std::to_array<unit>({
    {"", 1},
    {"b", 1},
    {"k", kib},
    {"kib", kib},
    {"kb", kb},
    {"m", kib* kib},
    {"mib", kib* kib},
    {"mb", kb* kb},
    {"g", kib* kib* kib},
    {"gib", kib* kib* kib},
    {"gb", kb* kb* kb},
    {"t", kib* kib* kib* kib},
    {"tib", kib* kib* kib* kib},
    {"tb", kb* kb* kb* kb},
    {"p", kib* kib* kib* kib* kib},
    {"pib", kib* kib* kib* kib* kib},
    {"pb", kb* kb* kb* kb* kb},
    {"e", kib* kib* kib* kib* kib* kib},
    {"eib", kib* kib* kib* kib* kib* kib},
    {"eb", kb* kb* kb* kb* kb* kb},
});

constexpr std::uint64_t second = 1'000'000'000;

constexpr auto duration_units = std::to_array<unit>({
    {"ns", 1},
    {"us", 1000},
    {"ms", 1'000'000},
    {"s", second},
    {"sec", second},
    {"m", 60 * second},
    {"min", 60 * second},
    {"h", 3600 * second},
    {"d", 86400 * second},
});

std::string lower(std::string_view text) {
    std::string out(text);
    for (char& c : out)
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    return out;
}

bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

/// A decimal number as digits without its point and the power of ten that divides them.
struct decimal {
    wide digits = 0;
    wide divisor = 1;
};

/// Takes "12" or "1.5" off the front; at most 24 digits, so that nothing below overflows 128 bits.
std::optional<decimal> take_decimal(std::string_view& text) noexcept {
    constexpr unsigned digits_max = 24;
    decimal number;
    unsigned digits = 0;
    bool after_point = false;
    while (!text.empty()) {
        const char c = text.front();
        if (is_digit(c)) {
            if (++digits > digits_max) return std::nullopt;
            number.digits = number.digits * 10 + static_cast<unsigned>(c - '0');
            if (after_point) number.divisor *= 10;
        } else if (c == '.' && !after_point && digits > 0 && text.size() > 1 && is_digit(text[1])) {
            after_point = true;
        } else {
            break;
        }
        text.remove_prefix(1);
    }
    if (digits == 0) return std::nullopt;
    return number;
}

enum class scaled { ok, not_whole, too_large };

scaled scale(const decimal& number, std::uint64_t factor, std::uint64_t& to) noexcept {
    // digits < 10^24 and factor < 2^63 may exceed 128 bits together, so divide first where
    // possible.
    constexpr wide max = std::numeric_limits<std::uint64_t>::max();
    const wide whole = number.digits / number.divisor;
    const wide part = number.digits % number.divisor;
    if (whole > max / factor) return scaled::too_large;
    wide product = 0;
    if (__builtin_mul_overflow(part, static_cast<wide>(factor), &product)) return scaled::not_whole;
    if (product % number.divisor != 0) return scaled::not_whole;
    const wide total = whole * factor + product / number.divisor;
    if (total > max) return scaled::too_large;
    to = static_cast<std::uint64_t>(total);
    return scaled::ok;
}

template <std::size_t N>
const unit* find_unit(const std::array<unit, N>& units, std::string_view name) {
    const std::string wanted = lower(name);
    const auto found = std::ranges::find(units, wanted, &unit::name);
    return found == units.end() ? nullptr : &*found;
}

}  // namespace

outcome<std::uint64_t> parse_size(std::string_view text) {
    const auto refuse = [text](std::string_view why) {
        return fail(EINVAL, fmt::format("\"{}\" is not a size: {}", text, why));
    };
    if (text.starts_with("0x") || text.starts_with("0X")) return parse_uint(text);
    std::string_view rest = text;
    const std::optional<decimal> number = take_decimal(rest);
    if (!number) return refuse("expected a number such as 512, 4k or 64MiB");
    while (!rest.empty() && rest.front() == ' ') rest.remove_prefix(1);
    const unit* u = find_unit(size_units, rest);
    if (u == nullptr) return refuse("the units are B, KiB, MiB, GiB, TiB, PiB, EiB, KB, MB, …");
    std::uint64_t bytes = 0;
    switch (scale(*number, u->factor, bytes)) {
        case scaled::ok:
            return bytes;
        case scaled::not_whole:
            return refuse("it is not a whole number of bytes");
        case scaled::too_large:
            break;
    }
    return refuse("it exceeds 2^64-1 bytes");
}

std::string format_size(std::uint64_t bytes) {
    static constexpr auto names =
        std::to_array<std::string_view>({"", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"});
    std::size_t i = 0;
    while (i + 1 < names.size() && bytes != 0 && bytes % kib == 0) {
        bytes /= kib;
        ++i;
    }
    return fmt::format("{}{}", bytes, names[i]);
}

outcome<std::chrono::nanoseconds> parse_duration(std::string_view text,
                                                 std::chrono::nanoseconds bare_unit) {
    const auto refuse = [text](std::string_view why) {
        return fail(EINVAL, fmt::format("\"{}\" is not a duration: {}", text, why));
    };
    std::string_view rest = text;
    const std::optional<decimal> number = take_decimal(rest);
    if (!number) return refuse("expected a number such as 10us, 5ms, 2s or 1h");
    while (!rest.empty() && rest.front() == ' ') rest.remove_prefix(1);
    auto factor = static_cast<std::uint64_t>(bare_unit.count());
    if (!rest.empty()) {
        const unit* u = find_unit(duration_units, rest);
        if (u == nullptr) return refuse("the units are ns, us, ms, s, min, h and d");
        factor = u->factor;
    }
    std::uint64_t nanoseconds = 0;
    const scaled how = scale(*number, factor, nanoseconds);
    if (how == scaled::not_whole) return refuse("it is not a whole number of nanoseconds");
    constexpr auto max = static_cast<std::uint64_t>(std::chrono::nanoseconds::max().count());
    if (how == scaled::too_large || nanoseconds > max) return refuse("it exceeds 292 years");
    return std::chrono::nanoseconds(static_cast<std::int64_t>(nanoseconds));
}

outcome<std::uint64_t> parse_uint(std::string_view text, std::uint64_t max) {
    const bool hex = text.starts_with("0x") || text.starts_with("0X");
    const std::string_view digits = hex ? text.substr(2) : text;
    std::uint64_t number = 0;
    const char* const end = digits.data() + digits.size();
    const auto [stop, code] = std::from_chars(digits.data(), end, number, hex ? 16 : 10);
    if (digits.empty() || stop != end || code == std::errc::invalid_argument)
        return fail(EINVAL, fmt::format("\"{}\" is not an unsigned integer", text));
    if (code != std::errc() || number > max)
        return fail(ERANGE, fmt::format("{} is out of range: the largest value is {}", text, max));
    return number;
}

outcome<bool> parse_bool(std::string_view text) {
    const std::string word = lower(text);
    if (word == "true" || word == "yes" || word == "on" || word == "1") return true;
    if (word == "false" || word == "no" || word == "off" || word == "0") return false;
    return fail(EINVAL, fmt::format("\"{}\" is neither true nor false", text));
}

}  // namespace nacre
