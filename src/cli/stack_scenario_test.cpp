// SPDX-License-Identifier: BSD-3-Clause
//
// Random stacks agree with the model; what the seeds stand for has everything in it.
#include "stack_scenario.hpp"

#include <gtest/gtest.h>

namespace nacre::cli {
namespace {

TEST(stack_scenario, agrees_with_the_model_over_many_stacks) {
    std::string all;
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        sim::world world(seed);
        sim_figures figures;
        outcome<> ran = run_random_stack(world, 200, figures);
        ASSERT_TRUE(ran) << "seed " << seed << ", " << stack_of_seed(seed) << ": "
                         << ran.error().message;
        all += stack_of_seed(seed);
    }
    for (const char* name : {"passthru", "delay", "split", "crypto", "raid0", "concat", "raid1"})
        EXPECT_NE(all.find(name), std::string::npos) << name;
}

}  // namespace
}  // namespace nacre::cli
