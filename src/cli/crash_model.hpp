// SPDX-License-Identifier: BSD-3-Clause
//
// What a block device may hold, by the rule that every layer keeps: a read sees the last write that
// completed; after a power cut each sector is the last write that a flush (or FUA) made durable, or
// any later one; and once a read has shown which, it stays that.
//
// Per sector the model keeps the versions that may still come to light, oldest first. A version is
// a stamp, and the sector's bytes follow from stamp and place, so the model is small and a sector
// in the wrong place is found out. Versions that never completed (in flight at the cut, failed) may
// have happened or not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "nacre/core/error.hpp"

namespace nacre::cli {

class crash_model {
public:
    static constexpr std::size_t sector_bytes = 512;
    using stamp = std::uint64_t;
    /// Of a sector full of zeros, which is how all begin.
    static constexpr stamp zeros = 0;

    explicit crash_model(std::uint64_t bytes);

    [[nodiscard]] std::uint64_t bytes() const noexcept { return sectors_.size() * sector_bytes; }

    // A write, of `data.size()` or `length` bytes from `offset`; not two at once on one sector.
    /// Fills `data` with what is to be written.
    stamp begin_write(std::uint64_t offset, std::span<std::byte> data);
    void begin_zeroes(std::uint64_t offset, std::uint64_t length);
    /// Zeros or what was there.
    void unmapped(std::uint64_t offset, std::uint64_t length);
    /// It completed well; with `durable` it was a forced write. One that failed is not ended.
    void end_write(std::uint64_t offset, std::uint64_t length, bool durable);

    // A flush covers what had completed when it was called.
    [[nodiscard]] std::uint64_t begin_flush() const noexcept { return completed_; }
    void end_flush(std::uint64_t begun);

    /// The power went, or the device was closed and opened again.
    void crashed();
    /// What a read saw. EILSEQ names the first sector that holds what it must not.
    [[nodiscard]] outcome<> check(std::uint64_t offset, std::span<const std::byte> data);

private:
    struct version {
        stamp written;
        std::uint64_t completed;  // in the order of completion; 0: it never did
    };
    struct sector {
        std::vector<version> versions{{zeros, 1}};  // never empty
        bool unsure = false;                        // after a crash, until a read has shown it
    };
    [[nodiscard]] std::span<sector> at(std::uint64_t offset, std::uint64_t length) noexcept {
        return std::span(sectors_).subspan(offset / sector_bytes, length / sector_bytes);
    }
    static void fill(stamp s, std::uint64_t number, std::span<std::byte> out) noexcept;
    [[nodiscard]] static std::size_t oldest_readable(const sector& s) noexcept;

    std::vector<sector> sectors_;
    stamp last_stamp_ = 0;
    std::uint64_t completed_ = 1;
};

}  // namespace nacre::cli
