// SPDX-License-Identifier: BSD-3-Clause
#include "modules/split/split.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "modules/error/error.hpp"
#include "modules/file/file.hpp"
#include "modules/malloc/malloc.hpp"
#include "modules/modules.hpp"
#include "modules/null/null.hpp"
#include "nacre/memory/dma_buffer.hpp"
#include "nacre/sim/disk_model.hpp"
#include "nacre/sim/sweep.hpp"
#include "nacre/sim/world.hpp"

namespace nacre {
namespace {

void run(task<void> (*test)(bdev_registry&), unsigned reactors = 1) {
    sim::with_registry(real_world(), test, reactors);
}

task<void> make_malloc(bdev_registry& registry, std::uint64_t blocks = 1024) {
    malloc_options o;
    o.name = "m";
    o.num_blocks = blocks;
    o.block_size = 512;
    o.uuid = *uuid::parse("22b5352d-a22d-4c68-84d9-614d347073c9");
    outcome<std::string> made = co_await create_malloc(registry, std::move(o));
    EXPECT_TRUE(made) << made.error().message;
}

task<outcome<std::vector<std::string>>> split(bdev_registry& registry, std::uint32_t count,
                                              std::uint64_t size_mb = 0) {
    split_options o;
    o.base_bdev = "m";
    o.split_count = count;
    o.split_size_mb = size_mb;
    outcome<std::vector<std::string>> made =
        co_await split_module::of(registry).create(std::move(o));
    co_return made;
}

task<void> check_parts(bdev_registry& registry) {
    co_await make_malloc(registry, 1027);
    outcome<std::vector<std::string>> made = co_await split(registry, 4);
    EXPECT_TRUE(made) << made.error().message;
    EXPECT_EQ(*made, (std::vector<std::string>{"mp0", "mp1", "mp2", "mp3"}));
    const bdev& third = *registry.find("mp2");
    EXPECT_EQ(third.blocks().value(), 256U);
    EXPECT_EQ(third.attributes().product_name, "Split Disk");
    EXPECT_EQ(third.information().dump(), R"({"split":{"base_bdev":"m","offset_blocks":512}})");
    EXPECT_TRUE(third.configuration().is_null());
    EXPECT_EQ(registry.find("mp0")->configuration().dump(),
              R"({"method":"bdev_split_create","params":{"base_bdev":"m","split_count":4,)"
              R"("split_size_mb":0}})");
    EXPECT_EQ(registry.find("m")->claimed(), claim::exclusive_write);
    const uuid id = third.attributes().id;
    EXPECT_NE(id, registry.find("mp1")->attributes().id);
    outcome<> gone = co_await split_module::of(registry).destroy("m");
    EXPECT_TRUE(gone);
    EXPECT_EQ(registry.find("mp0"), nullptr);
    EXPECT_EQ(registry.find("m")->claimed(), claim::none);
    made = co_await split(registry, 4);
    EXPECT_EQ(registry.find("mp2")->attributes().id, id);
}

TEST(split, makes_parts_that_are_the_same_each_time) { run(&check_parts); }

task<void> check_refusals(bdev_registry& registry) {
    co_await make_malloc(registry, 4096);
    outcome<std::vector<std::string>> made = co_await split(registry, 0);
    EXPECT_TRUE(made.error().code.is(EINVAL));
    made = co_await split(registry, 5000);
    EXPECT_TRUE(made.error().code.is(EINVAL));
    made = co_await split(registry, 2, 3);
    EXPECT_TRUE(made.error().code.is(EINVAL)) << made.error().message;
    EXPECT_EQ(registry.find("m")->claimed(), claim::none);
    outcome<> gone = co_await split_module::of(registry).destroy("m");
    EXPECT_TRUE(gone.error().code.is(ENODEV));
    // A name that is taken undoes the parts made before it.
    null_options other;
    other.name = "mp1";
    other.num_blocks = 8;
    outcome<std::string> null = co_await create_null(registry, std::move(other));
    EXPECT_TRUE(null);
    made = co_await split(registry, 2);
    EXPECT_TRUE(made.error().code.is(EEXIST)) << made.error().message;
    EXPECT_EQ(registry.find("mp0"), nullptr);
    EXPECT_EQ(registry.find("m")->claimed(), claim::none);
    outcome<> removed = co_await registry.remove("mp1");
    EXPECT_TRUE(removed);
    made = co_await split(registry, 3, 1);  // two of them fit
    EXPECT_EQ(made->size(), 2U);
    made = co_await split(registry, 2);
    EXPECT_TRUE(made.error().code.is(EEXIST));
}

TEST(split, is_refused_with_a_reason_and_leaves_nothing_behind) { run(&check_refusals); }

task<void> check_return(bdev_registry& registry) {
    outcome<std::vector<std::string>> made = co_await split(registry, 2);
    EXPECT_TRUE(made && made->empty());
    EXPECT_EQ(json::value(split_module::of(registry).configuration()).size(), 1U);
    for (int round = 0; round < 2; ++round) {
        co_await make_malloc(registry);
        EXPECT_NE(registry.find("mp1"), nullptr);
        EXPECT_EQ(json::value(split_module::of(registry).configuration()).size(), 0U);
        outcome<bdev_desc> desc = registry.open("mp1", access::write);
        outcome<bdev_channel> channel = desc->open_channel();
        outcome<> removed = co_await registry.remove("m");
        EXPECT_TRUE(removed);
        EXPECT_EQ(registry.find("mp0"), nullptr);
        std::vector<std::byte> data(512);
        const iov_view view(data.data(), data.size());
        result<> got = co_await channel->read(lba(0), view);
        EXPECT_EQ(got.error().to_errno(), ENODEV);
    }
}

TEST(split, waits_for_its_base_and_goes_with_it) { run(&check_return); }

task<void> check_places(bdev_registry& registry) {
    co_await make_malloc(registry);
    outcome<std::vector<std::string>> made = co_await split(registry, 4);
    outcome<bdev_desc> whole = registry.open("m", access::read);
    outcome<bdev_channel> below = whole->open_channel();
    std::vector<std::byte> data(1024), seen(1024);
    for (unsigned i = 0; i < 4; ++i) {
        outcome<bdev_desc> part = registry.open((*made)[i], access::write);
        outcome<bdev_channel> channel = part->open_channel();
        data.assign(1024, static_cast<std::byte>(i + 1));
        const const_iov_view out(data.data(), data.size());
        result<> done = co_await channel->write(lba(254), out);
        EXPECT_TRUE(done);
        done = co_await channel->write(lba(255), out);
        EXPECT_EQ(done.error().to_errno(), ERANGE) << "beyond its end";
        const iov_view in(seen.data(), seen.size());
        done = co_await below->read(lba(i * 256 + 254), in);
        EXPECT_EQ(seen, data);
        done = co_await channel->unmap(lba(254), block_count(2));
        EXPECT_TRUE(done);
        done = co_await below->read(lba(i * 256 + 254), in);
        EXPECT_EQ(seen, std::vector<std::byte>(1024));
    }
}

TEST(split, parts_lie_one_after_the_other) { run(&check_places); }

task<void> check_seek(bdev_registry& registry) {
    file_options o;
    o.name = "m";
    o.filename = "/m";
    o.block_size = 4096;
    outcome<std::string> base = co_await create_file(registry, std::move(o));
    EXPECT_TRUE(base) << base.error().message;
    outcome<std::vector<std::string>> made = co_await split(registry, 2);
    outcome<bdev_desc> second = registry.open("mp1", access::write);
    outcome<bdev_channel> channel = second->open_channel();
    outcome<bdev_desc> first = registry.open("mp0", access::read);
    outcome<bdev_channel> other = first->open_channel();
    result<dma_buffer> memory = dma_buffer::allocate(byte_count(4096));
    const_iov_view data = memory->view();
    result<> done = co_await channel->write(lba(40), data);
    EXPECT_TRUE(done);
    result<std::optional<lba>> found = co_await channel->seek_data(lba(0));
    EXPECT_TRUE(found && found->has_value());
    EXPECT_EQ((*found)->value(), 40U);
    found = co_await other->seek_data(lba(0));
    EXPECT_TRUE(found && !found->has_value()) << "it lies in the other part";
}

TEST(split, finds_data_within_a_part_only) {
    sim::world w(1);
    w.make_file("/m", 1 << 20);
    sim::with_registry(w, &check_seek);
}

task<void> check_starved(bdev_registry& registry) {
    co_await make_malloc(registry);
    error_options e;
    e.base_name = "m";
    outcome<std::string> layer = co_await create_error(registry, std::move(e));
    split_options o;
    o.base_bdev = *layer;
    o.split_count = 2;
    outcome<std::vector<std::string>> made =
        co_await split_module::of(registry).create(std::move(o));
    EXPECT_TRUE(made);
    outcome<bdev_desc> desc = registry.open((*made)[1], access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    error_injection injection;
    injection.name = *layer;
    injection.io_type = error_io_type::all;
    injection.error_type = error_type::nomem;
    injection.num = 2;
    outcome<> injected = inject_error(registry, injection);
    EXPECT_TRUE(injected);
    std::vector<std::byte> data(512, std::byte{9}), seen(512);
    const const_iov_view out(data.data(), data.size());
    result<> done = co_await channel->write(lba(7), out);
    EXPECT_TRUE(done);
    outcome<bdev_desc> below = registry.open("m", access::read);
    outcome<bdev_channel> base = below->open_channel();
    const iov_view in(seen.data(), seen.size());
    done = co_await base->read(lba(512 + 7), in);
    EXPECT_EQ(seen, data);
}

TEST(split, goes_to_the_same_place_again_after_a_lack_of_memory) { run(&check_starved); }

task<void> check_random(bdev_registry& registry) {
    co_await make_malloc(registry);
    outcome<std::vector<std::string>> made = co_await split(registry, 3);
    outcome<bdev_desc> desc = registry.open((*made)[1], access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    sim::disk_model model(desc->device());
    const sim::exercise_options options{.seed = 3, .operations = 3000};
    outcome<> same = co_await sim::exercise(*channel, model, options);
    EXPECT_TRUE(same) << same.error().message;
}

TEST(split, agrees_with_a_vector_of_bytes_under_random_operations) { run(&check_random); }

}  // namespace
}  // namespace nacre
