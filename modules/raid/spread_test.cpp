// SPDX-License-Identifier: BSD-3-Clause
//
// What raid0 and concat have in common: arrays that hold each block once.
#include "modules/malloc/malloc.hpp"
#include "modules/raid/test_scenario.hpp"
#include "nacre/sim/disk_model.hpp"
#include "nacre/sim/sweep.hpp"

namespace nacre::raid {
namespace {

constexpr raid_level both[] = {raid_level::raid0, raid_level::concat};

raid_options with_superblock(raid_level level, std::string_view legs) {
    raid_options o = test_bed::options_of(level, legs);
    o.superblock = true;
    return o;
}

struct shape {
    raid_level level;
    const char* legs;
    unsigned strip_size_kb;
    bool superblock;
};
constexpr shape shapes[] = {
    {raid_level::raid0, "abc", 4, true},   {raid_level::raid0, "abcd", 16, false},
    {raid_level::raid0, "ab", 64, true},   {raid_level::raid0, "a", 16, true},
    {raid_level::concat, "abc", 16, true}, {raid_level::concat, "a", 64, false},
    {raid_level::concat, "ab", 4, false},
};

task<void> exercise_shape(test_bed& b, const shape& s) {
    raid_options o = test_bed::options_of(s.level, s.legs);
    o.strip_size_kb = s.strip_size_kb;
    o.superblock = s.superblock;
    co_await b.make(std::move(o));
    outcome<bdev_desc> desc = b.registry->open("r0", access::write);
    EXPECT_TRUE(desc) << desc.error().message;
    if (!desc) co_return;
    outcome<bdev_channel> channel = desc->open_channel();
    sim::disk_model model(desc->device());
    // Up to 200 blocks, so that one op may fill a leg's vector several times.
    const sim::exercise_options options{
        .seed = b.world.seed(), .operations = 600, .workers = 3, .transfer_blocks_max = 200};
    outcome<> same = co_await sim::exercise(*channel, model, options);
    EXPECT_TRUE(same) << same.error().message;
}

template <std::size_t I>
void exercise_one() {
    test_bed bed(I + 1);
    bed.live([](test_bed& b) -> task<void> { co_await exercise_shape(b, shapes[I]); });
}

TEST(raid_spread, does_what_a_disk_does_whatever_its_shape) {
    exercise_one<0>();
    exercise_one<1>();
    exercise_one<2>();
    exercise_one<3>();
    exercise_one<4>();
    exercise_one<5>();
    exercise_one<6>();
}

task<void> check_split(test_bed& b, raid_level level) {
    for (const char* name : {"x", "y"}) {
        malloc_options o;
        o.name = name;
        o.num_blocks = 512;
        o.block_size = 512;
        o.optimal_io_boundary = 24;
        outcome<std::string> made = co_await create_malloc(*b.registry, std::move(o));
        EXPECT_TRUE(made) << made.error().message;
    }
    raid_options o = test_bed::options_of(level, "xy");
    co_await b.make(std::move(o));
    outcome<bdev_desc> desc = b.registry->open("r0", access::write);
    // Strips of 32 blocks, legs that want to be split at every 24th.
    EXPECT_EQ(desc->device().attributes().split_boundary(), 8U);
    outcome<bdev_channel> channel = desc->open_channel();
    sim::disk_model model(desc->device());
    const sim::exercise_options options{.seed = 4, .operations = 600, .workers = 2};
    outcome<> same = co_await sim::exercise(*channel, model, options);
    EXPECT_TRUE(same) << same.error().message;
    outcome<> gone = co_await b.module().destroy("r0", false);
    EXPECT_TRUE(gone);
    for (const char* name : {"x", "y"}) {
        gone = co_await b.registry->remove(name);
        EXPECT_TRUE(gone);
    }
}

TEST(raid_spread, keeps_a_boundary_that_its_legs_must_not_see_crossed) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        for (const raid_level level : both) co_await check_split(b, level);
    });
}

// --- Few ops ------------------------------------------------------------------------------------

std::uint64_t operations(test_bed& b) {
    return b.disk("a").operations() + b.disk("b").operations() + b.disk("c").operations();
}

