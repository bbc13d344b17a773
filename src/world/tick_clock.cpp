// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/world/tick_clock.hpp"

#include <algorithm>

#include "nacre/world/world.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace nacre {
namespace {

constexpr std::uint64_t calibration_ns = 10'000'000;
constexpr std::uint64_t resync_period_ns = 1'000'000'000;

#if defined(__x86_64__)
bool counter_is_invariant() noexcept {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid(0x80000007, &a, &b, &c, &d) != 0 && (d & 1U << 8) != 0;
}
#endif

}  // namespace

tick_clock::tick_clock(world& w) noexcept : world_(w), virtual_(w.virtual_clock()) {
#if defined(__x86_64__)
    counter_invariant_ = virtual_ == nullptr && counter_is_invariant();
    ns_first_ = ns_base_ = w.monotonic_ns();
    tsc_first_ = tsc_base_ = __rdtsc();
#endif
}

std::uint64_t tick_clock::resync() noexcept {
    const std::uint64_t kernel_ns = world_.monotonic_ns();
#if defined(__x86_64__)
    if (!counter_invariant_) return kernel_ns;
    const std::uint64_t tsc = __rdtsc();
    // What the old line says now: the new one must not start before it.
    std::uint64_t ns = kernel_ns;
    if (scale_ != 0) {
        const auto old =
            ns_base_ + static_cast<std::uint64_t>(
                           static_cast<unsigned __int128>(tsc - tsc_base_) * scale_ >> 32);
        if (old > ns) ns = old;
    }
    const std::uint64_t span_ns = kernel_ns - ns_first_;
    const std::uint64_t span_ticks = tsc - tsc_first_;
    if (span_ns < calibration_ns || span_ticks == 0) return ns;
    tsc_base_ = tsc;
    ns_base_ = ns;
    scale_ =
        static_cast<std::uint64_t>((static_cast<unsigned __int128>(span_ns) << 32) / span_ticks);
    // A line that ran ahead is drawn flatter, to meet the kernel's clock within the next period.
    if (ns > kernel_ns) {
        const std::uint64_t ahead = std::min(ns - kernel_ns, resync_period_ns / 16);
        scale_ -= static_cast<std::uint64_t>(static_cast<unsigned __int128>(scale_) * ahead /
                                             resync_period_ns);
    }
    resync_after_ = static_cast<std::uint64_t>(
        (static_cast<unsigned __int128>(resync_period_ns) << 32) / scale_);
    return ns;
#else
    return kernel_ns;
#endif
}

}  // namespace nacre
