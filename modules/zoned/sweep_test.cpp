// SPDX-License-Identifier: BSD-3-Clause
//
// A zoned device through its whole life (made, written, appended to, finished, reset, closed and
// opened again), with the power cut at every operation of its disk, and with every one of them
// failing once. Against a model that knows, of each zone, what was acknowledged, what of that was
// flushed, and what each block was last written with.
#include "nacre/sim/bdev_scenario.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "modules/zoned/zoned.hpp"
#include "nacre/runtime/sleep.hpp"

namespace nacre {
namespace {

constexpr std::uint64_t zones = 6;
constexpr std::uint64_t zone_size = 16;
constexpr std::uint64_t capacity = 12;
constexpr std::size_t block_bytes = 4096;
constexpr const char* new_device =
    "zoned+file:///z.img?zone_size=64KiB&zone_capacity=48KiB&zones=6&max_active_zones=5";

struct zone_model {
    std::uint64_t durable = 0;        // blocks that must be there
    std::uint64_t acknowledged = 0;   // blocks that may be relied on until the next crash
    std::uint64_t content[capacity];  // versions of the acknowledged ones
    std::set<std::uint64_t> tried;    // versions that may have got there
    bool maybe_empty = false;         // a reset failed
    bool maybe_full = false;          // a finish failed
    bool full = false;                // a finish was acknowledged
    zone_state degraded = zone_state::empty;
    zone_state maybe_degraded = zone_state::empty;
};

class zoned_scenario final : public sim::bdev_scenario {
    void prepare(sim::world&) override {}  // the module makes its file
    using bdev_scenario::violate;
    void violate(std::string what) { violate(failure(error::posix(EILSEQ), std::move(what))); }
    void expect(const result<>& done, const char* what) {
        if (!done && !w_->disturbed()) violate(std::string(what) + ": " + describe(done.error()));
    }

    task<outcome<std::string>> open(bdev_registry& registry, std::string text) {
        outcome<uri> address = uri::parse(text);
        outcome<std::string> made =
            co_await create_zoned_file_from_uri(registry, std::move(*address));
        co_return made;
    }

    // --- Work -----------------------------------------------------------------------------------

    task<result<std::uint64_t>> pointer_of(bdev_channel& channel, std::uint64_t zone) {
        zone_descriptor d;
        const std::span<zone_descriptor> one(&d, 1);
        result<std::size_t> n = co_await channel.zone_report(lba(zone * zone_size), one);
        if (!n) co_return fail(n.error());
        co_return d.write_pointer.value() - zone* zone_size;
    }
    [[nodiscard]] static std::vector<std::uint64_t> filled(std::uint64_t version,
                                                           std::uint64_t blocks) {
        return std::vector<std::uint64_t>(blocks * block_bytes / 8, version);
    }
    void wrote(std::uint64_t zone, std::uint64_t at, std::uint64_t n, std::uint64_t version) {
        zone_model& z = zones_[zone];
        for (std::uint64_t b = at; b < at + n; ++b) z.content[b] = version;
        z.acknowledged = std::max(z.acknowledged, at + n);
    }

