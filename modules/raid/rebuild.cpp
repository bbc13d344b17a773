// SPDX-License-Identifier: BSD-3-Clause
//
// The process of an array: making active legs equal where they may differ, and rebuilding a leg.
// Both go window by window. A window is locked on all threads, so that no write is under way in it
// while it is copied; writes elsewhere go on, to all legs including the target.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdlib>

#include "modules/raid/array.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/log.hpp"
#include "nacre/memory/dma_buffer.hpp"
#include "nacre/runtime/sleep.hpp"

namespace nacre::raid {

bool raid_array::has_spare() const noexcept {
    return static_cast<unsigned>(std::popcount(writable())) > required();
}

std::uint64_t raid_array::window_blocks() const noexcept {
    return std::max<std::uint64_t>(
        std::uint64_t{module_.options_.process_window_size_kb} * 1024 / block_size_, 1);
}

task<void> raid_array::process_loop() {
    while (true) {
        result<> done;
        if (!differing_.empty()) {
            done = co_await make_equal();
        } else if (rebuilding_ != 0) {
            const auto k = static_cast<unsigned>(__builtin_ctz(rebuilding_));
            done = co_await rebuild(k);
        } else {
            result<> due = co_await process_due_.wait();
            if (!due) co_return;
            continue;
        }
        process_type_ = nullptr;
        if (done) continue;
        if (done.error().is(ECANCELED)) co_return;
        // Nobody could read it. Perhaps somebody can later.
        result<> slept = co_await sleep_for(tuning().record_retry_ns);
        if (!slept) co_return;
    }
}

// --- Windows ------------------------------------------------------------------------------------

task<result<>> raid_array::lock_window(block_range window) {
    struct lock_order final : channel_order {
        explicit lock_order(block_range w) noexcept : window(w) {}
        void carry_out(redundant_channel& channel) noexcept override { channel.lock(window); }
        block_range window;
    } lock(window);
    struct quiet_wait final : channel_wait {
        explicit quiet_wait(block_range w) noexcept : window(w) {}
        bool satisfied(redundant_channel& channel) noexcept override {
            return !channel.writes_overlap(window);
        }
        block_range window;
    } quiet(window);
    {
        const std::lock_guard guard(shared_mutex_);
        shared_lock_ = window;
    }
    co_await tell_channels(lock);
    result<> waited = co_await wait_for_channels(quiet);
    co_return waited;
}

task<void> raid_array::unlock_window() {
    struct unlock_order final : channel_order {
        void carry_out(redundant_channel& channel) noexcept override { channel.unlock(); }
    } unlock;
    {
        const std::lock_guard guard(shared_mutex_);
        shared_lock_ = {};
    }
    co_await tell_channels(unlock);
}

task<result<>> raid_array::copy_window(copy_plan& plan, block_range window) {
    const std::uint64_t began_ns = home_.now_ns();
    if (!tuning().break_rebuild) {
        result<> locked = co_await lock_window(window);
        if (!locked) {
            co_await unlock_window();
            co_return locked;
        }
    }
    result<> copied = co_await copy_locked(plan, window);
    if (!tuning().break_rebuild) co_await unlock_window();
    if (!copied) co_return copied;
    result<> paced =
        co_await keep_to_bandwidth(began_ns, (window.end - window.first) * block_size_);
    co_return paced;
}

task<result<>> raid_array::copy_locked(copy_plan&, block_range) { co_return fail(ENOTSUP); }

task<result<>> raid_array::keep_to_bandwidth(std::uint64_t began_ns, std::uint64_t bytes) {
    const std::uint64_t limit = module_.options_.process_max_bandwidth_mb_sec;
    if (limit == 0) co_return result<>();
    const std::uint64_t takes_ns = bytes * 1'000'000'000 / (limit << 20);
    result<> slept = co_await sleep_until(began_ns + takes_ns);
    co_return slept;
}

// --- Equal again --------------------------------------------------------------------------------

task<result<>> raid_array::make_equal() {
    copy_plan plan{.only_different = true, .targets = 0, .buffer = {}, .other = {}};
    const std::uint64_t window = window_blocks();
    auto buffer = dma_buffer::allocate(byte_count(window * block_size_));
    auto other = dma_buffer::allocate(byte_count(window * block_size_));
    if (!buffer || !other) co_return fail(ENOMEM);
    plan.buffer = std::move(*buffer);
    plan.other = std::move(*other);
    process_type_ = "resync";
    process_target_ = name_;
    process_done_ = 0;
    process_total_ = std::uint64_t{differing_.count()} << geometry_.region_shift;
    log::notice("raid", fmt::format("{}: legs may differ in {} of {} regions; making them equal",
                                    name_, differing_.count(), geometry_.region_count));
    const std::uint64_t region_blocks = 1ULL << geometry_.region_shift;
    while (!differing_.empty() && has_spare()) {
        // As many neighbours as fit in a window, or one region in several windows.
        const std::uint32_t first = differing_.next(0);
        std::uint32_t end = first + 1;
        while (end < geometry_.region_count && differing_.test(end) &&
               (end + 1 - first) * region_blocks <= window)
            ++end;
        for (std::uint32_t r = first; r < end; ++r) {
            being_copied_.set(r);
            differing_.clear(r);  // a write that fails meanwhile sets it again
        }
        result<> copied;
        const std::uint64_t stop = std::min(end * region_blocks, span_);
        for (std::uint64_t at = first * region_blocks; at < stop && copied; at += window) {
            block_range range{at, std::min(at + window, stop)};
            copied = co_await copy_window(plan, range);
            process_done_ += range.end - range.first;
        }
        for (std::uint32_t r = first; r < end; ++r) {
            if (!copied) differing_.set(r);
            being_copied_.clear(r);
        }
        if (!copied) co_return copied;
    }
    result<> locked = co_await changing_.lock();
    if (!locked) co_return locked;
    unlock_guard guard(changing_);
    if (!has_spare()) differing_ = region_set(geometry_.region_count);
    co_await publish();
    co_return result<>();
}

// --- A leg from scratch -------------------------------------------------------------------------

task<result<>> raid_array::rebuild(unsigned k) {
    copy_plan plan{.only_different = false, .targets = leg_mask{1} << k, .buffer = {}, .other = {}};
    const std::uint64_t window = window_blocks();
    auto buffer = dma_buffer::allocate(byte_count(window * block_size_));
    auto other = dma_buffer::allocate(byte_count(window * block_size_));
    if (!buffer || !other) co_return fail(ENOMEM);
    plan.buffer = std::move(*buffer);
    plan.other = std::move(*other);
    // Removed and added again while a window was under way, it is to begin anew.
    const std::uint64_t admission = legs_[k]->admission;
    process_type_ = "rebuild";
    process_target_ = legs_[k]->name;
    process_done_ = 0;
    process_total_ = span_;
    log::notice("raid", fmt::format("{}: rebuilding leg {}", name_, process_target_));
    for (std::uint64_t at = 0; at < span_; at += window) {
        block_range range{at, std::min(at + window, span_)};
        result<> copied = co_await copy_window(plan, range);
        if (!rebuilds(k, admission)) co_return result<>();  // it failed, or was removed
        if (!copied && copied.error().is(ECANCELED)) co_return copied;
        if (!copied) {
            log::error("raid", fmt::format("{}: no leg can tell blocks {} to {}: {} is not rebuilt",
                                           name_, range.first, range.end - 1, process_target_));
            result<> given_up = co_await eject(leg_mask{1} << k, leg_state::failed);
            co_return given_up;
        }
        process_done_ += range.end - range.first;
    }
    const error flushed = co_await leg_flush(k);
    if (!rebuilds(k, admission)) co_return result<>();
    if (flushed.failed()) {
        result<> ejected = co_await eject(leg_mask{1} << k, leg_state::failed);
        co_return ejected;
    }
    outcome<> finished = co_await finish_rebuild(k, admission);
    if (!finished) co_return fail(finished.error().code);
    co_return result<>();
}

task<outcome<>> raid_array::finish_rebuild(unsigned k, std::uint64_t admission) {
    const leg_mask bit_of_leg = leg_mask{1} << k;
    result<> locked = co_await changing_.lock();
    if (!locked) co_return fail(ECANCELED, name_ + ": stopped");
    leg_mask failed = 0;
    {
        unlock_guard guard(changing_);
        if (!rebuilds(k, admission)) co_return outcome<>();
        if (with_superblock_) {
            superblock next = sb_;
            superblock_leg* entry = next.at_slot(k);
            if (entry == nullptr) {
                next.legs.push_back({.id = {}, .slot = static_cast<std::uint8_t>(k)});
                entry = &next.legs.back();
            }
            entry->id = legs_[k]->id;
            entry->data_offset = legs_[k]->data_offset;
            entry->data_size = span_;
            entry->state = leg_state::configured;
            next.sequence = ++sequence_;
            // The target last: a crash before leaves it with a superblock that is stale.
            failed = co_await write_superblock(next, active_ | bit_of_leg, k);
            sb_ = std::move(next);  // some leg may have it, so it is what the next one changes
        }
        if (failed == 0) {
            rebuilding_ &= ~bit_of_leg;
            active_ |= bit_of_leg;
            co_await publish();
            log::notice("raid", fmt::format("{}: leg {} is rebuilt", name_, legs_[k]->name));
            co_return outcome<>();
        }
    }
    // A leg that failed may call the target configured, or be called so; the next superblock says
    // what is.
    result<> ejected = co_await eject(failed | bit_of_leg, leg_state::failed);
    if (!ejected) co_return fail(ejected.error().to_errno(), name_ + ": cannot be recorded");
    co_return outcome<>();
}

}  // namespace nacre::raid
