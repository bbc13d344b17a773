// SPDX-License-Identifier: BSD-3-Clause
#include "modules/malloc/malloc.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "modules/modules.hpp"
#include "nacre/runtime/sleep.hpp"
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
    EXPECT_EQ(*again, "Malloc2");
    outcome<std::string> taken = co_await create_malloc(registry, options_of("Malloc3", 16, 512));
    EXPECT_TRUE(taken);
    outcome<std::string> collides = co_await create_malloc(registry, options_of("", 16, 512));
    EXPECT_TRUE(collides.error().code.is(EEXIST));
}

TEST(malloc_bdev, get_numbered_names_where_none_is_given) { run(&check_defaults); }

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
    malloc_options nowhere = options_of("b", 16, 512);
    nowhere.numa_id = 1000;
    outcome<std::string> on_no_node = co_await create_malloc(registry, nowhere);
    EXPECT_TRUE(!on_no_node && on_no_node.error().code.is(EINVAL));
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

// --- Zoned --------------------------------------------------------------------------------------

constexpr std::uint64_t zone_blocks = 16;

malloc_options zoned_options() {
    malloc_options o = options_of("z", 8 * zone_blocks, 512);
    o.zone_size = zone_blocks;
    o.zone_capacity = 12;
    o.max_open_zones = 2;
    o.max_active_zones = 3;
    o.max_append_blocks = 8;
    return o;
}

task<void> check_zones(bdev_registry& registry) {
    outcome<std::string> made = co_await create_malloc(registry, zoned_options());
    EXPECT_TRUE(made) << made.error().message;
    outcome<bdev_desc> desc = registry.open("z", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    const std::vector<std::byte> ones(12 * 512, std::byte{1});
    const auto of = [&](std::uint64_t blocks) { return const_iov_view(ones.data(), blocks * 512); };
    result<> r = co_await channel->write(lba(16), of(3));
    EXPECT_TRUE(r);
    r = co_await channel->write(lba(20), of(1));
    EXPECT_EQ(r.error(), zone_error::invalid_write);
    result<lba> put = co_await channel->zone_append(lba(16), of(2));
    EXPECT_TRUE(put && put->value() == 19);
    put = co_await channel->zone_append(lba(16), of(9));
    EXPECT_TRUE(put.error().is(EINVAL));
    r = co_await channel->write_zeroes(lba(21), block_count(7));
    EXPECT_TRUE(r);
    r = co_await channel->write(lba(28), of(1));
    EXPECT_EQ(r.error(), zone_error::full);
    r = co_await channel->unmap(lba(16), block_count(1));
    EXPECT_TRUE(r.error().is(ENOTSUP));

    std::vector<zone_descriptor> zones(20);
    result<std::size_t> reported = co_await channel->zone_report(lba(17), zones);
    EXPECT_TRUE(reported && *reported == 7) << "from the zone of the address to the last";
    EXPECT_EQ(zones[0].start.value(), 16U);
    EXPECT_EQ(zones[0].capacity.value(), 12U);
    EXPECT_EQ(zones[0].state, zone_state::full);
    EXPECT_EQ(zones[1].state, zone_state::empty);
    EXPECT_EQ(zones[1].write_pointer.value(), 32U);
    reported = co_await channel->zone_report(lba(128), zones);
    EXPECT_TRUE(reported.error().is(ERANGE));

    std::vector<std::byte> seen(32 * 512, std::byte{7});
    r = co_await channel->read(lba(0), iov_view(seen.data(), seen.size()));
    EXPECT_TRUE(r);
    for (std::size_t block = 0; block < 32; ++block)
        EXPECT_EQ(seen[block * 512], std::byte{block >= 16 && block < 21}) << block;

    r = co_await channel->zone_manage(zone_action::reset, lba(17));
    EXPECT_TRUE(r.error().is(EINVAL)) << "no zone starts there";
    r = co_await channel->zone_manage(zone_action::close, lba(16));
    EXPECT_EQ(r.error(), zone_error::invalid_transition);
    r = co_await channel->zone_manage(zone_action::reset, lba(16));
    EXPECT_TRUE(r);
    r = co_await channel->read(lba(16), iov_view(seen.data(), 512));
    EXPECT_TRUE(r && seen[0] == std::byte{0});
    put = co_await channel->zone_append(lba(16), of(1));
    EXPECT_TRUE(put && put->value() == 16);
    r = co_await channel->zone_manage_all(zone_action::finish);
    EXPECT_TRUE(r);
    reported = co_await channel->zone_report(lba(16), zones);
    EXPECT_TRUE(reported && zones[0].state == zone_state::full);
    EXPECT_EQ(zones[1].state, zone_state::empty);

    outcome<bdev_desc> reader = registry.open("z", access::read);
    outcome<bdev_channel> reading = reader->open_channel();
    put = co_await reading->zone_append(lba(32), of(1));
    EXPECT_TRUE(put.error().is(EBADF));
    r = co_await reading->zone_manage(zone_action::reset, lba(32));
    EXPECT_TRUE(r.error().is(EBADF));
    EXPECT_EQ(desc->device().configuration().dump(),
              R"({"method":"bdev_malloc_create","params":{"name":"z","num_blocks":128,)"
              R"("block_size":512,"physical_block_size":0,"uuid":")" +
                  desc->device().attributes().id.to_string() +
                  R"(","optimal_io_boundary":0,"md_size":0,"dif_type":0,)"
                  R"("dif_is_head_of_md":false,"dif_pi_format":0,"numa_id":-1,"zone_size":16,)"
                  R"("zone_capacity":12,"max_open_zones":2,"max_active_zones":3,)"
                  R"("max_append_blocks":8}})");
}

