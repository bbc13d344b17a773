// SPDX-License-Identifier: BSD-3-Clause
//
// Legs that fail, and legs that are taken away.
#include "modules/raid/test_bed.hpp"

namespace nacre::raid {
namespace {

TEST(raid1_ejection, is_durable_before_the_write_is_acknowledged) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        test_bed bed(seed);
        bed.live([](test_bed& b) -> task<void> {
            co_await b.plug_and_create(true);
            result<> written = co_await b.write(1, 1);
            EXPECT_TRUE(written);
            b.disk("a").trouble().write_error = 1;
            written = co_await b.write(1, 2);
            EXPECT_TRUE(written);
            // At this very moment a power cut must find it.
            EXPECT_EQ(b.superblock_on("b").sequence, 2U);
            EXPECT_EQ(b.state_on("b", "a"), leg_state::failed);
            EXPECT_EQ(b.state_on("b", "b"), leg_state::configured);
            EXPECT_EQ(b.superblock_on("a").sequence, 1U);
            const std::uint64_t before = b.disk("a").operations();
            for (int i = 0; i < 6; ++i) {
                result<std::uint64_t> got = co_await b.read(1);
                EXPECT_EQ(got.value_or(998), 2U);
            }
            written = co_await b.write(2, 1);
            EXPECT_TRUE(written);
            EXPECT_EQ(b.disk("a").operations(), before);
            co_await b.settle();
            EXPECT_EQ(b.shown()["num_base_bdevs_operational"].as_uint64(), 1U);
            EXPECT_TRUE(b.shown()["base_bdevs_list"][0]["name"].is_null());
            // It was let go.
            EXPECT_TRUE(b.registry->open("a", access::write));
            b.disk("a").trouble() = {};
        });
    }
}

TEST(raid1_ejection, follows_a_failed_flush_and_a_failed_unmap) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug_and_create(true);
        result<> written = co_await b.write(1, 1);
        EXPECT_TRUE(written);
        b.disk("b").trouble().sync_error = 1;
        result<> flushed = co_await b.flush();
        EXPECT_TRUE(flushed);
        EXPECT_EQ(b.state_on("a", "b"), leg_state::failed);
        b.disk("b").trouble() = {};
    });
}

TEST(raid1_ejection, never_takes_the_last_leg) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug_and_create(true);
        outcome<> removed = co_await b.module().remove_base("a");
        EXPECT_TRUE(removed) << removed.error().message;
        removed = co_await b.module().remove_base("b");
        EXPECT_FALSE(removed);
        EXPECT_TRUE(removed.error().code.is(EBUSY));
        b.disk("b").trouble().write_error = 1;
        result<> written = co_await b.write(1, 1);
        EXPECT_FALSE(written);
        b.disk("b").trouble() = {};
        written = co_await b.write(1, 2);
        EXPECT_TRUE(written);
        EXPECT_EQ(b.state_on("b", "b"), leg_state::configured);
        EXPECT_EQ(b.state_on("b", "a"), leg_state::missing);
    });
}

TEST(raid1_ejection, leaves_legs_alone_that_failed_a_write_together_and_makes_them_equal) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        test_bed bed(seed);
        bed.live([](test_bed& b) -> task<void> {
            co_await b.plug_and_create(true);
            result<> written = co_await b.write(7, 1);
            EXPECT_TRUE(written);
            // Both scribble.
            b.disk("a").trouble().write_error = b.disk("b").trouble().write_error = 1;
            written = co_await b.write(7, 2);
            EXPECT_FALSE(written);
            b.disk("a").trouble() = b.disk("b").trouble() = {};
            outcome<bdev_desc> desc = b.registry->open("r0", access::read);
            outcome<bdev_channel> channel = desc->open_channel();
            std::vector<std::byte> first(block_bytes), again(block_bytes);
            for (int i = 0; i < 6; ++i) {
                std::vector<std::byte>& into = i == 0 ? first : again;
                const iov_view view(into.data(), into.size());
                result<> got = co_await channel->read(lba(7), view);
                EXPECT_TRUE(got);
                if (i != 0) {
                    EXPECT_EQ(first, again);
                }
            }
            co_await b.settle();
            EXPECT_EQ(b.shown()["num_base_bdevs_operational"].as_uint64(), 2U);
        });
        EXPECT_TRUE(bed.disks_equal());
    }
}

