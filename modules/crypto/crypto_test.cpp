// SPDX-License-Identifier: BSD-3-Clause
#include "modules/crypto/crypto.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "modules/crypto/test_reference.hpp"
#include "modules/delay/delay.hpp"
#include "modules/error/error.hpp"
#include "modules/file/file.hpp"
#include "modules/malloc/malloc.hpp"
#include "modules/modules.hpp"
#include "nacre/memory/dma_buffer.hpp"
#include "nacre/runtime/frame_pool.hpp"
#include "nacre/runtime/sleep.hpp"
#include "nacre/sim/bdev_scenario.hpp"
#include "nacre/sim/disk_model.hpp"
#include "nacre/sim/world.hpp"

namespace nacre {
namespace {

constexpr std::string_view first_half =
    "2718281828459045235360287471352662497757247093699959574966967627";
constexpr std::string_view second_half =
    "3141592653589793238462643383279502884197169399375105820974944592";
constexpr std::size_t block = 4096;

void run(task<void> (*test)(bdev_registry&), unsigned reactors = 1) {
    sim::with_registry(real_world(), test, reactors);
}

crypto_module& module_of(bdev_registry& registry) { return crypto_module::of(registry); }

task<void> make_malloc(bdev_registry& registry, const char* name, std::uint64_t blocks = 1024) {
    malloc_options o;
    o.name = name;
    o.num_blocks = blocks;
    o.block_size = block;
    o.uuid = *uuid::parse("22b5352d-a22d-4c68-84d9-614d347073c9");
    outcome<std::string> made = co_await create_malloc(registry, std::move(o));
    EXPECT_TRUE(made) << made.error().message;
}

task<outcome<>> make_key(bdev_registry& registry, const char* name,
                         std::string_view first = first_half,
                         std::string_view second = second_half) {
    crypto_key_options o;
    o.name = name;
    o.key = secret_text(first);
    o.key2 = secret_text(second);
    outcome<> made = co_await module_of(registry).create_key(std::move(o));
    co_return made;
}

task<outcome<std::string>> make_crypto(bdev_registry& registry, const char* name, const char* base,
                                       const char* key) {
    crypto_options o;
    o.name = name;
    o.base_bdev_name = base;
    o.key_name = key;
    outcome<std::string> made = co_await module_of(registry).create(std::move(o));
    co_return made;
}

/// Key k, RAM disk m, and c over it.
task<void> make_all(bdev_registry& registry, std::uint64_t blocks = 1024) {
    co_await make_malloc(registry, "m", blocks);
    outcome<> key = co_await make_key(registry, "k");
    EXPECT_TRUE(key) << key.error().message;
    outcome<std::string> made = co_await make_crypto(registry, "c", "m", "k");
    EXPECT_TRUE(made) << made.error().message;
}

// --- What it looks like --------------------------------------------------------------------------

task<void> check_attributes(bdev_registry& registry) {
    co_await make_all(registry);
    const bdev& device = *registry.find("c");
    EXPECT_EQ(device.attributes().product_name, "crypto");
    EXPECT_EQ(device.blocks().value(), 1024U);
    EXPECT_EQ(device.block_size().value(), block);
    for (const opcode able :
         {opcode::read, opcode::write, opcode::flush, opcode::unmap, opcode::write_zeroes,
          opcode::compare, opcode::copy, opcode::compare_and_write})
        EXPECT_TRUE(device.supports(able)) << name_of(able);
    for (const opcode unable : {opcode::seek_data, opcode::seek_hole})
        EXPECT_FALSE(device.supports(unable)) << name_of(unable);
    EXPECT_EQ(device.information().dump(),
              R"({"crypto":{"base_bdev_name":"m","name":"c","key_name":"k"}})");
    EXPECT_EQ(device.configuration().dump(),
              R"({"method":"bdev_crypto_create","params":{"base_bdev_name":"m","name":"c",)"
              R"("key_name":"k"}})");
    // SHA-1 of SPDK's namespace and the base's UUID, as SPDK makes it.
    EXPECT_EQ(device.attributes().id.to_string(), "5c8d1aa7-1a5a-553c-8147-c4513ee602ba");
    EXPECT_EQ(registry.find("m")->claimed(), claim::exclusive_write);
}

TEST(crypto, looks_like_its_base_without_what_it_cannot_encrypt) { run(&check_attributes); }

task<void> check_refusals(bdev_registry& registry) {
    co_await make_all(registry);
    outcome<std::string> made = co_await make_crypto(registry, "c", "m", "k");
    EXPECT_TRUE(made.error().code.is(EEXIST)) << made.error().message;
    made = co_await make_crypto(registry, "d", "m", "k");
    EXPECT_TRUE(made.error().code.is(EPERM)) << made.error().message;
    made = co_await make_crypto(registry, "d", "m", "none");
    EXPECT_TRUE(made.error().code.is(ENOKEY)) << made.error().message;
    // Whoever gives a key where its name belongs does not find it in the log.
    made = co_await make_crypto(registry, "d", "m", first_half.data());
    EXPECT_EQ(made.error().message.find("2718"), std::string::npos) << made.error().message;
    outcome<std::string> zoned = co_await create_from_uri(
        registry, "zoned+malloc:///z?size=8MiB&zone_size=4MiB&block_size=4096");
    EXPECT_TRUE(zoned) << zoned.error().message;
    made = co_await make_crypto(registry, "d", "z", "k");
    EXPECT_TRUE(made.error().code.is(EINVAL)) << made.error().message;
    EXPECT_EQ(registry.find("z")->claimed(), claim::none);
    outcome<> gone = co_await module_of(registry).destroy("m");
    EXPECT_TRUE(gone.error().code.is(ENODEV));
    // What was refused is forgotten.
    gone = co_await module_of(registry).destroy("d");
    EXPECT_TRUE(gone.error().code.is(ENODEV)) << gone.error().message;
    EXPECT_EQ(json::value(module_of(registry).waiting_configuration()).size(), 0U);
}

TEST(crypto, is_refused_with_a_reason_and_leaves_nothing_behind) { run(&check_refusals); }

task<void> check_keys(bdev_registry& registry) {
    crypto_module& all = module_of(registry);
    outcome<> made = co_await make_key(registry, "k", first_half, first_half);
    EXPECT_TRUE(made.error().code.is(EINVAL)) << "equal halves";
    crypto_key_options o;
    o.name = "k";
    o.key = secret_text(first_half);
    made = co_await all.create_key(o);
    EXPECT_TRUE(made.error().code.is(EINVAL)) << "one half";
    o.key2 = secret_text(second_half);
    o.cipher = crypto_cipher::aes_cbc;
    made = co_await all.create_key(o);
    EXPECT_TRUE(made.error().code.is(EINVAL)) << "another cipher";
    o.cipher = crypto_cipher::aes_xts;
    o.tweak_mode = crypto_tweak_mode::incr_512_full_lba;
    made = co_await all.create_key(o);
    EXPECT_TRUE(made.error().code.is(EINVAL)) << "another tweak mode";
    co_await make_all(registry);
    made = co_await make_key(registry, "k");
    EXPECT_TRUE(made.error().code.is(EEXIST));
    EXPECT_TRUE(all.destroy_key("none").error().code.is(ENOKEY));
    const outcome<> in_use = all.destroy_key("k");
    EXPECT_TRUE(in_use.error().code.is(EBUSY));
    EXPECT_NE(in_use.error().message.find("c uses it"), std::string::npos);
    outcome<> gone = co_await all.destroy("c");
    EXPECT_TRUE(gone);
    EXPECT_TRUE(all.destroy_key("k"));
    EXPECT_TRUE(all.describe_keys("k").error().code.is(ENOKEY));
}

TEST(crypto, keeps_a_key_as_long_as_a_bdev_names_it) { run(&check_keys); }

task<void> check_own_key(bdev_registry& registry) {
    co_await make_malloc(registry, "m");
    crypto_options o;
    o.name = "c";
    o.base_bdev_name = "m";
    o.key = secret_text(first_half);
    o.key2 = secret_text(second_half);
    outcome<std::string> made = co_await module_of(registry).create(o);
    EXPECT_TRUE(made.error().code.is(EKEYREJECTED)) << "SPDK's default is AES_CBC";
    o.cipher = "AES_XTS";
    made = co_await module_of(registry).create(o);
    EXPECT_TRUE(made) << made.error().message;
    EXPECT_TRUE(module_of(registry).describe_keys("c_AES_XTS"));
    outcome<> gone = co_await module_of(registry).destroy("c");
    EXPECT_TRUE(gone);
    EXPECT_FALSE(module_of(registry).describe_keys("c_AES_XTS"));
}

TEST(crypto, takes_a_key_of_its_own_in_spdks_older_form) { run(&check_own_key); }

// --- What waits ----------------------------------------------------------------------------------

task<void> check_waiting(bdev_registry& registry) {
    crypto_module& all = module_of(registry);
    EXPECT_TRUE(all.expect_key("k"));
    outcome<std::string> made = co_await make_crypto(registry, "c", "m", "k");
    EXPECT_TRUE(made) << made.error().message;
    EXPECT_TRUE(all.destroy_key("k").error().code.is(EBUSY));
    EXPECT_EQ(json::value(all.waiting_configuration()).dump(),
              R"([{"method":"bdev_crypto_create","params":{"base_bdev_name":"m","name":"c",)"
              R"("key_name":"k"}}])");
    co_await make_malloc(registry, "m");
    EXPECT_EQ(registry.find("c"), nullptr) << "it has no key yet";
    outcome<> key = co_await make_key(registry, "k");
    EXPECT_TRUE(key) << key.error().message;
    EXPECT_NE(registry.find("c"), nullptr);
    EXPECT_EQ(json::value(all.waiting_configuration()).size(), 0U);
    for (int round = 0; round < 2; ++round) {
        outcome<> removed = co_await registry.remove("m");
        EXPECT_TRUE(removed);
        EXPECT_EQ(registry.find("c"), nullptr);
        co_await make_malloc(registry, "m");
        EXPECT_NE(registry.find("c"), nullptr) << "it came back with its base";
    }
    outcome<> removed = co_await registry.remove("m");
    outcome<> gone = co_await all.destroy("c");
    EXPECT_TRUE(gone) << "also while it waits";
    co_await make_malloc(registry, "m");
    EXPECT_EQ(registry.find("c"), nullptr);
    EXPECT_TRUE(all.destroy_key("k"));
}

TEST(crypto, waits_for_its_key_and_its_base) { run(&check_waiting); }

task<outcome<>> load_key(bdev_registry& registry, const char* file) {
    crypto_key_file from{"k", file};
    outcome<> loaded = co_await module_of(registry).load_key(std::move(from));
    co_return loaded;
}

task<void> check_files(bdev_registry& registry) {
    crypto_module& all = module_of(registry);
    world& w = registry.home_world();
    const std::string text = std::string(first_half) + "\n" + std::string(second_half) + "\n";
    EXPECT_TRUE(w.write_text("/k.key", text));
    EXPECT_TRUE(w.write_text("/bad.key", text + std::string(first_half)));
    outcome<> loaded = co_await load_key(registry, "/none");
    EXPECT_TRUE(loaded.error().code.is(ENOENT)) << loaded.error().message;
    loaded = co_await load_key(registry, "/bad.key");
    EXPECT_TRUE(loaded.error().code.is(EINVAL));
    EXPECT_NE(loaded.error().message.find("/bad.key"), std::string::npos) << "says which";
    EXPECT_EQ(loaded.error().message.find("2718"), std::string::npos) << loaded.error().message;
    loaded = co_await load_key(registry, "/k.key");
    EXPECT_TRUE(loaded) << loaded.error().message;
    EXPECT_TRUE(all.expect_key("later"));
    EXPECT_EQ(json::value(all.key_configuration()).dump(),
              R"([{"method":"accel_crypto_key_load","params":{"name":"k","file":"/k.key"}},)"
              R"({"method":"accel_crypto_key_expect","params":{"name":"later"}}])");
    EXPECT_EQ(json::value(*all.describe_keys(std::nullopt)).dump(),
              R"([{"name":"k","cipher":"AES_XTS","tweak_mode":"SIMPLE_LBA","file":"/k.key"},)"
              R"({"name":"later","cipher":"AES_XTS","tweak_mode":"SIMPLE_LBA","expected":true}])");

    outcome<std::string> made = co_await create_from_uri(
        registry, "crypto:///u?key_file=/k.key&base=malloc:///n?size=1MiB");
    EXPECT_TRUE(made) << made.error().message;
    outcome<> gone = co_await all.destroy("u");
    EXPECT_TRUE(gone);
    made = co_await create_from_uri(registry, "crypto:///u?base=n&key=k");
    EXPECT_TRUE(made) << made.error().message;
    made = co_await create_from_uri(registry, "crypto:///v?base=n&key=later");
    EXPECT_TRUE(made.error().code.is(ENOKEY)) << made.error().message;
    made = co_await create_from_uri(registry, "crypto:///v?base=none&key=k");
    EXPECT_TRUE(made.error().code.is(ENODEV)) << made.error().message;
    made = co_await create_from_uri(registry, "crypto:///v?base=none&key_file=/k.key");
    EXPECT_FALSE(all.describe_keys("v_AES_XTS")) << "its own key goes with it";
    made = co_await create_from_uri(registry, "crypto:///v?base=n");
    EXPECT_TRUE(made.error().code.is(EINVAL)) << made.error().message;
    made = co_await create_from_uri(registry, "crypto:///v?base=n&key=" + std::string(first_half));
    EXPECT_EQ(made.error().message.find("2718"), std::string::npos) << made.error().message;
}

TEST(crypto, reads_keys_from_files) {
    sim::world w(1);
    sim::with_registry(w, &check_files);
}

// --- Data ----------------------------------------------------------------------------------------

task<outcome<>> erase(const bdev_channel& channel) {
    result<> done = co_await channel.write_zeroes(lba(0), channel.device().blocks());
    if (!done) co_return fail(failure(done.error()));
    co_return outcome<>();
}

task<void> check_random(bdev_registry& registry) {
    co_await make_all(registry);
    outcome<bdev_desc> desc = registry.open("c", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    sim::disk_model model(desc->device());
    outcome<> same = co_await erase(*channel);
    EXPECT_TRUE(same) << same.error().message;
    // Unmapped blocks read as noise.
    const sim::exercise_options small{.seed = 5, .operations = 3000, .without = bit(opcode::unmap)};
    same = co_await sim::exercise(*channel, model, small);
    EXPECT_TRUE(same) << same.error().message;
    // Longer than a turn, and than a pooled buffer.
    const sim::exercise_options large{.seed = 6,
                                      .operations = 200,
                                      .workers = 2,
                                      .transfer_blocks_max = 400,
                                      .without = bit(opcode::unmap)};
    same = co_await sim::exercise(*channel, model, large);
    EXPECT_TRUE(same) << same.error().message;

    // Below lies what the standard makes of it, block for block.
    outcome<bdev_desc> base = registry.open("m", access::read);
    outcome<bdev_channel> below = base->open_channel();
    std::vector<std::byte> seen(block);
    for (std::uint64_t i = 0; i < 1024; i += 97) {
        const iov_view view(seen.data(), seen.size());
        result<> read = co_await below->read(lba(i), view);
        EXPECT_TRUE(read);
        const std::span<const std::byte> plain = model.at(i, 1);
        EXPECT_EQ(seen, crypto::xts_encrypt(first_half, second_half, crypto::number_of_lba(i),
                                            {plain.begin(), plain.end()}));
    }
    EXPECT_EQ(registry.buffers().here().buffers_in_use(), 0U);
}

TEST(crypto, agrees_with_a_vector_of_bytes_above_and_with_the_standard_below) {
    run(&check_random);
}

task<void> check_wrong_key(bdev_registry& registry) {
    co_await make_all(registry);
    outcome<> key = co_await make_key(registry, "other", second_half, first_half);
    EXPECT_TRUE(key);
    std::vector<std::byte> data(2 * block, std::byte{7}), seen(2 * block);
    const iov_view out(data.data(), data.size());
    const iov_view in(seen.data(), seen.size());
    for (const char* name : {"k", "other", "k"}) {
        outcome<> gone = co_await module_of(registry).destroy("c");
        EXPECT_TRUE(gone);
        outcome<std::string> made = co_await make_crypto(registry, "c", "m", name);
        EXPECT_TRUE(made) << made.error().message;
        outcome<bdev_desc> desc = registry.open("c", access::write);
        outcome<bdev_channel> channel = desc->open_channel();
        if (std::string_view(name) == "k") {
            result<> done = co_await channel->write(lba(3), out);
            EXPECT_TRUE(done);
            EXPECT_EQ(data, std::vector<std::byte>(2 * block, std::byte{7})) << "left alone";
        }
        result<> done = co_await channel->read(lba(3), in);
        EXPECT_TRUE(done);
        EXPECT_EQ(seen == data, std::string_view(name) == "k");
    }
    // One block's content differs from the next one's, though the plain texts are equal.
    outcome<bdev_desc> base = registry.open("m", access::read);
    outcome<bdev_channel> below = base->open_channel();
    result<> done = co_await below->read(lba(3), in);
    EXPECT_TRUE(done);
    EXPECT_NE(std::memcmp(&seen[0], &seen[block], block), 0);
}

TEST(crypto, reads_noise_with_the_wrong_key) { run(&check_wrong_key); }

task<void> check_unmap(bdev_registry& registry) {
    co_await make_all(registry);
    outcome<bdev_desc> desc = registry.open("c", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    result<> done = co_await channel->unmap(lba(8), block_count(8));
    EXPECT_TRUE(done);
    io_statistics below = co_await registry.find("m")->collect_statistics();
    EXPECT_EQ(below.of(opcode::unmap).operations, 1U);
    done = co_await channel->write_zeroes(lba(8), block_count(8));
    EXPECT_TRUE(done);
    below = co_await registry.find("m")->collect_statistics();
    EXPECT_EQ(below.of(opcode::write_zeroes).operations, 0U);
    std::vector<std::byte> seen(block, std::byte{1});
    const iov_view in(seen.data(), seen.size());
    done = co_await channel->read(lba(9), in);
    EXPECT_EQ(seen, std::vector<std::byte>(block));
}

TEST(crypto, unmaps_its_base_and_writes_encrypted_zeroes) { run(&check_unmap); }

// --- Lack of memory, failures, giving up ---------------------------------------------------------

task<void> write_one(const bdev_channel& channel, std::uint64_t at, const std::byte* data,
                     std::size_t bytes, std::vector<std::uint64_t>& done) {
    const const_iov_view out(data, bytes);
    result<> r = co_await channel.write(lba(at), out);
    EXPECT_TRUE(r) << describe(r.error());
    done.push_back(at);
}

std::vector<pooled_buffer> take_all(buffer_pool& pool) {
    std::vector<pooled_buffer> all;
    while (true) {
        pooled_buffer taken = pool.try_acquire(buffer_pool::bytes_max);
        if (taken.empty()) return all;
        all.push_back(std::move(taken));
    }
}

/// The caller gives its buffers back only when its writes are done, through two layers each of
/// which wants one more.
task<void> check_no_buffers(bdev_registry& registry) {
    co_await make_all(registry);
    outcome<std::string> made = co_await make_crypto(registry, "cc", "c", "k");
    EXPECT_TRUE(made) << made.error().message;
    outcome<bdev_desc> desc = registry.open("cc", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    buffer_pool& pool = registry.buffers().here();
    std::vector<pooled_buffer> all = take_all(pool);
    const std::vector<std::byte> data(700 * block, std::byte{9});
    std::vector<std::uint64_t> done;
    scope writers;
    writers.spawn(write_one(*channel, 300, data.data(), 700 * block, done));
    for (std::uint64_t at = 0; at < 300; at += 6)
        writers.spawn(write_one(*channel, at, data.data(), (at % 5 + 1) * block, done));
    result<> joined = co_await writers.join();
    EXPECT_TRUE(joined);
    EXPECT_EQ(done.size(), 51U);
    EXPECT_EQ(pool.waits(), 0U);
    std::vector<std::byte> seen(700 * block);
    const iov_view in(seen.data(), seen.size());
    result<> read = co_await channel->read(lba(300), in);
    EXPECT_TRUE(read);
    EXPECT_EQ(seen, data);
    EXPECT_EQ(pool.buffers_in_use(), all.size());
}

TEST(crypto, writes_though_callers_hold_all_buffers) {
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
        sim::world w(seed);
        sim::with_registry(w, &check_no_buffers);
    }
}

task<void> check_no_frames(bdev_registry& registry) {
    co_await make_all(registry);
    outcome<bdev_desc> desc = registry.open("c", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    std::vector<std::byte> data(400 * block), seen(400 * block);
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i / 8);
    for (const std::size_t blocks : {std::size_t{1}, std::size_t{40}, std::size_t{400}}) {
        const const_iov_view out(data.data(), blocks * block);
        const iov_view in(seen.data(), blocks * block);
        for (std::uint64_t n = 1; n < 4; ++n) {
            frame_pool::fail_nth_allocation(n);
            result<> done = co_await channel->write(lba(5), out);
            EXPECT_TRUE(done) << describe(done.error());
            frame_pool::fail_nth_allocation(n);
            done = co_await channel->read(lba(5), in);
            frame_pool::fail_nth_allocation(0);
            EXPECT_TRUE(done) << describe(done.error());
            EXPECT_EQ(std::memcmp(seen.data(), data.data(), blocks * block), 0);
            std::memset(seen.data(), 0, seen.size());
        }
    }
}

TEST(crypto, tries_again_when_there_is_no_memory_for_an_operation) { run(&check_no_frames); }

task<void> inject(bdev_registry& registry, error_type type, std::uint32_t count) {
    error_injection injection;
    injection.name = "EE_m";
    injection.io_type = error_io_type::all;
    injection.error_type = type;
    injection.num = count;
    outcome<> injected = inject_error(registry, injection);
    EXPECT_TRUE(injected) << injected.error().message;
    co_return;
}

task<void> check_failures(bdev_registry& registry) {
    co_await make_malloc(registry, "m");
    error_options e;
    e.base_name = "m";
    outcome<std::string> layer = co_await create_error(registry, std::move(e));
    EXPECT_TRUE(layer);
    outcome<> key = co_await make_key(registry, "k");
    outcome<std::string> made = co_await make_crypto(registry, "c", "EE_m", "k");
    EXPECT_TRUE(made) << made.error().message;
    outcome<bdev_desc> desc = registry.open("c", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    const std::vector<std::byte> data(300 * block, std::byte{3});
    std::vector<std::byte> seen(300 * block);
    for (const std::size_t blocks : {std::size_t{1}, std::size_t{300}}) {
        const const_iov_view out(data.data(), blocks * block);
        const iov_view in(seen.data(), blocks * block);
        co_await inject(registry, error_type::failure, 1);
        result<> done = co_await channel->write(lba(0), out);
        EXPECT_TRUE(done.error().is(EIO));
        done = co_await channel->write(lba(0), out);
        EXPECT_TRUE(done);
        co_await inject(registry, error_type::failure, 1);
        done = co_await channel->read(lba(0), in);
        EXPECT_TRUE(done.error().is(EIO));
        // A base that is out of memory for a moment is asked again, with the same data.
        co_await inject(registry, error_type::nomem, 2);
        done = co_await channel->write(lba(1), out);
        EXPECT_TRUE(done) << describe(done.error());
        co_await inject(registry, error_type::nomem, 2);
        done = co_await channel->read(lba(1), in);
        EXPECT_TRUE(done) << describe(done.error());
        EXPECT_EQ(std::memcmp(seen.data(), data.data(), blocks * block), 0);
    }
    EXPECT_EQ(registry.buffers().here().buffers_in_use(), 0U);
}

TEST(crypto, hands_failures_of_its_base_up_and_outlasts_its_lack_of_memory) {
    run(&check_failures);
}

task<void> check_abort(bdev_registry& registry) {
    co_await make_malloc(registry, "m");
    delay_options d;
    d.name = "d";
    d.base_bdev_name = "m";
    d.avg_read_latency = d.p99_read_latency = 3'000'000;
    d.avg_write_latency = d.p99_write_latency = 3'000'000;
    outcome<std::string> slow = co_await create_delay(registry, std::move(d));
    EXPECT_TRUE(slow);
    outcome<> key = co_await make_key(registry, "k");
    outcome<std::string> made = co_await make_crypto(registry, "c", "d", "k");
    EXPECT_TRUE(made) << made.error().message;
    outcome<bdev_desc> desc = registry.open("c", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    channel->set_timeout(1'000'000);
    std::vector<std::byte> data(300 * block);
    for (const std::size_t blocks : {std::size_t{1}, std::size_t{300}}) {
        const iov_view view(data.data(), blocks * block);
        result<> done = co_await channel->write(lba(0), view);
        EXPECT_TRUE(done.error().is(ETIMEDOUT)) << describe(done.error());
        done = co_await channel->read(lba(0), view);
        EXPECT_TRUE(done.error().is(ETIMEDOUT)) << describe(done.error());
    }
    EXPECT_EQ(registry.buffers().here().buffers_in_use(), 0U);
}

TEST(crypto, gives_up_what_takes_too_long_short_and_long) {
    sim::world w(3);
    sim::with_registry(w, &check_abort);
}

// --- Removal under I/O, and the n-th operation fails ---------------------------------------------

task<void> make_over_file(bdev_registry& registry) {
    file_options o;
    o.name = "m";
    o.filename = "/disk";
    o.block_size = block;
    outcome<std::string> made = co_await create_file(registry, std::move(o));
    if (!made) co_return;
    outcome<> key = co_await make_key(registry, "k");
    EXPECT_TRUE(key);
    made = co_await make_crypto(registry, "c", "m", "k");
    EXPECT_TRUE(made) << made.error().message;
}

task<result<>> use_until_gone(across<bdev_desc> desc) {
    outcome<bdev_channel> channel = desc->open_channel();
    if (!channel) co_return fail(channel.error().code);
    result<dma_buffer> buffer = dma_buffer::allocate(byte_count(64 * block));
    for (std::uint64_t i = 0;; ++i) {
        const std::size_t bytes = i % 3 == 0 ? 64 * block : block;
        const iov_view view(buffer->writable_unchecked().data(), bytes);
        result<> r;
        if (i % 2 == 0)
            r = co_await channel->write(lba(i % 8), view);
        else
            r = co_await channel->read(lba(i % 8), view);
        if (!r && r.error().is(ENODEV)) co_return result<>();
        if (!r) co_return r;
    }
}

task<void> check_removal(bdev_registry& registry) {
    co_await make_over_file(registry);
    outcome<bdev_desc> desc = registry.open("c", access::write);
    std::vector<join_handle<result<>>> users;
    for (int i = 0; i < 4; ++i) {
        thread& t = registry.host().make_thread("user", i % 2);
        users.push_back(t.spawn(&use_until_gone, across<bdev_desc>(*desc)));
    }
    result<> slept = co_await sleep_for(3'000'000);
    EXPECT_TRUE(slept);
    outcome<> removed = co_await registry.remove("m");
    EXPECT_TRUE(removed);
    EXPECT_EQ(registry.find("c"), nullptr);
    for (auto& user : users) {
        result<> ended = co_await user;
        EXPECT_TRUE(ended) << describe(ended.error());
    }
}

TEST(crypto, goes_with_its_base_under_io) {
    auto swept = sim::for_seeds(25, [](std::uint64_t seed) {
        sim::world w(seed);
        w.make_file("/disk", 1 << 20);
        sim::with_registry(w, &check_removal, 2);
        EXPECT_EQ(w.open_descriptors(), 0U);
        return !testing::Test::HasFailure();
    });
    EXPECT_TRUE(swept) << swept.error().message;
}

/// Writes blocks one after the other, reads them back, and remembers what was acknowledged.
class disk_scenario final : public sim::bdev_scenario {
    static constexpr std::uint64_t blocks = 8;
    void prepare(sim::world& w) override { w.make_file("/disk", blocks * block); }
    void expect(bool done, const char* what) {
        if (!done) bdev_scenario::expect(fail(EIO, what));
    }

    task<void> work(bdev_registry& registry) override {
        co_await make_over_file(registry);
        outcome<bdev_desc> desc = registry.open("c", access::write);
        expect(desc.has_value(), "c is not there");
        if (!desc) co_return;
        outcome<bdev_channel> channel = desc->open_channel();
        result<dma_buffer> memory = dma_buffer::allocate(byte_count(block));
        const iov_view view(memory->writable_unchecked());
        for (std::uint8_t round = 1; round < 4; ++round) {
            for (std::uint64_t i = 0; i < blocks; ++i) {
                view.fill(std::byte{round});
                result<> done = co_await channel->write(lba(i), view, true);
                expect(done.has_value(), "a write failed");
                known_[i] = done.has_value();
                if (done) content_[i] = std::byte{round};
            }
            co_await check(*channel);
        }
    }
    task<void> look(bdev_registry& registry) override {
        co_await make_over_file(registry);
        outcome<bdev_desc> desc = registry.open("c", access::write);
        if (!desc) {
            violation_ = fail(std::move(desc.error()));
            co_return;
        }
        outcome<bdev_channel> channel = desc->open_channel();
        co_await check(*channel);
    }
    task<void> check(const bdev_channel& channel) {
        result<dma_buffer> memory = dma_buffer::allocate(byte_count(block));
        const iov_view view(memory->writable_unchecked());
        for (std::uint64_t i = 0; i < blocks; ++i) {
            result<> done = co_await channel.read(lba(i), view);
            expect(done.has_value(), "a read failed");
            if (!done || !known_[i]) continue;
            if (!view.equals(std::vector<std::byte>(block, content_[i]).data()))
                violation_ = fail(EILSEQ, "block " + std::to_string(i) + " lost what was written");
        }
    }

    std::array<std::byte, blocks> content_{};
    std::array<bool, blocks> known_{};  // no write of it has failed since
};

TEST(crypto, loses_nothing_when_the_nth_operation_of_the_disk_fails) {
    outcome<> swept = sim::sweep_io_failures([] { return std::make_unique<disk_scenario>(); });
    EXPECT_TRUE(swept) << swept.error().message;
}

TEST(crypto, reads_what_was_durable_after_a_power_cut_at_every_operation) {
    outcome<> swept = sim::sweep_power_cuts([] { return std::make_unique<disk_scenario>(); });
    EXPECT_TRUE(swept) << swept.error().message;
}

}  // namespace
}  // namespace nacre
