// SPDX-License-Identifier: BSD-3-Clause
//
// The levels: what the rest of the module must know of each, and the table of them.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "modules/raid/raid.hpp"

namespace nacre::raid {

class raid_array;
struct raid_plan;

enum class lacks : std::uint8_t { none, one_leg, all_but_one };

struct level_facts {
    raid_level level;
    std::uint32_t number;  ///< in a superblock
    const char* name;
    unsigned legs_min;
    bool strips;
    lacks lack;  ///< how many legs may be gone
    std::shared_ptr<raid_array> (*make)(raid_module& module, const level_facts& facts,
                                        raid_plan plan);

    [[nodiscard]] unsigned may_lack(unsigned legs) const noexcept {
        return lack == lacks::none ? 0 : lack == lacks::one_leg ? 1 : legs - 1;
    }
};

[[nodiscard]] std::span<const level_facts> levels() noexcept;
[[nodiscard]] const level_facts& facts_of(raid_level level) noexcept;
/// Null if there is no such level.
[[nodiscard]] const level_facts* level_numbered(std::uint32_t number) noexcept;

}  // namespace nacre::raid
