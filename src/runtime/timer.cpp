// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/runtime/timer.hpp"

#include <bit>

namespace nacre {

bool timer_wheel::next_slot(unsigned& level, unsigned& slot, std::uint64_t& start) const noexcept {
    // Everything on a lower level is due before anything on a higher one, so the first hit is it.
    for (level = 0; level < levels; ++level) {
        const std::uint64_t occupied = occupied_[level];
        if (occupied == 0) continue;
        const unsigned shift = level * level_bits;
        const unsigned here = static_cast<unsigned>(elapsed_ >> shift) & (slots - 1);
        const unsigned ahead =
            static_cast<unsigned>(std::countr_zero(std::rotr(occupied, static_cast<int>(here))));
        slot = (here + ahead) & (slots - 1);
        const std::uint64_t position = (elapsed_ >> shift) + ahead;
        start = position << shift;
        return true;
    }
    return false;
}

unsigned timer_wheel::expire(std::uint64_t now_ns) noexcept {
    const std::uint64_t now = now_ns >> tick_shift;
    unsigned fired = 0, level = 0, slot = 0;
    std::uint64_t start = 0;
    while (next_slot(level, slot, start) && start <= now) {
        if (start > elapsed_) elapsed_ = start;
        occupied_[level] &= ~(1ULL << slot);
        // Timers go down a level or fire; those armed by a firing function land ahead of
        // `elapsed_`.
        intrusive_list<timer> due;
        while (timer* t = slots_[level][slot].pop_front()) due.push_back(*t);
        while (timer* t = due.pop_front()) {
            if (t->tick_ <= elapsed_) {
                ++fired;
                t->function_(*t);
            } else {
                insert(*t);
            }
        }
    }
    if (now > elapsed_) elapsed_ = now;
    next_ns_ = next_slot(level, slot, start) ? start << tick_shift : UINT64_MAX;
    return fired;
}

}  // namespace nacre
