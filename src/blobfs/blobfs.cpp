// SPDX-License-Identifier: BSD-3-Clause
//
// The public face: every call is carried out on the home thread.
#include "nacre/blobfs/blobfs.hpp"

#include <fmt/format.h>

#include "engine.hpp"
#include "nacre/core/assert.hpp"
#include "nacre/runtime/home_call.hpp"
#include "nacre/runtime/sleep.hpp"

namespace nacre {

using detail::at_home;
using detail::fs_engine;
using detail::node_crossing;

// --- A file -------------------------------------------------------------------------------------

blobfs_file& blobfs_file::operator=(blobfs_file&& other) noexcept {
    std::swap(node_, other.node_);
    std::swap(writable_, other.writable_);
    std::swap(direct_, other.direct_);
    std::swap(keeps_mtime_, other.keeps_mtime_);
    std::swap(locked_, other.locked_);
    return *this;
}

blobfs_file::~blobfs_file() {
    if (node_ == nullptr) return;
    fs_engine& engine = node_->engine;
    engine.leaving.fetch_add(1, std::memory_order_relaxed);
    engine.home().send_message(
        [](node_crossing left, bool locked) {
            fs_engine& e = left.node->engine;
            if (locked) left.node->locked.unlock();
            e.leave(std::move(left));
        },
        node_crossing(std::move(node_)), locked_);
}

task<result<>> blobfs_file::close() {
    fs_engine& engine = node_->engine;
    result<> done;
    if (locked_) done = co_await unlock();
    if (!done) co_return done;
    done = co_await at_home<&fs_engine::close>(engine, node_crossing(node_));
    if (done) node_.reset();
    co_return done;
}

node_id blobfs_file::id() const noexcept { return node_->id; }
std::uint64_t blobfs_file::length() const noexcept {
    return node_->length.load(std::memory_order_acquire);
}
task<result<node_status>> blobfs_file::status() const {
    return at_home<&fs_engine::status_of>(node_->engine, node_crossing(node_));
}
task<result<std::size_t>> blobfs_file::read(std::uint64_t offset, std::span<std::byte> into) const {
    return at_home<&fs_engine::read>(node_->engine, node_crossing(node_), offset,
                                     detail::byte_span{into}, direct_);
}
task<result<>> blobfs_file::write(std::uint64_t offset, std::span<const std::byte> from) {
    if (!writable_) co_return fail(EBADF);
    const fs_engine::write_how how{direct_, keeps_mtime_};
    result<> done = co_await at_home<&fs_engine::write>(node_->engine, node_crossing(node_), offset,
                                                        detail::const_byte_span{from}, how);
    co_return done;
}

task<result<>> blobfs_file::append(std::span<const std::byte> from) {
    return write(UINT64_MAX, from);
}
task<result<>> blobfs_file::zero(std::uint64_t offset, std::uint64_t bytes) {
    if (!writable_) co_return fail(EBADF);
    result<> done =
        co_await at_home<&fs_engine::zero>(node_->engine, node_crossing(node_), offset, bytes);
    co_return done;
}
task<result<>> blobfs_file::flush_device() {
    return at_home<&fs_engine::flush_device>(node_->engine, node_crossing(node_));
}
task<result<>> blobfs_file::sync() {
    return at_home<&fs_engine::sync>(node_->engine, node_crossing(node_));
}
task<result<>> blobfs_file::truncate(std::uint64_t length) {
    if (!writable_) co_return fail(EBADF);
    result<> done =
        co_await at_home<&fs_engine::truncate>(node_->engine, node_crossing(node_), length);
    co_return done;
}
task<result<>> blobfs_file::allocate(std::uint64_t length) {
    if (!writable_) co_return fail(EBADF);
    result<> done =
        co_await at_home<&fs_engine::allocate>(node_->engine, node_crossing(node_), length);
    co_return done;
}
task<result<>> blobfs_file::prefetch(std::uint64_t offset, std::uint64_t bytes) const {
    return at_home<&fs_engine::prefetch>(node_->engine, node_crossing(node_), offset, bytes);
}
task<result<>> blobfs_file::drop_cache() {
    return at_home<&fs_engine::drop_cache>(node_->engine, node_crossing(node_));
}
void blobfs_file::set_priority(file_priority p) noexcept {
    node_->pages.low_priority.store(p == file_priority::low, std::memory_order_relaxed);
}
task<result<>> blobfs_file::lock() {
    if (locked_) co_return result<>();
    result<> done = co_await at_home<&fs_engine::lock>(node_->engine, node_crossing(node_));
    locked_ = done.has_value();
    co_return done;
}
task<result<>> blobfs_file::unlock() {
    if (!locked_) co_return fail(ENOLCK);
    result<> done = co_await at_home<&fs_engine::unlock>(node_->engine, node_crossing(node_));
    if (done) locked_ = false;
    co_return done;
}

// --- A file system ------------------------------------------------------------------------------

blobfs::blobfs() noexcept = default;
blobfs::blobfs(std::unique_ptr<fs_engine> engine) noexcept : engine_(std::move(engine)) {}
blobfs::blobfs(blobfs&&) noexcept = default;
blobfs& blobfs::operator=(blobfs&&) noexcept = default;
blobfs::~blobfs() = default;

namespace {

constexpr std::uint32_t small_cluster = 64U << 10;
constexpr std::uint32_t large_cluster = 1U << 20;
constexpr std::uint64_t small_device = std::uint64_t{16} << 30;

/// A store that could not become a file system is put away.
task<void> put_away(std::unique_ptr<fs_engine> engine) {
    while (true) {
        outcome<> gone = co_await engine->unload();
        if (gone || !engine->is_loaded()) break;
        co_await yield();
    }
}

}  // namespace

task<outcome<blobfs>> blobfs::make(bdev_registry& registry, bdev_desc base,
                                   blobfs_options options) {
    blobstore_options o;
    const bdev& device = base.device();
    const std::uint64_t bytes = device.size().value();
    o.type = std::string(options.compatible ? fs_format::type_spdk : fs_format::type_nacre);
    o.cluster_size = options.cluster_size;
    if (o.cluster_size == 0)
        o.cluster_size =
            options.compatible || bytes >= small_device ? large_cluster : small_cluster;
    outcome<blobstore> store = co_await blobstore::init(registry, std::move(base), std::move(o));
    if (!store) co_return fail(std::move(store.error()));
    auto engine = std::make_unique<fs_engine>(registry, std::move(*store));
    outcome<> done = co_await engine->format(options);
    if (done) co_return blobfs(std::move(engine));
    co_await put_away(std::move(engine));
    co_return fail(std::move(done.error()));
}

task<outcome<blobfs>> blobfs::load(bdev_registry& registry, bdev_desc base,
                                   blobfs_load_options options) {
    blobstore_load_options o;
    o.read_only = options.read_only;
    o.progress = options.progress;
    outcome<blobstore> store = co_await blobstore::load(registry, std::move(base), std::move(o));
    if (!store) co_return fail(std::move(store.error()));
    auto engine = std::make_unique<fs_engine>(registry, std::move(*store));
    outcome<> done = co_await engine->load(std::move(options));
    if (done) co_return blobfs(std::move(engine));
    co_await put_away(std::move(engine));
    co_return fail(std::move(done.error()));
}

task<outcome<bool>> blobfs::detect(bdev_registry& registry, bdev_desc base) {
    blobstore_load_options o;
    o.read_only = true;
    outcome<blobstore> store = co_await blobstore::load(registry, std::move(base), std::move(o));
    if (!store) {
        if (store.error().code.is(ENOENT)) co_return false;
        co_return fail(std::move(store.error()));
    }
    blobstore_status s = co_await store->status();
    outcome<> unloaded = co_await store->unload();
    if (!unloaded) co_return fail(std::move(unloaded.error()));
    co_return s.type == fs_format::type_spdk || s.type == fs_format::type_nacre;
}

task<outcome<>> blobfs::unload() {
    outcome<> done = co_await at_home<&fs_engine::unload>(*engine_);
    if (!engine_->is_loaded()) engine_.reset();
    co_return done;
}

task<blobfs_status> blobfs::status() const { return at_home<&fs_engine::status>(*engine_); }
task<outcome<>> blobfs::sync() { return at_home<&fs_engine::sync_all>(*engine_); }
void blobfs::set_cache_size(std::uint64_t bytes) noexcept { engine_->cache.set_limit(bytes); }
node_id blobfs::root() const noexcept { return engine_->root(); }

task<outcome<blobfs_file>> blobfs::open(std::string path, file_open_options how) {
    return at_home<&fs_engine::open>(*engine_, std::move(path), how);
}
task<outcome<node_status>> blobfs::stat(std::string path) const {
    return at_home<&fs_engine::stat_path>(*engine_, std::move(path));
}
task<outcome<std::vector<directory_entry>>> blobfs::list(std::string path) const {
    return at_home<&fs_engine::list>(*engine_, std::move(path));
}
task<outcome<>> blobfs::make_directory(std::string path, node_attributes attributes) {
    return at_home<&fs_engine::make_directory>(*engine_, std::move(path), attributes);
}
task<outcome<>> blobfs::remove(std::string path) {
    return at_home<&fs_engine::remove>(*engine_, std::move(path), false);
}
task<outcome<>> blobfs::remove_directory(std::string path) {
    return at_home<&fs_engine::remove>(*engine_, std::move(path), true);
}
task<outcome<>> blobfs::rename(std::string from, std::string to, rename_options options) {
    return at_home<&fs_engine::rename>(*engine_, std::move(from), std::move(to), options);
}
task<outcome<>> blobfs::link(std::string existing, std::string path) {
    return at_home<&fs_engine::link>(*engine_, std::move(existing), std::move(path));
}
task<outcome<>> blobfs::symlink(std::string target, std::string path, node_attributes attributes) {
    return at_home<&fs_engine::symlink>(*engine_, std::move(target), std::move(path), attributes);
}
task<outcome<std::string>> blobfs::read_link(std::string path) const {
    return at_home<&fs_engine::read_link_path>(*engine_, std::move(path));
}

task<result<node_status>> blobfs::lookup(node_id directory, std::string name) const {
    return at_home<&fs_engine::lookup>(*engine_, directory, std::move(name));
}
task<result<node_status>> blobfs::stat(node_id id) const {
    return at_home<&fs_engine::stat>(*engine_, id);
}
task<result<node_status>> blobfs::change(node_id id, attribute_changes changes) {
    return at_home<&fs_engine::change>(*engine_, id, changes);
}
task<result<node_status>> blobfs::make_node(node_id directory, std::string name,
                                            node_attributes attributes) {
    return at_home<&fs_engine::make_node>(*engine_, directory, std::move(name), attributes);
}
task<result<node_status>> blobfs::symlink_at(std::string target, node_id directory,
                                             std::string name, node_attributes attributes) {
    return at_home<&fs_engine::symlink_at>(*engine_, std::move(target), directory, std::move(name),
                                           attributes);
}
task<result<std::string>> blobfs::read_link(node_id id) const {
    return at_home<&fs_engine::read_link>(*engine_, id);
}
task<result<node_status>> blobfs::link_at(node_id existing, node_id directory, std::string name) {
    return at_home<&fs_engine::link_at>(*engine_, existing, directory, std::move(name));
}
task<result<>> blobfs::remove_at(node_id directory, std::string name, bool is_directory) {
    return at_home<&fs_engine::remove_at>(*engine_, directory, std::move(name), is_directory);
}
task<result<>> blobfs::rename_at(node_id from, std::string name, node_id to, std::string new_name,
                                 rename_options options) {
    return at_home<&fs_engine::rename_at>(*engine_, from, std::move(name), to, std::move(new_name),
                                          options);
}
task<result<std::vector<directory_entry>>> blobfs::list_at(node_id directory, std::string after,
                                                           std::size_t entries_max) const {
    return at_home<&fs_engine::list_at>(*engine_, directory, std::move(after), entries_max);
}
task<result<blobfs_file>> blobfs::open_node(node_id id, file_open_options how) {
    return at_home<&fs_engine::open_node>(*engine_, id, how);
}
task<result<std::string>> blobfs::xattr(node_id id, std::string name) const {
    return at_home<&fs_engine::xattr>(*engine_, id, std::move(name));
}
task<result<>> blobfs::set_xattr(node_id id, std::string name, std::string value, int mode) {
    return at_home<&fs_engine::set_xattr>(*engine_, id, std::move(name), std::move(value), mode);
}
task<result<>> blobfs::remove_xattr(node_id id, std::string name) {
    return at_home<&fs_engine::remove_xattr>(*engine_, id, std::move(name));
}
task<result<std::vector<std::string>>> blobfs::xattr_names(node_id id) const {
    return at_home<&fs_engine::xattr_names>(*engine_, id);
}

}  // namespace nacre
