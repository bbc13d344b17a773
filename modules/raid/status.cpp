// SPDX-License-Identifier: BSD-3-Clause
//
// Arrays as JSON: the answers and the configuration that SPDK's clients know.
#include <bit>

#include "modules/raid/array.hpp"

namespace nacre {

std::span<const json::field> raid_options::fields() {
    using self = raid_options;
    static constexpr json::field table[] = {
        json::required<&self::name>("name", "Name of the new bdev"),
        json::optional<&self::strip_size_kb>("strip_size_kb",
                                             "KiB of a strip, a power of two; 0 for raid1"),
        json::required<&self::raid_level>("raid_level", "How the legs are used"),
        json::required<&self::base_bdevs>("base_bdevs", "Names of the legs"),
        json::optional<&self::uuid>("uuid", "UUID of the new bdev; generated if absent"),
        json::optional<&self::superblock>("superblock",
                                          "Keep a superblock on the legs, so that the array comes "
                                          "back by itself"),
    };
    return table;
}

std::span<const json::field> raid_process_options::fields() {
    using self = raid_process_options;
    static constexpr json::field table[] = {
        json::optional<&self::process_window_size_kb>(
            "process_window_size_kb", "What a rebuild copies, and locks, at once (KiB)"),
        json::optional<&self::process_max_bandwidth_mb_sec>("process_max_bandwidth_mb_sec",
                                                            "Of a rebuild (MiB/s); 0: unlimited"),
    };
    return table;
}

namespace raid {
namespace {

const char* name_of(array_state s) noexcept {
    switch (s) {
        case array_state::configuring:
            return "configuring";
        case array_state::online:
            return "online";
        case array_state::offline:
            break;
    }
    return "offline";
}

}  // namespace

json::object raid_array::status() const {
    json::object o;
    o.append("uuid", id_.to_string());
    o.append("strip_size_kb", strip_bytes_ / 1024);
    o.append("state", name_of(state_));
    o.append("raid_level", facts_.name);
    o.append("superblock", with_superblock_);
    o.append("num_base_bdevs", slots());
    unsigned discovered = 0;
    json::array list;
    for (unsigned k = 0; k < slots(); ++k) {
        const leg& l = *legs_[k];
        const bool configured =
            state_ == array_state::online ? (active_ >> k & 1) != 0 : l.present();
        const bool shown = configured || (rebuilding_ >> k & 1) != 0;
        discovered += shown ? 1 : 0;
        json::object each;
        each.append("name", shown || (state_ == array_state::configuring && !l.name.empty())
                                ? json::value(l.name)
                                : json::value());
        each.append("uuid", (shown || with_superblock_ ? l.id : uuid()).to_string());
        each.append("is_configured", configured);
        each.append("data_offset", shown || with_superblock_ ? l.data_offset : 0);
        each.append("data_size", l.data_size);
        list.emplace_back(std::move(each));
    }
    o.append("num_base_bdevs_discovered", discovered);
    unsigned operational = static_cast<unsigned>(std::popcount(active_));
    if (state_ == array_state::configuring) {
        operational = slots();
        if (!sb_.legs.empty()) {
            operational = 0;
            for (const superblock_leg& l : sb_.legs)
                operational += l.state == leg_state::configured ? 1 : 0;
        }
    }
    o.append("num_base_bdevs_operational", operational);
    if (process_type_ != nullptr) {
        const std::uint64_t total = std::max<std::uint64_t>(process_total_, 1);
        const std::uint64_t done = std::min(process_done_, total);
        // Of the array's blocks, as SPDK counts.
        const std::uint64_t each = span_ == 0 ? 1 : blocks_ / span_;
        o.append("process",
                 json::object{{"type", process_type_},
                              {"target", process_target_},
                              {"progress", json::object{{"blocks", done * each},
                                                        {"percent", done * 100 / total}}}});
    }
    o.append("base_bdevs_list", std::move(list));
    return o;
}

json::value raid_array::configuration() const {
    if (with_superblock_) return {};
    json::array names;
    // A leg that is gone is a name that nobody has: without a superblock nobody could say that it
    // is stale, so the array waits for an administrator, as SPDK's does.
    for (unsigned k = 0; k < slots(); ++k)
        names.emplace_back(legs_[k]->name.empty() ? "removed_base_bdev_" + std::to_string(k)
                                                  : legs_[k]->name);
    return json::object{{"method", "bdev_raid_create"},
                        {"params", json::object{{"name", name_},
                                                {"uuid", id_.to_string()},
                                                {"strip_size_kb", strip_bytes_ / 1024},
                                                {"raid_level", facts_.name},
                                                {"superblock", false},
                                                {"base_bdevs", std::move(names)}}}};
}

}  // namespace raid
}  // namespace nacre
