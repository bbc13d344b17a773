// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/bdev/module_channel.hpp"

#include <algorithm>
#include <array>
#include <climits>

#include "nacre/bdev/bdev.hpp"
#include "nacre/bdev/child_io.hpp"
#include "nacre/bdev/registry.hpp"
#include "nacre/runtime/sleep.hpp"
#include "powers.hpp"

namespace nacre {
namespace {

/// Zeros for emulated write_zeroes: 64 KiB at a time is where throughput flattens out.
constexpr std::size_t zero_piece_bytes = 65536;
alignas(4096) constinit const std::byte zeros[zero_piece_bytes]{};

/// As many of them; of a device that is written in units no more than this.
constexpr std::size_t zero_unit_bytes_max = 64 * zero_piece_bytes;
iov_view zeros_of(std::size_t bytes) noexcept {
    static const auto ranges = [] {
        std::array<iovec, zero_unit_bytes_max / zero_piece_bytes> all;
        all.fill({const_cast<std::byte*>(zeros), zero_piece_bytes});
        return all;
    }();
    if (bytes <= zero_piece_bytes) return {const_cast<std::byte*>(zeros), bytes};
    return iov_view(std::span<const iovec>(ranges)).slice(0, bytes);
}

constexpr std::uint32_t data_opcodes = bit(opcode::read) | bit(opcode::write) |
                                       bit(opcode::compare) | bit(opcode::compare_and_write) |
                                       bit(opcode::zone_append);
constexpr std::uint32_t range_opcodes = bit(opcode::unmap) | bit(opcode::write_zeroes) |
                                        bit(opcode::copy) | bit(opcode::seek_data) |
                                        bit(opcode::seek_hole);
constexpr std::uint32_t splittable_opcodes =
    bit(opcode::read) | bit(opcode::write) | bit(opcode::compare);
// Atomic ones, or that the device places.
constexpr std::uint32_t uncut_opcodes = bit(opcode::compare_and_write) | bit(opcode::zone_append);
// Those that a write unit concerns; the module takes as many units at once as it is given.
constexpr std::uint32_t unit_opcodes = bit(opcode::write) | bit(opcode::write_zeroes);
// The channel's own marks on an op.
constexpr std::uint8_t flag_linked = 0x80;    // in the list of outstanding ones
constexpr std::uint8_t flag_emulated = 0x40;  // carried out by child ops, in a coroutine
constexpr std::uint8_t flag_piece = 0x80;     // of a child op: its whole came through the doors
constexpr std::uint8_t flag_waiting = 0x20;   // channel_powers::place_of says where
constexpr std::uint8_t flag_retried = 0x10;   // has waited once already: goes to the front
constexpr std::uint8_t flag_given_up = 0x08;

/// The device is asked again this often while nothing else tells that it has memory, ever more
/// seldom.
constexpr std::uint64_t memory_retry_ns = 100'000;
constexpr unsigned memory_timer_shift_max = 7;

/// The piece that an emulated op waits for, where its own backend_area would be.
class current_piece {
public:
    current_piece(io_op& whole, io_op& piece) noexcept : whole_(whole) {
        of(whole) = &piece;
        piece.flags |= flag_piece;
    }
    current_piece(const current_piece&) = delete;
    current_piece& operator=(const current_piece&) = delete;
    ~current_piece() { of(whole_) = nullptr; }
    [[nodiscard]] static io_op*& of(io_op& whole) noexcept {
        return *reinterpret_cast<io_op**>(whole.backend_area.data());
    }

private:
    io_op& whole_;
};

}  // namespace

module_channel::module_channel(bdev& device) noexcept
    : device_(device),
      home_(*thread::current()),
      now_(home_.host().turn_stamp()),
      supported_(device.attributes().operations),
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
    if ((slow_ & slow_timeout) != 0) link_outstanding(op);
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
        powers_->take_note(op,
                           piece ? channel_powers::noted::presence : channel_powers::noted::range);
    }
    if (entered)
        dispatch(op);
    else
        submit(op);
}

// --- Emulation ----------------------------------------------------------------------------------

bool module_channel::must_be_cut(const io_op& op) const noexcept {
    if ((splittable_opcodes & bit(op.code)) == 0) return false;
    const bdev_attributes& a = device_.attributes();
    if (op.code == opcode::write && a.write_unit.value() > 1) return false;
    const std::uint64_t boundary = a.split_boundary();
    const std::uint64_t last = op.first.value() + op.blocks.value() - 1;
    return (boundary != 0 && op.first.value() / boundary != last / boundary) ||
           (a.transfer_bytes_max != 0 && op.data.size() > a.transfer_bytes_max);
}

