// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/serve/blobfs_mounts.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "nacre/core/assert.hpp"
#include "nacre/core/log.hpp"
#include "nacre/runtime/sleep.hpp"

namespace nacre {

struct blobfs_mounts::mounted {
    std::string bdev;
    blobfs fs;
    fuse_options options;
    std::unique_ptr<fuse_mount> mount;
    event gone;  ///< unmounted and unloaded
};

namespace {

/// A bdev that is in use until the end of the block.
class in_use {
public:
    in_use(std::vector<std::string>& list, const std::string& name) : list_(list), name_(name) {
        list_.push_back(name_);
    }
    in_use(const in_use&) = delete;
    in_use& operator=(const in_use&) = delete;
    ~in_use() { list_.erase(std::ranges::find(list_, name_)); }

private:
    std::vector<std::string>& list_;
    std::string name_;
};

}  // namespace

blobfs_mounts::~blobfs_mounts() { NACRE_ASSERT(all_.empty()); }

outcome<bdev_desc> blobfs_mounts::open(const std::string& bdev, access a, claim c) {
    const auto used = std::ranges::find(all_, bdev, [](const auto& m) { return m->bdev; });
    if (used != all_.end())
        return fail(EBUSY, fmt::format("{}: its blobfs is mounted at {}: unmount it first", bdev,
                                       (*used)->mount->mountpoint()));
    if (std::ranges::find(starting_, bdev) != starting_.end())
        return fail(EBUSY, bdev + ": a blobfs is just being made or mounted on it");
    outcome<bdev_desc> desc = registry_.open(bdev, a);
    if (!desc || c == claim::none) return desc;
    outcome<> claimed = desc->take_claim(c, "blobfs");
    if (!claimed) return fail(std::move(claimed.error()));
    return desc;
}

task<outcome<>> blobfs_mounts::create(std::string bdev, blobfs_options options) {
    outcome<bdev_desc> desc = open(bdev, access::write, claim::exclusive_write);
    if (!desc) co_return fail(std::move(desc.error()));
    const in_use here(starting_, bdev);
    outcome<blobfs> fs = co_await blobfs::make(registry_, std::move(*desc), options);
    if (!fs) co_return fail(std::move(fs.error()));
    outcome<> unloaded = co_await fs->unload();
    co_return unloaded;
}

task<outcome<bool>> blobfs_mounts::detect(std::string bdev) {
    if (std::ranges::find(all_, bdev, [](const auto& m) { return m->bdev; }) != all_.end())
        co_return true;
    outcome<bdev_desc> desc = open(bdev, access::read, claim::none);
    if (!desc) co_return fail(std::move(desc.error()));
    outcome<bool> found = co_await blobfs::detect(registry_, std::move(*desc));
    co_return found;
}

task<outcome<>> blobfs_mounts::mount(std::string bdev, std::string mountpoint,
                                     fuse_options options) {
    const bool writes = !options.read_only;
    outcome<bdev_desc> desc = open(bdev, writes ? access::write : access::read,
                                   writes ? claim::exclusive_write : claim::read_many_write_none);
    if (!desc) co_return fail(std::move(desc.error()));
    const in_use here(starting_, bdev);
    blobfs_load_options load;
    load.read_only = options.read_only;
    outcome<blobfs> fs = co_await blobfs::load(registry_, std::move(*desc), std::move(load));
    if (!fs) co_return fail(std::move(fs.error()));
    auto m = std::make_shared<mounted>();
    m->bdev = bdev;
    m->fs = std::move(*fs);
    if (cache_bytes_ != 0) m->fs.set_cache_size(cache_bytes_);
    options.source = bdev;
    m->options = options;
    outcome<fuse_mount> made =
        co_await fuse_mount::mount(registry_.host(), m->fs, std::move(mountpoint), options);
    if (!made) {
        outcome<> unloaded = co_await m->fs.unload();
        (void)unloaded;
        co_return fail(std::move(made.error()));
    }
    m->mount = std::make_unique<fuse_mount>(std::move(*made));
    log::notice("blobfs", fmt::format("{} is mounted at {} by {}{}{}", bdev, m->mount->mountpoint(),
                                      to_string(m->mount->transport()),
                                      m->mount->advice().empty() ? "" : ": ", m->mount->advice()));
    all_.push_back(m);
    followers_.spawn(follow(m));
    co_return outcome<>();
}

/// Until it ends, whoever ends it; then it is unloaded. The mount itself goes with the last one who
/// waits for it.
task<result<>> blobfs_mounts::follow(std::shared_ptr<mounted> m) {
    outcome<> ended = co_await m->mount->wait();
    if (!ended) log::error("blobfs", m->bdev + ": " + ended.error().message);
    while (m->fs.is_loaded()) {
        outcome<> unloaded = co_await m->fs.unload();
        if (unloaded) break;
        log::error("blobfs", m->bdev + ": " + unloaded.error().message);
        if (m->fs.is_loaded()) co_await yield();
    }
    std::erase(all_, m);
    m->gone.set();
    co_return result<>();
}

task<outcome<>> blobfs_mounts::unmount(std::string mountpoint, bool force) {
    while (mountpoint.size() > 1 && mountpoint.ends_with('/')) mountpoint.pop_back();
    const auto at = std::ranges::find_if(
        all_, [&](const auto& m) { return m->mount->mountpoint() == mountpoint; });
    if (at == all_.end())
        co_return fail(ENOENT, fmt::format("{}: no blobfs is mounted there; blobfs_get_mounts "
                                           "lists those that are",
                                           mountpoint));
    const std::shared_ptr<mounted> m = *at;
    outcome<> done;
    if (force)
        done = co_await m->mount->unmount_by_force();
    else
        done = co_await m->mount->unmount();
    if (!done) co_return done;
    result<> gone = co_await m->gone.wait();
    if (!gone) co_return fail(failure(gone.error()));
    co_return outcome<>();
}

task<std::vector<blobfs_mounts::shown>> blobfs_mounts::list() {
    std::vector<shown> shown_all;
    const std::vector<std::shared_ptr<mounted>> now = all_;
    for (const auto& m : now) {
        if (m->mount->ended()) continue;
        shown one;
        one.bdev = m->bdev;
        one.mountpoint = m->mount->mountpoint();
        one.transport = m->mount->transport();
        one.options = m->options;
        one.advice = m->mount->advice();
        one.traffic = m->mount->statistics();
        one.status = co_await m->fs.status();
        shown_all.push_back(std::move(one));
    }
    co_return shown_all;
}

void blobfs_mounts::set_cache_size(std::uint64_t bytes) noexcept {
    cache_bytes_ = bytes;
    for (const auto& m : all_) m->fs.set_cache_size(bytes);
}

task<void> blobfs_mounts::close() {
    while (!all_.empty()) {
        const std::shared_ptr<mounted> m = all_.front();
        if (!m->mount->ended()) {
            outcome<> done = co_await m->mount->unmount_by_force();
            if (!done) log::error("blobfs", m->bdev + ": " + done.error().message);
        }
        result<> gone = co_await m->gone.wait();
        (void)gone;
    }
    result<> joined = co_await followers_.join();
    (void)joined;
}

}  // namespace nacre
