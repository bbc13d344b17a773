// SPDX-License-Identifier: BSD-3-Clause
//
// block_stamps: what `nacre perf --verify` writes, and whether that is what it reads.
//
// Each block of the load (--bs bytes) carries where it belongs, which write it was, and a CRC-32C
// of the rest, so that lost, misdirected, torn and altered writes all show:
//
//     0  u64  magic | 8  u64  position | 16 u32  generation | 20 u32  CRC-32C of 24 to the end
//     24      numbers that follow from position and generation
//
// A position is in flight once at a time. Memory: 4 bytes and 1 bit a position.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "nacre/core/error.hpp"

namespace nacre::cli {

class block_stamps {
public:
    static constexpr std::uint64_t positions_max = std::uint64_t{64} << 20;
    static constexpr std::size_t block_bytes_min = 32;

    /// `seed` tells the run from others; `first` is added to every position on the device.
    block_stamps(std::uint64_t positions, std::uint64_t first, std::uint64_t seed);

    /// False if it is in flight already.
    [[nodiscard]] bool begin(std::uint64_t position) noexcept;
    void end(std::uint64_t position) noexcept { in_flight_[position] = false; }
    [[nodiscard]] bool written(std::uint64_t position) const noexcept {
        return generations_[position] != 0;
    }
    /// Makes what is to be written next.
    void fill(std::uint64_t position, std::span<std::byte> block) const noexcept;
    void note_written(std::uint64_t position) noexcept { ++generations_[position]; }
    /// Of a position that was written. EILSEQ says what is wrong with it.
    [[nodiscard]] outcome<> check(std::uint64_t position, std::span<const std::byte> block) const;

private:
    std::uint64_t first_;
    std::uint64_t magic_;
    std::vector<std::uint32_t> generations_;  // 0: not written
    std::vector<bool> in_flight_;
};

}  // namespace nacre::cli
