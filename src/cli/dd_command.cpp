// SPDX-License-Identifier: BSD-3-Clause
//
// `nacre dd`: copies between files, pipes and bdevs, with the options of SPDK's spdk_dd. Otherwise
// than there, a hole of the input is a hole, or zeros, of the output, whatever that held; and a
// file that is written keeps what lies before --seek.
#include <fcntl.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <sstream>

#include "bdev_session.hpp"
#include "commands.hpp"
#include "copy_data.hpp"
#include "nacre/core/json.hpp"
#include "nacre/core/parse.hpp"
#include "process.hpp"
#include "whole_number.hpp"

namespace nacre::cli {
namespace {

struct dd_arguments {
    std::string input_file;
    std::string input_bdev;
    std::string output_file;
    std::string output_bdev;
    std::string input_flags;
    std::string output_flags;
    std::string block_size = "4KiB";
    unsigned depth = 2;
    std::uint64_t count = 0;
    std::uint64_t skip = 0;
    std::uint64_t seek = 0;
    bool sparse = false;
    bool aio = false;
    bool print_json = false;
    bdev_session session{.command = "nacre dd", .config_file = {}, .kinds = {}};
};

/// Of --iflag and --oflag; what only concerns how the kernel caches is taken and changes nothing.
outcome<int> parse_flags(const char* option, const std::string& text) {
    static constexpr std::pair<std::string_view, int> known[] = {
        {"append", O_APPEND},     {"direct", 0},          {"directory", O_DIRECTORY},
        {"dsync", O_DSYNC},       {"noatime", O_NOATIME}, {"noctty", O_NOCTTY},
        {"nofollow", O_NOFOLLOW}, {"nonblock", 0},        {"sync", O_SYNC}};
    int flags = 0;
    std::istringstream words(text);
    for (std::string word; std::getline(words, word, ',');) {
        const auto* found =
            std::ranges::find(known, word, &std::pair<std::string_view, int>::first);
        if (found == std::end(known))
            return fail(EINVAL,
                        fmt::format("{} {}: not known; there are append, direct, directory, "
                                    "dsync, noatime, noctty, nofollow, nonblock and sync",
                                    option, word));
        flags |= found->second;
    }
    return flags;
}

class dd_work final : public bdev_work {
public:
    dd_work(const dd_arguments& a, std::uint64_t unit, int input_flags, int output_flags)
        : a_(a), unit_(unit), input_flags_(input_flags), output_flags_(output_flags) {}

    task<int> run(bdev_registry& registry) override {
        outcome<copy_figures> done = co_await copy(registry);
        line_.end();
        to_.reset();
        from_.reset();
        if (!done) co_return report_failure(done.error().message);
        const double s = watch_.elapsed();
        if (a_.print_json) {
            const json::object o{{"bytes", done->bytes},
                                 {"written_bytes", done->written},
                                 {"seconds", s},
                                 {"bytes_per_second", static_cast<double>(done->bytes) / s}};
            fmt::print("{}\n", json::value(o).dump_pretty());
        } else {
            // Beside the data, if that goes to standard output.
            fmt::print(stderr, "{} bytes copied, {} of them written, in {:.3f} s, {:.1f} MiB/s\n",
                       done->bytes, done->written, s,
                       static_cast<double>(done->bytes) / s / (1 << 20));
        }
        co_return 0;
    }

private:
    task<outcome<std::unique_ptr<copy_end>>> open(bdev_registry& registry, std::string file,
                                                  std::string bdev, bool output);
    task<outcome<copy_figures>> copy(bdev_registry& registry);
    outcome<> check() const;

