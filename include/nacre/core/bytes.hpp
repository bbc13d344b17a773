// SPDX-License-Identifier: BSD-3-Clause
//
// Bytes and their arithmetic: loads and stores of a stated byte order, alignment, sums and products
// that cannot wrap unseen, and views of objects as bytes. Everything but the dump is one or two
// instructions.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "nacre/core/error.hpp"

namespace nacre {

/// Reverses the bytes of an integer (std::byteswap is not in libstdc++ 12's C++23 for all types).
template <std::unsigned_integral T>
[[nodiscard]] constexpr T swap_bytes(T value) noexcept {
    if constexpr (sizeof(T) == 1)
        return value;
    else if constexpr (sizeof(T) == 2)
        return __builtin_bswap16(value);
    else if constexpr (sizeof(T) == 4)
        return __builtin_bswap32(value);
    else
        return __builtin_bswap64(value);
}

/// Little-endian value at any address; `from` has at least sizeof(T) bytes.
template <std::unsigned_integral T>
[[nodiscard]] inline T load_le(const std::byte* from) noexcept {
    T value;
    std::memcpy(&value, from, sizeof value);
    return std::endian::native == std::endian::little ? value : swap_bytes(value);
}

template <std::unsigned_integral T>
inline void store_le(std::byte* to, std::type_identity_t<T> value) noexcept {
    if constexpr (std::endian::native != std::endian::little) value = swap_bytes<T>(value);
    std::memcpy(to, &value, sizeof value);
}

/// Big-endian (network order) value at any address.
template <std::unsigned_integral T>
[[nodiscard]] inline T load_be(const std::byte* from) noexcept {
    T value;
    std::memcpy(&value, from, sizeof value);
    return std::endian::native == std::endian::big ? value : swap_bytes(value);
}

template <std::unsigned_integral T>
inline void store_be(std::byte* to, std::type_identity_t<T> value) noexcept {
    if constexpr (std::endian::native != std::endian::big) value = swap_bytes<T>(value);
    std::memcpy(to, &value, sizeof value);
}

[[nodiscard]] constexpr bool is_power_of_two(std::uint64_t value) noexcept {
    return std::has_single_bit(value);
}

/// The largest multiple of `unit` not above `value`; `unit` is any positive number.
[[nodiscard]] constexpr std::uint64_t align_down(std::uint64_t value, std::uint64_t unit) noexcept {
    return value - value % unit;
}

/// The smallest multiple of `unit` not below `value`, which the caller knows to fit in 64 bits.
[[nodiscard]] constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t unit) noexcept {
    const std::uint64_t rest = value % unit;
    return rest == 0 ? value : value + (unit - rest);
}

[[nodiscard]] constexpr std::uint64_t divide_up(std::uint64_t value, std::uint64_t unit) noexcept {
    return value / unit + (value % unit != 0 ? 1 : 0);
}

[[nodiscard]] constexpr bool is_aligned(std::uint64_t value, std::uint64_t unit) noexcept {
    return value % unit == 0;
}

[[nodiscard]] inline bool is_aligned(const void* pointer, std::uint64_t unit) noexcept {
    return reinterpret_cast<std::uintptr_t>(pointer) % unit == 0;
}

/// Empty when the sum does not fit.
[[nodiscard]] constexpr std::optional<std::uint64_t> checked_add(std::uint64_t a,
                                                                 std::uint64_t b) noexcept {
    std::uint64_t sum = 0;
    if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
    return sum;
}

/// Empty when the product does not fit.
[[nodiscard]] constexpr std::optional<std::uint64_t> checked_mul(std::uint64_t a,
                                                                 std::uint64_t b) noexcept {
    std::uint64_t product = 0;
    if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
    return product;
}

/// True when [first, first + count) lies inside [0, limit), without wrapping.
[[nodiscard]] constexpr bool range_fits(std::uint64_t first, std::uint64_t count,
                                        std::uint64_t limit) noexcept {
    return first <= limit && count <= limit - first;
}

/// The bytes of a text, for checksums and sockets.
[[nodiscard]] inline std::span<const std::byte> bytes_of(std::string_view text) noexcept {
    return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

/// The bytes of one plain object, for disk and wire structs.
template <typename T>
    requires std::is_trivially_copyable_v<T> && (!std::is_pointer_v<T>)
[[nodiscard]] inline std::span<const std::byte, sizeof(T)> object_bytes(const T& object) noexcept {
    return std::span<const std::byte, sizeof(T)>(reinterpret_cast<const std::byte*>(&object),
                                                 sizeof(T));
}

template <typename T>
    requires std::is_trivially_copyable_v<T> && (!std::is_pointer_v<T>)
[[nodiscard]] inline std::span<std::byte, sizeof(T)> writable_object_bytes(T& object) noexcept {
    return std::span<std::byte, sizeof(T)>(reinterpret_cast<std::byte*>(&object), sizeof(T));
}

/// The bytes as text, without a copy.
[[nodiscard]] inline std::string_view text_of(std::span<const std::byte> bytes) noexcept {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// True when every byte is zero; reads 8 bytes a step.
[[nodiscard]] bool all_zero(std::span<const std::byte> bytes) noexcept;

/// Lines of "00000010  48 65 6c 6c …  |Hell…|", sixteen bytes each; `first_offset` labels the
/// first.
[[nodiscard]] std::string hex_dump(std::span<const std::byte> bytes,
                                   std::uint64_t first_offset = 0);

/// "48656c6c6f", lower case, no spaces.
[[nodiscard]] std::string to_hex(std::span<const std::byte> bytes);
/// RFC 4648, 4: with padding, without line breaks.
[[nodiscard]] std::string to_base64(std::span<const std::byte> bytes);
/// RFC 4648, 5: the alphabet of URLs; with padding, too.
[[nodiscard]] std::string to_base64url(std::span<const std::byte> bytes);
/// EINVAL: not what to_base64url gives for any bytes.
[[nodiscard]] result<std::vector<std::byte>> from_base64url(std::string_view text);

}  // namespace nacre
