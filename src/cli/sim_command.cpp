// SPDX-License-Identifier: BSD-3-Clause
//
// `nacre sim`: runs a scenario in the simulated world, and runs it again exactly from its seed.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <vector>

#include "commands.hpp"
#include "nacre/core/json.hpp"
#include "nacre/core/log.hpp"
#include "sim_scenarios.hpp"
#include "whole_number.hpp"

namespace nacre::cli {
namespace {

struct sim_arguments {
    std::string scenario;
    std::uint64_t seed = 1;
    std::uint64_t seeds = 1;
    std::uint64_t steps = 1000;
    bool trace = false;
    bool list = false;
    bool print_json = false;
};

struct sim_run {
    std::uint64_t seed = 0;
    sim_figures figures;
    std::uint64_t device_operations = 0;
    std::uint64_t virtual_ns = 0;
    std::uint64_t fingerprint = 0;
    outcome<> ended{};
};

sim_run run_seed(const sim_scenario& scenario, const sim_arguments& a, std::uint64_t seed) {
    sim_run r;
    r.seed = seed;
    sim::world w(seed);
    if (a.trace) w.trace(stdout);
    // Devices that fail say so; without a trace to see it in, that is noise.
    log::silence(!a.trace);
    const std::uint64_t began = w.monotonic_ns();
    r.ended = scenario.run(w, a.steps, r.figures);
    r.device_operations = w.device_operations();
    r.virtual_ns = w.monotonic_ns() - began;
    r.fingerprint = w.fingerprint();
    return r;
}

json::value to_json(const sim_run& r) {
    json::object o{{"seed", r.seed},
                   {"ok", r.ended.has_value()},
                   {"operations", r.figures.operations},
                   {"failed", r.figures.failed},
                   {"lives", r.figures.lives},
                   {"power_cuts", r.figures.power_cuts},
                   {"device_operations", r.device_operations},
                   {"virtual_ns", r.virtual_ns},
                   {"fingerprint", fmt::format("{:016x}", r.fingerprint)}};
    if (!r.ended) o.append("problem", r.ended.error().message);
    return o;
}

void print(const sim_run& r) {
    fmt::print(
        "seed {}: {} operations ({} failed) in {} lives, {} power cuts, {} device operations, "
        "{:.3f} s of virtual time, fingerprint {:016x}: {}\n",
        r.seed, r.figures.operations, r.figures.failed, r.figures.lives, r.figures.power_cuts,
        r.device_operations, static_cast<double>(r.virtual_ns) * 1e-9, r.fingerprint,
        r.ended ? "ok" : "VIOLATION");
}

int list_scenarios(bool as_json) {
    json::array list;
    for (const sim_scenario& s : sim_scenarios()) {
        if (as_json)
            list.emplace_back(json::object{{"name", s.name}, {"description", s.help}});
        else
            fmt::print("{:<14}{}\n", s.name, s.help);
    }
    if (as_json) fmt::print("{}\n", json::value(std::move(list)).dump_pretty());
    return 0;
}

const sim_scenario* find_scenario(std::string_view name) {
    for (const sim_scenario& s : sim_scenarios())
        if (s.name == name) return &s;
    return nullptr;
}

int run(const sim_arguments& a) {
    if (a.list) return list_scenarios(a.print_json);
    const sim_scenario* scenario = find_scenario(a.scenario);
    if (scenario == nullptr) {
        report_failure(a.scenario.empty()
                           ? "sim: name a scenario; `nacre sim --list` shows them"
                           : a.scenario + ": no such scenario; `nacre sim --list` shows them");
        return 2;
    }
    const bool live = !a.print_json && !a.trace && a.seeds > 1 && ::isatty(STDERR_FILENO) != 0;
    json::array runs;
    int status = 0;
    for (std::uint64_t seed = a.seed; seed - a.seed < a.seeds && status == 0; ++seed) {
        if (live) fmt::print(stderr, "\rseed {} ", seed);
        const sim_run r = run_seed(*scenario, a, seed);
        if (live) fmt::print(stderr, "\r{:30}\r", "");
        if (a.print_json)
            runs.push_back(to_json(r));
        else
            print(r);
        if (r.ended) continue;
        status = report_failure(
            fmt::format("seed {}: {}\n  replay: nacre sim --seed {} --steps {} {} --trace", seed,
                        r.ended.error().message, seed, a.steps, a.scenario));
    }
    if (a.print_json) fmt::print("{}\n", json::value(std::move(runs)).dump_pretty());
    return status;
}

}  // namespace

void add_sim(CLI::App& program, action& chosen) {
    auto a = std::make_shared<sim_arguments>();
    CLI::App& sim = *program.add_subcommand(
        "sim", "Run a scenario in the simulated world, exactly as its seed says");
    sim.footer(
        "Examples:\n  nacre sim --seed 7 --steps 2000 file\n"
        "  nacre sim --seeds 1000 file-faults\n"
        "A run that finds a violation ends with the line that replays it.");
    sim.add_option("SCENARIO", a->scenario, "What to run; see --list");
    sim.add_option("--seed", a->seed, "Everything follows from it")
        ->check(whole_number())
        ->capture_default_str();
    sim.add_option("--seeds", a->seeds, "How many seeds to run, from --seed on")
        ->check(whole_number(1))
        ->capture_default_str();
    sim.add_option("--steps", a->steps, "Operations, of each seed")
        ->check(whole_number())
        ->capture_default_str();
    sim.add_flag("--trace", a->trace, "Print every decision and device operation");
    sim.add_flag("--list", a->list, "Print the scenarios");
    sim.add_flag("--json", a->print_json, "Print the result as JSON");
    sim.callback([a, &chosen] { chosen = [a] { return run(*a); }; });
}

}  // namespace nacre::cli
