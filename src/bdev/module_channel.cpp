// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/bdev/module_channel.hpp"

#include <climits>

#include "channel_flags.hpp"
#include "nacre/bdev/bdev.hpp"
#include "nacre/memory/reserved_buffers.hpp"
#include "powers.hpp"

namespace nacre {
namespace {

/// The device is asked again this often while nothing else tells that it has memory, ever more
/// seldom.
constexpr std::uint64_t memory_retry_ns = 100'000;
constexpr unsigned memory_timer_shift_max = 7;

}  // namespace

module_channel::module_channel(bdev& device) noexcept
    : device_(device),
      home_(*thread::current()),
      now_(home_.host().turn_stamp()),
      supported_(device.operations()),
      fast_(supported_),
      block_mask_(static_cast<std::uint32_t>(device.block_size().value()) - 1),
      block_shift_(static_cast<std::uint32_t>(__builtin_ctzll(device.block_size().value()))),
      device_blocks_(device.blocks_),
      block_bytes_(static_cast<std::uint32_t>(device.block_size().value())) {
    const bdev_attributes& a = device.attributes();
    if ((block_bytes_ & block_mask_) != 0) set_slow(slow_shape);
    if (a.split_boundary() != 0 || a.write_unit.value() > 1) set_slow(slow_boundary);
    if (a.buffer_alignment > 1) set_slow(slow_alignment);
    if (a.transfer_bytes_max != 0) set_slow(slow_transfer);
    if (device.removed()) set_slow(slow_removed);
}

module_channel::~module_channel() { NACRE_ASSERT(in_flight_ == 0); }

void module_channel::request_abort(io_op&) noexcept {}
void module_channel::removing() noexcept {}

void io_op::run_user(work& w) noexcept {
    auto& op = static_cast<io_op&>(w);
    if (!op.entry_->finished(op)) [[unlikely]]
        return run_user_slow(op);
    op.done(op);
}

void io_op::run_user_slow(io_op& op) noexcept {
    if (op.entry_->finished_slow(op)) op.done(op);
}

void io_op::run_awaited_slow(io_op& op) noexcept {
    if (op.entry_->finished_slow(op)) resume_frame(op.owner);
}

void io_op::run_child(work& w) noexcept {
    auto& op = static_cast<io_op&>(w);
    if (!op.entry_->finished_child(op)) return;
    op.done(op);
}

bool module_channel::finished_child(io_op& op) noexcept {
    --in_flight_;
    if (op.status.failed() || (slow_ & (slow_memory | slow_followed)) != 0) [[unlikely]] {
        if (must_wait_again(op)) return false;
    }
    if (op.status.failed()) [[unlikely]] {
        io_counters& c = statistics_.of(op.code);
        statistics_.count_error(op.status);
        --c.operations;
        c.bytes -= op.data.size();
    }
    if (in_flight_ == 0 && (slow_ & slow_removed) != 0) [[unlikely]]
        drained_.notify_all();
    return true;
}

int module_channel::check_range(io_op& op) const noexcept {
    const std::uint64_t size = device_blocks_.load(std::memory_order_relaxed);
    if ((data_opcodes & bit(op.code)) != 0) {
        if (op.data.empty() || op.data.size() % block_bytes_ != 0) return EINVAL;
        op.blocks = block_count(op.data.size() / block_bytes_);
    } else if (op.code == opcode::zone_manage || op.code == opcode::zone_report) {
        if (op.code == opcode::zone_report && op.data.empty()) return EINVAL;
        return op.first.value() < size ? 0 : ERANGE;
    } else if ((range_opcodes & bit(op.code)) == 0) {
        return 0;
    }
    if (op.blocks.value() == 0) return EINVAL;
    if (op.blocks.value() > size || op.first.value() > size - op.blocks.value()) return ERANGE;
    if (const std::uint64_t unit = device_.attributes().write_unit.value();
        unit > 1 && (unit_opcodes & bit(op.code)) != 0 &&
        (op.first.value() % unit != 0 || op.blocks.value() % unit != 0))
        return EINVAL;
    const std::uint64_t transfer = device_.attributes().transfer_bytes_max;
    if ((uncut_opcodes & bit(op.code)) != 0 && transfer != 0 && op.data.size() > transfer)
        return EINVAL;
    if (op.code == opcode::copy && op.source.value() > size - op.blocks.value()) return ERANGE;
    return 0;
}

bool module_channel::enter_slow(io_op& op) noexcept {
    const auto refuse = [&](int errno_value) {
        op.status = error::posix(errno_value);
        statistics_.count_error(op.status);
        return false;
    };
    if ((slow_ & slow_removed) != 0) return refuse(ENODEV);
    if (!device_.supports(op.code)) return refuse(ENOTSUP);
    if (const int wrong = check_range(op); wrong != 0) return refuse(wrong);

    op.flags &= io_op::flag_fua | io_op::flag_metadata;  // an op may be used again
    start(op);
    op.entered_ns_ = now_ns();
    // What is lent is its holder's for as long as that wants.
    if ((slow_ & slow_timeout) != 0 && op.code != opcode::zcopy) link_outstanding(op);
    if ((slow_ & slow_diverted) != 0)
        divert(op);
    else
        launch(op);
    return true;
}

void module_channel::dispatch(io_op& op) noexcept {
    op.flags &= static_cast<std::uint8_t>(~flag_emulated);
    if (!emulate(op)) submit(op);
}

// --- The doors ----------------------------------------------------------------------------------

channel_powers& module_channel::powers() {
    if (powers_ == nullptr) powers_ = std::make_unique<channel_powers>(*this);
    return *powers_;
}

void module_channel::submit_child_slow(io_op& op) noexcept {
    if ((slow_ & slow_removed) != 0) {
        op.complete(error::posix(ENODEV));
    } else if ((op.flags & flag_piece) != 0) {
        descend(op);
    } else {
        divert(op);
    }
}

void module_channel::divert(io_op& op) noexcept {
    // What waits to be limited or for a lock is outstanding, too.
    if (op.code == opcode::reset) powers_->fail_all(ECANCELED);
    if ((slow_ & slow_limited) != 0 && powers_->held_by_limits(op)) return;
    launch(op);
}

void module_channel::launch(io_op& op) noexcept {
    if ((slow_ & slow_memory) != 0 && entered_here(op))
        wait_for_memory(op);  // behind those that came first
    else
        descend(op);
}

void module_channel::descend(io_op& op) noexcept {
    const bool entered = entered_here(op);
    // An emulated compare_and_write takes a lock of its own, which knows of the others.
    const bool locks = entered && op.code == opcode::compare_and_write &&
                       (supported_ & bit(opcode::compare_and_write)) == 0;
    if ((slow_ & slow_followed) != 0 && !locks) {
        const bool piece = op.entry_ == this && !entered && (op.flags & flag_piece) != 0;
        if (!piece && powers_->held_by_lock(op)) {
            powers_->wait_in(powers_->locked, op);
            return;
        }
        const auto what = piece ? channel_powers::noted::presence : channel_powers::noted::range;
        if (!powers_->take_note(op, what)) {
            op.complete(error::posix(ENOMEM));  // it comes again
            return;
        }
    }
    if (entered)
        dispatch(op);
    else
        submit(op);
}

// --- Answers -------------------------------------------------------------------------------------

bool module_channel::finished_slow(io_op& op) noexcept {
    if (must_wait_again(op)) return false;
    if ((op.flags & flag_linked) != 0) unlink_outstanding(op);
    if ((op.flags & io_op::flag_timed_out) != 0 && op.status.failed())
        op.status = error::posix(ETIMEDOUT);
    if (op.status.failed()) {
        // What is not lent now is lent otherwise.
        if (op.code != opcode::zcopy || !op.status.is(ENOTSUP)) statistics_.count_error(op.status);
    } else {
        count_finished(op);
        if (histogram_ != nullptr && (histogram_->options().opcodes & bit(op.code)) != 0)
            histogram_->record(now_ - op.entered_ns_);
        // Pieces of the same opcode were counted as they passed.
        if ((op.flags & flag_emulated) != 0 && (supported_ & bit(op.code)) != 0) {
            io_counters& c = statistics_.of(op.code);
            --c.operations;
            c.bytes -= op.data.size();
        }
    }
    op.flags &= io_op::flag_fua | io_op::flag_timed_out | io_op::flag_metadata;
    if (in_flight_ == 0 && (slow_ & slow_removed) != 0) drained_.notify_all();
    return true;
}

void module_channel::set_histogram(std::unique_ptr<latency_histogram> h) noexcept {
    histogram_ = std::move(h);
    if (histogram_ != nullptr)
        set_slow(slow_record);
    else
        clear_slow(slow_record);
}

task<result<>> module_channel::drain_removed() {
    set_slow(slow_removed);
    retry_waiting(UINT_MAX);
    if (powers_ != nullptr) powers_->fail_all(ENODEV);
    removing();
    while (in_flight_ != 0) {
        result<> waited = co_await drained_.wait();
        if (!waited) co_return fail(waited.error());
    }
    // What a child failed with has been told to whoever waited for it.
    [[maybe_unused]] result<> joined = co_await children_.join();
    co_return result<>();
}

// --- Lack of memory below, and giving up ---------------------------------------------------------

bool module_channel::must_wait_again(io_op& op) noexcept {
    if (powers_ != nullptr) powers_->progress.notify_all();
    if (!op.status.is(ENOMEM)) {
        memory_timer_shift_ = 0;
        // Something came through: there may be room for it and for one more.
        if ((slow_ & slow_memory) != 0) retry_waiting(2);
        return false;
    }
    if ((slow_ & slow_removed) != 0 || (op.flags & flag_given_up) != 0) {
        op.status = error::posix((slow_ & slow_removed) != 0 ? ENODEV : ECANCELED);
        return false;
    }
    ++in_flight_;
    wait_for_memory(op);
    return true;
}

void module_channel::wait_for_memory(io_op& op) noexcept {
    set_slow(slow_memory);
    // One that has waited before goes to the front, but behind those that went down before it.
    work* const before = (op.flags & flag_retried) != 0 ? returned_last_ : waiting_last_;
    if (waiting_first_ == nullptr || before == nullptr) {
        op.next = waiting_first_;
        if (waiting_first_ == nullptr) waiting_last_ = &op;
        waiting_first_ = &op;
    } else {
        op.next = before->next;
        if (before == waiting_last_) waiting_last_ = &op;
        before->next = &op;
    }
    if ((op.flags & flag_retried) != 0) returned_last_ = &op;
    op.flags |= flag_waiting | flag_retried;
    channel_powers::place_of(op) = {};
    if (!memory_timer_.armed())
        home_.host().timers().arm(memory_timer_,
                                  now_ns() + (memory_retry_ns << memory_timer_shift_));
}

void module_channel::retry_waiting(unsigned count) noexcept {
    work* chain = nullptr;
    returned_last_ = nullptr;
    for (work** end = &chain; count != 0 && waiting_first_ != nullptr; --count) {
        *end = waiting_first_;
        waiting_first_ = waiting_first_->next;
        end = &(*end)->next;
        *end = nullptr;
    }
    if (waiting_first_ == nullptr) {
        waiting_last_ = nullptr;
        clear_slow(slow_memory);
        memory_timer_.cancel();
    }
    while (chain != nullptr) {
        auto& op = static_cast<io_op&>(*chain);
        chain = chain->next;
        op.flags &= static_cast<std::uint8_t>(~flag_waiting);
        if ((slow_ & slow_removed) != 0)
            op.complete(error::posix(ENODEV));
        else
            descend(op);
    }
}

std::uint64_t module_channel::waiting_for_memory() const noexcept {
    std::uint64_t n = 0;
    for (const work* w = waiting_first_; w != nullptr; w = w->next) ++n;
    return n;
}

module_channel::memory_timer::memory_timer(module_channel& c) noexcept
    : timer([](timer& t) noexcept {
          module_channel& channel = static_cast<memory_timer&>(t).owner;
          if (channel.memory_timer_shift_ < memory_timer_shift_max) ++channel.memory_timer_shift_;
          const thread_guard guard(channel.home_);
          channel.retry_waiting(1);
          if (channel.waiting_first_ != nullptr && !channel.memory_timer_.armed())
              channel.home_.host().timers().arm(
                  channel.memory_timer_,
                  channel.now_ns() + (memory_retry_ns << channel.memory_timer_shift_));
      }),
      owner(c) {}

void module_channel::stop_waiting(io_op& op) noexcept {
    work* before = nullptr;
    for (work* w = waiting_first_; w != &op; w = w->next) before = w;
    (before == nullptr ? waiting_first_ : before->next) = op.next;
    if (waiting_last_ == &op) waiting_last_ = before;
    if (returned_last_ == &op) returned_last_ = before;
    op.flags &= static_cast<std::uint8_t>(~flag_waiting);
    if (waiting_first_ == nullptr) retry_waiting(0);
}

void module_channel::abort(io_op& op) noexcept {
    op.flags |= flag_given_up;
    if ((op.flags & flag_waiting) != 0 && channel_powers::place_of(op).powers != nullptr) {
        // Here, or at a device below that it was forwarded to.
        channel_powers::place_of(op).powers->give_up(op, ECANCELED);
    } else if ((op.flags & flag_waiting) != 0) {
        stop_waiting(op);
        op.complete(error::posix(ECANCELED));
    } else if ((op.flags & flag_emulated) == 0) {
        request_abort(op);
    } else if (io_op* piece = current_piece::of(op); piece != nullptr) {
        abort(*piece);
    }
}

// --- Timeouts -----------------------------------------------------------------------------------

module_channel::timeout_timer::timeout_timer(module_channel& c) noexcept
    : timer([](timer& t) noexcept {
          module_channel& channel = static_cast<timeout_timer&>(t).owner;
          const thread_guard guard(channel.home_);
          channel.check_timeouts();
      }),
      owner(c) {}

void module_channel::set_timeout(std::uint64_t timeout_ns) {
    timeout_ns_ = timeout_ns;
    if (timeout_ns == 0) {
        clear_slow(slow_timeout);
        timeout_timer_.cancel();
        // From now on an op may come back the short way, which knows of no list.
        while (outstanding_.oldest != nullptr) unlink_outstanding(*outstanding_.oldest);
        return;
    }
    set_slow(slow_timeout);
    timeout_timer_.cancel();  // another time counts from now on, for what is in the list too
    if (outstanding_.oldest != nullptr) check_timeouts();
}

void module_channel::link_outstanding(io_op& op) noexcept {
    op.flags |= flag_linked;
    op.outstanding_next_ = nullptr;
    op.outstanding_previous_ = outstanding_.newest;
    (outstanding_.newest == nullptr ? outstanding_.oldest
                                    : outstanding_.newest->outstanding_next_) = &op;
    outstanding_.newest = &op;
    if (!timeout_timer_.armed())
        home_.host().timers().arm(timeout_timer_, op.entered_ns_ + timeout_ns_);
}

void module_channel::unlink_outstanding(io_op& op) noexcept {
    op.flags &= static_cast<std::uint8_t>(~flag_linked);
    (op.outstanding_previous_ == nullptr ? outstanding_.oldest
                                         : op.outstanding_previous_->outstanding_next_) =
        op.outstanding_next_;
    (op.outstanding_next_ == nullptr ? outstanding_.newest
                                     : op.outstanding_next_->outstanding_previous_) =
        op.outstanding_previous_;
}

void module_channel::check_timeouts() noexcept {
    if (timeout_ns_ == 0) return;
    // Oldest first, so the first one that is young enough ends the search.
    for (io_op* op = outstanding_.oldest; op != nullptr; op = op->outstanding_next_) {
        if (now_ns() < op->entered_ns_ + timeout_ns_) {
            home_.host().timers().arm(timeout_timer_, op->entered_ns_ + timeout_ns_);
            return;
        }
        if ((op->flags & io_op::flag_timed_out) != 0) continue;
        op->flags |= io_op::flag_timed_out;
        abort(*op);
    }
}

}  // namespace nacre
