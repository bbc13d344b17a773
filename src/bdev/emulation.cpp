// SPDX-License-Identifier: BSD-3-Clause
//
// What a channel does by child ops, each in a coroutine: what its module does not carry out itself,
// what crosses a boundary or is too long, and what lies in buffers that the device cannot take.
#include <algorithm>
#include <array>

#include "channel_flags.hpp"
#include "nacre/bdev/bdev.hpp"
#include "nacre/bdev/block_loan.hpp"
#include "nacre/bdev/child_io.hpp"
#include "nacre/bdev/module_channel.hpp"
#include "nacre/bdev/registry.hpp"
#include "nacre/memory/reserved_buffers.hpp"
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

}  // namespace

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
                            : op.code == opcode::zcopy      ? lend_by_copying(op)
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
    if (cut) {
        start_emulation(op, carry_out_in_pieces(op));
        return true;
    }
    if (op.code != opcode::zcopy || op.loan->buffer == nullptr) return false;
    start_emulation(op, lend_by_copying(op));
    return true;
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
    // At least one, which is longer with 64 KiB of data and metadata behind them.
    std::uint64_t piece_blocks = std::max<std::uint64_t>(zero_piece_bytes / block_bytes_, 1);
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

reserved_buffers& module_channel::buffers() {
    if (buffers_ == nullptr)
        buffers_ = std::make_unique<reserved_buffers>(device_.registry_->buffers().here());
    return *buffers_;
}

task<void> module_channel::compare_by_reading(io_op& op) {
    result<pooled_buffer> buffer =
        co_await buffers().acquire(std::min<std::uint64_t>(op.data.size(), buffer_pool::bytes_max));
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
        result<pooled_buffer> taken = co_await buffers().acquire(
            std::min<std::uint64_t>(op.data.size(), buffer_pool::bytes_max));
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
    const std::uint64_t all = op.blocks.value();
    result<pooled_buffer> buffer =
        co_await buffers().acquire(std::min<std::uint64_t>(bytes_of(all), buffer_pool::bytes_max));
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

/// What is lent is a buffer, which is read before if it is to be populated, and written afterwards
/// if it is committed. Pieces of it go where they lie, unless they lie where the device cannot take
/// them: then by a buffer of the channel's.
task<void> module_channel::lend_by_copying(io_op& op) {
    block_loan& loan = *op.loan;
    const bdev_attributes& a = device_.attributes();
    const iov_view lent(loan.buffer, bytes_of(op.blocks.value()));
    const std::uint64_t unit = a.write_unit.value();
    static constexpr opcode directions[] = {opcode::read, opcode::write};
    error status;
    for (unsigned d = 0; d < 2 && status.ok(); ++d) {
        const opcode code = directions[d];
        if (code == opcode::write) {
            op.lend(lent);
            block_loan::returned returned{loan};
            co_await returned;
        }
        if (code == opcode::read ? !loan.populated : !loan.committed) continue;
        pooled_buffer bounce;
        if (a.buffer_alignment > block_bytes_ &&
            (a.split_boundary() != 0 || a.transfer_bytes_max != 0)) {
            result<pooled_buffer> taken = co_await buffers().acquire(lent.size());
            if (taken)
                bounce = std::move(*taken);
            else
                status = taken.error();
        }
        std::uint64_t done = 0;
        while (done < op.blocks.value() && status.ok()) {
            const std::uint64_t left = op.blocks.value() - done;
            // Whole units are the module's to divide.
            const std::uint64_t n = code == opcode::write && unit > 1
                                        ? left
                                        : piece_blocks(op.first.value() + done, left);
            const iov_view there = lent.slice(bytes_of(done), bytes_of(n));
            const bool odd =
                reinterpret_cast<std::uintptr_t>(there.data()) % a.buffer_alignment != 0;
            const iov_view piece = odd ? iov_view(bounce.data(), bytes_of(n)) : there;
            if (odd && code == opcode::write) there.copy_to(bounce.data());
            child_io io(*this, code, op.first + block_count(done), piece);
            const current_piece current(op, io.op());
            status = co_await io;
            if (odd && code == opcode::read) there.copy_from(bounce.data());
            done += n;
        }
    }
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
        result<pooled_buffer> taken = co_await buffers().acquire(bytes);
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

}  // namespace nacre
