// SPDX-License-Identifier: BSD-3-Clause
//
// A mirror with a superblock over two simulated disks that fail, vanish, come back and lose their
// power, while tasks on several threads use it and an administrator removes and adds legs. After
// each restart every sector is held against a crash_model; whenever the array has come to rest, its
// legs are held against each other.
#pragma once

#include "modules/raid/raid.hpp"
#include "sim_scenarios.hpp"

namespace nacre::cli {

/// `tuning` may break a promise, to see whether this notices.
[[nodiscard]] outcome<> run_raid1_scenario(sim::world& w, std::uint64_t steps, sim_figures& figures,
                                           const raid_tuning& tuning);
/// The entry of `nacre sim`.
[[nodiscard]] outcome<> run_raid1_lives(sim::world& w, std::uint64_t steps, sim_figures& figures);

}  // namespace nacre::cli
