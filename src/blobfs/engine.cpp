// SPDX-License-Identifier: BSD-3-Clause
#include "engine.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "log_layout.hpp"
#include "nacre/core/assert.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/log.hpp"
#include "nacre/runtime/runtime.hpp"
#include "nacre/runtime/sleep.hpp"

namespace nacre::detail {

fs_engine::fs_engine(bdev_registry& registry, blobstore store)
    : cache(std::uint64_t{64} << 20),
      registry_(registry),
      home_(*thread::current()),
      store_(std::move(store)),
      log_buffers_({.limit = byte_count(std::uint64_t{8} << 20), .registered = false}) {}

fs_engine::~fs_engine() { NACRE_ASSERT(!store_.is_loaded()); }

std::int64_t fs_engine::now_ns() const {
    return static_cast<std::int64_t>(registry_.host().home_world().wall_clock_ns());
}

node_ptr fs_engine::find(node_id id) const {
    const auto at = nodes_.find(id);
    return at == nodes_.end() ? nullptr : at->second;
}

node_ptr fs_engine::add_node(node_id id, std::uint64_t clusters) {
    auto node = std::make_shared<fs_node>(*this, id, ++generations_, cache);
    node->clusters = clusters;
    nodes_[id] = node;
    return node;
}

result<> fs_engine::check_writable() const noexcept {
    if (unloading_) return fail(ESHUTDOWN);
    if (read_only_) return fail(EROFS);
    return {};
}

/// What a change does to times.
void fs_engine::touch(fs_node& node, bool data) noexcept {
    node.attributes.ctime_ns = now_ns();
    if (data) node.attributes.mtime_ns = node.attributes.ctime_ns;
    node.attributes_changed = !compatible_;
}

node_status fs_engine::describe(const fs_node& node) const {
    node_status s;
    s.id = node.id;
    s.generation = node.generation;
    s.attributes = node.attributes;
    if (node.tail.is_lent() && node.tail.appended_ns() != 0)
        s.attributes.mtime_ns = s.attributes.ctime_ns = node.tail.appended_ns();
    s.length = node.is_directory()   ? node.entries.size() * 32
               : node.target.empty() ? node.length.load(std::memory_order_relaxed)
                                     : node.target.size();
    // What is set aside for a file that grows is nobody's business.
    const std::uint64_t length = node.length.load(std::memory_order_relaxed);
    s.allocated =
        std::min(node.clusters * cluster_bytes_,
                 node.log ? fs_format::log_disk_bytes(length) : align_up(length, page_bytes));
    s.log = node.log.has_value();
    s.links = node.is_directory() ? 2 + node.subdirectories
                                  : static_cast<std::uint32_t>(node.names.size());
    return s;
}

task<blobfs_status> fs_engine::status() {
    blobstore_status b = co_await store_.status();
    blobfs_status s;
    s.compatible = compatible_;
    s.read_only = read_only_;
    s.recovered = recovered_;
    s.size = b.data_clusters * cluster_bytes_;
    s.free = b.free_clusters * cluster_bytes_;
    const blob_headroom kept = headroom(false);
    s.available = (b.free_clusters - std::min(b.free_clusters, kept.clusters)) * cluster_bytes_;
    s.cluster_size = b.cluster_size;
    s.nodes = nodes_.size();
    s.free_nodes = b.free_metadata_pages - std::min(b.free_metadata_pages, kept.pages);
    s.open_files = open_files_;
    s.cached = cache.used_bytes();
    s.dirty = cache.dirty_bytes();
    s.cache_hits = cache.hits.load(std::memory_order_relaxed);
    s.cache_misses = cache.misses.load(std::memory_order_relaxed);
    s.findings = findings_;
    co_return s;
}

// --- Who uses a node's blob ---------------------------------------------------------------------

task<result<>> fs_engine::pin(node_ptr node) {
    if (node->erased) co_return fail(ENOENT);
    ++node->pins;
    result<> locked = co_await node->opening.lock();
    if (!locked) {
        unpin(*node);
        co_return locked;
    }
    const unlock_guard guard(node->opening);
    if (node->file.is_open()) co_return result<>();
    outcome<blob> opened = co_await store_.open(static_cast<blob_id>(node->id));
    error why;
    if (opened) {
        node->file = std::move(*opened);
        outcome<bdev_channel> channel = node->file.open_channel();
        if (channel) {
            node->channel = std::move(*channel);
            node->reader = node->file.open_reader();
            node->plain.store(!node->log, std::memory_order_relaxed);
        } else {
            why = channel.error().code;
        }
    } else {
        why = opened.error().code;
        log::warning("blobfs", opened.error().message);
    }
    if (why.ok()) co_return result<>();
    unpin(*node);
    co_return fail(why);
}

void fs_engine::unpin(fs_node& node) noexcept {
    if (--node.pins != 0) return;
    node.channel.close();
    node.reader = {};
    node.file = blob();  // closed a little later
    if (!node.removed) return;
    const node_ptr self = find(node.id);
    if (self.get() == &node) erase_later(self);
}

task<result<blobfs_file>> fs_engine::open_node(node_id id, file_open_options how) {
    node_ptr node = find(id);
    if (node == nullptr) co_return fail(ENOENT);
    if (node->is_directory()) co_return fail(EISDIR);
    if (!node->is_file()) co_return fail(EINVAL);
    if (node->unreadable.failed()) co_return fail(node->unreadable);
    if (how.write || how.truncate) {
        result<> ok = check_writable();
        if (!ok) co_return fail(ok.error());
    }
    result<> pinned = co_await pin(node);
    if (!pinned) co_return fail(pinned.error());
    error refused;
    if (unloading_) refused = error::posix(ESHUTDOWN);
    if (node->removed && node->handles == 0) refused = error::posix(ENOENT);
    if (refused.failed()) {
        unpin(*node);
        co_return fail(refused);
    }
    ++node->handles;
    ++open_files_;
    node->uses_reserve = node->uses_reserve || (how.write && how.uses_reserve);
    blobfs_file file(node, how);
    if (how.truncate) {
        result<> emptied = co_await empty(node, how);
        if (!emptied) co_return fail(emptied.error());
    }
    co_return std::move(file);
}

task<result<>> fs_engine::close(node_crossing of) {
    drop_handle(of.node);
    co_return result<>();
}

void fs_engine::leave(node_crossing of) {
    leaving.fetch_sub(1, std::memory_order_relaxed);
    drop_handle(of.node);
}

void fs_engine::drop_handle(const node_ptr& node) {
    --node->handles;
    --open_files_;
    const bool last = node->handles == 0;
    if (last) node->uses_reserve = false;
    if (last && node->tail.is_lent()) join_tail(*node, node->tail.take_back());
    // What was written goes to the store in time; see flush_later.
    const bool surplus = last && node->clusters > clusters_needed(*node);
    if (!read_only_ && (node->dirty() || surplus)) note_dirty(node);
    unpin(*node);
}

task<result<>> fs_engine::lock(node_crossing of) {
    if (!of.node->locked.try_lock()) co_return fail(EWOULDBLOCK);
    co_return result<>();
}

task<result<>> fs_engine::unlock(node_crossing of) {
    of.node->locked.unlock();
    co_return result<>();
}

// --- Changes of a node's metadata ---------------------------------------------------------------

task<result<>> fs_engine::commit(node_ptr node, blob_changes changes) {
    result<> pinned = co_await pin(node);
    if (!pinned) co_return pinned;
    if (node->attributes_changed && !compatible_)
        changes.set.push_back(
            {std::string(fs_format::key_node),
             fs_format::encode_attributes(node->attributes, node->log.has_value())});
    const node_attributes written = node->attributes;
    const std::optional<std::uint64_t> clusters = changes.clusters;
    const bool writes = clusters || !changes.set.empty() || !changes.removed.empty();
    outcome<> done = co_await node->file.change(std::move(changes));
    if (done) {
        if (clusters) node->clusters = *clusters;
        node->attributes_changed = node->attributes_changed && !(written == node->attributes);
        if (writes && std::exchange(node->unsettled, false)) std::erase(unsettled_, node);
    } else if (!node->unsettled) {  // ENOSPC may have been the device's
        node->unsettled = true;
        unsettled_.push_back(node);
    }
    if (!done && node->log) node->log->renew = true;  // whichever nonce the disk has now
    unpin(*node);
    if (!done) co_return fail(done.error().code);
    co_return result<>();
}

task<result<>> fs_engine::settle() {
    while (!unsettled_.empty()) {
        node_ptr node = unsettled_.back();
        if (node->erased) {
            unsettled_.pop_back();
            continue;
        }
        result<> pinned = co_await pin(node);
        if (!pinned) co_return pinned;
        outcome<> done = co_await node->file.sync();
        unpin(*node);
        if (!done) co_return fail(done.error().code);
        node->unsettled = false;
        std::erase(unsettled_, node);
    }
    result<> forgotten = co_await forget_lost_names();
    if (!forgotten) co_return forgotten;
    while (!erasing_.empty()) {
        result<> erased = co_await erase(erasing_.back());
        if (!erased) co_return erased;
    }
    co_return result<>();
}

void fs_engine::erase_later(const node_ptr& node) {
    if (read_only_) return;
    if (std::ranges::find(erasing_, node) == erasing_.end()) erasing_.push_back(node);
    start_flusher();
}

/// A node without a name that nobody uses.
task<result<>> fs_engine::erase(node_ptr node) {
    while (true) {
        if (node->pins != 0) {  // it comes again when they have gone
            std::erase(erasing_, node);
            co_return result<>();
        }
        node->erased = true;
        outcome<> done = co_await store_.remove(static_cast<blob_id>(node->id));
        if (done || done.error().code.is(ENOENT)) break;
        if (!done.error().code.is(EBUSY)) co_return fail(done.error().code);
        co_await yield();  // a handle of it is on its way out
    }
    std::erase(erasing_, node);
    std::erase(unsettled_, node);
    node->pages.drop_from(0);
    dirty_nodes_.erase(node->id);
    if (find(node->id) == node) nodes_.erase(node->id);
    co_return result<>();
}

task<outcome<>> fs_engine::unload() {
    while (leaving.load(std::memory_order_relaxed) != 0) co_await yield();
    result<> locked = co_await names_.lock();
    if (!locked) co_return fail(failure(locked.error()));
    unloading_ = open_files_ == 0;  // nobody is let in from here on
    names_.unlock();
    if (!unloading_)
        co_return fail(EBUSY, fmt::format("{} files are open: close them first", open_files_));
    background_.request_stop();
    result<> joined = co_await background_.join();
    (void)joined;
    outcome<> done;
    if (!read_only_) {
        done = co_await sync_all();
        result<> settled = co_await settle();
        if (!settled && done) done = fail(failure(settled.error()));
    }
    (void)offers.take();
    dirty_nodes_.clear();
    unsettled_.clear();
    erasing_.clear();
    for (auto& [id, node] : nodes_) node->pages.drop_from(0);
    nodes_.clear();
    outcome<> unloaded = co_await store_.unload();
    while (!unloaded && store_.is_loaded()) {
        co_await yield();  // blobs are on their way out
        unloaded = co_await store_.unload();
    }
    if (done) done = std::move(unloaded);
    co_return done;
}

}  // namespace nacre::detail
