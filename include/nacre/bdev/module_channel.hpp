// SPDX-License-Identifier: BSD-3-Clause
//
// module_channel: one bdev on one thread, as its module writes it. The module derives from it and
// writes `submit`; users reach it through bdev_channel.
//
// The three ways in: an op of a user (`enter`), a child op of a layer (`submit_child`), and the
// same op coming from the layer above (`forward`). Only the first checks bounds, because layers
// submit what they derived from checked ops. Each op is refused, or completes exactly once.
//
// An op that comes back with ENOMEM has met a device (or a layer) that is out of memory for a
// moment. That is flow control, not an error: where it entered, it waits in a FIFO and goes down
// again when another op has come back, or after a while.
//
// Rate limits and range locks hold ops back where they come in, by whichever of the three ways
// (powers.hpp); a channel that has neither pays nothing.
//
// Thread-bound. Instructions per op: bench/budgets.tsv.
#pragma once

#include <atomic>
#include <memory>

#include "nacre/bdev/io_statistics.hpp"
#include "nacre/bdev/latency_histogram.hpp"
#include "nacre/runtime/scope.hpp"
#include "nacre/runtime/sync.hpp"
#include "nacre/runtime/thread.hpp"

namespace nacre {

class bdev;
class reserved_buffers;
struct channel_powers;

class module_channel {
public:
    /// `device` outlives the channel.
    explicit module_channel(bdev& device) noexcept;
    module_channel(const module_channel&) = delete;
    module_channel& operator=(const module_channel&) = delete;
    virtual ~module_channel();

    /// A user's op, with `run` set to io_op::run_awaited (its owner is a coroutine) or run_user
    /// (its `done` is called). Returns false if it was refused, with op.status set: nothing will be
    /// run.
    inline bool enter(io_op& op) noexcept;
    /// A child op that a layer made: op.code, first, blocks, data, done and owner are set, within
    /// the device's bounds, alignment and native operations. Always completes through `done`.
    inline void submit_child(io_op& op) noexcept;
    /// The op of the layer above, as that layer edited it.
    inline void forward(io_op& op) noexcept {
        count(op);
        if ((slow_ & slow_diverted) != 0) [[unlikely]]
            return divert(op);
        submit(op);
    }

    /// request_abort does something here.
    [[nodiscard]] bool abortable() const noexcept { return (supported_ & bit(opcode::abort)) != 0; }
    /// It has memory to lend, though perhaps not always.
    [[nodiscard]] bool lends() const noexcept { return (supported_ & bit(opcode::zcopy)) != 0; }
    [[nodiscard]] bdev& device() const noexcept { return device_; }
    [[nodiscard]] thread& home() const noexcept { return home_; }
    [[nodiscard]] std::uint64_t in_flight() const noexcept { return in_flight_; }
    [[nodiscard]] const io_statistics& statistics() const noexcept { return statistics_; }
    [[nodiscard]] io_statistics& statistics() noexcept { return statistics_; }
    /// The turn's stamp.
    [[nodiscard]] std::uint64_t now_ns() const noexcept { return now_; }