TEST(zoned_malloc, keeps_to_the_rules_of_its_zones) { run(&check_zones); }

task<result<std::vector<std::uint64_t>>> append_all(across<bdev_desc> desc) {
    outcome<bdev_channel> channel = desc->open_channel();
    if (!channel) co_return fail(channel.error().code);
    std::vector<std::uint64_t> where;
    std::vector<std::byte> block(512);
    for (std::uint64_t zone = 0; zone < 8; ++zone) {
        while (true) {
            const const_iov_view from(block.data(), 512);
            result<lba> put = co_await channel->zone_append(lba(zone * zone_blocks), from);
            if (!put && put.error() == zone_error::full) break;
            if (!put) co_return fail(put.error());
            where.push_back(put->value());
        }
    }
    co_return where;
}

task<void> check_appends_of_several(bdev_registry& registry) {
    outcome<std::string> made = co_await create_malloc(registry, zoned_options());
    EXPECT_TRUE(made);
    outcome<bdev_desc> desc = registry.open("z", access::write);
    std::vector<join_handle<result<std::vector<std::uint64_t>>>> running;
    for (std::size_t i = 0; i < 3; ++i) {
        thread& t = registry.host().make_thread("appender", static_cast<int>(i));
        running.push_back(t.spawn(&append_all, across<bdev_desc>(*desc)));
    }
    std::vector<std::uint64_t> together;
    for (auto& handle : running) {
        result<std::vector<std::uint64_t>> places = co_await handle;
        EXPECT_TRUE(places);
        if (places) together.insert(together.end(), places->begin(), places->end());
    }
    std::ranges::sort(together);
    EXPECT_EQ(together.size(), 8U * 12);
    EXPECT_EQ(std::ranges::adjacent_find(together), together.end()) << "a block given out twice";
}

TEST(zoned_malloc, gives_no_block_to_two_appends) { run(&check_appends_of_several, 3); }

task<void> check_zoned_refusals(bdev_registry& registry) {
    malloc_options o = zoned_options();
    o.zone_capacity = 17;
    outcome<std::string> made = co_await create_malloc(registry, o);
    EXPECT_NE(made.error().message.find("zone_capacity"), std::string::npos);
    o = zoned_options();
    o.num_blocks = 100;
    made = co_await create_malloc(registry, o);
    EXPECT_NE(made.error().message.find("whole number of zones"), std::string::npos);
    o = zoned_options();
    o.max_open_zones = 4;
    made = co_await create_malloc(registry, o);
    EXPECT_NE(made.error().message.find("max_active_zones 3"), std::string::npos);
    made = co_await create_from_uri(registry, "zoned+malloc:///z?size=1MiB");
    EXPECT_NE(made.error().message.find("give zone_size"), std::string::npos);
    made = co_await create_from_uri(
        registry, "zoned+malloc:///z?size=8MiB&zone_size=2MiB&zone_capacity=1000");
    EXPECT_NE(made.error().message.find("zone_capacity=1000"), std::string::npos);
    made = co_await create_from_uri(
        registry, "zoned+malloc:///z?size=8MiB&zone_size=2MiB&zone_capacity=1MiB");
    EXPECT_TRUE(made) << made.error().message;
    const zoned_attributes& z = registry.find("z")->attributes().zoned;
    EXPECT_EQ(z.zone_size.value(), 512U);
    EXPECT_EQ(z.zone_capacity.value(), 256U);
    outcome<> removed = co_await delete_malloc(registry, "z");
    EXPECT_TRUE(removed);
}

TEST(zoned_malloc, says_which_zones_do_not_fit) { run(&check_zoned_refusals); }

// --- Lending -------------------------------------------------------------------------------------

