// SPDX-License-Identifier: BSD-3-Clause
//
// The write-intent bitmap at run time: granting, sweeping, reading it at assembly. The order of
// writes is that of docs/formats/raid.md.
#include <algorithm>
#include <bit>

#include "modules/raid/array.hpp"
#include "nacre/runtime/sleep.hpp"

namespace nacre::raid {

intent_slot raid_array::make_slot(const superblock& owner) const {
    return {.array = owner.id,
            .sequence = owner.sequence,
            .superblock_crc = owner.crc,
            .generation = generation_,
            .dirty = bits_};
}

/// Under `recording_`. The legs that did not take it.
task<leg_mask> raid_array::write_intents(leg_mask legs) {
    ++generation_;
    const intent_slot told = make_slot(sb_);
    const aligned_bytes bytes = told.encode(geometry_);
    const std::uint64_t block = geometry_.slot_block(generation_ & 1);
    std::array<error, legs_max> status{};
    scope writes;
    for_each_leg(legs, [&](unsigned k) { writes.spawn(write_to(k, block, bytes, status[k])); });
    result<> written = co_await writes.join();
    (void)written;  // each leg has its own
    leg_mask failed = 0;
    for_each_leg(legs, [&](unsigned k) {
        if (status[k].failed()) failed |= leg_mask{1} << k;
    });
    if (failed == 0) recorded_ = told.dirty;
    co_return failed;
}

task<void> raid_array::write_to(unsigned k, std::uint64_t block, std::span<const std::byte> bytes,
                                error& status) {
    status = co_await leg_write(k, block, bytes);
}

// --- Granting -----------------------------------------------------------------------------------

void raid_array::post_request(intent_request& r) noexcept {
    r.run = [](work& w) noexcept {
        auto& request = static_cast<intent_request&>(static_cast<message&>(w));
        raid_array& self = request.channel->array();
        request.next_request = self.requests_;
        self.requests_ = &request;
        self.request_posted_.notify_all();
    };
    home_.post(r);
}

task<void> raid_array::serve_intents() {
    while (true) {
        while (requests_ == nullptr) {
            if (stopping_) co_return;
            result<> posted = co_await request_posted_.wait();
            (void)posted;
        }
        intent_request* batch = std::exchange(requests_, nullptr);
        region_set wanted(geometry_.region_count);
        for (intent_request* r = batch; r != nullptr; r = r->next_request) wanted |= r->regions;
        const error status = co_await record_intents(std::move(wanted));
        while (batch != nullptr) {
            intent_request& r = *batch;
            batch = r.next_request;
            r.status = status;
            r.run = [](work& w) noexcept {
                static_cast<intent_request&>(static_cast<message&>(w)).channel->granted();
            };
            r.channel->home().post(r);
        }
    }
}

task<error> raid_array::record_intents(region_set wanted) {
    while (true) {
        leg_mask failed = 0;
        {
            result<> locked = co_await recording_.lock();
            if (!locked) co_return locked.error();
            unlock_guard guard(recording_);
            clearing_ -= wanted;
            region_set missing = wanted;
            missing -= recorded_;
            if (missing.empty()) co_return error();
            bits_ |= wanted;
            bits_set_.notify_all();
            failed = co_await write_intents(active_);
        }
        if (failed == 0) co_return error();
        result<> ejected = co_await eject(failed, leg_state::failed);
        if (!ejected) co_return error::posix(EIO);
    }
}

// --- Sweeping -----------------------------------------------------------------------------------

task<void> raid_array::sweep_loop() {
    while (true) {
        while (bits_.empty()) {
            result<> set = co_await bits_set_.wait();
            if (!set) co_return;
        }
        result<> slept = co_await sleep_for(tuning().sweep_period_ns);
        if (!slept) co_return;
        co_await sweep();
    }
}

task<void> raid_array::sweep() {
    struct collect_order final : channel_order {
        explicit collect_order(std::uint32_t regions) : busy(regions) {}
        void carry_out(redundant_channel& channel) noexcept override { channel.collect_busy(busy); }
        region_set busy;
    } collect(geometry_.region_count);
    struct revoke_order final : channel_order {
        explicit revoke_order(std::uint32_t regions) : idle(regions), kept(regions) {}
        void carry_out(redundant_channel& channel) noexcept override { channel.revoke(idle, kept); }
        region_set idle;
        region_set kept;
    } revoke(geometry_.region_count);

    co_await tell_channels(collect);
    revoke.idle = bits_;
    revoke.idle -= collect.busy;
    revoke.idle -= differing_;
    revoke.idle -= being_copied_;
    if (revoke.idle.empty()) co_return;
    clearing_ = revoke.idle;
    co_await tell_channels(revoke);
    clearing_ -= revoke.kept;
    leg_mask failed = co_await flush_legs(active_);
    if (failed == 0) {
        result<> locked = co_await recording_.lock();
        if (!locked) co_return;
        unlock_guard guard(recording_);
        // Whoever asked for a region since has taken it out.
        if (clearing_.empty()) co_return;
        bits_ -= clearing_;
        recorded_ -= clearing_;
        clearing_ = region_set(geometry_.region_count);
        failed = co_await write_intents(active_);
    }
    clearing_ = region_set(geometry_.region_count);
    if (failed != 0) {
        result<> ejected = co_await eject(failed, leg_state::failed);
        (void)ejected;  // EBUSY: no leg is better than the others
    }
}

// --- Assembly -----------------------------------------------------------------------------------

task<void> raid_array::read_intents(leg_mask current) {
    bool any = false;
    bool all_alike = true;
    for (unsigned k = 0; k < slots(); ++k) {
        if ((current >> k & 1) == 0) continue;
        std::optional<intent_slot> newest;
        for (unsigned i = 0; i < 2; ++i) {
            aligned_bytes bytes(geometry_.slot_stride());
            const error status = co_await leg_read(k, geometry_.slot_block(i), bytes);
            if (status.failed()) continue;
            result<intent_slot> slot = intent_slot::decode(bytes, geometry_, sb_);
            if (!slot) continue;
            if (!newest || slot->generation > newest->generation) newest = std::move(*slot);
        }
        if (!newest) {
            all_alike = false;
            continue;
        }
        if (any && (newest->generation != generation_ || newest->dirty != bits_)) all_alike = false;
        any = true;
        bits_ |= newest->dirty;
        generation_ = std::max(generation_, newest->generation);
    }
    if (!any) bits_.set_all();
    if (any && all_alike) recorded_ = bits_;
    // Without a leg to spare there is nothing to make equal, or to make it equal from. The bits go
    // with the next sweep.
    if (static_cast<unsigned>(std::popcount(current)) > required()) differing_ = bits_;
}

}  // namespace nacre::raid
