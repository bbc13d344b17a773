// SPDX-License-Identifier: BSD-3-Clause
#include "modules/malloc/malloc.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "nacre/sim/disk_model.hpp"
#include "nacre/sim/sweep.hpp"
#include "nacre/sim/world.hpp"

namespace nacre {
namespace {

malloc_options options_of(const char* name, std::uint64_t blocks, std::uint32_t block_size) {
    malloc_options o;
    o.name = name;
    o.num_blocks = blocks;
    o.block_size = block_size;
    return o;
}

void run(task<void> (*test)(bdev_registry&), unsigned reactors = 1) {
    sim::with_registry(real_world(), test, reactors);
}

task<void> check_defaults(bdev_registry& registry) {
    outcome<std::string> first = co_await create_malloc(registry, options_of("", 16, 512));
    outcome<std::string> second = co_await create_malloc(registry, options_of("", 16, 4096));
    EXPECT_EQ(*first, "Malloc0");
    EXPECT_EQ(*second, "Malloc1");
    bdev& device = *registry.find("Malloc0");
    EXPECT_EQ(device.attributes().product_name, "Malloc disk");
    EXPECT_EQ(device.size().value(), 8192U);
    EXPECT_EQ(device.information(), json::value(json::object()));
    outcome<> gone = co_await delete_malloc(registry, "Malloc0");
    EXPECT_TRUE(gone);
    outcome<std::string> again = co_await create_malloc(registry, options_of("", 16, 512));
    EXPECT_EQ(*again, "Malloc0");
}

TEST(malloc_bdev, get_the_first_free_name_where_none_is_given) { run(&check_defaults); }

task<void> check_refusals(bdev_registry& registry) {
    outcome<std::string> a = co_await create_malloc(registry, options_of("a", 16, 512));
    EXPECT_TRUE(a);
    outcome<std::string> twice = co_await create_malloc(registry, options_of("a", 16, 512));
    EXPECT_TRUE(twice.error().code.is(EEXIST));
    outcome<std::string> odd = co_await create_malloc(registry, options_of("b", 16, 1000));
    EXPECT_TRUE(odd.error().code.is(EINVAL));
    outcome<std::string> none = co_await create_malloc(registry, options_of("b", 0, 512));
    EXPECT_TRUE(none.error().code.is(EINVAL));
    outcome<std::string> huge = co_await create_malloc(registry, options_of("b", 1ULL << 60, 512));
    EXPECT_TRUE(huge.error().code.is(EFBIG)) << huge.error().message;
    outcome<std::string> large = co_await create_malloc(registry, options_of("b", 1ULL << 50, 512));
    EXPECT_TRUE(large.error().code.is(ENOMEM)) << large.error().message;
    malloc_options metadata = options_of("b", 16, 512);
    metadata.md_size = 8;
    outcome<std::string> with_metadata = co_await create_malloc(registry, metadata);
    EXPECT_TRUE(with_metadata.error().code.is(ENOTSUP));
    outcome<> no_such = co_await delete_malloc(registry, "b");
    EXPECT_TRUE(no_such.error().code.is(ENODEV));
}

TEST(malloc_bdev, refuse_what_cannot_be_with_a_reason) { run(&check_refusals); }

task<void> check_configuration(bdev_registry& registry) {
    malloc_options o = options_of("m", 256, 512);
    o.uuid = *uuid::parse("11111111-2222-3333-4444-555555555555");
    o.physical_block_size = 4096;
    o.optimal_io_boundary = 8;
    outcome<std::string> made = co_await create_malloc(registry, o);
    EXPECT_TRUE(made);
    const json::value saved = registry.find("m")->configuration();
    EXPECT_EQ(saved.dump(),
              R"({"method":"bdev_malloc_create","params":{"name":"m","num_blocks":256,)"
              R"("block_size":512,"physical_block_size":4096,)"
              R"("uuid":"11111111-2222-3333-4444-555555555555","optimal_io_boundary":8,)"
              R"("md_size":0,"dif_type":0,"dif_is_head_of_md":false,"dif_pi_format":0,)"
              R"("numa_id":-1}})");
    outcome<> removed = co_await delete_malloc(registry, "m");
    EXPECT_TRUE(removed);
    outcome<malloc_options> loaded = json::decode<malloc_options>(saved["params"]);
    EXPECT_TRUE(loaded) << loaded.error().message;
    outcome<std::string> again = co_await create_malloc(registry, *loaded);
    EXPECT_TRUE(again);
    EXPECT_EQ(registry.find("m")->configuration(), saved);
}

TEST(malloc_bdev, are_made_again_by_their_configuration) { run(&check_configuration); }

task<void> exercise_device(bdev_registry& registry, malloc_options o, std::uint64_t seed) {
    outcome<std::string> made = co_await create_malloc(registry, o);
    outcome<bdev_desc> desc = registry.open(*made, access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    sim::disk_model model(desc->device());
    const sim::exercise_options options{.seed = seed, .operations = 4000};
    outcome<> same = co_await sim::exercise(*channel, model, options);
    EXPECT_TRUE(same) << same.error().message;
    channel->close();
    desc->close();
    outcome<> removed = co_await delete_malloc(registry, *made);
    EXPECT_TRUE(removed);
}

task<void> check_random_io(bdev_registry& registry) {
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
        malloc_options o = options_of("m", 2048, seed == 2 ? 512 : 4096);
        if (seed == 3) o.optimal_io_boundary = 7;  // everything is split
        co_await exercise_device(registry, o, seed);
    }
}

TEST(malloc_bdev, agree_with_a_vector_of_bytes_under_random_operations) { run(&check_random_io); }

task<void> check_discard(bdev_registry& registry) {
    outcome<std::string> made = co_await create_malloc(registry, options_of("m", 2048, 4096));
    outcome<bdev_desc> desc = registry.open("m", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    std::vector<std::byte> all(2048 * 4096, std::byte{0xa5});
    result<> r = co_await channel->write(lba(0), iov_view(all.data(), all.size()));
    EXPECT_TRUE(r);
    // Long enough for pages to go back to the kernel, and starting within a page's buffer.
    r = co_await channel->unmap(lba(3), block_count(2000));
    EXPECT_TRUE(r);
    r = co_await channel->read(lba(0), iov_view(all.data(), all.size()));
    EXPECT_TRUE(r);
    for (std::size_t block = 0; block < 2048; ++block) {
        const std::byte expected = block >= 3 && block < 2003 ? std::byte{0} : std::byte{0xa5};
        EXPECT_EQ(all[block * 4096], expected) << block;
        EXPECT_EQ(all[block * 4096 + 4095], expected) << block;
    }
}

TEST(malloc_bdev, read_zeros_where_a_large_range_was_unmapped) { run(&check_discard); }

// --- compare_and_write between threads ----------------------------------------------------------

constexpr std::uint64_t increments = 400;

/// Adds one to a counter that fills a block, by compare_and_write, until it has done so often
/// enough; meanwhile plain reads never see a block of two minds.
task<result<>> count_up(across<bdev_desc> desc) {
    outcome<bdev_channel> channel = desc->open_channel();
    if (!channel) co_return fail(channel.error().code);
    std::vector<std::uint64_t> seen(512), wanted(512);
    const iov_view into(seen.data(), 4096);
    for (std::uint64_t done = 0; done < increments;) {
        result<> r = co_await channel->read(lba(1), into);
        if (!r) co_return fail(r.error());
        for (const std::uint64_t word : seen)
            if (word != seen[0]) co_return fail(EILSEQ);
        wanted.assign(512, seen[0] + 1);
        const const_iov_view expected(seen.data(), 4096);
        const const_iov_view from(wanted.data(), 4096);
        r = co_await channel->compare_and_write(lba(1), expected, from);
        if (r)
            ++done;
        else if (!r.error().is(EILSEQ))
            co_return fail(r.error());
    }
    co_return result<>();
}

task<void> check_atomic(bdev_registry& registry) {
    outcome<std::string> made = co_await create_malloc(registry, options_of("m", 4, 4096));
    outcome<bdev_desc> desc = registry.open("m", access::write);
    std::vector<join_handle<result<>>> running;
    for (unsigned i = 0; i < 3; ++i) {
        thread& t = registry.host().make_thread("counter", static_cast<int>(i));
        running.push_back(t.spawn(&count_up, across<bdev_desc>(*desc)));
    }
    for (auto& r : running) {
        result<> ended = co_await r;
        EXPECT_TRUE(ended) << describe(ended.error());
    }
    outcome<bdev_channel> channel = desc->open_channel();
    std::uint64_t block[512];
    result<> read = co_await channel->read(lba(1), iov_view(block, 4096));
    EXPECT_TRUE(read);
    EXPECT_EQ(block[0], 3 * increments);
}

TEST(malloc_bdev, compare_and_write_atomically_between_threads) { run(&check_atomic, 3); }

TEST(malloc_bdev, compare_and_write_atomically_under_any_order_of_events) {
    auto swept = sim::for_seeds(20, [](std::uint64_t seed) {
        sim::world w(seed);
        sim::with_registry(w, &check_atomic, 3);
        return !testing::Test::HasFailure();
    });
    EXPECT_TRUE(swept) << swept.error().message;
}

}  // namespace
}  // namespace nacre
