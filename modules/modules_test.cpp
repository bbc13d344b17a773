// SPDX-License-Identifier: BSD-3-Clause
#include "modules/modules.hpp"

#include <gtest/gtest.h>

#include "nacre/sim/disk_model.hpp"
#include "nacre/sim/world.hpp"

namespace nacre {
namespace {

task<void> check_uris(bdev_registry& registry) {
    outcome<std::string> made = co_await create_from_uri(registry, "null:///n0?size=1TiB");
    EXPECT_EQ(*made, "n0");
    EXPECT_EQ(registry.find("n0")->size().value(), 1ULL << 40);
    EXPECT_EQ(registry.find("n0")->block_size().value(), 4096U);
    made = co_await create_from_uri(
        registry,
        "malloc:///m0?size=64MiB&block_size=512&uuid=11111111-2222-3333-4444-555555555555");
    EXPECT_EQ(*made, "m0");
    EXPECT_EQ(registry.find("m0")->blocks().value(), (64U << 20) / 512);
    EXPECT_EQ(registry.find("11111111-2222-3333-4444-555555555555"), registry.find("m0"));
    made = co_await create_from_uri(registry, "file:///disk");
    EXPECT_EQ(*made, "disk");
    made = co_await create_from_uri(registry, "passthru:///p0?base=m0");
    EXPECT_EQ(*made, "p0");
}

TEST(modules, make_bdevs_by_uri) {
    sim::world w(1);
    w.make_file("/disk", 1 << 20);
    sim::with_registry(w, &check_uris);
}

task<void> check_bases(bdev_registry& registry) {
    outcome<std::string> made = co_await create_from_uri(
        registry, "passthru:///p1?base=passthru:///p0?base=null:///n0?size=1GiB");
    EXPECT_EQ(*made, "p1") << made.error().message;
    EXPECT_NE(registry.find("p0"), nullptr);
    EXPECT_NE(registry.find("n0"), nullptr);
    made = co_await create_from_uri(registry,
                                    "passthru:///p1?base=malloc:///m?size=1MiB%26block_size=512");
    EXPECT_TRUE(made.error().code.is(EEXIST));
    EXPECT_EQ(registry.find("m"), nullptr);  // made for it, and gone with it
}

TEST(modules, make_the_bases_that_a_uri_names_by_uri) {
    sim::with_registry(real_world(), &check_bases);
}

task<void> expect_refusal(bdev_registry& registry, std::string address, int errno_value,
                          std::string_view words) {
    outcome<std::string> made = co_await create_from_uri(registry, address);
    EXPECT_FALSE(made) << address;
    if (made) co_return;
    EXPECT_TRUE(made.error().code.is(errno_value)) << describe(made.error().code);
    EXPECT_NE(made.error().message.find(words), std::string::npos) << made.error().message;
}

task<void> check_refusals(bdev_registry& registry) {
    co_await expect_refusal(registry, "floppy:///a", EINVAL, "malloc:///m0?size=64MiB");
    co_await expect_refusal(registry, "no uri at all", EINVAL, "no uri at all");
    co_await expect_refusal(registry, "malloc:///m?size=big", EINVAL, "big");
    co_await expect_refusal(registry, "malloc:///m?size=1000", EINVAL, "multiple");
    co_await expect_refusal(registry, "malloc:///m", EINVAL, "num_blocks");
    co_await expect_refusal(registry, "malloc:///m?size=1MiB&colour=red", EINVAL, "colour");
    co_await expect_refusal(registry, "file:///nowhere/disk", ENOENT, "/nowhere/disk");
    co_await expect_refusal(registry, "passthru:///p?base=none", ENODEV, "none");
    co_await expect_refusal(registry, "passthru:///p?base=floppy:///a", EINVAL, "floppy");
}

TEST(modules, refuse_a_uri_with_a_reason) { sim::with_registry(real_world(), &check_refusals); }

}  // namespace
}  // namespace nacre
