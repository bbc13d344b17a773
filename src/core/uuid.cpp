// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/core/uuid.hpp"

#include <uuid/uuid.h>

#include <algorithm>
#include <cstring>

#include "nacre/core/random.hpp"

namespace nacre {

namespace {

constexpr bool hyphen_before(std::size_t byte) noexcept {
    return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

constexpr int hex_digit(char c) noexcept {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

}  // namespace

uuid::uuid(std::span<const std::byte, size> bytes) noexcept {
    std::ranges::copy(bytes, bytes_.begin());
}

result<uuid> uuid::parse(std::string_view text) noexcept {
    if (text.size() != text_size) return fail(EINVAL);
    uuid parsed;
    std::size_t at = 0;
    for (std::size_t i = 0; i < size; ++i) {
        if (hyphen_before(i) && text[at++] != '-') return fail(EINVAL);
        const int high = hex_digit(text[at]);
        const int low = hex_digit(text[at + 1]);
        if (high < 0 || low < 0) return fail(EINVAL);
        parsed.bytes_[i] = static_cast<std::byte>(high << 4 | low);
        at += 2;
    }
    return parsed;
}

uuid uuid::from_random(std::span<const std::byte, size> random) noexcept {
    uuid made(random);
    // RFC 4122 section 4.4: version in the high nibble of byte 6, variant in the top of byte 8.
    made.bytes_[6] = (made.bytes_[6] & std::byte{0x0f}) | std::byte{0x40};
    made.bytes_[8] = (made.bytes_[8] & std::byte{0x3f}) | std::byte{0x80};
    return made;
}

uuid uuid::from_name(const uuid& name_space, std::string_view name) noexcept {
    static_assert(sizeof(uuid_t) == size);
    uuid_t out{};
    uuid_t space{};
    std::memcpy(space, name_space.bytes_.data(), size);
    ::uuid_generate_sha1(out, space, name.data(), name.size());
    uuid made;
    std::memcpy(made.bytes_.data(), out, size);
    return made;
}

std::string uuid::to_string() const {
    static constexpr char digits[] = "0123456789abcdef";
    std::string text;
    text.reserve(text_size);
    for (std::size_t i = 0; i < size; ++i) {
        if (hyphen_before(i)) text += '-';
        const auto byte = std::to_integer<unsigned>(bytes_[i]);
        text += digits[byte >> 4];
        text += digits[byte & 15];
    }
    return text;
}

}  // namespace nacre

std::size_t std::hash<nacre::uuid>::operator()(const nacre::uuid& id) const noexcept {
    std::uint64_t words[2];
    std::memcpy(words, id.bytes().data(), sizeof words);
    std::uint64_t state = words[0];
    state = nacre::splitmix64(state) ^ words[1];
    return nacre::splitmix64(state);
}
