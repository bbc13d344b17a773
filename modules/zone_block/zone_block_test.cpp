// SPDX-License-Identifier: BSD-3-Clause
//
// The zone layer's rules, over RAM, and what is zone_block's own.
#include "modules/zone_block/zone_block.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "modules/delay/delay.hpp"
#include "modules/error/error.hpp"
#include "modules/malloc/malloc.hpp"
#include "modules/modules.hpp"
#include "nacre/runtime/sleep.hpp"
#include "nacre/sim/disk_model.hpp"
#include "nacre/sim/world.hpp"

namespace nacre {
namespace {

constexpr std::size_t block_bytes = 512;
constexpr std::uint64_t zone_size = 16;
constexpr std::uint64_t capacity = 12;

void run(task<void> (*test)(bdev_registry&), unsigned reactors = 1) {
    sim::with_registry(real_world(), test, reactors);
}
void run_simulated(task<void> (*test)(bdev_registry&)) {
    sim::world w(7);
    sim::with_registry(w, test);
}

task<void> make_malloc(bdev_registry& registry, std::uint64_t blocks = 100,
                       std::uint32_t boundary = 0) {
    malloc_options o;
    o.name = "m";
    o.num_blocks = blocks;
    o.block_size = block_bytes;
    o.optimal_io_boundary = boundary;
    o.uuid = *uuid::parse("22b5352d-a22d-4c68-84d9-614d347073c9");
    outcome<std::string> made = co_await create_malloc(registry, std::move(o));
    EXPECT_TRUE(made) << made.error().message;
}
task<outcome<std::string>> make_zones(bdev_registry& registry, std::string base = "m") {
    zone_block_options o;
    o.name = "z";
    o.base_bdev = base;
    o.zone_capacity = capacity;
    o.optimal_open_zones = 3;
    outcome<std::string> made = co_await zone_block_module::of(registry).create(std::move(o));
    co_return made;
}

std::vector<std::byte> pattern(std::uint64_t blocks, int seed) {
    std::vector<std::byte> data(blocks * block_bytes);
    for (std::size_t i = 0; i < data.size(); ++i)
        data[i] = static_cast<std::byte>(
            1 + (i / block_bytes * 7 + static_cast<std::size_t>(seed)) % 255);
    return data;
}
/// How a write of so many blocks at this place ends.
task<error> put(bdev_channel& channel, std::uint64_t at, std::uint64_t blocks, int seed = 1) {
    const std::vector<std::byte> data = pattern(blocks, seed);
    const const_iov_view view(data.data(), data.size());
    result<> done = co_await channel.write(lba(at), view);
    co_return done ? error() : done.error();
}
task<result<lba>> append(bdev_channel& channel, std::uint64_t zone, std::uint64_t blocks,
                         int seed = 1) {
    const std::vector<std::byte> data = pattern(blocks, seed);
    const const_iov_view view(data.data(), data.size());
    result<lba> place = co_await channel.zone_append(lba(zone), view);
    co_return place;
}
task<error> act(bdev_channel& channel, zone_action action, std::uint64_t zone) {
    result<> done = co_await channel.zone_manage(action, lba(zone));
    co_return done ? error() : done.error();
}
task<std::vector<std::byte>> get(bdev_channel& channel, std::uint64_t at, std::uint64_t blocks) {
    std::vector<std::byte> data(blocks * block_bytes, std::byte{0xee});
    const iov_view view(data.data(), data.size());
    result<> done = co_await channel.read(lba(at), view);
    EXPECT_TRUE(done) << describe(done.error());
    co_return data;
}
task<zone_descriptor> zone_at(bdev_channel& channel, std::uint64_t zone) {
    zone_descriptor d;
    const std::span<zone_descriptor> one(&d, 1);
    result<std::size_t> n = co_await channel.zone_report(lba(zone), one);
    EXPECT_TRUE(n && *n == 1);
    co_return d;
}
bool zeros(const std::vector<std::byte>& data) {
    return std::ranges::all_of(data, [](std::byte b) { return b == std::byte{0}; });
}

task<void> open_zones(bdev_registry& registry, bdev_desc& desc, bdev_channel& channel,
                      std::string base = "m") {
    outcome<std::string> made = co_await make_zones(registry, std::move(base));
    EXPECT_TRUE(made) << made.error().message;
    outcome<bdev_desc> opened = registry.open("z", access::write);
    desc = std::move(*opened);
    outcome<bdev_channel> c = desc.open_channel();
    channel = std::move(*c);
}

// --- zone_block's own ---------------------------------------------------------------------------

task<void> check_full(bdev_registry& registry) {
    co_await make_malloc(registry);
    const std::vector<std::byte> before = pattern(100, 9);
    {
        outcome<bdev_desc> base = registry.open("m", access::write);
        outcome<bdev_channel> channel = base->open_channel();
        const error done = co_await put(*channel, 0, 100, 9);
        EXPECT_TRUE(done.ok());
    }
    bdev_desc desc;
    bdev_channel channel;
    co_await open_zones(registry, desc, channel);
    const bdev& z = desc.device();
    EXPECT_EQ(z.attributes().product_name, "zone_block");
    EXPECT_EQ(z.attributes().zoned.zone_size.value(), zone_size);
    EXPECT_EQ(z.attributes().zoned.zone_capacity.value(), capacity);
    EXPECT_EQ(z.attributes().zoned.open_zones_max, 0U);
    EXPECT_EQ(z.blocks().value(), 96U);
    EXPECT_EQ(z.information().dump(),
              R"({"zoned_block":{"name":"z","base_bdev":"m","zone_capacity":12,)"
              R"("optimal_open_zones":3}})");
    EXPECT_EQ(z.configuration().dump(),
              R"({"method":"bdev_zone_block_create","params":{"base_bdev":"m","name":"z",)"
              R"("zone_capacity":12,"optimal_open_zones":3}})");
    EXPECT_EQ(registry.find("m")->claimed(), claim::exclusive_write);
    const zone_descriptor last = co_await zone_at(channel, 80);
    EXPECT_EQ(last.state, zone_state::full);
    EXPECT_EQ(last.start, lba(80));
    // Its data is there, at its own address; what no zone can hold reads as zeros.
    const std::vector<std::byte> data = co_await get(channel, 16, 16);
    EXPECT_TRUE(std::equal(data.begin(), data.begin() + capacity * block_bytes,
                           before.begin() + 16 * block_bytes));
    EXPECT_TRUE(zeros({data.begin() + capacity * block_bytes, data.end()}));
}

TEST(zone_block, shows_what_its_base_holds_as_full_zones) { run(&check_full); }

task<void> check_refusals(bdev_registry& registry) {
    zone_block_module& module = zone_block_module::of(registry);
    co_await make_malloc(registry, 15);
    outcome<std::string> made = co_await make_zones(registry);
    EXPECT_TRUE(made.error().code.is(EINVAL)) << made.error().message;
    zone_block_options o{"z", "m", 0, 1};
    made = co_await module.create(o);
    EXPECT_TRUE(made.error().code.is(EINVAL));
    o = {"z", "m", 1, 0};
    made = co_await module.create(o);
    EXPECT_TRUE(made.error().code.is(EINVAL));
    o = {"z", "m", UINT64_MAX, 1};
    made = co_await module.create(o);
    EXPECT_TRUE(made.error().code.is(EINVAL));
    EXPECT_EQ(registry.find("m")->claimed(), claim::none);
    o = {"z", "m", 8, 1};
    made = co_await module.create(o);
    EXPECT_TRUE(made) << made.error().message;
    o = {"y", "m", 8, 1};
    made = co_await module.create(o);
    EXPECT_TRUE(made.error().code.is(EEXIST));
    o = {"y", "z", 8, 1};
    made = co_await module.create(o);
    EXPECT_TRUE(made.error().code.is(ENOTSUP)) << made.error().message;
    outcome<> gone = co_await module.destroy("m");
    EXPECT_TRUE(gone.error().code.is(ENODEV));
    gone = co_await module.destroy("z");
    EXPECT_TRUE(gone);
    EXPECT_EQ(registry.find("m")->claimed(), claim::none);
}

TEST(zone_block, refuses_what_makes_no_zones) { run(&check_refusals); }

task<void> check_late_base(bdev_registry& registry) {
    zone_block_module& module = zone_block_module::of(registry);
    outcome<std::string> made = co_await make_zones(registry);
    EXPECT_TRUE(made) << made.error().message;
    EXPECT_EQ(registry.find("z"), nullptr);
    EXPECT_EQ(module.configuration().size(), 1U);
    co_await make_malloc(registry);
    EXPECT_NE(registry.find("z"), nullptr);
    EXPECT_EQ(module.configuration().size(), 0U);
    // It goes with its base, and comes back with it.
    outcome<> gone = co_await delete_malloc(registry, "m");
    EXPECT_TRUE(gone);
    EXPECT_EQ(registry.find("z"), nullptr);
    co_await make_malloc(registry);
    EXPECT_NE(registry.find("z"), nullptr);
}

TEST(zone_block, comes_when_its_base_comes) { run(&check_late_base); }

task<void> check_uri(bdev_registry& registry) {
    co_await make_malloc(registry);
    outcome<std::string> made =
        co_await create_from_uri(registry, "zone-block:///z?base=m&zone_capacity=6KiB");
    EXPECT_TRUE(made) << made.error().message;
    EXPECT_EQ(registry.find("z")->attributes().zoned.zone_capacity.value(), capacity);
    made = co_await create_from_uri(registry, "zone-block:///y?base=m&zone_capacity=100");
    EXPECT_TRUE(made.error().code.is(EINVAL));
}

TEST(zone_block, is_made_from_a_uri) { run(&check_uri); }

// --- The rules of NVMe ZNS ----------------------------------------------------------------------

task<void> check_illegal(bdev_registry& registry) {
    co_await make_malloc(registry);
    bdev_desc desc;
    bdev_channel channel;
    co_await open_zones(registry, desc, channel);
    error e = co_await put(channel, 0, 1);
    EXPECT_EQ(e, zone_error::full);
    result<lba> place = co_await append(channel, 0, 1);
    EXPECT_EQ(place.error(), zone_error::full);
    e = co_await act(channel, zone_action::open, 0);
    EXPECT_EQ(e, zone_error::invalid_transition);
    e = co_await act(channel, zone_action::close, 0);
    EXPECT_EQ(e, zone_error::invalid_transition);
    e = co_await act(channel, zone_action::offline, 0);
    EXPECT_EQ(e, zone_error::invalid_transition);
    e = co_await act(channel, zone_action::reset, 3);
    EXPECT_TRUE(e.is(EINVAL));
    e = co_await act(channel, zone_action::reset, 0);
    EXPECT_TRUE(e.ok());
    e = co_await put(channel, 1, 1);
    EXPECT_EQ(e, zone_error::invalid_write);
    e = co_await put(channel, 0, capacity + 1);
    EXPECT_EQ(e, zone_error::boundary);
    place = co_await append(channel, 1, 1);
    EXPECT_TRUE(place.error().is(EINVAL));
    place = co_await append(channel, 0, capacity + 1);
    EXPECT_EQ(place.error(), zone_error::boundary);
    e = co_await put(channel, 0, 5);
    EXPECT_TRUE(e.ok());
    e = co_await put(channel, 0, 1);
    EXPECT_EQ(e, zone_error::invalid_write);
    e = co_await put(channel, 6, 1);
    EXPECT_EQ(e, zone_error::invalid_write);
    e = co_await put(channel, 5, 8);
    EXPECT_EQ(e, zone_error::boundary);
    const std::vector<std::byte> data = co_await get(channel, 0, 16);
    const std::vector<std::byte> wanted = pattern(5, 1);
    EXPECT_TRUE(std::equal(wanted.begin(), wanted.end(), data.begin()));
    EXPECT_TRUE(zeros({data.begin() + 5 * block_bytes, data.end()}));
}

TEST(zone_layer, refuses_illegal_writes_with_the_status_of_the_specification) {
    run(&check_illegal);
}

task<void> check_life(bdev_registry& registry) {
    co_await make_malloc(registry);
    bdev_desc desc;
    bdev_channel channel;
    co_await open_zones(registry, desc, channel);
    result<> done = co_await channel.zone_manage_all(zone_action::reset);
    EXPECT_TRUE(done);
    zone_descriptor d = co_await zone_at(channel, 32);
    EXPECT_EQ(d.state, zone_state::empty);
    std::vector<std::byte> data = co_await get(channel, 0, 96);
    EXPECT_TRUE(zeros(data));
    result<lba> place = co_await append(channel, 32, 3, 4);
    EXPECT_EQ(place->value(), 32U);
    place = co_await append(channel, 32, 2, 5);
    EXPECT_EQ(place->value(), 35U);
    error e = co_await put(channel, 37, 1, 6);
    EXPECT_TRUE(e.ok());
    d = co_await zone_at(channel, 32);
    EXPECT_EQ(d.state, zone_state::implicitly_open);
    EXPECT_EQ(d.write_pointer, lba(38));
    e = co_await act(channel, zone_action::close, 32);
    EXPECT_TRUE(e.ok());
    e = co_await act(channel, zone_action::open, 32);
    EXPECT_TRUE(e.ok());
    d = co_await zone_at(channel, 32);
    EXPECT_EQ(d.state, zone_state::explicitly_open);
    done = co_await channel.write_zeroes(lba(38), block_count(1));
    EXPECT_TRUE(done);
    e = co_await act(channel, zone_action::finish, 32);
    EXPECT_TRUE(e.ok());
    d = co_await zone_at(channel, 32);
    EXPECT_EQ(d.state, zone_state::full);
    data = co_await get(channel, 32, 7);
    std::vector<std::byte> wanted = pattern(3, 4);
    const std::vector<std::byte> second = pattern(2, 5);
    const std::vector<std::byte> third = pattern(1, 6);
    wanted.insert(wanted.end(), second.begin(), second.end());
    wanted.insert(wanted.end(), third.begin(), third.end());
    wanted.resize(7 * block_bytes);
    EXPECT_EQ(data, wanted);
    e = co_await put(channel, 39, 1);
    EXPECT_EQ(e, zone_error::full);
    // Filled by writing, as well.
    for (std::uint64_t i = 0; i < capacity; ++i) {
        e = co_await put(channel, 48 + i, 1);
        EXPECT_TRUE(e.ok());
    }
    d = co_await zone_at(channel, 48);
    EXPECT_EQ(d.state, zone_state::full);
}

TEST(zone_layer, takes_zones_through_their_states) { run(&check_life); }
TEST(zone_layer, takes_zones_through_their_states_over_a_simulated_world) {
    run_simulated(&check_life);
}

task<void> check_boundaries(bdev_registry& registry) {
    co_await make_malloc(registry, 100, 4);
    bdev_desc desc;
    bdev_channel channel;
    co_await open_zones(registry, desc, channel);
    EXPECT_EQ(desc.device().attributes().optimal_boundary.value(), 0U);
    error e = co_await act(channel, zone_action::reset, 16);
    EXPECT_TRUE(e.ok());
    e = co_await put(channel, 16, 3, 1);
    EXPECT_TRUE(e.ok());
    result<lba> place = co_await append(channel, 16, 7, 2);
    EXPECT_EQ(place->value(), 19U);
    result<> done = co_await channel.write_zeroes(lba(26), block_count(1));
    EXPECT_TRUE(done);
    std::vector<std::byte> wanted = pattern(3, 1);
    const std::vector<std::byte> second = pattern(7, 2);
    wanted.insert(wanted.end(), second.begin(), second.end());
    wanted.resize(16 * block_bytes);
    const std::vector<std::byte> data = co_await get(channel, 16, 16);
    EXPECT_EQ(data, wanted);
}

TEST(zone_layer, stands_on_a_base_that_wants_its_io_split) { run(&check_boundaries); }

// --- Failures and order -------------------------------------------------------------------------

task<result<>> put_as_child(bdev_channel& channel, std::uint64_t at, std::uint64_t blocks,
                            error& end) {
    end = co_await put(channel, at, blocks);
    co_return result<>();
}

task<void> check_failure(bdev_registry& registry) {
    co_await make_malloc(registry);
    error_options below;
    below.base_name = "m";
    outcome<std::string> made = co_await create_error(registry, below);
    EXPECT_TRUE(made) << made.error().message;
    bdev_desc desc;
    bdev_channel channel;
    co_await open_zones(registry, desc, channel, "EE_m");
    result<> done = co_await channel.zone_manage_all(zone_action::reset);
    EXPECT_TRUE(done);
    error e = co_await put(channel, 0, 2);
    EXPECT_TRUE(e.ok());
    error_injection injection;
    injection.name = "EE_m";
    injection.io_type = error_io_type::write;
    injection.error_type = error_type::failure;
    injection.num = 1;
    outcome<> injected = inject_error(registry, injection);
    EXPECT_TRUE(injected) << injected.error().message;
    // The first of three fails, and so do those behind it.
    error ends[3];
    {
        scope children;
        for (std::uint64_t i = 0; i < 3; ++i)
            children.spawn(put_as_child(channel, 2 + 2 * i, 2, ends[i]));
        result<> joined = co_await children.join();
        EXPECT_TRUE(joined);
    }
    for (const error& each : ends) EXPECT_TRUE(each.failed());
    zone_descriptor d = co_await zone_at(channel, 0);
    EXPECT_EQ(d.write_pointer, lba(2));
    const std::vector<std::byte> data = co_await get(channel, 2, 10);
    EXPECT_TRUE(zeros(data));
    e = co_await put(channel, 2, 10);
    EXPECT_TRUE(e.ok());
    // The last block of a zone fails: it is not full.
    e = co_await put(channel, 16, 11);
    EXPECT_TRUE(e.ok());
    injected = inject_error(registry, injection);
    EXPECT_TRUE(injected);
    e = co_await put(channel, 27, 1);
    EXPECT_TRUE(e.failed());
    d = co_await zone_at(channel, 16);
    EXPECT_EQ(d.state, zone_state::closed);
    EXPECT_EQ(d.write_pointer, lba(27));
    // And the first one: it is empty.
    injected = inject_error(registry, injection);
    result<lba> place = co_await append(channel, 32, 1);
    EXPECT_FALSE(place);
    d = co_await zone_at(channel, 32);
    EXPECT_EQ(d.state, zone_state::empty);
}

TEST(zone_layer, takes_the_write_pointer_back_when_a_write_fails) { run(&check_failure); }

task<void> check_waiting(bdev_registry& registry) {
    co_await make_malloc(registry);
    delay_options slow;
    slow.base_bdev_name = "m";
    slow.name = "d";
    slow.avg_read_latency = slow.p99_read_latency = 10;
    slow.avg_write_latency = slow.p99_write_latency = 50'000;
    outcome<std::string> made = co_await create_delay(registry, slow);
    EXPECT_TRUE(made) << made.error().message;
    bdev_desc desc;
    bdev_channel channel;
    co_await open_zones(registry, desc, channel, "d");
    error e = co_await act(channel, zone_action::reset, 0);
    EXPECT_TRUE(e.ok());
    error first, late;
    scope children;
    children.spawn(put_as_child(channel, 0, 4, first));
    result<> slept = co_await sleep_for(1'000'000);
    EXPECT_TRUE(slept);
    // It waits for the write, and a write that comes meanwhile waits for it.
    const auto reset_then = [](bdev_channel& c, error& end) -> task<result<>> {
        end = co_await act(c, zone_action::reset, 0);
        co_return result<>();
    };
    error ended;
    children.spawn(reset_then(channel, ended));
    slept = co_await sleep_for(1'000'000);
    children.spawn(put_as_child(channel, 0, 1, late));
    result<> joined = co_await children.join();
    EXPECT_TRUE(joined);
    EXPECT_TRUE(first.ok());
    EXPECT_TRUE(ended.ok());
    EXPECT_TRUE(late.ok()) << describe(late);
    const zone_descriptor d = co_await zone_at(channel, 0);
    EXPECT_EQ(d.write_pointer, lba(1));
}

TEST(zone_layer, resets_a_zone_after_the_writes_that_it_has) { run_simulated(&check_waiting); }

// --- Threads ------------------------------------------------------------------------------------

constexpr std::uint64_t big_zone = 1000;

task<std::uint64_t> append_many(across<bdev_desc> desc, std::uint8_t who) {
    outcome<bdev_channel> channel = desc->open_channel();
    std::uint64_t appended = 0;
    std::vector<std::byte> data(block_bytes, std::byte{who});
    const const_iov_view view(data.data(), data.size());
    while (true) {
        result<lba> place = co_await channel->zone_append(lba(), view);
        if (!place) {
            EXPECT_EQ(place.error(), zone_error::full);
            co_return appended;
        }
        ++appended;
    }
}

task<void> check_threads(bdev_registry& registry) {
    co_await make_malloc(registry, 1024);
    zone_block_options o{"z", "m", big_zone, 1};
    outcome<std::string> made = co_await zone_block_module::of(registry).create(o);
    EXPECT_TRUE(made) << made.error().message;
    outcome<bdev_desc> desc = registry.open("z", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    const error e = co_await act(*channel, zone_action::reset, 0);
    EXPECT_TRUE(e.ok());
    runtime& rt = registry.host();
    auto one = rt.make_thread("one").spawn(&append_many, across<bdev_desc>(*desc), std::uint8_t{1});
    auto two = rt.make_thread("two").spawn(&append_many, across<bdev_desc>(*desc), std::uint8_t{2});
    const std::uint64_t by_one = co_await one;
    const std::uint64_t by_two = co_await two;
    EXPECT_EQ(by_one + by_two, big_zone);
    const std::vector<std::byte> data = co_await get(*channel, 0, big_zone);
    std::uint64_t blocks[3]{};
    for (std::uint64_t b = 0; b < big_zone; ++b)
        ++blocks[static_cast<std::size_t>(data[b * block_bytes]) % 3];
    EXPECT_EQ(blocks[0], 0U);
    EXPECT_EQ(blocks[1], by_one);
    EXPECT_EQ(blocks[2], by_two);
}

TEST(zone_layer, takes_appends_of_several_threads_to_one_zone) { run(&check_threads, 3); }

}  // namespace
}  // namespace nacre
