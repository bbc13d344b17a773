// SPDX-License-Identifier: BSD-3-Clause
//
// How metadata reaches the disk. The order: what a root page comes to refer to, flush, the root
// page, flush, and only then is anything free that it referred to before.
#include <algorithm>

#include "device.hpp"
#include "engine.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/runtime/sleep.hpp"

namespace nacre::detail {

using namespace blob_format;

// --- Claims -------------------------------------------------------------------------------------

claims::~claims() {
    for (const std::uint32_t p : pages_) engine_.used_pages_.clear(p);
    engine_.free_clusters(clusters_);
}

std::optional<std::uint32_t> claims::page(std::uint32_t from) {
    if (engine_.used_pages_.free_count() <= leave_.pages) return std::nullopt;
    const std::optional<std::uint64_t> p = engine_.used_pages_.claim(from);
    if (!p) return std::nullopt;
    pages_.push_back(static_cast<std::uint32_t>(*p));
    return pages_.back();
}

std::optional<std::uint32_t> claims::cluster() {
    if (engine_.free_cluster_count() <= leave_.clusters) return std::nullopt;
    std::optional<std::uint64_t> c = engine_.used_clusters_.claim();
    if (!c && !engine_.zeroed_.empty()) {  // kept for first writes, but free all the same
        c = engine_.zeroed_.back();
        engine_.zeroed_.pop_back();
    }
    if (!c) return std::nullopt;
    clusters_.push_back(static_cast<std::uint32_t>(*c));
    return clusters_.back();
}

void claims::hold_back(blob_node& node) {
    node.held_pages.insert(node.held_pages.end(), pages_.begin(), pages_.end());
    node.held_clusters.insert(node.held_clusters.end(), clusters_.begin(), clusters_.end());
    keep();
}

void blob_engine::free_clusters(const std::vector<std::uint32_t>& clusters) noexcept {
    for (const std::uint32_t c : clusters) used_clusters_.clear(c);
}

void blob_engine::free_pages(const std::vector<std::uint32_t>& pages) noexcept {
    for (const std::uint32_t p : pages) used_pages_.clear(p);
}

// --- Bytes --------------------------------------------------------------------------------------

task<result<>> blob_engine::read_bytes(std::uint64_t offset, std::span<std::byte> into) {
    const iov_view view(into);
    result<> done = co_await channel_.read(lba(offset / block_size_), view);
    co_return done;
}

task<result<>> blob_engine::write_bytes(std::uint64_t offset, std::span<const std::byte> from) {
    const const_iov_view view(from);
    result<> done = co_await channel_.write(lba(offset / block_size_), view);
    co_return done;
}

task<result<>> blob_engine::write_zeroes(std::uint64_t offset, std::uint64_t bytes) {
    result<> done =
        co_await channel_.write_zeroes(lba(offset / block_size_), block_count(bytes / block_size_));
    co_return done;
}

task<result<>> blob_engine::flush() {
    if (!write_cache_) co_return result<>();
    result<> done = co_await channel_.flush();
    co_return done;
}

task<result<>> blob_engine::read_page(std::uint32_t index, std::span<std::byte> into) {
    result<> done = co_await read_bytes(super_.at_metadata(index), into);
    co_return done;
}

task<result<>> blob_engine::write_page(std::uint32_t index, std::span<const std::byte> page) {
    result<> done = co_await write_bytes(super_.at_metadata(index), page);
    co_return done;
}

task<result<>> blob_engine::write_super(super_block next) {
    aligned_bytes page(super_.page_size);
    next.encode(page);
    result<> done = co_await write_bytes(0, page);
    if (done) done = co_await flush();
    if (done) super_ = std::move(next);
    co_return done;
}

task<result<>> blob_engine::mark_dirty() {
    if (marked_dirty_) co_return result<>();
    if (read_only_) co_return fail(EROFS);
    result<> done = co_await super_lock_.lock();
    if (!done) co_return done;
    const unlock_guard guard(super_lock_);
    if (marked_dirty_) co_return result<>();
    super_block next = super_;
    next.clean = false;
    done = co_await write_super(std::move(next));
    if (done) marked_dirty_ = true;
    co_return done;
}

// --- A chain ------------------------------------------------------------------------------------

task<result<>> blob_engine::commit(blob_node& node, blob_metadata next, blob_headroom leave) {
    next.settle_flags();
    result<> dirty = co_await mark_dirty();
    if (!dirty) co_return fail(dirty.error());
    const std::vector<std::vector<std::byte>> parts = encode_descriptors(next);
    claims claimed(*this, leave);
    next.chain.clear();
    for (std::size_t i = 1; i < parts.size(); ++i) {
        const std::optional<std::uint32_t> p = claimed.page();
        if (!p) co_return fail(ENOSPC);
        next.chain.push_back(*p);
    }
    aligned_bytes page(super_.page_size);
    result<> done;
    for (std::size_t i = parts.size(); i-- > 0 && done;) {
        if (i == 0) {
            // The commit point, and everything that it refers to comes before.
            done = co_await flush();
            if (!done) break;
        }
        encode_chain_page(page, node.id, static_cast<std::uint32_t>(i),
                          i < next.chain.size() ? next.chain[i] : no_page, parts[i]);
        const std::uint32_t at = i == 0 ? root_of(node.id) : next.chain[i - 1];
        done = co_await write_page(at, page);
        if (i != 0) continue;
        if (done) done = co_await flush();
        if (!done) {
            node.root_unsettled = true;
            claimed.hold_back(node);
            co_return fail(done.error());
        }
    }
    if (!done) co_return fail(done.error());
    claimed.keep();
    free_pages(node.meta.chain);
    node.meta = std::move(next);
    node.meta.rle_map.clear();  // the node has a map
    node.root_unsettled = false;
    if (node.holds_back()) {
        result<> released = co_await release_held(node);
        (void)released;  // kept until the node is settled
    }
    co_return result<>();
}

task<result<>> blob_engine::commit_map(blob_node& node, blob_metadata next,
                                       std::vector<std::uint32_t> map, blob_headroom leave) {
    next.clusters = map.size();
    if (!next.extent_table) {
        next.rle_map = std::move(map);
        result<> done = co_await commit(node, std::move(next), leave);
        co_return done;
    }
    claims claimed(*this, leave);
    const std::vector<std::uint32_t> old = node.meta.extent_pages;
    const std::uint64_t old_size = node.map == nullptr ? 0 : node.map->size();
    std::vector<bool> kept(old.size());
    next.extent_pages.assign(divide_up(map.size(), extent_page_clusters), 0);
    aligned_bytes page(super_.page_size);
    for (std::uint64_t slot = 0; slot < next.extent_pages.size(); ++slot) {
        const std::uint64_t first = slot * extent_page_clusters;
        const std::uint64_t n = std::min(extent_page_clusters, map.size() - first);
        const std::span<const std::uint32_t> entries(map.data() + first, n);
        const bool none = std::ranges::all_of(entries, [](std::uint32_t c) { return c == 0; });
        const bool as_before =
            slot < old.size() && old[slot] != 0 &&
            std::min(extent_page_clusters, old_size - first) == n &&
            !node.unsettled_slots.contains(slot) &&
            std::ranges::all_of(
                entries, [&, i = first](std::uint32_t c) mutable { return c == (*node.map)[i++]; });
        if (as_before) {
            next.extent_pages[slot] = old[slot];
            kept[slot] = true;
            continue;
        }
        if (none && next.thin()) continue;
        const std::optional<std::uint32_t> p = claimed.page(1);
        if (!p) co_return fail(ENOSPC);
        encode_extent_page(page, node.id, static_cast<std::uint32_t>(first), entries);
        result<> written = co_await write_page(*p, page);
        if (!written) co_return fail(written.error());
        next.extent_pages[slot] = *p;
    }
    result<> done = co_await commit(node, std::move(next), leave);
    if (!done) {
        if (node.root_unsettled) claimed.hold_back(node);
        co_return done;
    }
    claimed.keep();
    for (std::size_t slot = 0; slot < old.size(); ++slot)
        if (old[slot] != 0 && !kept[slot]) used_pages_.clear(old[slot]);
    node.unsettled_slots.clear();
    if (node.holds_back()) {
        result<> released = co_await release_held(node);
        (void)released;
    }
    co_return done;
}

/// Of a chain whose write failed: the disk is made to agree with memory again.
task<result<>> blob_engine::settle(blob_node& node) {
    if (!node.unsettled()) co_return result<>();
    result<> settled = co_await settle_root(node);
    if (!settled) co_return settled;
    while (!node.unsettled_slots.empty()) {
        const std::uint64_t slot = *node.unsettled_slots.begin();
        extent_entry again{.index = slot * extent_page_clusters};
        result<> written = co_await put_entry(node, again);
        if (!written) co_return written;
    }
    result<> released = co_await release_held(node);
    co_return released;
}

task<result<>> blob_engine::settle_root(blob_node& node) {
    if (!node.root_unsettled) co_return result<>();
    result<> locked = co_await node.chain.lock();
    if (!locked) co_return locked;
    const unlock_guard guard(node.chain);
    if (!node.root_unsettled) co_return result<>();
    blob_metadata same = node.meta;
    if (!same.extent_table) same.rle_map = node.map->copy();
    result<> done = co_await commit(node, std::move(same));
    if (!done) co_return fail(done.error());
    co_return result<>();
}

task<result<>> blob_engine::release_held(blob_node& node) {
    if (node.must_rewrite()) co_return result<>();
    // An entry that was written in place is not durable yet; and what is held back while this is
    // under way is not covered by it.
    const std::vector<std::uint32_t> pages = std::exchange(node.held_pages, {});
    const std::vector<std::uint32_t> clusters = std::exchange(node.held_clusters, {});
    result<> durable;
    if (!pages.empty() || !clusters.empty()) durable = co_await flush();
    if (durable) {
        free_pages(pages);
        free_clusters(clusters);
    } else {
        node.held_pages.insert(node.held_pages.end(), pages.begin(), pages.end());
        node.held_clusters.insert(node.held_clusters.end(), clusters.begin(), clusters.end());
    }
    co_return durable;
}

task<result<>> blob_engine::erase_root(blob_id id) {
    result<> dirty = co_await mark_dirty();
    if (!dirty) co_return fail(dirty.error());
    const aligned_bytes zeros(super_.page_size);
    result<> written = co_await write_page(root_of(id), zeros);
    if (written) written = co_await flush();
    if (!written) co_return fail(written.error());
    co_return result<>();
}

task<result<>> blob_engine::erase_rest() {
    while (!unerased_.empty()) {
        const std::shared_ptr<blob_node> after = unerased_.back().after;
        const blob_id id = unerased_.back().id;
        if (after != nullptr) {
            result<> settled = co_await settle_root(*after);
            if (!settled) co_return settled;
        }
        result<> erased = co_await erase_root(id);
        if (!erased) co_return fail(erased.error());
        const auto known = std::ranges::find(unerased_, id, &unerased_blob::id);
        if (known == unerased_.end()) continue;  // somebody else was quicker
        free_pages(known->pages);
        free_clusters(known->clusters);
        unerased_.erase(known);
    }
    co_return result<>();
}

task<result<>> blob_engine::settle_all() {
    result<> done = co_await erase_rest();
    while (done && !to_settle_.empty()) {
        const std::shared_ptr<blob_node> node = to_settle_.front();
        done = co_await settle(*node);
        if (done) done = co_await clear_marks(*node);
        if (done) to_settle_.erase(to_settle_.begin());
    }
    co_return done;
}

// --- Entries of extent pages --------------------------------------------------------------------

/// Waits for the page's turn, or takes it for all that wait. Ends when the entry was dealt with.
task<result<>> blob_engine::put_entry(blob_node& node, extent_entry& entry) {
    const std::uint64_t slot = entry.index / extent_page_clusters;
    extent_writer& w = node.writers[slot];
    w.waiting.push_back(&entry);
    while (!entry.done) {
        if (w.writing) {
            result<> turn = co_await w.turn.wait();
            if (!turn) co_await yield();  // asked to stop, but others have the entry in hand
            continue;
        }
        result<> written = co_await write_slot(node, slot);
        if (!written && !entry.done) {  // not even begun
            std::erase(w.waiting, &entry);
            w.turn.notify_all();
            co_return written;
        }
    }
    if (entry.status.failed()) co_return fail(entry.status);
    co_return result<>();
}

task<result<>> blob_engine::write_slot(blob_node& node, std::uint64_t slot) {
    extent_writer& w = node.writers[slot];
    w.writing = true;
    const std::vector<extent_entry*> batch = std::move(w.waiting);
    w.waiting.clear();
    const std::uint64_t first = slot * extent_page_clusters;
    const std::uint64_t n = std::min(extent_page_clusters, node.map->size() - first);
    std::vector<std::uint32_t> entries(n);
    bool after_flush = false;
    result<> done = co_await mark_dirty();
    if (done) done = co_await settle_root(node);
    for (std::uint64_t i = 0; i < n; ++i) entries[i] = (*node.map)[first + i];
    for (const extent_entry* e : batch) {
        if (e->cluster != 0) entries[e->index - first] = e->cluster;
        after_flush = after_flush || e->after_flush;
    }
    bool maybe = false;
    aligned_bytes page(super_.page_size);
    if (done && after_flush) done = co_await flush();
    encode_extent_page(page, node.id, static_cast<std::uint32_t>(first), entries);
    if (done && node.meta.extent_pages[slot] != 0) {
        done = co_await write_page(node.meta.extent_pages[slot], page);
        maybe = !done;
        if (done)
            node.unsettled_slots.erase(slot);
        else
            node.unsettled_slots.insert(slot);
    } else if (done) {
        claims claimed(*this);
        const std::optional<std::uint32_t> p = claimed.page(1);
        if (!p) done = fail(ENOSPC);
        if (done) done = co_await write_page(*p, page);
        if (done) done = co_await node.chain.lock();
        if (done) {
            const unlock_guard guard(node.chain);
            blob_metadata next = node.meta;
            next.extent_pages[slot] = *p;
            result<> committed = co_await commit(node, std::move(next));
            if (committed) {
                claimed.keep();
            } else {
                done = fail(committed.error());
                maybe = node.root_unsettled;
                if (maybe) claimed.hold_back(node);
            }
        }
    }
    for (extent_entry* e : batch) {
        if (done && e->cluster != 0) node.map->set(e->index, e->cluster);
        if (!done) e->status = done.error();
        e->maybe_on_disk = maybe;
        e->done = true;
    }
    if (done && node.holds_back()) {
        result<> released = co_await release_held(node);
        (void)released;
    }
    w.writing = false;
    w.turn.notify_all();
    co_return done;
}

// --- Masks --------------------------------------------------------------------------------------

task<result<>> blob_engine::write_masks() {
    drop_zeroed();
    bit_allocator blobids(super_.metadata.length);
    for (const auto& [id, record] : records_) blobids.set(root_of(id));
    struct mask {
        region where;
        mask_type type;
        const bit_allocator* bits;
    };
    const mask masks[] = {{super_.used_pages, mask_type::pages, &used_pages_},
                          {super_.used_blobids, mask_type::blobids, &blobids},
                          {super_.used_clusters, mask_type::clusters, &used_clusters_}};
    for (const mask& m : masks) {
        if (m.where.length == 0) continue;
        aligned_bytes bytes(std::uint64_t{m.where.length} * super_.page_size);
        encode_mask_header(bytes, m.type, static_cast<std::uint32_t>(m.bits->size()));
        for (std::uint64_t i = m.bits->next_used(0); i < m.bits->size();
             i = m.bits->next_used(i + 1))
            bytes[mask_header_bytes + i / 8] |= std::byte(1U << (i % 8));
        result<> written = co_await write_bytes(super_.at_page(m.where.start), bytes);
        if (!written) co_return written;
    }
    result<> flushed = co_await flush();
    co_return flushed;
}

}  // namespace nacre::detail
