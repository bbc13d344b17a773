// SPDX-License-Identifier: BSD-3-Clause
#include "sim_scenarios.hpp"

#include "modules/file/file.hpp"
#include "raid1_scenario.hpp"
#include "stack_scenario.hpp"

namespace nacre::cli {
namespace {

constexpr std::uint64_t device_bytes = 512 << 10;
constexpr const char* disk = "/disk";

void prepare_file(sim::world& w) { w.make_file(disk, device_bytes); }

task<outcome<std::string>> build_file(bdev_registry& registry, std::uint64_t) {
    file_options options;
    options.name = "disk";
    options.filename = disk;
    outcome<std::string> made = co_await create_file(registry, std::move(options));
    co_return made;
}

void disturb_file(sim::world& w) {
    sim::faults& f = w.file_at(disk).trouble();
    f.read_error = f.write_error = f.sync_error = 0.01;
    f.short_transfer = 0.05;
    f.slow = 0.01;
}

void calm_file(sim::world& w) { w.file_at(disk).trouble() = {}; }

outcome<> run_file(sim::world& w, std::uint64_t steps, sim_figures& figures) {
    static constexpr crash_stack stack{&prepare_file, &build_file};
    return run_crash_scenario(stack, w, steps, figures);
}

outcome<> run_file_faults(sim::world& w, std::uint64_t steps, sim_figures& figures) {
    static constexpr crash_stack stack{&prepare_file, &build_file, &disturb_file, &calm_file};
    return run_crash_scenario(stack, w, steps, figures);
}

void make_file_lie(sim::world& w) { w.file_at(disk).trouble().lost_write = 0.005; }

outcome<> run_file_liar(sim::world& w, std::uint64_t steps, sim_figures& figures) {
    static constexpr crash_stack stack{&prepare_file, &build_file, &make_file_lie, &calm_file};
    return run_crash_scenario(stack, w, steps, figures);
}

constexpr sim_scenario table[] = {
    {"file", "a file bdev on a disk with a volatile cache; power cuts", &run_file},
    {"file-faults", "the same, with I/O that fails, comes short or late", &run_file_faults},
    {"raid1", "a mirror whose disks fail, vanish, come back and lose their power",
     &run_raid1_lives},
    {"stack", "a random stack of up to four modules; power cuts", &run_random_stack},
    {"file-liar", "a disk that loses writes it acknowledged: must end in a violation",
     &run_file_liar},
};

}  // namespace

std::span<const sim_scenario> sim_scenarios() noexcept { return table; }

}  // namespace nacre::cli
