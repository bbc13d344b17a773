// SPDX-License-Identifier: BSD-3-Clause
#include "mount.hpp"

#include <algorithm>
#include <condition_variable>
#include <csignal>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "modules/modules.hpp"
#include "nacre/app/app.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/log.hpp"
#include "nacre/memory/dma_buffer.hpp"

namespace nacre::rocks {
namespace {

constexpr const char* component = "rocksdb";
/// So much of a device's beginning must be zeros for it to count as empty.
constexpr std::size_t looked_at_max = std::size_t{1} << 20;

// --- The app ------------------------------------------------------------------------------------

/// The one that stores are opened in. Under the mutex of `mounted`.
class environment {
public:
    [[nodiscard]] outcome<> enter(const store_address& address);
    void leave() noexcept;
    [[nodiscard]] app& application() noexcept { return **joined_; }

private:
    [[nodiscard]] outcome<> start(const store_address& address);
    void run(app_options options);

    unsigned users_ = 0;
    std::optional<app_member> joined_;

    std::thread os_thread_;  // of one of our own
    std::mutex mutex_;
    std::condition_variable changed_;
    std::optional<outcome<>> started_;
};

/// Its thread.
void environment::run(app_options options) {
    app own(std::move(options));
    outcome<> started = own.start();
    const bool runs = started.has_value();
    {
        const std::lock_guard guard(mutex_);
        started_.emplace(std::move(started));
    }
    changed_.notify_one();
    if (runs) own.wait();
}

outcome<> environment::start(const store_address& address) {
    app_options options;
    options.name = "nacre-rocksdb";
    options.config_file = address.config_file;
    options.handle_signals = false;
    if (address.reactors != 0) options.reactors = address.reactors;
    options.rpc_socket = address.rpc_socket;
    started_.reset();
    // The program's signals are its own: none comes to a thread that it does not know of.
    sigset_t all;
    sigset_t before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    os_thread_ = std::thread([this, o = std::move(options)] { run(o); });
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return started_.has_value(); });
    if (*started_) return {};
    os_thread_.join();
    return std::move(*started_);
}

outcome<> environment::enter(const store_address& address) {
    if (users_ == 0) {
        joined_ = app::join();
        if (!joined_) {
            if (outcome<> done = start(address); !done) return done;
            joined_ = app::join();
        }
    }
    const std::string runs = application().options().config_file;
    if (!address.config_file.empty() && address.config_file != runs) {
        const std::string who = application().options().name;
        if (users_ == 0) joined_.reset();
        return fail(EBUSY, "this process runs an app already (" + who + ", " +
                               (runs.empty() ? "without a configuration" : runs) +
                               "); name one of its bdevs, as in nacre://NAME");
    }
    ++users_;
    return {};
}

void environment::leave() noexcept {
    if (--users_ != 0) return;
    const bool own = os_thread_.joinable();
    if (own) application().request_shutdown();
    joined_.reset();
    if (own) os_thread_.join();
}

// --- On the app's main thread -------------------------------------------------------------------

struct mounting {
    app& in;
    store_address address;
    std::string made_bdev{};
    blobfs files{};
};

task<outcome<bool>> is_empty(bdev_registry& registry, const std::string& name) {
    outcome<bdev_desc> desc = registry.open(name, access::read);
    if (!desc) co_return fail(std::move(desc.error()));
    outcome<bdev_channel> channel = desc->open_channel();
    if (!channel) co_return fail(std::move(channel.error()));
    const bdev_attributes& a = desc->device().attributes();
    const std::uint64_t block = a.block_size.value();
    const std::uint64_t blocks =
        std::min(std::max<std::uint64_t>(looked_at_max / block, 1), a.blocks.value());
    const std::size_t bytes = blocks * block;
    result<dma_buffer> buffer = dma_buffer::allocate(byte_count(bytes));
    if (!buffer) co_return fail(failure(buffer.error()));
    const std::span<std::byte> all = buffer->writable_unchecked();
    const iov_view view(all.data(), bytes);
    const result<> done = co_await channel->read(lba(0), view);
    if (!done) co_return fail(failure(done.error(), name + ": " + describe(done.error())));
    co_return all_zero(all);
}

/// A file system, where there is none and nothing else.
task<outcome<>> make_if_empty(mounting& m, const std::string& name) {
    bdev_registry& registry = m.in.bdevs();
    outcome<bdev_desc> looked = registry.open(name, access::read);
    if (!looked) co_return fail(std::move(looked.error()));
    outcome<bool> there = co_await blobfs::detect(registry, std::move(*looked));
    if (!there) co_return fail(std::move(there.error()));
    if (*there) co_return outcome<>();
    outcome<bool> empty = co_await is_empty(registry, name);
    if (!empty) co_return fail(std::move(empty.error()));
    if (!*empty)
        co_return fail(EEXIST, name +
                                   ": holds data that are no blobfs; mkfs=auto formats empty "
                                   "devices only");
    outcome<bdev_desc> desc = registry.open(name, access::write);
    if (!desc) co_return fail(std::move(desc.error()));
    outcome<> claimed = desc->take_claim(claim::exclusive_write, component);
    if (!claimed) co_return claimed;
    blobfs_options options;
    options.compatible = m.address.compatible;
    outcome<blobfs> made = co_await blobfs::make(registry, std::move(*desc), options);
    if (!made) co_return fail(std::move(made.error()));
    m.files = std::move(*made);
    co_return outcome<>();
}

