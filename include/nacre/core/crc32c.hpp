// SPDX-License-Identifier: BSD-3-Clause
//
// CRC-32C (Castagnoli, reflected polynomial 0x82F63B78) by isa-l, which uses the processor's own
// instructions. Two conventions exist on disk and wire, so there are two functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace nacre {

/// The raw register update: starts from `state`, no inversion before or after. SPDK's RAID
/// superblock is this from 0: "123456789" gives 0x58E3FA20.
[[nodiscard]] std::uint32_t crc32c_raw(std::span<const std::byte> data,
                                       std::uint32_t state) noexcept;

/// The standard CRC (register all ones, inverted at the end): "123456789" gives 0xE3069283. Passing
/// the CRC of what came before as `previous` gives the CRC of the whole.
[[nodiscard]] inline std::uint32_t crc32c(std::span<const std::byte> data,
                                          std::uint32_t previous = 0) noexcept {
    return ~crc32c_raw(data, ~previous);
}

}  // namespace nacre
