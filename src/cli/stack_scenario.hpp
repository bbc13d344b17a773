// SPDX-License-Identifier: BSD-3-Clause
//
// A random stack of up to four modules over simulated disks that lose their power. The seed decides
// the stack, which is built anew in each life; a crash_model says what may be found there.
#pragma once

#include <string>

#include "sim_scenarios.hpp"

namespace nacre::cli {

/// The entry of `nacre sim`.
[[nodiscard]] outcome<> run_random_stack(sim::world& w, std::uint64_t steps, sim_figures& figures);
/// What `seed` stands for, lowest first: "file crypto raid1 split".
[[nodiscard]] std::string stack_of_seed(std::uint64_t seed);

}  // namespace nacre::cli