    task<void> write(bdev_channel& channel, std::uint64_t zone, std::uint64_t n,
                     bool force = false) {
        if (w_->dead()) co_return;
        result<std::uint64_t> at = co_await pointer_of(channel, zone);
        if (!at || *at + n > capacity) co_return;
        zone_model& z = zones_[zone];
        const std::uint64_t version = ++last_version_;
        z.tried.insert(version);
        const std::vector<std::uint64_t> data = filled(version, n);
        const const_iov_view view(data.data(), data.size() * 8);
        const lba place(zone * zone_size + *at);
        result<> done = co_await channel.write(place, view, force);
        expect(done, "write");
        if (!done) co_return;
        wrote(zone, *at, n, version);
        if (force) z.durable = *at + n;
    }
    task<result<>> append(bdev_channel& channel, std::uint64_t zone, std::uint64_t n) {
        const std::uint64_t version = ++last_version_;
        zones_[zone].tried.insert(version);
        const std::vector<std::uint64_t> data = filled(version, n);
        const const_iov_view view(data.data(), data.size() * 8);
        const lba start(zone * zone_size);
        result<lba> place = co_await channel.zone_append(start, view);
        if (place) {
            wrote(zone, place->value() - zone * zone_size, n, version);
        } else {
            const result<> failed = fail(place.error());
            expect(failed, "append");
        }
        co_return result<>();
    }
    task<void> append_together(bdev_channel& channel, std::uint64_t zone) {
        if (w_->dead()) co_return;
        scope children;
        for (int i = 0; i < 3; ++i) children.spawn(append(channel, zone, 2));
        result<> joined = co_await children.join();
        expect(joined, "appends");
    }
    task<void> flush(bdev_channel& channel) {
        if (w_->dead()) co_return;
        std::uint64_t before[zones];
        for (std::uint64_t z = 0; z < zones; ++z) before[z] = zones_[z].acknowledged;
        result<> done = co_await channel.flush();
        expect(done, "flush");
        if (!done) co_return;
        for (std::uint64_t z = 0; z < zones; ++z) {
            zones_[z].durable = before[z];
            zones_[z].maybe_empty = zones_[z].maybe_full = false;
            zones_[z].maybe_degraded = zone_state::empty;
        }
    }
    task<void> reset(bdev_channel& channel, std::uint64_t zone, bool all = false) {
        if (w_->dead()) co_return;
        for (std::uint64_t z = all ? 0 : zone; z < (all ? zones : zone + 1); ++z)
            if (zones_[z].degraded == zone_state::empty) zones_[z].maybe_empty = true;
        result<> done;
        if (all)
            done = co_await channel.zone_manage_all(zone_action::reset);
        else
            done = co_await channel.zone_manage(zone_action::reset, lba(zone * zone_size));
        expect(done, "reset");
        if (!done) co_return;
        for (std::uint64_t z = all ? 0 : zone; z < (all ? zones : zone + 1); ++z)
            if (zones_[z].degraded == zone_state::empty) zones_[z] = zone_model();
    }
    task<void> finish(bdev_channel& channel, std::uint64_t zone) {
        if (w_->dead()) co_return;
        zone_model& z = zones_[zone];
        z.maybe_full = true;
        result<> done = co_await channel.zone_manage(zone_action::finish, lba(zone * zone_size));
        expect(done, "finish");
        if (!done) co_return;
        z.full = true;
        z.durable = z.acknowledged;
    }
    task<void> degrade(bdev_registry& registry, std::uint64_t zone, zone_state state) {
        if (w_->dead()) co_return;
        zone_model& z = zones_[zone];
        z.maybe_degraded = state;
        outcome<> done = co_await degrade_zone(registry, "z.img", zone, state);
        const result<> degraded = done ? result<>() : result<>(fail(done.error().code));
        expect(degraded, "degrade");
        if (!done) co_return;
        z.degraded = state;
        z.durable = z.acknowledged;
    }

    task<void> first_life(bdev_registry& registry, bdev_channel& channel) {
        co_await write(channel, 0, 3);
        co_await append_together(channel, 1);
        co_await flush(channel);
        co_await write(channel, 0, 5);
        co_await write(channel, 2, 4, /*force=*/true);
        co_await finish(channel, 1);
        co_await write(channel, 0, 4);
        co_await flush(channel);
        co_await reset(channel, 0);
        co_await write(channel, 0, 2);
        co_await write(channel, 5, 1);
        co_await degrade(registry, 5, zone_state::read_only);
        co_await degrade(registry, 4, zone_state::offline);
        co_await flush(channel);
        co_await write(channel, 3, 6);
    }
    task<void> second_life(bdev_channel& channel) {
        co_await append_together(channel, 3);
        co_await write(channel, 0, 2);
        co_await flush(channel);
        co_await reset(channel, 0, /*all=*/true);
        co_await append_together(channel, 2);
        co_await append_together(channel, 2);
        co_await flush(channel);
        co_await write(channel, 0, 12, /*force=*/true);
        co_await write(channel, 1, 3);
    }
    task<void> work(bdev_registry& registry) override {
        for (const bool first : {true, false}) {
            if (w_->dead()) co_return;
            outcome<std::string> made = co_await open(registry, new_device);
            if (!made) {
                if (!w_->disturbed()) violate(made.error().message);
                co_return;
            }
            made_ = true;
            outcome<bdev_desc> desc = registry.open("z.img", access::write);
            outcome<bdev_channel> channel = desc->open_channel();
            if (!channel) co_return;
            if (first)
                co_await first_life(registry, *channel);
            else
                co_await second_life(*channel);
            channel->close();
            desc->close();
            // In order: what was acknowledged is there afterwards.
            outcome<> removed = co_await delete_zoned(registry, "z.img");
            if (!removed) co_return;
            if (!w_->disturbed())
                for (zone_model& z : zones_) z.durable = z.acknowledged;
        }
    }

    // --- Afterwards -----------------------------------------------------------------------------