TEST(raid1_ejection, that_no_superblock_records_fails_the_write_and_all_later_ones) {
    test_bed bed;
    bed.tuning.record_retry_ns = 50'000'000;
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug_and_create(true);
        result<> written = co_await b.write(1, 1);
        EXPECT_TRUE(written);
        outcome<bdev_desc> desc = b.registry->open("r0", access::write);
        outcome<bdev_channel> channel = desc->open_channel();
        // The write itself fails on a; on b only what follows it: bitmap or superblock.
        b.disk("a").fail_operation(1);
        b.disk("b").fail_operation(2);
        std::vector<std::byte> data(block_bytes, test_bed::pattern(1, 2));
        const const_iov_view view(data.data(), data.size());
        written = co_await channel->write(lba(1), view);
        EXPECT_FALSE(written);
        EXPECT_EQ(b.superblock_on("b").sequence, 1U);
        written = co_await channel->write(lba(3), view);
        EXPECT_FALSE(written);
        // Reads go on, from the leg that had the write.
        for (int i = 0; i < 4; ++i) {
            result<std::uint64_t> got = co_await b.read(1);
            EXPECT_EQ(got.value_or(998), 2U);
        }
        result<> slept = co_await sleep_for(100'000'000);
        EXPECT_TRUE(slept);
        EXPECT_EQ(b.state_on("b", "a"), leg_state::failed);
        written = co_await channel->write(lba(3), view);
        EXPECT_TRUE(written);
    });
}

TEST(raid1_ejection, works_from_every_thread_at_once) {
    for (std::uint64_t seed = 1; seed <= 30; ++seed) {
        test_bed bed(seed);
        bed.live(
            [](test_bed& b) -> task<void> {
                co_await b.plug_and_create(true);
                std::vector<join_handle<std::uint64_t>> workers;
                for (unsigned t = 0; t < 4; ++t) {
                    thread& where = b.rt->make_thread("t" + std::to_string(t),
                                                      static_cast<int>(t % b.rt->reactor_count()));
                    workers.push_back(where.spawn(
                        [](across<test_bed> bed_of_all, unsigned part) -> task<std::uint64_t> {
                            test_bed& all = *bed_of_all;
                            std::uint64_t good = 0;
                            for (std::uint64_t i = 0; i < 40; ++i) {
                                // The fault comes while all are at work.
                                if (part == 0 && i == 10) all.disk("a").trouble().write_error = 1;
                                result<> written = co_await all.write(part * 100 + i, 3);
                                EXPECT_TRUE(written);
                                result<std::uint64_t> got = co_await all.read(part * 100 + i);
                                EXPECT_EQ(got.value_or(998), 3U);
                                good += written.has_value() ? 1 : 0;
                            }
                            co_return good;
                        },
                        across<test_bed>(b), t));
                }
                for (auto& w : workers) {
                    const std::uint64_t good = co_await w;
                    EXPECT_EQ(good, 40U);
                }
                EXPECT_EQ(b.state_on("b", "a"), leg_state::failed);
                co_await b.settle();
                b.disk("a").trouble() = {};
            },
            1 + static_cast<unsigned>(seed % 3));
    }
}

TEST(raid1_removal, of_a_leg_leaves_a_superblock_that_says_so) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug_and_create(true);
        outcome<> removed = co_await b.module().remove_base("b");
        EXPECT_TRUE(removed) << removed.error().message;
        EXPECT_EQ(b.state_on("a", "b"), leg_state::missing);
        removed = co_await b.module().remove_base("b");
        EXPECT_TRUE(removed.error().code.is(ENODEV));
        result<> written = co_await b.write(1, 1);
        EXPECT_TRUE(written);
        EXPECT_EQ(b.version_on("b", 1), 0U);
    });
}

TEST(raid1_removal, of_the_bdev_under_a_leg_degrades_and_of_the_last_one_ends_the_array) {
    for (const bool with_superblock : {false, true}) {
        test_bed bed;
        bed.live(with_superblock ? [](test_bed& b) -> task<void> {
            co_await b.plug_and_create(true);
            co_await b.unplug("a");
            EXPECT_EQ(b.state_on("b", "a"), leg_state::missing);
            result<> written = co_await b.write(1, 1);
            EXPECT_TRUE(written);
            co_await b.unplug("b");
            EXPECT_EQ(b.registry->find("r0"), nullptr);
            EXPECT_FALSE(b.module().is_array("r0"));
        } : [](test_bed& b) -> task<void> {
            co_await b.plug_and_create(false);
            co_await b.unplug("a");
            result<> written = co_await b.write(1, 1);
            EXPECT_TRUE(written);
            co_await b.unplug("b");
            EXPECT_EQ(b.registry->find("r0"), nullptr);
        });
    }
}

}  // namespace
}  // namespace nacre::raid
