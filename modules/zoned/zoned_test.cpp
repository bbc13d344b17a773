// SPDX-License-Identifier: BSD-3-Clause
#include "modules/zoned/zoned.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "modules/modules.hpp"
#include "modules/zoned/format.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/sim/disk_model.hpp"
#include "nacre/sim/world.hpp"

namespace nacre {
namespace {

constexpr std::size_t block_bytes = 4096;
constexpr const char* small =
    "zoned+file:///z.img?zone_size=64KiB&zone_capacity=48KiB&zones=4&max_open_zones=2"
    "&max_active_zones=3";

/// One life of a simulated machine; its file stays for the next.
void live(sim::world& w, task<void> (*body)(bdev_registry&)) {
    sim::with_registry(w, body);
    w.restart();
}

task<error> put(bdev_channel& channel, std::uint64_t at, std::uint64_t blocks, bool fua = false) {
    const std::vector<std::byte> data(blocks * block_bytes, static_cast<std::byte>(at + 1));
    const const_iov_view view(data.data(), data.size());
    result<> done = co_await channel.write(lba(at), view, fua);
    co_return done ? error() : done.error();
}
task<std::vector<zone_descriptor>> report(bdev_channel& channel) {
    std::vector<zone_descriptor> found(4);
    result<std::size_t> n = co_await channel.zone_report(lba(), found);
    EXPECT_TRUE(n && *n == 4);
    co_return found;
}
task<outcome<std::string>> open(bdev_registry& registry, bdev_desc& desc, bdev_channel& channel,
                                std::string address = small) {
    outcome<std::string> made = co_await create_from_uri(registry, std::move(address));
    if (!made) co_return made;
    outcome<bdev_desc> opened = registry.open(*made, access::write);
    desc = std::move(*opened);
    outcome<bdev_channel> c = desc.open_channel();
    channel = std::move(*c);
    co_return made;
}
/// How opening the file ends.
task<failure> refusal(bdev_registry& registry, std::string address) {
    outcome<std::string> made = co_await create_from_uri(registry, std::move(address));
    EXPECT_FALSE(made);
    EXPECT_EQ(registry.find("z.img_file"), nullptr);
    co_return made ? failure(error()) : made.error();
}

TEST(zoned, keeps_its_zones_across_a_restart) {
    sim::world w(3);
    live(w, [](bdev_registry& registry) -> task<void> {
        bdev_desc desc;
        bdev_channel channel;
        outcome<std::string> made = co_await open(registry, desc, channel);
        EXPECT_TRUE(made) << made.error().message;
        const bdev_attributes& a = desc.device().attributes();
        EXPECT_EQ(a.blocks.value(), 64U);
        EXPECT_EQ(a.zoned.zone_capacity.value(), 12U);
        EXPECT_EQ(a.zoned.open_zones_max, 2U);
        EXPECT_TRUE(a.write_cache);
        EXPECT_EQ(registry.find("z.img_file")->claimed(), claim::exclusive_write);
        error e = co_await put(channel, 0, 5);
        EXPECT_TRUE(e.ok());
        e = co_await put(channel, 16, 12);
        EXPECT_TRUE(e.ok());
        e = co_await put(channel, 32, 2);
        EXPECT_TRUE(e.ok());
        result<> done = co_await channel.zone_manage(zone_action::finish, lba(32));
        EXPECT_TRUE(done);
        done = co_await channel.zone_manage(zone_action::open, lba(48));
        EXPECT_TRUE(done);
    });
    live(w, [](bdev_registry& registry) -> task<void> {
        bdev_desc desc;
        bdev_channel channel;
        // What it is stands in the file.
        outcome<std::string> made =
            co_await open(registry, desc, channel, "zoned+file:///z.img?block_size=4096");
        EXPECT_TRUE(made) << made.error().message;
        const std::vector<zone_descriptor> found = co_await report(channel);
        EXPECT_EQ(found[0].state, zone_state::closed);
        EXPECT_EQ(found[0].write_pointer, lba(5));
        EXPECT_EQ(found[1].state, zone_state::full);
        EXPECT_EQ(found[2].state, zone_state::full);
        EXPECT_EQ(found[3].state, zone_state::empty);
        std::vector<std::byte> data(64 * block_bytes, std::byte{0xee});
        const iov_view all(data.data(), data.size());
        result<> done = co_await channel.read(lba(0), all);
        EXPECT_TRUE(done);
        const auto at = [&](std::uint64_t block) {
            return static_cast<unsigned>(data[block * block_bytes]);
        };
        EXPECT_EQ(at(0), 1U);
        EXPECT_EQ(at(4), 1U);
        EXPECT_EQ(at(5), 0U);
        EXPECT_EQ(at(27), 17U);
        EXPECT_EQ(at(28), 0U);
        EXPECT_EQ(at(33), 33U);
        EXPECT_EQ(at(34), 0U);
        EXPECT_EQ(desc.device().attributes().zoned.active_zones_max, 3U);
        EXPECT_EQ(desc.device().configuration().dump(),
                  R"({"method":"bdev_zoned_create","params":{"name":"z.img",)"
                  R"("base_bdev":"z.img_file","owns_base":true}})");
    });
}

task<void> check_limits(bdev_registry& registry) {
    bdev_desc desc;
    bdev_channel channel;
    outcome<std::string> made = co_await open(registry, desc, channel);
    EXPECT_TRUE(made) << made.error().message;
    result<> done = co_await channel.zone_manage(zone_action::open, lba(0));
    EXPECT_TRUE(done);
    done = co_await channel.zone_manage(zone_action::open, lba(16));
    EXPECT_TRUE(done);
    error e = co_await put(channel, 32, 1);
    EXPECT_EQ(e, zone_error::too_many_open);
    done = co_await channel.zone_manage(zone_action::close, lba(0));
    EXPECT_TRUE(done);
    e = co_await put(channel, 32, 1);
    EXPECT_TRUE(e.ok());
    e = co_await put(channel, 48, 1);
    EXPECT_EQ(e, zone_error::too_many_active);
    outcome<> degraded = co_await degrade_zone(registry, "z.img", 2, zone_state::read_only);
    EXPECT_TRUE(degraded) << degraded.error().message;
    e = co_await put(channel, 33, 1);
    EXPECT_EQ(e, zone_error::read_only);
    done = co_await channel.zone_manage(zone_action::reset, lba(32));
    EXPECT_EQ(done.error(), zone_error::invalid_transition);
    std::vector<std::byte> data(block_bytes);
    const iov_view one(data.data(), data.size());
    done = co_await channel.read(lba(32), one);
    EXPECT_TRUE(done);
    EXPECT_EQ(data[0], std::byte{33});
    done = co_await channel.zone_manage(zone_action::offline, lba(32));
    EXPECT_TRUE(done);
    done = co_await channel.read(lba(32), one);
    EXPECT_EQ(done.error(), zone_error::offline);
    e = co_await put(channel, 32, 1);
    EXPECT_EQ(e, zone_error::offline);
    degraded = co_await degrade_zone(registry, "z.img", 4, zone_state::read_only);
    EXPECT_TRUE(degraded.error().code.is(ERANGE));
    degraded = co_await degrade_zone(registry, "z.img_file", 0, zone_state::read_only);
    EXPECT_TRUE(degraded.error().code.is(ENODEV));
}

TEST(zoned, refuses_what_its_limits_and_lost_zones_forbid) {
    sim::world w(4);
    live(w, &check_limits);
    live(w, [](bdev_registry& registry) -> task<void> {
        bdev_desc desc;
        bdev_channel channel;
        outcome<std::string> made = co_await open(registry, desc, channel);
        EXPECT_TRUE(made) << made.error().message;
        const std::vector<zone_descriptor> found = co_await report(channel);
        EXPECT_EQ(found[2].state, zone_state::offline);
    });
}

TEST(zoned, makes_a_forced_write_durable_with_its_write_pointer) {
    for (const bool forced : {false, true}) {
        sim::world w(5);
        const auto work = [](bdev_registry& registry, bool fua) -> task<void> {
            bdev_desc desc;
            bdev_channel channel;
            outcome<std::string> made = co_await open(registry, desc, channel);
            error e = co_await put(channel, 0, 3);
            EXPECT_TRUE(e.ok());
            e = co_await put(channel, 3, 1, fua);
            EXPECT_TRUE(e.ok());
            static_cast<sim::world&>(registry.home_world()).cut_power();
        };
        static task<void> (*const chosen)(bdev_registry&, bool) = work;
        if (forced)
            live(w, [](bdev_registry& r) -> task<void> { co_await chosen(r, true); });
        else
            live(w, [](bdev_registry& r) -> task<void> { co_await chosen(r, false); });
        static bool was_forced;
        was_forced = forced;
        live(w, [](bdev_registry& registry) -> task<void> {
            bdev_desc desc;
            bdev_channel channel;
            outcome<std::string> made = co_await open(registry, desc, channel);
            EXPECT_TRUE(made) << made.error().message;
            const std::vector<zone_descriptor> found = co_await report(channel);
            EXPECT_EQ(found[0].write_pointer, lba(was_forced ? 4 : 0));
        });
    }
}

// --- Threads ------------------------------------------------------------------------------------

task<std::uint64_t> append_and_flush(across<bdev_desc> desc, std::uint64_t count) {
    outcome<bdev_channel> channel = desc->open_channel();
    const std::vector<std::byte> data(block_bytes, std::byte{7});
    const const_iov_view view(data.data(), data.size());
    std::uint64_t done = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
        result<lba> place = co_await channel->zone_append(lba(16), view);
        EXPECT_TRUE(place);
        result<> flushed = co_await channel->flush();
        EXPECT_TRUE(flushed);
        done += place && flushed ? 1 : 0;
    }
    co_return done;
}

TEST(zoned, serves_several_threads_by_one_keeper) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        sim::world w(seed);
        const auto work = [](bdev_registry& registry) -> task<void> {
            bdev_desc desc;
            bdev_channel channel;
            outcome<std::string> made = co_await open(registry, desc, channel);
            EXPECT_TRUE(made) << made.error().message;
            runtime& rt = registry.host();
            auto one = rt.make_thread("one").spawn(&append_and_flush, across<bdev_desc>(desc),
                                                   std::uint64_t{4});
            auto two = rt.make_thread("two").spawn(&append_and_flush, across<bdev_desc>(desc),
                                                   std::uint64_t{5});
            const std::uint64_t by_one = co_await one;
            const std::uint64_t by_two = co_await two;
            EXPECT_EQ(by_one + by_two, 9U);
            static_cast<sim::world&>(registry.home_world()).cut_power();
        };
        sim::with_registry(w, work, 3);
        w.restart();
        live(w, [](bdev_registry& registry) -> task<void> {
            bdev_desc desc;
            bdev_channel channel;
            outcome<std::string> made = co_await open(registry, desc, channel);
            EXPECT_TRUE(made) << made.error().message;
            const std::vector<zone_descriptor> found = co_await report(channel);
            EXPECT_EQ(found[1].write_pointer, lba(25));
        });
    }
}

