// SPDX-License-Identifier: BSD-3-Clause
//
// What is dirty goes to the disk: data first, then the length that covers them. Somebody asks for
// it, or there is too much, or some time has passed. While nothing is dirty, no timer runs.
#include <algorithm>
#include <bit>
#include <utility>

#include "engine.hpp"
#include "log_layout.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/log.hpp"
#include "nacre/runtime/sleep.hpp"

namespace nacre::detail {

using namespace fs_format;

namespace {

constexpr std::uint64_t run_pages_max = (std::uint64_t{1} << 20) / page_bytes;
constexpr unsigned runs_max = 8;
constexpr std::uint64_t flush_after_ns = 3'000'000'000;

}  // namespace

/// One write of neighbouring dirty pages; their chunks are busy already.
task<result<>> fs_engine::write_back_run(node_ptr node, std::uint64_t first, std::uint64_t end) {
    const std::vector<iovec> vectors = vectors_of(*node, first, end);
    const iov_view view{std::span<const iovec>(vectors)};
    result<> done = co_await node->channel.write(unit_of(first * page_bytes), view);
    node->unflushed = true;
    for (std::uint64_t p = first; done && p < end; ++p)
        node->pages.mark_clean(*node->pages.find(p / chunk_pages), 1U << p % chunk_pages);
    set_busy(*node, first, end, false);
    co_return done;
}

/// What is dirty now. On failure it stays dirty. A log's is written under its `metadata`.
task<result<>> fs_engine::write_back(node_ptr node) {
    if (node->log) {
        result<> logged = co_await write_back_log(node);
        co_return logged;
    }
    if (node->pages.dirty().empty()) co_return result<>();
    result<> pinned = co_await pin(node);
    if (!pinned) co_return pinned;
    const std::vector<std::uint64_t> indexes(node->pages.dirty().begin(),
                                             node->pages.dirty().end());
    scope group;
    result<> done;
    unsigned under_way = 0;
    // Not any more when it was emptied meanwhile, to become a log.
    for (std::size_t i = 0; i < indexes.size() && done && !node->log;) {
        chunk* const c = node->pages.find(indexes[i]);
        const std::uint64_t base = indexes[i] * chunk_pages;
        std::uint64_t first = base;
        if (c != nullptr && c->dirty != 0)
            first += static_cast<unsigned>(std::countr_zero(c->dirty));
        if (c == nullptr || c->dirty == 0 || first >= node->pages_kept) {
            ++i;
            continue;
        }
        if (c->busy || under_way == runs_max) {
            if (under_way != 0) {
                done = co_await group.join();
                under_way = 0;
            } else {
                done = co_await wait_idle(*node, indexes[i]);
            }
            continue;
        }
        std::uint64_t end = first;
        for (; end - first < run_pages_max && end < node->pages_kept; ++end) {
            const chunk* const next = node->pages.find(end / chunk_pages);
            if (next == nullptr || next->busy || (next->dirty & (1U << end % chunk_pages)) == 0)
                break;
        }
        task<result<>> run = write_back_run(node, first, end);
        if (!run.valid()) {
            done = fail(ENOMEM);
            break;
        }
        set_busy(*node, first, end, true);
        group.spawn(std::move(run));
        ++under_way;
    }
    result<> rest = co_await group.join();
    unpin(*node);
    if (done) done = rest;
    co_return done;
}

std::uint64_t fs_engine::clusters_for(const fs_node& node, std::uint64_t length) const noexcept {
    const std::uint64_t bytes = node.log ? log_disk_bytes(length) : length;
    return std::max<std::uint64_t>(divide_up(bytes, cluster_bytes_), compatible_ ? 1 : 0);
}

std::uint64_t fs_engine::clusters_needed(const fs_node& node) const noexcept {
    return clusters_for(node, node.length.load(std::memory_order_relaxed));
}

/// Data, then the length that covers them.
task<result<>> fs_engine::sync_node(node_ptr node, sync_options how) {
    result<> locked = co_await node->metadata.lock();
    if (!locked) co_return locked;
    const unlock_guard guard(node->metadata);
    result<> done;
    if (node->tail.is_lent()) done = co_await end_tail(*node);
    if (!done) co_return done;
    if (node->unreadable.failed()) {  // its length and its clusters stay as they are
        blob_changes none;
        if (how.attributes && node->attributes_changed) done = co_await commit(node, none);
        co_return done;
    }
    const std::uint64_t length = node->length.load(std::memory_order_relaxed);
    done = co_await write_back(node);
    if (!done) co_return done;
    blob_changes changes;
    const std::uint64_t needed = clusters_needed(*node);
    const std::uint64_t had = node->clusters;
    // Who writes now counts on them, and whoever comes meanwhile must not.
    if (how.trim && node->handles == 0 && node->is_file() && needed < had) {
        changes.clusters = needed;
        node->clusters = needed;
    }
    const bool attributes = how.attributes && node->attributes_changed;
    // Of a log the blocks say it, until it is put away.
    const bool says_length =
        node->log ? (node->log->committed != length && (node->handles == 0 || attributes)) ||
                        node->log->mixed
                  : node->durable_length != length;
    if (!says_length && !changes.clusters && !attributes && !(node->unsettled && node->is_file())) {
        done = co_await flush(node);
        if (done && node->log) node->durable_length = length;
        co_return done;
    }
    if (node->is_file()) changes.set.push_back({std::string(key_length), encode_number(length)});
    const bool unflushed = std::exchange(node->unflushed, false);
    done = co_await commit(node, std::move(changes));  // it flushes, before and after
    if (!done) {
        node->clusters = had;
        node->unflushed = node->unflushed || unflushed;
        co_return done;
    }
    node->durable_length = length;
    if (node->log) node->log->committed = length;
    if (node->log) node->log->mixed = false;
    co_return done;
}

task<result<>> fs_engine::flush(node_ptr node) {
    if (!node->unflushed) co_return result<>();
    result<> done = co_await pin(node);
    if (!done) co_return done;
    node->unflushed = false;
    done = co_await node->channel.flush();
    if (!done) node->unflushed = true;
    unpin(*node);
    co_return done;
}

/// Whatever has been written by now, to any file.
task<result<>> fs_engine::flush_device(node_crossing of) {
    const node_ptr node = std::move(of.node);
    result<> done = co_await pin(node);
    if (!done) co_return done;
    done = co_await node->channel.flush();
    unpin(*node);
    co_return done;
}

task<result<>> fs_engine::sync(node_crossing of) {
    if (read_only_) co_return result<>();
    const sync_options data_and_length;
    result<> done = co_await sync_node(std::move(of.node), data_and_length);
    co_return done;
}

task<outcome<>> fs_engine::sync_all() {
    if (read_only_) co_return outcome<>();
    std::vector<node_ptr> all;
    for (auto& [id, node] : dirty_nodes_) all.push_back(node);
    error first;
    for (const node_ptr& node : all) {
        if (node->removed && node->handles == 0) continue;
        sync_options how;
        how.attributes = true;
        how.trim = node->handles == 0;
        result<> done = co_await sync_node(node, how);
        if (!done && first.ok() && !node->erased) first = done.error();
        if (done && !node->dirty() && !node->unflushed && find(node->id) == node)
            dirty_nodes_.erase(node->id);
    }
    if (first.ok()) co_return outcome<>();
    co_return fail(failure(first, "not everything could be written: " + nacre::describe(first)));
}

/// A writer waits until less is dirty.
task<result<>> fs_engine::relieve(node_ptr node) {
    std::vector<node_ptr> all{node};
    for (auto& [id, other] : dirty_nodes_)
        if (other != node) all.push_back(other);
    result<> done;
    for (const node_ptr& other : all) {
        if (!done || !cache.too_dirty()) break;
        if (other->removed && other->handles == 0) continue;  // nobody will read it
        if (!other->log) {
            done = co_await write_back(other);
            if (!done && other->erased) done = {};
            continue;
        }
        done = co_await other->metadata.lock();
        if (!done) break;
        const unlock_guard guard(other->metadata);
        done = co_await write_back(other);
    }
    co_return done;
}

/// Clusters that closed files have and do not need.
task<result<>> fs_engine::give_back_surplus() {
    std::vector<node_ptr> all;
    for (auto& [id, node] : dirty_nodes_)
        if (node->handles == 0 && !node->removed) all.push_back(node);
    bool any = false;
    for (const node_ptr& node : all) {
        if (!node->metadata.try_lock()) continue;  // it is at work itself
        node->metadata.unlock();
        const std::uint64_t had = node->clusters;
        sync_options how;
        how.trim = true;
        result<> done = co_await sync_node(node, how);
        any = any || (done && node->clusters < had);
    }
    if (!any) co_return fail(ENOSPC);
    co_return result<>();
}

void fs_engine::note_dirty(const node_ptr& node) {
    dirty_nodes_[node->id] = node;
    start_flusher();
}

void fs_engine::start_flusher() {
    if (flushing_ || unloading_) return;
    task<result<>> flusher = flush_later();
    if (!flusher.valid()) return;  // the next one who makes something dirty
    flushing_ = true;
    background_.spawn(std::move(flusher));
}

task<result<>> fs_engine::flush_later() {
    while (!unloading_ && (!dirty_nodes_.empty() || !erasing_.empty())) {
        result<> slept = co_await sleep_for(flush_after_ns);
        if (!slept) break;
        outcome<> done = co_await sync_all();
        if (!done) log::warning("blobfs", done.error().message);
        result<> locked = co_await names_.lock();
        if (!locked) break;
        const unlock_guard guard(names_);
        result<> settled = co_await settle();
        (void)settled;  // whoever changes a name next is told
    }
    flushing_ = false;
    co_return result<>();
}

}  // namespace nacre::detail
