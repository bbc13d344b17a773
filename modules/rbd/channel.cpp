// SPDX-License-Identifier: BSD-3-Clause
#include "modules/rbd/channel.hpp"

#include <new>
#include <utility>

#include "nacre/bdev/bdev.hpp"
#include "nacre/runtime/frame_pool.hpp"

namespace nacre::rbd {

rbd_channel::rbd_channel(bdev& device, const api& functions, image& of) noexcept
    : module_channel(device), api_(functions), image_(of) {}

void rbd_channel::submit(io_op& op) noexcept {
    static_assert(sizeof(pending) <= sizeof op.backend_area);
    if (op.code == opcode::reset) return reset(op);
    pending& p = *new (op.backend_area.data()) pending(*this, op);
    switch (op.code) {
        case opcode::read:
            p.what = kind::read;
            break;
        case opcode::write:
            p.what = kind::write;
            break;
        case opcode::unmap:
            p.what = kind::discard;
            break;
        case opcode::write_zeroes:
            p.what = kind::write_zeroes;
            break;
        default:
            p.what = kind::flush;
            break;
    }
    ++outstanding_;
    if (describe(p))
        hand_over(p);
    else
        complete(p, error::posix(ENOMEM));  // it comes again
}

bool rbd_channel::describe(pending& p) noexcept {
    const io_op& op = p.op;
    const std::uint64_t block = device().block_size().value();
    p.offset = op.code == opcode::flush ? 0 : op.first.value() * block;
    p.bytes = op.code == opcode::flush ? 0 : op.blocks.value() * block;
    p.vectors = nullptr;
    p.vector_count = 0;
    p.done = [](request& r) noexcept {
        // On a thread of librbd's. The mailbox is how it comes to the op's own thread.
        auto& self = static_cast<pending&>(r);
        self.channel.home().post(self);
    };
    p.run = [](work& w) noexcept {
        auto& self = static_cast<pending&>(static_cast<message&>(w));
        self.channel.finished(self);
    };
    if (p.what != kind::read && p.what != kind::write) return true;
    if (op.data.contiguous()) {
        p.range = iovec{op.data.data(), op.data.size()};
        p.vectors = &p.range;
        p.vector_count = 1;
        return true;
    }
    std::span<const iovec> ranges = op.data.whole_vectors();
    if (ranges.empty()) {
        p.listed_bytes = op.data.range_count() * sizeof(iovec);
        p.listed = static_cast<iovec*>(frame_pool::allocate(p.listed_bytes));
        if (p.listed == nullptr) return false;
        const std::span<iovec> room(p.listed, op.data.range_count());
        ranges = room.first(op.data.to_vectors(room));
    }
    p.vectors = ranges.data();
    p.vector_count = static_cast<int>(ranges.size());
    return true;
}

void rbd_channel::hand_over(pending& p) noexcept {
    const int refused = api_.submit(&image_, p);
    if (refused < 0) complete(p, error::posix(-refused));
}

void rbd_channel::finished(pending& p) noexcept {
    if (p.result < 0) {
        complete(p, error::posix(static_cast<int>(-p.result)));
    } else if (p.what == kind::read && static_cast<std::uint64_t>(p.result) != p.bytes) {
        complete(p, error::posix(EIO));
    } else if (p.what == kind::write && (p.op.flags & io_op::flag_fua) != 0) {
        p.what = kind::flush;
        hand_over(p);
    } else {
        complete(p, error());
    }
}

void rbd_channel::complete(pending& p, error status) noexcept {
    io_op& op = p.op;
    if (p.listed != nullptr) frame_pool::deallocate(p.listed, p.listed_bytes);
    p.~pending();
    op.complete(status);
    if (--outstanding_ != 0) return;
    for (work* waiting = std::exchange(resets_, nullptr); waiting != nullptr;) {
        auto& done = static_cast<io_op&>(*waiting);
        waiting = waiting->next;
        done.complete();
    }
}

void rbd_channel::reset(io_op& op) noexcept {
    if (outstanding_ == 0) {
        op.complete();
        return;
    }
    op.next = resets_;
    resets_ = &op;
}

}  // namespace nacre::rbd
