// SPDX-License-Identifier: BSD-3-Clause
#include "powers.hpp"

#include <algorithm>

#include "channel_flags.hpp"
#include "nacre/bdev/bdev.hpp"
#include "nacre/bdev/block_loan.hpp"
#include "nacre/bdev/nvme_command.hpp"
#include "nacre/runtime/frame_pool.hpp"

namespace nacre {
namespace {

/// Blocks that an op changes or reads.
struct extent {
    std::uint64_t first = 0, end = 0;
    bool changes = false;
    std::uint64_t source = 0, source_end = 0;
};

extent extent_of(const io_op& op, const bdev_attributes& a) noexcept {
    const std::uint64_t first = op.first.value();
    switch (op.code) {
        case opcode::read:
        case opcode::compare:
            return {.first = first, .end = first + op.blocks.value()};
        case opcode::seek_data:
        case opcode::seek_hole:  // they look as far as they must
            return {.first = first, .end = UINT64_MAX};
        case opcode::write:
        case opcode::unmap:
        case opcode::write_zeroes:
        case opcode::compare_and_write:
        case opcode::zcopy:
            return {.first = first, .end = first + op.blocks.value(), .changes = true};
        case opcode::copy:
            return {.first = first,
                    .end = first + op.blocks.value(),
                    .changes = true,
                    .source = op.source.value(),
                    .source_end = op.source.value() + op.blocks.value()};
        case opcode::zone_manage:
            if (op.zones.all) return {.end = UINT64_MAX, .changes = true};
            [[fallthrough]];
        case opcode::zone_append:
            return {.first = first, .end = first + a.zoned.zone_size.value(), .changes = true};
        case opcode::nvme_admin:
            if (only_reads(op.nvme->command, op.code)) return {};
            [[fallthrough]];
        case opcode::nvme_io:  // wherever it does what it does
            return {.end = UINT64_MAX, .changes = !only_reads(op.nvme->command, op.code)};
        default:
            return {};
    }
}

bool overlap(std::uint64_t a, std::uint64_t a_end, const locked_range& r) noexcept {
    return a < r.end && r.first < a_end;
}

template <typename Extent>
bool collides(const Extent& e, const locked_range& r) noexcept {
    if (e.changes && overlap(e.first, e.end, r)) return true;
    return r.kind == lock_kind::reads_and_writes &&
           (overlap(e.first, e.end, r) || overlap(e.source, e.source_end, r));
}

}  // namespace

channel_powers::~channel_powers() {
    if (limiter != nullptr) limiter->forget(share);
}

// --- Queues -------------------------------------------------------------------------------------

void channel_powers::queue::push(io_op& op) noexcept {
    op.next = nullptr;
    (first == nullptr ? first : last->next) = &op;
    last = &op;
}

io_op& channel_powers::queue::pop() noexcept {
    auto& op = static_cast<io_op&>(*first);
    first = op.next;
    if (first == nullptr) last = nullptr;
    return op;
}

bool channel_powers::queue::remove(io_op& op) noexcept {
    work* before = nullptr;
    work* w = first;
    for (; w != nullptr && w != &op; w = w->next) before = w;
    if (w == nullptr) return false;
    (before == nullptr ? first : before->next) = op.next;
    if (last == &op) last = before;
    return true;
}

void channel_powers::wait_in(queue& q, io_op& op) noexcept {
    op.flags |= flag_waiting;
    place_of(op) = {this, &q};
    if (&op.entry() == &channel) ++own_waiting;
    q.push(op);
}

void channel_powers::give_up(io_op& op, int errno_value) noexcept {
    queue& q = *place_of(op).waits_in;
    NACRE_ASSERT(q.remove(op));
    end_waiting(op);
    if (&q == &limited && q.empty()) end_pace();
    op.complete(error::posix(errno_value));
}

void channel_powers::end_waiting(io_op& op) noexcept {
    op.flags &= static_cast<std::uint8_t>(~flag_waiting);
    if (&op.entry() == &channel) --own_waiting;
}

void channel_powers::fail_all(int errno_value) noexcept {
    for (queue* q : {&limited, &locked}) {
        while (!q->empty()) {
            io_op& op = q->pop();
            end_waiting(op);
            op.complete(error::posix(errno_value));
        }
    }
    end_pace();
}

// --- Rate limits --------------------------------------------------------------------------------

channel_powers::pace_timer::pace_timer(channel_powers& p) noexcept
    : timer([](timer& t) noexcept {
          channel_powers& powers = static_cast<pace_timer&>(t).owner;
          const thread_guard guard(powers.channel.home());
          powers.serve();
      }),
      owner(p) {}

void channel_powers::limit(rate_limiter* by) noexcept {
    if (limiter == by) return;
    if (limiter != nullptr) limiter->forget(share);
    limiter = by;
    if (by != nullptr) {
        channel.set_slow(module_channel::slow_limited);
        return;
    }
    channel.clear_slow(module_channel::slow_limited);
    pace.cancel();
    // They go at once, and come to no limit.
    queue going = std::exchange(limited, queue());
    while (!going.empty()) {
        io_op& op = going.pop();
        end_waiting(op);
        channel.launch(op);
    }
}

/// What is lent counts as what SPDK takes it for, when it is lent.
bool channel_powers::taken_by_limits(const io_op& op) noexcept {
    const std::uint64_t now = channel.now_ns();
    if (op.code != opcode::zcopy) return limiter->take(share, op.code, op.data.size(), now);
    return limiter->take(share, op.loan->populated ? opcode::read : opcode::write,
                         channel.bytes_of(op.blocks.value()), now);
}

bool channel_powers::held_by_limits(io_op& op) noexcept {
    if (!rate_limiter::counts(op.code)) return false;
    if (limited.empty() && taken_by_limits(op)) return false;
    wait_in(limited, op);
    if (!pace.armed())
        channel.home().host().timers().arm(pace, channel.now_ns() + rate_limiter::slice_ns);
    return true;
}

void channel_powers::serve() noexcept {
    while (!limited.empty()) {
        auto& op = static_cast<io_op&>(*limited.first);
        if (!taken_by_limits(op)) break;
        (void)limited.pop();
        end_waiting(op);
        channel.launch(op);
    }
    if (limited.empty())
        end_pace();
    else
        channel.home().host().timers().arm(pace, channel.now_ns() + rate_limiter::slice_ns);
}

void channel_powers::end_pace() noexcept {
    pace.cancel();
    if (limiter != nullptr) limiter->leave(share, channel.now_ns());
}

// --- Locks --------------------------------------------------------------------------------------

void channel_powers::watch(const locked_range& r) {
    if (std::ranges::find(ranges, r.id, &locked_range::id) != ranges.end()) return;
    ranges.push_back(r);
    follow(1);
}

void channel_powers::lock(const locked_range& r) {
    watch(r);
    std::ranges::find(ranges, r.id, &locked_range::id)->shut = true;
}

void channel_powers::unlock(std::uint64_t id) noexcept {
    if (std::erase_if(ranges, [id](const locked_range& r) { return r.id == id; }) == 0) return;
    queue waited = std::exchange(locked, queue());
    while (!waited.empty()) {
        io_op& op = waited.pop();
        if (held_by_lock(op)) {
            locked.push(op);
            continue;
        }
        end_waiting(op);
        channel.launch(op);
    }
    follow(-1);
}

void channel_powers::unlock_all() noexcept {
    while (!ranges.empty()) unlock(ranges.back().id);
}

bool channel_powers::held_by_lock(const io_op& op) const noexcept {
    if (ranges.empty()) return false;
    const extent e = extent_of(op, channel.device().attributes());
    return std::ranges::any_of(ranges,
                               [&](const locked_range& r) { return r.shut && collides(e, r); });
}

bool channel_powers::clear_of(const locked_range& r) noexcept {
    if (unknown() != 0) return false;
    for (note* n = notes.front(); n != nullptr; n = notes.next(*n))
        if (collides(*n, r)) return false;
    return true;
}

// --- Notes --------------------------------------------------------------------------------------

void channel_powers::follow(int by) noexcept {
    followers += by;
    if (followers != 0)
        channel.set_slow(module_channel::slow_followed);
    else
        channel.clear_slow(module_channel::slow_followed);
}

void channel_powers::sample(bool on) noexcept {
    if (sampled == on) return;
    sampled = on;
    follow(on ? 1 : -1);
}

bool channel_powers::take_note(io_op& op, noted what) noexcept {
    // Of a pool, so that this and the coming back are cheap.
    void* const memory = frame_pool::allocate(sizeof(note));
    if (memory == nullptr) return false;
    note& n = *::new (memory) note;
    const extent e = what == noted::range ? extent_of(op, channel.device().attributes()) : extent();
    n.powers = this;
    n.own = &op.entry() == &channel;
    n.first = e.first;
    n.end = e.end;
    n.changes = e.changes;
    n.source = e.source;
    n.source_end = e.source_end;
    notes.push_back(n);
    ++(n.own ? own_notes : other_notes);
    op.push_layer<&came_back>(&n);
    return true;
}

hook_verdict channel_powers::came_back(io_op&, void* context) noexcept {
    auto& n = *static_cast<note*>(context);
    channel_powers& self = *n.powers;
    static_cast<list_hook&>(n).unlink();
    --(n.own ? self.own_notes : self.other_notes);
    n.~note();
    frame_pool::deallocate(&n, sizeof(note));
    self.progress.notify_all();
    return hook_verdict::done;
}

std::uint64_t channel_powers::unknown() const noexcept {
    return channel.in_flight_ - own_waiting - channel.waiting_for_memory() - own_notes - locking;
}

std::uint64_t channel_powers::depth() const noexcept {
    return channel.in_flight_ - own_waiting - channel.waiting_for_memory() + other_notes;
}

}  // namespace nacre
