// SPDX-License-Identifier: BSD-3-Clause
#include "modules/raid/level.hpp"

#include <algorithm>

#include "modules/raid/concat/concat.hpp"
#include "modules/raid/raid0/raid0.hpp"
#include "modules/raid/raid1/raid1.hpp"
#include "modules/raid/raid5f/raid5f.hpp"
#include "nacre/core/assert.hpp"

namespace nacre::raid {
namespace {

template <typename Array>
std::shared_ptr<raid_array> make(raid_module& module, const level_facts& facts, raid_plan plan) {
    return std::make_shared<Array>(module, facts, std::move(plan));
}

// Numbers and least numbers of legs as SPDK's.
constexpr level_facts table[] = {
    {raid_level::raid0, 0, "raid0", 1, true, lacks::none, &make<raid0_array>},
    {raid_level::raid1, 1, "raid1", 2, false, lacks::all_but_one, &make<raid1_array>},
    {raid_level::raid5f, 95, "raid5f", 3, true, lacks::one_leg, &make<raid5f_array>},
    {raid_level::concat, 99, "concat", 1, true, lacks::none, &make<concat_array>},
};

}  // namespace

std::span<const level_facts> levels() noexcept { return table; }

const level_facts& facts_of(raid_level level) noexcept {
    const auto* found = std::ranges::find(table, level, &level_facts::level);
    NACRE_ASSERT(found != std::end(table));
    return *found;
}

const level_facts* level_numbered(std::uint32_t number) noexcept {
    const auto* found = std::ranges::find(table, number, &level_facts::number);
    return found == std::end(table) ? nullptr : found;
}

}  // namespace nacre::raid
