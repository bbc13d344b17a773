// SPDX-License-Identifier: BSD-3-Clause
//
// Whole stripes that are lent in the legs' own memory.
#include <algorithm>
#include <array>
#include <new>

#include "modules/raid/raid5f/channel.hpp"
#include "modules/raid/raid5f/parity.hpp"
#include "modules/raid/raid5f/raid5f.hpp"

namespace nacre::raid {

bool raid5f_channel::can_lend() const noexcept {
    const auto all = static_cast<leg_mask>((std::uint64_t{1} << slots_) - 1);
    bool lend = lends() && active_ == all && writable_ == all;
    for (unsigned k = 0; k < slots_ && lend; ++k) lend = legs_[k].base->lends();
    return lend;
}

void raid5f_channel::submit_lend(io_op& op, const block_range& range) noexcept {
    if (op.blocks.value() > buffer_pool::bytes_max / block_size_) {
        op.complete(error::posix(EINVAL));
        return;
    }
    if (!can_lend()) {
        op.complete(error::posix(ENOTSUP));
        return;
    }
    write_group* const group = take_group(op);
    if (group == nullptr) return;
    write_group& g = *group;
    g.parent = &op;
    g.range = range;
    g.code = opcode::zcopy;
    g.sent = g.pending = active_;
    g.lent = 0;
    g.state = write_group::loan_state::asked;
    in_flight_writes_.push_back(g);
    leg_mask refused = 0;
    for_each_leg(g.sent, [&](unsigned k) {
        auto* const loan = ::new (static_cast<void*>(loans_of(g) + k))
            leg_loan(op.loan->populated ? populate::yes : populate::no, g, k);
        loan->run = &leg_lent;
        io_op& child = g.children[k];
        child.code = opcode::zcopy;
        child.flags = 0;
        child.first = lba(range.first) + legs_[k].offset;
        child.blocks = block_count(range.end - range.first);
        child.data = iov_view();
        child.loan = loan;
        child.run = &io_op::run_user;
        if (!legs_[k].base->enter(child)) refused |= leg_mask{1} << k;
    });
    for_each_leg(refused, [&](unsigned k) { note_failure(g, g.children[k], leg_mask{1} << k); });
    g.pending &= ~refused;
    if (g.pending == 0) legs_answered(g);
}

void raid5f_channel::leg_lent(work& w) noexcept {
    auto& loan = static_cast<leg_loan&>(w);
    write_group& g = *loan.group;
    const leg_mask bit_of_leg = leg_mask{1} << loan.k;
    g.lent |= bit_of_leg;
    g.pending &= ~bit_of_leg;
    if (g.pending == 0) static_cast<raid5f_channel&>(*g.channel).legs_answered(g);
}

/// Each leg has lent its part, or refused.
void raid5f_channel::legs_answered(write_group& g) noexcept {
    bool whole = g.lent == g.sent;
    for_each_leg(g.lent, [&](unsigned k) { whole &= g.children[k].data.contiguous(); });
    if (!whole) {
        // A leg that does not lend is not bad: whether it takes writes is seen when one comes.
        g.state = write_group::loan_state::refused;
        return_legs(g, commit::no);
        return;
    }
    io_op& op = *g.parent;
    iovec* const ranges = ranges_of(g);
    std::size_t n = 0;
    const std::uint64_t first = g.range.first >> shift_;
    const std::uint64_t stripes = (g.range.end >> shift_) - first;
    for (std::uint64_t s = 0; s < stripes; ++s) {
        const unsigned parity = raid5f_array::parity_leg(first + s, slots_);
        for (unsigned k = 0; k < slots_; ++k)
            if (k != parity) ranges[n++] = {lent_chunk(g, k, s).data(), strip_bytes()};
    }
    g.state = write_group::loan_state::held;
    op.push_layer<&given_back>(&g);
    op.lend(iov_view(std::span<const iovec>(ranges, n)));
}

/// By the holder.
hook_verdict raid5f_channel::given_back(io_op& op, void* context) noexcept {
    auto& g = *static_cast<write_group*>(context);
    auto& self = static_cast<raid5f_channel&>(*g.channel);
    const std::uint64_t first = g.range.first >> self.shift_;
    const std::uint64_t stripes = (g.range.end >> self.shift_) - first;
    std::array<iov_view, legs_max> chunks;
    for (std::uint64_t s = 0; s < stripes; ++s) {
        const unsigned parity = raid5f_array::parity_leg(first + s, self.slots_);
        for (unsigned i = 0; i < self.chunks_; ++i)
            chunks[i] = self.lent_chunk(g, i < parity ? i : i + 1, s);
        xor_into(self.lent_chunk(g, parity, s),
                 std::span<const iov_view>(chunks.data(), self.chunks_));
    }
    self.return_legs(g, op.loan->committed ? commit::yes : commit::no);
    return hook_verdict::resubmitted;
}

void raid5f_channel::return_legs(write_group& g, commit c) noexcept {
    g.pending = g.lent;
    if (g.pending == 0) {
        legs_returned(g);
        return;
    }
    for_each_leg(g.lent, [&](unsigned k) { block_loan::give_back(g.children[k], c); });
}

void raid5f_channel::legs_returned(write_group& g) noexcept {
    io_op& op = *g.parent;
    if (g.state == write_group::loan_state::held) {
        finish(g);
        return;
    }
    g.failed = g.cancelled = 0;
    g.first_error = error();
    release(g);
    op.complete(error::posix(ENOTSUP));
}

}  // namespace nacre::raid
