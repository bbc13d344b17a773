// SPDX-License-Identifier: BSD-3-Clause
//
// Which legs are trusted after a restart.
#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include "modules/raid/intent_bitmap.hpp"
#include "modules/raid/test_bed.hpp"
#include "nacre/core/bytes.hpp"

namespace nacre::raid {
namespace {

task<void> plug_both(test_bed& b) {
    co_await b.plug("a");
    co_await b.plug("b");
}

/// r0 holds version 1 of block 1 on both legs, and was switched off in order.
void make_array(test_bed& bed) {
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug_and_create(true);
        result<> written = co_await b.write(1, 1);
        EXPECT_TRUE(written);
    });
}

/// Then it went on without `a`, and wrote version 2.
void make_a_stale(test_bed& bed) {
    make_array(bed);
    bed.live([](test_bed& b) -> task<void> {
        co_await plug_both(b);
        outcome<> removed = co_await b.module().remove_base("a");
        EXPECT_TRUE(removed) << removed.error().message;
        result<> written = co_await b.write(1, 2);
        EXPECT_TRUE(written);
    });
}

region_set dirty_regions(test_bed& bed, const std::string& disk) {
    superblock sb = bed.superblock_on(disk);
    const auto g = intent_geometry::of(sb.blocks, sb.block_size);
    std::optional<intent_slot> newest;
    for (unsigned i = 0; i < 2; ++i) {
        std::vector<std::byte> bytes(g.slot_stride());
        bed.disk(disk).peek_durable(g.slot_block(i) * sb.block_size, bytes);
        auto slot = intent_slot::decode(bytes, g, sb);
        if (slot && (!newest || slot->generation > newest->generation)) newest = *slot;
    }
    EXPECT_TRUE(newest) << "no valid bitmap on " << disk;
    return newest ? newest->dirty : region_set();
}

TEST(raid1_assembly, brings_an_array_back_when_its_legs_appear) {
    test_bed bed;
    make_array(bed);
    EXPECT_TRUE(dirty_regions(bed, "a").empty());
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug("b");
        EXPECT_EQ(b.registry->find("r0"), nullptr);
        EXPECT_EQ(b.shown()["state"].as_string(), "configuring");
        EXPECT_EQ(b.shown()["num_base_bdevs_operational"].as_uint64(), 2U);
        EXPECT_EQ(b.shown()["num_base_bdevs_discovered"].as_uint64(), 1U);
        EXPECT_FALSE(b.registry->open("b", access::write));
        co_await b.plug("a");
        EXPECT_NE(b.registry->find("r0"), nullptr);
        EXPECT_EQ(b.registry->find("r0")->attributes().id, test_bed::id_of("r0"));
        // It was switched off in order, so there is nothing to do.
        EXPECT_TRUE(b.module().settled());
        result<std::uint64_t> got = co_await b.read(1);
        EXPECT_EQ(got.value_or(998), 1U);
    });
    EXPECT_EQ(bed.superblock_on("a").sequence, 1U);
}

TEST(raid1_assembly, rebuilds_a_stale_leg_whichever_comes_first) {
    for (const bool stale_first : {true, false}) {
        test_bed bed;
        make_a_stale(bed);
        EXPECT_EQ(bed.version_on("a", 1), 1U);
        bed.live(stale_first ? [](test_bed& b) -> task<void> {
            co_await b.plug("a");
            EXPECT_EQ(b.registry->find("r0"), nullptr);
            co_await b.plug("b");
            result<std::uint64_t> got = co_await b.read(1);
            EXPECT_EQ(got.value_or(998), 2U);
            co_await b.settle();
        } : [](test_bed& b) -> task<void> {
            co_await b.plug("b");
            result<std::uint64_t> got = co_await b.read(1);
            EXPECT_EQ(got.value_or(998), 2U);
            co_await b.plug("a");
            co_await b.settle();
        });
        EXPECT_EQ(bed.version_on("a", 1), 2U);
        EXPECT_TRUE(bed.disks_equal());
        EXPECT_EQ(bed.superblock_on("a").sequence, 3U);
        EXPECT_EQ(bed.state_on("b", "a"), leg_state::configured);
    }
}

TEST(raid1_assembly, never_starts_from_a_stale_leg_alone) {
    test_bed bed;
    make_a_stale(bed);
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug("a");
        result<> slept = co_await sleep_for(60'000'000'000);
        EXPECT_TRUE(slept);
        EXPECT_EQ(b.registry->find("r0"), nullptr);
        EXPECT_EQ(b.shown()["state"].as_string(), "configuring");
    });
    EXPECT_EQ(bed.superblock_on("a").sequence, 1U);
}

