// SPDX-License-Identifier: BSD-3-Clause
//
// `nacre blob`: opens the bdev, loads the store (to read only, where nothing is to be changed), has
// the command carried out, and unloads.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>
#include <memory>

#include "bdev_session.hpp"
#include "blob_commands.hpp"
#include "blob_tool.hpp"
#include "commands.hpp"
#include "copy_data.hpp"
#include "nacre/blob/check.hpp"
#include "nacre/core/log.hpp"
#include "nacre/core/parse.hpp"

namespace nacre::cli {
namespace {

class blob_work final : public bdev_work {
public:
    explicit blob_work(const blob_request& r) : r_(r) {}
    task<int> run(bdev_registry& registry) override {
        outcome<> done = co_await carry_out(registry);
        if (!done) co_return report_failure(done.error().message);
        co_return status_;
    }

private:
    task<outcome<>> carry_out(bdev_registry& registry);
    task<outcome<>> init(bdev_registry& registry, bdev_desc desc);
    task<outcome<>> check(bdev_registry& registry, std::string name);
    task<outcome<>> on_store(bdev_registry& registry, bdev_desc desc, bool writes);
    task<outcome<>> shell(blobstore& store);
    task<void> shell_line(blob_tool& tool, std::string line);
    void print(const blob_check_report& report, const std::string& name) const;

