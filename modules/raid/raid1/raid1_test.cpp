// SPDX-License-Identifier: BSD-3-Clause
#include "modules/raid/raid.hpp"

#include <gtest/gtest.h>

#include "modules/malloc/malloc.hpp"
#include "modules/null/null.hpp"
#include "modules/raid/test_bed.hpp"
#include "nacre/sim/disk_model.hpp"

namespace nacre::raid {
namespace {

raid_options options_of(std::string name, std::vector<std::string> legs) {
    raid_options o;
    o.name = std::move(name);
    o.base_bdevs = std::move(legs);
    return o;
}

task<void> exercise_r0(test_bed& bed, std::uint64_t seed) {
    outcome<bdev_desc> desc = bed.registry->open("r0", access::write);
    EXPECT_TRUE(desc) << desc.error().message;
    if (!desc) co_return;
    outcome<bdev_channel> channel = desc->open_channel();
    EXPECT_TRUE(channel) << channel.error().message;
    sim::disk_model model(desc->device());
    sim::exercise_options options;
    options.seed = seed;
    options.operations = 500;
    outcome<> same = co_await sim::exercise(*channel, model, options);
    EXPECT_TRUE(same) << same.error().message;
}

TEST(raid1, does_what_a_disk_does_over_files) {
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
        test_bed bed(seed);
        bed.live([](test_bed& b) -> task<void> {
            co_await b.plug_and_create(false);
            co_await exercise_r0(b, b.world.seed());
        });
        EXPECT_TRUE(bed.disks_equal(0));
    }
}

TEST(raid1, does_what_a_disk_does_over_files_with_a_superblock) {
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
        test_bed bed(seed);
        bed.tuning.sweep_period_ns = 3'000'000;
        bed.live([](test_bed& b) -> task<void> {
            co_await b.plug_and_create(true);
            co_await exercise_r0(b, b.world.seed());
        });
        EXPECT_TRUE(bed.disks_equal());
        EXPECT_EQ(bed.superblock_on("a").sequence, 1U);
    }
}

task<void> make_malloc(test_bed& bed, std::string name) {
    malloc_options o;
    o.name = std::move(name);
    o.num_blocks = 512;
    outcome<std::string> made = co_await create_malloc(*bed.registry, std::move(o));
    EXPECT_TRUE(made) << made.error().message;
}

TEST(raid1, does_what_a_disk_does_over_three_ram_disks) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        co_await make_malloc(b, "x");
        co_await make_malloc(b, "y");
        co_await make_malloc(b, "z");
        const std::vector<std::string> legs{"x", "y", "z"};
        raid_options o = options_of("r0", legs);
        outcome<std::string> made = co_await b.module().create(std::move(o));
        EXPECT_TRUE(made) << made.error().message;
        co_await exercise_r0(b, 5);
    });
}

TEST(raid1, is_shown_as_spdk_shows_it) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug_and_create(true);
        const std::string id = test_bed::id_of("r0").to_string();
        const std::string a = test_bed::id_of("a").to_string();
        const std::string bb = test_bed::id_of("b").to_string();
        EXPECT_EQ(b.shown().dump(),
                  "{\"name\":\"r0\",\"uuid\":\"" + id +
                      "\",\"strip_size_kb\":0,\"state\":\"online\",\"raid_level\":\"raid1\","
                      "\"superblock\":true,\"num_base_bdevs\":2,\"num_base_bdevs_discovered\":2,"
                      "\"num_base_bdevs_operational\":2,\"base_bdevs_list\":["
                      "{\"name\":\"a\",\"uuid\":\"" +
                      a +
                      "\",\"is_configured\":true,\"data_offset\":256,\"data_size\":768},"
                      "{\"name\":\"b\",\"uuid\":\"" +
                      bb + "\",\"is_configured\":true,\"data_offset\":256,\"data_size\":768}]}");
        const bdev& device = *b.registry->find("r0");
        EXPECT_EQ(device.attributes().product_name, "Raid Volume");
        EXPECT_EQ(device.information()["raid"]["state"].as_string(), "online");
        EXPECT_TRUE(device.configuration().is_null());
        EXPECT_EQ(b.module().list(raid_category::configuring).size(), 0U);
        EXPECT_EQ(b.module().list(raid_category::online).size(), 1U);
    });
}