TEST(raid1_assembly, starts_degraded_where_the_newest_superblock_says_so) {
    test_bed bed;
    make_a_stale(bed);
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug("b");
        EXPECT_NE(b.registry->find("r0"), nullptr);
        EXPECT_EQ(b.shown()["num_base_bdevs_operational"].as_uint64(), 1U);
        result<std::uint64_t> got = co_await b.read(1);
        EXPECT_EQ(got.value_or(998), 2U);
    });
    EXPECT_EQ(bed.superblock_on("b").sequence, 2U);
}

TEST(raid1_assembly, starts_with_absent_legs_where_somebody_says_so_and_makes_them_stale) {
    test_bed bed;
    make_array(bed);
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug("b");
        EXPECT_EQ(b.registry->find("r0"), nullptr);
        outcome<> started = co_await b.module().start_degraded("r0");
        EXPECT_TRUE(started) << started.error().message;
        EXPECT_NE(b.registry->find("r0"), nullptr);
        EXPECT_EQ(b.state_on("b", "a"), leg_state::missing);
        result<> written = co_await b.write(1, 5);
        EXPECT_TRUE(written);
        started = co_await b.module().start_degraded("r0");
        EXPECT_FALSE(started);
    });
    bed.live([](test_bed& b) -> task<void> {
        co_await plug_both(b);
        co_await b.settle();
        result<std::uint64_t> got = co_await b.read(1);
        EXPECT_EQ(got.value_or(998), 5U);
    });
    EXPECT_TRUE(bed.disks_equal());
}

TEST(raid1_assembly, does_not_touch_a_leg_that_went_on_by_itself) {
    test_bed bed;
    make_array(bed);
    for (const bool with_a : {true, false})
        bed.live(with_a ? [](test_bed& b) -> task<void> {
            co_await b.plug("a");
            outcome<> started = co_await b.module().start_degraded("r0");
            EXPECT_TRUE(started);
            result<> written = co_await b.write(1, 8);
            EXPECT_TRUE(written);
        } : [](test_bed& b) -> task<void> {
            co_await b.plug("b");
            outcome<> started = co_await b.module().start_degraded("r0");
            EXPECT_TRUE(started);
            result<> written = co_await b.write(1, 9);
            EXPECT_TRUE(written);
        });
    bed.live([](test_bed& b) -> task<void> {
        co_await plug_both(b);
        co_await b.settle();
        EXPECT_EQ(b.version_on("a", 1), 8U);
        EXPECT_EQ(b.version_on("b", 1), 9U);
        result<std::uint64_t> got = co_await b.read(1);
        EXPECT_EQ(got.value_or(998), 8U);
        // An administrator decides.
        outcome<> added = co_await b.module().add_base("r0", "b");
        EXPECT_TRUE(added) << added.error().message;
        co_await b.settle();
    });
    EXPECT_TRUE(bed.disks_equal());
    EXPECT_EQ(bed.version_on("b", 1), 8U);
}

TEST(raid1_assembly, ignores_a_leg_whose_superblock_is_broken_or_of_another_disk) {
    test_bed bed;
    make_array(bed);
    std::vector<std::byte> sb(4096);
    bed.disk("a").peek_durable(0, sb);
    bed.disk("c").poke(0, sb);  // copied: c is not named there
    bed.disk("b").rot(130);
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug("c");
        co_await b.plug("b");
        EXPECT_EQ(b.module().list(raid_category::all).size(), 0U);
        co_await b.plug("a");
        EXPECT_EQ(b.registry->find("r0"), nullptr);
        EXPECT_TRUE(b.registry->open("b", access::write));
    });
}

TEST(raid1_assembly, does_not_find_what_was_deleted_with_its_superblock) {
    test_bed bed;
    make_array(bed);
    bed.live([](test_bed& b) -> task<void> {
        co_await plug_both(b);
        outcome<> gone = co_await b.module().destroy("r0", true);
        EXPECT_TRUE(gone);
    });
    bed.live([](test_bed& b) -> task<void> {
        co_await plug_both(b);
        EXPECT_EQ(b.module().list(raid_category::all).size(), 0U);
        outcome<std::string> made = co_await b.create(true);
        EXPECT_TRUE(made) << made.error().message;
    });
}

