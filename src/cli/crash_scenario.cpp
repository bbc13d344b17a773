// SPDX-License-Identifier: BSD-3-Clause
//
// run_crash_scenario: life after life of a device on simulated files.
#include <fmt/format.h>

#include <memory>
#include <vector>

#include "crash_model.hpp"
#include "nacre/memory/dma_buffer.hpp"
#include "nacre/runtime/scope.hpp"
#include "sim_scenarios.hpp"

namespace nacre::cli {
namespace {

constexpr std::uint64_t workers = 4;
constexpr std::uint64_t transfer_blocks_max = 24;
constexpr std::uint64_t steps_of_life_max = 200;
/// Of device operations; beyond it the power is cut when the work is done.
constexpr std::uint64_t cut_after_max = 500;
/// Of a large stack one life in so many loses its power perhaps before it is verified.
constexpr std::uint64_t early_cuts = 8;
constexpr std::uint64_t early_cut_after_max = 5000;

/// All that a scenario keeps from one life to the next.
struct story {
    const crash_stack& stack;
    sim::world& world;
    sim_figures& figures;
    std::unique_ptr<crash_model> model;
    std::uint64_t steps_of_life = 0;
    std::uint64_t cut_at_work = 0;  // device operations after the work has begun; 0: not then
    outcome<> found{};

