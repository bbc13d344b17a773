// SPDX-License-Identifier: BSD-3-Clause
//
// What is rare in a channel's life: making it, orders of the home thread, failures, waiting.
#include "modules/raid/redundant_channel.hpp"

#include <cstdlib>
#include <new>

#include "modules/raid/array.hpp"

namespace nacre::raid {

redundant_channel::redundant_channel(bdev& device, raid_array& array)
    : module_channel(device),
      array_(array),
      slots_(array.slots()),
      legs_(std::make_unique<leg[]>(slots_)) {
    request_.channel = this;
    region_shift_ = array.geometry().region_shift;
    if (array.uses_intents()) {
        guard_ = guard_intents;
        permitted_ = touched_ = request_.regions = region_set(array.geometry().region_count);
    }
}

redundant_channel::~redundant_channel() {
    if (known_) array_.leave(*this);
    while (write_group* g = free_groups_) {
        free_groups_ = g->next_group;
        for (unsigned k = 0; k < slots_; ++k) g->children[k].~io_op();
        g->~write_group();
        std::free(g);
    }
}

outcome<> redundant_channel::open() {
    channel_view view;
    outcome<> joined = array_.join(*this, view, locked_);
    if (!joined) return joined;
    known_ = true;
    if (!locked_.empty()) guard_ |= guard_lock;
    if (apply(view) != 0)
        return fail(ENODEV, device().name() + ": a leg cannot be opened on this thread");
    return {};
}

// --- Orders of the home thread ------------------------------------------------------------------

leg_mask redundant_channel::apply(const channel_view& view) {
    leg_mask refused = 0;
    for_each_leg(view.writable, [&](unsigned k) {
        if (legs_[k].handle.is_open()) return;
        auto opened = array_.open_leg_channel(k, legs_[k].offset, device());
        if (!opened) {
            refused |= leg_mask{1} << k;
            return;
        }
        legs_[k].handle = std::move(*opened);
        legs_[k].base = &legs_[k].handle.base();
    });
    readable_ = view.readable & ~refused;
    active_ = view.active & ~refused;
    writable_ = view.writable & ~refused;
    guard_ = (guard_ & ~std::uint32_t{guard_hold}) | (view.hold ? std::uint32_t{guard_hold} : 0U);
    return refused;
}

void redundant_channel::lock(const block_range& range) noexcept {
    locked_ = range;
    guard_ |= guard_lock;
}

void redundant_channel::unlock() noexcept {
    locked_ = {};
    guard_ &= ~std::uint32_t{guard_lock};
    retry_parked();
}

void redundant_channel::collect_busy(region_set& busy) noexcept {
    busy |= touched_;
    touched_ = region_set(touched_.regions());
    for (write_group* g = in_flight_writes_.front(); g != nullptr; g = in_flight_writes_.next(*g))
        if (!g->range.empty())
            for (std::uint64_t r = g->range.first >> region_shift_;
                 r <= (g->range.end - 1) >> region_shift_; ++r)
                busy.set(static_cast<std::uint32_t>(r));
}

void redundant_channel::revoke(const region_set& idle, region_set& kept) noexcept {
    // touched_ began anew in collect_busy, so it tells of every write since; older ones that are
    // still in flight made their regions busy then. A grant may be on its way.
    for (std::uint32_t r = idle.next(0); r < idle.regions(); r = idle.next(r + 1)) {
        if (touched_.test(r) || (request_.under_way && request_.regions.test(r)))
            kept.set(r);
        else
            permitted_.clear(r);
    }
}

void redundant_channel::close_leg(unsigned k) noexcept {
    legs_[k].handle.close();
    legs_[k].base = nullptr;
}

void redundant_channel::granted() noexcept {
    request_.under_way = false;
    if (request_.status.failed()) {
        // Those that asked fail; others that came meanwhile ask again.
        op_queue waiting = parked_.take();
        while (io_op* op = waiting.pop()) {
            const block_range range = range_of(*op);
            bool asked = range.empty();  // a flush only waited for the answer
            for (std::uint64_t r = range.first >> region_shift_;
                 !range.empty() && r <= (range.end - 1) >> region_shift_; ++r)
                asked |= request_.regions.test(static_cast<std::uint32_t>(r));
            if (asked)
                op->complete(request_.status);
            else
                submit_write(*op);
        }
        return;
    }
    permitted_ |= request_.regions;
    // Written soon, so not idle if a sweep is under way.
    touched_ |= request_.regions;
    retry_parked();
}

// --- What the home thread waits for -------------------------------------------------------------

bool redundant_channel::writes_overlap(const block_range& range) noexcept {
    for (write_group* g = in_flight_writes_.front(); g != nullptr; g = in_flight_writes_.next(*g))
        if (g->range.overlaps(range)) return true;
    return false;
}

bool redundant_channel::leg_in_use(unsigned k) noexcept {
    if (reading_[k] != 0) return true;
    for (write_group* g = in_flight_writes_.front(); g != nullptr; g = in_flight_writes_.next(*g))
        if ((g->sent >> k & 1) != 0) return true;  // a later step of it may use the leg again
    return false;
}

// --- Writes that cannot start -------------------------------------------------------------------

bool redundant_channel::permitted(const block_range& range) const noexcept {
    const auto last = static_cast<std::uint32_t>((range.end - 1) >> region_shift_);
    for (auto r = static_cast<std::uint32_t>(range.first >> region_shift_); r <= last; ++r)
        if (!permitted_.test(r)) return false;
    return true;
}

void redundant_channel::touch(const block_range& range) noexcept {
    const auto last = static_cast<std::uint32_t>((range.end - 1) >> region_shift_);
    for (auto r = static_cast<std::uint32_t>(range.first >> region_shift_); r <= last; ++r)
        touched_.set(r);
}

bool redundant_channel::admit(io_op& op, const block_range& range) noexcept {
    if ((guard_ & guard_hold) != 0) {
        // Its request may still be with the home thread, which answers to this channel: so the op,
        // which keeps the channel alive, waits for that answer.
        if (request_.under_way)
            parked_.push(op);
        else
            op.complete(error::posix(EIO));
        return false;
    }
    if (range.empty()) return true;
    if ((guard_ & guard_lock) != 0 && range.overlaps(locked_)) {
        parked_.push(op);
        return false;
    }
    if ((guard_ & guard_intents) == 0) return true;
    if (!permitted(range) && !array_.tuning().break_intent) {
        parked_.push(op);
        request_intents();
        return false;
    }
    touch(range);
    return true;
}

void redundant_channel::request_intents() noexcept {
    if (request_.under_way) return;
    region_set wanted(permitted_.regions());
    parked_.for_each([&](const io_op& op) {
        const block_range range = range_of(op);
        const std::uint64_t last = (range.end - 1) >> region_shift_;
        for (std::uint64_t r = range.first >> region_shift_; r <= last; ++r)
            wanted.set(static_cast<std::uint32_t>(r));
    });
    wanted -= permitted_;
    if (wanted.empty()) return;
    request_.regions = std::move(wanted);
    request_.status = error();
    request_.under_way = true;
    array_.post_request(request_);
}

// --- Failures -----------------------------------------------------------------------------------

void redundant_channel::note_failure(write_group& g, const io_op& child,
                                     leg_mask bit_of_leg) noexcept {
    if (!g.first_error.failed()) g.first_error = child.status;
    // A reset of the legs cancels what they are doing: nobody's fault, but the legs may differ.
    (child.status.is(ECANCELED) ? g.cancelled : g.failed) |= bit_of_leg;
}

void redundant_channel::report(write_group& g) noexcept { array_.post_failure(g); }

void redundant_channel::finish_judged(write_group& g) noexcept {
    io_op* const op = g.parent;
    const error verdict = g.verdict;
    g.failed = g.cancelled = 0;
    g.first_error = error();
    release(g);
    op->complete(verdict);
}

write_group* redundant_channel::take_new_group(io_op& op) noexcept {
    write_group* g = make_group();
    if (g == nullptr) {
        starved_.push(op);
        retry_later();
    }
    return g;
}

write_group* redundant_channel::make_group() noexcept {
    constexpr std::size_t alignment = 64;
    constexpr std::size_t header = (sizeof(write_group) + alignment - 1) / alignment * alignment;
    if (groups_made_ >= groups_min && groups_made_ * group_bytes_ >= group_memory_max)
        return nullptr;
    // What the level wants behind the children begins at a page.
    const std::size_t page = group_bytes_ == 0 ? alignment : 4096;
    group_bytes_at_ = (header + slots_ * sizeof(io_op) + page - 1) / page * page;
    const std::size_t bytes = group_bytes_at_ + (group_bytes_ + page - 1) / page * page;
    auto* memory = static_cast<std::byte*>(std::aligned_alloc(page, bytes));
    if (memory == nullptr) return nullptr;
    ++groups_made_;
    auto* g = ::new (static_cast<void*>(memory)) write_group;
    g->channel = this;
    g->children = reinterpret_cast<io_op*>(memory + header);
    for (unsigned k = 0; k < slots_; ++k) {
        io_op* child = ::new (static_cast<void*>(memory + header + k * sizeof(io_op))) io_op;
        child->owner = static_cast<void*>(g);
        child->done = child_done_;
    }
    return g;
}

redundant_channel::retry_timer::retry_timer(redundant_channel& c) noexcept
    : timer([](timer& t) noexcept {
          auto& self = static_cast<retry_timer&>(t);
          self.ready = true;
          self.owner.home().push(self);
      }),
      owner(c) {
    run = [](work& w) noexcept {
        auto& self = static_cast<retry_timer&>(w);
        self.ready = false;
        self.owner.retry_starved();
    };
}

void redundant_channel::retry_later() noexcept {
    if (!retry_.armed() && !retry_.ready)
        home().host().timers().arm(retry_, now_ns() + array_.tuning().retry_ns);
}

// --- Ops that wait
// ---------------------------------------------------------------------------------

void redundant_channel::retry_parked() noexcept {
    op_queue waiting = parked_.take();
    while (io_op* op = waiting.pop()) submit_write(*op);
}

void redundant_channel::retry_starved() noexcept {
    op_queue waiting = starved_.take();
    while (io_op* op = waiting.pop()) submit_write(*op);
    for (unsigned k = 0; k < slots_; ++k) {
        leg& l = legs_[k];
        op_queue reads = l.reads_again.take();
        while (io_op* op = reads.pop()) {
            if ((active_ >> k & 1) == 0) {
                op->complete(error::posix(EIO));  // to its hook, which goes on to the next leg
                continue;
            }
            op->status = error();
            l.base->forward(*op);
        }
    }
}

}  // namespace nacre::raid