task<void> count_operations(test_bed& b, raid_level level) {
    raid_options o = test_bed::options_of(level, "abc");
    o.name = level == raid_level::raid0 ? "r0" : "r1";
    const std::string name = o.name;
    co_await b.make(std::move(o));
    outcome<bdev_desc> desc = b.registry->open(name, access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    const std::uint64_t blocks = desc->device().blocks().value();
    std::vector<std::byte> data(block_bytes * 48, std::byte{7});
    const const_iov_view twelve_strips(data.data(), data.size());
    const const_iov_view one_strip(data.data(), block_bytes * 4);
    std::uint64_t before = operations(b);
    result<> done = co_await channel->write(lba(4), one_strip);
    EXPECT_TRUE(done);
    EXPECT_EQ(operations(b) - before, 1U);
    before = operations(b);
    // Around the end of the first leg of the concat.
    done = co_await channel->write(lba(1000), twelve_strips);
    EXPECT_TRUE(done);
    EXPECT_EQ(operations(b) - before, level == raid_level::raid0 ? 3U : 2U);
    before = operations(b);
    done = co_await channel->unmap(lba(2), block_count(blocks - 3));
    EXPECT_TRUE(done);
    EXPECT_EQ(operations(b) - before, 3U);
    before = operations(b);
    done = co_await channel->write_zeroes(lba(0), block_count(blocks));
    EXPECT_TRUE(done);
    EXPECT_EQ(operations(b) - before, 3U);
    before = operations(b);
    done = co_await channel->flush();
    EXPECT_TRUE(done);
    EXPECT_EQ(operations(b) - before, 3U);
    done = co_await channel->reset();
    EXPECT_TRUE(done);
    channel->close();
    desc->close();
    outcome<> gone = co_await b.module().destroy(name, false);
    EXPECT_TRUE(gone);
}

TEST(raid_spread, sends_one_run_to_each_leg_that_an_op_concerns) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        for (const raid_level level : both) co_await count_operations(b, level);
    });
}

TEST(raid_spread, waits_out_a_lack_of_memory_and_goes_to_the_same_place_again) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        for (const raid_level level : both) {
            raid_options o = test_bed::options_of(level, "ab");
            co_await b.make(std::move(o));
            outcome<bdev_desc> desc = b.registry->open("r0", access::write);
            outcome<bdev_channel> channel = desc->open_channel();
            const block_count all = desc->device().blocks();
            result<> zeroed = co_await channel->write_zeroes(lba(0), all);
            EXPECT_TRUE(zeroed);
            sim::disk_model model(desc->device());
            for (std::uint64_t n = 1; n < 60; n += 3) {
                b.disk("a").fail_operation(n, ENOMEM);
                b.disk("b").fail_operation(n + 1, ENOMEM);
            }
            const sim::exercise_options options{.seed = 9, .operations = 200};
            outcome<> same = co_await sim::exercise(*channel, model, options);
            EXPECT_TRUE(same) << same.error().message;
            channel->close();
            desc->close();
            outcome<> gone = co_await b.module().destroy("r0", false);
            EXPECT_TRUE(gone);
        }
    });
}

TEST(raid_spread, tells_of_a_leg_that_failed_within_an_op_of_several) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        raid_options o = test_bed::options_of(raid_level::raid0, "abc");
        co_await b.make(std::move(o));
        outcome<bdev_desc> desc = b.registry->open("r0", access::write);
        outcome<bdev_channel> channel = desc->open_channel();
        std::vector<std::byte> data(block_bytes * 48, std::byte{7});
        const const_iov_view view(data.data(), data.size());
        b.disk("b").fail_operation(1);
        result<> done = co_await channel->write(lba(0), view);
        EXPECT_FALSE(done);
        EXPECT_TRUE(done.error().is(EIO));
        done = co_await channel->write(lba(0), view);
        EXPECT_TRUE(done);
        EXPECT_EQ(b.shown()["state"].as_string(), "online");
    });
}

// --- Without a leg ------------------------------------------------------------------------------

