// SPDX-License-Identifier: BSD-3-Clause
//
// T10 protection information: eight bytes of each block's metadata that prove its data.
//
//     guard            u16 big endian   CRC-16 T10-DIF of what the tuple covers
//     application tag  u16 big endian
//     reference tag    u32 big endian
//
// The tuple is the first or the last eight bytes of the metadata. It covers the block's data and,
// where it comes last, the metadata before it. Metadata lies behind each block's data (interleaved,
// DIF) or in a buffer of its own (separate, DIX).
//
// Types 1 and 2 count the reference tag up by one a block; type 3 keeps it. A block whose
// application tag is 0xffff is not checked, nor is one of type 3 unless its reference tag is not
// 0xffffffff (NVMe NVM Command Set 1.0, 5.2).
//
// Only the 16-bit guard. No allocation; any iov boundaries.
#pragma once

#include <cstdint>
#include <optional>

#include "nacre/core/error.hpp"
#include "nacre/memory/iov_view.hpp"

namespace nacre {

enum class protection_type : std::uint8_t { none, type1, type2, type3 };

inline constexpr std::uint8_t check_guard = 1;
inline constexpr std::uint8_t check_application = 2;
inline constexpr std::uint8_t check_reference = 4;

inline constexpr std::uint32_t protection_bytes = 8;
inline constexpr std::uint16_t application_unchecked = 0xffff;
inline constexpr std::uint32_t reference_unchecked = 0xffffffff;

/// What a device's blocks look like.
struct protection_format {
    std::uint32_t data_bytes;      ///< of a block, without metadata
    std::uint32_t metadata_bytes;  ///< at least protection_bytes
    protection_type type;
    bool at_head;  ///< the tuple comes first in the metadata

    [[nodiscard]] std::uint32_t block_bytes() const noexcept { return data_bytes + metadata_bytes; }
    /// Where the tuple stands in the metadata; the metadata before it is covered.
    [[nodiscard]] std::uint32_t tuple_at() const noexcept {
        return at_head ? 0 : metadata_bytes - protection_bytes;
    }
};

/// Of the first block.
struct protection_tags {
    std::uint32_t reference = 0;  ///< type 1: the low half of its LBA
    std::uint16_t application = 0;
    std::uint16_t application_mask = 0xffff;  ///< bits that are checked
};

/// The first block that is wrong, and in what.
struct protection_error {
    std::uint64_t block;
    std::uint8_t check;  ///< one of check_guard, check_application, check_reference
    std::uint32_t expected;
    std::uint32_t found;
    /// The NVMe status that says it: media error, end-to-end check failed.
    [[nodiscard]] error status() const noexcept;
};

/// A tuple by itself.
struct protection_tuple {
    std::uint16_t guard;
    std::uint16_t application;
    std::uint32_t reference;
    bool operator==(const protection_tuple&) const = default;
    [[nodiscard]] static protection_tuple load(const std::byte* from) noexcept;
    void store(std::byte* to) const noexcept;
};

/// CRC-16 T10-DIF going on from `seed`.
[[nodiscard]] std::uint16_t guard_of(const iov_view& data, std::uint16_t seed = 0) noexcept;

// Interleaved: `blocks` holds whole blocks of block_bytes().
void generate_protection(const protection_format& f, const iov_view& blocks,
                         const protection_tags& tags) noexcept;
[[nodiscard]] std::optional<protection_error> verify_protection(const protection_format& f,
                                                                const iov_view& blocks,
                                                                const protection_tags& tags,
                                                                std::uint8_t checks) noexcept;
// Separate: `data` holds whole blocks of data_bytes, `metadata` as many of metadata_bytes.
void generate_protection(const protection_format& f, const iov_view& data, const iov_view& metadata,
                         const protection_tags& tags) noexcept;
[[nodiscard]] std::optional<protection_error> verify_protection(const protection_format& f,
                                                                const iov_view& data,
                                                                const iov_view& metadata,
                                                                const protection_tags& tags,
                                                                std::uint8_t checks) noexcept;

/// From bare data to interleaved blocks, with tuples; other metadata becomes zero.
void insert_protection(const protection_format& f, const iov_view& data, const iov_view& blocks,
                       const protection_tags& tags) noexcept;
/// From interleaved blocks to bare data, checked on the way; all is copied also if something is
/// wrong.
[[nodiscard]] std::optional<protection_error> strip_protection(const protection_format& f,
                                                               const iov_view& blocks,
                                                               const iov_view& data,
                                                               const protection_tags& tags,
                                                               std::uint8_t checks) noexcept;

}  // namespace nacre