task<outcome<>> load(mounting& m, const std::string& name) {
    if (m.address.make) {
        outcome<> made = co_await make_if_empty(m, name);
        if (!made || m.files.is_loaded()) co_return made;
    }
    bdev_registry& registry = m.in.bdevs();
    blobfs_load_options options;
    options.read_only = m.address.read_only;
    const access how = options.read_only ? access::read : access::write;
    outcome<bdev_desc> desc = registry.open(name, how);
    if (!desc) co_return fail(std::move(desc.error()));
    if (how == access::write) {
        outcome<> claimed = desc->take_claim(claim::exclusive_write, component);
        if (!claimed) co_return claimed;
    }
    outcome<blobfs> loaded = co_await blobfs::load(registry, std::move(*desc), std::move(options));
    if (!loaded) {
        if (loaded.error().code.is(ENOENT))
            loaded.error().message += "; give mkfs=auto to have one made on an empty device";
        co_return fail(std::move(loaded.error()));
    }
    m.files = std::move(*loaded);
    co_return outcome<>();
}

task<outcome<>> mount_here(across<mounting> m) {
    std::string name = m->address.bdev;
    if (m->address.makes_bdev()) {
        outcome<std::string> made = co_await create_from_uri(m->in.bdevs(), name);
        if (!made) co_return fail(std::move(made.error()));
        name = m->made_bdev = std::move(*made);
    }
    outcome<> done = co_await load(*m, name);
    if (done && m->address.cache_size != 0) m->files.set_cache_size(m->address.cache_size);
    if (done || m->made_bdev.empty()) co_return done;
    outcome<> removed = co_await m->in.bdevs().remove(m->made_bdev);
    (void)removed;  // it never served
    co_return done;
}

task<outcome<>> unmount_here(across<mounting> m) {
    outcome<> done = co_await m->files.unload();
    if (m->made_bdev.empty() || m->files.is_loaded()) co_return done;
    outcome<> removed = co_await m->in.bdevs().remove(m->made_bdev);
    if (!done) co_return done;
    co_return removed;
}

// --- All of them --------------------------------------------------------------------------------

struct mounted;

/// What a store's users share.
struct entry {
    explicit entry(mounting what) : how(std::move(what)) {}
    mounting how;
    std::optional<store> files{};
    std::weak_ptr<store> users{};
};

/// Never destroyed: at the end of a process files may go after any destructor of ours.
struct mounted {
    std::mutex mutex;
    std::condition_variable gone;
    environment in;
    std::map<std::string, std::unique_ptr<entry>> by_key;

    static mounted& all() {
        static auto* const one = new mounted;
        return *one;
    }
    outcome<std::shared_ptr<store>> find_or_mount(const store_address& address);
    outcome<std::shared_ptr<store>> mount_new(const store_address& address);
    void unmount(const std::string& key) noexcept;
};

outcome<std::shared_ptr<store>> mounted::mount_new(const store_address& address) {
    if (outcome<> entered = in.enter(address); !entered) return fail(std::move(entered.error()));
    auto made = std::make_unique<entry>(mounting{in.application(), address});
    outcome<> done = in.application()
                         .host()
                         .main_thread()
                         .spawn(&mount_here, across<mounting>(made->how))
                         .wait();
    if (!done) {
        in.leave();
        return fail(std::move(done.error()));
    }
    made->files.emplace(in.application().host(), made->how.files);
    std::shared_ptr<store> users(&*made->files,
                                 [this, key = address.key](store*) { unmount(key); });
    made->users = users;
    by_key[address.key] = std::move(made);
    return users;
}

outcome<std::shared_ptr<store>> mounted::find_or_mount(const store_address& address) {
    std::unique_lock lock(mutex);
    while (true) {
        const auto found = by_key.find(address.key);
        if (found == by_key.end()) break;
        if (std::shared_ptr<store> users = found->second->users.lock()) {
            if (found->second->how.address.read_only && !address.read_only)
                return fail(EBUSY, address.bdev +
                                       ": this process has it open read-only; close "
                                       "that file system first");
            return users;
        }
        gone.wait(lock);  // it is being unloaded
    }
    return mount_new(address);
}

void mounted::unmount(const std::string& key) noexcept {
    const std::lock_guard guard(mutex);
    const auto found = by_key.find(key);
    const outcome<> done = in.application()
                               .host()
                               .main_thread()
                               .spawn(&unmount_here, across<mounting>(found->second->how))
                               .wait();
    if (!done) log::error(component, done.error().message);
    // With files open, which is nobody's any more, it stays loaded; the next load recovers it.
    if (found->second->how.files.is_loaded()) (void)found->second.release();
    by_key.erase(found);
    in.leave();
    gone.notify_all();
}

}  // namespace

outcome<std::shared_ptr<store>> mount(const store_address& address) {
    if (nacre::thread::current() != nullptr)
        return fail(EDEADLK, "file systems of RocksDB are not opened on a thread of the runtime");
    return mounted::all().find_or_mount(address);
}

void sync_mounted() noexcept {
    mounted& all = mounted::all();
    std::vector<std::shared_ptr<store>> open;
    {
        const std::lock_guard guard(all.mutex);
        for (const auto& [key, e] : all.by_key)
            if (std::shared_ptr<store> users = e->users.lock()) open.push_back(std::move(users));
    }
    for (const std::shared_ptr<store>& s : open)
        if (const outcome<> done = s->sync(); !done) log::error(component, done.error().message);
}

}  // namespace nacre::rocks