task<void> remove_under_io(test_bed& b, raid_level level, bool by_method) {
    raid_options o = with_superblock(level, "abc");
    co_await b.make(std::move(o));
    outcome<bdev_desc> desc = b.registry->open("r0", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    sim::disk_model model(desc->device());
    struct user {
        static task<void> work(const bdev_channel& through, unsigned& refused) {
            std::vector<std::byte> data(block_bytes * 40, std::byte{1});
            const const_iov_view view(data.data(), data.size());
            for (std::uint64_t i = 0; i < 200; ++i) {
                result<> done = co_await through.write(lba(i * 11 % 700), view);
                if (done) continue;
                EXPECT_TRUE(done.error().is(ENODEV)) << describe(done.error());
                ++refused;
            }
        }
    };
    unsigned refused = 0;
    scope users;
    for (int i = 0; i < 4; ++i) users.spawn(user::work(*channel, refused));
    result<> slept = co_await sleep_for(2'000'000);
    EXPECT_TRUE(slept);
    if (by_method) {
        outcome<> removed = co_await b.module().remove_base("b");
        EXPECT_TRUE(removed) << removed.error().message;
    } else {
        co_await b.unplug("b");
    }
    EXPECT_EQ(b.registry->find("r0"), nullptr);
    EXPECT_FALSE(b.module().is_array("r0"));
    // The others were let go.
    EXPECT_TRUE(b.registry->open("a", access::write));
    result<> joined = co_await users.join();
    EXPECT_TRUE(joined);
    EXPECT_GT(refused, 0U);
    channel->close();
    desc->close();
    for (const char* name : {"a", "b", "c"})
        if (b.registry->find(name) != nullptr) co_await b.unplug(name);
    // Nothing was said on the legs: the array is there again when they are.
    co_await b.plug_all("abc");
    EXPECT_NE(b.registry->find("r0"), nullptr);
    outcome<> gone = co_await b.module().destroy("r0", true);
    EXPECT_TRUE(gone);
    for (const char* name : {"a", "b", "c"}) co_await b.unplug(name);
}

TEST(raid_spread, ends_with_the_first_leg_that_goes_and_completes_what_is_under_way) {
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
        test_bed bed(seed);
        bed.live([](test_bed& b) -> task<void> {
            for (const raid_level level : both) {
                co_await remove_under_io(b, level, false);
                co_await remove_under_io(b, level, true);
            }
        });
    }
}

// --- Refusals -----------------------------------------------------------------------------------

task<void> expect_refused(test_bed& b, raid_options o, int error_number, std::string_view why) {
    outcome<std::string> made = co_await b.module().create(std::move(o));
    EXPECT_FALSE(made) << why;
    if (made) co_return;
    EXPECT_EQ(made.error().code, error::posix(error_number)) << made.error().message;
    EXPECT_NE(made.error().message.find(why), std::string::npos) << made.error().message;
    EXPECT_EQ(b.module().list(raid_category::all).size(), 0U) << why;
}

task<void> check_refusals(test_bed& b) {
    co_await b.plug("a");
    co_await b.plug("b", 512);
    co_await b.plug("c");
    co_await b.plug("tiny");
    for (const raid_level level : both) {
        for (const unsigned kb : {0U, 3U, 2U}) {
            raid_options o = test_bed::options_of(level, "ac");
            o.strip_size_kb = kb;
            co_await expect_refused(b, std::move(o), EINVAL, "strip_size_kb");
        }
        raid_options o = test_bed::options_of(level, "aba");
        co_await expect_refused(b, std::move(o), EINVAL, "named twice");
        o = test_bed::options_of(level, "ab");
        co_await expect_refused(b, std::move(o), EINVAL, "blocks of 512 bytes");
        o = test_bed::options_of(level, "");
        co_await expect_refused(b, std::move(o), EINVAL, "base bdevs");
        o = test_bed::options_of(level, "a");
        o.base_bdevs.emplace_back("tiny");
        co_await expect_refused(b, std::move(o), EINVAL, "tiny has no room");
        o = test_bed::options_of(level, "a");
        o.base_bdevs.push_back(test_bed::id_of("a").to_string());
        co_await expect_refused(b, std::move(o), EEXIST, "is a leg of r0 already");
        o = test_bed::options_of(level, "a");
        for (int i = 0; i < 40; ++i) o.base_bdevs.push_back("n" + std::to_string(i));
        co_await expect_refused(b, std::move(o), EINVAL, "1 to 32 base bdevs, not 41");
    }
    outcome<bdev_desc> used = b.registry->open("a", access::write);
    EXPECT_TRUE(used) << "claims were let go: " << used.error().message;
}