// --- Damage and disagreement --------------------------------------------------------------------

void make_small(sim::world& w) {
    live(w, [](bdev_registry& registry) -> task<void> {
        bdev_desc desc;
        bdev_channel channel;
        outcome<std::string> made = co_await open(registry, desc, channel);
        EXPECT_TRUE(made) << made.error().message;
        const error e = co_await put(channel, 0, 5);
        EXPECT_TRUE(e.ok());
    });
}
void expect_intact(sim::world& w) {
    live(w, [](bdev_registry& registry) -> task<void> {
        bdev_desc desc;
        bdev_channel channel;
        outcome<std::string> made = co_await open(registry, desc, channel);
        EXPECT_TRUE(made) << made.error().message;
        if (!made) co_return;
        const std::vector<zone_descriptor> found = co_await report(channel);
        EXPECT_EQ(found[0].write_pointer, lba(5));
    });
}

TEST(zoned, survives_rot_in_one_copy_of_anything_and_mends_it) {
    for (std::uint64_t page = 0; page < 4; ++page) {
        sim::world w(6);
        make_small(w);
        w.file_at("/z.img").rot(page * 4096 + 70);
        expect_intact(w);
        // The other copy, once this one has been mended.
        w.file_at("/z.img").rot((page ^ 1) * 4096 + 70);
        expect_intact(w);
    }
}

