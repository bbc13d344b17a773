// SPDX-License-Identifier: BSD-3-Clause
//
// `nacre perf`: its options, its progress line and what it prints.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <cstdio>
#include <memory>

#include "commands.hpp"
#include "modules/modules.hpp"
#include "nacre/app/app.hpp"
#include "nacre/core/parse.hpp"
#include "perf.hpp"
#include "whole_number.hpp"

namespace nacre::cli {
namespace {

struct perf_arguments {
    perf_options options;
    std::string config_file;
    std::string block_size = "4KiB";
    std::string runtime = "5";
    std::string mode = "auto";
    std::string size;
    std::string distribution = "random";
    std::string verify;
    bool print_json = false;
    bdev_kinds kinds;
};

void show_progress(double seconds, std::uint64_t operations) {
    const double rate = seconds > 0 ? static_cast<double>(operations) / seconds : 0;
    fmt::print(stderr, "\r{:6.1f} s  {:>12} ops  {:>10.0f} IOPS ", seconds, operations, rate);
    std::fflush(stderr);
}

std::string spell_ns(double ns) {
    if (ns < 1e3) return fmt::format("{:.0f} ns", ns);
    if (ns < 1e6) return fmt::format("{:.1f} us", ns / 1e3);
    if (ns < 1e9) return fmt::format("{:.1f} ms", ns / 1e6);
    return fmt::format("{:.2f} s", ns / 1e9);
}

void print_for_people(const perf_result& r, const perf_options& o) {
    const double seconds = static_cast<double>(r.elapsed_ns) * 1e-9;
    const auto operations = static_cast<double>(r.reads + r.writes);
    const double iops = seconds > 0 ? operations / seconds : 0;
    fmt::print("{}: {} bs={} iodepth={} numjobs={}\n", o.bdev, o.rw, o.block_bytes, o.iodepth,
               o.numjobs);
    fmt::print("  {:.0f} IOPS, {}/s, {:.1f} ns of CPU an I/O, {} I/Os in {:.2f} s, {} errors\n",
               iops, format_size(static_cast<std::uint64_t>(iops) * o.block_bytes),
               operations > 0 ? static_cast<double>(r.cpu_ns) / operations : 0.0,
               r.reads + r.writes, seconds, r.errors);
    if (o.verify) fmt::print("  {} reads held what had been written\n", r.verified);
    fmt::print("  latency mean {}, p50 {}, p90 {}, p99 {}, p99.9 {}, max {}\n",
               spell_ns(r.latency.mean()), spell_ns(static_cast<double>(r.latency.quantile(0.5))),
               spell_ns(static_cast<double>(r.latency.quantile(0.9))),
               spell_ns(static_cast<double>(r.latency.quantile(0.99))),
               spell_ns(static_cast<double>(r.latency.quantile(0.999))),
               spell_ns(static_cast<double>(r.latency.max())));
}

/// The bdev's name: of the one that a URI makes, or as it stands.
task<outcome<std::string>> find_or_make(bdev_registry& registry, std::string bdev) {
    if (bdev.find("://") == std::string::npos) co_return bdev;
    outcome<std::string> created = co_await create_from_uri(registry, std::move(bdev));
    co_return created;
}

task<int> measure(bdev_registry& registry, const perf_arguments* arguments) {
    outcome<std::string> name = co_await find_or_make(registry, arguments->options.bdev);
    if (!name) co_return report_failure(name.error().message);
    const bool live = !arguments->print_json && ::isatty(STDERR_FILENO) != 0;
    outcome<std::unique_ptr<perf_result>> done =
        co_await run_perf(registry, *name, arguments->options, live ? &show_progress : nullptr);
    if (live) fmt::print(stderr, "\r{:50}\r", "");
    if (!done) co_return report_failure(done.error().message);
    if (arguments->print_json)
        fmt::print("{}\n", (*done)->to_json(arguments->options).dump_pretty());
    else
        print_for_people(**done, arguments->options);
    if ((*done)->errors == 0) co_return 0;
    if (!(*done)->mismatch.empty())
        co_return report_failure(fmt::format("{}: {}", *name, (*done)->mismatch));
    co_return report_failure(fmt::format("{}: {} I/Os failed, the first with: {}", *name,
                                         (*done)->errors, describe((*done)->first_error)));
}

task<int> measure_alone(runtime* rt, const perf_arguments* arguments) {
    bdev_registry registry(*rt);
    for (const bdev_kind* kind : arguments->kinds) registry.add_kind(*kind);
    int status = co_await measure(registry, arguments);
    co_await registry.remove_all();
    co_return status;
}

/// Among the bdevs of a configuration, as `nacre serve` carries it out.
int run_configured(const perf_arguments& a, reactor_mode mode) {
    app_options how;
    how.name = "nacre perf";
    how.config_file = a.config_file;
    how.reactors = a.options.numjobs;
    how.mode = mode;
    how.handle_signals = false;
    app application(std::move(how));
    for (const bdev_kind* kind : a.kinds) application.add_kind(*kind);
    if (outcome<> started = application.start(); !started)
        return report_failure(started.error().message);
    const int status = application.block_on(measure(application.bdevs(), &a));
    const int stopped = application.stop();
    return status != 0 ? status : stopped;
}

/// random, or zipf:THETA.
outcome<> take_distribution(perf_arguments& a) {
    constexpr std::string_view prefix = "zipf:";
    constexpr double theta_max = 5;
    if (a.distribution == "random") return {};
    const char* const begin = a.distribution.c_str() + prefix.size();
    const char* const end = a.distribution.c_str() + a.distribution.size();
    double theta = 0;
    if (a.distribution.starts_with(prefix)) {
        const auto [stop, failed] = std::from_chars(begin, end, theta);
        if (failed == std::errc() && stop == end && theta > 0 && theta <= theta_max) {
            a.options.zipf_theta = theta;
            return {};
        }
    }
    return fail(EINVAL, fmt::format("--random_distribution {}: must be random, or zipf:THETA with "
                                    "0 < THETA <= {}",
                                    a.distribution, theta_max));
}

int run(perf_arguments& a) {
    outcome<std::uint64_t> bytes = parse_size(a.block_size);
    if (!bytes) return report_failure("--bs " + bytes.error().message), 2;
    a.options.block_bytes = *bytes;
    outcome<std::chrono::nanoseconds> runtime_given = parse_duration(a.runtime);
    if (!runtime_given) return report_failure("--runtime " + runtime_given.error().message), 2;
    a.options.runtime_ns = static_cast<std::uint64_t>(runtime_given->count());
    if (auto p = parse_pattern(a.options.rw); !p) return report_failure(p.error().message), 2;
    if (!a.size.empty()) {
        outcome<std::uint64_t> size = parse_size(a.size);
        if (!size) return report_failure("--size " + size.error().message), 2;
        a.options.size_bytes = *size;
    }
    if (outcome<> known = take_distribution(a); !known)
        return report_failure(known.error().message), 2;
    a.options.verify = !a.verify.empty();
    const reactor_mode mode = a.mode == "poll" ? reactor_mode::poll : reactor_mode::automatic;
    if (!a.config_file.empty()) return run_configured(a, mode);
    runtime_options how;
    how.reactors = a.options.numjobs;
    how.mode = mode;
    auto rt = runtime::make(real_world(), how);
    if (!rt) return report_failure(rt.error().message);
    return (*rt)->block_on(&measure_alone, rt->get(), static_cast<const perf_arguments*>(&a));
}

}  // namespace

int report_failure(const std::string& sentence) {
    fmt::print(stderr, "nacre: {}\n", sentence);
    return 1;
}

void add_perf(CLI::App& program, action& chosen, const bdev_kinds& kinds) {
    auto a = std::make_shared<perf_arguments>();
    a->kinds = kinds;
    CLI::App& perf = *program.add_subcommand(
        "perf", "Load a block device and measure it (options as fio names them)");
    perf.footer(
        "Example:\n  nacre perf --bdev 'malloc:///m0?size=64MiB' --rw randread --iodepth 32");
    perf.add_option("--bdev", a->options.bdev,
                    "URI of the bdev, made for this run, or the name of one of --config")
        ->required()
        ->type_name("URI|NAME");
    perf.add_option("-c,--config", a->config_file,
                    "Configuration whose bdevs are made, as save_config writes it")
        ->type_name("FILE");
    perf.add_option("--rw", a->options.rw,
                    "read, write, rw (sequential), randread, randwrite or randrw")
        ->capture_default_str();
    perf.add_option("--rwmixread", a->options.rwmixread, "Percentage of reads in rw and randrw")
        ->check(whole_number(0, 100))
        ->capture_default_str();
    perf.add_option("--bs", a->block_size, "Bytes an I/O, such as 4KiB")->capture_default_str();
    perf.add_option("--iodepth", a->options.iodepth, "I/Os in flight, of each job")
        ->check(whole_number(1, 65536))
        ->capture_default_str();
    perf.add_option("--numjobs", a->options.numjobs, "Jobs, each on a reactor of its own")
        ->check(whole_number(1, 128))
        ->capture_default_str();
    perf.add_option("--runtime", a->runtime, "Seconds to run; 0: until --number_ios")
        ->capture_default_str();
    perf.add_option("--number_ios", a->options.number_ios, "I/Os of each job; 0: until --runtime")
        ->check(whole_number());
    perf.add_option("--randseed", a->options.randseed, "Seed of the addresses")
        ->check(whole_number())
        ->capture_default_str();
    perf.add_option("--size", a->size, "Use only the first so many bytes, such as 1GiB");
    perf.add_option("--random_distribution", a->distribution,
                    "Of the addresses: random, or zipf:THETA, such as zipf:1.2")
        ->capture_default_str();
    CLI::Option* const verify =
        perf.add_option("--verify", a->verify,
                        "Stamp what is written, check what is read, and read all of it at the end")
            ->check(CLI::IsMember({"crc32c"}));
    CLI::Option* const rate = perf.add_option("--rate_iops", a->options.rate_iops,
                                              "I/Os a second, of each job; 0: no limit")
                                  ->check(whole_number(0, 1'000'000'000));
    perf.add_option("--mode", a->mode, "auto: sleep when idle; poll: never sleep")
        ->check(CLI::IsMember({"auto", "poll"}))
        ->capture_default_str();
    CLI::Option* const precise =
        perf.add_flag("--precise-clock", a->options.precise_clock,
                      "Read the clock for every I/O instead of once a turn");
    perf.add_flag("--await", a->options.await,
                  "Let a coroutine await each I/O, as applications do, instead of perf's own ops")
        ->excludes(precise);
    perf.add_flag("--zcopy", a->options.zcopy,
                  "Borrow the blocks and give them back, without data of perf's own")
        ->excludes(precise)
        ->excludes(verify)
        ->excludes(rate);
    perf.add_flag("--json", a->print_json, "Print the result as JSON");
    perf.callback([a, &chosen] { chosen = [a] { return run(*a); }; });
}

}  // namespace nacre::cli