TEST(raid_spread, is_refused_with_a_reason_and_leaves_nothing_behind) {
    test_bed bed;
    bed.world.make_file("/tiny", 2 * block_bytes);
    bed.live(&check_refusals);
}

// --- Assembly -----------------------------------------------------------------------------------

task<void> check_assembly(test_bed& b, raid_level level) {
    raid_options o = with_superblock(level, "abc");
    co_await b.make(std::move(o));
    result<> written = co_await b.write(600, 4);
    EXPECT_TRUE(written);
    EXPECT_TRUE(b.registry->find("r0")->configuration().is_null());
    for (const char* name : {"a", "b", "c"}) co_await b.unplug(name);
    EXPECT_EQ(b.registry->find("r0"), nullptr);
    co_await b.plug("c");
    co_await b.plug("a");
    EXPECT_EQ(b.registry->find("r0"), nullptr);
    EXPECT_EQ(b.shown()["state"].as_string(), "configuring");
    EXPECT_EQ(b.shown()["num_base_bdevs_discovered"].as_uint64(), 2U);
    EXPECT_EQ(b.shown()["num_base_bdevs_operational"].as_uint64(), 3U);
    outcome<> started = co_await b.module().start_degraded("r0");
    EXPECT_FALSE(started);
    EXPECT_NE(started.error().message.find("fewer than 3"), std::string::npos)
        << started.error().message;
    co_await b.plug("b");
    EXPECT_NE(b.registry->find("r0"), nullptr);
    result<std::uint64_t> got = co_await b.read(600);
    EXPECT_EQ(got.value_or(998), 4U);
    outcome<> gone = co_await b.module().destroy("r0", true);
    EXPECT_TRUE(gone);
    for (const char* name : {"a", "b", "c"}) co_await b.unplug(name);
    co_await b.plug_all("abc");
    EXPECT_EQ(b.module().list(raid_category::all).size(), 0U);
    for (const char* name : {"a", "b", "c"}) co_await b.unplug(name);
}

TEST(raid_spread, comes_back_when_its_legs_appear_and_never_without_one) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        for (const raid_level level : both) co_await check_assembly(b, level);
    });
}

TEST(raid_spread, does_not_start_from_a_superblock_that_makes_no_sense) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        raid_options o = with_superblock(raid_level::raid0, "ab");
        co_await b.make(std::move(o));
    });
    const superblock right = bed.superblock_on("a");
    const auto poke = [&](const char* disk, superblock sb) {
        const aligned_bytes bytes = sb.encode();
        bed.disk(disk).poke(0, bytes);
    };
    const auto starts = [&] {
        static bool online;
        bed.live([](test_bed& b) -> task<void> {
            co_await b.plug_all("ab");
            online = b.registry->find("r0") != nullptr;
        });
        return online;
    };
    EXPECT_TRUE(starts());
    superblock odd = right;
    for (const std::uint32_t strip : {0U, 3U, 1U << 31}) {
        odd.strip_size = strip;
        poke("a", odd);
        poke("b", odd);
        EXPECT_FALSE(starts()) << strip;
    }
    odd = right;
    odd.blocks += 1;
    poke("a", odd);
    poke("b", odd);
    EXPECT_FALSE(starts()) << "more blocks than the legs hold";
    odd = right;
    odd.legs[1].data_offset = UINT64_MAX - 3;
    poke("a", odd);
    poke("b", odd);
    EXPECT_FALSE(starts()) << "data beyond the end";
    odd = right;
    odd.legs[1].state = leg_state::failed;
    poke("a", odd);
    poke("b", odd);
    EXPECT_FALSE(starts()) << "a raid0 that lacks a leg";
    odd = right;
    odd.level = 5;
    poke("a", odd);
    poke("b", odd);
    EXPECT_FALSE(starts()) << "no such level";
    odd.level = 1;
    odd.strip_size = 0;
    poke("a", odd);
    poke("b", right);
    EXPECT_FALSE(starts()) << "two opinions";
    poke("a", right);
    EXPECT_TRUE(starts());
}

