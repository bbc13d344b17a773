// SPDX-License-Identifier: BSD-3-Clause
#include "modules/modules.hpp"
#include "modules/raid/test_bed.hpp"

namespace nacre::raid {
namespace {

task<result<>> read_once(const bdev_channel& channel, std::vector<std::byte>& buffer,
                         unsigned& back) {
    const iov_view view(buffer.data(), buffer.size());
    result<> got = co_await channel.read(lba(3), view);
    ++back;
    co_return got;
}

TEST(raid1_rebuild, brings_a_removed_leg_up_to_date) {
    for (const bool with_superblock : {true, false}) {
        test_bed bed;
        bed.live(with_superblock ? [](test_bed& b) -> task<void> {
            co_await b.plug_and_create(true);
            outcome<> done = co_await b.module().remove_base("a");
            EXPECT_TRUE(done);
            result<> written = co_await b.write(9, 3);
            EXPECT_TRUE(written);
            done = co_await b.module().add_base("r0", "a");
            EXPECT_TRUE(done) << done.error().message;
            co_await b.settle();
            EXPECT_EQ(b.shown()["num_base_bdevs_operational"].as_uint64(), 2U);
            EXPECT_EQ(b.shown()["base_bdevs_list"][0]["name"].as_string(), "a");
        } : [](test_bed& b) -> task<void> {
            co_await b.plug_and_create(false);
            outcome<> done = co_await b.module().remove_base("a");
            EXPECT_TRUE(done);
            result<> written = co_await b.write(9, 3);
            EXPECT_TRUE(written);
            done = co_await b.module().add_base("r0", "a");
            EXPECT_TRUE(done) << done.error().message;
            co_await b.settle();
        });
        EXPECT_TRUE(bed.disks_equal(with_superblock ? data_at : 0));
        EXPECT_EQ(bed.version_on("a", 9, with_superblock ? data_at : 0), 3U);
    }
}

/// What was forwarded to a leg before the leg's own door watched is waited for also where channels
/// of the array opened the leg later than themselves.
TEST(raid1_rebuild, gives_a_leg_whose_quiesce_waits_for_what_the_array_forwarded) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug_and_create(false);
        outcome<bdev_desc> desc = b.registry->open("r0", access::read);
        outcome<bdev_channel> channel = desc->open_channel();
        EXPECT_TRUE(channel);
        outcome<> done = co_await b.module().remove_base("a");
        EXPECT_TRUE(done);
        co_await b.plug("c");
        outcome<std::string> made =
            co_await create_from_uri(*b.registry, "delay:///slow?base=c&avg_read_latency=1000000");
        EXPECT_TRUE(made) << made.error().message;
        done = co_await b.module().add_base("r0", "slow");
        EXPECT_TRUE(done) << done.error().message;
        co_await b.settle();
        unsigned back = 0;
        scope reading;
        std::vector<std::byte> buffer(block_bytes);
        for (int i = 0; i < 2; ++i) reading.spawn(read_once(*channel, buffer, back));
        result<> slept = co_await sleep_for(10'000'000);
        EXPECT_TRUE(slept);
        EXPECT_EQ(back, 1U) << "the other one is on the slow leg";
        result<range_lock> lock = co_await b.registry->find("slow")->quiesce();
        EXPECT_TRUE(lock);
        EXPECT_EQ(back, 2U);
        co_await lock->release();
        result<> joined = co_await reading.join();
        EXPECT_TRUE(joined);
    });
}

TEST(raid1_rebuild, takes_another_disk_in_the_place_of_a_lost_one) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug_and_create(true);
        result<> written = co_await b.write(9, 3);
        EXPECT_TRUE(written);
        co_await b.unplug("a");
        co_await b.plug("c");
        outcome<> done = co_await b.module().add_base("r0", "c");
        EXPECT_TRUE(done) << done.error().message;
        co_await b.settle();
        EXPECT_EQ(b.version_on("c", 9), 3U);
        EXPECT_EQ(b.state_on("b", "c"), leg_state::configured);
        done = co_await b.module().add_base("r0", "c");
        EXPECT_TRUE(done.error().code.is(EBUSY));
    });
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug("c");
        EXPECT_EQ(b.registry->find("r0"), nullptr);
        co_await b.plug("b");
        EXPECT_NE(b.registry->find("r0"), nullptr);
        co_await b.plug("a");  // is not of the array any more
        EXPECT_EQ(b.shown()["num_base_bdevs_operational"].as_uint64(), 2U);
        EXPECT_TRUE(b.registry->open("a", access::write));
    });
}

