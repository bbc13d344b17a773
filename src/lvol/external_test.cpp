// SPDX-License-Identifier: BSD-3-Clause
//
// Volumes that read through bdevs, which come and go.
#include "test_stores.hpp"

namespace nacre::test {
namespace {

constexpr const char* golden_uuid = "5e3b8c2a-6b1d-4f0e-9a77-0c2f4d5e6f70";

/// What is read through: four clusters, in a file, so that it comes back as it was.
task<outcome<>> add_golden(bdev_registry& registry) {
    file_options o;
    o.name = "golden";
    o.filename = "/golden";
    o.block_size = block;
    o.uuid = *uuid::parse(golden_uuid);
    outcome<std::string> made = co_await create_file(registry, std::move(o));
    if (!made) co_return fail(std::move(made.error()));
    co_return outcome<>();
}

void simulate_external(task<void> (*test)(bdev_registry&)) {
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
        sim::world w(seed);
        w.make_file("/disk", 4 << 20);
        w.make_file("/golden", 4 * cluster);
        sim::with_registry(w, test);
        EXPECT_EQ(w.open_descriptors(), 0U);
    }
}

task<void> prepare(bdev_registry& registry) {
    outcome<uuid> made = co_await make_store(registry);
    EXPECT_TRUE(made) << why(made);
    outcome<> done = co_await add_golden(registry);
    EXPECT_TRUE(done) << why(done);
    done = co_await put(registry, "golden", 0, 4 * units, 'g');
    EXPECT_TRUE(done) << why(done);
}

std::string degraded_ones(bdev_registry& registry) {
    std::string names;
    for (const lvol_status& s : lvol_stores::of(registry).volumes())
        if (s.degraded) names += (names.empty() ? "" : " ") + s.name;
    return names;
}

task<void> check_comes_and_goes(bdev_registry& registry) {
    co_await prepare(registry);
    lvol_stores& stores = lvol_stores::of(registry);
    outcome<std::string> name = co_await stores.clone_bdev("lvs", "golden", "e");
    EXPECT_TRUE(name) << why(name);
    if (!name) co_return;
    outcome<> done = co_await put(registry, "lvs/e", 1, 1, 'x');
    EXPECT_TRUE(done) << why(done);
    std::string text = co_await look_at(registry, "lvs/e", 0, units + 1);
    EXPECT_EQ(text, "gxggggggg");
    name = co_await stores.snapshot("lvs/e", "s");
    EXPECT_TRUE(name) << why(name);
    name = co_await stores.clone("lvs/s", "c");
    EXPECT_TRUE(name) << why(name);
    name = co_await stores.create("lvs", volume("other", 1));
    EXPECT_EQ(registry.find("golden")->claimed(), claim::read_many_write_none);
    const std::string shown = registry.find("lvs/s")->information().dump();
    EXPECT_NE(shown.find(R"("esnap_clone":true,"external_snapshot_name":"5e3b8c2a)"),
              std::string::npos)
        << shown;
    // It goes: what reads through it has no bdev any more, the others do.
    done = co_await registry.remove("golden");
    EXPECT_TRUE(done) << why(done);
    EXPECT_EQ(degraded_ones(registry), "e s c");
    EXPECT_EQ(registry.find("lvs/e"), nullptr);
    EXPECT_EQ(registry.find("lvs/c"), nullptr);
    EXPECT_NE(registry.find("lvs/other"), nullptr);
    done = co_await stores.resize("lvs/e", cluster);
    EXPECT_EQ(code(done), ENODEV);
    // Also after a restart without it.
    done = co_await come_back(registry);
    EXPECT_TRUE(done) << why(done);
    EXPECT_EQ(degraded_ones(registry), "e s c");
    for (int round = 0; round < 2; ++round) {
        done = co_await add_golden(registry);
        EXPECT_TRUE(done) << why(done);
        EXPECT_EQ(degraded_ones(registry), "");
        text = co_await look_at(registry, "lvs/e", 0, units + 1);
        EXPECT_EQ(text, "gxggggggg");
        text = co_await look_at(registry, "lvs/c", 0, units + 1);
        EXPECT_EQ(text, "gxggggggg");
        EXPECT_EQ(registry.find("golden")->claimed(), claim::read_many_write_none);
        done = co_await registry.remove("golden");
        EXPECT_EQ(degraded_ones(registry), "e s c");
    }
    // A degraded one can be deleted.
    done = co_await stores.remove("lvs/c");
    EXPECT_TRUE(done) << why(done);
    done = co_await stores.remove("lvs/s");
    EXPECT_TRUE(done) << why(done);
    EXPECT_EQ(names_of(registry), "e other");
    done = co_await add_golden(registry);
    text = co_await look_at(registry, "lvs/e", 0, units + 1);
    EXPECT_EQ(text, "gxggggggg");
    done = co_await stores.inflate("lvs/e");
    EXPECT_TRUE(done) << why(done);
    EXPECT_EQ(registry.find("golden")->claimed(), claim::none);
    done = co_await registry.remove("golden");
    EXPECT_EQ(degraded_ones(registry), "");
    text = co_await look_at(registry, "lvs/e", 0, units + 1);
    EXPECT_EQ(text, "gxggggggg");
}

TEST(lvol_external, volumes_come_back_with_what_they_read_through) {
    simulate_external(&check_comes_and_goes);
}

/// A volume of another store reads through a volume that reads through the bdev.
task<void> check_chain(bdev_registry& registry) {
    co_await prepare(registry);
    lvol_stores& stores = lvol_stores::of(registry);
    outcome<std::string> name = co_await stores.clone_bdev("lvs", "golden", "e");
    EXPECT_TRUE(name) << why(name);
    outcome<> done = co_await put(registry, "lvs/e", 0, 1, 'x');
    malloc_options m;
    m.name = "m";
    m.num_blocks = 256;
    m.block_size = block;
    name = co_await create_malloc(registry, std::move(m));
    lvstore_options o;
    o.name = "second";
    o.cluster_size = cluster;
    outcome<uuid> made = co_await stores.create_store("m", std::move(o));
    EXPECT_TRUE(made) << why(made);
    name = co_await stores.clone_bdev("second", "lvs/e", "n");
    EXPECT_TRUE(name) << why(name);
    for (int round = 0; round < 2; ++round) {
        std::string text = co_await look_at(registry, "second/n", 0, 3);
        EXPECT_EQ(text, "xgg");
        done = co_await registry.remove("golden");
        EXPECT_TRUE(done) << why(done);
        EXPECT_EQ(degraded_ones(registry), "e n");
        done = co_await add_golden(registry);
        EXPECT_TRUE(done) << why(done);
        EXPECT_EQ(degraded_ones(registry), "");
    }
}

TEST(lvol_external, chains_over_stores_go_and_come_back) { simulate_external(&check_chain); }

task<void> check_refusals(bdev_registry& registry) {
    co_await prepare(registry);
    lvol_stores& stores = lvol_stores::of(registry);
    outcome<std::string> name = co_await stores.create("lvs", volume("a", 4, true));
    name = co_await stores.clone_bdev("lvs", "none", "e");
    EXPECT_EQ(code(name), ENODEV);
    name = co_await stores.clone_bdev("none", "golden", "e");
    EXPECT_EQ(code(name), ENODEV);
    name = co_await stores.clone_bdev("lvs", "lvs/a", "e");
    EXPECT_EQ(code(name), EINVAL);
    name = co_await stores.clone_bdev("lvs", "golden", "a");
    EXPECT_EQ(code(name), EEXIST);
    malloc_options m;
    m.name = "odd";
    m.num_blocks = units + 1;
    m.block_size = block;
    name = co_await create_malloc(registry, std::move(m));
    name = co_await stores.clone_bdev("lvs", "odd", "e");
    EXPECT_EQ(code(name), EINVAL);
    outcome<> done = co_await stores.set_parent_bdev("lvs/a", "odd");
    EXPECT_EQ(code(done), EINVAL);
    done = co_await stores.set_parent_bdev("lvs/a", "none");
    EXPECT_EQ(code(done), ENODEV);
    done = co_await stores.set_parent_bdev("lvs/a", "lvs/a");
    EXPECT_EQ(code(done), EINVAL);
    done = co_await put(registry, "lvs/a", 0, 1, 'a');
    done = co_await stores.set_parent_bdev("lvs/a", "golden");
    EXPECT_TRUE(done) << why(done);
    done = co_await stores.set_parent_bdev("lvs/a", "golden");
    EXPECT_EQ(code(done), EEXIST);
    std::string text = co_await look_at(registry, "lvs/a", 0, units + 2);
    EXPECT_EQ(text, "a.......gg");
    done = co_await registry.remove("golden");
    EXPECT_EQ(degraded_ones(registry), "a");
    done = co_await add_golden(registry);
    text = co_await look_at(registry, "lvs/a", 0, units + 2);
    EXPECT_EQ(text, "a.......gg");
}

TEST(lvol_external, a_bdev_becomes_a_parent_if_it_can) { simulate_external(&check_refusals); }

}  // namespace
}  // namespace nacre::test
