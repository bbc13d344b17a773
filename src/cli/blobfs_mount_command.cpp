// SPDX-License-Identifier: BSD-3-Clause
//
// `nacre blobfs mount`: serves a blobfs as a folder until it is unmounted or the program is asked
// to stop; what was written is durable and the bdev is closed when it ends.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "bdev_session.hpp"
#include "nacre/blobfs/blobfs.hpp"
#include "nacre/core/json.hpp"
#include "nacre/core/log.hpp"
#include "nacre/core/parse.hpp"
#include "nacre/runtime/sync.hpp"
#include "nacre/serve/fuse.hpp"

namespace nacre::cli {
namespace {

struct mount_arguments {
    std::string bdev;
    std::string mountpoint;
    std::string config_file;
    std::string cache_size;
    std::string cluster_size;
    bool make = false;
    bool no_uring = false;
    bool no_writeback = false;
    bool print_json = false;
    fuse_options options;
};

class mount_work final : public bdev_work {
public:
    explicit mount_work(mount_arguments& a) noexcept : a_(a) {}
    task<int> run(bdev_registry& registry) override;

private:
    struct stop_hook : stop_callback {
        explicit stop_hook(mount_work& w) noexcept
            : stop_callback([](stop_callback& self) noexcept {
                  static_cast<stop_hook&>(self).owner.over_.set();
              }),
              owner(w) {}
        mount_work& owner;
    };
    // Not under the stop source of run(): what is under way is seen through.
    static task<int> serve(across<mount_work> self);
    task<outcome<>> carry_out();
    task<outcome<blobfs>> load();
    task<outcome<>> mounted(fuse_mount& m);
    task<void> watch(fuse_mount& m);
    void announce(const fuse_mount& m) const;

