// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/core/cpu_set.hpp"

#include <fmt/format.h>

#include <bit>
#include <charconv>

#include "nacre/core/assert.hpp"

namespace nacre {

namespace {

std::unexpected<failure> refuse(std::string_view text, std::string_view why) {
    return fail(EINVAL, fmt::format("\"{}\" is not a set of processors: {}", text, why));
}

constexpr std::string_view list_form = "expected a list such as 0-3,5 or a mask such as 0xf";

std::optional<unsigned> take_number(std::string_view& text) noexcept {
    unsigned number = 0;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (code != std::errc() || end == text.data()) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    return number;
}

std::string_view trimmed(std::string_view text) noexcept {
    while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
    while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
    return text;
}

/// One "3" or "0-3" of a list; "" when it was added, else why not.
std::string_view add_item(cpu_set& set, std::string_view item) {
    item = trimmed(item);
    const std::optional<unsigned> first = take_number(item);
    if (!first) return list_form;
    unsigned last = *first;
    if (!item.empty()) {
        if (item.front() != '-') return list_form;
        item.remove_prefix(1);
        const std::optional<unsigned> end = take_number(item);
        if (!end || !item.empty()) return list_form;
        last = *end;
    }
    if (last < *first) return "a range ends before it begins";
    if (last >= cpu_set::cpus_max) return "the highest processor number is 1023";
    for (unsigned cpu = *first; cpu <= last; ++cpu) set.add(cpu);
    return "";
}

outcome<cpu_set> parse_list(std::string_view whole, std::string_view list) {
    cpu_set set;
    while (true) {
        const std::size_t comma = list.find(',');
        const std::string_view why = add_item(set, list.substr(0, comma));
        if (!why.empty()) return refuse(whole, why);
        if (comma == std::string_view::npos) return set;
        list.remove_prefix(comma + 1);
    }
}

outcome<cpu_set> parse_hex(std::string_view whole, std::string_view digits) {
    if (digits.empty()) return refuse(whole, "the mask has no digits");
    cpu_set set;
    unsigned bit = 0;
    for (std::size_t i = digits.size(); i-- > 0;) {
        const char c = digits[i];
        if (c == ',' && i > 0) continue;  // the kernel groups long masks with commas
        unsigned nibble = 0;
        const auto [end, code] = std::from_chars(&digits[i], &digits[i] + 1, nibble, 16);
        if (code != std::errc() || end != &digits[i] + 1)
            return refuse(whole, "a mask is made of hexadecimal digits");
        for (unsigned n = 0; n < 4; ++n) {
            if ((nibble >> n & 1) == 0) continue;
            if (bit + n >= cpu_set::cpus_max)
                return refuse(whole, "the highest processor number is 1023");
            set.add(bit + n);
        }
        bit += 4;
    }
    return set;
}

bool has_hex_prefix(std::string_view text) noexcept {
    return text.starts_with("0x") || text.starts_with("0X");
}

}  // namespace

outcome<cpu_set> cpu_set::parse(std::string_view text) {
    const std::string_view inner = trimmed(text);
    if (inner.empty()) return refuse(text, list_form);
    if (has_hex_prefix(inner)) return parse_hex(text, inner.substr(2));
    if (inner.front() != '[') return parse_list(text, inner);
    if (inner.back() != ']') return refuse(text, "the bracket is not closed");
    return parse_list(text, inner.substr(1, inner.size() - 2));
}

outcome<cpu_set> cpu_set::parse_mask(std::string_view text) {
    const std::string_view inner = trimmed(text);
    if (inner.starts_with('[')) return parse(text);
    return parse_hex(text, has_hex_prefix(inner) ? inner.substr(2) : inner);
}

void cpu_set::add(unsigned cpu) noexcept {
    NACRE_ASSERT(cpu < cpus_max);
    words_[cpu / 64] |= std::uint64_t{1} << cpu % 64;
}

void cpu_set::remove(unsigned cpu) noexcept {
    NACRE_ASSERT(cpu < cpus_max);
    words_[cpu / 64] &= ~(std::uint64_t{1} << cpu % 64);
}

unsigned cpu_set::count() const noexcept {
    unsigned total = 0;
    for (const std::uint64_t word : words_) total += static_cast<unsigned>(std::popcount(word));
    return total;
}

std::optional<unsigned> cpu_set::at_or_after(unsigned cpu) const noexcept {
    if (cpu >= cpus_max) return std::nullopt;
    std::uint64_t word = words_[cpu / 64] & ~std::uint64_t{0} << cpu % 64;
    for (std::size_t i = cpu / 64;;) {
        if (word != 0) return static_cast<unsigned>(i * 64) + std::countr_zero(word);
        if (++i == words_.size()) return std::nullopt;
        word = words_[i];
    }
}

std::string cpu_set::to_mask() const {
    std::string text;
    for (std::size_t i = words_.size(); i-- > 0;) {
        if (!text.empty())
            text += fmt::format("{:016x}", words_[i]);
        else if (words_[i] != 0)
            text = fmt::format("{:x}", words_[i]);
    }
    return text.empty() ? "0" : text;
}

std::string cpu_set::to_list() const {
    std::string text;
    for (std::optional<unsigned> from = first(); from;) {
        unsigned last = *from;
        while (contains(last + 1)) ++last;
        if (!text.empty()) text += ',';
        text += last == *from ? fmt::format("{}", last) : fmt::format("{}-{}", *from, last);
        from = next(last);
    }
    return text;
}

cpu_set& cpu_set::operator|=(const cpu_set& other) noexcept {
    for (std::size_t i = 0; i < words_.size(); ++i) words_[i] |= other.words_[i];
    return *this;
}

cpu_set& cpu_set::operator&=(const cpu_set& other) noexcept {
    for (std::size_t i = 0; i < words_.size(); ++i) words_[i] &= other.words_[i];
    return *this;
}

cpu_set& cpu_set::operator-=(const cpu_set& other) noexcept {
    for (std::size_t i = 0; i < words_.size(); ++i) words_[i] &= ~other.words_[i];
    return *this;
}

}  // namespace nacre
