// SPDX-License-Identifier: BSD-3-Clause
//
// Logical volumes: what the calls do, and what they refuse.
#include "test_stores.hpp"

namespace nacre::test {
namespace {

task<void> check_life(bdev_registry& registry) {
    outcome<uuid> made = co_await make_store(registry);
    EXPECT_TRUE(made) << why(made);
    if (!made) co_return;
    lvol_stores& stores = lvol_stores::of(registry);
    outcome<std::string> name = co_await stores.create("lvs", volume("thick", 4));
    EXPECT_TRUE(name) << why(name);
    outcome<std::string> thin = co_await stores.create("lvs", volume("thin", 8, true));
    EXPECT_TRUE(thin) << why(thin);
    if (!name || !thin) co_return;
    EXPECT_NE(registry.find(*name), nullptr);
    EXPECT_EQ(registry.find("lvs/thick"), registry.find(*name));
    EXPECT_EQ(registry.find("lvs/thin")->blocks().value(), 8 * units);
    outcome<> done = co_await put(registry, "lvs/thick", 3, 9, 'a');
    EXPECT_TRUE(done) << why(done);
    done = co_await put(registry, "lvs/thin", units, 2, 'b');
    EXPECT_TRUE(done) << why(done);
    EXPECT_EQ(stores.status("lvs/thin")->blob.allocated_clusters, 1U);
    EXPECT_EQ(stores.status("lvs/thick")->blob.allocated_clusters, 4U);
    done = co_await come_back(registry);
    EXPECT_TRUE(done) << why(done);
    EXPECT_EQ(names_of(registry), "thick thin");
    EXPECT_EQ(stores.name_of_store(made->to_string()), "lvs");
    EXPECT_EQ(stores.status("lvs/thin")->bdev_name, *thin);
    std::string text = co_await look_at(registry, *name, 2, 11);
    EXPECT_EQ(text, ".aaaaaaaaa.");
    text = co_await look_at(registry, *thin, units, 3);
    EXPECT_EQ(text, "bb.");
    std::vector<lvstore_status> all = co_await stores.stores();
    EXPECT_EQ(all.size(), 1U);
    if (all.empty()) co_return;
    EXPECT_EQ(all[0].free_clusters + 5, all[0].data_clusters);
    EXPECT_EQ(all[0].base, "disk");
    done = co_await stores.remove("lvs/thick");
    EXPECT_TRUE(done) << why(done);
    EXPECT_EQ(registry.find(*name), nullptr);
    done = co_await come_back(registry);
    EXPECT_TRUE(done) << why(done);
    EXPECT_EQ(names_of(registry), "thin");
    done = co_await stores.delete_store("lvs");
    EXPECT_TRUE(done) << why(done);
    EXPECT_EQ(registry.find(*thin), nullptr);
    EXPECT_EQ(registry.find("disk")->claimed(), claim::none);
    done = co_await come_back(registry);
    EXPECT_TRUE(done) << why(done);
    EXPECT_FALSE(stores.has_store("lvs"));
}

TEST(lvol, keeps_volumes_through_unload_and_examine) { simulate(&check_life); }

}  // namespace
}  // namespace nacre::test
