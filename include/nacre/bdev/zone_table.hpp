// SPDX-License-Identifier: BSD-3-Clause
//
// zone_table: the states and write pointers of an emulated zoned device, for a module that keeps
// the data. It says which writes may pass, and where an append goes.
//
// The rules are those of NVMe ZNS 1.1, 3.2 (zone state machine, write pointer, resources): a write
// begins at the write pointer and stays below the capacity; it opens the zone implicitly, and where
// no further zone may be open, the one opened implicitly the longest ago is closed for it. What is
// admitted counts as written; a module whose device then fails leaves blocks of unknown content
// below the write pointer, as a drive does.
//
// Any thread; one short lock. A zone takes 24 bytes.
#pragma once

#include <cstddef>
#include <mutex>
#include <span>
#include <vector>

#include "nacre/bdev/bdev.hpp"
#include "nacre/bdev/zone.hpp"

namespace nacre {

class zone_table {
public:
    /// Of a device of `zones` zones, all of them in the state `initial`: empty or full.
    zone_table(const zoned_attributes& attributes, std::uint64_t zones,
               zone_state initial = zone_state::empty);

    [[nodiscard]] std::uint64_t zones() const noexcept { return zones_.size(); }
    [[nodiscard]] zone_index index_of(lba at) const noexcept {
        return zone_index(at.value() / zone_size_);
    }
    [[nodiscard]] lba start_of(zone_index z) const noexcept { return lba(z.value() * zone_size_); }

    // An op's range lies within the device (the block layer has checked that).
    /// A write of `n` blocks at `first`: moves the write pointer behind them, or says why not.
    [[nodiscard]] error admit_write(lba first, block_count n) noexcept;
    /// Where the blocks go that are appended to the zone that starts at `zone`; EINVAL if none
    /// does, or if they are more than the device takes at once.
    [[nodiscard]] result<lba> admit_append(lba zone, block_count n) noexcept;
    /// The action on the zone that starts at `zone`; on all zones that are in a state for it with
    /// `all` (ZNS 1.1, 3.4.3.1, Select All). `cleared`, if there is one, is told of each zone that
    /// is reset, before anything can be written to it again.
    using cleared_function = void (*)(void* context, zone_index z) noexcept;
    [[nodiscard]] error manage(zone_action action, lba zone, bool all,
                               cleared_function cleared = nullptr,
                               void* context = nullptr) noexcept;
    /// What manage() of that one zone would say.
    [[nodiscard]] error check(zone_action action, lba zone) const noexcept;
    /// Whether the zone is in a state for the action, with Select All.
    [[nodiscard]] bool concerned(zone_action action, zone_index z) const noexcept;
    /// Takes back what was admitted to the zone beyond `written` blocks, because it has not been
    /// carried out. A zone that was full is closed; it stays full if no further one may be active.
    void roll_back(zone_index z, block_count written) noexcept;
    /// Whether the zones of these blocks may be read.
    [[nodiscard]] error admit_read(lba first, block_count n) const noexcept;
    /// Of the blocks from `first` on, how many lie below their zone's write pointer, without a gap;
    /// at most `n`. What lies beyond reads as zeros.
    [[nodiscard]] block_count written(lba first, block_count n) const noexcept;
    /// Fills in the zones from the one that holds `from` on; returns how many.
    [[nodiscard]] std::size_t report(lba from, std::span<zone_descriptor> into) const noexcept;
    [[nodiscard]] zone_descriptor descriptor(zone_index z) const noexcept;
    /// Sets a zone as it was found on a disk. An open one becomes closed, or empty if nothing was
    /// written to it, as after a loss of power.
    void restore(zone_index z, zone_state state, block_count written) noexcept;

    [[nodiscard]] std::uint32_t open_zones() const noexcept;
    [[nodiscard]] std::uint32_t active_zones() const noexcept;

private:
    static constexpr std::uint32_t nobody = UINT32_MAX;
    struct zone {
        std::uint64_t written = 0;  // blocks below the write pointer
        zone_state state = zone_state::empty;
        // In the list of those opened implicitly, the oldest first.
        std::uint32_t previous = nobody;
        std::uint32_t next = nobody;
    };
    // All under the lock.
    [[nodiscard]] error admit(zone& z, std::uint64_t n) noexcept;
    [[nodiscard]] error open(zone& z, zone_state as) noexcept;
    [[nodiscard]] static bool concerned(zone_action action, zone_state state) noexcept;
    [[nodiscard]] static error transition(zone_action action, zone_state state) noexcept;
    [[nodiscard]] error manage_one(zone_action action, zone& z) noexcept;
    void become(zone& z, zone_state state) noexcept;
    [[nodiscard]] zone_descriptor describe_zone(std::uint64_t index) const noexcept;

    const std::uint64_t zone_size_;
    const std::uint64_t capacity_;
    const std::uint32_t open_max_;
    const std::uint32_t active_max_;
    const std::uint32_t append_max_;
    mutable std::mutex mutex_;
    std::vector<zone> zones_;
    std::uint32_t open_ = 0;
    std::uint32_t active_ = 0;  // open or closed
    std::uint32_t oldest_ = nobody;
    std::uint32_t newest_ = nobody;
};

}  // namespace nacre