TEST(raid1_assembly, refuses_to_make_an_array_of_a_leg_of_another) {
    test_bed bed;
    make_array(bed);
    bed.live([](test_bed& b) -> task<void> {
        b.registry->set_auto_examine(false);
        co_await plug_both(b);
        raid_options o;
        o.name = "other";
        o.base_bdevs.emplace_back("a");
        o.base_bdevs.emplace_back("b");
        o.superblock = true;
        outcome<std::string> made = co_await b.module().create(std::move(o));
        EXPECT_FALSE(made);
        EXPECT_TRUE(made.error().code.is(EEXIST));
    });
}

// --- After an unclean stop ----------------------------------------------------------------------

TEST(raid1_intents, are_durable_before_the_write_and_gone_after_an_idle_while) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug_and_create(true);
        result<> written = co_await b.write(1, 1);
        EXPECT_TRUE(written);
        written = co_await b.write(100, 1);
        EXPECT_TRUE(written);
        for (const char* disk : {"a", "b"}) {
            EXPECT_EQ(dirty_regions(b, disk).count(), 2U);
            EXPECT_TRUE(dirty_regions(b, disk).test(0));
            EXPECT_TRUE(dirty_regions(b, disk).test(100 / 16));
        }
        result<> slept = co_await sleep_for(4 * b.tuning.sweep_period_ns);
        EXPECT_TRUE(slept);
        for (const char* disk : {"a", "b"}) {
            EXPECT_TRUE(dirty_regions(b, disk).empty());
            EXPECT_EQ(b.disk(disk).unsynced_count(), 0U);
        }
        const std::uint64_t before = b.world.device_operations();
        slept = co_await sleep_for(100 * b.tuning.sweep_period_ns);
        EXPECT_TRUE(slept);
        EXPECT_EQ(b.world.device_operations(), before);
        written = co_await b.write(1, 2);
        EXPECT_TRUE(written);
        EXPECT_EQ(dirty_regions(b, "a").count(), 1U);
    });
}

TEST(raid1_intents, resynchronise_only_what_was_in_flight) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        test_bed bed(seed);
        make_array(bed);
        bed.live([](test_bed& b) -> task<void> {
            co_await plug_both(b);
            result<> written = co_await b.write(33, 4);
            EXPECT_TRUE(written);
            b.world.cut_power();
        });
        bed.world.restart();
        // Where no intent was, legs may differ as much as they like.
        std::vector<std::byte> elsewhere(block_bytes, std::byte{7});
        bed.disk("a").poke(data_at + 500 * block_bytes, elsewhere);
        bed.live([](test_bed& b) -> task<void> {
            co_await plug_both(b);
            result<std::uint64_t> got = co_await b.read(33);
            EXPECT_TRUE(got.value_or(998) == 4 || got.value_or(998) == 0 ||
                        got.value_or(998) == 999);
            co_await b.settle();
            result<std::uint64_t> again = co_await b.read(33);
            EXPECT_EQ(got, again);
        });
        EXPECT_EQ(bed.version_on("a", 33), bed.version_on("b", 33));
        std::vector<std::byte> b_elsewhere(block_bytes);
        bed.disk("b").peek(data_at + 500 * block_bytes, b_elsewhere);
        EXPECT_EQ(b_elsewhere, std::vector<std::byte>(block_bytes));
    }
}

TEST(raid1_intents, that_are_lost_on_all_legs_mean_that_everything_is_made_equal) {
    test_bed bed;
    make_array(bed);
    std::vector<std::byte> elsewhere(block_bytes, std::byte{7});
    bed.disk("b").poke(data_at + 500 * block_bytes, elsewhere);
    for (const char* disk : {"a", "b"})
        for (const std::uint64_t at : {32768 + 70, 32768 + 4096 + 70}) bed.disk(disk).rot(at);
    bed.live([](test_bed& b) -> task<void> {
        co_await plug_both(b);
        EXPECT_FALSE(b.module().settled());
        EXPECT_EQ(dirty_regions(b, "a").count(), 48U);
        co_await b.settle();
    });
    EXPECT_TRUE(bed.disks_equal());
    EXPECT_TRUE(dirty_regions(bed, "a").empty());
}