TEST(raid1_rebuild, shows_its_progress_and_keeps_to_the_bandwidth) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug_and_create(true);
        raid_process_options options;
        options.process_window_size_kb = 64;
        options.process_max_bandwidth_mb_sec = 1;
        outcome<> set = b.module().set_options(options);
        EXPECT_TRUE(set);
        outcome<> done = co_await b.module().remove_base("a");
        EXPECT_TRUE(done);
        const std::uint64_t began = b.world.monotonic_ns();
        done = co_await b.module().add_base("r0", "a");
        EXPECT_TRUE(done);
        result<> slept = co_await sleep_for(1'000'000'000);
        EXPECT_TRUE(slept);
        const json::value process = b.shown()["process"];
        EXPECT_EQ(process["type"].as_string(), "rebuild");
        EXPECT_EQ(process["target"].as_string(), "a");
        // A third of 3 MiB after a second.
        EXPECT_NEAR(static_cast<double>(*process["progress"]["percent"].as_uint64()), 33, 4);
        EXPECT_NEAR(static_cast<double>(*process["progress"]["blocks"].as_uint64()), 256, 32);
        EXPECT_EQ(b.shown()["num_base_bdevs_operational"].as_uint64(), 1U);
        EXPECT_EQ(b.shown()["num_base_bdevs_discovered"].as_uint64(), 2U);
        co_await b.settle();
        EXPECT_NEAR(static_cast<double>(b.world.monotonic_ns() - began) / 1e9, 3, 0.3);
        EXPECT_EQ(b.shown().find("process"), nullptr);
    });
}

TEST(raid1_rebuild, refuses_what_does_not_fit) {
    test_bed bed;
    bed.world.make_file("/c", 2 << 20);
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug_and_create(true);
        outcome<> done = co_await b.module().add_base("r0", "a");
        EXPECT_FALSE(done);
        done = co_await b.module().remove_base("a");
        EXPECT_TRUE(done);
        co_await b.plug("c");
        done = co_await b.module().add_base("r0", "c");
        EXPECT_TRUE(!done && done.error().code.is(EINVAL)) << "too small";
        done = co_await b.module().add_base("r0", "nobody");
        EXPECT_TRUE(!done && done.error().code.is(ENODEV));
        done = co_await b.module().add_base("nobody", "c");
        EXPECT_TRUE(!done && done.error().code.is(ENODEV));
        EXPECT_TRUE(b.registry->open("c", access::write));
    });
}

/// Writes go on everywhere while a leg is rebuilt; in the end the legs are equal.
TEST(raid1_rebuild, goes_on_while_others_write) {
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        test_bed bed(seed);
        bed.live(
            [](test_bed& b) -> task<void> {
                co_await b.plug_and_create(true);
                raid_process_options options;
                options.process_window_size_kb = 64;
                outcome<> done = b.module().set_options(options);
                EXPECT_TRUE(done);
                done = co_await b.module().remove_base("a");
                EXPECT_TRUE(done);
                std::vector<join_handle<void>> workers;
                for (unsigned t = 0; t < 3; ++t) {
                    thread& where = b.rt->make_thread("t" + std::to_string(t),
                                                      static_cast<int>(t % b.rt->reactor_count()));
                    workers.push_back(where.spawn(
                        [](across<test_bed> bed_of_all, unsigned part) -> task<void> {
                            test_bed& all = *bed_of_all;
                            prng dice(all.world.seed() * 10 + part);
                            for (std::uint64_t i = 0; i < 150; ++i) {
                                const std::uint64_t block = dice.below(250) * 3 + part;
                                result<> written = co_await all.write(block, 1 + i);
                                EXPECT_TRUE(written);
                                result<std::uint64_t> got = co_await all.read(block);
                                EXPECT_EQ(got.value_or(998), 1 + i);
                            }
                        },
                        across<test_bed>(b), t));
                }
                result<> slept = co_await sleep_for(1'000'000);
                EXPECT_TRUE(slept);
                done = co_await b.module().add_base("r0", "a");
                EXPECT_TRUE(done) << done.error().message;
                for (auto& w : workers) co_await w;
                co_await b.settle();
            },
            1 + static_cast<unsigned>(seed % 3));
        ASSERT_TRUE(bed.disks_equal()) << "seed " << seed;
    }
}

