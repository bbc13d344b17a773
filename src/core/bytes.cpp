// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/core/bytes.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace nacre {

bool all_zero(std::span<const std::byte> bytes) noexcept {
    const std::byte* at = bytes.data();
    std::size_t left = bytes.size();
    // Eight words a step: the compiler turns the inner loop into vector ORs.
    while (left >= 64) {
        std::uint64_t any = 0;
        for (std::size_t i = 0; i < 64; i += 8) any |= load_le<std::uint64_t>(at + i);
        if (any != 0) return false;
        at += 64;
        left -= 64;
    }
    return std::all_of(at, at + left, [](std::byte b) { return b == std::byte{0}; });
}

std::string hex_dump(std::span<const std::byte> bytes, std::uint64_t first_offset) {
    constexpr std::size_t line_bytes = 16;
    std::string out;
    for (std::size_t from = 0; from < bytes.size(); from += line_bytes) {
        const auto line = bytes.subspan(from, std::min(line_bytes, bytes.size() - from));
        out += fmt::format("{:08x} ", first_offset + from);
        for (std::size_t i = 0; i < line_bytes; ++i) {
            if (i == line_bytes / 2) out += ' ';
            if (i < line.size())
                out += fmt::format(" {:02x}", static_cast<unsigned>(line[i]));
            else
                out += "   ";
        }
        out += "  |";
        for (const std::byte b : line) {
            const char c = static_cast<char>(b);
            out += c >= ' ' && c <= '~' ? c : '.';
        }
        out += "|\n";
    }
    return out;
}

std::string to_base64(std::span<const std::byte> bytes) {
    static constexpr char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    out.reserve((bytes.size() + 2) / 3 * 4);
    for (std::size_t at = 0; at < bytes.size(); at += 3) {
        const std::size_t left = std::min<std::size_t>(3, bytes.size() - at);
        std::uint32_t group = 0;
        for (std::size_t i = 0; i < 3; ++i)
            group = group << 8 | (i < left ? static_cast<std::uint32_t>(bytes[at + i]) : 0);
        for (std::size_t i = 0; i < 4; ++i)
            out += i <= left ? digits[group >> (18 - 6 * i) & 63] : '=';
    }
    return out;
}

std::string to_base64url(std::span<const std::byte> bytes) {
    std::string out = to_base64(bytes);
    std::ranges::replace(out, '+', '-');
    std::ranges::replace(out, '/', '_');
    return out;
}

result<std::vector<std::byte>> from_base64url(std::string_view text) {
    static constexpr std::string_view digits =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    if (text.size() % 4 != 0) return fail(EINVAL);
    std::size_t padding = 0;
    while (padding < 2 && text.ends_with('=')) {
        text.remove_suffix(1);
        ++padding;
    }
    std::vector<std::byte> out;
    out.reserve(text.size() / 4 * 3 + 2);
    std::uint32_t group = 0;
    unsigned bits = 0;
    for (const char c : text) {
        const auto value = digits.find(c);
        if (value == std::string_view::npos) return fail(EINVAL);
        group = (group << 6 | static_cast<std::uint32_t>(value)) & 0xffff;
        bits += 6;
        if (bits < 8) continue;
        bits -= 8;
        out.push_back(static_cast<std::byte>(group >> bits & 0xff));
    }
    // What the last digit has too many of is zero, so that no two texts say the same.
    if ((group & ((1U << bits) - 1)) != 0) return fail(EINVAL);
    return out;
}

std::string to_hex(std::span<const std::byte> bytes) {
    static constexpr char digits[] = "0123456789abcdef";
    std::string out;
    out.reserve(bytes.size() * 2);
    for (const std::byte b : bytes) {
        out += digits[static_cast<unsigned>(b) >> 4];
        out += digits[static_cast<unsigned>(b) & 15];
    }
    return out;
}

}  // namespace nacre
