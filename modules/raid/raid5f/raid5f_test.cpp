// SPDX-License-Identifier: BSD-3-Clause
#include "modules/raid/raid5f/raid5f.hpp"

#include "modules/malloc/malloc.hpp"
#include "modules/raid/raid5f/parity.hpp"
#include "modules/raid/raid5f/test_stripes.hpp"
#include "nacre/core/random.hpp"
#include "nacre/sim/disk_model.hpp"

namespace nacre::raid {
namespace {

// --- Parity -------------------------------------------------------------------------------------

TEST(parity, is_the_exclusive_or_whatever_the_ranges) {
    prng dice(3);
    for (int round = 0; round < 200; ++round) {
        const std::size_t sources = 2 + dice.below(6);
        const bool aligned = round % 2 == 0;
        const std::size_t unit = aligned ? parity_alignment : 1;
        const std::size_t bytes = (1 + dice.below(300)) * unit;
        std::vector<dma_buffer> memory;
        std::vector<std::vector<iovec>> vectors(sources);
        std::vector<iov_view> views;
        std::vector<std::byte> expected(bytes);
        for (std::size_t s = 0; s < sources; ++s) {
            memory.push_back(std::move(*dma_buffer::allocate(byte_count(bytes + 64))));
            std::byte* const base = memory.back().writable_unchecked().data() + (aligned ? 0 : s);
            dice.fill({base, bytes});
            for (std::size_t done = 0; done < bytes;) {
                const std::size_t n = std::min(bytes - done, (1 + dice.below(bytes / unit)) * unit);
                vectors[s].push_back(iovec{base + done, n});
                done += n;
            }
            views.emplace_back(std::span<const iovec>(vectors[s]));
            for (std::size_t i = 0; i < bytes; ++i) expected[i] ^= base[i];
        }
        auto out = *dma_buffer::allocate(byte_count(bytes));
        const std::span<std::byte> room = out.writable_unchecked().first(bytes);
        xor_into(room, views);
        EXPECT_TRUE(std::ranges::equal(room, expected)) << round;
        // Onto one of them.
        const iov_view two[] = {iov_view(room), views[0]};
        xor_into(room, two);
        views[0].for_each([at = std::size_t{0}, &expected](std::span<std::byte> r) mutable {
            for (const std::byte b : r) expected[at++] ^= b;
        });
        EXPECT_TRUE(std::ranges::equal(room, expected)) << round;
    }
}

// --- What it is ---------------------------------------------------------------------------------

TEST(raid5f, rotates_its_parity_as_spdk_does) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        co_await make_raid5f(b, "abcd", true);
        result<> written = co_await write_stripes(b, 0, 9, 3);  // in one op
        EXPECT_TRUE(written);
    });
    for (std::uint64_t stripe = 0; stripe < 9; ++stripe) {
        const unsigned parity = 3 - stripe % 4;
        for (std::uint64_t chunk = 0; chunk < 3; ++chunk) {
            const char disk = static_cast<char>('a' + (chunk < parity ? chunk : chunk + 1));
            for (std::uint64_t i = 0; i < strip; ++i) {
                const std::uint64_t block = (stripe * 3 + chunk) * strip + i;
                std::vector<std::byte> data(block_bytes);
                bed.disk(std::string(1, disk))
                    .peek(data_at + (stripe * strip + i) * block_bytes, data);
                EXPECT_EQ(test_bed::version_of(block, data), 3U) << block;
            }
        }
    }
    EXPECT_TRUE(parity_right(bed, "abcd"));
}

TEST(raid5f, is_shown_and_recorded_as_spdk_does) {
    test_bed bed;
    bed.world.make_file("/b", disk_bytes + 7 * block_bytes);
    bed.live([](test_bed& b) -> task<void> {
        co_await make_raid5f(b, "abc", true);
        const bdev_attributes& a = b.registry->find("r0")->attributes();
        EXPECT_EQ(a.blocks.value(), 2 * 768U);
        EXPECT_EQ(a.write_unit.value(), 2 * strip);
        EXPECT_EQ(a.optimal_boundary.value(), strip);
        EXPECT_EQ(a.operations & bit(opcode::unmap), 0U);
        EXPECT_EQ(b.shown()["raid_level"].as_string(), "raid5f");
        EXPECT_EQ(b.shown()["strip_size_kb"].as_uint64(), 16U);
    });
    const superblock sb = bed.superblock_on("b");
    EXPECT_EQ(sb.level, 95U);
    EXPECT_EQ(sb.strip_size, strip);
    EXPECT_EQ(sb.blocks, 2 * 768U);
    EXPECT_EQ(sb.legs[1].data_size, 768U);
}

