// SPDX-License-Identifier: BSD-3-Clause
//
// A redundant array on one thread: what its levels have in common.
//
// A write takes a write_group from the channel's free list, which holds one child op for each leg.
// It touches nothing of other threads: which legs there are, which regions may be written without
// asking and which range is locked are copies that the home thread changes by messages.
//
// What cannot start now is parked: a write into a region whose intent is not recorded yet, or into
// the window that is being copied. A write that failed on a leg stays among those in flight until
// the home thread has judged it. Ranges are of the array's span.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "modules/raid/intent_bitmap.hpp"
#include "nacre/bdev/bdev_channel.hpp"
#include "nacre/core/intrusive_list.hpp"
#include "nacre/runtime/timer.hpp"

namespace nacre::raid {

class raid_array;
class redundant_channel;

inline constexpr unsigned legs_max = 32;
using leg_mask = std::uint32_t;

/// Calls `visit(k)` for each leg of the mask.
template <typename F>
void for_each_leg(leg_mask mask, F visit) {
    for (; mask != 0; mask &= mask - 1) visit(static_cast<unsigned>(__builtin_ctz(mask)));
}

/// What a channel may use.
struct channel_view {
    leg_mask readable = 0;  ///< where reads go
    leg_mask active = 0;    ///< where they may go if that fails
    leg_mask writable = 0;  ///< active ones and those being rebuilt
    bool hold = false;      ///< writes fail: a leg is bad, and no superblock could say so
};

/// Blocks of the span; empty if first == end.
struct block_range {
    std::uint64_t first = 0;
    std::uint64_t end = 0;
    [[nodiscard]] bool empty() const noexcept { return first == end; }
    [[nodiscard]] bool overlaps(const block_range& other) const noexcept {
        return first < other.end && other.first < end;
    }
};

/// One write on its way to all legs.
struct write_group final : list_hook, message {
    redundant_channel* channel = nullptr;
    io_op* parent = nullptr;
    block_range range;             // empty for flush and reset
    std::uint64_t next_block = 0;  // of a level that goes in several steps
    leg_mask sent = 0;
    leg_mask pending = 0;
    leg_mask failed = 0;     // the leg is to blame
    leg_mask cancelled = 0;  // nobody is
    leg_mask lent = 0;       // of a loan
    enum class loan_state : std::uint8_t { asked, refused, held } state = loan_state::asked;
    opcode code = opcode::write;
    error first_error;
    error verdict;  // of the home thread
    write_group* next_group = nullptr;
    io_op* children = nullptr;
};

/// Ops that wait, linked by work::next.
class op_queue {
public:
    void push(io_op& op) noexcept {
        op.next = nullptr;
        (head_ == nullptr ? head_ : tail_->next) = &op;
        tail_ = &op;
    }
    [[nodiscard]] bool empty() const noexcept { return head_ == nullptr; }
    [[nodiscard]] io_op* pop() noexcept {
        auto* op = static_cast<io_op*>(head_);
        if (op != nullptr) head_ = op->next;
        return op;
    }
    [[nodiscard]] op_queue take() noexcept {
        op_queue all = *this;
        head_ = nullptr;
        return all;
    }
    template <typename F>
    void for_each(F visit) const {
        for (work* w = head_; w != nullptr; w = w->next) visit(static_cast<io_op&>(*w));
    }

private:
    work* head_ = nullptr;
    work* tail_ = nullptr;  // meaningful only while head_ is set
};

/// A channel asks the home thread for regions, one request at a time.
struct intent_request final : message {
    redundant_channel* channel = nullptr;
    intent_request* next_request = nullptr;
    region_set regions;
    error status;
    bool under_way = false;
};

class redundant_channel : public module_channel {
public:
    redundant_channel(bdev& device, raid_array& array);
    ~redundant_channel() override;
    /// Opens the legs and makes itself known to the array.
    [[nodiscard]] outcome<> open();

    // Orders of the home thread, carried out here.
    /// Opens legs that are new. The mask of those that could not be opened.
    [[nodiscard]] leg_mask apply(const channel_view& view);
    void lock(const block_range& range) noexcept;
    void unlock() noexcept;
    /// Adds the regions that are in use or were written since the last call.
    void collect_busy(region_set& busy) noexcept;
    /// Gives up permissions; adds those that it keeps because they are in use.
    void revoke(const region_set& idle, region_set& kept) noexcept;
    void close_leg(unsigned k) noexcept;
    void granted() noexcept;
    void finish_judged(write_group& g) noexcept;

