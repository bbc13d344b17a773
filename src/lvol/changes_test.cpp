// SPDX-License-Identifier: BSD-3-Clause
//
// Volumes and stores that change their size, become read-only, are copied, and lose their bdev,
// under I/O too.
#include "nacre/runtime/sleep.hpp"
#include "test_stores.hpp"

namespace nacre::test {
namespace {

task<void> pause(std::uint64_t ns) {
    result<> slept = co_await sleep_for(ns);
    EXPECT_TRUE(slept);
}

task<void> check_space(bdev_registry& registry) {
    outcome<uuid> made = co_await make_store(registry);
    EXPECT_TRUE(made) << why(made);
    lvol_stores& stores = lvol_stores::of(registry);
    std::vector<lvstore_status> all = co_await stores.stores();
    const std::uint64_t free = all[0].free_clusters;
    outcome<std::string> name = co_await stores.create("lvs", volume("big", free + 1));
    EXPECT_EQ(code(name), ENOSPC);
    name = co_await stores.create("lvs", volume("big", free + 1, true));
    EXPECT_TRUE(name) << why(name);
    outcome<> done = co_await stores.inflate("lvs/big");
    EXPECT_EQ(code(done), ENOSPC);
    name = co_await stores.create("lvs", volume("a", 1));
    done = co_await stores.resize("lvs/a", (free + 1) * cluster);
    EXPECT_EQ(code(done), ENOSPC);
    done = co_await stores.resize("lvs/a", cluster + 1);
    EXPECT_TRUE(done) << why(done);
    EXPECT_EQ(registry.find("lvs/a")->blocks().value(), 2 * units);
    all = co_await stores.stores();
    EXPECT_EQ(all[0].free_clusters, free - 2);
    // A volume without a cluster has no bdev until it is given some.
    done = co_await stores.resize("lvs/a", 0);
    EXPECT_TRUE(done) << why(done);
    EXPECT_EQ(registry.find("lvs/a"), nullptr);
    done = co_await come_back(registry);
    EXPECT_EQ(names_of(registry), "big a");
    EXPECT_EQ(registry.find("lvs/a"), nullptr);
    done = co_await stores.resize("lvs/a", 3 * cluster);
    EXPECT_TRUE(done) << why(done);
    EXPECT_EQ(registry.find("lvs/a")->blocks().value(), 3 * units);
    done = co_await put(registry, "lvs/a", 2 * units, units, 'x');
    EXPECT_TRUE(done) << why(done);
    name = co_await stores.create("lvs", volume("zero", 0));
    EXPECT_TRUE(name) << why(name);
    done = co_await stores.remove("lvs/zero");
    EXPECT_TRUE(done) << why(done);
}

TEST(lvol, counts_clusters_and_gives_them_back) { simulate(&check_space); }

task<void> check_read_only(bdev_registry& registry) {
    outcome<uuid> made = co_await make_store(registry);
    EXPECT_TRUE(made) << why(made);
    lvol_stores& stores = lvol_stores::of(registry);
    outcome<std::string> name = co_await stores.create("lvs", volume("a", 2));
    outcome<> done = co_await put(registry, "lvs/a", 0, 1, 'a');
    {
        outcome<bdev_desc> desc = registry.open("lvs/a", access::write);
        outcome<bdev_channel> channel = desc->open_channel();
        done = co_await stores.set_read_only("lvs/a");
        EXPECT_TRUE(done) << why(done);
        result<> wiped = co_await channel->write_zeroes(lba(0), block_count(1));
        EXPECT_FALSE(wiped) << "a channel from before";
    }
    done = co_await stores.set_read_only("lvs/a");
    EXPECT_TRUE(done) << why(done);
    for (int round = 0; round < 2; ++round) {
        EXPECT_FALSE(registry.find("lvs/a")->supports(opcode::write));
        EXPECT_FALSE(registry.find("lvs/a")->supports(opcode::unmap));
        done = co_await put(registry, "lvs/a", 0, 1, 'b');
        EXPECT_NE(code(done), 0);
        std::string text = co_await look_at(registry, "lvs/a", 0, 2);
        EXPECT_EQ(text, "a.");
        done = co_await stores.resize("lvs/a", cluster);
        EXPECT_EQ(code(done), EROFS);
        done = co_await stores.rename("lvs/a", "b");
        EXPECT_EQ(code(done), EROFS);
        done = co_await come_back(registry);
    }
    done = co_await stores.remove("lvs/a");
    EXPECT_TRUE(done) << why(done);
}

TEST(lvol, nobody_writes_a_read_only_volume) { simulate(&check_read_only); }

task<void> check_grow(bdev_registry& registry) {
    outcome<uuid> made = co_await make_store(registry);
    EXPECT_TRUE(made) << why(made);
    lvol_stores& stores = lvol_stores::of(registry);
    std::vector<lvstore_status> all = co_await stores.stores();
    const std::uint64_t before = all[0].data_clusters;
    outcome<std::string> name = co_await stores.create("lvs", volume("a", before));
    EXPECT_TRUE(name) << why(name);
    outcome<> done = co_await resize_file(registry, "disk", byte_count(8 << 20));
    EXPECT_TRUE(done) << why(done);
    done = co_await stores.grow_store("lvs");
    EXPECT_TRUE(done) << why(done);
    for (int round = 0; round < 2; ++round) {
        all = co_await stores.stores();
        EXPECT_EQ(all[0].data_clusters, before + (4 << 20) / cluster);
        EXPECT_EQ(all[0].free_clusters, std::uint64_t{(4 << 20) / cluster});
        done = co_await come_back(registry);
        EXPECT_TRUE(done) << why(done);
    }
    done = co_await stores.resize("lvs/a", (before + 5) * cluster);
    EXPECT_TRUE(done) << why(done);
}

TEST(lvol, a_store_takes_what_its_bdev_has_grown_by) { simulate(&check_grow); }

task<void> check_shallow_copy(bdev_registry& registry) {
    outcome<uuid> made = co_await make_store(registry);
    EXPECT_TRUE(made) << why(made);
    lvol_stores& stores = lvol_stores::of(registry);
    malloc_options m;
    m.name = "m";
    m.num_blocks = 4 * units;
    m.block_size = block;
    outcome<std::string> target = co_await create_malloc(registry, m);
    m.name = "small";
    m.num_blocks = 3 * units;
    target = co_await create_malloc(registry, m);
    outcome<std::string> name = co_await stores.create("lvs", volume("a", 4, true));
    outcome<> done = co_await put(registry, "lvs/a", 0, 1, 'p');
    name = co_await stores.snapshot("lvs/a", "s");
    done = co_await put(registry, "lvs/a", units, 1, 'q');
    outcome<std::uint32_t> id = stores.start_shallow_copy("lvs/a", "m");
    EXPECT_EQ(code(id), EPERM);
    done = co_await stores.set_read_only("lvs/a");
    id = stores.start_shallow_copy("lvs/a", "small");
    EXPECT_EQ(code(id), EINVAL);
    id = stores.start_shallow_copy("lvs/a", "disk");
    EXPECT_EQ(code(id), EPERM);
    id = stores.start_shallow_copy("lvs/a", "none");
    EXPECT_EQ(code(id), ENODEV);
    done = co_await put(registry, "m", 0, 4 * units, 'm');
    id = stores.start_shallow_copy("lvs/a", "m");
    EXPECT_TRUE(id) << why(id);
    if (!id) co_return;
    done = co_await stores.remove("lvs/a");
    EXPECT_EQ(code(done), EBUSY);
    outcome<shallow_copy_status> s = stores.check_shallow_copy(*id);
    EXPECT_TRUE(s && !s->ended && s->all == 1);
    while (s && !s->ended) {
        co_await pause(1'000'000);
        s = stores.check_shallow_copy(*id);
    }
    EXPECT_TRUE(s && s->failed.ok() && s->copied == 1);
    s = stores.check_shallow_copy(*id);
    EXPECT_EQ(code(s), ENODEV);
    // Only what the volume itself has.
    std::string text = co_await look_at(registry, "m", 0, units + 2);
    EXPECT_EQ(text, "mmmmmmmmq.");
}

TEST(lvol, a_shallow_copy_writes_what_the_volume_itself_has) { simulate(&check_shallow_copy); }

/// Writes until it is refused.
task<void> write_on(bdev_channel& channel, unsigned& written, error& ended) {
    aligned_bytes data(block, std::byte{'w'});
    const const_iov_view view{std::span<const std::byte>(data)};
    const std::uint64_t all = channel.device().blocks().value();
    for (std::uint64_t i = 0;; i = (i + 3) % all) {
        result<> done = co_await channel.write(lba(i), view);
        if (!done) {
            ended = done.error();
            break;
        }
        ++written;
    }
}

task<void> check_removal_under_io(bdev_registry& registry) {
    outcome<uuid> made = co_await make_store(registry);
    EXPECT_TRUE(made) << why(made);
    lvol_stores& stores = lvol_stores::of(registry);
    outcome<std::string> name = co_await stores.create("lvs", volume("a", 8, true));
    EXPECT_TRUE(name) << why(name);
    unsigned written = 0;
    error ended;
    scope writers;
    {
        outcome<bdev_desc> desc = registry.open("lvs/a", access::write);
        outcome<bdev_channel> channel = desc->open_channel();
        writers.spawn(write_on(*channel, written, ended));
        co_await pause(2'000'000);
        outcome<> done = co_await registry.remove("disk");
        EXPECT_TRUE(done) << why(done);
        EXPECT_FALSE(stores.has_store("lvs"));
        result<> joined = co_await writers.join();
        EXPECT_TRUE(joined);
    }
    EXPECT_GT(written, 0U);
    EXPECT_TRUE(ended.is(ENODEV)) << describe(ended);
    outcome<> done = co_await add_disk(registry);
    EXPECT_TRUE(done) << why(done);
    std::string text = co_await look_at(registry, "lvs/a", 0, 1);
    EXPECT_EQ(text, "w");
}

TEST(lvol, volumes_go_with_their_base_under_io) { simulate(&check_removal_under_io); }

task<void> check_hot_resize(bdev_registry& registry) {
    outcome<uuid> made = co_await make_store(registry);
    EXPECT_TRUE(made) << why(made);
    lvol_stores& stores = lvol_stores::of(registry);
    outcome<std::string> name = co_await stores.create("lvs", volume("a", 8, true));
    unsigned written = 0;
    error ended;
    scope writers;
    outcome<bdev_desc> desc = registry.open("lvs/a", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    writers.spawn(write_on(*channel, written, ended));
    co_await pause(1'000'000);
    outcome<> done = co_await stores.resize("lvs/a", 12 * cluster);
    EXPECT_TRUE(done) << why(done);
    result<bdev_event> told = co_await desc->next_event();
    EXPECT_TRUE(told && *told == bdev_event::resized);
    EXPECT_EQ(desc->device().blocks().value(), 12 * units);
    done = co_await put(registry, "lvs/a", 11 * units, units, 'z');
    EXPECT_TRUE(done) << why(done);
    name = co_await stores.snapshot("lvs/a", "s");
    EXPECT_TRUE(name) << why(name);
    // The writer runs into the new end.
    done = co_await stores.resize("lvs/a", 2 * cluster);
    EXPECT_TRUE(done) << why(done);
    result<> joined = co_await writers.join();
    EXPECT_TRUE(joined);
    EXPECT_TRUE(ended.is(ERANGE)) << describe(ended);
    EXPECT_GT(written, 0U);
    EXPECT_EQ(desc->device().blocks().value(), 2 * units);
}

TEST(lvol, users_of_a_volume_see_it_resized_under_io) { simulate(&check_hot_resize); }

}  // namespace
}  // namespace nacre::test
