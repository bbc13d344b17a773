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

/// What ops failed with, as SPDK's bdev_get_iostat tells them apart.
enum class io_failure : std::uint8_t { aborted, miscompare, nomem, nvme_error, failed };
inline constexpr unsigned io_failure_count = 5;
[[nodiscard]] const char* name_of(io_failure f) noexcept;
[[nodiscard]] io_failure failure_of(error status) noexcept;

enum class statistics_reset : std::uint8_t { all, max_min, errors, none };

struct io_statistics {
    using may_cross_threads = void;
    std::array<io_counters, opcode_count> by_opcode;
    std::uint64_t errors = 0;                                      ///< ops that failed
    std::array<std::uint64_t, io_failure_count> errors_by_kind{};  ///< sums up to that

    [[nodiscard]] io_counters& of(opcode op) noexcept {
        return by_opcode[static_cast<unsigned>(op)];
    }
    [[nodiscard]] const io_counters& of(opcode op) const noexcept {
        return by_opcode[static_cast<unsigned>(op)];
    }
    void count_error(error status) noexcept {
        ++errors;
        ++errors_by_kind[static_cast<unsigned>(failure_of(status))];
    }
    void add(const io_statistics& other) noexcept;
    void reset(statistics_reset what) noexcept;
};

}  // namespace nacre