TEST(raid_spread, goes_by_the_newest_superblock_and_gives_it_to_the_legs_that_lag) {
    test_bed bed;
    bed.live([](test_bed& b) -> task<void> {
        raid_options o = with_superblock(raid_level::raid0, "ab");
        co_await b.make(std::move(o));
        result<> written = co_await b.write(5, 2);
        EXPECT_TRUE(written);
    });
    // SPDK writes them all when it starts an array; the power may go in between.
    superblock newer = bed.superblock_on("b");
    newer.sequence = 5;
    const aligned_bytes bytes = newer.encode();
    bed.disk("b").poke(0, bytes);
    bed.live([](test_bed& b) -> task<void> {
        co_await b.plug_all("ab");
        result<std::uint64_t> got = co_await b.read(5);
        EXPECT_EQ(got.value_or(998), 2U);
    });
    EXPECT_EQ(bed.superblock_on("a").sequence, 6U);
    EXPECT_EQ(bed.superblock_on("b").sequence, 6U);
}

// --- Power cuts and failures --------------------------------------------------------------------

class spread_scenario final : public array_scenario {
public:
    explicit spread_scenario(raid_level level) : array_scenario("ab"), level_(level) {}

private:
    static constexpr std::uint64_t blocks_used = 8;
    [[nodiscard]] static lba place(std::uint64_t i) { return lba(i * 190); }

    task<void> work(bdev_registry& registry) override {
        co_await plug(registry, "a");
        co_await plug(registry, "b");
        raid_options o = with_superblock(level_, "ab");
        outcome<std::string> created = co_await raid_module::of(registry).create(std::move(o));
        if (!created) {
            expect(fail(created.error()));
            co_return;
        }
        outcome<bdev_desc> desc = registry.open("r0", access::write);
        if (!desc) co_return;
        made_ = true;
        outcome<bdev_channel> channel = desc->open_channel();
        if (!channel) co_return;
        for (std::uint64_t version = 1; version <= 3; ++version) {
            std::uint64_t written[blocks_used];
            for (std::uint64_t i = 0; i < blocks_used; ++i) {
                tried_[i] = version;
                std::vector<std::byte> data(block_bytes, test_bed::pattern(i, version));
                const const_iov_view view(data.data(), data.size());
                result<> done = co_await channel->write(place(i), view);
                if (!done) expect(fail(failure(done.error(), "write")));
                written[i] = done ? version : durable_[i];
            }
            result<> flushed = co_await channel->flush();
            if (!flushed) expect(fail(failure(flushed.error(), "flush")));
            if (!flushed) continue;
            for (std::uint64_t i = 0; i < blocks_used; ++i) durable_[i] = written[i];
        }
    }

    task<void> look(bdev_registry& registry) override {
        if (!made_) co_return;
        co_await plug(registry, "b");
        co_await plug(registry, "a");
        outcome<bdev_desc> desc = registry.open("r0", access::read);
        if (!desc) {
            violation_ = fail(desc.error());
            co_return;
        }
        outcome<bdev_channel> channel = desc->open_channel();
        std::vector<std::byte> data(block_bytes);
        const iov_view view(data.data(), data.size());
        for (std::uint64_t i = 0; i < blocks_used; ++i) {
            result<> got = co_await channel->read(place(i), view);
            if (!got) violation_ = fail(failure(got.error(), "read"));
            const std::uint64_t found = test_bed::version_of(i, data);
            const bool torn = found == 999 && tried_[i] > durable_[i];
            if ((found < durable_[i] || found > tried_[i]) && !torn)
                violation_ = fail(EILSEQ, "block " + std::to_string(i) + " holds version " +
                                              std::to_string(found) + ", durable is " +
                                              std::to_string(durable_[i]));
        }
    }

    raid_level level_;
    std::uint64_t durable_[blocks_used] = {};
    std::uint64_t tried_[blocks_used] = {};
};

TEST(raid_spread, survives_a_power_cut_and_a_failure_at_every_operation_of_its_disks) {
    for (const raid_level level : both) {
        const auto make = [level] { return std::make_unique<spread_scenario>(level); };
        outcome<> swept = sim::sweep_power_cuts(make, {.repeats = 2});
        EXPECT_TRUE(swept) << swept.error().message;
        swept = sim::sweep_io_failures(make);
        EXPECT_TRUE(swept) << swept.error().message;
        swept = sim::sweep_io_failures(make, {}, ENOMEM);
        EXPECT_TRUE(swept) << swept.error().message;
    }
}

}  // namespace
}  // namespace nacre::raid