TEST(zoned, refuses_a_device_whose_copies_are_both_damaged) {
    sim::world w(7);
    make_small(w);
    sim::file& disk = w.file_at("/z.img");
    disk.rot(3 * 4096 + 70);
    disk.rot(2 * 4096 + 70);
    live(w, [](bdev_registry& registry) -> task<void> {
        const failure f = co_await refusal(registry, small);
        EXPECT_TRUE(f.code.is(EILSEQ));
        EXPECT_NE(f.message.find("zones 0 to 3"), std::string::npos) << f.message;
    });
    disk.rot(3 * 4096 + 70);
    expect_intact(w);
    disk.rot(40);
    disk.rot(4096 + 40);
    live(w, [](bdev_registry& registry) -> task<void> {
        const failure f = co_await refusal(registry, small);
        EXPECT_TRUE(f.code.is(EILSEQ));
        EXPECT_NE(f.message.find("header"), std::string::npos) << f.message;
    });
}

TEST(zoned, refuses_a_truncated_file_and_one_of_something_else) {
    sim::world w(8);
    make_small(w);
    const std::uint64_t size = w.file_at("/z.img").size_bytes();
    w.file_at("/z.img").resize(size - 4096);
    live(w, [](bdev_registry& registry) -> task<void> {
        const failure f = co_await refusal(registry, small);
        EXPECT_TRUE(f.code.is(EINVAL));
        EXPECT_NE(f.message.find("truncated"), std::string::npos) << f.message;
    });
    w.make_file("/z.img", size);
    const std::byte one[1] = {std::byte{'x'}};
    w.file_at("/z.img").poke(5000, one);
    live(w, [](bdev_registry& registry) -> task<void> {
        const failure f = co_await refusal(registry, small);
        EXPECT_TRUE(f.code.is(EINVAL));
        EXPECT_NE(f.message.find("no zoned device"), std::string::npos) << f.message;
        EXPECT_TRUE(registry.home_world().file_exists("/z.img"));
    });
}