TEST(raid5f, refuses_a_part_of_a_stripe) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        co_await make_raid5f(b, "abc", false);
        result<> written = co_await b.write(0, 1);
        EXPECT_TRUE(written.error().is(EINVAL));
        outcome<bdev_desc> desc = b.registry->open("r0", access::write);
        outcome<bdev_channel> channel = desc->open_channel();
        result<> zeroed = co_await channel->write_zeroes(lba(4), block_count(8));
        EXPECT_TRUE(zeroed.error().is(EINVAL));
        zeroed = co_await channel->write_zeroes(lba(8), block_count(16));
        EXPECT_TRUE(zeroed);
        zeroed = co_await channel->unmap(lba(8), block_count(16));
        EXPECT_TRUE(zeroed.error().is(ENOTSUP));
    });
}

TEST(raid5f, needs_three_legs_and_a_strip) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug_all("abc");
        raid_options o = test_bed::options_of(raid_level::raid5f, "ab");
        outcome<std::string> made = co_await b.module().create(std::move(o));
        EXPECT_TRUE(!made && made.error().code.is(EINVAL));
        o = test_bed::options_of(raid_level::raid5f, "abc");
        o.strip_size_kb = 2;
        made = co_await b.module().create(std::move(o));
        EXPECT_TRUE(!made && made.error().code.is(EINVAL));
        outcome<uri> address = uri::parse("raid5f:///r5?base=a,b,c&strip_size_kb=4");
        made = co_await create_raid_from_uri(*b.registry, *address);
        EXPECT_TRUE(made) << made.error().message;
    });
}

// --- As a disk ----------------------------------------------------------------------------------

task<void> exercise_r0(test_bed& b, std::uint64_t operations = 300) {
    outcome<bdev_desc> desc = b.registry->open("r0", access::write);
    EXPECT_TRUE(desc) << desc.error().message;
    if (!desc) co_return;
    outcome<bdev_channel> channel = desc->open_channel();
    // What nobody wrote may change when a leg goes; so everything is written first.
    const std::uint64_t blocks = desc->device().blocks().value();
    result<> zeroed = co_await channel->write_zeroes(lba(0), block_count(blocks));
    EXPECT_TRUE(zeroed);
    sim::disk_model model(desc->device());
    const sim::exercise_options options{
        .seed = b.world.seed(), .operations = operations, .workers = 3, .transfer_blocks_max = 60};
    outcome<> same = co_await sim::exercise(*channel, model, options);
    EXPECT_TRUE(same) << same.error().message;
}

TEST(raid5f, does_what_a_disk_does) {
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
        test_bed bed(seed);
        bed.tuning.sweep_period_ns = 3'000'000;
        bed.live([](test_bed& b) -> task<void> {
            co_await make_raid5f(b, b.world.seed() % 2 == 0 ? "abc" : "abcd", true);
            co_await exercise_r0(b);
        });
        EXPECT_TRUE(parity_right(bed, seed % 2 == 0 ? "abc" : "abcd"));
    }
}

TEST(raid5f, does_what_a_disk_does_without_a_leg_and_while_that_is_rebuilt) {
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
        test_bed bed(seed);
        bed.live([](test_bed& b) -> task<void> {
            co_await make_raid5f(b, "abc", true);
            outcome<> done = co_await b.module().remove_base("b");
            EXPECT_TRUE(done) << done.error().message;
            co_await exercise_r0(b);
            raid_process_options slowly;
            slowly.process_window_size_kb = 64;
            slowly.process_max_bandwidth_mb_sec = 20;
            done = b.module().set_options(slowly);
            EXPECT_TRUE(done);
            done = co_await b.module().add_base("r0", "b");
            EXPECT_TRUE(done) << done.error().message;
            co_await exercise_r0(b, 100);
            EXPECT_FALSE(b.module().settled()) << "to be of use, it goes on meanwhile";
            co_await b.settle();
            EXPECT_EQ(b.shown()["num_base_bdevs_operational"].as_uint64(), 3U);
        });
        EXPECT_TRUE(parity_right(bed, "abc"));
    }
}

TEST(raid5f, waits_out_a_lack_of_memory_and_ejects_nobody) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        co_await make_raid5f(b, "abc", false);
        for (std::uint64_t n = 1; n < 90; n += 3)
            for (const char* disk : {"a", "b", "c"})
                b.disk(disk).fail_operation(n + (*disk == 'b' ? 1 : 0), ENOMEM);
        co_await exercise_r0(b);
        EXPECT_EQ(b.shown()["num_base_bdevs_operational"].as_uint64(), 3U);
    });
}

