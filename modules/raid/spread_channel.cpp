// SPDX-License-Identifier: BSD-3-Clause
#include "modules/raid/spread_channel.hpp"

#include <algorithm>
#include <new>
#include <vector>

#include "modules/raid/array.hpp"

namespace nacre::raid {

/// An op on its way to several legs.
struct spread_group {
    /// Ranges of a child's data, if it is more than one strip.
    static constexpr std::size_t vectors_max = 32;
    struct part {
        io_op child;
        bool used = false;
        std::size_t vector_count = 0;
        std::array<iovec, vectors_max> vectors;
    };
    explicit spread_group(unsigned legs) : parts(legs) {}

    spread_group* next = nullptr;
    spread_channel* channel = nullptr;
    io_op* parent = nullptr;
    std::uint64_t done = 0;  // the array's block at which the next round begins
    unsigned pending = 0;
    error status;
    std::vector<part> parts;  // never resized: ops do not move
};

namespace {

/// False if there is no room.
bool append(spread_group::part& p, const iov_view& data) noexcept {
    bool fits = true;
    std::size_t count = p.vector_count;
    data.for_each([&](std::span<std::byte> range) {
        if (count < p.vectors.size())
            p.vectors[count++] = {range.data(), range.size()};
        else
            fits = false;
    });
    if (fits) p.vector_count = count;
    return fits;
}

}  // namespace

spread_channel::spread_channel(bdev& device, raid_array& array)
    : module_channel(device), slots_(array.slots()), legs_(std::make_unique<leg[]>(slots_)) {}

spread_channel::~spread_channel() {
    while (spread_group* g = free_groups_) {
        free_groups_ = g->next;
        delete g;
    }
}

outcome<> spread_channel::open(raid_array& array) {
    for (unsigned k = 0; k < slots_; ++k) {
        leg& l = legs_[k];
        block_count offset;
        outcome<bdev_channel> opened = array.open_leg_channel(k, offset, device());
        if (!opened) return fail(std::move(opened.error()));
        l.handle = std::move(*opened);
        l.base = &l.handle.base();
        l.channel = this;
        l.offset = offset.value();
        l.index = k;
    }
    return {};
}

spread_group* spread_channel::make_group() noexcept {
    try {
        auto* g = new spread_group(slots_);
        g->channel = this;
        for (spread_group::part& p : g->parts) {
            p.child.owner = g;
            p.child.done = &spread_channel::child_came_back;
        }
        return g;
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

void spread_channel::spread(io_op& op) noexcept {
    spread_group* g = free_groups_;
    if (g != nullptr) {
        free_groups_ = g->next;
    } else if (g = make_group(); g == nullptr) {
        op.complete(error::posix(ENOMEM));  // it waits where it entered
        return;
    }
    g->parent = &op;
    g->done = op.first.value();
    g->status = error();
    next_round(*g);
}

std::uint64_t spread_channel::gather(spread_group& g, std::uint64_t first,
                                     std::uint64_t end) noexcept {
    const io_op& op = *g.parent;
    const std::uint64_t block_size = device().block_size().value();
    std::uint64_t at = first;
    while (at < end) {
        const place here = place_of(at);
        const std::uint64_t n = std::min(here.run, end - at);
        const iov_view data = op.data.slice((at - op.first.value()) * block_size, n * block_size);
        spread_group::part& p = g.parts[here.leg];
        if (!p.used) {
            p.used = true;
            p.vector_count = 0;
            p.child.data = data;
        } else {
            // From the second strip on the child has a vector of its own.
            if (p.vector_count == 0 && !append(p, p.child.data)) break;
            if (!append(p, data)) break;
        }
        at += n;
    }
    for (spread_group::part& p : g.parts)
        if (p.used && p.vector_count != 0)
            p.child.data = iov_view(std::span<const iovec>(p.vectors.data(), p.vector_count));
    return at;
}

void spread_channel::next_round(spread_group& g) noexcept {
    const io_op& op = *g.parent;
    const std::uint64_t first = g.done;
    std::uint64_t end = op.first.value() + op.blocks.value();
    for (spread_group::part& p : g.parts) {
        p.used = false;
        p.child.data = iov_view();
    }
    if (op.code == opcode::read || op.code == opcode::write) end = gather(g, first, end);
    g.done = end;
    const bool ranged = has_range(op);
    g.pending = 0;
    for (unsigned k = 0; k < slots_; ++k) {
        spread_group::part& p = g.parts[k];
        io_op& child = p.child;
        child.code = op.code;
        child.flags = op.flags & io_op::flag_fua;
        child.first = lba();
        child.blocks = block_count();
        if (ranged) {
            const std::uint64_t from = position(k, first);
            child.first = lba(legs_[k].offset + from);
            child.blocks = block_count(position(k, end) - from);
        }
        p.used = !ranged || child.blocks.value() != 0;
        g.pending += p.used ? 1 : 0;
    }
    for (unsigned k = 0; k < slots_; ++k)
        if (g.parts[k].used) legs_[k].base->submit_child(g.parts[k].child);
}

void spread_channel::child_came_back(io_op& child) noexcept {
    auto& g = *static_cast<spread_group*>(child.owner);
    if (child.status.failed() && !g.status.failed()) g.status = child.status;
    if (--g.pending != 0) return;
    io_op& op = *g.parent;
    if (!g.status.failed() && g.done < op.first.value() + op.blocks.value() && has_range(op)) {
        g.channel->next_round(g);
        return;
    }
    const error status = g.status;
    g.next = g.channel->free_groups_;
    g.channel->free_groups_ = &g;
    op.complete(status);
}

}  // namespace nacre::raid
