// SPDX-License-Identifier: BSD-3-Clause
//
// The write-intent bitmap of a mirror: which regions may differ between legs after an unclean stop.
// Its grammar, place and order of writes: docs/formats/raid.md.
#pragma once

#include <bit>
#include <cstdint>
#include <span>
#include <vector>

#include "modules/raid/superblock.hpp"

namespace nacre::raid {

/// A set of regions. Cost of test and set: three instructions.
class region_set {
public:
    region_set() = default;
    explicit region_set(std::uint32_t regions, bool all = false)
        : regions_(regions), words_((regions + 63) / 64) {
        if (all) set_all();
    }
    [[nodiscard]] std::uint32_t regions() const noexcept { return regions_; }
    [[nodiscard]] bool test(std::uint32_t r) const noexcept {
        return (words_[r >> 6] >> (r & 63) & 1) != 0;
    }
    void set(std::uint32_t r) noexcept { words_[r >> 6] |= 1ULL << (r & 63); }
    void clear(std::uint32_t r) noexcept { words_[r >> 6] &= ~(1ULL << (r & 63)); }
    void set_all() noexcept {
        for (std::uint32_t r = 0; r < regions_; ++r) set(r);
    }
    [[nodiscard]] bool empty() const noexcept {
        for (const std::uint64_t w : words_)
            if (w != 0) return false;
        return true;
    }
    [[nodiscard]] std::uint32_t count() const noexcept {
        std::uint32_t n = 0;
        for (const std::uint64_t w : words_) n += static_cast<std::uint32_t>(std::popcount(w));
        return n;
    }
    /// The first one at or after `from`; regions() if there is none.
    [[nodiscard]] std::uint32_t next(std::uint32_t from) const noexcept;
    void operator|=(const region_set& other) noexcept {
        for (std::size_t i = 0; i < words_.size(); ++i) words_[i] |= other.words_[i];
    }
    void operator-=(const region_set& other) noexcept {
        for (std::size_t i = 0; i < words_.size(); ++i) words_[i] &= ~other.words_[i];
    }
    friend bool operator==(const region_set&, const region_set&) = default;

private:
    std::uint32_t regions_ = 0;
    std::vector<std::uint64_t> words_;
};

/// How an array is cut into regions, and where on its legs the slots lie.
struct intent_geometry {
    static constexpr std::uint32_t regions_max = 4032 * 8;
    static constexpr std::uint64_t region_bytes_min = 65536;
    static constexpr std::uint64_t area_bytes = 32768;  ///< first slot, before rounding
    static constexpr std::size_t slot_bytes = 4096;     ///< what is used of a slot

    std::uint32_t block_size = 0;
    std::uint32_t region_shift = 0;  ///< log2 of blocks
    std::uint32_t region_count = 0;

    [[nodiscard]] static intent_geometry of(std::uint64_t blocks,
                                            std::uint32_t block_size) noexcept;
    [[nodiscard]] std::uint32_t region_of(std::uint64_t block) const noexcept {
        return static_cast<std::uint32_t>(block >> region_shift);
    }
    /// Bytes that a slot takes.
    [[nodiscard]] std::uint64_t slot_stride() const noexcept;
    /// First block of the slot.
    [[nodiscard]] std::uint64_t slot_block(unsigned slot) const noexcept;
    /// Bytes before the data that both need.
    [[nodiscard]] std::uint64_t end_bytes() const noexcept;
};

/// What is in one slot.
struct intent_slot {
    uuid array;
    std::uint64_t sequence = 0;
    std::uint32_t superblock_crc = 0;
    std::uint64_t generation = 0;
    region_set dirty;

    /// Whole blocks: slot_stride() bytes.
    [[nodiscard]] aligned_bytes encode(const intent_geometry& geometry) const;
    /// Only one that belongs to this superblock and has this geometry: EILSEQ otherwise.
    [[nodiscard]] static result<intent_slot> decode(std::span<const std::byte> bytes,
                                                    const intent_geometry& geometry,
                                                    const superblock& owner);
};

}  // namespace nacre::raid
