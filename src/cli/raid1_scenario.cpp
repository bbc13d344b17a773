// SPDX-License-Identifier: BSD-3-Clause
#include "raid1_scenario.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "crash_model.hpp"
#include "modules/file/file.hpp"
#include "nacre/memory/dma_buffer.hpp"
#include "nacre/runtime/sleep.hpp"

namespace nacre::cli {
namespace {

constexpr std::uint64_t data_offset = 1 << 20;
constexpr std::uint64_t data_bytes = 1 << 20;
constexpr std::uint64_t block_bytes = 4096;
constexpr std::uint64_t data_blocks = data_bytes / block_bytes;
constexpr std::uint64_t workers = 4;
constexpr std::uint64_t transfer_blocks_max = 12;
constexpr std::uint64_t steps_of_life_max = 160;
/// Of device operations; beyond it the power is cut when the work is done.
constexpr std::uint64_t cut_after_max = 700;
constexpr std::uint64_t settle_ns_max = 600'000'000'000;
constexpr const char* array_name = "r0";
constexpr const char* legs[] = {"a", "b"};

struct mirror_story {
    sim::world& world;
    sim_figures& figures;
    raid_tuning tuning;
    crash_model model{data_bytes};
    std::uint64_t steps_left = 0;
    /// The last life ended in order, with both legs: nothing may be resynchronised.
    bool clean = false;
    bool faulty = false;  // this life has faults
    unsigned running = 0;
    outcome<> found{};

