// SPDX-License-Identifier: BSD-3-Clause
//
// First writes to clusters of thin blobs, and clusters that are given back. A cluster holds what is
// to be read from it, durably, before the disk refers to it.
#include <algorithm>

#include "device.hpp"
#include "engine.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/runtime/sleep.hpp"

namespace nacre::detail {
namespace {

constexpr std::uint64_t copy_bytes_max = 1U << 20;
constexpr std::uint64_t zeroed_batch_max = 32;
constexpr unsigned releases_together = 256;

}  // namespace

task<result<std::uint32_t>> blob_engine::allocate(across<blob_node> of, std::uint64_t index) {
    blob_node& node = *of;
    if (read_only_) co_return fail(EROFS);
    if (const std::uint32_t cluster = (*node.map)[index]; cluster != 0) co_return cluster;
    const auto known = node.allocations.find(index);
    if (known != node.allocations.end()) {
        const std::shared_ptr<pending_allocation> other = known->second;
        result<> done = co_await other->done.wait();
        if (!done) co_return fail(done.error());
        co_return other->cluster;
    }
    auto mine = std::make_shared<pending_allocation>();
    node.allocations.emplace(index, mine);
    mine->cluster = co_await allocate_new(node, index);
    node.allocations.erase(index);
    mine->done.set();
    co_return mine->cluster;
}

task<result<std::uint32_t>> blob_engine::allocate_new(blob_node& node, std::uint64_t index) {
    claims claimed(*this);
    bool copied = false;
    std::uint32_t cluster = 0;
    if (node.has_backing()) {
        const std::optional<std::uint32_t> c = claimed.cluster();
        if (!c) co_return fail(ENOSPC);
        cluster = *c;
        result<> filled = co_await fill(node, index, cluster, copied);
        if (!filled) co_return fail(filled.error());
    } else {
        result<std::uint32_t> zeroed = co_await take_zeroed();
        if (!zeroed) co_return fail(zeroed.error());
        cluster = *zeroed;
        claimed.add_cluster(cluster);
    }
    if (node.meta.extent_table) {
        extent_entry entry{.index = index, .cluster = cluster, .after_flush = copied};
        result<> put = co_await put_entry(node, entry);
        if (put)
            claimed.keep();
        else if (entry.maybe_on_disk)
            claimed.hold_back(node);
        if (!put) co_return fail(put.error());
        co_return cluster;
    }
    result<> locked = co_await node.chain.lock();
    if (!locked) co_return fail(locked.error());
    const unlock_guard guard(node.chain);
    blob_format::blob_metadata next = node.meta;
    next.rle_map = node.map->copy();
    next.rle_map[index] = cluster;
    result<> done = co_await commit(node, std::move(next));
    if (!done) {
        if (node.root_unsettled) claimed.hold_back(node);
        co_return fail(done.error());
    }
    claimed.keep();
    node.map->set(index, cluster);
    co_return cluster;
}

/// What the blob's parents have there, or zeros.
task<result<>> blob_engine::fill(blob_node& node, std::uint64_t index, std::uint32_t cluster,
                                 bool& copied) {
    copied = true;
    const blob_node* n = &node;
    for (; n->parent != nullptr; n = n->parent.get()) {
        const cluster_map& map = *n->parent->map;
        if (index >= map.size()) break;
        const std::uint32_t from = map[index];
        if (from == 0) continue;
        result<> done = co_await copy_cluster(from, cluster);
        co_return done;
    }
    if (n->external != nullptr) {
        result<> done = co_await copy_external(*n->external, cluster_offset(index), cluster);
        co_return done;
    }
    result<> done = co_await write_zeroes(cluster_offset(cluster), super_.cluster_size);
    co_return done;
}

task<result<>> blob_engine::copy_cluster(std::uint32_t from, std::uint32_t to) {
    if ((base_.device().attributes().operations & bit(opcode::copy)) != 0) {
        const block_count n(blocks_per_cluster());
        result<> done = co_await channel_.copy(lba(to * n.value()), lba(from * n.value()), n);
        co_return done;
    }
    aligned_bytes buffer(std::min<std::uint64_t>(super_.cluster_size, copy_bytes_max));
    result<> done;
    for (std::uint64_t at = 0; at < super_.cluster_size && done; at += buffer.size()) {
        const std::span<std::byte> piece(
            buffer.data(), std::min<std::uint64_t>(buffer.size(), super_.cluster_size - at));
        done = co_await read_bytes(cluster_offset(from) + at, piece);
        if (done) done = co_await write_bytes(cluster_offset(to) + at, piece);
    }
    co_return done;
}

/// Zeros past its end.
task<result<>> blob_engine::copy_external(external_base& from, std::uint64_t offset,
                                          std::uint32_t cluster) {
    if (!from.desc.is_open()) co_return fail(ENODEV);
    outcome<bdev_channel> channel = from.desc.open_channel();
    if (!channel) co_return fail(channel.error().code);
    const std::uint64_t all = from.desc.device().size().value();
    const std::uint64_t block = from.desc.device().block_size().value();
    aligned_bytes buffer(std::min<std::uint64_t>(super_.cluster_size, copy_bytes_max));
    result<> done;
    for (std::uint64_t at = 0; at < super_.cluster_size && done; at += buffer.size()) {
        const std::span<std::byte> piece(
            buffer.data(), std::min<std::uint64_t>(buffer.size(), super_.cluster_size - at));
        const std::uint64_t begin = offset + at;
        const std::uint64_t there =
            begin >= all ? 0 : std::min<std::uint64_t>(piece.size(), all - begin);
        std::ranges::fill(piece.subspan(there), std::byte{0});
        if (there != 0) {
            const iov_view part(piece.first(there));
            done = co_await channel->read(lba(begin / block), part);
        }
        if (done) done = co_await write_bytes(cluster_offset(cluster) + at, piece);
    }
    co_return done;
}

// --- Clusters of zeros --------------------------------------------------------------------------
//
// To write zeros and flush before each first write would cost a flush each. So some are made at a
// time, the more the more are asked for. In used_clusters_ they are in use.

task<result<std::uint32_t>> blob_engine::take_zeroed() {
    while (zeroed_.empty()) {
        result<> locked = co_await zeroing_.lock();
        if (!locked) co_return fail(locked.error());
        const unlock_guard guard(zeroing_);
        if (!zeroed_.empty()) break;  // somebody else has made some
        claims claimed(*this);
        const std::uint64_t want =
            std::clamp<std::uint64_t>(used_clusters_.free_count() / 8, 1, zeroed_batch_);
        for (std::uint64_t i = 0; i < want && used_clusters_.free_count() != 0; ++i)
            (void)claimed.cluster();
        if (claimed.clusters().empty()) co_return fail(ENOSPC);
        zeroed_batch_ = std::min(zeroed_batch_ * 2, zeroed_batch_max);
        result<> done;
        const std::vector<std::uint32_t>& all = claimed.clusters();
        for (std::size_t i = 0; i < all.size() && done;) {
            std::size_t run = 1;
            while (i + run < all.size() && all[i + run] == all[i] + run) ++run;
            done = co_await write_zeroes(cluster_offset(all[i]), run * super_.cluster_size);
            i += run;
        }
        if (done) done = co_await flush();
        if (!done) co_return fail(done.error());
        zeroed_.assign(all.rbegin(), all.rend());
        claimed.keep();
    }
    const std::uint32_t cluster = zeroed_.back();
    zeroed_.pop_back();
    co_return cluster;
}

void blob_engine::drop_zeroed() noexcept {
    free_clusters(zeroed_);
    zeroed_.clear();
}

// --- Giving back --------------------------------------------------------------------------------

bool blob_engine::begin_release(blob_node& node) {
    const bool joins = node.releases != 0 && node.releases_joined < releases_together;
    if (!joins && !node.operation.try_lock()) return false;
    if (!joins) node.releases_joined = 0;
    ++node.releases;
    ++node.releases_joined;
    return true;
}

void blob_engine::end_release(blob_node& node) {
    if (--node.releases == 0) node.operation.unlock();
}

/// The blob does without the cluster at once; what was on its way to the cluster has come back
/// before anybody else gets it.
task<result<bool>> blob_engine::release(across<blob_node> of, std::uint64_t index) {
    blob_node& node = *of;
    const std::uint32_t cluster = (*node.map)[index];
    if (cluster == 0) co_return true;
    // Not beside an operation that looks at the whole map.
    const bool now = node.meta.extent_table && node.meta.thin() && !node.has_backing() &&
                     !read_only_ && !node.allocations.contains(index) && node.device != nullptr &&
                     begin_release(node);
    if (!now) co_return false;
    const auto found = nodes_.find(node.id);
    task<result<>> rest = release_quietly(found->second.lock(), index, cluster);
    if (!rest.valid()) {
        end_release(node);
        co_return false;
    }
    node.map->set(index, 0);
    background_.spawn(std::move(rest));
    co_return true;
}

task<result<>> blob_engine::release_quietly(std::shared_ptr<blob_node> node, std::uint64_t index,
                                            std::uint32_t cluster) {
    extent_entry entry{.index = index};
    result<> put = co_await put_entry(*node, entry);
    if (put) put = co_await flush();
    if (!put) {
        node->unsettled_slots.insert(index / blob_format::extent_page_clusters);
        node->held_clusters.push_back(cluster);
        end_release(*node);
        co_return result<>();
    }
    quiet until;
    result<> drained;
    while (node->device != nullptr) {
        drained = co_await until.take(node->device);
        if (drained || !drained.error().is(ENOMEM)) break;
        co_await yield();
    }
    while (true) {
        result<> gone_on = co_await until.release();
        if (gone_on) break;
        co_await yield();
    }
    end_release(*node);
    const std::vector<std::uint32_t> one(1, cluster);
    if (!drained && !drained.error().is(ENODEV)) {
        unsettled_ = true;  // it stays in use until the next load
        co_return result<>();
    }
    const auto how =
        static_cast<clear_method>(node->meta.flags.md_ro & blob_format::blob_flags::clear_mask);
    while (true) {
        result<> cleared = co_await clear_and_free(one, how);
        if (cleared) break;
        co_await yield();
    }
    co_return result<>();
}

task<result<>> blob_engine::clear_and_free(std::vector<std::uint32_t> clusters, clear_method how) {
    std::ranges::sort(clusters);
    result<> done;
    const std::uint64_t each = blocks_per_cluster();
    for (std::size_t i = 0; i < clusters.size() && how != clear_method::none && done;) {
        std::size_t run = 1;
        while (i + run < clusters.size() && clusters[i + run] == clusters[i] + run) ++run;
        const lba first(clusters[i] * each);
        const block_count n(run * each);
        if (how == clear_method::write_zeroes)
            done = co_await channel_.write_zeroes(first, n);
        else if (base_.device().supports(opcode::unmap))
            done = co_await channel_.unmap(first, n);
        i += run;
    }
    // Clearing is a courtesy: whoever gets them first writes what is to be read from them.
    free_clusters(clusters);
    co_return result<>();
}

}  // namespace nacre::detail
