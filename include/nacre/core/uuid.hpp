// SPDX-License-Identifier: BSD-3-Clause
//
// A UUID as RFC 4122 lays it out: sixteen bytes in the order in which the text shows them, which is
// also how SPDK's superblocks and NVMe identify data hold them. The all-zero value is "none".
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "nacre/core/error.hpp"

namespace nacre {

class uuid {
public:
    static constexpr std::size_t size = 16;
    static constexpr std::size_t text_size = 36;

    /// The null UUID.
    constexpr uuid() noexcept = default;
    constexpr explicit uuid(const std::array<std::byte, size>& bytes) noexcept : bytes_(bytes) {}
    explicit uuid(std::span<const std::byte, size> bytes) noexcept;

    /// Exactly 8-4-4-4-12 hexadecimal digits of either case; EINVAL otherwise.
    [[nodiscard]] static result<uuid> parse(std::string_view text) noexcept;
    /// Version 4 from sixteen random bytes; the caller chooses their source (world or simulator).
    [[nodiscard]] static uuid from_random(std::span<const std::byte, size> random) noexcept;
    /// Version 5: the same name in the same name space always gives the same UUID.
    [[nodiscard]] static uuid from_name(const uuid& name_space, std::string_view name) noexcept;

    [[nodiscard]] constexpr bool is_null() const noexcept { return bytes_ == decltype(bytes_){}; }
    [[nodiscard]] constexpr std::span<const std::byte, size> bytes() const noexcept {
        return bytes_;
    }
    /// Lower case.
    [[nodiscard]] std::string to_string() const;

    friend constexpr auto operator<=>(const uuid&, const uuid&) noexcept = default;

private:
    std::array<std::byte, size> bytes_{};
};
static_assert(sizeof(uuid) == 16);

}  // namespace nacre

template <>
struct std::hash<nacre::uuid> {
    [[nodiscard]] std::size_t operator()(const nacre::uuid& id) const noexcept;
};
