// SPDX-License-Identifier: BSD-3-Clause
//
// The superblock of an array, as SPDK lays it out (docs/formats/raid.md): 256 bytes, then 64 for
// each leg, at block 0 of every leg. Parsing trusts nothing: whatever is not valid is "none".
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "nacre/core/error.hpp"
#include "nacre/core/uuid.hpp"
#include "nacre/memory/aligned_bytes.hpp"

namespace nacre::raid {

enum class leg_state : std::uint32_t { missing = 0, configured = 1, failed = 2, spare = 3 };

struct superblock_leg {
    uuid id;
    std::uint64_t data_offset = 0;  ///< blocks
    std::uint64_t data_size = 0;    ///< blocks
    leg_state state = leg_state::missing;
    std::uint8_t slot = 0;
    friend bool operator==(const superblock_leg&, const superblock_leg&) = default;
};

struct superblock {
    static constexpr std::size_t header_bytes = 256;
    static constexpr std::size_t entry_bytes = 64;
    static constexpr std::size_t bytes_max = header_bytes + 255 * entry_bytes;
    static constexpr std::size_t name_bytes_max = 63;

    uuid id;
    std::string name;
    std::uint64_t blocks = 0;
    std::uint32_t block_size = 0;
    std::uint32_t level = 1;  ///< 0 raid0, 1 raid1, 95 raid5f, 99 concat
    std::uint32_t strip_size = 0;
    std::uint64_t sequence = 0;
    std::uint8_t slots = 0;
    std::vector<superblock_leg> legs;
    /// As read, or as encode() made it; not part of what is encoded.
    std::uint32_t crc = 0;

    [[nodiscard]] std::size_t length() const noexcept {
        return header_bytes + legs.size() * entry_bytes;
    }
    [[nodiscard]] superblock_leg* find(const uuid& leg) noexcept;
    [[nodiscard]] superblock_leg* at_slot(unsigned slot) noexcept;

    /// How many bytes must be read to decode what begins with these 256. ENOENT: no superblock.
    [[nodiscard]] static outcome<std::size_t> length_of(std::span<const std::byte> header);
    /// ENOENT: there is none. EILSEQ: there is one, and it is damaged or of another major version.
    [[nodiscard]] static outcome<superblock> decode(std::span<const std::byte> bytes);
    /// Whole blocks, zeros behind the superblock; sets `crc`.
    [[nodiscard]] aligned_bytes encode();
};

}  // namespace nacre::raid
