// SPDX-License-Identifier: BSD-3-Clause
#include "block_stamps.hpp"

#include <fmt/format.h>

#include <cstring>

#include "nacre/core/bytes.hpp"
#include "nacre/core/crc32c.hpp"
#include "nacre/core/random.hpp"

namespace nacre::cli {
namespace {

constexpr std::size_t header_bytes = 24;

}  // namespace

block_stamps::block_stamps(std::uint64_t positions, std::uint64_t first, std::uint64_t seed)
    : first_(first), magic_(splitmix64(seed)), generations_(positions), in_flight_(positions) {}

bool block_stamps::begin(std::uint64_t position) noexcept {
    if (in_flight_[position]) return false;
    in_flight_[position] = true;
    return true;
}

void block_stamps::fill(std::uint64_t position, std::span<std::byte> block) const noexcept {
    const std::uint32_t generation = generations_[position] + 1;
    std::uint64_t number = (first_ + position) * 0x9e3779b97f4a7c15U ^ generation;
    const std::span<std::byte> rest = block.subspan(header_bytes);
    for (std::size_t at = 0; at + 8 <= rest.size(); at += 8) {
        number += 0x9e3779b97f4a7c15U;
        store_le<std::uint64_t>(rest.data() + at, number ^ number >> 29);
    }
    store_le<std::uint64_t>(block.data(), magic_);
    store_le<std::uint64_t>(block.data() + 8, first_ + position);
    store_le<std::uint32_t>(block.data() + 16, generation);
    store_le<std::uint32_t>(block.data() + 20, crc32c(rest));
}

outcome<> block_stamps::check(std::uint64_t position, std::span<const std::byte> block) const {
    const std::uint64_t place = first_ + position;
    const auto found = load_le<std::uint64_t>(block.data() + 8);
    const auto generation = load_le<std::uint32_t>(block.data() + 16);
    if (load_le<std::uint64_t>(block.data()) != magic_)
        return fail(EILSEQ, fmt::format("block {}: does not hold what this run wrote", place));
    if (found != place)
        return fail(EILSEQ,
                    fmt::format("block {}: holds what was written to block {}", place, found));
    if (crc32c(block.subspan(header_bytes)) != load_le<std::uint32_t>(block.data() + 20))
        return fail(EILSEQ, fmt::format("block {}: its CRC-32C does not match", place));
    if (generation != generations_[position])
        return fail(EILSEQ, fmt::format("block {}: holds write {} of {}", place, generation,
                                        generations_[position]));
    return {};
}

}  // namespace nacre::cli