// --- Reading what a leg does not tell -----------------------------------------------------------

TEST(raid5f, reads_around_a_leg_that_cannot_and_tells_when_two_cannot) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        co_await make_raid5f(b, "abc", false);
        result<> written = co_await write_stripes(b, 0, 6, 5);
        EXPECT_TRUE(written);
        for (const char* bad : {"a", "b", "c"}) {
            b.disk(bad).trouble().read_error = 1;
            for (std::uint64_t block = 0; block < 6 * 2 * strip; ++block) {
                result<std::uint64_t> got = co_await b.read(block);
                EXPECT_EQ(got.value_or(998), 5U) << block;
            }
            const bool whole = co_await holds(b, 0, 6, 5);
            EXPECT_TRUE(whole) << "in one read";
            b.disk(bad).trouble() = {};
        }
        // Reading alone ejects nobody.
        EXPECT_EQ(b.shown()["num_base_bdevs_operational"].as_uint64(), 3U);
        b.disk("a").trouble().read_error = b.disk("b").trouble().read_error = 1;
        result<std::uint64_t> got = co_await b.read(0);
        EXPECT_FALSE(got);
        b.disk("a").trouble() = b.disk("b").trouble() = {};
    });
}

// --- Legs that fail or go -----------------------------------------------------------------------

TEST(raid5f, ejects_a_leg_that_fails_a_write_before_that_is_acknowledged) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        co_await make_raid5f(b, "abc", true);
        result<> written = co_await write_stripes(b, 0, 4, 1);
        EXPECT_TRUE(written);
        b.disk("b").trouble().write_error = 1;
        written = co_await write_stripes(b, 0, 4, 2);
        EXPECT_TRUE(written);
        EXPECT_EQ(b.state_on("a", "b"), leg_state::failed);
        EXPECT_EQ(b.state_on("c", "b"), leg_state::failed);
        const bool there = co_await holds(b, 0, 4, 2);
        EXPECT_TRUE(there);
        // It cannot do without another one.
        b.disk("c").trouble().write_error = 1;
        written = co_await write_stripes(b, 0, 1, 3);
        EXPECT_FALSE(written);
        EXPECT_EQ(b.shown()["num_base_bdevs_operational"].as_uint64(), 2U);
        b.disk("b").trouble() = b.disk("c").trouble() = {};
        written = co_await write_stripes(b, 0, 1, 4);
        EXPECT_TRUE(written);
        outcome<> removed = co_await b.module().remove_base("c");
        EXPECT_TRUE(!removed && removed.error().code.is(EBUSY)) << removed.error().message;
        co_await b.settle();
    });
}

TEST(raid5f, rebuilds_another_disk_in_the_place_of_a_lost_one) {
    for (const char* lost : {"a", "b", "c"}) {
        test_bed bed;
        static std::string name;
        name = lost;
        bed.live([](test_bed& b) -> task<void> {
            co_await make_raid5f(b, "abc", true);
            result<> written = co_await write_stripes(b, 0, 20, 1);
            EXPECT_TRUE(written);
            co_await b.unplug(name);
            written = co_await write_stripes(b, 5, 3, 2);
            EXPECT_TRUE(written);
            co_await b.plug("d");
            outcome<> done = co_await b.module().add_base("r0", "d");
            EXPECT_TRUE(done) << done.error().message;
            co_await b.settle();
        });
        std::string now = "abc";
        now[static_cast<std::size_t>(*lost - 'a')] = 'd';
        EXPECT_TRUE(parity_right(bed, now));
        EXPECT_EQ(bed.state_on("d", "d"), leg_state::configured);
        bed.live([](test_bed& b) -> task<void> {
            co_await b.plug("d");
            for (const char* disk : {"a", "b", "c"})
                if (name != disk) co_await b.plug(disk);
            const bool first = co_await holds(b, 0, 5, 1);
            const bool second = co_await holds(b, 5, 3, 2);
            const bool third = co_await holds(b, 8, 12, 1);
            EXPECT_TRUE(first && second && third);
        });
    }
}