bool module_channel::emulate(io_op& op) noexcept {
    const bdev_attributes& a = device_.attributes();
    if ((supported_ & bit(op.code)) == 0) {  // of those that bdev::supports
        start_emulation(op, op.code == opcode::write_zeroes ? write_zeroes_by_writing(op)
                            : op.code == opcode::compare    ? compare_by_reading(op)
                            : op.code == opcode::copy       ? copy_by_writing(op)
                                                            : compare_and_write_locked(op));
        return true;
    }
    const bool cut = must_be_cut(op);
    if ((slow_ & slow_alignment) != 0 && (data_opcodes & bit(op.code)) != 0) {
        const bool aligned = op.data.aligned(a.buffer_alignment) &&
                             (op.code != opcode::compare_and_write ||
                              op.expected->borrowed().aligned(a.buffer_alignment));
        // A part of an aligned buffer begins where a block does, which may be none of alignment.
        if (!aligned || (cut && a.buffer_alignment > block_bytes_)) {
            start_emulation(op, carry_out_bounced(op));
            return true;
        }
    }
    if (cut) start_emulation(op, carry_out_in_pieces(op));
    return cut;
}

void module_channel::start_emulation(io_op& op, task<void> emulation) noexcept {
    if (!emulation.valid()) {
        op.complete(error::posix(ENOMEM));
        return;
    }
    op.flags |= flag_emulated;
    current_piece::of(op) = nullptr;
    children_.spawn(std::move(emulation));
}

task<void> module_channel::write_zeroes_by_writing(io_op& op) {
    const bdev_attributes& a = device_.attributes();
    const std::uint64_t boundary = a.split_boundary();
    std::uint64_t piece_blocks = zero_piece_bytes / block_bytes_;
    if (a.transfer_bytes_max != 0)
        piece_blocks =
            std::clamp<std::uint64_t>(a.transfer_bytes_max / block_bytes_, 1, piece_blocks);
    const std::uint64_t unit = a.write_unit.value();
    if (unit > 1) piece_blocks = std::max(piece_blocks / unit * unit, unit);
    error status;
    if (bytes_of(piece_blocks) > zero_unit_bytes_max) status = error::posix(ENOTSUP);
    std::uint64_t done = 0;
    while (done < op.blocks.value() && status.ok()) {
        std::uint64_t n = std::min(piece_blocks, op.blocks.value() - done);
        if (boundary != 0 && unit == 1)
            n = std::min(n, boundary - (op.first.value() + done) % boundary);
        const iov_view piece = zeros_of(bytes_of(n));
        if ((op.flags & flag_given_up) != 0) break;
        child_io write(*this, opcode::write, op.first + block_count(done), piece, op.flags);
        const current_piece current(op, write.op());
        status = co_await write;
        done += n;
    }
    if (status.ok() && done < op.blocks.value()) status = error::posix(ECANCELED);
    op.complete(status);
}

std::uint64_t module_channel::piece_blocks(std::uint64_t at, std::uint64_t left) const noexcept {
    const bdev_attributes& a = device_.attributes();
    std::uint64_t n = std::min<std::uint64_t>(left, buffer_pool::bytes_max / block_bytes_);
    if (a.transfer_bytes_max != 0)
        n = std::min(n, std::max<std::uint64_t>(a.transfer_bytes_max / block_bytes_, 1));
    const std::uint64_t boundary = a.split_boundary();
    return boundary == 0 ? n : std::min(n, boundary - at % boundary);
}

task<void> module_channel::compare_by_reading(io_op& op) {
    buffer_pool& pool = device_.registry_->buffers().here();
    result<pooled_buffer> buffer =
        co_await pool.acquire(std::min<std::uint64_t>(op.data.size(), buffer_pool::bytes_max));
    error status = buffer ? error() : buffer.error();
    std::uint64_t done = 0;
    while (done < op.blocks.value() && status.ok()) {
        const std::uint64_t n = piece_blocks(op.first.value() + done, op.blocks.value() - done);
        if ((op.flags & flag_given_up) != 0) break;
        const iov_view there(buffer->data(), bytes_of(n));
        child_io read(*this, opcode::read, op.first + block_count(done), there);
        const current_piece current(op, read.op());
        status = co_await read;
        const iov_view expected = op.data.slice(bytes_of(done), bytes_of(n));
        if (status.ok() && !expected.equals(buffer->data())) status = error::posix(EILSEQ);
        done += n;
    }
    if (status.ok() && done < op.blocks.value()) status = error::posix(ECANCELED);
    op.complete(status);
}

