// SPDX-License-Identifier: BSD-3-Clause
//
// The check of every option that is a count or a seed. CLI11 alone takes -1 for 2^64 - 1, and what
// is longer than 64 bits for the largest that fits.
#pragma once

#include <CLI/CLI.hpp>
#include <charconv>
#include <cstdint>
#include <string>

namespace nacre::cli {

inline CLI::Validator whole_number(std::uint64_t lowest = 0, std::uint64_t highest = UINT64_MAX) {
    const auto check = [lowest, highest](const std::string& text) {
        std::uint64_t value = 0;
        const char* const end = text.data() + text.size();
        const auto [stop, failed] = std::from_chars(text.data(), end, value);
        if (failed == std::errc() && stop == end && value >= lowest && value <= highest)
            return std::string();
        return "\"" + text + "\" is no whole number from " + std::to_string(lowest) + " to " +
               std::to_string(highest);
    };
    return {check, "", ""};
}

}  // namespace nacre::cli