    /// Gives up `op`, a user's or child op that entered here, early if that is possible.
    void abort(io_op& op) noexcept;
    /// The module's part of it: asks whatever carries out `op`; it still completes, once, with
    /// ECANCELED or its real status. The op may have completed already and not be run yet: then
    /// this does nothing. The default cannot.
    virtual void request_abort(io_op& op) noexcept;
    /// Each outstanding op of a user is asked to give up and comes back as timed out (ETIMEDOUT)
    /// when it takes longer than this; 0 ends it. Concerns ops that enter from now on.
    void set_timeout(std::uint64_t timeout_ns);
    /// Records the latency of each op of a user that succeeds from now on; null ends it.
    void set_histogram(std::unique_ptr<latency_histogram> h) noexcept;
    [[nodiscard]] const latency_histogram* recorded() const noexcept { return histogram_.get(); }
    /// Refuses everything from now on with ENODEV; resolves when nothing is in flight.
    [[nodiscard]] task<result<>> drain_removed();
    /// The channel's children: for what a layer must do besides the op.
    [[nodiscard]] scope& children() noexcept { return children_; }

protected:
    /// The module's work: carry `op` out, or forward it. It never resumes anybody: it completes the
    /// op (op.complete) or arranges that something does. On the channel's thread.
    virtual void submit(io_op& op) noexcept = 0;
    /// The device is being removed: ops that a module keeps waiting for something that may never
    /// come complete now. Nothing new is submitted after it. The default has none.
    virtual void removing() noexcept;

private:
    friend class io_op;
    friend class bdev;
    friend class bdev_channel;
    friend class range_lock;
    friend struct channel_powers;
    // Why an op cannot take the short way.
    enum : std::uint32_t {
        slow_removed = 1,     // refused
        slow_boundary = 2,    // may need splitting
        slow_alignment = 4,   // buffers must be checked
        slow_timeout = 8,     // outstanding ops are kept in a list
        slow_transfer = 16,   // longer than the device takes at once
        slow_memory = 32,     // ops wait for the device to have memory again
        slow_record = 64,     // latencies go into the histogram
        slow_limited = 128,   // ops may have to wait for the bdev's rate limits
        slow_followed = 256,  // ranges are locked, or what is under way is counted
        slow_shape = 512,     // a block size that is no power of two, or a write unit
        slow_diverted = slow_limited | slow_followed,
    };
    void count(io_op& op) noexcept {
        io_counters& c = statistics_.by_opcode[static_cast<unsigned>(op.code)];
        ++c.operations;
        c.bytes += op.data.size();
    }
    void start(io_op& op) noexcept {
        op.entry_ = this;
        op.layer_bytes_ = 0;
        ++in_flight_;
    }
    void set_slow(std::uint32_t bits) noexcept {
        slow_ |= bits;
        fast_ = 0;
    }
    void clear_slow(std::uint32_t bits) noexcept {
        slow_ &= ~bits;
        fast_ = slow_ == 0 ? supported_ : 0;
    }
    /// A user's op came back: its figures. False if there is more to do: finished_slow.
    [[nodiscard]] bool finished(io_op& op) noexcept {
        --in_flight_;
        // Failed, or slow: one jump for both.
        if ((static_cast<std::uint32_t>(op.status.domain()) | slow_) != 0) [[unlikely]]
            return false;
        count_finished(op);
        return true;
    }
    void count_finished(io_op& op) noexcept {
        io_counters& c = statistics_.by_opcode[static_cast<unsigned>(op.code)];
        const std::uint64_t latency = now_ - op.entered_ns_;
        ++c.operations;
        c.bytes += op.data.size();
        c.latency_ns += latency;
        if (latency < c.latency_ns_min) c.latency_ns_min = latency;
        if (latency > c.latency_ns_max) c.latency_ns_max = latency;
    }
    [[gnu::noinline]] bool enter_slow(io_op& op) noexcept;
    [[nodiscard]] int check_range(io_op& op) const noexcept;
    /// False if it goes down again, because the device was out of memory for a moment.
    [[gnu::noinline]] bool finished_slow(io_op& op) noexcept;
    /// Submits a user's op that has been started, or carries it out by child ops.
    void dispatch(io_op& op) noexcept;
    /// It crosses a boundary, or is more than the device takes at once.
    [[nodiscard]] bool must_be_cut(const io_op& op) const noexcept;
    /// An op that came in where limits or locks are: it waits, or goes on to `launch`.
    [[gnu::noinline]] void divert(io_op& op) noexcept;
    [[gnu::noinline]] void submit_child_slow(io_op& op) noexcept;
    /// Past the limits: it waits for memory, or goes on to `descend`.
    void launch(io_op& op) noexcept;
    /// It waits for a locked range, or goes down.
    void descend(io_op& op) noexcept;
    [[nodiscard]] bool entered_here(const io_op& op) const noexcept {
        return op.entry_ == this && op.run != &io_op::run_child;
    }
    [[nodiscard]] channel_powers& powers();
    [[nodiscard]] std::uint64_t waiting_for_memory() const noexcept;
    /// Of a block, in bytes; a power of two or not.
    [[nodiscard]] std::uint64_t bytes_of(std::uint64_t blocks) const noexcept {
        return blocks * block_bytes_;
    }
    /// Starts the coroutine below that it takes; false if it takes none.
    [[nodiscard]] bool emulate(io_op& op) noexcept;
    void start_emulation(io_op& op, task<void> emulation) noexcept;
    /// An op came back: whether it failed for lack of memory and therefore waits, uncounted, to
    /// be submitted again.
    [[nodiscard]] bool must_wait_again(io_op& op) noexcept;
    void wait_for_memory(io_op& op) noexcept;
    void retry_waiting(unsigned count) noexcept;
    void stop_waiting(io_op& op) noexcept;
    /// For what the channel itself does with data, apart from the module's.
    [[nodiscard]] reserved_buffers& buffers();
    void lent(const io_op& op) noexcept;
    task<void> write_zeroes_by_writing(io_op& op);
    task<void> compare_by_reading(io_op& op);
    task<void> copy_by_writing(io_op& op);
    task<void> compare_and_write_locked(io_op& op);
    /// Of `left` blocks from `at` on: as many as a pooled buffer holds and the device takes at
    /// once.
    [[nodiscard]] std::uint64_t piece_blocks(std::uint64_t at, std::uint64_t left) const noexcept;
    void pass_metadata(const io_op& op, io_op& piece, std::uint64_t done) const noexcept;
    task<void> lend_by_copying(io_op& op);
    task<void> carry_out_in_pieces(io_op& op);
    task<void> carry_out_bounced(io_op& op);
    void check_timeouts() noexcept;
    [[nodiscard]] bool finished_child(io_op& op) noexcept;
    void link_outstanding(io_op& op) noexcept;
    void unlink_outstanding(io_op& op) noexcept;

