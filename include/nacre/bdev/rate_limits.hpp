// SPDX-License-Identifier: BSD-3-Clause
//
// rate_limits: what a bdev lets through in a second (bdev_set_qos_limit).
//
// They count reads and writes, as they enter the bdev: by its users, by layers above, split or not.
// Other operations pass. Units are SPDK's: I/Os, and bytes that are set in MiB.
#pragma once

#include <cstdint>

namespace nacre {

struct rate_limits {
    static constexpr std::uint64_t ios_step = 1'000;
    static constexpr std::uint64_t bytes_step = std::uint64_t{1} << 20;

    // 0: no limit.
    std::uint64_t rw_ios_per_sec = 0;    ///< a multiple of ios_step
    std::uint64_t rw_bytes_per_sec = 0;  ///< these of bytes_step
    std::uint64_t r_bytes_per_sec = 0;
    std::uint64_t w_bytes_per_sec = 0;

    bool operator==(const rate_limits&) const = default;
    [[nodiscard]] bool any() const noexcept { return *this != rate_limits(); }
};

}  // namespace nacre
