// SPDX-License-Identifier: BSD-3-Clause
//
// Blobs that become independent of others, and whose parents change.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "device.hpp"
#include "engine.hpp"
#include "nacre/runtime/sleep.hpp"

namespace nacre::detail {

using namespace blob_format;

namespace {

constexpr std::size_t copies_at_a_time = 8;

failure why(error e, blob_id id, const char* what) {
    return failure(e, fmt::format("blob {}: {}: {}", to_string(id), what, describe(e)));
}

}  // namespace

/// What `next` says, and what unallocated clusters are read from, change together. Under the
/// operation mutex.
task<outcome<>> blob_engine::change_parent(blob_node& node, blob_metadata next,
                                           std::shared_ptr<blob_node> parent,
                                           std::shared_ptr<external_base> external) {
    quiet until;
    result<> still = co_await quiesce(node, until, true);
    if (still) still = co_await erase_rest();
    if (still) still = co_await clear_parents_marks(node);
    if (still) still = co_await node.chain.lock();
    result<> done = still;
    if (still) {
        const unlock_guard chain(node.chain);
        if (!next.extent_table) next.rle_map = node.map->copy();
        next.extent_pages = node.meta.extent_pages;
        next.xattrs = node.meta.xattrs;
        next.flags.data_ro = node.meta.flags.data_ro;
        done = co_await commit(node, std::move(next));
    }
    if (done) {
        node.parent = std::move(parent);
        node.external = std::move(external);
        set_record_parent(node.id, node.meta.parent(), node.external != nullptr);
    } else if (node.root_unsettled) {
        result<> settled = co_await settle_root(node);
        if (!settled) to_settle_.push_back(nodes_[node.id].lock());
    }
    while (true) {
        result<> released = co_await until.release();
        if (released) break;
        co_await yield();
    }
    if (!done) co_return fail(why(done.error(), node.id, "change of its parent"));
    co_return outcome<>();
}

task<result<>> blob_engine::allocate_only(blob_node& node, std::uint64_t index) {
    result<std::uint32_t> there = co_await allocate(across<blob_node>(node), index);
    if (!there) co_return fail(there.error());
    co_return result<>();
}

/// Several at a time; ENOSPC before anything is taken.
task<outcome<>> blob_engine::allocate_all(blob_node& node,
                                          const std::vector<std::uint64_t>& indexes,
                                          copy_progress& progress) {
    progress.all = indexes.size();
    if (indexes.size() > free_cluster_count())
        co_return fail(ENOSPC,
                       fmt::format("blob {}: {} clusters would be allocated, {} are free",
                                   to_string(node.id), indexes.size(), free_cluster_count()));
    scope copies;
    result<> done;
    for (std::size_t i = 0; i < indexes.size() && done;) {
        for (std::size_t n = 0; n < copies_at_a_time && i < indexes.size(); ++n, ++i)
            copies.spawn(allocate_only(node, indexes[i]));
        done = co_await copies.join();
        progress.done = i;
    }
    if (!done) co_return fail(why(done.error(), node.id, "allocation of its clusters"));
    co_return outcome<>();
}

task<outcome<>> blob_engine::inflate(across<blob_node> of, across<copy_progress> progress) {
    blob_node& node = *of;
    result<> locked = co_await node.operation.lock();
    if (!locked) co_return fail(why(locked.error(), node.id, "inflate"));
    const unlock_guard guard(node.operation);
    outcome<> ok = check_writable(node);
    if (!ok || !node.meta.thin()) co_return ok;
    std::vector<std::uint64_t> missing;
    for (std::uint64_t i = 0; i < node.map->size(); ++i)
        if ((*node.map)[i] == 0) missing.push_back(i);
    ok = co_await allocate_all(node, missing, *progress);
    if (!ok) co_return ok;
    blob_metadata next = node.meta;
    next.flags.invalid &= ~blob_flags::thin;
    next.remove(next.internal, xattr_parent);
    next.remove(next.internal, xattr_external);
    ok = co_await change_parent(node, std::move(next), nullptr, nullptr);
    co_return ok;
}

task<outcome<>> blob_engine::decouple_parent(across<blob_node> of, across<copy_progress> progress) {
    blob_node& node = *of;
    // A parent's lock comes before its clone's, and while it is held the parent's own parent stays
    // what it is. Until both are held the blob may get another parent.
    std::shared_ptr<blob_node> parent;
    std::optional<unlock_guard<mutex>> above;
    std::optional<unlock_guard<mutex>> guard;
    while (!guard) {
        parent = node.parent;
        result<> locked;
        if (parent != nullptr) locked = co_await parent->operation.lock();
        if (!locked) co_return fail(why(locked.error(), node.id, "decouple_parent"));
        if (parent != nullptr) above.emplace(parent->operation);
        locked = co_await node.operation.lock();
        if (!locked) co_return fail(why(locked.error(), node.id, "decouple_parent"));
        guard.emplace(node.operation);
        if (node.parent == parent) break;
        guard.reset();
        above.reset();
    }
    outcome<> ok = check_writable(node);
    if (!ok || !node.meta.thin()) co_return ok;
    if (!node.has_backing())
        co_return fail(EINVAL, fmt::format("blob {}: has no parent", to_string(node.id)));
    std::vector<std::uint64_t> missing;
    for (std::uint64_t i = 0; i < node.map->size(); ++i) {
        const bool there = parent == nullptr || (i < parent->map->size() && (*parent->map)[i] != 0);
        if ((*node.map)[i] == 0 && there) missing.push_back(i);
    }
    ok = co_await allocate_all(node, missing, *progress);
    if (!ok) co_return ok;
    blob_metadata next = node.meta;
    next.remove(next.internal, xattr_parent);
    next.remove(next.internal, xattr_external);
    if (parent != nullptr) {
        for (const char* name : {xattr_parent, xattr_external})
            if (const std::string* up = parent->meta.find(parent->meta.internal, name))
                next.set(next.internal, name, *up);
        ok = co_await change_parent(node, std::move(next), parent->parent, parent->external);
    } else {
        ok = co_await change_parent(node, std::move(next), nullptr, nullptr);
    }
    co_return ok;
}

task<outcome<>> blob_engine::set_parent(across<blob_node> of, blob_id snapshot) {
    blob_node& node = *of;
    outcome<std::shared_ptr<blob_node>> opened = co_await open_node(snapshot);
    if (!opened) co_return fail(std::move(opened.error()));
    std::shared_ptr<blob_node> parent = std::move(*opened);
    // Before its lock is taken: two blobs that are to become each other's would wait for ever.
    if (!parent->meta.read_only())
        co_return fail(EINVAL, fmt::format("blob {}: is not a snapshot", to_string(snapshot)));
    // A parent's lock comes before its clone's.
    result<> locked = co_await parent->operation.lock();
    if (!locked) co_return fail(why(locked.error(), node.id, "set_parent"));
    const unlock_guard above(parent->operation);
    if (parent.get() == &node)
        co_return fail(EINVAL,
                       fmt::format("blob {}: cannot be its own parent", to_string(node.id)));
    locked = co_await node.operation.lock();
    if (!locked) co_return fail(why(locked.error(), node.id, "set_parent"));
    const unlock_guard guard(node.operation);
    outcome<> ok = check_writable(node);
    if (!ok) co_return ok;
    if (node.parent == parent)
        co_return fail(EEXIST, fmt::format("blob {}: {} is its parent already", to_string(node.id),
                                           to_string(snapshot)));
    if (!node.meta.thin())
        co_return fail(EINVAL, fmt::format("blob {}: is not thin", to_string(node.id)));
    if (!records_.contains(snapshot))
        co_return fail(EINVAL, fmt::format("blob {}: is gone", to_string(snapshot)));
    for (const blob_node* p = parent.get(); p != nullptr; p = p->parent.get())
        if (p == &node)
            co_return fail(EINVAL, fmt::format("blob {}: reads through {}", to_string(snapshot),
                                               to_string(node.id)));
    if (parent->map->size() != node.map->size())
        co_return fail(EINVAL,
                       fmt::format("blob {}: has {} clusters, {} has {}", to_string(snapshot),
                                   parent->map->size(), to_string(node.id), node.map->size()));
    blob_metadata next = node.meta;
    next.remove(next.internal, xattr_external);
    next.set_reference(xattr_parent, snapshot);
    ok = co_await change_parent(node, std::move(next), std::move(parent), nullptr);
    co_return ok;
}

task<outcome<>> blob_engine::set_external_parent(across<blob_node> of, std::string identifier) {
    blob_node& node = *of;
    result<> locked = co_await node.operation.lock();
    if (!locked) co_return fail(why(locked.error(), node.id, "set_external_parent"));
    const unlock_guard guard(node.operation);
    outcome<> ok = check_writable(node);
    if (!ok) co_return ok;
    if (!node.meta.thin())
        co_return fail(EINVAL, fmt::format("blob {}: is not thin", to_string(node.id)));
    if (identifier.empty() || identifier.size() > xattr_bytes_max - 7)
        co_return fail(EINVAL, "the external snapshot's identifier is empty or too long");
    if (node.external != nullptr && node.external->identifier == identifier)
        co_return fail(EEXIST,
                       fmt::format("blob {}: it is its parent already", to_string(node.id)));
    blob_metadata next = node.meta;
    next.remove(next.internal, xattr_parent);
    next.set(next.internal, xattr_external, std::move(identifier));
    outcome<std::shared_ptr<external_base>> external = co_await open_external(next);
    if (!external) co_return fail(std::move(external.error()));
    if ((*external)->desc.device().size().value() % super_.cluster_size != 0)
        co_return fail(EINVAL, fmt::format("{}: its size is no multiple of the clusters' {}",
                                           (*external)->desc.device().name(), super_.cluster_size));
    ok = co_await change_parent(node, std::move(next), nullptr, std::move(*external));
    co_return ok;
}

task<outcome<>> blob_engine::shallow_copy(across<blob_node> of, std::string to,
                                          across<copy_progress> progress) {
    blob_node& node = *of;
    result<> locked = co_await node.operation.lock();
    if (!locked) co_return fail(why(locked.error(), node.id, "shallow_copy"));
    const unlock_guard guard(node.operation);
    if (!node.read_only.load())
        co_return fail(EPERM, fmt::format("blob {}: can be written; a shallow copy is of a "
                                          "read-only one",
                                          to_string(node.id)));
    outcome<bdev_desc> desc = registry_.open(to, access::write);
    if (!desc) co_return fail(std::move(desc.error()));
    outcome<> claimed = desc->take_claim(claim::exclusive_write, "shallow copy");
    if (!claimed) co_return claimed;
    const std::uint64_t block = desc->device().block_size().value();
    if (desc->device().size().value() < node.map->size() * super_.cluster_size)
        co_return fail(
            EINVAL, fmt::format("{}: has {} bytes, the blob {}", to, desc->device().size().value(),
                                node.map->size() * super_.cluster_size));
    if (super_.io_unit_size % block != 0)
        co_return fail(EINVAL, fmt::format("{}: its blocks of {} bytes do not divide {}", to, block,
                                           super_.io_unit_size));
    outcome<bdev_channel> channel = desc->open_channel();
    if (!channel) co_return fail(std::move(channel.error()));
    std::vector<std::uint64_t> mine;
    for (std::uint64_t i = 0; i < node.map->size(); ++i)
        if ((*node.map)[i] != 0) mine.push_back(i);
    progress->all = mine.size();
    aligned_bytes buffer(std::min<std::uint64_t>(super_.cluster_size, 1U << 20));
    result<> done;
    for (const std::uint64_t index : mine) {
        for (std::uint64_t at = 0; at < super_.cluster_size && done; at += buffer.size()) {
            const std::span<std::byte> piece(
                buffer.data(), std::min<std::uint64_t>(buffer.size(), super_.cluster_size - at));
            done = co_await read_bytes(cluster_offset((*node.map)[index]) + at, piece);
            const const_iov_view view(piece);
            const lba place((index * super_.cluster_size + at) / block);
            if (done) done = co_await channel->write(place, view);
        }
        if (!done) co_return fail(why(done.error(), node.id, "shallow_copy"));
        ++progress->done;
    }
    if (desc->device().supports(opcode::flush)) done = co_await channel->flush();
    if (!done) co_return fail(why(done.error(), node.id, "shallow_copy"));
    co_return outcome<>();
}

}  // namespace nacre::detail
