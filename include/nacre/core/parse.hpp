// SPDX-License-Identifier: BSD-3-Clause
//
// What people type in options, URIs and configuration: sizes, durations, numbers, switches, sets of
// processors. Each function takes the whole text or refuses it with a sentence that quotes it.
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>
#include <string_view>

#include "nacre/core/cpu_set.hpp"
#include "nacre/core/error.hpp"

namespace nacre {

/// "512", "4k", "64MiB", "1.5GiB", "1TiB": a bare letter and the IEC units are powers of 1024,
/// "KB", "MB", … powers of 1000, as GNU tools have it. Any case. The result is a whole number of
/// bytes.
[[nodiscard]] outcome<std::uint64_t> parse_size(std::string_view text);

/// The shortest text that parse_size reads back: "64MiB", "1GiB", "1000".
[[nodiscard]] std::string format_size(std::uint64_t bytes);

/// "10ns", "100us", "5ms", "2s", "1.5s", "3m" or "3min", "1h"; a bare number counts `bare_unit`.
[[nodiscard]] outcome<std::chrono::nanoseconds> parse_duration(
    std::string_view text, std::chrono::nanoseconds bare_unit = std::chrono::seconds(1));

/// Decimal, or hexadecimal after "0x".
[[nodiscard]] outcome<std::uint64_t> parse_uint(
    std::string_view text, std::uint64_t max = std::numeric_limits<std::uint64_t>::max());

/// true/false, yes/no, on/off, 1/0 in any case.
[[nodiscard]] outcome<bool> parse_bool(std::string_view text);

/// See cpu_set::parse.
[[nodiscard]] inline outcome<cpu_set> parse_cpus(std::string_view text) {
    return cpu_set::parse(text);
}

}  // namespace nacre