void module_channel::pass_metadata(const io_op& op, io_op& piece,
                                   std::uint64_t done) const noexcept {
    if ((op.flags & io_op::flag_metadata) == 0) return;
    piece.flags |= io_op::flag_metadata;
    piece.metadata = op.metadata + done * device_.attributes().metadata_size;
}

/// Of the whole, in pieces; then the writes. The lock keeps everybody else out between.
task<void> module_channel::compare_and_write_locked(io_op& op) {
    channel_powers& powers = this->powers();
    ++powers.locking;
    powers.progress.notify_all();
    result<range_lock> lock =
        co_await device_.lock_range(op.first, op.blocks, lock_kind::reads_and_writes);
    error status = lock ? error() : lock.error();
    pooled_buffer buffer;
    if (status.ok()) {
        buffer_pool& pool = device_.registry_->buffers().here();
        result<pooled_buffer> taken =
            co_await pool.acquire(std::min<std::uint64_t>(op.data.size(), buffer_pool::bytes_max));
        if (taken)
            buffer = std::move(*taken);
        else
            status = taken.error();
    }
    const std::uint64_t all = op.blocks.value();
    std::uint64_t done = 0;
    while (done < all && status.ok()) {
        const std::uint64_t n = piece_blocks(op.first.value() + done, all - done);
        child_io read(*this, opcode::read, op.first + block_count(done),
                      iov_view(buffer.data(), bytes_of(n)));
        const current_piece current(op, read.op());
        status = co_await read;
        const iov_view expected = op.expected->borrowed().slice(bytes_of(done), bytes_of(n));
        if (status.ok() && !expected.equals(buffer.data())) status = error::posix(EILSEQ);
        if (status.ok() && (op.flags & flag_given_up) != 0) status = error::posix(ECANCELED);
        done += n;
    }
    // Not given up between two writes: it is all or nothing while the device does its part.
    done = 0;
    while (done < all && status.ok()) {
        const std::uint64_t n = piece_blocks(op.first.value() + done, all - done);
        const iov_view piece(buffer.data(), bytes_of(n));
        op.data.slice(bytes_of(done), bytes_of(n)).copy_to(buffer.data());
        child_io write(*this, opcode::write, op.first + block_count(done), piece, op.flags);
        write.op().flags |= flag_piece;
        status = co_await write;
        done += n;
    }
    while (lock && lock->held()) {
        task<void> releasing = lock->release();
        if (releasing.valid())
            co_await std::move(releasing);
        else
            co_await yield();  // lack of memory delays
    }
    --powers.locking;
    op.complete(status);
}

/// What overlaps is moved from the end that is overwritten first.
task<void> module_channel::copy_by_writing(io_op& op) {
    buffer_pool& pool = device_.registry_->buffers().here();
    const std::uint64_t all = op.blocks.value();
    result<pooled_buffer> buffer =
        co_await pool.acquire(std::min<std::uint64_t>(bytes_of(all), buffer_pool::bytes_max));
    error status = buffer ? error() : buffer.error();
    const bool backwards = op.first > op.source && op.first < op.source + op.blocks;
    std::uint64_t done = 0;
    while (done < all && status.ok()) {
        std::uint64_t n = piece_blocks(0, all - done);
        // Neither side of a piece crosses a boundary.
        std::uint64_t from = op.source.value() + (backwards ? all - done - n : done);
        std::uint64_t to = op.first.value() + (backwards ? all - done - n : done);
        if (const std::uint64_t b = device_.attributes().split_boundary(); b != 0) {
            if (backwards) {
                const std::uint64_t most = std::min((from + n - 1) % b + 1, (to + n - 1) % b + 1);
                const std::uint64_t less = n - std::min(n, most);
                from += less;
                to += less;
                n -= less;
            } else {
                n = std::min({n, b - from % b, b - to % b});
            }
        }
        if ((op.flags & flag_given_up) != 0) break;
        const iov_view moved(buffer->data(), bytes_of(n));
        {
            child_io read(*this, opcode::read, lba(from), moved);
            const current_piece current(op, read.op());
            status = co_await read;
        }
        if (status.ok()) {
            child_io write(*this, opcode::write, lba(to), moved, op.flags);
            const current_piece current(op, write.op());
            status = co_await write;
        }
        done += n;
    }
    if (status.ok() && done < all) status = error::posix(ECANCELED);
    op.complete(status);
}

