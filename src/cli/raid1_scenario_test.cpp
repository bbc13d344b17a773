// SPDX-License-Identifier: BSD-3-Clause
//
// The scenario of nacre sim agrees with raid1, and catches a raid1 that was broken on purpose: each
// of the four ways in which one would lose data.
#include "raid1_scenario.hpp"

#include <gtest/gtest.h>

namespace nacre::cli {
namespace {

constexpr std::uint64_t steps = 300;

raid_tuning brisk() {
    raid_tuning t;
    t.sweep_period_ns = 3'000'000;
    t.record_retry_ns = 20'000'000;
    return t;
}

/// The first of `seeds` seeds that ends in a violation; 0 if none does.
std::uint64_t first_violation(std::uint64_t seeds, const raid_tuning& tuning) {
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        sim::world world(seed);
        sim_figures figures;
        outcome<> ran = run_raid1_scenario(world, steps, figures, tuning);
        if (!ran) return seed;
    }
    return 0;
}

TEST(raid1_scenario, agrees_with_the_model_over_many_seeds) {
    std::uint64_t operations = 0, power_cuts = 0;
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        sim::world world(seed);
        sim_figures figures;
        outcome<> ran = run_raid1_scenario(world, steps, figures, brisk());
        ASSERT_TRUE(ran) << "seed " << seed << ": " << ran.error().message;
        operations += figures.operations;
        power_cuts += figures.power_cuts;
    }
    EXPECT_GE(operations, 60 * steps);
    EXPECT_GT(power_cuts, 60U);
}

TEST(raid1_scenario, catches_a_write_acknowledged_before_the_bad_leg_is_ejected) {
    raid_tuning broken = brisk();
    broken.break_ejection = true;
    EXPECT_NE(first_violation(300, broken), 0U);
}

TEST(raid1_scenario, catches_a_write_that_does_not_wait_for_its_intent) {
    raid_tuning broken = brisk();
    broken.break_intent = true;
    EXPECT_NE(first_violation(300, broken), 0U);
}

TEST(raid1_scenario, catches_a_stale_leg_taken_for_a_current_one) {
    raid_tuning broken = brisk();
    broken.break_assembly = true;
    EXPECT_NE(first_violation(300, broken), 0U);
}

TEST(raid1_scenario, catches_a_rebuild_that_does_not_lock_writes_out) {
    raid_tuning broken = brisk();
    broken.break_rebuild = true;
    EXPECT_NE(first_violation(300, broken), 0U);
}

}  // namespace
}  // namespace nacre::cli