/// Of itself, and through layers that pass it on: the memory is the disk's own.
task<void> check_lending(bdev_registry& registry) {
    outcome<std::string> made = co_await create_malloc(registry, options_of("m", 64, 512));
    EXPECT_TRUE(made);
    std::string base = "m";
    const std::byte* own = nullptr;
    for (const char* uri : {"", "passthru:///p?base=m", "delay:///d?base=p", "error:///?base=d"}) {
        if (*uri != '\0') {
            std::string address = uri;
            made = co_await create_from_uri(registry, address);
            EXPECT_TRUE(made) << made.error().message;
            base = *made;
        }
        EXPECT_NE(registry.find(base)->attributes().operations & bit(opcode::zcopy), 0U) << base;
        outcome<bdev_desc> desc = registry.open(base, access::write);
        outcome<bdev_channel> channel = desc->open_channel();
        std::byte there[1024];
        for (const commit c : {commit::yes, commit::no}) {
            result<lent_blocks> lent = co_await channel->lend(lba(5), block_count(2), populate::no);
            EXPECT_TRUE(lent);
            if (!lent) co_return;
            if (own == nullptr) own = lent->memory().data();
            EXPECT_EQ(lent->memory().data(), own) << base;
            EXPECT_EQ(lent->memory().size(), 1024U);
            std::memset(lent->memory().data(), base[0] + int(c), 1024);
            result<> back = co_await lent->give_back(c);
            EXPECT_TRUE(back);
            const iov_view in(there, sizeof there);
            result<> read = co_await channel->read(lba(5), in);
            EXPECT_TRUE(read);
            EXPECT_EQ(there[1023], std::byte(base[0] + int(c)));
        }
        result<lent_blocks> lent = co_await channel->lend(lba(63), block_count(2), populate::no);
        EXPECT_TRUE(!lent && lent.error().is(ERANGE));
        // As SPDK counts: it was written when it was lent.
        io_statistics s = co_await registry.find(base)->collect_statistics();
        EXPECT_EQ(s.of(opcode::write).operations, 2U) << base;
        EXPECT_EQ(s.of(opcode::write).bytes, 2048U) << base;
    }
    EXPECT_EQ(registry.buffers().here().buffers_in_use(), 0U);
}

TEST(malloc_bdev, lend_their_own_memory_through_layers_too) { run(&check_lending); }

/// A part has its own addresses.
task<void> check_lent_part(bdev_registry& registry) {
    outcome<std::string> made = co_await create_malloc(registry, options_of("m", 64, 512));
    EXPECT_TRUE(made);
    made = co_await create_from_uri(registry, "split:///?base=m&split_count=2");
    EXPECT_TRUE(made) << made.error().message;
    outcome<bdev_desc> desc = registry.open("mp1", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    result<lent_blocks> lent = co_await channel->lend(lba(5), block_count(2), populate::yes);
    EXPECT_TRUE(lent);
    if (!lent) co_return;
    EXPECT_EQ(lent->first(), lba(5));
    std::memset(lent->memory().data(), 7, 1024);
    result<> back = co_await lent->give_back(commit::yes);
    EXPECT_TRUE(back);
    std::byte there[512];
    const iov_view in(there, sizeof there);
    result<> read = co_await channel->read(lba(6), in);
    EXPECT_TRUE(read);
    EXPECT_EQ(there[511], std::byte{7});
}

TEST(malloc_bdev, are_lent_through_a_part_by_its_own_addresses) { run(&check_lent_part); }

/// A lock of the disk waits for what was lent through a layer.
task<void> lock_the_disk(bdev_registry& registry, bool& locked) {
    result<range_lock> lock =
        co_await registry.find("m")->lock_range(lba(4), block_count(4), lock_kind::writes);
    EXPECT_TRUE(lock);
    locked = true;
    if (lock) co_await lock->release();
}

task<void> check_lent_and_locked(bdev_registry& registry) {
    outcome<std::string> made = co_await create_malloc(registry, options_of("m", 64, 512));
    EXPECT_TRUE(made);
    made = co_await create_from_uri(registry, "passthru:///p?base=m");
    EXPECT_TRUE(made);
    outcome<bdev_desc> desc = registry.open("p", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    result<lent_blocks> lent = co_await channel->lend(lba(5), block_count(2), populate::yes);
    EXPECT_TRUE(lent);
    if (!lent) co_return;
    bool locked = false;
    scope locking;
    locking.spawn(lock_the_disk(registry, locked));
    for (int i = 0; i < 50; ++i) co_await yield();
    EXPECT_FALSE(locked);
    result<> back = co_await lent->give_back(commit::yes);
    EXPECT_TRUE(back);
    result<> joined = co_await locking.join();
    EXPECT_TRUE(joined);
    EXPECT_TRUE(locked);
}

TEST(malloc_bdev, are_locked_below_when_what_was_lent_above_is_back) {
    run(&check_lent_and_locked);
}

}  // namespace
}  // namespace nacre
