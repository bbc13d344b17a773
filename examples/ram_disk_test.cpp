// SPDX-License-Identifier: BSD-3-Clause
#include "ram_disk.hpp"

#include <gtest/gtest.h>

#include "nacre/sim/disk_model.hpp"
#include "nacre/sim/sweep.hpp"
#include "nacre/sim/world.hpp"

namespace example {
namespace {

constexpr bdev_kind ram = kind_of<ram_disk>();

task<void> check(bdev_registry& registry) {
    const json::value options = json::object{{"name", "r0"}, {"size", 1 << 20}};
    outcome<std::string> made = co_await ram.create(registry, options);
    EXPECT_TRUE(made) << made.error().message;
    outcome<bdev_desc> descriptor = registry.open("r0", access::write);
    outcome<bdev_channel> channel = descriptor->open_channel();
    sim::disk_model model(descriptor->device());
    const sim::exercise_options how{.operations = 3000};
    outcome<> same = co_await sim::exercise(*channel, model, how);
    EXPECT_TRUE(same) << same.error().message;
}

TEST(ram_disk, agrees_with_a_vector_of_bytes_under_random_operations) {
    sim::world w(1);
    sim::with_registry(w, &check);
}

}  // namespace
}  // namespace example
