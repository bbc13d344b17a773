// SPDX-License-Identifier: BSD-3-Clause
//
// direct_gate: what the readers of a bdev (bdev_reader.hpp) pass, and another one its writers: who
// is within, and what they have done.
//
// Whoever comes enters in the slot of its OS thread, so two seldom meet. Whoever shuts the gate and
// then finds all slots empty knows that nobody is within, or will be until it opens: both sides
// hold the slot's lock when they look.
#pragma once

#include <array>
#include <atomic>
#include <mutex>

#include "nacre/bdev/io_statistics.hpp"
#include "nacre/world/world.hpp"

namespace nacre {

class direct_gate {
public:
    direct_gate(world& clock, opcode what) noexcept : clock_(clock), what_(what) {}
    direct_gate(const direct_gate&) = delete;
    direct_gate& operator=(const direct_gate&) = delete;

    /// `act()` is within meanwhile, unless the gate is shut.
    template <typename F>
    [[nodiscard]] bool pass(std::size_t bytes, F act) noexcept {
        slot& s = slots_[own_slot() % slots_.size()];
        {
            const std::lock_guard guard(s.lock);
            if (!open_.load(std::memory_order_acquire)) return false;
            ++s.inside;
        }
        const std::uint64_t began = clock_.monotonic_ns();
        const bool done = act();
        const std::uint64_t latency = clock_.monotonic_ns() - began;
        const std::lock_guard guard(s.lock);
        --s.inside;
        if (done) s.done.add({1, bytes, latency, latency, latency});
        return done;
    }
    /// Whoever passes an opened gate sees what was done while it was shut.
    void set_open(bool open) noexcept { open_.store(open, std::memory_order_release); }
    [[nodiscard]] bool empty() noexcept;
    void collect(io_statistics& into, statistics_reset reset) noexcept;

private:
    static unsigned own_slot() noexcept;
    struct alignas(64) slot {
        std::mutex lock;
        unsigned inside = 0;
        io_counters done;
    };
    world& clock_;
    const opcode what_;
    std::atomic<bool> open_{false};
    std::array<slot, 8> slots_;
};

}  // namespace nacre
