// SPDX-License-Identifier: BSD-3-Clause
//
// CRC-32 of IEEE 802.3, reflected, as gzip, Ethernet and partition tables have it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace nacre {

/// Of `data` behind what gave `previous`; 0 to begin with.
[[nodiscard]] std::uint32_t crc32(std::span<const std::byte> data,
                                  std::uint32_t previous = 0) noexcept;

}  // namespace nacre