    mount_arguments& a_;
    bdev_registry* registry_ = nullptr;
    event over_;  // asked to stop, or unmounted
};

task<int> mount_work::run(bdev_registry& registry) {
    registry_ = &registry;
    stop_hook on_stop(*this);
    stop_source* stop = co_await current_stop();
    if (stop != nullptr && stop->stop_requested())
        over_.set();
    else if (stop != nullptr)
        stop->link(on_stop);
    join_handle<int> serving = thread::current()->spawn(&serve, across<mount_work>(*this));
    const int status = co_await serving;
    if (on_stop.linked()) on_stop.unlink();
    co_return status;
}

task<int> mount_work::serve(across<mount_work> self) {
    const outcome<> done = co_await self->carry_out();
    co_return done ? 0 : report_failure(done.error().message);
}

task<outcome<blobfs>> mount_work::load() {
    const access a = a_.options.read_only ? access::read : access::write;
    outcome<std::string> name = co_await find_or_make(*registry_, a_.bdev, a);
    if (!name) co_return fail(std::move(name.error()));
    bool is_there = true;
    if (a_.make) {
        outcome<bdev_desc> looked = registry_->open(*name, access::read);
        if (!looked) co_return fail(std::move(looked.error()));
        outcome<bool> found = co_await blobfs::detect(*registry_, std::move(*looked));
        if (!found) co_return fail(std::move(found.error()));
        is_there = *found;
    }
    outcome<bdev_desc> desc = registry_->open(*name, a);
    if (!desc) co_return fail(std::move(desc.error()));
    if (!a_.options.read_only) {
        outcome<> claimed = desc->take_claim(claim::exclusive_write, "nacre blobfs mount");
        if (!claimed) co_return fail(std::move(claimed.error()));
    }
    if (!is_there) {
        blobfs_options how;
        outcome<std::uint64_t> cluster = std::uint64_t{0};
        if (!a_.cluster_size.empty()) cluster = parse_size(a_.cluster_size);
        if (!cluster) co_return fail(EINVAL, "--cluster-size " + cluster.error().message);
        if (*cluster > UINT32_MAX) co_return fail(EINVAL, "--cluster-size: must be below 4GiB");
        how.cluster_size = static_cast<std::uint32_t>(*cluster);
        how.uid = ::getuid();
        how.gid = ::getgid();
        co_return co_await blobfs::make(*registry_, std::move(*desc), how);
    }
    blobfs_load_options how;
    how.read_only = a_.options.read_only;
    co_return co_await blobfs::load(*registry_, std::move(*desc), std::move(how));
}

task<outcome<>> mount_work::carry_out() {
    outcome<std::uint64_t> cache_size = std::uint64_t{0};
    if (!a_.cache_size.empty()) cache_size = parse_size(a_.cache_size);
    if (!cache_size) co_return fail(EINVAL, "--cache-size " + cache_size.error().message);
    outcome<blobfs> fs = co_await load();
    if (!fs) co_return fail(std::move(fs.error()));
    if (*cache_size != 0) fs->set_cache_size(*cache_size);
    a_.options.source = a_.bdev;
    a_.options.uring = !a_.no_uring;
    a_.options.writeback = !a_.no_writeback;
    outcome<fuse_mount> m =
        co_await fuse_mount::mount(registry_->host(), *fs, a_.mountpoint, a_.options);
    outcome<> done;
    if (m)
        done = co_await mounted(*m);
    else
        done = fail(std::move(m.error()));
    outcome<> unloaded = co_await fs->unload();
    co_return done ? unloaded : done;
}

task<void> mount_work::watch(fuse_mount& m) {
    outcome<> gone = co_await m.wait();
    (void)gone;  // asked for again by mounted()
    over_.set();
}

task<outcome<>> mount_work::mounted(fuse_mount& m) {
    announce(m);
    scope watching;
    watching.spawn(watch(m));
    const result<> over = co_await over_.wait();
    (void)over;  // stopped either way
    outcome<> gone = co_await m.unmount();
    if (!gone && !m.ended()) {
        log::warning("fuse", gone.error().message + "; it gets errors from now on");
        gone = co_await m.unmount_by_force();
    }
    const result<> joined = co_await watching.join();
    (void)joined;  // its children have no result
    co_return gone;
}

void mount_work::announce(const fuse_mount& m) const {
    if (a_.print_json) {
        const json::object line{{"mountpoint", m.mountpoint()},
                                {"transport", to_string(m.transport())},
                                {"advice", m.advice()}};
        fmt::print("{}\n", json::value(line).dump());
    } else {
        fmt::print("{} is mounted on {}, over {}.\n", a_.bdev, m.mountpoint(),
                   to_string(m.transport()));
        if (!m.advice().empty()) fmt::print("Note: {}.\n", m.advice());
        fmt::print("Ctrl-C, or `{} {}`, ends it.\n", "fusermount3 -u", m.mountpoint());
    }
    std::fflush(stdout);
}

}  // namespace

void add_blobfs_mount(CLI::App& blobfs, action& chosen, const bdev_kinds& kinds) {
    auto a = std::make_shared<mount_arguments>();
    CLI::App& mount = *blobfs.add_subcommand("mount", "Serve one as a folder, by FUSE");
    mount.footer(
        "Example:\n  nacre blobfs mount --mkfs 'file:///tmp/disk.img?size=1GiB' /tmp/folder\n"
        "It stays in the foreground. Root needs nothing else; others need the package fuse3.");
    mount.add_option("bdev", a->bdev, "A URI, or a bdev of --config")->required();
    mount.add_option("mountpoint", a->mountpoint, "An existing folder")->required();
    mount.add_option("-c,--config", a->config_file, "Make the bdevs of this configuration first")
        ->type_name("FILE");
    mount.add_flag("--mkfs", a->make, "Make a file system if there is none");
    mount
        .add_option("--cluster-size", a->cluster_size,
                    "With --mkfs: the least that a file takes; 1MiB, less on small devices")
        ->type_name("SIZE");
    mount.add_flag("--read-only", a->options.read_only, "Refuse changes");
    mount.add_flag("--allow-other", a->options.allow_other, "Let other users in");
    mount.add_option("--cache-size", a->cache_size, "Memory for data, such as 256MiB")
        ->type_name("SIZE");
    mount
        .add_option("--cache-seconds", a->options.cache_seconds,
                    "How long the kernel believes what it was told")
        ->capture_default_str();
    mount.add_option("--queue-depth", a->options.queue_depth, "Requests in flight")
        ->check(CLI::Range(1U, fuse_options::queue_depth_max))
        ->capture_default_str();
    mount.add_flag("--no-uring", a->no_uring, "Do not use FUSE over io_uring");
    mount.add_flag("--no-writeback", a->no_writeback, "Have the kernel pass on each write at once");
    mount.add_flag("--json", a->print_json,
                   "Print one line when ready: {\"mountpoint\", \"transport\", \"advice\"}");
    mount.callback([a, kinds, &chosen] {
        chosen = [a, kinds] {
            mount_work work(*a);
            return run_with_bdevs({"nacre blobfs mount", a->config_file, kinds, true}, work);
        };
    });
}

}  // namespace nacre::cli
