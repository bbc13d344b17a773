// SPDX-License-Identifier: BSD-3-Clause
//
// A GUID partition table, as UEFI has it (2.10, chapter 5), read from blocks that anybody may have
// written. Nothing is trusted: what is not valid is refused with a sentence.
//
//     block 0        protective MBR
//     block 1        primary header; its entries lie where it says, usually from block 2 on
//     last block     secondary header; its entries usually lie before it
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "nacre/core/error.hpp"
#include "nacre/core/uuid.hpp"

namespace nacre::gpt {

/// The disk that a table is on.
struct geometry {
    std::uint32_t block_size = 0;
    std::uint64_t blocks = 0;
};

inline constexpr std::uint32_t entries_max = 128;
inline constexpr std::uint32_t entry_bytes = 128;

struct header {
    static constexpr std::size_t bytes = 92;

    uuid disk;
    std::uint64_t first_usable = 0;
    std::uint64_t last_usable = 0;
    std::uint64_t entries_at = 0;  ///< block
    std::uint32_t entries = 0;
    std::uint32_t entries_crc = 0;

    [[nodiscard]] std::uint64_t entries_blocks(const geometry& g) const noexcept {
        return (std::uint64_t{entries} * entry_bytes + g.block_size - 1) / g.block_size;
    }
};

struct partition {
    std::uint32_t number = 0;  ///< of the entry, from 1
    uuid type;
    uuid id;
    std::uint64_t first = 0;
    std::uint64_t blocks = 0;
    std::string name;  ///< UTF-8
};

/// Whether block 0 says that there is a table.
[[nodiscard]] bool is_protective_mbr(std::span<const std::byte> block, const geometry& g) noexcept;
/// Of the header in this block, which is number `at`. EILSEQ: it is not valid.
[[nodiscard]] outcome<header> decode_header(std::span<const std::byte> block, std::uint64_t at,
                                            const geometry& g);
/// Partitions of SPDK's two types, in the order of their entries. `entries` are the blocks from
/// entries_at on. EILSEQ: the checksum is wrong. A partition that lies outside of what the header
/// calls usable, or overlaps another one of any type, is left out, with a line in `problems`.
[[nodiscard]] outcome<std::vector<partition>> decode_entries(const header& h,
                                                             std::span<const std::byte> entries,
                                                             std::vector<std::string>& problems);

}  // namespace nacre::gpt