task<void> module_channel::carry_out_in_pieces(io_op& op) {
    const bdev_attributes& a = device_.attributes();
    const std::uint64_t boundary = a.split_boundary();
    const std::uint64_t transfer =
        a.transfer_bytes_max == 0 ? UINT64_MAX
                                  : std::max<std::uint64_t>(a.transfer_bytes_max / block_bytes_, 1);
    error status;
    std::uint64_t done = 0;
    while (done < op.blocks.value() && status.ok()) {
        std::uint64_t n = std::min(op.blocks.value() - done, transfer);
        const std::uint64_t at = op.first.value() + done;
        if (boundary != 0) n = std::min(n, boundary - at % boundary);
        if ((op.flags & flag_given_up) != 0) break;
        child_io piece(*this, op.code, lba(at), op.data.slice(bytes_of(done), bytes_of(n)),
                       op.flags);
        pass_metadata(op, piece.op(), done);
        const current_piece current(op, piece.op());
        status = co_await piece;
        done += n;
    }
    if (status.ok() && done < op.blocks.value()) status = error::posix(ECANCELED);
    op.complete(status);
}

task<void> module_channel::carry_out_bounced(io_op& op) {
    const bdev_attributes& a = device_.attributes();
    // An atomic op is not cut; it needs both of its buffers aligned at once.
    const bool two_buffers = op.code == opcode::compare_and_write;
    const bool uncut = (uncut_opcodes & bit(op.code)) != 0;
    const bool in_units = op.code == opcode::write && a.write_unit.value() > 1;
    const std::uint64_t unit = in_units ? bytes_of(a.write_unit.value()) : 1;
    std::uint64_t piece_bytes = op.data.size();
    if (in_units) {
        piece_bytes = std::min(piece_bytes,
                               std::max<std::uint64_t>(buffer_pool::bytes_max / unit * unit, unit));
    } else if (!uncut) {
        piece_bytes = std::min<std::uint64_t>(piece_bytes, buffer_pool::bytes_max);
        if (a.transfer_bytes_max != 0)
            piece_bytes = std::min<std::uint64_t>(piece_bytes, a.transfer_bytes_max);
        piece_bytes = bytes_of(std::max<std::uint64_t>(piece_bytes / block_bytes_, 1));
    }
    // The second buffer starts aligned, too.
    const std::uint64_t second_at =
        (piece_bytes + a.buffer_alignment - 1) & ~std::uint64_t{a.buffer_alignment - 1};
    const std::uint64_t bytes = two_buffers ? second_at + piece_bytes : second_at;
    pooled_buffer pooled;
    dma_buffer large;
    error status;
    if (bytes <= buffer_pool::bytes_max) {
        buffer_pool& pool = device_.registry_->buffers().here();
        result<pooled_buffer> taken = co_await pool.acquire(bytes);
        if (taken)
            pooled = std::move(*taken);
        else
            status = taken.error();
    } else {
        result<dma_buffer> made =
            dma_buffer::allocate(byte_count(bytes), {.alignment = a.buffer_alignment});
        if (made)
            large = std::move(*made);
        else
            status = made.error();
    }
    std::byte* const first = pooled.empty() ? large.writable_unchecked().data() : pooled.data();
    std::byte* const second = first + second_at;
    std::uint64_t done = 0;
    while (done < op.blocks.value() && status.ok()) {
        std::uint64_t n = std::min(op.blocks.value() - done, piece_bytes / block_bytes_);
        const std::uint64_t boundary = a.split_boundary();
        if (boundary != 0 && !uncut && !in_units)
            n = std::min(n, boundary - (op.first.value() + done) % boundary);
        const iov_view user = op.data.slice(bytes_of(done), bytes_of(n));
        const iov_view bounce(first, bytes_of(n));
        if (op.code != opcode::read) user.copy_to(first);
        const_iov_view expected;
        if (two_buffers) {
            op.expected->borrowed().copy_to(second);
            expected = const_iov_view(second, bytes_of(n));
        }
        child_io piece(*this, op.code, op.first + block_count(done), bounce, op.flags);
        if (two_buffers) piece.op().expected = &expected;
        pass_metadata(op, piece.op(), done);
        if ((op.flags & flag_given_up) != 0) break;
        const current_piece current(op, piece.op());
        status = co_await piece;
        if (op.code == opcode::read && status.ok()) user.copy_from(first);
        if (op.code == opcode::zone_append) op.appended = piece.op().appended;
        done += n;
    }
    if (status.ok() && done < op.blocks.value()) status = error::posix(ECANCELED);
    op.complete(status);
}

bool module_channel::finished_slow(io_op& op) noexcept {
    if (must_wait_again(op)) return false;
    if ((op.flags & flag_linked) != 0) unlink_outstanding(op);
    if ((op.flags & io_op::flag_timed_out) != 0 && op.status.failed())
        op.status = error::posix(ETIMEDOUT);
    if (op.status.failed()) {
        statistics_.count_error(op.status);
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
