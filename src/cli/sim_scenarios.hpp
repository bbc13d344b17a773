// SPDX-License-Identifier: BSD-3-Clause
//
// What `nacre sim` can run. A scenario works on a sim::world for a number of steps, and everything
// that happens follows from the world's seed.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "nacre/bdev/registry.hpp"
#include "nacre/sim/world.hpp"

namespace nacre::cli {

struct sim_figures {
    std::uint64_t operations = 0;
    std::uint64_t failed = 0;  ///< of them
    std::uint64_t lives = 0;   ///< times that the stack was built
    std::uint64_t power_cuts = 0;
};

struct sim_scenario {
    std::string_view name;
    std::string_view help;
    /// Fails where what came back is not what the model allows.
    outcome<> (*run)(sim::world& w, std::uint64_t steps, sim_figures& figures);
};
[[nodiscard]] std::span<const sim_scenario> sim_scenarios() noexcept;

/// A block device on simulated files, for run_crash_scenario.
struct crash_stack {
    /// Makes the files.
    void (*prepare)(sim::world& w);
    /// Builds the device, in each life anew (the first one when `life` is 1); its name.
    task<outcome<std::string>> (*build)(bdev_registry& registry, std::uint64_t life);
    /// What goes wrong with the files while it works; null: nothing, and then no operation may fail
    /// before the power does.
    void (*disturb)(sim::world& w) = nullptr;
    /// Ends what disturb() began. While the device is verified nothing but the power may fail.
    void (*calm)(sim::world& w) = nullptr;
    /// What was unmapped reads as zeros or as before; false where it may read as anything.
    bool unmaps = true;
    /// Verification takes so many device operations that few lives would get beyond it: the power
    /// mostly waits until the work has begun.
    bool large = false;
};

/// Random operations by several tasks, with the power cut at random device operations, again and
/// again; after each restart every sector is held against a crash_model.
[[nodiscard]] outcome<> run_crash_scenario(const crash_stack& stack, sim::world& w,
                                           std::uint64_t steps, sim_figures& figures);

}  // namespace nacre::cli