    task<void> look(bdev_registry& registry) override {
        if (!made_ && !w_->file_exists("/z.img")) co_return;
        outcome<std::string> there = co_await open(registry, new_device);
        if (!there) {
            violate(there.error().message);
            co_return;
        }
        outcome<bdev_desc> desc = registry.open("z.img", access::write);
        outcome<bdev_channel> channel = desc->open_channel();
        if (!channel) co_return;
        std::vector<zone_descriptor> found(zones);
        result<std::size_t> n = co_await channel->zone_report(lba(0), found);
        if (!n) violate("report");
        std::vector<std::uint64_t> data(zone_size * block_bytes / 8);
        const iov_view view(reinterpret_cast<std::byte*>(data.data()), data.size() * 8);
        for (std::uint64_t z = 0; z < zones && violation_; ++z) {
            std::ranges::fill(data, 0xee);
            result<> got = co_await channel->read(lba(z * zone_size), view);
            judge(z, found[z], got, data);
        }
        // And it goes on. Those that are active first: with them the limit may be reached.
        for (const zone_state state : {zone_state::closed, zone_state::empty})
            for (std::uint64_t z = 0; z < zones && violation_; ++z) {
                if (found[z].state != state) continue;
                const std::vector<std::uint64_t> one = filled(999, 1);
                const const_iov_view next(one.data(), block_bytes);
                result<> done = co_await channel->write(found[z].write_pointer, next);
                expect(done, "write after the crash");
                done = co_await channel->zone_manage(zone_action::reset, lba(z * zone_size));
                expect(done, "reset after the crash");
            }
        result<> done = co_await channel->flush();
        expect(done, "flush after the crash");
    }

    void judge(std::uint64_t zone, const zone_descriptor& d, const result<>& got,
               const std::vector<std::uint64_t>& data) {
        const zone_model& z = zones_[zone];
        const std::string who = "zone " + std::to_string(zone) + " (" + name_of(d.state) + "): ";
        if (z.degraded != zone_state::empty && d.state != z.degraded)
            return violate(who + "should be " + name_of(z.degraded));
        if (d.state == zone_state::offline || d.state == zone_state::read_only) {
            if (d.state != z.degraded && d.state != z.maybe_degraded)
                return violate(who + "nobody made it so");
            if (d.state == zone_state::offline) return;
        }
        if (!got) return violate(who + "cannot be read: " + describe(got.error()));
        if (d.state == zone_state::implicitly_open || d.state == zone_state::explicitly_open)
            return violate(who + "open after a restart");
        // As far as there is data.
        const bool reset = d.state == zone_state::empty && z.maybe_empty;
        std::uint64_t length = 0;
        const std::uint64_t words = block_bytes / 8;
        while (length < zone_size && data[length * words] != 0) ++length;
        if (d.state == zone_state::empty || d.state == zone_state::closed) {
            if (d.write_pointer.value() != zone * zone_size + length)
                return violate(who + "write pointer and data disagree");
            if (z.full && !reset) return violate(who + "was finished");
        } else if (d.state == zone_state::full && length != capacity && !z.full && !z.maybe_full) {
            return violate(who + "nobody finished it");
        }
        if (length < z.durable && !reset)
            return violate(who + std::to_string(length) + " blocks, of " +
                           std::to_string(z.durable) + " that were flushed");
        for (std::uint64_t i = 0; i < data.size(); ++i) {
            const std::uint64_t block = i / words;
            const std::uint64_t version = data[block * words];
            if (data[i] != version) return violate(who + "a torn block");
            if (block >= length && version != 0) return violate(who + "data behind its end");
            if (block >= length) continue;
            if (block < z.acknowledged ? version != z.content[block] : !z.tried.contains(version))
                return violate(who + "block " + std::to_string(block) + " holds version " +
                               std::to_string(version));
        }
    }

    bool made_ = false;
    std::uint64_t last_version_ = 1000;
    zone_model zones_[zones];
};

std::unique_ptr<sim::scenario> make_scenario() { return std::make_unique<zoned_scenario>(); }

TEST(zoned_sweep, survives_a_power_cut_at_every_operation_of_its_disk) {
    for (std::uint64_t seed = 1; seed <= 8; ++seed) {
        outcome<> swept = sim::sweep_power_cuts(make_scenario, {.seed = seed, .repeats = 3});
        EXPECT_TRUE(swept) << swept.error().message;
    }
}

TEST(zoned_sweep, survives_the_failure_of_every_operation_of_its_disk) {
    for (std::uint64_t seed = 1; seed <= 8; ++seed) {
        outcome<> swept = sim::sweep_io_failures(make_scenario, {.seed = seed});
        EXPECT_TRUE(swept) << swept.error().message;
    }
}

TEST(zoned_sweep, waits_out_a_lack_of_memory_at_every_operation_of_its_disk) {
    for (std::uint64_t seed = 1; seed <= 8; ++seed) {
        outcome<> swept = sim::sweep_io_failures(make_scenario, {.seed = seed}, ENOMEM);
        EXPECT_TRUE(swept) << swept.error().message;
    }
}

}  // namespace
}  // namespace nacre
