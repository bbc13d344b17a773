// SPDX-License-Identifier: BSD-3-Clause
//
// Timers of one reactor: a hierarchical wheel of 8 levels of 64 slots, in ticks of 8,192 ns.
//
// A timer never fires early; it fires at most one tick and one turn late. Arming and cancelling are
// O(1) and allocate nothing: the timer is its own list node. Most timers are cancelled, so
// cancelling only unlinks; an emptied slot costs one look when its time comes.
// Cost of arm and cancel together: see bench/budgets.tsv.
#pragma once

#include <array>
#include <cstdint>

#include "nacre/core/intrusive_list.hpp"

namespace nacre {

/// The function runs inside the reactor's turn; it makes things ready and resumes nobody. No thread
/// is the current one then: a function that calls others' code says whose it is by a thread_guard.
class timer : public list_hook {
public:
    using function = void (*)(timer& self) noexcept;
    explicit timer(function f) noexcept : function_(f) {}
    ~timer() { cancel(); }
    [[nodiscard]] bool armed() const noexcept { return linked(); }
    void cancel() noexcept {
        if (linked()) unlink();
    }

private:
    friend class timer_wheel;
    std::uint64_t tick_ = 0;
    function function_;
};

class timer_wheel {
public:
    static constexpr unsigned tick_shift = 13;

    explicit timer_wheel(std::uint64_t now_ns) noexcept : elapsed_(now_ns >> tick_shift) {}

    /// `deadline_ns` on the reactor's clock; a past one fires in the next turn.
    void arm(timer& t, std::uint64_t deadline_ns) noexcept {
        // Rounded up, without overflow for UINT64_MAX.
        std::uint64_t tick =
            (deadline_ns >> tick_shift) + ((deadline_ns & ((1U << tick_shift) - 1)) != 0 ? 1 : 0);
        if (tick <= elapsed_) tick = elapsed_ + 1;
        t.tick_ = tick;
        insert(t);
    }
    /// The earliest time at which expire() has something to do; UINT64_MAX: never.
    [[nodiscard]] std::uint64_t next_ns() const noexcept { return next_ns_; }
    /// Fires what is due; returns how many.
    unsigned expire(std::uint64_t now_ns) noexcept;

private:
    static constexpr unsigned level_bits = 6;
    static constexpr unsigned levels = 8;
    static constexpr unsigned slots = 1U << level_bits;

    void insert(timer& t) noexcept {
        const std::uint64_t differing = (t.tick_ ^ elapsed_) | 1;
        unsigned level = (63U - static_cast<unsigned>(__builtin_clzll(differing))) / level_bits;
        std::uint64_t tick = t.tick_;
        if (level >= levels) [[unlikely]] {  // beyond 70 years: parked at the far end, then again
            level = levels - 1;
            tick = elapsed_ + (1ULL << (level_bits * levels - 1));
        }
        const unsigned slot = static_cast<unsigned>(tick >> (level * level_bits)) & (slots - 1);
        wheel_[level].lists[slot].push_back(t);
        wheel_[level].occupied |= 1ULL << slot;
        const std::uint64_t start = (tick >> (level * level_bits)) << (level * level_bits);
        const std::uint64_t start_ns = start << tick_shift;
        if (start_ns < next_ns_) next_ns_ = start_ns;
    }
    /// Start tick of the next slot to look at, and its level; false if all are empty.
    bool next_slot(unsigned& level, unsigned& slot, std::uint64_t& start) const noexcept;

    std::uint64_t elapsed_;  // ticks that are done with
    std::uint64_t next_ns_ = UINT64_MAX;
    struct wheel_level {
        std::uint64_t occupied = 0;  // a set bit may be stale, a clear one is not
        std::array<intrusive_list<timer>, slots> lists;
    };
    std::array<wheel_level, levels> wheel_;
};

}  // namespace nacre
