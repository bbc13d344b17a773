// SPDX-License-Identifier: BSD-3-Clause
//
// Logical volumes: what the calls do, and what they refuse.
#include "test_stores.hpp"

namespace nacre::test {
namespace {

/// Byte 16 of the super block: whether the store was unloaded in order.
task<bool> is_clean(bdev_registry& registry) {
    outcome<bdev_desc> desc = registry.open("disk", access::read);
    if (!desc) co_return false;
    outcome<bdev_channel> channel = desc->open_channel();
    if (!channel) co_return false;
    aligned_bytes data(block);
    const iov_view view{std::span<std::byte>(data)};
    result<> done = co_await channel->read(lba(0), view);
    co_return done&& data[16] == std::byte{1};
}

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
    bool clean = co_await is_clean(registry);
    EXPECT_FALSE(clean);
    done = co_await come_back(registry);
    EXPECT_TRUE(done) << why(done);
    clean = co_await is_clean(registry);
    EXPECT_TRUE(clean);
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
    EXPECT_EQ(all[0].size_max, (4096 * 8 - 40) * std::uint64_t{cluster});
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

task<void> check_family(bdev_registry& registry) {
    outcome<uuid> made = co_await make_store(registry);
    EXPECT_TRUE(made) << why(made);
    if (!made) co_return;
    lvol_stores& stores = lvol_stores::of(registry);
    outcome<std::string> name = co_await stores.create("lvs", volume("a", 4));
    outcome<> done = co_await put(registry, "lvs/a", 0, 4 * units, 'o');
    EXPECT_TRUE(done) << why(done);
    outcome<std::string> snap = co_await stores.snapshot("lvs/a", "s");
    EXPECT_TRUE(snap) << why(snap);
    name = co_await stores.clone("lvs/s", "c");
    EXPECT_TRUE(name) << why(name);
    outcome<std::string> wrong = co_await stores.clone("lvs/a", "x");
    EXPECT_EQ(code(wrong), EINVAL);
    done = co_await put(registry, "lvs/a", 0, 1, 'n');
    EXPECT_TRUE(done) << why(done);
    done = co_await put(registry, "lvs/c", units, 1, 'c');
    EXPECT_TRUE(done) << why(done);
    done = co_await put(registry, "lvs/s", 0, 1, 'x');
    EXPECT_NE(code(done), 0);
    for (int round = 0; round < 2; ++round) {
        std::string text = co_await look_at(registry, "lvs/a", 0, units + 2);
        EXPECT_EQ(text, "nooooooooo");
        text = co_await look_at(registry, "lvs/c", 0, units + 2);
        EXPECT_EQ(text, "ooooooooco");
        text = co_await look_at(registry, "lvs/s", 0, units + 2);
        EXPECT_EQ(text, "oooooooooo");
        const lvol_status s = *stores.status("lvs/s");
        EXPECT_EQ(s.clones.size(), 2U);
        EXPECT_TRUE(s.blob.snapshot && s.blob.read_only && !s.blob.thin);
        EXPECT_EQ(s.blob.allocated_clusters, 4U);
        EXPECT_EQ(stores.status("lvs/c")->base_snapshot, "s");
        EXPECT_FALSE(registry.find("lvs/s")->supports(opcode::write));
        done = co_await come_back(registry);
        EXPECT_TRUE(done) << why(done);
    }
    const std::string shown = registry.find("lvs/s")->information().dump();
    EXPECT_NE(shown.find(R"("snapshot":true,"clone":false,"clones":["a","c"],"esnap_clone":false)"),
              std::string::npos)
        << shown;
    // A snapshot with two clones stays; with one, that one inherits.
    done = co_await stores.remove("lvs/s");
    EXPECT_EQ(code(done), EPERM);
    EXPECT_NE(registry.find(*snap), nullptr);
    done = co_await stores.inflate("lvs/c");
    EXPECT_TRUE(done) << why(done);
    EXPECT_FALSE(stores.status("lvs/c")->blob.thin);
    EXPECT_EQ(stores.status("lvs/c")->blob.allocated_clusters, 4U);
    done = co_await stores.remove("lvs/s");
    EXPECT_TRUE(done) << why(done);
    EXPECT_EQ(names_of(registry), "a c");
    for (int round = 0; round < 2; ++round) {
        std::string text = co_await look_at(registry, "lvs/a", 0, units + 2);
        EXPECT_EQ(text, "nooooooooo");
        text = co_await look_at(registry, "lvs/c", 0, units + 2);
        EXPECT_EQ(text, "ooooooooco");
        done = co_await come_back(registry);
        EXPECT_TRUE(done) << why(done);
    }
}

TEST(lvol, snapshots_and_clones_share_what_none_has_written) { simulate(&check_family); }

task<void> check_parents(bdev_registry& registry) {
    outcome<uuid> made = co_await make_store(registry);
    EXPECT_TRUE(made) << why(made);
    if (!made) co_return;
    lvol_stores& stores = lvol_stores::of(registry);
    outcome<std::string> name = co_await stores.create("lvs", volume("a", 2));
    outcome<> done = co_await put(registry, "lvs/a", 0, 1, 'a');
    name = co_await stores.snapshot("lvs/a", "s1");
    done = co_await put(registry, "lvs/a", 1, 1, 'b');
    name = co_await stores.snapshot("lvs/a", "s2");
    EXPECT_TRUE(name) << why(name);
    EXPECT_EQ(stores.status("lvs/a")->base_snapshot, "s2");
    EXPECT_EQ(stores.status("lvs/s2")->base_snapshot, "s1");
    done = co_await stores.decouple_parent("lvs/a");
    EXPECT_TRUE(done) << why(done);
    EXPECT_EQ(stores.status("lvs/a")->base_snapshot, "s1");
    std::string text = co_await look_at(registry, "lvs/a", 0, 3);
    EXPECT_EQ(text, "ab.");
    done = co_await stores.decouple_parent("lvs/a");
    EXPECT_TRUE(done) << why(done);
    EXPECT_EQ(stores.status("lvs/a")->base_snapshot, "");
    done = co_await stores.decouple_parent("lvs/a");
    EXPECT_EQ(code(done), EINVAL);
    name = co_await stores.create("lvs", volume("t", 2, true));
    done = co_await stores.set_parent("lvs/t", "lvs/s1");
    EXPECT_TRUE(done) << why(done);
    text = co_await look_at(registry, "lvs/t", 0, 3);
    EXPECT_EQ(text, "a..");
    done = co_await stores.set_parent("lvs/t", "lvs/s1");
    EXPECT_EQ(code(done), EEXIST);
    done = co_await stores.set_parent("lvs/t", "lvs/s2");
    EXPECT_TRUE(done) << why(done);
    text = co_await look_at(registry, "lvs/t", 0, 3);
    EXPECT_EQ(text, "ab.");
    done = co_await stores.set_parent("lvs/t", "lvs/a");
    EXPECT_EQ(code(done), EINVAL);
    done = co_await stores.set_parent("lvs/t", "lvs/t");
    EXPECT_EQ(code(done), EINVAL);
    done = co_await stores.set_parent("lvs/t", "lvs/none");
    EXPECT_EQ(code(done), ENODEV);
    done = co_await come_back(registry);
    text = co_await look_at(registry, "lvs/t", 0, 3);
    EXPECT_EQ(text, "ab.");
    EXPECT_EQ(stores.status("lvs/t")->base_snapshot, "s2");
}

TEST(lvol, volumes_change_their_parents) { simulate(&check_parents); }

task<void> check_names(bdev_registry& registry) {
    outcome<uuid> made = co_await make_store(registry);
    EXPECT_TRUE(made) << why(made);
    if (!made) co_return;
    lvol_stores& stores = lvol_stores::of(registry);
    outcome<std::string> a = co_await stores.create("lvs", volume("a", 1));
    outcome<std::string> b = co_await stores.create("lvs", volume("b", 1));
    EXPECT_TRUE(a && b);
    outcome<std::string> name = co_await stores.create("lvs", volume("a", 1));
    EXPECT_EQ(code(name), EEXIST);
    name = co_await stores.snapshot("lvs/a", "b");
    EXPECT_EQ(code(name), EEXIST);
    name = co_await stores.create("lvs", volume("", 1));
    EXPECT_EQ(code(name), EINVAL);
    name = co_await stores.create("lvs", volume(std::string(64, 'n'), 1));
    EXPECT_EQ(code(name), EINVAL);
    name = co_await stores.create("lvs", volume(std::string(63, 'n'), 1));
    EXPECT_TRUE(name) << why(name);
    name = co_await stores.create("none", volume("a", 1));
    EXPECT_EQ(code(name), ENODEV);
    outcome<> done = co_await stores.rename("lvs/a", "b");
    EXPECT_EQ(code(done), EEXIST);
    done = co_await stores.rename("lvs/a", "a");
    EXPECT_TRUE(done) << why(done);
    done = co_await stores.rename("lvs/a", "z");
    EXPECT_TRUE(done) << why(done);
    EXPECT_EQ(registry.find("lvs/a"), nullptr);
    EXPECT_EQ(registry.find("lvs/z"), registry.find(*a));
    done = co_await stores.rename_store("lvs", "pool");
    EXPECT_TRUE(done) << why(done);
    done = co_await stores.rename_store("lvs", "pool");
    EXPECT_EQ(code(done), ENODEV);
    done = co_await stores.rename_store("pool", std::string(64, 'n'));
    EXPECT_EQ(code(done), EINVAL);
    for (int round = 0; round < 2; ++round) {
        EXPECT_EQ(registry.find("pool/z"), registry.find(*a));
        EXPECT_EQ(registry.find("pool/b"), registry.find(*b));
        EXPECT_EQ(registry.find("lvs/b"), nullptr);
        EXPECT_EQ(registry.find(*a)->attributes().aliases.front(), "pool/z");
        done = co_await come_back(registry);
        EXPECT_TRUE(done) << why(done);
    }
}

TEST(lvol, names_are_unique_and_change_with_their_aliases) { simulate(&check_names); }

task<void> check_store_refusals(bdev_registry& registry) {
    outcome<uuid> made = co_await make_store(registry);
    EXPECT_TRUE(made) << why(made);
    malloc_options m;
    m.name = "m";
    m.num_blocks = 256;
    m.block_size = block;
    outcome<std::string> other = co_await create_malloc(registry, std::move(m));
    EXPECT_TRUE(other) << why(other);
    lvol_stores& stores = lvol_stores::of(registry);
    struct row {
        const char* base;
        const char* name;
        std::uint32_t cluster_size;
        std::uint32_t page;
        int expected;
    };
    static constexpr row rows[] = {
        {"disk", "x", cluster, 0, EPERM},    {"none", "x", cluster, 0, ENODEV},
        {"m", "lvs", cluster, 0, EEXIST},    {"m", "", cluster, 0, EINVAL},
        {"m", "x", cluster + 1, 0, EINVAL},  {"m", "x", cluster, 4097, EINVAL},
        {"m", "x", cluster, 131072, EINVAL}, {"m", "x", 2U << 20, 0, ENOSPC},
    };
    for (const row& r : rows) {
        lvstore_options o;
        o.name = r.name;
        o.cluster_size = r.cluster_size;
        o.metadata_page_size = r.page;
        made = co_await stores.create_store(r.base, std::move(o));
        EXPECT_EQ(code(made), r.expected) << r.base << " " << r.name << " " << why(made);
        EXPECT_EQ(registry.find("m")->claimed(), claim::none);
    }
    lvstore_options o;
    o.name = "second";
    o.cluster_size = cluster;
    made = co_await stores.create_store("m", std::move(o));
    EXPECT_TRUE(made) << why(made);
    outcome<> done = co_await stores.rename_store("second", "lvs");
    EXPECT_EQ(code(done), EEXIST);
    done = co_await stores.delete_store("none");
    EXPECT_EQ(code(done), ENODEV);
    done = co_await stores.grow_store("none");
    EXPECT_EQ(code(done), ENODEV);
    done = co_await stores.grow_store("lvs");
    EXPECT_TRUE(done) << why(done);
}

TEST(lvol, refuses_stores_that_cannot_be) { simulate(&check_store_refusals); }

}  // namespace
}  // namespace nacre::test