TEST(raid1, without_a_superblock_is_saved_and_shows_a_removed_leg_as_spdk_does) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug_and_create(false);
        EXPECT_EQ(b.registry->find("r0")->configuration()["params"]["base_bdevs"].dump(),
                  "[\"a\",\"b\"]");
        outcome<> removed = co_await b.module().remove_base("b");
        EXPECT_TRUE(removed) << removed.error().message;
        const json::value leg = b.shown()["base_bdevs_list"][1];
        EXPECT_EQ(leg.dump(),
                  "{\"name\":null,\"uuid\":\"00000000-0000-0000-0000-000000000000\","
                  "\"is_configured\":false,\"data_offset\":0,\"data_size\":1024}");
        EXPECT_EQ(b.shown()["num_base_bdevs_operational"].as_uint64(), 1U);
        EXPECT_EQ(b.registry->find("r0")->configuration()["params"]["base_bdevs"].dump(),
                  "[\"a\",\"removed_base_bdev_1\"]");
    });
}

// --- Refusals -----------------------------------------------------------------------------------

task<void> expect_refused(test_bed& bed, const raid_options& o, int error_number) {
    const std::string what = o.name;
    outcome<std::string> made = co_await bed.module().create(o);
    EXPECT_FALSE(made) << what;
    if (!made) {
        EXPECT_EQ(made.error().code, error::posix(error_number)) << made.error().message;
        EXPECT_FALSE(made.error().message.empty());
    }
    EXPECT_EQ(bed.module().list(raid_category::all).size(), 0U) << what;
}

TEST(raid1, is_refused_with_a_reason) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug("a");
        co_await b.plug("b", 512);
        const std::vector<std::string> a_and_b{"a", "b"}, one{"a"}, twice{"a", "a"};
        // The same by two names.
        const std::vector<std::string> alias{"a", test_bed::id_of("a").to_string()};
        raid_options o = options_of("block sizes", a_and_b);
        co_await expect_refused(b, o, EINVAL);
        o = options_of("one leg", one);
        co_await expect_refused(b, o, EINVAL);
        o = options_of("a leg twice", twice);
        co_await expect_refused(b, o, EINVAL);
        o = options_of("", a_and_b);
        co_await expect_refused(b, o, EINVAL);
        o = options_of("a", a_and_b);
        co_await expect_refused(b, o, EEXIST);
        o = options_of("level", a_and_b);
        o.raid_level = raid_level::concat;
        co_await expect_refused(b, o, EINVAL);
        o = options_of("strip", a_and_b);
        o.strip_size_kb = 64;
        co_await expect_refused(b, o, EINVAL);
        o = options_of("alias", alias);
        co_await expect_refused(b, o, EEXIST);
        // Claims were let go.
        outcome<bdev_desc> used = b.registry->open("a", access::write);
        EXPECT_TRUE(used) << used.error().message;
        o = options_of("in use", a_and_b);
        co_await expect_refused(b, o, EPERM);
    });
}

TEST(raid1, claims_its_legs) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug_and_create(false);
        EXPECT_FALSE(b.registry->open("a", access::write));
        EXPECT_TRUE(b.registry->open("a", access::read));
        outcome<> gone = co_await b.module().destroy("r0", false);
        EXPECT_TRUE(gone);
        EXPECT_TRUE(b.registry->open("a", access::write));
        EXPECT_EQ(b.registry->find("r0"), nullptr);
        gone = co_await b.module().destroy("r0", false);
        EXPECT_FALSE(gone);
    });
}

TEST(raid1, waits_for_legs_that_are_not_there_yet) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug("a");
        outcome<std::string> made = co_await b.create(false);
        EXPECT_TRUE(made) << made.error().message;
        EXPECT_EQ(b.registry->find("r0"), nullptr);
        EXPECT_EQ(b.shown()["state"].as_string(), "configuring");
        EXPECT_EQ(b.module().configuration().size(), 2U);
        co_await b.plug("b");
        EXPECT_NE(b.registry->find("r0"), nullptr);
        EXPECT_EQ(b.shown()["state"].as_string(), "online");
    });
}