TEST(raid5f, ends_with_the_second_leg_that_goes_and_completes_what_is_under_way) {
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
        test_bed bed(seed);
        bed.live(
            [](test_bed& b) -> task<void> {
                co_await make_raid5f(b, "abcd", true);
                struct user {
                    static task<void> work(test_bed& all, std::uint64_t part, bool& refused) {
                        for (std::uint64_t i = 0; i < 60; ++i) {
                            result<> written = co_await write_stripes(all, part * 8 + i % 8, 1, 3);
                            if (!written) refused = true;
                            result<std::uint64_t> got = co_await all.read(part * 8 * 12 + i);
                            (void)got;
                        }
                    }
                };
                bool refused = false;
                scope users;
                for (std::uint64_t i = 0; i < 4; ++i) users.spawn(user::work(b, i, refused));
                result<> slept = co_await sleep_for(2'000'000);
                EXPECT_TRUE(slept);
                co_await b.unplug("b");
                EXPECT_NE(b.registry->find("r0"), nullptr);
                EXPECT_FALSE(refused);
                slept = co_await sleep_for(2'000'000);
                co_await b.unplug("d");
                EXPECT_EQ(b.registry->find("r0"), nullptr);
                result<> joined = co_await users.join();
                EXPECT_TRUE(joined);
                EXPECT_TRUE(refused);
                EXPECT_TRUE(b.registry->open("a", access::write));
            },
            1 + static_cast<unsigned>(seed % 2));
    }
}

// --- Found again --------------------------------------------------------------------------------

TEST(raid5f_assembly, starts_without_the_leg_that_the_newest_superblock_lacks_and_rebuilds_it) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        co_await make_raid5f(b, "abc", true);
        result<> written = co_await write_stripes(b, 0, 8, 1);
        EXPECT_TRUE(written);
        outcome<> removed = co_await b.module().remove_base("a");
        EXPECT_TRUE(removed);
        written = co_await write_stripes(b, 0, 8, 2);
        EXPECT_TRUE(written);
    });
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug("a");
        co_await b.plug("b");
        EXPECT_EQ(b.registry->find("r0"), nullptr) << "a is stale, c is missing";
        co_await b.plug("c");
        const bool there = co_await holds(b, 0, 8, 2);
        EXPECT_TRUE(there);
        co_await b.settle();
        EXPECT_EQ(b.shown()["num_base_bdevs_operational"].as_uint64(), 3U);
    });
    EXPECT_TRUE(parity_right(bed, "abc"));
}

TEST(raid5f_assembly, makes_parity_right_after_an_unclean_stop) {
    for (std::uint64_t seed = 1; seed <= 10; ++seed) {
        test_bed bed(seed);
        bed.live([](test_bed& b) -> task<void> {
            co_await make_raid5f(b, "abc", true);
            result<> written = co_await write_stripes(b, 0, 30, 1);
            EXPECT_TRUE(written);
            for (std::uint64_t i = 0; i < 10; ++i) {
                written = co_await write_stripes(b, i * 3, 1, 2);
                EXPECT_TRUE(written);
            }
            b.world.cut_power();  // nothing was flushed
        });
        bed.world.restart();
        bed.live([](test_bed& b) -> task<void> {
            co_await b.plug_all("abc");
            EXPECT_FALSE(b.module().settled());
            EXPECT_EQ(b.shown()["process"]["type"].as_string(), "resync");
            co_await b.settle();
        });
        EXPECT_TRUE(parity_right(bed, "abc")) << seed;
    }
}

TEST(raid5f_assembly, of_an_array_that_another_wrote_checks_all_of_it) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        co_await make_raid5f(b, "abc", true);
        result<> written = co_await write_stripes(b, 0, 90, 1);
        EXPECT_TRUE(written);
    });
    // SPDK knows of no bitmap; it stopped in the middle of a stripe.
    superblock sb = bed.superblock_on("a");
    ++sb.sequence;
    const aligned_bytes bytes = sb.encode();
    for (const char* disk : {"a", "b", "c"}) bed.disk(disk).poke(0, bytes);
    const std::vector<std::byte> torn(block_bytes, std::byte{0x77});
    bed.disk("c").poke(data_at + 300 * block_bytes, torn);
    EXPECT_FALSE(parity_right(bed, "abc"));
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug_all("abc");
        // Until then every leg is needed.
        outcome<> removed = co_await b.module().remove_base("a");
        EXPECT_TRUE(!removed && removed.error().code.is(EBUSY));
        co_await b.settle();
        EXPECT_EQ(b.shown()["num_base_bdevs_operational"].as_uint64(), 3U);
    });
    EXPECT_TRUE(parity_right(bed, "abc"));
}

}  // namespace
}  // namespace nacre::raid