    [[nodiscard]] bool goes_on() const { return found.has_value() && !world.dead(); }
    void violation(const failure& f) {
        if (found)
            found = fail(failure(f.code, fmt::format("life {}: {}", figures.lives, f.message)));
    }
    void violation(std::string message) { violation(failure(EILSEQ, std::move(message))); }
};

std::string path_of(const char* leg) { return std::string("/") + leg; }

// --- Faults -------------------------------------------------------------------------------------

void disturb(mirror_story& s) {
    prng& dice = s.world.dice();
    s.faulty = true;
    for (const char* leg : legs) {
        if (dice.chance(0.4)) continue;
        sim::faults& f = s.world.file_at(path_of(leg)).trouble();
        const std::uint64_t kind = dice.below(6);
        if (kind == 0) f.read_error = 0.05;
        if (kind == 1) f.write_error = 0.02;
        if (kind == 2) f.sync_error = 0.1;
        if (kind == 3) f.slow = 0.1;
        if (kind == 4) f.read_error = f.write_error = f.sync_error = 0.003;
        if (kind == 5) {
            f.read_error = f.write_error = 0.05;
            f.error_number = ENOMEM;
        }
        f.slow_ns = 3'000'000;
    }
}

void calm(mirror_story& s) {
    for (const char* leg : legs) s.world.file_at(path_of(leg)).trouble() = {};
}

// --- Users --------------------------------------------------------------------------------------

struct user {
    mirror_story& all;
    const bdev_desc& desc;
    std::uint64_t first;
    std::uint64_t blocks;
    std::uint64_t steps;
    prng dice;
    bdev_channel channel{};
    dma_buffer memory{};
};

struct span_of_blocks {
    std::uint64_t block;
    std::uint64_t count;
};

void note(user& u, const char* what, span_of_blocks p, const result<>& r) {
    ++u.all.figures.operations;
    if (r) return;
    ++u.all.figures.failed;
    if (u.all.world.dead() || u.all.faulty) return;
    u.all.violation(
        fmt::format("{} of {} blocks at {}: {}", what, p.count, p.block, describe(r.error())));
}

task<void> use_once(user& u) {
    const std::uint64_t count = u.dice.between(1, std::min(transfer_blocks_max, u.blocks));
    const span_of_blocks p{u.first + u.dice.below(u.blocks - count + 1), count};
    const std::uint64_t at = p.block * block_bytes, bytes = p.count * block_bytes;
    const iov_view view(u.memory.writable_unchecked().data(), bytes);
    crash_model& model = u.all.model;
    const std::uint64_t kind = u.dice.below(100);
    if (kind < 45) {
        const bool force = kind < 15;
        (void)model.begin_write(at, {view.data(), bytes});
        result<> r = co_await u.channel.write(lba(p.block), view, force);
        if (r) model.end_write(at, bytes, force);
        note(u, "write", p, r);
    } else if (kind < 80) {
        view.fill(std::byte{0x5a});
        result<> r = co_await u.channel.read(lba(p.block), view);
        note(u, "read", p, r);
        if (!r) co_return;
        outcome<> same = model.check(at, {view.data(), bytes});
        if (!same) u.all.violation(same.error());
    } else if (kind < 85) {
        model.begin_zeroes(at, bytes);
        result<> r = co_await u.channel.write_zeroes(lba(p.block), block_count(p.count));
        if (r) model.end_write(at, bytes, false);
        note(u, "write_zeroes", p, r);
    } else if (kind < 88) {
        model.unmapped(at, bytes);
        result<> r = co_await u.channel.unmap(lba(p.block), block_count(p.count));
        note(u, "unmap", p, r);
    } else if (kind < 90) {
        // Regions become idle, and are swept.
        result<> slept = co_await sleep_for(u.dice.below(8'000'000));
        (void)slept;
    } else {
        const std::uint64_t begun = model.begin_flush();
        result<> r = co_await u.channel.flush();
        if (r) model.end_flush(begun);
        note(u, "flush", {0, 0}, r);
    }
}

task<void> use(across<user> told) {
    user& u = *told;
    outcome<bdev_channel> channel = u.desc.open_channel();
    result<dma_buffer> memory = dma_buffer::allocate(byte_count(transfer_blocks_max * block_bytes));
    if (channel && memory) {
        u.channel = std::move(*channel);
        u.memory = std::move(*memory);
        for (; u.steps > 0 && u.all.goes_on(); --u.steps) co_await use_once(u);
        u.channel.close();
    } else if (!u.all.world.dead() && !u.all.faulty) {
        u.all.violation("a thread cannot open the array");
    }
    --u.all.running;
}

// --- The administrator --------------------------------------------------------------------------

task<void> plug(mirror_story& s, bdev_registry& registry, const char* leg) {
    file_options o;
    o.name = leg;
    o.filename = path_of(leg);
    o.block_size = block_bytes;
    o.uuid = uuid::from_name(uuid(), leg);
    outcome<std::string> made = co_await create_file(registry, std::move(o));
    if (!made && s.goes_on()) s.violation(made.error());
}

task<void> administer(mirror_story& s, bdev_registry& registry) {
    raid_module& module = raid_module::of(registry);
    while (s.running != 0 && s.goes_on()) {
        result<> slept = co_await sleep_for(s.world.dice().between(100'000, 6'000'000));
        if (!slept || s.running == 0 || !s.goes_on()) break;
        const char* leg = legs[s.world.dice().below(2)];
        const std::uint64_t kind = s.world.dice().below(10);
        if (kind < 3) {
            outcome<> removed = co_await module.remove_base(leg);
            (void)removed;  // it is the last one, or none
        } else if (kind == 3 && registry.find(leg) != nullptr) {
            // Pulled out, unless that ends the array under its users. During a resynchronisation it
            // would be a second failure: what was read from the source may be nowhere else.
            const json::value shown = module.list(raid_category::online);
            if (shown[0]["num_base_bdevs_operational"].as_uint64() != 2) continue;
            if (!module.settled()) continue;
            outcome<> pulled = co_await registry.remove(leg);
            (void)pulled;
            if (registry.find(array_name) == nullptr) break;
            co_await plug(s, registry, leg);
        } else if (kind < 8 && registry.find(array_name) != nullptr) {
            outcome<> added = co_await module.add_base(array_name, leg);
            (void)added;  // it is a leg already
        }
    }
}

// --- A life -------------------------------------------------------------------------------------

task<void> verify(mirror_story& s, const bdev_desc& desc) {
    constexpr std::uint64_t blocks_at_once = 16;
    outcome<bdev_channel> channel = desc.open_channel();
    result<dma_buffer> memory = dma_buffer::allocate(byte_count(blocks_at_once * block_bytes));
    if (!channel || !memory) co_return;
    for (std::uint64_t at = 0; at < data_blocks && s.goes_on(); at += blocks_at_once) {
        const iov_view view(memory->writable_unchecked().data(), blocks_at_once * block_bytes);
        result<> r = co_await channel->read(lba(at), view);
        if (s.world.dead()) co_return;
        outcome<> same = r ? s.model.check(at * block_bytes, {view.data(), view.size()})
                           : outcome<>(fail(failure(r.error(), "verifying: cannot be read")));
        if (!same) s.violation(same.error());
    }
}

task<void> settle(mirror_story& s, raid_module& module) {
    const std::uint64_t until = s.world.monotonic_ns() + settle_ns_max;
    while (!module.settled() && s.goes_on()) {
        result<> slept = co_await sleep_for(1'000'000);
        if (!slept) co_return;
        if (s.world.monotonic_ns() > until) s.violation("the array does not come to rest");
    }
}

bool both_legs(raid_module& module) {
    const json::value shown = module.list(raid_category::online);
    return shown[0]["num_base_bdevs_operational"].as_uint64() == 2;
}

void compare_legs(mirror_story& s) {
    std::vector<std::byte> a(data_bytes), b(data_bytes);
    s.world.file_at("/a").peek(data_offset, a);
    s.world.file_at("/b").peek(data_offset, b);
    if (a == b) return;
    const auto where = std::ranges::mismatch(a, b).in1 - a.begin();
    s.violation(fmt::format("the legs differ at block {}", where / block_bytes));
}

task<void> work(mirror_story& s, bdev_registry& registry, const bdev_desc& desc,
                std::uint64_t steps) {
    std::vector<std::unique_ptr<user>> users;
    std::vector<join_handle<void>> handles;
    runtime& rt = registry.host();
    for (std::uint64_t i = 0; i < workers; ++i) {
        constexpr std::uint64_t part = data_blocks / workers;
        users.push_back(std::unique_ptr<user>(
            new user{s, desc, i * part, part, steps / workers + 1, s.world.dice().fork()}));
        ++s.running;
        thread& where =
            rt.make_thread(fmt::format("user{}", i), static_cast<int>(i % rt.reactor_count()));
        handles.push_back(where.spawn(&use, across<user>(*users.back())));
    }
    co_await administer(s, registry);
    for (auto& h : handles) co_await h;
}

task<void> live_with(mirror_story& s, bdev_registry& registry, std::uint64_t steps) {
    raid_module& module = raid_module::of(registry);
    if (s.clean && both_legs(module) && !module.settled())
        s.violation("something is made equal although the last life ended in order");
    const bool in_peace = s.world.dice().chance(0.5);
    outcome<bdev_desc> desc = registry.open(array_name, access::write);
    if (!desc) {
        if (s.goes_on()) s.violation(desc.error());
        co_return;
    }
    co_await verify(s, *desc);
    // A fault during a resynchronisation would be a second failure. So either work goes on beside
    // it, or faults come after it.
    if (in_peace) co_await settle(s, module);
    if (steps != 0 && s.goes_on()) {
        if (in_peace && s.world.dice().chance(0.8)) disturb(s);
        co_await work(s, registry, *desc, steps);
    }
    calm(s);
    if (registry.find(array_name) == nullptr) co_return;
    co_await settle(s, module);
    co_await verify(s, *desc);
    if (!s.goes_on()) co_return;
    if (both_legs(module)) compare_legs(s);
    s.clean = both_legs(module);
}

/// From the start of the machine to its end, in order or by the power.
task<void> live(across<mirror_story> told, across<bdev_registry> on, std::uint64_t steps) {
    mirror_story& s = *told;
    bdev_registry& registry = *on;
    raid_module& module = raid_module::of(registry);
    module.tuning() = s.tuning;
    raid_process_options options;
    options.process_window_size_kb = 32;
    outcome<> set = module.set_options(options);
    (void)set;
    prng& dice = s.world.dice();
    const bool swapped = dice.chance(0.5);
    const bool first = s.figures.lives == 1;
    // Now and then a disk does not come up at all, or only later.
    const bool alone = !first && steps != 0 && dice.chance(0.1);
    co_await plug(s, registry, legs[swapped ? 1 : 0]);
    if (!alone && s.goes_on()) co_await plug(s, registry, legs[swapped ? 0 : 1]);
    if (first) {
        raid_options o;
        o.name = array_name;
        for (const char* leg : legs) o.base_bdevs.emplace_back(leg);
        o.superblock = true;
        outcome<std::string> made = co_await module.create(std::move(o));
        if (!made) s.violation(made.error());
    }
    const bool was_clean = s.clean;
    if (registry.find(array_name) != nullptr) {
        co_await live_with(s, registry, steps);
        if (s.clean == was_clean && s.world.dead()) s.clean = false;
    } else if (!alone && s.goes_on()) {
        s.violation("both legs are there, but the array does not start");
    }
    co_await registry.remove_all();
    // An orderly end makes everything durable.
    if (!s.world.dead() && !s.faulty) s.model.end_flush(s.model.begin_flush());
}

outcome<> live_once(mirror_story& s, std::uint64_t steps) {
    ++s.figures.lives;
    s.faulty = false;
    {
        const auto reactors = static_cast<unsigned>(s.world.dice().between(1, 3));
        auto rt = runtime::make(s.world, {.reactors = reactors});
        if (!rt) return fail(std::move(rt.error()));
        bdev_registry registry(**rt);
        (*rt)->block_on(&live, across<mirror_story>(s), across<bdev_registry>(registry), steps);
    }
    calm(s);
    if (s.world.dead()) s.clean = false;
    if (!s.found) return s.found;
    if (!s.world.dead() && s.world.open_descriptors() != 0)
        return fail(EBUSY, fmt::format("life {}: at its end {} descriptors are still open",
                                       s.figures.lives, s.world.open_descriptors()));
    return {};
}

}  // namespace

outcome<> run_raid1_scenario(sim::world& w, std::uint64_t steps, sim_figures& figures,
                             const raid_tuning& tuning) {
    for (const char* leg : legs) w.make_file(path_of(leg), data_offset + data_bytes);
    mirror_story s{.world = w, .figures = figures, .tuning = tuning};
    // The first life makes the array in peace.
    outcome<> lived = live_once(s, 0);
    while (lived && figures.operations < steps) {
        if (w.dice().chance(0.8)) w.cut_power_after(w.dice().between(1, cut_after_max));
        lived = live_once(
            s, std::min(steps - figures.operations, w.dice().between(1, steps_of_life_max)));
        if (!lived) break;
        w.cut_power();
        ++figures.power_cuts;
        w.restart();
        s.model.crashed();
    }
    if (lived) lived = live_once(s, 0);
    return lived;
}

outcome<> run_raid1_lives(sim::world& w, std::uint64_t steps, sim_figures& figures) {
    raid_tuning tuning;
    tuning.sweep_period_ns = 3'000'000;
    tuning.record_retry_ns = 20'000'000;
    return run_raid1_scenario(w, steps, figures, tuning);
}

}  // namespace nacre::cli
