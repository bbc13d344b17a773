// SPDX-License-Identifier: BSD-3-Clause
#include "modules/raid/raid5f/channel.hpp"

#include <algorithm>
#include <array>
#include <bit>

#include "modules/raid/array.hpp"
#include "modules/raid/leg_io.hpp"
#include "modules/raid/raid5f/parity.hpp"
#include "modules/raid/raid5f/raid5f.hpp"

namespace nacre::raid {
namespace {

constexpr std::uint32_t striped_opcodes =
    bit(opcode::write) | bit(opcode::write_zeroes) | bit(opcode::zcopy);
/// Of one read at once.
constexpr unsigned pieces_max = 64;

}  // namespace

raid5f_channel::raid5f_channel(bdev& device, raid_array& array)
    : redundant_channel(device, array),
      shift_(static_cast<unsigned>(std::countr_zero(array.strip_blocks()))),
      mask_(array.strip_blocks() - 1),
      chunks_(slots_ - 1),
      stripe_blocks_(array.strip_blocks() * chunks_),
      block_size_(array.block_size()),
      states_(std::make_unique<read_state[]>(slots_)),
      buffers_(device.channel_buffers()) {
    for (unsigned k = 0; k < slots_; ++k) states_[k] = {this, k};
    child_done_ = &raid5f_channel::child_came_back;
    std::size_t room = strip_bytes();
    if (lends())
        room += slots_ * sizeof(leg_loan) + buffer_pool::bytes_max / strip_bytes() * sizeof(iovec);
    set_group_bytes(room);
}

raid5f_channel::place raid5f_channel::place_of(std::uint64_t block) const noexcept {
    const std::uint64_t chunk = block >> shift_;
    const std::uint64_t stripe = chunk / chunks_;
    const auto i = static_cast<unsigned>(chunk % chunks_);
    const unsigned parity = raid5f_array::parity_leg(stripe, slots_);
    return {i < parity ? i : i + 1, (stripe << shift_) + (block & mask_)};
}

std::uint64_t raid5f_channel::block_at(const place& p) const noexcept {
    const std::uint64_t stripe = p.block >> shift_;
    const unsigned parity = raid5f_array::parity_leg(stripe, slots_);
    const unsigned i = p.leg < parity ? p.leg : p.leg - 1;
    return ((stripe * chunks_ + i) << shift_) + (p.block & mask_);
}

bool raid5f_channel::in_stripes(const io_op& op) const noexcept {
    return op.first.value() % stripe_blocks_ == 0 && op.blocks.value() % stripe_blocks_ == 0;
}

block_range raid5f_channel::range_of(const io_op& op) const noexcept {
    if ((striped_opcodes & bit(op.code)) == 0) return {};
    const std::uint64_t end = op.first.value() + op.blocks.value();
    return {op.first.value() / stripe_blocks_ << shift_, end / stripe_blocks_ << shift_};
}

void raid5f_channel::submit(io_op& op) noexcept {
    if (op.code == opcode::read)
        submit_read(op);
    else
        submit_write(op);
}

// --- Reads --------------------------------------------------------------------------------------

void raid5f_channel::submit_read(io_op& op) noexcept {
    const std::uint64_t first = op.first.value();
    if (first >> shift_ != (first + op.blocks.value() - 1) >> shift_) {
        start(op, read_in_pieces(op));
        return;
    }
    const place p = place_of(first);
    if ((active_ >> p.leg & 1) == 0) {
        start(op, reconstruct(op, p.leg));
        return;
    }
    ++reading_[p.leg];
    op.push_layer<&read_came_back>(&states_[p.leg]);
    op.first = lba(p.block) + legs_[p.leg].offset;
    legs_[p.leg].base->forward(op);
}

hook_verdict raid5f_channel::read_came_back(io_op& op, void* context) noexcept {
    const read_state& s = *static_cast<const read_state*>(context);
    raid5f_channel& self = *s.channel;
    op.first = lba(self.block_at({s.leg, op.first.value() - self.legs_[s.leg].offset.value()}));
    self.left(s.leg);
    if (op.status.failed()) [[unlikely]]
        return self.read_failed(op, s.leg);
    return hook_verdict::done;
}

hook_verdict raid5f_channel::read_failed(io_op& op, unsigned failed_leg) noexcept {
    // ENOMEM: it waits where it entered.
    if (op.status.is(ECANCELED) || op.status.is(ENOMEM) ||
        (op.flags & io_op::flag_timed_out) != 0 || !can_reconstruct(failed_leg))
        return hook_verdict::done;
    op.status = error();
    start(op, reconstruct(op, failed_leg));
    return hook_verdict::resubmitted;
}

void raid5f_channel::left(unsigned k) noexcept {
    --reading_[k];
    if (progress().has_waiters()) [[unlikely]]
        progress().notify_all();
}

bool raid5f_channel::can_reconstruct(unsigned missing) const noexcept {
    const leg_mask bit_of_leg = leg_mask{1} << missing;
    if (static_cast<unsigned>(std::popcount(active_ & ~bit_of_leg)) != chunks_) return false;
    // While parity may be wrong somewhere, it is trusted only where nothing else is left.
    return (active_ & bit_of_leg) == 0 || readable_ == active_;
}

void raid5f_channel::start(io_op& op, task<void> work) noexcept {
    if (work.valid())
        children().spawn(std::move(work));
    else
        op.complete(error::posix(ENOMEM));
}

task<void> raid5f_channel::reconstruct(io_op& op, unsigned missing) {
    place from = place_of(op.first.value());
    from.leg = missing;
    const error status = co_await reconstruct_range(from, op.data);
    op.complete(status);
}

task<error> raid5f_channel::reconstruct_range(place from, iov_view into) {
    if (!can_reconstruct(from.leg)) co_return error::posix(EIO);
    const std::size_t most = std::max<std::size_t>(
        buffer_pool::bytes_max / chunks_ / block_size_ * block_size_, block_size_);
    for (std::size_t done = 0; done < into.size();) {
        const std::size_t bytes = std::min(most, into.size() - done);
        const iov_view piece = into.slice(done, bytes);
        const error status = co_await reconstruct_piece(from, piece);
        if (status.failed()) co_return status;
        from.block += bytes / block_size_;
        done += bytes;
    }
    co_return error();
}

task<error> raid5f_channel::reconstruct_piece(place from, iov_view into) {
    const std::size_t bytes = into.size();
    result<pooled_buffer> buffer = co_await buffers_.acquire(chunks_ * bytes);
    if (!buffer) co_return buffer.error();
    if (!can_reconstruct(from.leg)) co_return error::posix(EIO);  // not any more
    std::array<iov_view, legs_max> chunks;
    error status;
    {
        scope reads;
        unsigned i = 0;
        for (unsigned k = 0; k < slots_; ++k) {
            if (k == from.leg) continue;
            chunks[i] = iov_view(buffer->data() + i * bytes, bytes);
            task<void> read = read_leg({k, from.block}, chunks[i], status);
            ++i;
            if (!read.valid()) {
                status = error::posix(ENOMEM);
                break;
            }
            ++reading_[k];
            reads.spawn(std::move(read));
        }
        result<> joined = co_await reads.join();
        if (!joined && status.ok()) status = joined.error();
    }
    if (status.failed()) co_return status;
    const std::span<std::byte> first(buffer->data(), bytes);
    xor_into(first, std::span<const iov_view>(chunks.data(), chunks_));
    into.copy_from(first.data());
    co_return status;
}

task<void> raid5f_channel::read_leg(place from, iov_view into, error& status) {
    leg_io read(*legs_[from.leg].base, opcode::read, lba(from.block) + legs_[from.leg].offset,
                into);
    const error done = co_await read;
    left(from.leg);
    if (done.failed()) status = done;
}

task<void> raid5f_channel::read_in_pieces(io_op& op) {
    error status;
    std::uint64_t done = 0;
    while (done < op.blocks.value() && status.ok()) {
        scope pieces;
        for (unsigned n = 0; n < pieces_max && done < op.blocks.value(); ++n) {
            const std::uint64_t at = op.first.value() + done;
            const std::uint64_t blocks =
                std::min(mask_ + 1 - (at & mask_), op.blocks.value() - done);
            const iov_view into = op.data.slice(done * block_size_, blocks * block_size_);
            task<void> piece = read_piece(at, into, status);
            if (!piece.valid()) {
                status = error::posix(ENOMEM);  // it waits where it entered
                break;
            }
            pieces.spawn(std::move(piece));
            done += blocks;
        }
        result<> joined = co_await pieces.join();
        if (!joined && status.ok()) status = joined.error();
    }
    op.complete(status);
}

task<void> raid5f_channel::read_piece(std::uint64_t block, iov_view into, error& status) {
    const place p = place_of(block);
    error done = error::posix(EIO);
    if ((active_ >> p.leg & 1) != 0) {
        done = error();
        ++reading_[p.leg];
        co_await read_leg(p, into, done);
        if (done.ok()) co_return;
        if (done.is(ECANCELED) || !can_reconstruct(p.leg)) {
            status = done;
            co_return;
        }
    }
    done = co_await reconstruct_range(p, into);
    if (done.failed()) status = done;
}

// --- Writes -------------------------------------------------------------------------------------

void raid5f_channel::submit_write(io_op& op) noexcept {
    // What the layer above forwards nobody has checked against the unit.
    if ((striped_opcodes & bit(op.code)) != 0 && !in_stripes(op)) {
        op.complete(error::posix(EINVAL));
        return;
    }
    const block_range range = range_of(op);
    if (!may_start(op, range)) return;
    if (op.code == opcode::zcopy) [[unlikely]] {
        submit_lend(op, range);
        return;
    }
    const leg_mask legs = writable_;
    if (static_cast<unsigned>(std::popcount(legs)) < chunks_) {
        op.complete(error::posix(EIO));
        return;
    }
    write_group* const g = take_group(op);
    if (g == nullptr) return;
    g->parent = &op;
    g->range = range;
    g->code = op.code;
    g->sent = legs;
    g->next_block = op.first.value();
    in_flight_writes_.push_back(*g);
    next_stripe(*g);
}

void raid5f_channel::prepare_chunks(write_group& g, std::uint64_t stripe) noexcept {
    const io_op& op = *g.parent;
    const std::size_t at = (stripe * stripe_blocks_ - op.first.value()) * block_size_;
    const unsigned parity = raid5f_array::parity_leg(stripe, slots_);
    std::array<iov_view, legs_max> chunks;
    for (unsigned i = 0; i < chunks_; ++i) {
        chunks[i] = op.data.slice(at + i * strip_bytes(), strip_bytes());
        g.children[i < parity ? i : i + 1].data = chunks[i];
    }
    if ((g.sent >> parity & 1) == 0) return;
    const std::span<std::byte> room(bytes_of(g), strip_bytes());
    xor_into(room, std::span<const iov_view>(chunks.data(), chunks_));
    g.children[parity].data = iov_view(room);
}

void raid5f_channel::next_stripe(write_group& g) noexcept {
    const io_op& op = *g.parent;
    const leg_mask legs = g.sent & ~g.failed & ~g.cancelled;
    block_range part = g.range;
    if (op.code == opcode::write) {
        const std::uint64_t stripe = g.next_block / stripe_blocks_;
        prepare_chunks(g, stripe);
        part = {stripe << shift_, (stripe + 1) << shift_};
        g.next_block += stripe_blocks_;
    } else {
        g.next_block = op.first.value() + op.blocks.value();
    }
    g.pending = legs;
    leg_mask refused = 0;
    for_each_leg(legs, [&](unsigned k) {
        io_op& child = g.children[k];
        child.code = op.code;
        child.flags = op.flags & io_op::flag_fua;
        child.first = lba(part.first) + legs_[k].offset;
        child.blocks = block_count(part.end - part.first);
        if (op.code != opcode::write) child.data = iov_view();
        // As a user of the leg, which may split it or carry it out by others.
        child.run = &io_op::run_user;
        if (!legs_[k].base->enter(child)) refused |= leg_mask{1} << k;
    });
    for_each_leg(refused, [&](unsigned k) { note_failure(g, g.children[k], leg_mask{1} << k); });
    g.pending &= ~refused;
    if (g.pending == 0) round_over(g);
}

void raid5f_channel::child_came_back(io_op& child) noexcept {
    write_group& g = *static_cast<write_group*>(child.owner);
    const leg_mask bit_of_leg = leg_mask{1} << (&child - g.children);
    auto& self = static_cast<raid5f_channel&>(*g.channel);
    if (child.status.failed()) note_failure(g, child, bit_of_leg);
    g.pending &= ~bit_of_leg;
    if (g.pending == 0) self.round_over(g);
}

void raid5f_channel::round_over(write_group& g) noexcept {
    if (g.code == opcode::zcopy) [[unlikely]] {
        if (g.state == write_group::loan_state::asked)
            legs_answered(g);
        else
            legs_returned(g);
        return;
    }
    const io_op& op = *g.parent;
    const leg_mask good = g.sent & ~g.failed & ~g.cancelled;
    const bool goes_on = static_cast<unsigned>(std::popcount(good)) >= chunks_ &&
                         g.code == opcode::write &&
                         g.next_block < op.first.value() + op.blocks.value();
    if (goes_on)
        next_stripe(g);
    else
        finish(g);
}

}  // namespace nacre::raid