TEST(raid1_intents, keep_the_leg_that_the_others_are_made_equal_to) {
    test_bed bed;
    make_array(bed);
    for (const char* disk : {"a", "b"})
        for (const std::uint64_t at : {32768 + 70, 32768 + 4096 + 70}) bed.disk(disk).rot(at);
    bed.live([](test_bed& b) -> task<void> {
        co_await plug_both(b);
        EXPECT_FALSE(b.module().settled());
        outcome<> removed = co_await b.module().remove_base("a");
        EXPECT_TRUE(!removed && removed.error().code.is(EBUSY));
        EXPECT_TRUE(removed.error().message.contains("made equal")) << removed.error().message;
        co_await b.settle();
        removed = co_await b.module().remove_base("a");
        EXPECT_TRUE(removed) << removed.error().message;
    });
}

// --- Made by a real SPDK ------------------------------------------------------------------------

/// A folder with the two legs, unpacked.
class spdk_legs : public testing::Test {
protected:
    void SetUp() override {
        folder_ = "./nacre-raid1-XXXXXX";
        ASSERT_NE(::mkdtemp(folder_.data()), nullptr);
        for (const char* leg : {"leg_a", "leg_b"}) {
            const std::string command = "gzip -dc " NACRE_SOURCE_DIR
                                        "/modules/raid/testdata/raid1-" +
                                        std::string(leg) + ".img.gz > " + folder_ + "/" + leg;
            ASSERT_EQ(std::system(command.c_str()), 0);
        }
    }
    void TearDown() override { std::filesystem::remove_all(folder_); }
    std::string folder_;
};

task<void> use_spdk_legs(bdev_registry& registry, std::string folder) {
    raid_module& module = raid_module::of(registry);
    for (const char* leg : {"a", "b"}) {
        file_options o;
        o.name = std::string("leg_") + leg;
        o.filename = folder + "/leg_" + leg;
        o.block_size = 4096;
        o.uuid = *uuid::parse(std::string("11111111-2222-4333-8444-55555555550") +
                              (*leg == 'a' ? "1" : "2"));
        outcome<std::string> made = co_await create_file(registry, std::move(o));
        EXPECT_TRUE(made) << made.error().message;
    }
    EXPECT_NE(registry.find("R1"), nullptr);
    if (registry.find("R1") == nullptr) co_return;
    EXPECT_EQ(registry.find("R1")->attributes().id.to_string(),
              "227e3499-16f2-4e42-aced-dbd6e9818cc3");
    EXPECT_EQ(registry.find("R1")->blocks().value(), 5888U);
    outcome<bdev_desc> desc = registry.open("R1", access::read);
    outcome<bdev_channel> channel = desc->open_channel();
    result<dma_buffer> buffer = dma_buffer::allocate(byte_count(4 << 20));
    const iov_view view(buffer->writable_unchecked().data(), 4 << 20);
    result<> got = co_await channel->read(lba(0), view);
    EXPECT_TRUE(got);
    FILE* out = std::fopen((folder + "/read").c_str(), "wb");
    EXPECT_EQ(std::fwrite(view.data(), 1, view.size(), out), view.size());
    std::fclose(out);
    while (!module.settled()) {
        result<> slept = co_await sleep_for(1'000'000);
        EXPECT_TRUE(slept);
    }
}

std::string output_of(const std::string& command) {
    std::string text(200, '\0');
    FILE* pipe = popen(command.c_str(), "r");
    text.resize(std::fread(text.data(), 1, text.size(), pipe));
    pclose(pipe);
    return text;
}

TEST_F(spdk_legs, assemble_and_hold_what_spdk_wrote) {
    const std::string sb_before = output_of("head -c 4096 " + folder_ + "/leg_a | sha256sum");
    for (int life = 0; life < 2; ++life) {
        auto rt = runtime::make(real_world());
        ASSERT_TRUE(rt) << rt.error().message;
        bdev_registry registry(**rt);
        (*rt)->block_on(
            [](across<bdev_registry> r, std::string folder) -> task<void> {
                co_await use_spdk_legs(*r, folder);
                co_await r->remove_all();
            },
            across<bdev_registry>(registry), folder_);
        EXPECT_EQ(output_of("sha256sum < " + folder_ + "/read").substr(0, 64),
                  "e8bb80a8353639a8b830c10ab18a8a9761273d6dbe37cd3a5112ff8b92b065d0");
    }
    // Nothing changed in who is trusted, so the superblock is still SPDK's, byte for byte.
    EXPECT_EQ(output_of("head -c 4096 " + folder_ + "/leg_a | sha256sum"), sb_before);
}

}  // namespace
}  // namespace nacre::raid
