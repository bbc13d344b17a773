// SPDX-License-Identifier: BSD-3-Clause
//
// Decoding of UTF-8 (RFC 3629: no surrogates, no overlong forms, nothing above U+10FFFF).
#pragma once

#include <cstddef>
#include <string_view>

namespace nacre::utf8 {

struct decoded {
    char32_t code_point = 0;
    std::size_t size = 0;  ///< 0: the bytes at this place are no UTF-8
};

/// The code point at the start of `text`, which is not empty.
[[nodiscard]] constexpr decoded decode(std::string_view text) noexcept {
    const auto byte = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned first = byte(0);
    if (first < 0x80) return {first, 1};
    std::size_t size = 0;
    char32_t smallest = 0;
    char32_t point = 0;
    if ((first & 0xe0) == 0xc0) {
        size = 2;
        smallest = 0x80;
        point = first & 0x1f;
    } else if ((first & 0xf0) == 0xe0) {
        size = 3;
        smallest = 0x800;
        point = first & 0x0f;
    } else if ((first & 0xf8) == 0xf0) {
        size = 4;
        smallest = 0x10000;
        point = first & 0x07;
    }
    if (size == 0 || text.size() < size) return {};
    for (std::size_t i = 1; i < size; ++i) {
        if ((byte(i) & 0xc0) != 0x80) return {};
        point = point << 6 | (byte(i) & 0x3f);
    }
    if (point < smallest || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) return {};
    return {point, size};
}

[[nodiscard]] constexpr bool valid(std::string_view text) noexcept {
    while (!text.empty()) {
        const decoded d = decode(text);
        if (d.size == 0) return false;
        text.remove_prefix(d.size);
    }
    return true;
}

}  // namespace nacre::utf8
