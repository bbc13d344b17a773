// SPDX-License-Identifier: BSD-3-Clause
//
// The simulated world: time, the order of reactors, power and the trace.
#include "nacre/sim/world.hpp"

#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <array>

#include "driver.hpp"
#include "nacre/runtime/reactor.hpp"
#include "nacre/runtime/runtime.hpp"
#include "socket.hpp"
#include "trace.hpp"

namespace nacre::sim {
namespace {

constexpr std::uint64_t second_ns = 1'000'000'000;
constexpr std::uint64_t wall_epoch_ns = 1'767'225'600 * second_ns;  // 2026-01-01

}  // namespace

world::world(std::uint64_t seed, const world_options& options)
    : seed_(seed), options_(options), dice_(seed), now_(second_ns) {
    directories_ = {"/", "."};
    // A sweep makes thousands of worlds of some megabytes each. Handing them back to the kernel in
    // between cost 7 times what the simulation itself costs.
    [[maybe_unused]] static const bool kept =
        ::mallopt(M_TRIM_THRESHOLD, 256 << 20) != 0 && ::mallopt(M_MMAP_THRESHOLD, 64 << 20) != 0;
}

world::~world() {
    NACRE_ASSERT(drivers_.empty());  // a runtime must not outlive its world
}

std::uint64_t world::wall_clock_ns() noexcept { return wall_epoch_ns + now_; }

std::vector<unsigned> world::allowed_cpus() {
    std::vector<unsigned> all(options_.cpus);
    for (unsigned i = 0; i < options_.cpus; ++i) all[i] = i;
    return all;
}

outcome<> world::pin_os_thread(std::span<const unsigned> cpus) {
    for (const unsigned cpu : cpus)
        if (cpu >= options_.cpus)
            return fail(EINVAL, fmt::format("cannot run on CPU {}: the simulated machine has {}",
                                            cpu, options_.cpus));
    return {};
}

void world::name_os_thread(const std::string&) noexcept {}

outcome<std::unique_ptr<io_driver>> world::make_driver(const driver_options&) {
    auto made = std::make_unique<driver>(*this);
    drivers_.push_back(made.get());
    return std::unique_ptr<io_driver>(std::move(made));
}

void world::adopt(reactor& r) {
    for (const stepped& s : reactors_)
        if (s.host == &r) return;
    if (options_.shuffle) r.set_shuffle(&dice_);
    reactors_.push_back({&r, static_cast<driver*>(&r.driver()), 0});
}

void world::forget(driver& d) noexcept {
    std::erase(drivers_, &d);
    std::erase_if(reactors_, [&d](const stepped& s) { return s.io == &d; });
}

void world::attach(runtime& other) {
    for (unsigned i = 0; i < other.reactor_count(); ++i) adopt(other.reactor_at(i));
}

void world::schedule(std::uint64_t delay_ns, std::function<void()> action) {
    actions_.push_back({now_ + delay_ns, ++action_number_, std::move(action)});
}

bool world::drive(std::span<steppable* const> reactors, bool (*done)(void*), void* context) {
    // What a world with a virtual clock steps are reactors: their constructor asked for its driver.
    for (steppable* s : reactors) adopt(static_cast<reactor&>(*s));
    while (!done(context)) step();
    return true;
}

void world::step() {
    if (!actions_.empty()) run_actions();
    if (step_ready() || step_idle()) return;
    advance();
}

bool world::wants_turn(const stepped& s) noexcept {
    const bool due = s.io->due();  // not short-circuited: it publishes completions
    return (due || s.host->next_deadline_ns() <= now_) && s.stalled_until <= now_;
}

bool world::step_ready() {
    unsigned count = 0;
    for (const stepped& s : reactors_) count += wants_turn(s) ? 1 : 0;
    if (count == 0) return false;
    std::uint64_t chosen = count == 1 ? 0 : dice_.below(count);
    for (stepped& s : reactors_) {
        if (!wants_turn(s) || chosen-- != 0) continue;
        (void)take_turn(s);
        break;
    }
    return true;
}

bool world::step_idle() {
    // Nobody has anything ready, but a poller may find something, in memory that others wrote.
    const std::size_t count = reactors_.size();
    const std::size_t first = count < 2 ? 0 : dice_.below(count);
    for (std::size_t i = 0; i < count; ++i) {
        stepped& s = reactors_[(first + i) % count];
        if (s.stalled_until <= now_ && take_turn(s)) return true;
    }
    return false;
}

bool world::take_turn(stepped& s) {
    if (++steps_ > options_.steps_max)
        give_up("did not end within the bound on its steps; raise steps_max if it is just long");
    s.io->wake_seen();
    const bool worked = s.host->turn();
    if (!worked) return false;
    note(trace_event::turn, s.host->index());
    now_ += options_.turn_ns;
    if (options_.stall > 0 && dice_.chance(options_.stall))
        s.stalled_until = now_ + dice_.below(options_.stall_ns_max + 1);
    return true;
}

void world::run_actions() {
    const auto earlier = [](const planned_action& a, const planned_action& b) {
        return a.due_ns != b.due_ns ? a.due_ns < b.due_ns : a.number < b.number;
    };
    while (!actions_.empty()) {
        const auto next = std::min_element(actions_.begin(), actions_.end(), earlier);
        if (next->due_ns > now_) return;
        const planned_action due = std::move(*next);
        actions_.erase(next);
        note(trace_event::action, due.number);
        due.action();
    }
}

void world::advance() {
    std::uint64_t completion = UINT64_MAX, other = UINT64_MAX;
    for (const stepped& s : reactors_) {
        if (s.stalled_until > now_) {  // what it has to do it finds out then
            other = std::min(other, s.stalled_until);
            continue;
        }
        completion = std::min(completion, s.io->next_ns());
        other = std::min(other, s.host->next_deadline_ns());
    }
    for (const planned_action& a : actions_) other = std::min(other, a.due_ns);
    std::uint64_t next = std::min(completion, other);
    if (next == UINT64_MAX) give_up("is stuck: nothing is pending, and the work is not done");
    // Sometimes a few completions come together, but never so as to oversleep anything else.
    const std::uint64_t slack = std::min(other - next, options_.file_latency.highest_ns / 4);
    if (slack != 0 && dice_.below(4) == 0) next += dice_.below(slack);
    if (next > now_) now_ = next;
    note(trace_event::clock);
}

void world::give_up(const char* why) {
    std::string blocked;
    for (const driver* d : drivers_) d->describe_blocked(blocked);
    fmt::print(stderr,
               "sim: seed {} {}\n"
               "sim: at {}.{:09} s, after {} turns and {} device operations{}; blocked requests: "
               "{}\n",
               seed_, why, now_ / second_ns, now_ % second_ns, steps_, operations_,
               dead_ ? ", the power cut" : "", blocked.empty() ? "none" : blocked);
    std::abort();
}

void world::cut_power() {
    if (dead_) return;
    dead_ = disturbed_ = true;
    note(trace_event::power_cut, operations_);
    if (fates_ != 0) dice_ = prng(dice_.next() + fates_);
    for (driver* d : drivers_) d->hand_over_writes();
    for (auto& f : all_files_) note(trace_event::fate, f->id(), f->lose_power(dice_));
    for (driver* d : drivers_) d->fail_all();
}

void world::restart() {
    for (const driver* d : drivers_) NACRE_ASSERT(d->in_flight() == 0);
    note(trace_event::restart, operations_);
    dead_ = disturbed_ = false;
    cut_at_ = fail_at_ = UINT64_MAX;
    fates_ = 0;
    actions_.clear();
    for (auto& f : all_files_) f->unlock_all();
    first_descriptor_ += static_cast<int>(descriptors_.size());
    descriptors_.clear();
    open_descriptors_ = 0;
    listeners_.clear();
    sockets_.clear();
}

void world::trace(std::FILE* out) {
    if (out == nullptr)
        sink_ = nullptr;
    else
        sink_ = [out](std::string_view line) { fmt::print(out, "{}\n", line); };
}

std::uint64_t world::fingerprint() const noexcept {
    prng position = dice_;  // decisions inside a turn show in how much was drawn
    return digest_ ^ position.next();
}

void world::print(trace_event what, std::uint64_t a, std::uint64_t b, std::uint64_t c,
                  std::uint64_t d) {
    static constexpr std::array<std::string_view, static_cast<std::size_t>(trace_event::last)>
        patterns{
            "turn        reactor {0}",
            "clock",
            "action      {0}",
            "submit      file {0} kind {1} offset {2} length {3}",
            "complete    file {0} kind {1} offset {2} result {3}",
            "transfer    socket {0} kind {1} result {2}",
            "block       socket {0} kind {1}",
            "cancel      kind {0} obeyed {1}",
            "change      operation {0}",
            "power cut   at operation {0}",
            "fate        file {0} digest {1:x}",
            "restart     at operation {0}",
            "connection  listener {0} client {1} server {2}",
        };
    // Results are negative errno values, carried as unsigned words.
    const auto signed_word = [](std::uint64_t w) { return static_cast<std::int64_t>(w); };
    const std::string text = fmt::format(fmt::runtime(patterns[static_cast<std::size_t>(what)]), a,
                                         b, signed_word(c), signed_word(d));
    sink_(fmt::format("{:>4}.{:09} {}", now_ / second_ns, now_ % second_ns, text));
}

}  // namespace nacre::sim