    // What the home thread waits for.
    [[nodiscard]] bool writes_overlap(const block_range& range) noexcept;
    [[nodiscard]] bool leg_in_use(unsigned k) noexcept;
    [[nodiscard]] condition& progress() noexcept { return progress_; }
    [[nodiscard]] raid_array& array() noexcept { return array_; }

protected:
    struct leg {
        bdev_channel handle;
        module_channel* base = nullptr;
        block_count offset;
        op_queue reads_again;  // found no memory
    };
    /// What the op writes; empty for flush and reset, and for what the level carries out in several
    /// steps.
    [[nodiscard]] virtual block_range range_of(const io_op& op) const noexcept = 0;
    /// Tries a parked or starved op again.
    virtual void submit_write(io_op& op) noexcept = 0;

    /// False if the op is parked, or has failed.
    [[nodiscard]] bool may_start(io_op& op, const block_range& range) noexcept {
        return guard_ == 0 || admit(op, range);
    }
    /// Null if there is no memory: the op waits.
    [[nodiscard]] write_group* take_group(io_op& op) noexcept {
        write_group* g = free_groups_;
        if (g == nullptr) [[unlikely]]
            return take_new_group(op);
        free_groups_ = g->next_group;
        return g;
    }
    /// All its children have come back, and whoever waits for it is to be told.
    void finish(write_group& g) noexcept {
        if ((g.failed | g.cancelled) != 0) [[unlikely]] {
            report(g);
            return;
        }
        io_op& op = *g.parent;
        release(g);
        op.complete();
    }
    /// It is not in flight any more.
    void release(write_group& g) noexcept {
        g.list_hook::unlink();
        g.next_group = free_groups_;
        free_groups_ = &g;
        if (progress_.has_waiters()) [[unlikely]]
            progress_.notify_all();
    }
    static void note_failure(write_group& g, const io_op& child, leg_mask bit_of_leg) noexcept;
    void report(write_group& g) noexcept;
    void retry_later() noexcept;

    /// Bytes behind the children of each group, aligned to 4,096; before the first group is made.
    /// There are as many groups as group_memory_max holds, but always some.
    void set_group_bytes(std::size_t bytes) noexcept { group_bytes_ = bytes; }
    [[nodiscard]] std::byte* bytes_of(write_group& g) const noexcept {
        return reinterpret_cast<std::byte*>(&g) + group_bytes_at_;
    }

    raid_array& array_;
    // Of the fast path.
    std::uint32_t guard_ = 0;
    leg_mask writable_ = 0;
    leg_mask readable_ = 0;
    leg_mask active_ = 0;
    unsigned slots_;
    std::unique_ptr<leg[]> legs_;
    std::array<std::uint32_t, legs_max> reading_{};  // reads in flight on each leg
    intrusive_list<write_group> in_flight_writes_;
    io_op::done_function child_done_ = nullptr;  // of the level

private:
    static constexpr std::size_t group_memory_max = std::size_t{128} << 20;
    static constexpr std::size_t groups_min = 4;
    // Why a write cannot take the short way.
    enum : std::uint32_t { guard_intents = 1, guard_lock = 2, guard_hold = 4 };
    [[nodiscard]] write_group* take_new_group(io_op& op) noexcept;
    [[nodiscard]] write_group* make_group() noexcept;
    [[nodiscard]] bool admit(io_op& op, const block_range& range) noexcept;
    [[nodiscard]] bool permitted(const block_range& range) const noexcept;
    void touch(const block_range& range) noexcept;
    void request_intents() noexcept;
    void retry_parked() noexcept;
    void retry_starved() noexcept;

    write_group* free_groups_ = nullptr;
    condition progress_;
    std::size_t group_bytes_ = 0;
    std::size_t group_bytes_at_ = 0;
    std::size_t groups_made_ = 0;
    // Write intents.
    std::uint32_t region_shift_ = 0;
    region_set permitted_;
    region_set touched_;
    intent_request request_;
    block_range locked_;
    // What waits.
    op_queue parked_;
    op_queue starved_;
    struct retry_timer final : timer, work {
        explicit retry_timer(redundant_channel& c) noexcept;
        redundant_channel& owner;
        bool ready = false;  // in the thread's ready list
    } retry_{*this};
    bool known_ = false;
};

}  // namespace nacre::raid
