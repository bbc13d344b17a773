// SPDX-License-Identifier: BSD-3-Clause
//
// A zoned device on its base: docs/formats/zoned.md. Parsing trusts nothing.
#pragma once

#include <cstdint>
#include <span>

#include "nacre/bdev/zone_layer.hpp"
#include "nacre/core/error.hpp"
#include "nacre/core/uuid.hpp"

namespace nacre::zoned {

struct header {
    static constexpr std::size_t bytes = 512;

    uuid id;
    std::uint32_t block_size = 0;
    std::uint32_t page_bytes = 0;
    std::uint64_t zones = 0;
    std::uint64_t zone_size = 0;      ///< blocks
    std::uint64_t zone_capacity = 0;  ///< blocks
    std::uint64_t data_start = 0;     ///< blocks
    std::uint32_t open_zones_max = 0;
    std::uint32_t active_zones_max = 0;
    std::uint32_t append_blocks_max = 0;
    friend bool operator==(const header&, const header&) = default;

    /// What is left to say once zones, their sizes and the block size are known.
    void lay_out() noexcept;
    /// Zones that a page describes, and pages, each in two copies.
    [[nodiscard]] std::uint64_t zones_per_page() const noexcept;
    [[nodiscard]] std::uint64_t pages() const noexcept;
    /// Bytes from the start of the base.
    [[nodiscard]] std::uint64_t page_at(std::uint64_t page, unsigned copy) const noexcept {
        return (2 + page * 2 + copy) * page_bytes;
    }
    [[nodiscard]] std::uint64_t zones_in(std::uint64_t page) const noexcept;
    /// Blocks that the base must have.
    [[nodiscard]] std::uint64_t base_blocks() const noexcept {
        return data_start + zones * zone_capacity;
    }
    /// For how many zones a base of `blocks` has room.
    [[nodiscard]] std::uint64_t zones_that_fit(std::uint64_t blocks) const noexcept;

    /// Into the first 512 of a page of zeros.
    void encode(std::span<std::byte> page) const noexcept;
    /// ENOENT: all zeros. EINVAL: no such signature. EILSEQ: damaged, or no device that could be.
    /// EPROTONOSUPPORT: of another version.
    [[nodiscard]] static result<header> decode(std::span<const std::byte> page) noexcept;
};

[[nodiscard]] std::uint32_t page_bytes_of(std::uint32_t block_size) noexcept;

/// One page of zones: what lies behind its 64 bytes is read and changed in place.
class zone_page {
public:
    static constexpr std::size_t header_bytes = 64;
    static constexpr std::size_t entry_bytes = 16;

    /// `bytes` is a page; it outlives this.
    explicit zone_page(std::span<std::byte> bytes) noexcept : bytes_(bytes) {}
    [[nodiscard]] zone_record at(std::uint64_t index) const noexcept;
    void set(std::uint64_t index, zone_record r) noexcept;
    [[nodiscard]] std::uint64_t sequence() const noexcept;
    /// Signature, number, owner, sequence and checksum.
    void seal(const header& of, std::uint64_t page, std::uint64_t sequence) noexcept;
    /// Whether it is this page of this device, sealed, with entries that can be.
    [[nodiscard]] bool valid(const header& of, std::uint64_t page) const noexcept;

private:
    std::span<std::byte> bytes_;
};

}  // namespace nacre::zoned
