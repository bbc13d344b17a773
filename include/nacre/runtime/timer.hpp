// SPDX-License-Identifier: BSD-3-Clause
//
// Timers of one reactor: a hierarchical wheel of 9 levels of 64 slots, in ticks of 8,192 ns.
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

    /// `deadline_ns` > 0, on the reactor's clock; a past one fires in the next turn. `t` is not
    /// armed.
    void arm(timer& t, std::uint64_t deadline_ns) noexcept {
        std::uint64_t tick = ((deadline_ns - 1) >> tick_shift) + 1;  // rounded up, no overflow
        if (tick <= elapsed_) [[unlikely]]
            tick = elapsed_ + 1;
        t.tick_ = tick;
        if (tick << tick_shift < next_ns_) next_ns_ = tick << tick_shift;
        insert(t);
    }
    /// No timer is due before; at the latest then expire() wants to be called. UINT64_MAX: never.
    [[nodiscard]] std::uint64_t next_ns() const noexcept { return next_ns_; }
    /// Fires what is due; returns how many.
    unsigned expire(std::uint64_t now_ns) noexcept;

private:
    // A tick has 64 - tick_shift bits, so that the levels cover all of time and none is special.
    static constexpr unsigned level_bits = 6;
    static constexpr unsigned levels = (64 - tick_shift + level_bits - 1) / level_bits;
    static constexpr unsigned slots = 1U << level_bits;
    /// Level and its shift by the highest bit in which a tick differs from the present.
    struct level_table {
        std::uint8_t level[64];
        std::uint8_t shift[64];
    };
    static constexpr level_table by_highest_bit = [] {
        level_table table{};
        for (unsigned bit = 0; bit < 64; ++bit) {
            table.level[bit] = static_cast<std::uint8_t>(bit / level_bits);
            table.shift[bit] = static_cast<std::uint8_t>(bit / level_bits * level_bits);
        }
        return table;
    }();

    /// tick_ > elapsed_
    void insert(timer& t) noexcept {
        const auto bit = static_cast<unsigned>(__builtin_clzll(t.tick_ ^ elapsed_)) ^ 63U;
        const unsigned level = by_highest_bit.level[bit];
        const std::uint64_t slot = t.tick_ >> by_highest_bit.shift[bit] & (slots - 1);
        occupied_[level] |= 1ULL << slot;
        slots_[level][slot].push_back(t);
    }
    /// Start tick of the next slot to look at, and its level; false if all are empty.
    bool next_slot(unsigned& level, unsigned& slot, std::uint64_t& start) const noexcept;

    std::uint64_t elapsed_;  // ticks that are done with
    std::uint64_t next_ns_ = UINT64_MAX;
    std::array<std::uint64_t, levels> occupied_{};  // a set bit may be stale, a clear one is not
    std::array<std::array<intrusive_list<timer>, slots>, levels> slots_;
};

}  // namespace nacre
