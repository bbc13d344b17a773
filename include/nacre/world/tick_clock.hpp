// SPDX-License-Identifier: BSD-3-Clause
//
// A monotonic clock cheap enough for every turn of a reactor.
//
// Where the CPU's counter is invariant, `now()` is one rdtsc, a multiplication and a shift on a
// line through two readings of CLOCK_MONOTONIC; the line is drawn anew every second or so, without
// ever going back, so it stays within a few microseconds of the kernel's clock. During the first 10
// ms of the process, on other CPUs and in a world with a virtual clock it is that world's own
// clock. Cost: about 15 instructions.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace nacre {

class world;

class tick_clock {
public:
    explicit tick_clock(world& w) noexcept;

    /// Nanoseconds on the world's monotonic clock; never goes back on one tick_clock.
    [[nodiscard]] std::uint64_t now() noexcept {
        if (virtual_ != nullptr) return *virtual_;
#if defined(__x86_64__)
        const std::uint64_t elapsed = __rdtsc() - tsc_base_;
        if (elapsed < resync_after_) [[likely]]
            return ns_base_ + static_cast<std::uint64_t>(
                                  static_cast<unsigned __int128>(elapsed) * scale_ >> 32);
#endif
        return resync();
    }

private:
    [[gnu::cold]] std::uint64_t resync() noexcept;

    world& world_;
    const std::uint64_t* virtual_;
    std::uint64_t tsc_base_ = 0;
    std::uint64_t ns_base_ = 0;
    std::uint64_t scale_ = 0;         // ns per tick, 32.32 fixed point
    std::uint64_t resync_after_ = 0;  // ticks; 0 until the line is known
    std::uint64_t tsc_first_ = 0;
    std::uint64_t ns_first_ = 0;
    bool counter_invariant_ = false;
};

}  // namespace nacre
