// SPDX-License-Identifier: BSD-3-Clause
//
// How a log keeps its bytes: in blocks that say how many they hold, so that a synced append is one
// write and one flush, and no commit of a length. Block i, 4,096 bytes, holds the file's bytes from
// i * 4,072 on:
//
//     0   crc     4 bytes: CRC32C of all that follows
//     4   used    2 bytes: how many bytes it holds, 1 to 4,072; only the file's last has less
//     6   zero    2 bytes
//     8   nonce   8 bytes: the file's (attribute `log`) when it was written
//     16  index   8 bytes: i
//     24  data    and zeros after them
//
// All numbers little-endian. The file's length is found by reading on from `length`, the attribute:
// while a block is whole, of this index and nonce, and no shorter than what is known already, the
// file goes on to its end; a block that is not full is the last. Blocks before `length` may be of
// an older nonce. Whatever takes bytes away from a log (a truncate, a load after which it is
// written again) gives it a new nonce, so that nothing older is taken for what follows.
//
// A block is taken to be written as a whole or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace nacre::fs_format {

inline constexpr std::uint64_t log_block_bytes = 4096;
inline constexpr std::uint64_t log_header_bytes = 24;
inline constexpr std::uint64_t log_payload = log_block_bytes - log_header_bytes;

struct log_block {
    std::uint64_t nonce = 0;
    std::uint64_t index = 0;
    std::span<const std::byte> data;
};

/// The data are in their place already, log_header_bytes into `block`; zeros go behind them.
/// `used`: 1 to log_payload.
void seal_log_block(std::span<std::byte> block, std::uint64_t index, std::uint64_t used,
                    std::uint64_t nonce) noexcept;

/// What is not a whole block of this index is none. `block`: log_block_bytes of anything.
[[nodiscard]] std::optional<log_block> open_log_block(std::span<const std::byte> block,
                                                      std::uint64_t index) noexcept;

/// Bytes on the disk of a log of this length.
[[nodiscard]] constexpr std::uint64_t log_disk_bytes(std::uint64_t length) noexcept {
    return (length / log_payload + (length % log_payload != 0 ? 1 : 0)) * log_block_bytes;
}
/// Bytes that a log has room for in so many on the disk.
[[nodiscard]] constexpr std::uint64_t log_capacity(std::uint64_t disk_bytes) noexcept {
    return disk_bytes / log_block_bytes * log_payload;
}

}  // namespace nacre::fs_format
