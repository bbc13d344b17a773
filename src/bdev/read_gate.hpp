// SPDX-License-Identifier: BSD-3-Clause
//
// read_gate: what the readers of a bdev (bdev_reader.hpp) pass: who is within, and what they read.
//
// A reader enters in the slot of its OS thread, so readers seldom meet. Whoever shuts the gate and
// then finds all slots empty knows that nobody is within, or will be until it opens: both sides
// hold the slot's lock when they look.
#pragma once

#include <array>
#include <atomic>
#include <mutex>

#include "nacre/bdev/io_statistics.hpp"
#include "nacre/world/world.hpp"

namespace nacre {

class read_gate {
public:
    explicit read_gate(world& clock) noexcept : clock_(clock) {}
    read_gate(const read_gate&) = delete;
    read_gate& operator=(const read_gate&) = delete;

    /// `read()` is within meanwhile, unless the gate is shut.
    template <typename F>
    [[nodiscard]] bool pass(std::size_t bytes, F read) noexcept {
        slot& s = slots_[own_slot() % slots_.size()];
        {
            const std::lock_guard guard(s.lock);
            if (!open_.load(std::memory_order_relaxed)) return false;
            ++s.inside;
        }
        const std::uint64_t began = clock_.monotonic_ns();
        const bool done = read();
        const std::uint64_t latency = clock_.monotonic_ns() - began;
        const std::lock_guard guard(s.lock);
        --s.inside;
        if (done) s.reads.add({1, bytes, latency, latency, latency});
        return done;
    }
    void set_open(bool open) noexcept { open_.store(open, std::memory_order_relaxed); }
    [[nodiscard]] bool empty() noexcept;
    void collect(io_statistics& into, statistics_reset reset) noexcept;

private:
    static unsigned own_slot() noexcept;
    struct alignas(64) slot {
        std::mutex lock;
        unsigned inside = 0;
        io_counters reads;
    };
    world& clock_;
    std::atomic<bool> open_{false};
    std::array<slot, 8> slots_;
};

}  // namespace nacre