TEST(raid1_rebuild, whose_target_fails_leaves_the_array_as_it_was) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug_and_create(true);
        result<> written = co_await b.write(700, 1);
        EXPECT_TRUE(written);
        outcome<> done = co_await b.module().remove_base("a");
        EXPECT_TRUE(done);
        done = co_await b.module().add_base("r0", "a");
        EXPECT_TRUE(done);
        b.disk("a").trouble().write_error = 1;
        co_await b.settle();
        b.disk("a").trouble() = {};
        EXPECT_EQ(b.shown()["num_base_bdevs_operational"].as_uint64(), 1U);
        EXPECT_EQ(b.state_on("b", "a"), leg_state::missing);
        written = co_await b.write(700, 2);
        EXPECT_TRUE(written);
        done = co_await b.module().add_base("r0", "a");
        EXPECT_TRUE(done) << done.error().message;
        co_await b.settle();
        EXPECT_EQ(b.state_on("b", "a"), leg_state::configured);
    });
    EXPECT_TRUE(bed.disks_equal());
}

TEST(raid1_rebuild, cut_short_by_the_power_is_not_trusted) {
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        test_bed bed(seed);
        bed.live([](test_bed& b) -> task<void> {
            co_await b.plug_and_create(true);
            outcome<> done = co_await b.module().remove_base("a");
            EXPECT_TRUE(done);
            for (std::uint64_t block = 0; block < 760; block += 19) {
                result<> written = co_await b.write(block, 2, true);
                EXPECT_TRUE(written);
            }
            raid_process_options options;
            options.process_window_size_kb = 64;
            done = b.module().set_options(options);
            EXPECT_TRUE(done);
            done = co_await b.module().add_base("r0", "a");
            EXPECT_TRUE(done);
            b.world.cut_power_after(1 + b.world.dice().below(120));
            for (unsigned i = 0; i < 10'000 && !b.world.dead(); ++i) {
                result<> slept = co_await sleep_for(100'000);
                EXPECT_TRUE(slept);
                if (b.module().settled()) b.world.cut_power();
            }
        });
        bed.cut_power_and_restart();
        bed.live([](test_bed& b) -> task<void> {
            co_await b.plug("a");
            co_await b.plug("b");
            EXPECT_NE(b.registry->find("r0"), nullptr);
            for (std::uint64_t block = 0; block < 760; block += 19) {
                result<std::uint64_t> got = co_await b.read(block);
                EXPECT_EQ(got.value_or(998), 2U);
            }
            co_await b.settle();
            EXPECT_EQ(b.shown()["num_base_bdevs_operational"].as_uint64(), 2U);
        });
        ASSERT_TRUE(bed.disks_equal()) << "seed " << seed;
    }
}

TEST(raid1_rebuild, begins_anew_when_its_target_is_removed_and_added_again_meanwhile) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug_and_create(true);
        raid_process_options options;
        options.process_window_size_kb = 64;
        options.process_max_bandwidth_mb_sec = 1;  // 62 ms a window
        outcome<> done = b.module().set_options(options);
        EXPECT_TRUE(done);
        done = co_await b.module().remove_base("b");
        EXPECT_TRUE(done);
        done = co_await b.module().add_base("r0", "b");
        EXPECT_TRUE(done) << done.error().message;
        result<> slept = co_await sleep_for(400'000'000);
        EXPECT_TRUE(slept);
        // All of this within the pause after one window.
        done = co_await b.module().remove_base("b");
        EXPECT_TRUE(done);
        result<> written = co_await b.write(3, 2);
        EXPECT_TRUE(written);
        done = co_await b.module().add_base("r0", "b");
        EXPECT_TRUE(done) << done.error().message;
        co_await b.settle();
    });
    EXPECT_TRUE(bed.disks_equal());
}

}  // namespace
}  // namespace nacre::raid
