// SPDX-License-Identifier: BSD-3-Clause
//
// zone_block: a zoned view of a conventional bdev, as SPDK's module of that name. Zones lie on the
// base at their own addresses; the zone size is the power of two at or above the capacity. All
// zones are full when it is made, so what the base holds can be read; nothing is remembered.
//
// One whose base is not there yet is made when the base appears, until bdev_zone_block_delete.
#pragma once

#include <vector>

#include "nacre/bdev/registry.hpp"
#include "nacre/core/json_decode.hpp"

namespace nacre {

struct zone_block_options {
    std::string name;
    std::string base_bdev;
    std::uint64_t zone_capacity = 0;       ///< blocks
    std::uint64_t optimal_open_zones = 0;  ///< only told to those who ask

    [[nodiscard]] static std::span<const json::field> fields();
};

class zone_block_module final : public bdev_registry::examiner {
public:
    explicit zone_block_module(bdev_registry& registry) noexcept : registry_(registry) {}
    [[nodiscard]] static zone_block_module& of(bdev_registry& registry) {
        return registry.examiner_of<zone_block_module>();
    }

    /// The name, also where the base is not there yet. EEXIST if name or base are taken already.
    [[nodiscard]] task<outcome<std::string>> create(zone_block_options options);
    /// ENODEV if there is no such zone_block.
    [[nodiscard]] task<outcome<>> destroy(std::string name);
    task<void> examine(bdev& device) override;
    /// What makes those whose base is not there.
    [[nodiscard]] json::array configuration() const;

private:
    [[nodiscard]] task<outcome<>> make(zone_block_options options);

    bdev_registry& registry_;
    std::vector<zone_block_options> known_;
};

/// zone-block:///NAME?base=BASE&zone_capacity=48MiB&optimal_open_zones=8
[[nodiscard]] task<outcome<std::string>> create_zone_block_from_uri(bdev_registry& registry,
                                                                    uri address);

}  // namespace nacre
