// SPDX-License-Identifier: BSD-3-Clause
//
// range_lock: a run of a bdev's blocks that nobody writes, or nobody touches, until it is released.
//
//     result<range_lock> lock = co_await channel.lock_range(lba(8), block_count(4));
//     …
//     co_await lock->release();
//
// Taking it waits for the ops under way in the range, on all channels of all threads, and for the
// locks of others that overlap, first come first served; ops that come meanwhile wait at the door
// of the bdev and go on, in their order, when it is released. What the holder itself asks of the
// bdev within the range waits as well: a module that locks its own bdev works on what stands below.
// Who takes one lock at a time cannot deadlock; but no op that is under way, of the bdev or of one
// above, may wait for a lock of it. Flush and reset are not held back.
//
// Removal of the bdev ends all locks: what waits fails with ENODEV.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "nacre/core/error.hpp"
#include "nacre/core/units.hpp"
#include "nacre/runtime/task.hpp"

namespace nacre {

class bdev;

enum class lock_kind : std::uint8_t {
    writes,  ///< whatever changes blocks of the range is kept out
    reads_and_writes,
};

class [[nodiscard]] range_lock {
public:
    range_lock() noexcept = default;
    range_lock(range_lock&& o) noexcept
        : device_(std::exchange(o.device_, nullptr)), keep_(std::move(o.keep_)), id_(o.id_) {}
    range_lock& operator=(range_lock&& o) noexcept {
        std::swap(device_, o.device_);
        std::swap(keep_, o.keep_);
        std::swap(id_, o.id_);
        return *this;
    }
    /// Releases it without waiting. On a thread of the runtime.
    ~range_lock();

    [[nodiscard]] bool held() const noexcept { return device_ != nullptr; }
    /// Resolves when what waited at the door of every channel has gone on.
    [[nodiscard]] task<void> release();

private:
    friend class bdev;
    range_lock(bdev& device, std::shared_ptr<bdev> keep, std::uint64_t id) noexcept
        : device_(&device), keep_(std::move(keep)), id_(id) {}
    bdev* device_ = nullptr;
    std::shared_ptr<bdev> keep_;
    std::uint64_t id_ = 0;
};

}  // namespace nacre
