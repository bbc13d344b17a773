// SPDX-License-Identifier: BSD-3-Clause
#include "modules/passthru/passthru.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "modules/file/file.hpp"
#include "modules/malloc/malloc.hpp"
#include "modules/modules.hpp"
#include "nacre/memory/dma_buffer.hpp"
#include "nacre/runtime/sleep.hpp"
#include "nacre/sim/disk_model.hpp"
#include "nacre/sim/sweep.hpp"
#include "nacre/sim/world.hpp"

namespace nacre {
namespace {

void run(task<void> (*test)(bdev_registry&), unsigned reactors = 1) {
    sim::with_registry(real_world(), test, reactors);
}

task<void> make_malloc(bdev_registry& registry, const char* name, const char* id = nullptr) {
    malloc_options o;
    o.name = name;
    o.num_blocks = 1024;
    o.block_size = 512;
    if (id != nullptr) o.uuid = *uuid::parse(id);
    outcome<std::string> made = co_await create_malloc(registry, std::move(o));
    EXPECT_TRUE(made) << made.error().message;
}

task<outcome<std::string>> make_passthru(bdev_registry& registry, const char* name,
                                         const char* base, bool watch = false) {
    passthru_options o;
    o.name = name;
    o.base_bdev_name = base;
    o.watch_completions = watch;
    outcome<std::string> made = co_await create_passthru(registry, std::move(o));
    co_return made;
}

task<void> check_attributes(bdev_registry& registry) {
    co_await make_malloc(registry, "m", "22b5352d-a22d-4c68-84d9-614d347073c9");
    outcome<std::string> made = co_await make_passthru(registry, "p", "m");
    EXPECT_TRUE(made) << made.error().message;
    bdev& device = *registry.find("p");
    EXPECT_EQ(device.attributes().product_name, "passthru");
    EXPECT_EQ(device.blocks().value(), 1024U);
    EXPECT_EQ(device.block_size().value(), 512U);
    EXPECT_TRUE(device.supports(opcode::compare_and_write));
    // As a real SPDK answered over a base of this UUID.
    EXPECT_EQ(device.attributes().id.to_string(), "31fa0bb9-81c2-5510-a5ec-dfa239cec7d2");
    EXPECT_EQ(device.information().dump(), R"({"passthru":{"name":"p","base_bdev_name":"m"}})");
    const json::value saved = device.configuration();
    EXPECT_EQ(saved.dump(), R"({"method":"bdev_passthru_create","params":{"base_bdev_name":"m",)"
                            R"("name":"p","uuid":"31fa0bb9-81c2-5510-a5ec-dfa239cec7d2"}})");
    outcome<> removed = co_await delete_passthru(registry, "p");
    EXPECT_TRUE(removed);
    outcome<passthru_options> loaded = json::decode<passthru_options>(saved["params"]);
    made = co_await create_passthru(registry, *loaded);
    EXPECT_EQ(registry.find("p")->configuration(), saved);
}

TEST(passthru, looks_like_its_base) { run(&check_attributes); }

task<void> check_claim(bdev_registry& registry) {
    co_await make_malloc(registry, "m");
    outcome<std::string> made = co_await make_passthru(registry, "p", "m");
    EXPECT_TRUE(made);
    EXPECT_EQ(registry.find("m")->claimed(), claim::exclusive_write);
    outcome<bdev_desc> writer = registry.open("m", access::write);
    EXPECT_TRUE(writer.error().code.is(EPERM));
    EXPECT_NE(writer.error().message.find("passthru"), std::string::npos);
    outcome<bdev_desc> reader = registry.open("m", access::read);
    EXPECT_TRUE(reader);
    made = co_await make_passthru(registry, "second", "m");
    EXPECT_TRUE(made.error().code.is(EPERM)) << made.error().message;
    made = co_await make_passthru(registry, "q", "none");
    EXPECT_TRUE(made.error().code.is(ENODEV));
    outcome<> removed = co_await delete_passthru(registry, "m");
    EXPECT_TRUE(removed.error().code.is(ENODEV));
    // A name that is taken gives the base back.
    removed = co_await delete_passthru(registry, "p");
    made = co_await make_passthru(registry, "m", "m");
    EXPECT_TRUE(made.error().code.is(EEXIST));
    EXPECT_EQ(registry.find("m")->claimed(), claim::none);
    writer = registry.open("m", access::write);
    EXPECT_TRUE(writer);
}

TEST(passthru, keeps_others_from_writing_its_base) { run(&check_claim); }

task<void> check_random_io(bdev_registry& registry) {
    co_await make_malloc(registry, "m");
    // One hook above another, and a layer without one between them.
    outcome<std::string> made = co_await make_passthru(registry, "o", "m", true);
    made = co_await make_passthru(registry, "p", "o");
    made = co_await make_passthru(registry, "q", "p", true);
    EXPECT_TRUE(made);
    outcome<bdev_desc> desc = registry.open("q", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    sim::disk_model model(desc->device());
    outcome<> same = co_await sim::exercise(*channel, model, {.seed = 4, .operations = 4000});
    EXPECT_TRUE(same) << same.error().message;
    outcome<bdev_desc> base = registry.open("m", access::read);
    outcome<bdev_channel> below = base->open_channel();
    same = co_await sim::verify_all(*below, model);
    EXPECT_TRUE(same) << same.error().message;
}

TEST(passthru, agrees_with_a_vector_of_bytes_under_random_operations) { run(&check_random_io); }

task<void> check_statistics(bdev_registry& registry) {
    co_await make_malloc(registry, "m");
    outcome<std::string> made = co_await make_passthru(registry, "p", "m");
    outcome<bdev_desc> desc = registry.open("p", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    std::vector<std::byte> data(4096);
    for (unsigned i = 0; i < 3; ++i) {
        result<> r = co_await channel->write(lba(i), iov_view(data.data(), data.size()));
        EXPECT_TRUE(r);
    }
    result<> refused = co_await channel->write(lba(1024), iov_view(data.data(), data.size()));
    EXPECT_TRUE(refused.error().is(ERANGE));
    io_statistics above = co_await registry.find("p")->collect_statistics();
    EXPECT_EQ(above.of(opcode::write).operations, 3U);
    EXPECT_EQ(above.of(opcode::write).bytes, 3U * 4096);
    EXPECT_EQ(above.errors, 1U);
    EXPECT_GT(above.of(opcode::write).latency_ns_max, 0U);
    io_statistics below = co_await registry.find("m")->collect_statistics();
    EXPECT_EQ(below.of(opcode::write).operations, 3U);  // forwarded ones count
    EXPECT_EQ(below.of(opcode::write).bytes, 3U * 4096);
    EXPECT_EQ(below.of(opcode::write).latency_ns, 0U);  // latency is taken where they entered
}

TEST(passthru, is_counted_and_so_is_its_base) { run(&check_statistics); }

task<void> check_resize(bdev_registry& registry) {
    outcome<std::string> made =
        co_await create_from_uri(registry, "passthru:///p?base=null:///n?size=1MiB");
    EXPECT_EQ(*made, "p");
    outcome<bdev_desc> desc = registry.open("p", access::write);
    co_await registry.find("n")->resized(block_count(512));
    EXPECT_EQ(desc->device().blocks().value(), 512U);
    result<bdev_event> told = co_await desc->next_event();
    EXPECT_EQ(*told, bdev_event::resized);
}

TEST(passthru, takes_over_a_new_size_of_its_base) { run(&check_resize); }

// --- Removal under I/O --------------------------------------------------------------------------

task<result<>> use_until_gone(across<bdev_desc> desc) {
    outcome<bdev_channel> channel = desc->open_channel();
    if (!channel) co_return fail(channel.error().code);
    result<dma_buffer> buffer = dma_buffer::allocate(byte_count(4096));
    for (std::uint64_t i = 0;; ++i) {
        const iov_view view(buffer->writable_unchecked());
        result<> r;
        if (i % 2 == 0)
            r = co_await channel->write(lba(i % 8), view);
        else
            r = co_await channel->read(lba(i % 8), view);
        if (!r && r.error().is(ENODEV)) co_return result<>();
        if (!r) co_return r;
    }
}

task<void> check_removal_of(bdev_registry& registry, const char* victim, bool survives) {
    outcome<std::string> made = co_await make_passthru(registry, "p", "a");
    made = co_await make_passthru(registry, "q", "p", true);
    EXPECT_TRUE(made) << made.error().message;
    outcome<bdev_desc> desc = registry.open("q", access::write);
    std::vector<join_handle<result<>>> users;
    for (int i = 0; i < 4; ++i) {
        thread& t = registry.host().make_thread("user", i % 2);
        users.push_back(t.spawn(&use_until_gone, across<bdev_desc>(*desc)));
    }
    result<> slept = co_await sleep_for(3'000'000);
    EXPECT_TRUE(slept);
    outcome<> removed = co_await registry.remove(victim);
    EXPECT_TRUE(removed);
    EXPECT_EQ(registry.find("q"), nullptr);
    EXPECT_EQ(registry.find("p"), nullptr);
    EXPECT_EQ(registry.find("a") != nullptr, survives);
    for (auto& user : users) {
        result<> ended = co_await user;
        EXPECT_TRUE(ended) << describe(ended.error());
    }
    result<bdev_event> told = co_await desc->next_event();
    EXPECT_EQ(*told, bdev_event::removed);
    outcome<bdev_channel> late = desc->open_channel();
    EXPECT_TRUE(late.error().code.is(ENODEV));
}

task<void> check_base_removal(bdev_registry& registry) {
    file_options o;
    o.name = "a";
    o.filename = "/disk";
    outcome<std::string> made = co_await create_file(registry, std::move(o));
    EXPECT_TRUE(made);
    co_await check_removal_of(registry, "a", false);
}

task<void> check_middle_removal(bdev_registry& registry) {
    co_await make_malloc(registry, "a");
    co_await check_removal_of(registry, "p", true);
}

/// Both at once: the base goes while the layer is being deleted.
task<result<>> delete_top(bdev_registry& registry) {
    outcome<> removed = co_await delete_passthru(registry, "q");
    if (!removed && !removed.error().code.is(ENODEV)) co_return fail(removed.error().code);
    co_return result<>();
}
task<result<>> delete_base(bdev_registry& registry) {
    outcome<> removed = co_await registry.remove("a");
    if (!removed) co_return fail(removed.error().code);
    co_return result<>();
}

task<void> check_both_removals(bdev_registry& registry) {
    file_options o;
    o.name = "a";
    o.filename = "/disk";
    outcome<std::string> made = co_await create_file(registry, std::move(o));
    made = co_await make_passthru(registry, "q", "a");
    outcome<bdev_desc> desc = registry.open("q", access::write);
    thread& t = registry.host().make_thread("user", 1);
    join_handle<result<>> user = t.spawn(&use_until_gone, across<bdev_desc>(*desc));
    result<> slept = co_await sleep_for(1'000'000);
    EXPECT_TRUE(slept);
    scope removals;
    removals.spawn(delete_top(registry));
    removals.spawn(delete_base(registry));
    result<> removed = co_await removals.join();
    EXPECT_TRUE(removed) << describe(removed.error());
    EXPECT_EQ(registry.find("a"), nullptr);
    result<> ended = co_await user;
    EXPECT_TRUE(ended) << describe(ended.error());
}

void simulate(task<void> (*test)(bdev_registry&)) {
    auto swept = sim::for_seeds(25, [test](std::uint64_t seed) {
        sim::world w(seed);
        w.make_file("/disk", 1 << 20);
        sim::with_registry(w, test, 2);
        EXPECT_EQ(w.open_descriptors(), 0U);
        return !testing::Test::HasFailure();
    });
    EXPECT_TRUE(swept) << swept.error().message;
}

TEST(passthru, goes_before_its_base_does) { simulate(&check_base_removal); }
TEST(passthru, takes_what_stands_on_it_along_and_leaves_its_base) {
    simulate(&check_middle_removal);
}
TEST(passthru, survives_being_deleted_while_its_base_is) { simulate(&check_both_removals); }

}  // namespace
}  // namespace nacre