TEST(zoned, refuses_a_geometry_other_than_the_one_it_was_made_with) {
    sim::world w(9);
    make_small(w);
    live(w, [](bdev_registry& registry) -> task<void> {
        struct other {
            const char* parameter;
            const char* told;
        };
        static constexpr other others[] = {{"zone_size=128KiB", "zone_size"},
                                           {"zone_capacity=64KiB", "zone_capacity"},
                                           {"zones=5", "zones"},
                                           {"max_open_zones=1", "max_open_zones"},
                                           {"zone_size=64KiB&size=1MiB", "zones"},
                                           {"block_size=512", "block_size=4096"},
                                           {"uuid=22b5352d-a22d-4c68-84d9-614d347073c9", "uuid"}};
        for (const other& each : others) {
            std::string address = "zoned+file:///z.img?" + std::string(each.parameter);
            const failure f = co_await refusal(registry, std::move(address));
            EXPECT_TRUE(f.code.is(EINVAL)) << each.parameter;
            EXPECT_NE(f.message.find(each.told), std::string::npos) << f.message;
        }
    });
    expect_intact(w);
}

TEST(zoned, makes_nothing_of_parameters_that_make_no_zones) {
    sim::world w(10);
    live(w, [](bdev_registry& registry) -> task<void> {
        for (const char* parameters :
             {"zones=4", "zone_size=64KiB", "zone_size=64KiB&zone_capacity=65KiB&zones=4",
              "zone_size=64KiB&zone_capacity=128KiB&zones=4", "zone_size=64KiB&size=100KiB",
              "zone_size=64KiB&zones=4&size=256KiB", "zone_size=64KiB&zones=4&block_size=1000",
              "zone_size=64KiB&zones=4&max_open_zones=3&max_active_zones=2",
              "zone_size=64KiB&zones=99999999999", "zone_size=64KiB&zones=4&colour=red"}) {
            std::string address = "zoned+file:///z.img?" + std::string(parameters);
            const failure f = co_await refusal(registry, std::move(address));
            EXPECT_FALSE(f.message.empty());
            EXPECT_FALSE(registry.home_world().file_exists("/z.img")) << parameters;
        }
    });
}

task<void> check_layer(bdev_registry& registry) {
    outcome<std::string> base =
        co_await create_from_uri(registry, "malloc:///m?size=3MiB&block_size=512");
    EXPECT_TRUE(base) << base.error().message;
    zoned_options o;
    o.name = "z";
    o.base_bdev = "m";
    outcome<std::string> made = co_await create_zoned(registry, o);
    EXPECT_TRUE(made.error().code.is(ENOENT)) << made.error().message;
    o.zone_size = 512;
    o.zone_capacity = 500;
    made = co_await create_zoned(registry, o);
    EXPECT_TRUE(made) << made.error().message;
    // As many as fit behind the first MiB.
    EXPECT_EQ(registry.find("z")->blocks().value(), 8 * 512U);
    outcome<> gone = co_await delete_zoned(registry, "m");
    EXPECT_TRUE(gone.error().code.is(ENODEV));
    gone = co_await registry.remove("m");
    EXPECT_TRUE(gone);
    EXPECT_EQ(registry.find("z"), nullptr);
}

TEST(zoned, stands_on_any_bdev_and_goes_with_it) { sim::with_registry(real_world(), &check_layer); }

}  // namespace
}  // namespace nacre
