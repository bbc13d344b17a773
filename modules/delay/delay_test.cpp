// SPDX-License-Identifier: BSD-3-Clause
#include "modules/delay/delay.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "modules/malloc/malloc.hpp"
#include "modules/modules.hpp"
#include "nacre/runtime/sleep.hpp"
#include "nacre/runtime/timeout.hpp"
#include "nacre/sim/disk_model.hpp"
#include "nacre/sim/sweep.hpp"
#include "nacre/sim/world.hpp"

namespace nacre {
namespace {

/// In the simulated world: time passes only where it is waited for.
void simulate(task<void> (*test)(bdev_registry&), unsigned reactors = 1) {
    auto swept = sim::for_seeds(10, [=](std::uint64_t seed) {
        sim::world w(seed);
        sim::with_registry(w, test, reactors);
        return !testing::Test::HasFailure();
    });
    EXPECT_TRUE(swept) << swept.error().message;
}

task<void> make_delay(bdev_registry& registry, std::uint64_t read_us, std::uint64_t write_us) {
    malloc_options m;
    m.name = "m";
    m.num_blocks = 1024;
    m.uuid = *uuid::parse("22b5352d-a22d-4c68-84d9-614d347073c9");
    outcome<std::string> made = co_await create_malloc(registry, std::move(m));
    EXPECT_TRUE(made);
    delay_options o;
    o.name = "d";
    o.base_bdev_name = "m";
    o.avg_read_latency = read_us;
    o.p99_read_latency = read_us * 10;
    o.avg_write_latency = write_us;
    o.p99_write_latency = write_us * 10;
    made = co_await create_delay(registry, std::move(o));
    EXPECT_TRUE(made) << made.error().message;
}

task<void> check_latencies(bdev_registry& registry) {
    co_await make_delay(registry, 1000, 5000);
    outcome<bdev_desc> desc = registry.open("d", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    std::vector<std::byte> block(4096);
    const iov_view view(block.data(), block.size());
    constexpr unsigned rounds = 2000;
    unsigned slow = 0;
    for (unsigned i = 0; i < rounds; ++i) {
        const std::uint64_t start = registry.home_world().monotonic_ns();
        result<> r = co_await channel->read(lba(0), view);
        EXPECT_TRUE(r);
        const std::uint64_t took = registry.home_world().monotonic_ns() - start;
        EXPECT_GE(took, 1'000'000U);
        if (took >= 10'000'000)
            ++slow;
        else
            EXPECT_LT(took, 1'100'000U);
    }
    EXPECT_GT(slow, rounds / 500);
    EXPECT_LT(slow, rounds / 25);
    for (const bool flush : {false, true}) {
        const std::uint64_t start = registry.home_world().monotonic_ns();
        result<> r;
        if (flush)
            r = co_await channel->flush();
        else
            r = co_await channel->write(lba(0), view);
        EXPECT_TRUE(r);
        EXPECT_GE(registry.home_world().monotonic_ns() - start, 5'000'000U);
    }
}

TEST(delay, takes_its_average_and_sometimes_its_p99) { simulate(&check_latencies); }

task<void> check_attributes(bdev_registry& registry) {
    co_await make_delay(registry, 1, 2);
    const bdev& device = *registry.find("d");
    EXPECT_EQ(device.attributes().product_name, "delay");
    // As a real SPDK answered over a base of this UUID.
    EXPECT_EQ(device.attributes().id.to_string(), "588a0609-dd49-5a06-be2c-c2b3ebe2fe0d");
    EXPECT_EQ(device.information().dump(),
              R"({"delay":{"name":"d","base_bdev_name":"m",)"
              R"("uuid":"588a0609-dd49-5a06-be2c-c2b3ebe2fe0d","avg_read_latency":1,)"
              R"("p99_read_latency":10,"avg_write_latency":2,"p99_write_latency":20}})");
    outcome<> updated = update_delay(registry, {"d", delay_latency::avg_write, 15});
    EXPECT_TRUE(updated);
    updated = update_delay(registry, {"d", delay_latency::avg_write, 25});
    EXPECT_TRUE(updated.error().code.is(EINVAL)) << updated.error().message;
    updated = update_delay(registry, {"m", delay_latency::avg_write, 25});
    EXPECT_TRUE(updated.error().code.is(ENODEV));
    const json::value saved = device.configuration();
    EXPECT_EQ(saved["params"]["avg_write_latency"], json::value(15));
    outcome<> removed = co_await delete_delay(registry, "d");
    EXPECT_TRUE(removed);
    outcome<delay_options> loaded = json::decode<delay_options>(saved["params"]);
    EXPECT_TRUE(loaded) << loaded.error().message;
    loaded->avg_read_latency = 11;
    outcome<std::string> made = co_await create_delay(registry, *loaded);
    EXPECT_TRUE(made.error().code.is(EINVAL));
    loaded->avg_read_latency = 1;
    made = co_await create_delay(registry, *loaded);
    EXPECT_EQ(registry.find("d")->configuration(), saved);
    outcome<delay_update> update = json::decode<delay_update>(
        *json::parse(R"({"delay_bdev_name":"d","latency_type":"p99_read","latency_us":7})"));
    EXPECT_EQ(update->latency_type, delay_latency::p99_read);
}

TEST(delay, is_described_and_made_again_by_its_configuration) { simulate(&check_attributes); }

task<result<>> read_first(const bdev_channel& channel, std::span<std::byte> into) {
    result<> r = co_await channel.read(lba(0), iov_view(into));
    co_return r;
}

task<void> check_abort(bdev_registry& registry) {
    co_await make_delay(registry, 10'000'000, 10'000'000);
    outcome<bdev_desc> desc = registry.open("d", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    std::vector<std::byte> block(4096);
    const std::uint64_t start = registry.home_world().monotonic_ns();
    result<> r = co_await with_timeout(read_first(*channel, block), 3'000'000);
    EXPECT_TRUE(r.error().is(ETIMEDOUT));
    channel->set_timeout(5'000'000);
    r = co_await channel->write(lba(0), iov_view(block.data(), block.size()));
    EXPECT_TRUE(r.error().is(ETIMEDOUT)) << describe(r.error());
    channel->set_timeout(0);
    EXPECT_LT(registry.home_world().monotonic_ns() - start, 20'000'000U);
    // Neither reached the base.
    io_statistics below = co_await registry.find("m")->collect_statistics();
    EXPECT_EQ(below.of(opcode::read).operations + below.of(opcode::write).operations, 0U);
    io_statistics here = co_await registry.find("d")->collect_statistics();
    EXPECT_EQ(here.errors, 2U);
}

TEST(delay, gives_up_what_waits) { simulate(&check_abort); }

task<void> check_timeouts(bdev_registry& registry) {
    // Ops of one channel that take longer than they may, and others that do not.
    co_await make_delay(registry, 1000, 20'000);
    outcome<bdev_desc> desc = registry.open("d", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    channel->set_timeout(15'000'000);
    std::vector<std::byte> block(4096);
    for (unsigned i = 0; i < 20; ++i) {
        const iov_view view(block.data(), block.size());
        result<> r = co_await channel->write(lba(0), view);
        EXPECT_TRUE(r.error().is(ETIMEDOUT));
        r = co_await channel->read(lba(0), view);
        EXPECT_TRUE(r) << describe(r.error());
    }
}

TEST(delay, is_outlived_by_the_timeout_of_its_channel) { simulate(&check_timeouts); }

task<void> check_reset(bdev_registry& registry) {
    co_await make_delay(registry, 10'000'000, 10'000'000);
    outcome<bdev_desc> desc = registry.open("d", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    std::vector<std::byte> block(4096);
    scope readers;
    readers.spawn(read_first(*channel, block));
    while (channel->base().in_flight() == 0) co_await yield();
    result<> r = co_await channel->reset();
    EXPECT_TRUE(r);
    r = co_await readers.join();
    EXPECT_TRUE(r.error().is(ECANCELED));
    // And at a removal.
    readers.spawn(read_first(*channel, block));
    while (channel->base().in_flight() == 0) co_await yield();
    outcome<> removed = co_await delete_delay(registry, "d");
    EXPECT_TRUE(removed);
    r = co_await readers.join();
    EXPECT_TRUE(r.error().is(ENODEV)) << describe(r.error());
    EXPECT_LT(registry.home_world().monotonic_ns(), 5'000'000'000'000U);
}

TEST(delay, lets_nobody_wait_through_a_reset_or_a_removal) { simulate(&check_reset); }

task<void> check_random_io(bdev_registry& registry) {
    co_await make_delay(registry, 100, 200);
    outcome<bdev_desc> desc = registry.open("d", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    sim::disk_model model(desc->device());
    outcome<> same = co_await sim::exercise(*channel, model, {.seed = 4, .operations = 1000});
    EXPECT_TRUE(same) << same.error().message;
}

TEST(delay, agrees_with_a_vector_of_bytes_under_random_operations) { simulate(&check_random_io); }

task<void> check_uri(bdev_registry& registry) {
    outcome<std::string> made = co_await create_from_uri(
        registry, "delay:///d?base=null:///n?size=1MiB&avg_read_latency=7&p99_write_latency=9");
    EXPECT_EQ(*made, "d") << made.error().message;
    const json::value params = registry.find("d")->configuration()["params"];
    EXPECT_EQ(params["avg_read_latency"], json::value(7));
    EXPECT_EQ(params["p99_read_latency"], json::value(7));
    EXPECT_EQ(params["avg_write_latency"], json::value(0));
    EXPECT_EQ(params["p99_write_latency"], json::value(9));
}

TEST(delay, is_made_by_uri) { simulate(&check_uri); }

}  // namespace
}  // namespace nacre
