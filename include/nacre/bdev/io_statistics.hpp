// SPDX-License-Identifier: BSD-3-Clause
//
// What passed a channel, per opcode. A bdev's figures are the sum over its channels.
//
// Operations and bytes count what was asked of the channel and did not fail; where ops are
// forwarded to it by a layer, what was forwarded. Latency is taken between the turns in which an op
// entered the stack here and came back; forwarded and child ops have none.
#pragma once

#include <array>
#include <cstdint>

#include "nacre/bdev/io_op.hpp"

namespace nacre {

struct io_counters {
    std::uint64_t operations = 0;
    std::uint64_t bytes = 0;
    std::uint64_t latency_ns = 0;  ///< sum
    std::uint64_t latency_ns_min = UINT64_MAX;
    std::uint64_t latency_ns_max = 0;

    void add(const io_counters& other) noexcept;
};

enum class statistics_reset : std::uint8_t { all, max_min, errors, none };

struct io_statistics {
    using may_cross_threads = void;
    std::array<io_counters, opcode_count> by_opcode;
    std::uint64_t errors = 0;

    [[nodiscard]] io_counters& of(opcode op) noexcept {
        return by_opcode[static_cast<unsigned>(op)];
    }
    [[nodiscard]] const io_counters& of(opcode op) const noexcept {
        return by_opcode[static_cast<unsigned>(op)];
    }
    void add(const io_statistics& other) noexcept;
    void reset(statistics_reset what) noexcept;
};

}  // namespace nacre
