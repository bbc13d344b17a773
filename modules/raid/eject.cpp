// SPDX-License-Identifier: BSD-3-Clause
//
// Legs that go: the judgement of failed writes, and every change of the superblock that calls a leg
// something else than configured.
#include <fmt/format.h>

#include <bit>

#include "modules/raid/array.hpp"
#include "nacre/core/log.hpp"
#include "nacre/runtime/sleep.hpp"

namespace nacre::raid {
namespace {

unsigned count(leg_mask legs) noexcept { return static_cast<unsigned>(std::popcount(legs)); }

}  // namespace

// --- The superblock -----------------------------------------------------------------------------

task<error> raid_array::write_superblock_to(unsigned k, std::span<const std::byte> bytes,
                                            std::span<const std::byte> slot) {
    error status;
    if (intents_) status = co_await leg_write(k, geometry_.slot_block(generation_ & 1), slot);
    if (status.ok()) status = co_await leg_write(k, 0, bytes);
    if (status.failed())
        log::error("raid", fmt::format("{}: leg {} does not take the superblock: {}", name_,
                                       legs_[k]->name, describe(status)));
    co_return status;
}

task<leg_mask> raid_array::write_superblock(superblock& sb, leg_mask legs, unsigned last) {
    leg_mask failed = 0;
    result<> locked = co_await recording_.lock();
    if (!locked) co_return legs;
    unlock_guard guard(recording_);
    const aligned_bytes bytes = sb.encode();
    aligned_bytes slot;
    const region_set told = bits_;
    if (intents_) {
        ++generation_;
        slot = make_slot(sb).encode(geometry_);
    }
    // One leg after the other: whenever the power goes, at most one superblock is torn. On each
    // leg the bitmap that belongs to the new superblock first, in the slot that the old one does
    // not need.
    for (unsigned i = 0; i <= slots(); ++i) {
        const unsigned k = i == slots() ? last : i;
        if (i == last || k == legs_max || (legs >> k & 1) == 0) continue;
        const error status = co_await write_superblock_to(k, bytes, slot);
        if (status.failed()) failed |= leg_mask{1} << k;
    }
    if (failed == 0) recorded_ = told;
    co_return failed;
}

task<result<>> raid_array::record_legs(leg_mask legs, leg_state as) {
    leg_mask going = legs;
    while (with_superblock_) {
        const leg_mask remaining = active_ & ~going;
        superblock next = sb_;
        bool changed = false;
        for (superblock_leg& l : next.legs) {
            if (l.state != leg_state::configured || (remaining >> l.slot & 1) != 0) continue;
            l.state = (legs >> l.slot & 1) != 0 ? as : leg_state::failed;
            changed = true;
        }
        if (!changed) break;
        next.sequence = ++sequence_;
        const leg_mask failed = co_await write_superblock(next, remaining);
        if (failed == 0) {
            sb_ = std::move(next);
            break;
        }
        if (count(remaining & ~failed) < required()) {
            active_ = remaining;
            rebuilding_ &= ~going;
            co_return fail(EIO);
        }
        going |= failed;
    }
    active_ &= ~going;
    rebuilding_ &= ~going;
    co_return result<>();
}

task<result<>> raid_array::eject(leg_mask legs, leg_state as) {
    result<> locked = co_await changing_.lock();
    if (!locked) co_return locked;
    unlock_guard guard(changing_);
    result<> ejected = co_await eject_locked(legs, as);
    co_return ejected;
}

task<result<>> raid_array::eject_locked(leg_mask legs, leg_state as) {
    const leg_mask before = writable();
    legs &= before;
    if (legs == 0) {
        if (unrecorded_) co_return fail(EIO);
        co_return result<>();
    }
    if (count(active_ & ~legs) < required()) co_return fail(EBUSY);
    // First the superblock, while writes still go to these legs: what is acknowledged meanwhile is
    // on whatever a restart would trust. Then no thread uses them any more.
    result<> recorded = co_await record_legs(legs, as);
    if (!recorded && !std::exchange(unrecorded_, true)) background_.spawn(retry_recording());
    const leg_mask gone = before & ~writable();
    leaving_ |= gone;
    co_await publish();
    for_each_leg(gone, [&](unsigned k) {
        log::error("raid", fmt::format("{}: leg {} is {}; {} of {} are left", name_, legs_[k]->name,
                                       as == leg_state::missing ? "removed" : "ejected",
                                       std::popcount(active_), slots()));
        servants_.spawn(detach(k));
    });
    process_due_.notify_all();
    co_return recorded;
}

task<void> raid_array::retry_recording() {
    while (unrecorded_) {
        result<> slept = co_await sleep_for(tuning().record_retry_ns);
        if (!slept) co_return;
        result<> locked = co_await changing_.lock();
        if (!locked) co_return;
        unlock_guard guard(changing_);
        result<> recorded = co_await record_legs(0, leg_state::failed);
        if (!recorded) continue;
        unrecorded_ = false;
        co_await publish();
        log::notice("raid", name_ + ": the superblock could be written; writes go on");
    }
}

task<void> raid_array::detach(unsigned k) {
    struct idle_wait final : channel_wait {
        explicit idle_wait(unsigned leg_index) noexcept : k(leg_index) {}
        bool satisfied(redundant_channel& channel) noexcept override {
            return !channel.leg_in_use(k);
        }
        unsigned k;
    } idle(k);
    struct close_order final : channel_order {
        explicit close_order(unsigned leg_index) noexcept : k(leg_index) {}
        void carry_out(redundant_channel& channel) noexcept override { channel.close_leg(k); }
        unsigned k;
    } close(k);
    while (true) {
        result<> waited = co_await wait_for_channels(idle);
        if (waited) break;
    }
    co_await tell_channels(close);
    leg& l = *legs_[k];
    while (l.users != 0) {
        result<> left = co_await left_.wait();
        (void)left;  // nobody stops the servants
    }
    drop_leg(k);
    l.name.clear();
    leaving_ &= ~(leg_mask{1} << k);
    left_.notify_all();
}

task<outcome<>> raid_array::remove_leg(unsigned k) {
    const std::string leg_name = legs_[k]->name;
    result<> ejected;
    {
        result<> locked = co_await changing_.lock();
        if (!locked) co_return fail(ECANCELED, name_ + ": stopped");
        unlock_guard guard(changing_);
        // What was read from the source since an unclean stop is nowhere else yet.
        if (needed(k) && count(active_) > required())
            co_return fail(EBUSY, fmt::format("{}: the other legs of {} are being made equal to "
                                              "it; remove it when that is done, or another leg now",
                                              leg_name, name_));
        ejected = co_await eject_locked(leg_mask{1} << k, leg_state::missing);
    }
    if (!ejected && ejected.error().is(EBUSY))
        co_return fail(
            EBUSY,
            fmt::format("{}: {} cannot do without it, {} of its {} legs are left; delete the array "
                        "instead",
                        leg_name, name_, std::popcount(active_), slots()));
    while ((leaving_ >> k & 1) != 0) {
        result<> left = co_await left_.wait();
        if (!left) co_return fail(ECANCELED, leg_name + ": still in use");
    }
    if (!ejected)
        co_return fail(ejected.error().to_errno(),
                       fmt::format("{}: removed from {}, whose superblock cannot be written",
                                   leg_name, name_));
    co_return outcome<>();
}

task<void> raid_array::leg_went_away(unsigned k) {
    // The array may go with its last leg.
    std::shared_ptr<raid_array> self = shared_from_this();
    if (state_ == array_state::configuring) {
        std::erase_if(candidates_,
                      [&](const candidate& c) { return c.bdev_name == legs_[k]->name; });
        drop_leg(k);
        if (!sb_.legs.empty() && candidates_.empty()) module_.forget(*this);
        co_return;
    }
    result<> ejected = co_await eject(leg_mask{1} << k, leg_state::missing);
    if (!ejected && ejected.error().is(EBUSY)) {
        log::error("raid", fmt::format("{}: its leg {} is gone, without which it cannot be", name_,
                                       legs_[k]->name));
        outcome<> removed = co_await registry_.remove(name_);
        (void)removed;  // ENODEV: somebody else is at it
    }
    while (legs_[k]->present()) {
        result<> left = co_await left_.wait();
        (void)left;
    }
}

// --- Failed writes ------------------------------------------------------------------------------

void raid_array::post_failure(write_group& g) noexcept {
    g.run = [](work& w) noexcept {
        auto& failed = static_cast<write_group&>(static_cast<message&>(w));
        raid_array& self = failed.channel->array();
        failed.next_group = nullptr;
        *self.failures_end_ = &failed;
        self.failures_end_ = &failed.next_group;
        self.failure_posted_.notify_all();
    };
    home_.post(g);
}

task<void> raid_array::serve_failures() {
    while (true) {
        while (failures_ == nullptr) {
            if (stopping_) co_return;
            result<> posted = co_await failure_posted_.wait();
            (void)posted;
        }
        write_group& g = *failures_;
        failures_ = g.next_group;
        if (failures_ == nullptr) failures_end_ = &failures_;
        const leg_mask failed = g.failed;
        const bool too_early = tuning().break_ejection && (g.sent & active_ & ~failed) != 0;
        if (!too_early) co_await judge(g);
        g.run = [](work& w) noexcept {
            auto& judged = static_cast<write_group&>(static_cast<message&>(w));
            judged.channel->finish_judged(judged);
        };
        g.channel->home().post(g);
        if (!too_early) continue;
        result<> ejected = co_await eject(failed, leg_state::failed);
        (void)ejected;
    }
}

task<void> raid_array::judge(write_group& g) {
    g.verdict = error();
    if (g.code == opcode::reset) {
        g.verdict = g.first_error;
        co_return;
    }
    const leg_mask good = g.sent & ~g.failed & ~g.cancelled & active_;
    if (count(good) >= required()) {
        result<> ejected = co_await eject(g.failed, leg_state::failed);
        if (!ejected) g.verdict = ejected.error().is(EBUSY) ? g.first_error : ejected.error();
        if (count(good & active_) < required()) g.verdict = g.first_error;
        if (g.cancelled == 0) co_return;
    }
    // No leg is better than the others, but they may differ now.
    g.verdict = g.first_error;
    block_range range = g.range;
    co_await mark_out_of_sync(range);
}

task<void> raid_array::mark_out_of_sync(block_range range) {
    result<> locked = co_await changing_.lock();
    if (!locked) co_return;
    unlock_guard guard(changing_);
    if (count(writable()) <= required()) co_return;
    if (range.empty()) {
        differing_ |= bits_;  // a flush: whatever was not durable yet
    } else {
        const std::uint32_t last = geometry_.region_of(range.end - 1);
        for (std::uint32_t r = geometry_.region_of(range.first); r <= last; ++r) differing_.set(r);
    }
    co_await publish();
    process_due_.notify_all();
}

}  // namespace nacre::raid
