// SPDX-License-Identifier: BSD-3-Clause
//
// The path of every I/O: channel.hpp says how it works. What is rare is in redundant_channel.cpp.
#include "modules/raid/raid1/channel.hpp"

#include <bit>

#include "modules/raid/array.hpp"

namespace nacre::raid {
namespace {

constexpr std::uint32_t ranged_opcodes =
    bit(opcode::write) | bit(opcode::unmap) | bit(opcode::write_zeroes);

}  // namespace

raid1_channel::raid1_channel(bdev& device, raid_array& array)
    : redundant_channel(device, array), states_(std::make_unique<read_state[]>(slots_ * slots_)) {
    for (unsigned i = 0; i < slots_ * slots_; ++i)
        states_[i] = {
            .channel = this, .of = &legs_[i % slots_], .current = i % slots_, .round = i / slots_};
    child_done_ = &raid1_channel::child_came_back;
}

block_range raid1_channel::range_of(const io_op& op) const noexcept {
    if ((ranged_opcodes & bit(op.code)) == 0) return {};
    return {op.first.value(), op.first.value() + op.blocks.value()};
}

void raid1_channel::submit(io_op& op) noexcept {
    if (op.code == opcode::read) [[likely]]
        submit_read(op);
    else
        submit_write(op);
}

// --- Reads --------------------------------------------------------------------------------------

inline unsigned raid1_channel::choose_leg() noexcept {
    // The least busy one; among equals the one after the last. `rest` has leg next_leg_ at its
    // lowest bit, and goes round.
    static_assert(legs_max == 32);
    const unsigned from = next_leg_;
    leg_mask rest = std::rotr(readable_, static_cast<int>(from));
    unsigned best = 0;
    std::uint32_t least = UINT32_MAX;
    do {
        const unsigned k = (from + static_cast<unsigned>(std::countr_zero(rest))) % legs_max;
        if (reading_[k] < least) {
            least = reading_[k];
            best = k;
        }
        rest &= rest - 1;
    } while (rest != 0);
    next_leg_ = (best + 1) % legs_max;
    return best;
}

inline void raid1_channel::submit_read(io_op& op) noexcept {
    if (readable_ == 0) [[unlikely]] {
        op.complete(error::posix(EIO));
        return;
    }
    send(op, states_[choose_leg()]);
}

inline void raid1_channel::send(io_op& op, read_state& s) noexcept {
    const leg& l = *s.of;
    ++reading_[s.current];
    op.push_layer<&read_came_back>(&s);
    op.first += l.offset;
    l.base->forward(op);
}

hook_verdict raid1_channel::read_came_back(io_op& op, void* context) noexcept {
    auto& s = *static_cast<read_state*>(context);
    raid1_channel& self = *s.channel;
    op.first = lba(op.first.value() - s.of->offset.value());
    --self.reading_[s.current];
    if (self.progress().has_waiters()) [[unlikely]]
        self.progress().notify_all();
    if (op.status.failed()) [[unlikely]]
        return self.read_failed(op, s);
    return hook_verdict::done;
}

hook_verdict raid1_channel::read_failed(io_op& op, read_state& s) noexcept {
    if (op.status.is(ECANCELED) || (op.flags & io_op::flag_timed_out) != 0)
        return hook_verdict::done;
    if (op.status.is(ENOMEM)) {
        s.of->reads_again.push(op);
        ++reading_[s.current];
        op.push_layer<&read_came_back>(&s);
        op.first += s.of->offset;
        retry_later();
        return hook_verdict::resubmitted;
    }
    unsigned k = s.current;
    for (unsigned n = s.round + 1; n < slots_; ++n) {
        k = k + 1 == slots_ ? 0 : k + 1;
        if ((active_ >> k & 1) == 0) continue;
        op.status = error();
        send(op, states_[n * slots_ + k]);
        return hook_verdict::resubmitted;
    }
    return hook_verdict::done;
}

// --- Writes -------------------------------------------------------------------------------------

void raid1_channel::submit_write(io_op& op) noexcept {
    const block_range range = range_of(op);
    if (may_start(op, range)) start_write(op, range);
}

// In line in submit_write, which is the path of every write.
[[gnu::always_inline]] inline void raid1_channel::start_write(io_op& op,
                                                              const block_range& range) noexcept {
    const leg_mask legs = writable_;
    if (legs == 0) [[unlikely]] {
        op.complete(error::posix(EIO));
        return;
    }
    write_group* const g = take_group(op);
    if (g == nullptr) [[unlikely]]
        return;
    g->parent = &op;
    g->range = range;
    g->code = op.code;
    g->sent = g->pending = legs;
    in_flight_writes_.push_back(*g);
    for (leg_mask rest = legs; rest != 0; rest &= rest - 1) {
        const auto k = static_cast<unsigned>(__builtin_ctz(rest));
        io_op& child = g->children[k];
        child.code = op.code;
        child.flags = op.flags & io_op::flag_fua;
        child.first = op.first + legs_[k].offset;
        child.blocks = op.blocks;
        child.data = op.data;
        legs_[k].base->submit_child(child);
    }
}

void raid1_channel::child_came_back(io_op& child) noexcept {
    write_group& g = *static_cast<write_group*>(child.owner);
    const leg_mask bit_of_leg = leg_mask{1} << (&child - g.children);
    auto& self = static_cast<raid1_channel&>(*g.channel);
    if (child.status.failed()) [[unlikely]]
        note_failure(g, child, bit_of_leg);
    g.pending &= ~bit_of_leg;
    if (g.pending == 0) self.finish(g);
}

}  // namespace nacre::raid
