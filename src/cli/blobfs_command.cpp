// SPDX-License-Identifier: BSD-3-Clause
//
// `nacre blobfs`: opens the bdev, loads the file system (to read only, where nothing is to be
// changed), has the command carried out, and unloads.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "bdev_session.hpp"
#include "blob_tool.hpp"
#include "blobfs_tool.hpp"
#include "commands.hpp"
#include "copy_data.hpp"
#include "nacre/core/parse.hpp"

namespace nacre::cli {
namespace {

bool only_reads(const std::string& command) {
    return command == "info" || command == "ls" || command == "stat" || command == "get";
}

class blobfs_work final : public bdev_work {
public:
    explicit blobfs_work(const blobfs_request& r) : r_(r) {}
    task<int> run(bdev_registry& registry) override {
        outcome<> done = co_await carry_out(registry);
        if (!done) co_return report_failure(done.error().message);
        co_return 0;
    }

private:
    task<outcome<>> carry_out(bdev_registry& registry);
    task<outcome<>> make(bdev_registry& registry, bdev_desc desc);

    const blobfs_request& r_;
};

task<outcome<>> blobfs_work::carry_out(bdev_registry& registry) {
    const bool writes = !only_reads(r_.command);
    const access a = writes ? access::write : access::read;
    outcome<std::string> name = co_await find_or_make(registry, r_.bdev, a);
    if (!name) co_return fail(std::move(name.error()));
    outcome<bdev_desc> desc = registry.open(*name, a);
    if (!desc) co_return fail(std::move(desc.error()));
    if (writes) {
        outcome<> claimed = desc->take_claim(claim::exclusive_write, "nacre blobfs");
        if (!claimed) co_return claimed;
    }
    outcome<> done;
    if (r_.command == "mkfs") {
        done = co_await make(registry, std::move(*desc));
        co_return done;
    }
    progress_line line(!r_.print_json);
    blobfs_load_options o;
    o.read_only = !writes;
    o.progress = [&line](std::uint64_t at, std::uint64_t all) { line.show(at, all, false); };
    outcome<blobfs> fs = co_await blobfs::load(registry, std::move(*desc), std::move(o));
    line.end();
    if (!fs) co_return fail(std::move(fs.error()));
    blobfs_tool tool(*fs);
    done = co_await tool.run(r_);
    outcome<> unloaded = co_await fs->unload();
    if (done) done = std::move(unloaded);
    co_return done;
}

task<outcome<>> blobfs_work::make(bdev_registry& registry, bdev_desc desc) {
    blobfs_options o;
    if (!r_.cluster_size.empty()) {
        outcome<std::uint64_t> cluster = parse_size(r_.cluster_size);
        if (!cluster) co_return fail(EINVAL, "--cluster-size " + cluster.error().message);
        if (*cluster > UINT32_MAX) co_return fail(EINVAL, "--cluster-size: must be below 4GiB");
        o.cluster_size = static_cast<std::uint32_t>(*cluster);
    }
    o.compatible = r_.compat == "spdk";
    o.uid = ::getuid();
    o.gid = ::getgid();
    outcome<blobfs> fs = co_await blobfs::make(registry, std::move(desc), o);
    if (!fs) co_return fail(std::move(fs.error()));
    blobfs_status s = co_await fs->status();
    fmt::print("{} free, in clusters of {}; {} nodes possible\n", spell_size(s.available),
               spell_size(s.cluster_size), s.nodes + s.free_nodes);
    outcome<> unloaded = co_await fs->unload();
    co_return unloaded;
}

class builder {
public:
    builder(CLI::App& to, blobfs_request& r) : to_(to), r_(r) {}
    CLI::App& add(const std::string& name, const std::string& what) {
        CLI::App& command = *to_.add_subcommand(name, what);
        command.callback([&r = r_, name] { r.command = name; });
        command
            .add_option("BDEV", r_.bdev,
                        "URI of the bdev that the file system is on, or the name of one of "
                        "--config")
            ->required()
            ->type_name("URI|NAME");
        command
            .add_option("-c,--config", r_.config_file,
                        "Configuration whose bdevs are made, as save_config writes it")
            ->type_name("FILE");
        return command;
    }
    CLI::Option* path(CLI::App& command, const char* name, const std::string& what) {
        return command.add_option(name, r_.path, what);
    }
    CLI::Option* target(CLI::App& command, const char* name, const std::string& what) {
        return command.add_option(name, r_.target, what);
    }
    void json(CLI::App& command) {
        command.add_flag("--json", r_.print_json, "Print the result as JSON");
    }

private:
    CLI::App& to_;
    blobfs_request& r_;
};

void add_commands(CLI::App& to, blobfs_request& r) {
    builder b(to, r);
    CLI::App& mkfs = b.add("mkfs", "Make an empty file system; what the bdev held is lost");
    mkfs.add_option("--cluster-size", r.cluster_size,
                    "Bytes, such as 1MiB; files take whole clusters. Default: 1MiB, or 64KiB on "
                    "less than 16GiB");
    mkfs.add_option("--compat", r.compat,
                    "spdk: as SPDK's BlobFS reads it, which has no directories, links and "
                    "attributes, and whose rename over a file is not atomic")
        ->check(CLI::IsMember({"spdk"}));
    CLI::App& info = b.add("info", "Show what kind it is, and how full");
    b.json(info);
    CLI::App& ls = b.add("ls", "List a directory");
    b.path(ls, "PATH", "The directory, or a file")->capture_default_str();
    b.json(ls);
    CLI::App& stat = b.add("stat", "Show all that is known of a file");
    b.path(stat, "PATH", "The file")->required();
    b.json(stat);
    CLI::App& get = b.add("get", "Copy a file out");
    b.path(get, "PATH", "The file")->required();
    b.target(get, "FILE", "Where to; - or nothing: standard output");
    CLI::App& put = b.add("put", "Copy a file in, and make it durable");
    b.target(put, "FILE", "What; -: standard input")->required();
    b.path(put, "PATH", "The file; replaced if it is there")->required();
    CLI::App& mkdir = b.add("mkdir", "Make a directory");
    b.path(mkdir, "PATH", "The directory")->required();
    CLI::App& mv = b.add("mv", "Rename, in one step, also over another file");
    b.path(mv, "FROM", "What there is")->required();
    b.target(mv, "TO", "What it is to be called")->required();
    CLI::App& ln = b.add("ln", "Give a file another name");
    b.path(ln, "FROM", "What there is")->required();
    b.target(ln, "TO", "The further name")->required();
    CLI::App& rm = b.add("rm", "Remove a file, or an empty directory");
    b.path(rm, "PATH", "What to remove")->required();
    rm.add_flag("-r,--recursive", r.recursive, "A directory with all that is in it");
    to.require_subcommand(1);
}

}  // namespace

void add_blobfs(CLI::App& program, action& chosen, const bdev_kinds& kinds) {
    auto r = std::make_shared<blobfs_request>();
    CLI::App& command = *program.add_subcommand(
        "blobfs", "Make a file system on a bdev, copy files in and out, look at it and change it");
    command.footer(
        "Examples:\n"
        "  nacre blobfs mkfs 'file:///tmp/fs.img?size=1GiB'\n"
        "  nacre blobfs put file:///tmp/fs.img /etc/passwd /users\n"
        "  nacre blobfs ls file:///tmp/fs.img\n"
        "What only reads writes nothing, even if the file system was not unloaded.");
    add_commands(command, *r);
    add_blobfs_mount(command, chosen, kinds);
    command.callback([r, kinds, &chosen] {
        if (r->command.empty()) return;  // mount, which has chosen
        chosen = [r, kinds] {
            bdev_session session;
            session.command = "nacre blobfs";
            session.config_file = r->config_file;
            session.kinds = kinds;
            blobfs_work work(*r);
            return run_with_bdevs(session, work);
        };
    });
}

}  // namespace nacre::cli
