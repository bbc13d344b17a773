// SPDX-License-Identifier: BSD-3-Clause
//
// How the tour spells figures, and checksums of files.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include "nacre/core/error.hpp"

namespace nacre::cli {

[[nodiscard]] constexpr std::uint64_t whole_mib(std::uint64_t bytes) noexcept {
    return (bytes + (1 << 19)) >> 20;
}

/// "1,234,567"
[[nodiscard]] inline std::string with_commas(std::uint64_t n) {
    std::string digits = std::to_string(n);
    constexpr std::size_t group = 3;
    for (std::size_t at = digits.size(); at > group; at -= group) digits.insert(at - group, ",");
    return digits;
}

/// For figures: three digits behind the point are enough.
[[nodiscard]] inline double rounded(double x) noexcept { return std::round(x * 1e3) / 1e3; }

/// SHA-256 as sha256sum prints it.
[[nodiscard]] outcome<std::string> checksum_of(const std::string& path);

}  // namespace nacre::cli