    const dd_arguments& a_;
    std::uint64_t unit_;
    int input_flags_;
    int output_flags_;
    std::vector<bdev_desc> open_;
    std::unique_ptr<copy_end> from_;
    std::unique_ptr<copy_end> to_;
    progress_line line_{true};
    stopwatch watch_;
};

task<outcome<std::unique_ptr<copy_end>>> dd_work::open(bdev_registry& registry, std::string file,
                                                       std::string bdev, bool output) {
    if (bdev.empty()) {
        file_end_options o;
        o.write = output;
        o.flags = output ? output_flags_ : input_flags_;
        o.keep = a_.seek * unit_;
        co_return open_file_end(file, o);
    }
    const access a = output ? access::write : access::read;
    // The same one on both sides is made for writing.
    const access made = bdev == a_.output_bdev ? access::write : a;
    outcome<std::string> name = co_await find_or_make(registry, bdev, made);
    if (!name) co_return fail(std::move(name.error()));
    outcome<bdev_desc> desc = registry.open(*name, a);
    if (!desc) co_return fail(std::move(desc.error()));
    outcome<bdev_channel> channel = desc->open_channel();
    if (!channel) co_return fail(std::move(channel.error()));
    open_.push_back(std::move(*desc));
    co_return make_bdev_end(*name, std::move(*channel));
}

/// Said before anything is written.
outcome<> dd_work::check() const {
    const auto units = [&](std::uint64_t n) { return n * unit_; };
    for (const copy_end* end : {from_.get(), to_.get()})
        if (unit_ % end->block() != 0)
            return fail(EINVAL, fmt::format("--bs {}: must be a multiple of the blocks of {}, {}",
                                            unit_, end->name(), end->block()));
    const auto input = from_->size();
    const auto output = to_->size();
    if (input && units(a_.skip) > *input)
        return fail(ERANGE, fmt::format("--skip {}: {} has only {} units of {} bytes", a_.skip,
                                        from_->name(), *input / unit_, unit_));
    if (!output && a_.seek != 0)
        return fail(ESPIPE, fmt::format("--seek {}: {} is written from first to last", a_.seek,
                                        to_->name()));
    if (a_.output_bdev.empty()) return {};
    if (units(a_.seek) > *output)
        return fail(ERANGE, fmt::format("--seek {}: {} has only {} units of {} bytes", a_.seek,
                                        to_->name(), *output / unit_, unit_));
    std::uint64_t need = input ? *input - units(a_.skip) : units(a_.count);
    if (a_.count != 0) need = std::min(need, units(a_.count));
    if (need > *output - units(a_.seek))
        return fail(ENOSPC, fmt::format("{}: {} bytes do not fit into the {} from --seek on; bound "
                                        "them with --count",
                                        to_->name(), need, *output - units(a_.seek)));
    return {};
}

task<outcome<copy_figures>> dd_work::copy(bdev_registry& registry) {
    outcome<std::unique_ptr<copy_end>> end =
        co_await open(registry, a_.input_file, a_.input_bdev, false);
    if (!end) co_return fail(std::move(end.error()));
    from_ = std::move(*end);
    if (a_.count != 0 && !a_.input_bdev.empty() &&
        a_.count > (*from_->size() - std::min(*from_->size(), a_.skip * unit_)) / unit_)
        co_return fail(ERANGE, fmt::format("--count {}: {} has only {} units of {} bytes", a_.count,
                                           from_->name(), *from_->size() / unit_, unit_));
    end = co_await open(registry, a_.output_file, a_.output_bdev, true);
    if (!end) co_return fail(std::move(end.error()));
    to_ = std::move(*end);
    outcome<> sound = check();
    if (!sound) co_return fail(std::move(sound.error()));
    copy_request r;
    r.skip = a_.skip * unit_;
    r.seek = a_.seek * unit_;
    if (a_.count != 0) r.bytes = a_.count * unit_;
    if (r.bytes && from_->size()) r.bytes = std::min(*r.bytes, *from_->size() - r.skip);
    r.chunk = unit_;
    r.depth = a_.depth;
    r.sparse = a_.sparse;
    r.progress = [this](std::uint64_t done, std::optional<std::uint64_t> all) {
        line_.show(done, all, true);
    };
    outcome<copy_figures> done = co_await copy_data(*from_, *to_, r);
    co_return done;
}

int usage(const std::string& sentence) {
    report_failure(sentence);
    return 2;
}

int run(const dd_arguments& a) {
    if (a.input_file.empty() == a.input_bdev.empty()) return usage("dd: give either --if or --ib");
    if (a.output_file.empty() == a.output_bdev.empty())
        return usage("dd: give either --of or --ob");
    if (a.print_json && a.output_file == "-")
        return usage("--json: standard output is where the data goes; give another --of");
    outcome<std::uint64_t> unit = parse_size(a.block_size);
    if (!unit) return usage("--bs " + unit.error().message);
    constexpr std::uint64_t unit_max = std::uint64_t{1} << 30;
    if (*unit == 0 || *unit > unit_max) return usage("--bs: must be from 1 byte to 1GiB");
    constexpr std::uint64_t bytes_max = std::uint64_t{1} << 62;
    for (const std::uint64_t units : {a.count, a.skip, a.seek})
        if (units > bytes_max / *unit)
            return usage(
                fmt::format("{} units of {} bytes are more than there can be", units, *unit));
    outcome<int> input_flags = parse_flags("--iflag", a.input_flags);
    if (!input_flags) return usage(input_flags.error().message);
    outcome<int> output_flags = parse_flags("--oflag", a.output_flags);
    if (!output_flags) return usage(output_flags.error().message);
    dd_work work(a, *unit, *input_flags, *output_flags);
    return run_with_bdevs(a.session, work);
}

}  // namespace

void add_dd(CLI::App& program, action& chosen, const bdev_kinds& kinds) {
    auto a = std::make_shared<dd_arguments>();
    a->session.kinds = kinds;
    CLI::App& dd = *program.add_subcommand(
        "dd", "Copy between files, pipes and block devices (options as SPDK's spdk_dd names them)");
    dd.footer(
        "Examples:\n"
        "  nacre dd --if disk.raw --ob 'file:///tmp/disk.img?size=1GiB' --bs 1MiB --sparse\n"
        "  nacre dd --ib vol0 -c nacre.json --of - --bs 1MiB | zstd > vol0.zst\n"
        "--bs counts for --count, --skip and --seek too. What was a hole reads as zeros.");
    dd.add_option("--if", a->input_file, "File to read; -: standard input")->type_name("FILE");
    dd.add_option("--ib", a->input_bdev, "Bdev to read: a URI, or the name of one of --config")
        ->type_name("URI|NAME");
    dd.add_option("--of", a->output_file, "File to write, made if need be; -: standard output")
        ->type_name("FILE");
    dd.add_option("--ob", a->output_bdev, "Bdev to write: a URI, or the name of one of --config")
        ->type_name("URI|NAME");
    dd.add_option("-c,--config", a->session.config_file,
                  "Configuration whose bdevs are made, as save_config writes it")
        ->type_name("FILE");
    dd.add_option("--bs", a->block_size, "Bytes a request, such as 1MiB")->capture_default_str();
    dd.add_option("--count", a->count, "Requests to copy; 0: all")->check(whole_number());
    dd.add_option("--skip", a->skip, "Requests to skip of the input")->check(whole_number());
    dd.add_option("--seek", a->seek, "Requests to skip of the output")->check(whole_number());
    dd.add_option("--qd", a->depth, "Requests in flight")
        ->check(whole_number(1, 1024))
        ->capture_default_str();
    dd.add_flag("--sparse", a->sparse, "Do not read holes of the input; they become zeros");
    dd.add_option("--iflag", a->input_flags, "Of the file that is read: noatime, nofollow, ...")
        ->type_name("FLAG,...");
    dd.add_option("--oflag", a->output_flags,
                  "Of the file that is written: append, dsync, sync, nofollow, ...")
        ->type_name("FLAG,...");
    dd.add_flag("--aio", a->aio, "Taken for the sake of SPDK's scripts; changes nothing");
    dd.add_flag("--json", a->print_json, "Print the result as JSON");
    dd.callback([a, &chosen] { chosen = [a] { return run(*a); }; });
}

}  // namespace nacre::cli