    const blob_request& r_;
    int status_ = 0;
};

task<outcome<>> blob_work::carry_out(bdev_registry& registry) {
    for (const std::string& other : r_.others) {
        outcome<std::string> made = co_await find_or_make(registry, other, access::read);
        if (!made) co_return fail(std::move(made.error()));
    }
    const bool writes =
        r_.command == "check" ? r_.repair : !only_reads(r_.command) && !r_.read_only;
    const access a = writes ? access::write : access::read;
    outcome<std::string> name = co_await find_or_make(registry, r_.bdev, a);
    if (!name) co_return fail(std::move(name.error()));
    if (r_.command == "check") co_return co_await check(registry, *name);
    outcome<bdev_desc> desc = registry.open(*name, a);
    if (!desc) co_return fail(std::move(desc.error()));
    if (writes) {
        outcome<> claimed = desc->take_claim(claim::exclusive_write, "nacre blob");
        if (!claimed) co_return claimed;
    }
    if (r_.command == "init") co_return co_await init(registry, std::move(*desc));
    co_return co_await on_store(registry, std::move(*desc), writes);
}

task<outcome<>> blob_work::init(bdev_registry& registry, bdev_desc desc) {
    blobstore_options o;
    outcome<std::uint64_t> cluster = parse_size(r_.cluster_size);
    if (!cluster) co_return fail(EINVAL, "--cluster-size " + cluster.error().message);
    if (*cluster > UINT32_MAX) co_return fail(EINVAL, "--cluster-size: must be below 4GiB");
    o.cluster_size = static_cast<std::uint32_t>(*cluster);
    o.metadata_pages = r_.metadata_pages;
    o.type = r_.type;
    outcome<blobstore> store = co_await blobstore::init(registry, std::move(desc), std::move(o));
    if (!store) co_return fail(std::move(store.error()));
    blobstore_status s = co_await store->status();
    fmt::print("{} clusters of {}, {} for data; {} metadata pages\n", s.clusters,
               spell_size(s.cluster_size), s.data_clusters, s.metadata_pages);
    co_return co_await store->unload();
}

// --- Check --------------------------------------------------------------------------------------

void blob_work::print(const blob_check_report& report, const std::string& name) const {
    if (r_.print_json) {
        json::array findings;
        for (const blob_finding& f : report.findings) {
            json::object o{{"level", to_string(f.level)}, {"code", f.code}, {"text", f.text}};
            if (f.blob != blob_id::none) o.append("blob", to_string(f.blob));
            if (f.offset) o.append("offset", *f.offset);
            findings.emplace_back(std::move(o));
        }
        json::array damaged;
        for (const blob_id id : report.damaged) damaged.emplace_back(to_string(id));
        json::array repaired;
        for (const std::string& text : report.repaired) repaired.emplace_back(text);
        const json::object o{{"verdict", to_string(report.verdict)},
                             {"dirty", report.dirty},
                             {"blobs", report.blobs},
                             {"metadata_pages", report.metadata_pages},
                             {"used_metadata_pages", report.used_metadata_pages},
                             {"clusters", report.clusters},
                             {"used_clusters", report.used_clusters},
                             {"findings", std::move(findings)},
                             {"damaged", std::move(damaged)},
                             {"repaired", std::move(repaired)}};
        fmt::print("{}\n", json::value(o).dump_pretty());
        return;
    }
    for (const std::string& text : report.repaired) fmt::print("repaired: {}\n", text);
    for (const blob_finding& f : report.findings)
        fmt::print("{}: {}{}\n", to_string(f.level), f.text,
                   f.offset ? fmt::format(" [byte {:#x}]", *f.offset) : "");
    fmt::print("{}: {}{}; {} blobs, {} of {} clusters and {} of {} metadata pages in use\n", name,
               to_string(report.verdict), report.dirty ? ", not unloaded" : "", report.blobs,
               report.used_clusters, report.clusters, report.used_metadata_pages,
               report.metadata_pages);
    if (report.verdict == blob_verdict::inconsistent && !r_.repair)
        fmt::print("Nothing was changed; --repair repairs what can be.\n");
}

task<outcome<>> blob_work::check(bdev_registry& registry, std::string name) {
    progress_line line(!r_.print_json);
    load_progress progress = [&line](std::uint64_t done, std::uint64_t all) {
        line.show(done, all, false);
    };
    outcome<blob_check_report> report = blob_check_report();
    if (r_.repair) {
        log::silence(true);  // the report says what a recovering load found
        blob_repair_options o;
        o.remove_damaged = r_.remove_damaged;
        o.progress = std::move(progress);
        report = co_await repair_blobstore(registry, name, std::move(o));
        log::silence(false);
    } else {
        outcome<bdev_desc> desc = registry.open(name, access::read);
        if (!desc) co_return fail(std::move(desc.error()));
        blob_check_options o;
        o.progress = std::move(progress);
        report = co_await check_blobstore(*desc, std::move(o));
    }
    line.end();
    if (!report) co_return fail(std::move(report.error()));
    print(*report, name);
    if (report->verdict != blob_verdict::clean) status_ = 1;
    co_return outcome<>();
}

// --- A loaded store -----------------------------------------------------------------------------

task<outcome<>> blob_work::on_store(bdev_registry& registry, bdev_desc desc, bool writes) {
    progress_line line(!r_.print_json);
    blobstore_load_options o;
    o.read_only = !writes;
    o.progress = [&line](std::uint64_t done, std::uint64_t all) { line.show(done, all, false); };
    outcome<blobstore> store = co_await blobstore::load(registry, std::move(desc), std::move(o));
    line.end();
    if (!store) co_return fail(std::move(store.error()));
    outcome<> done;
    if (r_.command == "shell") {
        done = co_await shell(*store);
    } else {
        blob_tool tool(*store);
        done = co_await tool.run(r_);
    }
    outcome<> unloaded = co_await store->unload();
    if (done) done = std::move(unloaded);
    co_return done;
}

task<outcome<>> blob_work::shell(blobstore& store) {
    blob_tool tool(store);
    const bool asks = ::isatty(STDIN_FILENO) != 0;
    if (asks) fmt::print("{}: `help` shows the commands, `quit` unloads\n", store.base().name());
    std::string line;
    while (true) {
        if (asks) fmt::print("blob> ");
        std::fflush(stdout);
        if (!std::getline(std::cin, line) || line == "quit" || line == "exit") break;
        const std::size_t first = line.find_first_not_of(" \t");
        if (first == std::string::npos || line[first] == '#') continue;
        co_await shell_line(tool, line);
    }
    if (asks) fmt::print("\n");
    co_return outcome<>();
}

/// What fails there does not end the shell, but counts.
task<void> blob_work::shell_line(blob_tool& tool, std::string line) {
    blob_request request;
    bool understood = true;
    {
        CLI::App commands("Commands of the shell; `COMMAND --help` explains each", "");
        commands.get_formatter()->column_width(34);
        add_blob_commands(commands, request, true);
        try {
            commands.parse(line == "help" ? "--help" : line);
        } catch (const CLI::ParseError& e) {
            if (commands.exit(e) != 0) status_ = 1;
            understood = false;
        }
    }
    if (!understood) co_return;
    outcome<> done = co_await tool.run(request);
    if (!done) status_ = report_failure(done.error().message);
}

}  // namespace

void add_blob(CLI::App& program, action& chosen, const bdev_kinds& kinds) {
    auto r = std::make_shared<blob_request>();
    CLI::App& blob = *program.add_subcommand(
        "blob", "Look at a blobstore, change it, copy files in and out, check and repair it");
    blob.footer(
        "Examples:\n"
        "  nacre blob init 'file:///tmp/store.img?size=1GiB'\n"
        "  nacre blob import file:///tmp/store.img disk.raw vol0\n"
        "  nacre blob tree file:///tmp/store.img\n"
        "  nacre blob check file:///tmp/store.img --repair\n"
        "What only reads a store writes nothing to it, even if it was not unloaded.");
    add_blob_commands(blob, *r, false);
    blob.callback([r, kinds, &chosen] {
        chosen = [r, kinds] {
            bdev_session session;
            session.command = "nacre blob";
            session.config_file = r->config_file;
            session.kinds = kinds;
            blob_work work(*r);
            return run_with_bdevs(session, work);
        };
    });
}

}  // namespace nacre::cli
