// SPDX-License-Identifier: BSD-3-Clause
//
// A mirror on one thread.
//
// A read is the user's own op, sent to one leg; if that fails, the hook sends it to the next. A
// write takes a write_group from the channel's free list, which holds one child op for each leg. It
// touches nothing of other threads: which legs there are, which regions may be written without
// asking and which range is locked are copies that the home thread changes by messages.
//
// What cannot start now is parked: a write into a region whose intent is not recorded yet, or into
// the window that is being copied. A write that failed on a leg stays among those in flight until
// the home thread has judged it.
// Cost, over two null legs: see bench/budgets.tsv.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "modules/raid1/intent_bitmap.hpp"
#include "nacre/bdev/bdev_channel.hpp"
#include "nacre/core/intrusive_list.hpp"
#include "nacre/runtime/timer.hpp"

namespace nacre::raid {

class raid1_array;
class raid1_channel;

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

/// Blocks of the array; empty if first == end.
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
    raid1_channel* channel = nullptr;
    io_op* parent = nullptr;
    block_range range;  // empty for flush and reset
    leg_mask sent = 0;
    leg_mask pending = 0;
    leg_mask failed = 0;     // the leg is to blame
    leg_mask cancelled = 0;  // nobody is
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
    raid1_channel* channel = nullptr;
    intent_request* next_request = nullptr;
    region_set regions;
    error status;
    bool under_way = false;
};

class raid1_channel final : public module_channel {
public:
    raid1_channel(bdev& device, raid1_array& array);
    ~raid1_channel() override;
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
    [[nodiscard]] raid1_array& array() noexcept { return array_; }

private:
    // Why a write cannot take the short way.
    enum : std::uint32_t { guard_intents = 1, guard_lock = 2, guard_hold = 4 };
    struct leg {
        bdev_channel handle;
        module_channel* base = nullptr;
        block_count offset;
        op_queue reads_again;  // found no memory
        op_queue children_again;
    };
    /// Where a read is in its round of the legs; the context of its hook.
    struct alignas(32) read_state {
        raid1_channel* channel;
        leg* of;
        std::uint32_t current;  // the leg's number
        std::uint32_t round;    // legs that it has passed
    };

    void submit(io_op& op) noexcept override;
    void submit_read(io_op& op) noexcept;
    void submit_write(io_op& op) noexcept;
    void start_write(io_op& op, const block_range& range) noexcept;
    void send(io_op& op, read_state& s) noexcept;
    [[nodiscard]] unsigned choose_leg() noexcept;
    static hook_verdict read_came_back(io_op& op, void* context) noexcept;
    [[nodiscard]] hook_verdict read_failed(io_op& op, read_state& s) noexcept;
    static void child_came_back(io_op& child) noexcept;
    [[nodiscard]] bool child_failed(write_group& g, io_op& child, leg_mask bit) noexcept;
    void finish(write_group& g) noexcept;
    void release(write_group& g) noexcept;
    void report(write_group& g) noexcept;
    [[nodiscard]] write_group* make_group() noexcept;

    [[nodiscard]] bool admit(io_op& op, const block_range& range) noexcept;
    [[nodiscard]] bool permitted(const block_range& range) const noexcept;
    void touch(const block_range& range) noexcept;
    void request_intents() noexcept;
    void retry_parked() noexcept;
    void retry_later() noexcept;
    void retry_starved() noexcept;

    raid1_array& array_;
    // Of the fast path.
    std::uint32_t guard_ = 0;
    leg_mask writable_ = 0;
    leg_mask readable_ = 0;
    leg_mask active_ = 0;
    unsigned slots_;
    unsigned next_leg_ = 0;
    std::unique_ptr<leg[]> legs_;
    std::unique_ptr<read_state[]> states_;           // [round * slots + current]
    std::array<std::uint32_t, legs_max> reading_{};  // reads in flight on each leg
    write_group* free_groups_ = nullptr;
    intrusive_list<write_group> in_flight_writes_;
    condition progress_;
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
        explicit retry_timer(raid1_channel& c) noexcept;
        raid1_channel& owner;
        bool ready = false;  // in the thread's ready list
    } retry_{*this};
    bool known_ = false;
};

}  // namespace nacre::raid
