// SPDX-License-Identifier: BSD-3-Clause
//
// channel_powers: what a channel needs while its bdev is limited, or has ranges locked or followed.
//
// An op comes in by enter, submit_child or forward and passes three doors: the rate limits, the
// locked ranges, and a note of what is under way and where, that goes away when the op comes back.
// At the first two it may wait; it then carries FLAG_WAITING and, in its backend_area, where.
// A piece of an op that the channel itself cut up, or a child of its emulation, passes all doors:
// its whole went through them.
//
// What was under way before anybody took notes is known only by its number: in_flight_ less what
// waits and what is noted here. That holds for what entered here; for what was forwarded here
// before, a lock asks the channels above (bdev::settle_above).
#pragma once

#include <vector>

#include "nacre/bdev/module_channel.hpp"
#include "nacre/bdev/range_lock.hpp"
#include "rate_limiter.hpp"

namespace nacre {

/// A range that is locked, or being locked, as each channel has it.
struct locked_range {
    using may_cross_threads = void;
    std::uint64_t id;
    std::uint64_t first;
    std::uint64_t end;  // behind the last block
    lock_kind kind;
    bool shut = false;  // ops are held back; before that they are only watched
};

struct channel_powers {
    explicit channel_powers(module_channel& c) noexcept : channel(c), pace(*this) {}
    channel_powers(const channel_powers&) = delete;
    ~channel_powers();

    /// First come, first served, linked by work::next.
    struct queue {
        work* first = nullptr;
        work* last = nullptr;
        [[nodiscard]] bool empty() const noexcept { return first == nullptr; }
        void push(io_op& op) noexcept;
        io_op& pop() noexcept;
        [[nodiscard]] bool remove(io_op& op) noexcept;
    };
    /// Where an op waits, in its backend_area.
    struct place {
        channel_powers* powers;
        queue* waits_in;
    };
    [[nodiscard]] static place& place_of(io_op& op) noexcept {
        return *reinterpret_cast<place*>(op.backend_area.data());
    }
    /// What is under way, and the blocks that it changes or reads.
    struct note : list_hook {
        channel_powers* powers = nullptr;
        bool own = false;  // it entered the stack here
        std::uint64_t first = 0, end = 0;
        bool changes = false;
        std::uint64_t source = 0, source_end = 0;  // of a copy
    };

    void wait_in(queue& q, io_op& op) noexcept;
    /// Ends its waiting with an error.
    void give_up(io_op& op, int errno_value) noexcept;
    void fail_all(int errno_value) noexcept;
    void end_waiting(io_op& op) noexcept;

    // Rate limits.
    void limit(rate_limiter* by) noexcept;
    /// True if it waits.
    [[nodiscard]] bool held_by_limits(io_op& op) noexcept;
    [[nodiscard]] bool taken_by_limits(const io_op& op) noexcept;
    void serve() noexcept;
    void end_pace() noexcept;

    // Locks.
    void watch(const locked_range& r);  // until it is unlocked
    void lock(const locked_range& r);
    void unlock(std::uint64_t id) noexcept;
    void unlock_all() noexcept;
    [[nodiscard]] bool held_by_lock(const io_op& op) const noexcept;
    /// Nothing is under way in `r` any more.
    [[nodiscard]] bool clear_of(const locked_range& r) noexcept;

    // Notes.
    void follow(int by) noexcept;  // +1, -1: somebody wants notes to be taken
    void sample(bool on) noexcept;
    enum class noted : bool { presence, range };
    /// False: there is no memory for it.
    [[nodiscard]] bool take_note(io_op& op, noted what) noexcept;
    [[nodiscard]] std::uint64_t unknown() const noexcept;
    [[nodiscard]] std::uint64_t depth() const noexcept;
    static hook_verdict came_back(io_op& op, void* context) noexcept;

    module_channel& channel;
    rate_limiter* limiter = nullptr;
    rate_limiter::share share;
    queue limited;
    struct pace_timer : timer {
        explicit pace_timer(channel_powers& p) noexcept;
        channel_powers& owner;
    } pace;

    std::vector<locked_range> ranges;
    queue locked;

    int followers = 0;
    bool sampled = false;
    std::uint64_t own_waiting = 0;  // ops that entered here, in either queue
    std::uint64_t locking = 0;      // emulated compare_and_write ops, which wait for locks
    std::uint64_t own_notes = 0;
    std::uint64_t other_notes = 0;
    intrusive_list<note> notes;
    condition progress;  // something came back
};

}  // namespace nacre