    void violation(const failure& f) {
        if (found)
            found = fail(failure(f.code, fmt::format("life {}: {}", figures.lives, f.message)));
    }
};

/// One task: its own part of the device, so that no two write one sector at once.
struct worker {
    story& all;
    const bdev_channel& channel;
    std::uint64_t first;
    std::uint64_t blocks;
    std::uint64_t steps;
    prng dice;
    dma_buffer memory{};
};

struct place {
    std::uint64_t block;
    std::uint64_t count;
};

place random_place(worker& w) {
    const std::uint64_t count = w.dice.between(1, std::min(transfer_blocks_max, w.blocks));
    return {w.first + w.dice.below(w.blocks - count + 1), count};
}

/// Counts the operation; an error that nothing explains is a violation.
void note(worker& w, const char* what, place p, const result<>& r) {
    ++w.all.figures.operations;
    if (r) return;
    ++w.all.figures.failed;
    if (w.all.world.dead() || w.all.stack.disturb != nullptr) return;
    w.all.violation(failure(r.error(), fmt::format("{} of {} blocks at {}: {}", what, p.count,
                                                   p.block, describe(r.error()))));
}

task<void> do_write(worker& w, place p, bool force) {
    const std::size_t block = w.channel.device().block_size().value();
    const iov_view view(w.memory.writable_unchecked().data(), p.count * block);
    (void)w.all.model->begin_write(p.block * block, {view.data(), view.size()});
    result<> r = co_await w.channel.write(lba(p.block), view, force);
    if (r) w.all.model->end_write(p.block * block, view.size(), force);
    note(w, "write", p, r);
}

task<void> do_write_zeroes(worker& w, place p) {
    const std::size_t block = w.channel.device().block_size().value();
    w.all.model->begin_zeroes(p.block * block, p.count * block);
    result<> r = co_await w.channel.write_zeroes(lba(p.block), block_count(p.count));
    if (r) w.all.model->end_write(p.block * block, p.count * block, false);
    note(w, "write_zeroes", p, r);
}

task<void> do_unmap(worker& w, place p) {
    const std::size_t block = w.channel.device().block_size().value();
    w.all.model->unmapped(p.block * block, p.count * block);
    result<> r = co_await w.channel.unmap(lba(p.block), block_count(p.count));
    note(w, "unmap", p, r);
}

task<void> do_read(worker& w, place p) {
    const std::size_t block = w.channel.device().block_size().value();
    const iov_view view(w.memory.writable_unchecked().data(), p.count * block);
    view.fill(std::byte{0x5a});
    result<> r = co_await w.channel.read(lba(p.block), view);
    note(w, "read", p, r);
    if (!r) co_return;
    outcome<> same = w.all.model->check(p.block * block, {view.data(), view.size()});
    if (!same) w.all.violation(same.error());
}

task<void> do_flush(worker& w) {
    const std::uint64_t begun = w.all.model->begin_flush();
    result<> r = co_await w.channel.flush();
    if (r) w.all.model->end_flush(begun);
    note(w, "flush", {0, 0}, r);
}

task<void> work_on(worker& w) {
    result<dma_buffer> memory = dma_buffer::allocate(
        byte_count(transfer_blocks_max * w.channel.device().block_size().value()));
    if (!memory) co_return;
    w.memory = std::move(*memory);
    for (; w.steps > 0 && w.all.found && !w.all.world.dead(); --w.steps) {
        const place p = random_place(w);
        const std::uint64_t kind = w.dice.below(100);
        if (kind < 45)
            co_await do_write(w, p, kind < 5);
        else if (kind < 80)
            co_await do_read(w, p);
        else if (kind < 86)
            co_await do_write_zeroes(w, p);
        else if (kind < 90 && w.all.stack.unmaps)
            co_await do_unmap(w, p);
        else
            co_await do_flush(w);
    }
}

/// Reads everything, and holds it against the model.
task<void> verify(story& s, const bdev_channel& channel) {
    constexpr std::uint64_t bytes_at_once = 64 << 10;
    const std::size_t block = channel.device().block_size().value();
    const std::uint64_t step = bytes_at_once / block;
    result<dma_buffer> memory = dma_buffer::allocate(byte_count(bytes_at_once));
    if (!memory) co_return;
    const std::uint64_t blocks = channel.device().blocks().value();
    for (std::uint64_t at = 0; at < blocks && s.found; at += step) {
        const std::uint64_t count = std::min(step, blocks - at);
        const iov_view view(memory->writable_unchecked().data(), count * block);
        result<> r = co_await channel.read(lba(at), view);
        if (!r && s.world.dead()) co_return;
        if (!r) {
            s.violation(failure(r.error(), fmt::format("read of {} blocks at {}: {}", count, at,
                                                       describe(r.error()))));
            co_return;
        }
        outcome<> same = s.model->check(at * block, {view.data(), view.size()});
        if (!same) s.violation(same.error());
    }
}

task<void> work(story& s, const bdev_channel& channel) {
    if (s.cut_at_work != 0) s.world.cut_power_after(s.cut_at_work);
    if (s.stack.disturb != nullptr) s.stack.disturb(s.world);
    const std::uint64_t part = channel.device().blocks().value() / workers;
    std::vector<std::unique_ptr<worker>> all;
    scope running;
    for (std::uint64_t i = 0; i < workers; ++i) {
        all.push_back(std::unique_ptr<worker>(new worker{
            s, channel, i * part, part, s.steps_of_life / workers + 1, s.world.dice().fork()}));
        running.spawn(work_on(*all.back()));
    }
    result<> joined = co_await running.join();
    (void)joined;  // the workers return nothing
    if (s.stack.calm != nullptr) s.stack.calm(s.world);
}

/// From the start of the process to its end, in order or by the power.
task<void> live(across<story> told, across<bdev_registry> registry) {
    story& s = *told;
    outcome<std::string> built = co_await s.stack.build(*registry, s.figures.lives);
    outcome<bdev_desc> descriptor = fail(ENODEV, std::string());
    if (built) descriptor = registry->open(*built, access::write);
    if (descriptor) {
        outcome<bdev_channel> channel = descriptor->open_channel();
        if (channel) {
            if (s.model == nullptr)
                s.model = std::make_unique<crash_model>(descriptor->device().size().value());
            co_await verify(s, *channel);
            if (s.found && !s.world.dead() && s.steps_of_life != 0) co_await work(s, *channel);
        } else if (!s.world.dead()) {
            s.violation(channel.error());
        }
    } else if (!s.world.dead()) {
        s.violation(built ? descriptor.error() : built.error());
    }
    descriptor = fail(ENODEV, std::string());
    co_await registry->remove_all();
}

outcome<> live_once(story& s) {
    ++s.figures.lives;
    {
        auto rt = runtime::make(s.world);
        if (!rt) return fail(std::move(rt.error()));
        bdev_registry registry(**rt);
        (*rt)->block_on(&live, across<story>(s), across<bdev_registry>(registry));
    }
    if (s.stack.calm != nullptr) s.stack.calm(s.world);
    if (!s.found) return s.found;
    if (!s.world.dead() && s.world.open_descriptors() != 0)
        return fail(EBUSY, fmt::format("life {}: at its end {} descriptors are still open",
                                       s.figures.lives, s.world.open_descriptors()));
    return {};
}

}  // namespace

outcome<> run_crash_scenario(const crash_stack& stack, sim::world& w, std::uint64_t steps,
                             sim_figures& figures) {
    stack.prepare(w);
    story s{stack, w, figures, nullptr};
    // The first life starts the device in peace: what it makes must not be half made.
    outcome<> lived = live_once(s);
    while (lived && figures.operations < steps) {
        s.steps_of_life =
            std::min(steps - figures.operations, w.dice().between(1, steps_of_life_max));
        s.cut_at_work = 0;
        if (!stack.large)
            w.cut_power_after(w.dice().between(1, cut_after_max));
        else if (w.dice().below(early_cuts) == 0)
            w.cut_power_after(w.dice().between(1, early_cut_after_max));
        else
            s.cut_at_work = w.dice().between(1, cut_after_max);
        lived = live_once(s);
        w.cut_power();
        ++figures.power_cuts;
        w.restart();
        if (s.model != nullptr) s.model->crashed();
    }
    s.steps_of_life = 0;
    if (lived) lived = live_once(s);
    return lived;
}

}  // namespace nacre::cli
