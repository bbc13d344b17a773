// SPDX-License-Identifier: BSD-3-Clause
#include "modules/error/error.hpp"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "modules/malloc/malloc.hpp"
#include "modules/passthru/passthru.hpp"
#include "nacre/runtime/sleep.hpp"
#include "nacre/runtime/timeout.hpp"
#include "nacre/sim/disk_model.hpp"
#include "nacre/sim/sweep.hpp"
#include "nacre/sim/world.hpp"

namespace nacre {
namespace {

void simulate(task<void> (*test)(bdev_registry&), unsigned reactors = 1) {
    auto swept = sim::for_seeds(10, [=](std::uint64_t seed) {
        sim::world w(seed);
        sim::with_registry(w, test, reactors);
        return !testing::Test::HasFailure();
    });
    EXPECT_TRUE(swept) << swept.error().message;
}

task<void> make_error(bdev_registry& registry, std::uint32_t md_size = 0) {
    malloc_options m;
    m.name = "m";
    m.md_size = md_size;
    m.num_blocks = 32768;
    m.uuid = *uuid::parse("22b5352d-a22d-4c68-84d9-614d347073c9");
    outcome<std::string> made = co_await create_malloc(registry, std::move(m));
    EXPECT_TRUE(made);
    error_options o;
    o.base_name = "m";
    made = co_await create_error(registry, std::move(o));
    EXPECT_EQ(*made, "EE_m");
}

error_injection injection(error_io_type io, error_type how, std::uint32_t num = 1) {
    error_injection i;
    i.name = "EE_m";
    i.io_type = io;
    i.error_type = how;
    i.num = num;
    return i;
}

/// A device, a channel and a block of data.
struct bench {
    bdev_desc desc;
    bdev_channel channel;
    std::vector<std::byte> block = std::vector<std::byte>(4096, std::byte{0x11});
    explicit bench(bdev_registry& registry, const char* name = "EE_m")
        : desc(std::move(*registry.open(name, access::write))),
          channel(std::move(*desc.open_channel())) {}
    [[nodiscard]] iov_view view() { return {block.data(), block.size()}; }
};

task<void> check_attributes(bdev_registry& registry) {
    co_await make_error(registry);
    const bdev& device = *registry.find("EE_m");
    EXPECT_EQ(device.attributes().product_name, "Error Injection Disk");
    // As a real SPDK answered over a base of this UUID and size.
    EXPECT_EQ(device.attributes().id.to_string(), "a79fa7bf-0029-5211-8ce8-58cd422db230");
    EXPECT_EQ(device.information().dump(), R"({"error_disk":{"base_bdev":"m"}})");
    const json::value saved = device.configuration();
    EXPECT_EQ(saved.dump(), R"({"method":"bdev_error_create","params":{"base_name":"m",)"
                            R"("uuid":"a79fa7bf-0029-5211-8ce8-58cd422db230"}})");
    outcome<> removed = co_await delete_error(registry, "EE_m");
    EXPECT_TRUE(removed);
    outcome<error_options> loaded = json::decode<error_options>(saved["params"]);
    outcome<std::string> made = co_await create_error(registry, *loaded);
    EXPECT_TRUE(made);
    EXPECT_EQ(registry.find("EE_m")->configuration(), saved);
    removed = co_await delete_error(registry, "m");
    EXPECT_TRUE(removed.error().code.is(ENODEV));
}

TEST(error_bdev, is_described_and_made_again_by_its_configuration) { simulate(&check_attributes); }

TEST(error_bdev, takes_the_parameters_of_spdk) {
    outcome<json::value> params = json::parse(
        R"({"name":"EE_m","io_type":"all","error_type":"nvme_failure","nvme_sct":2,"nvme_sc":129,)"
        R"("num":3,"queue_depth":4})");
    outcome<error_injection> decoded = json::decode<error_injection>(*params);
    ASSERT_TRUE(decoded) << decoded.error().message;
    EXPECT_EQ(decoded->error_type, error_type::nvme_failure);
    EXPECT_EQ(decoded->nvme_sc, 129U);
    EXPECT_EQ(decoded->queue_depth, 4U);
}

task<void> check_failures(bdev_registry& registry) {
    co_await make_error(registry);
    bench b(registry);
    outcome<> set = inject_error(registry, injection(error_io_type::write, error_type::failure, 2));
    EXPECT_TRUE(set);
    result<> r = co_await b.channel.read(lba(0), b.view());
    EXPECT_TRUE(r);  // another kind
    for (unsigned i = 0; i < 4; ++i) {
        r = co_await b.channel.write(lba(0), b.view());
        EXPECT_EQ(r.has_value(), i >= 2);
        if (!r) {
            EXPECT_TRUE(r.error().is(EIO));
        }
    }
    io_statistics below = co_await registry.find("m")->collect_statistics();
    EXPECT_EQ(below.of(opcode::write).operations, 2U);
    io_statistics here = co_await registry.find("EE_m")->collect_statistics();
    EXPECT_EQ(here.errors, 2U);

    error_injection nvme = injection(error_io_type::all, error_type::nvme_failure, UINT32_MAX);
    nvme.nvme_sct = 2;
    nvme.nvme_sc = 0x81;
    set = inject_error(registry, nvme);
    EXPECT_TRUE(set);
    r = co_await b.channel.flush();
    EXPECT_EQ(r.error(), error::nvme(2, 0x81));
    r = co_await b.channel.read(lba(0), b.view());
    EXPECT_EQ(r.error(), error::nvme(2, 0x81));
    r = co_await b.channel.reset();
    EXPECT_TRUE(r);
    set = inject_error(registry, injection(error_io_type::clear, error_type::failure));
    EXPECT_TRUE(set);
    r = co_await b.channel.flush();
    EXPECT_TRUE(r);
}

TEST(error_bdev, fails_as_often_as_it_is_told) { simulate(&check_failures); }

task<void> check_corruption(bdev_registry& registry) {
    co_await make_error(registry);
    bench b(registry);
    error_injection i = injection(error_io_type::write, error_type::corrupt_data);
    i.corrupt_offset = 100;
    i.corrupt_value = 0xff;
    outcome<> set = inject_error(registry, i);
    EXPECT_TRUE(set);
    result<> r = co_await b.channel.write(lba(0), b.view());
    EXPECT_TRUE(r);
    EXPECT_EQ(b.block[100], std::byte{0x11});  // the user's own data are as they were
    r = co_await b.channel.read(lba(0), b.view());
    EXPECT_TRUE(r);
    EXPECT_EQ(b.block[100], std::byte{0xee});
    EXPECT_EQ(b.block[99], std::byte{0x11});
    i.io_type = error_io_type::read;
    i.corrupt_value = 1;
    set = inject_error(registry, i);
    r = co_await b.channel.read(lba(0), b.view());
    EXPECT_EQ(b.block[100], std::byte{0xef});
    r = co_await b.channel.read(lba(0), b.view());
    EXPECT_EQ(b.block[100], std::byte{0xee});  // only once, and the media is as it was
    i.corrupt_value = 0;
    set = inject_error(registry, i);
    EXPECT_TRUE(set.error().code.is(EINVAL));
    i.corrupt_value = 1;
    i.io_type = error_io_type::flush;
    set = inject_error(registry, i);
    EXPECT_TRUE(set.error().code.is(EINVAL));
}

TEST(error_bdev, corrupts_a_byte_and_tells_nobody) { simulate(&check_corruption); }

task<void> check_corruption_beside_metadata(bdev_registry& registry) {
    co_await make_error(registry, 8);
    bench b(registry);
    std::array<std::byte, 8> written, found{};
    written.fill(std::byte{0x5a});
    for (const error_io_type io : {error_io_type::write, error_io_type::read}) {
        error_injection i = injection(io, error_type::corrupt_data);
        i.corrupt_value = 1;
        outcome<> set = inject_error(registry, i);
        EXPECT_TRUE(set);
        b.block.assign(4096, std::byte{0x11});
        result<> r = co_await b.channel.write_with_metadata(lba(3), b.view(), written);
        EXPECT_TRUE(r);
        found.fill(std::byte{0});
        r = co_await b.channel.read_with_metadata(lba(3), b.view(), found);
        EXPECT_TRUE(r);
        EXPECT_EQ(b.block[0], std::byte{0x10});
        EXPECT_EQ(found, written);
    }
}

TEST(error_bdev, corrupts_data_and_leaves_their_metadata) {
    simulate(&check_corruption_beside_metadata);
}

task<void> check_no_memory(bdev_registry& registry) {
    co_await make_error(registry);
    passthru_options p;
    p.name = "p";
    p.base_bdev_name = "EE_m";
    p.watch_completions = true;
    outcome<std::string> made = co_await create_passthru(registry, std::move(p));
    EXPECT_TRUE(made);
    bench b(registry, "p");
    sim::disk_model model(b.desc.device());
    for (unsigned round = 0; round < 2; ++round) {
        outcome<> set =
            inject_error(registry, injection(error_io_type::all, error_type::nomem, 30));
        EXPECT_TRUE(set);
        // Workers on overlapping places in time: all come through, in the end.
        outcome<> same =
            co_await sim::exercise(b.channel, model, {.seed = round + 1, .operations = 200});
        EXPECT_TRUE(same) << same.error().message;
    }
    // One that waits for memory for ever can still be given up.
    outcome<> set =
        inject_error(registry, injection(error_io_type::all, error_type::nomem, UINT32_MAX));
    EXPECT_TRUE(set);
    b.channel.set_timeout(50'000'000);
    result<> r = co_await b.channel.read(lba(0), b.view());
    EXPECT_TRUE(r.error().is(ETIMEDOUT)) << describe(r.error());
    b.channel.set_timeout(0);
}

TEST(error_bdev, without_memory_delays_and_fails_nothing) { simulate(&check_no_memory); }

task<result<>> read_first(bench& b) {
    result<> r = co_await b.channel.read(lba(0), b.view());
    co_return r;
}

task<void> check_no_memory_order(bdev_registry& registry) {
    co_await make_error(registry);
    bench b(registry);
    outcome<> set =
        inject_error(registry, injection(error_io_type::all, error_type::nomem, UINT32_MAX));
    EXPECT_TRUE(set);
    scope readers;
    for (unsigned i = 0; i < 20; ++i) readers.spawn(read_first(b));
    result<> slept = co_await sleep_for(100'000'000);
    EXPECT_TRUE(slept);
    EXPECT_EQ(readers.running(), 20U);
    outcome<> removed = co_await delete_error(registry, "EE_m");
    EXPECT_TRUE(removed);
    result<> r = co_await readers.join();
    EXPECT_TRUE(r.error().is(ENODEV)) << describe(r.error());
}

TEST(error_bdev, without_memory_can_be_removed) { simulate(&check_no_memory_order); }

task<void> check_pending(bdev_registry& registry) {
    co_await make_error(registry);
    bench b(registry);
    const auto hang = [&registry] {
        outcome<> set =
            inject_error(registry, injection(error_io_type::read, error_type::pending, 2));
        EXPECT_TRUE(set);
    };
    hang();
    scope readers;
    readers.spawn(read_first(b));
    readers.spawn(read_first(b));
    result<> slept = co_await sleep_for(1'000'000'000);
    EXPECT_TRUE(slept);
    EXPECT_EQ(readers.running(), 2U);
    result<> r = co_await b.channel.read(lba(0), b.view());
    EXPECT_TRUE(r);  // the third comes through
    outcome<> resumed = co_await resume_error_pending(registry, "EE_m");
    EXPECT_TRUE(resumed);
    r = co_await readers.join();
    EXPECT_TRUE(r);

    hang();
    r = co_await with_timeout(read_first(b), 1'000'000);
    EXPECT_TRUE(r.error().is(ETIMEDOUT));
    b.channel.set_timeout(1'000'000);
    r = co_await b.channel.read(lba(0), b.view());
    EXPECT_TRUE(r.error().is(ETIMEDOUT));
    b.channel.set_timeout(0);

    hang();
    readers.spawn(read_first(b));
    while (b.channel.base().in_flight() == 0) co_await yield();
    r = co_await b.channel.reset();
    EXPECT_TRUE(r);
    r = co_await readers.join();
    EXPECT_TRUE(r.error().is(ECANCELED));

    readers.spawn(read_first(b));
    while (b.channel.base().in_flight() == 0) co_await yield();
    outcome<> removed = co_await registry.remove("m");  // takes its layer along
    EXPECT_TRUE(removed);
    EXPECT_EQ(registry.find("EE_m"), nullptr);
    r = co_await readers.join();
    EXPECT_TRUE(r.error().is(ENODEV)) << describe(r.error());
}

TEST(error_bdev, hangs_until_somebody_helps) { simulate(&check_pending); }

/// The registry's calls belong to the main thread; opening there, reading elsewhere.
task<result<>> read_on_its_thread(across<bdev_desc> desc) {
    outcome<bdev_channel> channel = desc->open_channel();
    std::vector<std::byte> block(4096);
    result<> r = co_await channel->read(lba(0), iov_view(block.data(), block.size()));
    co_return r;
}

task<void> check_threads(bdev_registry& registry) {
    co_await make_error(registry);
    outcome<bdev_desc> desc = registry.open("EE_m", access::read);
    outcome<> set =
        inject_error(registry, injection(error_io_type::read, error_type::pending, UINT32_MAX));
    EXPECT_TRUE(set);
    std::vector<join_handle<result<>>> readers;
    for (int i = 0; i < 3; ++i) {
        thread& t = registry.host().make_thread("reader", i % 2);
        readers.push_back(t.spawn(&read_on_its_thread, across<bdev_desc>(*desc)));
    }
    result<> slept = co_await sleep_for(10'000'000);
    EXPECT_TRUE(slept);
    for (auto& r : readers) EXPECT_FALSE(r.done());
    outcome<> resumed = co_await resume_error_pending(registry, "EE_m");
    EXPECT_TRUE(resumed);
    for (auto& reader : readers) {
        result<> r = co_await reader;
        EXPECT_TRUE(r) << describe(r.error());
    }
}

TEST(error_bdev, is_helped_on_all_threads) { simulate(&check_threads, 2); }

task<void> check_depth(bdev_registry& registry) {
    co_await make_error(registry);
    bench b(registry);
    error_injection i = injection(error_io_type::read, error_type::failure, UINT32_MAX);
    i.queue_depth = 3;
    outcome<> set = inject_error(registry, i);
    EXPECT_TRUE(set);
    for (unsigned n = 0; n < 10; ++n) {
        result<> r = co_await b.channel.read(lba(0), b.view());
        EXPECT_TRUE(r);  // alone
    }
    scope readers;
    for (unsigned n = 0; n < 8; ++n) readers.spawn(read_first(b));
    result<> r = co_await readers.join();
    (void)r;  // some end with what was injected
    io_statistics here = co_await registry.find("EE_m")->collect_statistics();
    EXPECT_LE(here.errors, 5U);
}

TEST(error_bdev, waits_for_a_queue_depth) { simulate(&check_depth); }

}  // namespace
}  // namespace nacre