    bdev& device_;
    thread& home_;
    const std::uint64_t& now_;
    std::uint32_t supported_;  // opcodes, bits
    std::uint32_t fast_;       // the same, 0 while slow_ is set
    std::uint32_t slow_ = 0;
    std::uint32_t block_mask_;
    std::uint32_t block_shift_;
    std::uint64_t in_flight_ = 0;
    const std::atomic<std::uint64_t>& device_blocks_;
    io_statistics statistics_;

    // Rarely used.
    std::uint32_t block_bytes_;
    std::uint64_t timeout_ns_ = 0;
    struct outstanding_list {
        io_op* oldest = nullptr;
        io_op* newest = nullptr;
    } outstanding_;
    struct timeout_timer : timer {
        explicit timeout_timer(module_channel& c) noexcept;
        module_channel& owner;
    } timeout_timer_{*this};
    // Ops that the device had no memory for, first come first served, linked by work::next.
    work* waiting_first_ = nullptr;
    work* waiting_last_ = nullptr;
    work* returned_last_ = nullptr;  // of those that came back again and stand in front
    unsigned memory_timer_shift_ = 0;
    struct memory_timer : timer {
        explicit memory_timer(module_channel& c) noexcept;
        module_channel& owner;
    } memory_timer_{*this};
    std::unique_ptr<latency_histogram> histogram_;
    std::unique_ptr<channel_powers> powers_;     // once it has had limits, locks or followers
    std::unique_ptr<reserved_buffers> buffers_;  // once it has carried out an op that wants one
    bool fed_ = false;                           // by layers; guarded by the device's mutex
    condition drained_;
    scope children_;
    unsigned handles_ = 0;  // bdev_channels open on it; guarded by the device's mutex
};

inline void io_op::complete(error e) noexcept {
    status = e;
    entry_->home().push(*this);
}

inline bool module_channel::enter(io_op& op) noexcept {
    const std::uint64_t bytes = op.data.size();
    const std::uint64_t blocks = bytes >> block_shift_;
    const std::uint64_t size = device_blocks_.load(std::memory_order_relaxed);
    if ((fast_ & bit(op.code)) == 0 || (bytes & block_mask_) != 0 ||
        blocks - 1 >= size ||  // none, or more than there are
        op.first.value() > size - blocks) [[unlikely]]
        return enter_slow(op);
    op.blocks = block_count(blocks);
    start(op);
    op.entered_ns_ = now_;
    submit(op);
    return true;
}

inline void module_channel::submit_child(io_op& op) noexcept {
    start(op);
    count(op);
    op.run = &io_op::run_child;
    if ((slow_ & (slow_removed | slow_diverted)) != 0) [[unlikely]]
        return submit_child_slow(op);
    submit(op);
}

inline void io_op::run_awaited(work& w) noexcept {
    auto& op = static_cast<io_op&>(w);
    if (!op.entry_->finished(op)) [[unlikely]]
        return run_awaited_slow(op);
    resume_frame(op.owner);
}

}  // namespace nacre