TEST(raid1, is_as_large_as_its_smallest_leg) {
    test_bed bed;
    bed.world.make_file("/b", disk_bytes + 65536);
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug_and_create(true);
        EXPECT_EQ(b.registry->find("r0")->blocks().value(), (disk_bytes - data_at) / block_bytes);
    });
}

TEST(raid1, is_made_by_a_uri) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug("a");
        co_await b.plug("b");
        outcome<uri> address = uri::parse("raid1:///r7?base=a,b&superblock=true");
        EXPECT_TRUE(address);
        outcome<std::string> made = co_await create_raid_from_uri(*b.registry, *address);
        EXPECT_TRUE(made) << made.error().message;
        EXPECT_NE(b.registry->find("r7"), nullptr);
        EXPECT_TRUE(*b.shown()["superblock"].as_bool());
        address = uri::parse("raid1:///r8?bases=a,b");
        made = co_await create_raid_from_uri(*b.registry, *address);
        EXPECT_FALSE(made);
    });
}

// --- Reads --------------------------------------------------------------------------------------

TEST(raid1, read_tries_every_good_leg_before_it_fails) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug_and_create(false);
        result<> written = co_await b.write(3, 1);
        EXPECT_TRUE(written);
        b.disk("a").trouble().read_error = 1;
        for (int i = 0; i < 8; ++i) {
            result<std::uint64_t> got = co_await b.read(3);
            EXPECT_EQ(got.value_or(998), 1U);
        }
        b.disk("a").trouble() = {};
        b.disk("b").trouble().read_error = 1;
        for (int i = 0; i < 8; ++i) {
            result<std::uint64_t> got = co_await b.read(3);
            EXPECT_EQ(got.value_or(998), 1U);
        }
        b.disk("a").trouble().read_error = 1;
        const std::uint64_t before = b.world.device_operations();
        result<std::uint64_t> got = co_await b.read(3);
        EXPECT_FALSE(got);
        EXPECT_EQ(b.world.device_operations(), before + 2);
        // Reading alone ejects nobody.
        EXPECT_EQ(b.shown()["num_base_bdevs_operational"].as_uint64(), 2U);
        b.disk("a").trouble() = b.disk("b").trouble() = {};
    });
}

TEST(raid1, reads_are_shared_among_legs) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug_and_create(false);
        outcome<bdev_desc> desc = b.registry->open("r0", access::read);
        outcome<bdev_channel> keep = desc->open_channel();  // a thread's channel remembers
        EXPECT_TRUE(keep);
        const std::uint64_t on_a = b.disk("a").operations(), on_b = b.disk("b").operations();
        for (int i = 0; i < 10; ++i) {
            result<std::uint64_t> got = co_await b.read(3);
            EXPECT_TRUE(got);
        }
        EXPECT_EQ(b.disk("a").operations() - on_a, 5U);
        EXPECT_EQ(b.disk("b").operations() - on_b, 5U);
    });
}

TEST(raid1, lack_of_memory_is_waited_out_and_ejects_nobody) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug_and_create(false);
        for (const char* disk : {"a", "b"}) {
            for (std::uint64_t n = 1; n <= 3; ++n) b.disk(disk).fail_operation(n, ENOMEM);
            result<> written = co_await b.write(5, 2);
            EXPECT_TRUE(written);
            for (std::uint64_t n = 1; n <= 3; ++n) b.disk(disk).fail_operation(n, ENOMEM);
            for (int i = 0; i < 3; ++i) {
                result<std::uint64_t> got = co_await b.read(5);
                EXPECT_EQ(got.value_or(998), 2U);
            }
        }
        EXPECT_EQ(b.shown()["num_base_bdevs_operational"].as_uint64(), 2U);
    });
    EXPECT_TRUE(bed.disks_equal(0));
}

}  // namespace
}  // namespace nacre::raid
