// SPDX-License-Identifier: BSD-3-Clause
//
// CRC-16 T10-DIF: the guard of T10 protection information. Polynomial 0x8bb7, not reflected.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace nacre {

/// Of `data`, going on from `seed`, which is 0 or what this returned for the bytes before.
[[nodiscard]] std::uint16_t crc16_t10dif(std::span<const std::byte> data,
                                         std::uint16_t seed = 0) noexcept;

}  // namespace nacre
