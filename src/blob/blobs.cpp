// SPDX-License-Identifier: BSD-3-Clause
//
// Blobs: opened, made, resized, and their attributes.
#include <fmt/format.h>

#include <algorithm>

#include "device.hpp"
#include "engine.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/log.hpp"
#include "nacre/runtime/sleep.hpp"

namespace nacre::detail {

using namespace blob_format;

namespace {

outcome<> why(const result<>& r, blob_id id, const char* what) {
    if (r) return {};
    return fail(failure(r.error(),
                        fmt::format("blob {}: {}: {}", to_string(id), what, describe(r.error()))));
}
failure why(error e, blob_id id, const char* what) {
    return failure(e, fmt::format("blob {}: {}: {}", to_string(id), what, describe(e)));
}

attribute_edits& edits_of(blob_node& node) {
    if (!node.unsynced) node.unsynced = attribute_edits{node.meta.xattrs, false};
    return *node.unsynced;
}
const std::vector<blob_xattr>& xattrs_of(const blob_node& node) {
    return node.unsynced ? node.unsynced->xattrs : node.meta.xattrs;
}
blob_metadata with_edits(const blob_node& node) {
    blob_metadata next = node.meta;
    next.xattrs = xattrs_of(node);
    if (node.unsynced && node.unsynced->read_only) next.flags.data_ro |= blob_flags::read_only;
    return next;
}
/// The metadata that was written has them.
void end_edits(blob_node& node) {
    node.unsynced.reset();
    node.read_only = node.meta.read_only() || node.read_only;
}

void apply(blob_metadata& to, const blob_changes& changes) {
    for (const std::string& name : changes.removed) (void)to.remove(to.xattrs, name);
    for (const blob_xattr& x : changes.set) to.set(to.xattrs, x.name, x.value);
}

}  // namespace

outcome<> blob_engine::check_writable() const {
    if (dead_) return fail(ENODEV, "the store's bdev is gone");
    if (read_only_) return fail(EROFS, "the store was loaded read-only");
    return {};
}

outcome<> blob_engine::check_writable(const blob_node& node) const {
    outcome<> store = check_writable();
    if (!store) return store;
    const bool md_ro = (node.meta.flags.md_ro & ~blob_flags::md_ro_known) != 0;
    if (node.read_only.load() || md_ro)
        return fail(EROFS, fmt::format("blob {}: is read-only", to_string(node.id)));
    return {};
}

outcome<> blob_engine::check_xattrs(const std::vector<blob_xattr>& xattrs) const {
    for (const blob_xattr& x : xattrs) {
        if (x.name.empty() || x.name.find('\0') != std::string::npos)
            return fail(EINVAL, "an attribute's name is empty or has a zero byte");
        if (x.name.size() + x.value.size() > xattr_bytes_max)
            return fail(EFBIG,
                        fmt::format("attribute \"{}\": name and value have {} bytes, at "
                                    "most {} fit",
                                    x.name, x.name.size() + x.value.size(), xattr_bytes_max));
    }
    return {};
}

// --- Open and close -----------------------------------------------------------------------------

task<outcome<std::shared_ptr<blob_node>>> blob_engine::open_node(blob_id id) {
    result<> locked = co_await opening_.lock();
    if (!locked) co_return fail(why(locked.error(), id, "open"));
    const unlock_guard guard(opening_);
    outcome<std::shared_ptr<blob_node>> node = co_await open_locked(id);
    co_return node;
}

task<outcome<std::shared_ptr<blob_node>>> blob_engine::open_locked(blob_id id) {
    const auto record = records_.find(id);
    if (record == records_.end())
        co_return fail(ENOENT, fmt::format("blob {}: there is none", to_string(id)));
    if (!record->second.error.empty()) co_return fail(EINVAL, record->second.error);
    std::shared_ptr<blob_node> node = nodes_[id].lock();
    if (node != nullptr) co_return node;
    node = std::make_shared<blob_node>(*this, id);
    outcome<> read = co_await read_blob(*node);
    if (!read) co_return fail(std::move(read.error()));
    const blob_metadata& m = node->meta;
    if (const std::uint64_t unknown = m.flags.invalid & ~blob_flags::invalid_known; unknown != 0)
        co_return fail(EINVAL, fmt::format("blob {}: invalid_flags has unknown bits {:#x}",
                                           to_string(id), unknown));
    node->read_only =
        m.read_only() || (m.flags.data_ro & ~blob_flags::data_ro_known) != 0 || read_only_;
    if ((m.flags.invalid & blob_flags::external) != 0) {
        outcome<std::shared_ptr<external_base>> external = co_await open_external(m);
        if (!external && missing_external_) {
            log::notice("blob", fmt::format("blob {}: {}: degraded until it is there",
                                            to_string(id), external.error().message));
            external =
                std::make_shared<external_base>(bdev_desc(), *m.find(m.internal, xattr_external));
        }
        if (!external) co_return fail(std::move(external.error()));
        node->external = std::move(*external);
    } else if (m.thin() && m.parent() != blob_id::none) {
        outcome<std::shared_ptr<blob_node>> parent = co_await open_locked(m.parent());
        if (!parent)
            co_return fail(failure(
                parent.error().code,
                fmt::format("blob {}: its snapshot: {}", to_string(id), parent.error().message)));
        node->parent = std::move(*parent);
    }
    nodes_[id] = node;
    co_return node;
}

/// Its chain and extent pages.
task<outcome<>> blob_engine::read_blob(blob_node& node) {
    chain_reader reader(root_of(node.id), super_);
    aligned_bytes page(super_.page_size);
    std::optional<std::uint32_t> at = root_of(node.id);
    while (at) {
        result<> read = co_await read_page(*at, page);
        if (!read) co_return fail(why(read.error(), node.id, "its metadata cannot be read"));
        outcome<std::optional<std::uint32_t>> next = reader.take(*at, page);
        if (!next) co_return fail(std::move(next.error()));
        at = *next;
    }
    node.meta = std::move(reader.blob());
    blob_metadata& m = node.meta;
    std::vector<std::uint32_t> map = std::move(m.rle_map);
    m.rle_map.clear();
    if (m.extent_table) map.assign(m.clusters, 0);
    for (std::size_t slot = 0; slot < m.extent_pages.size(); ++slot) {
        if (m.extent_pages[slot] == 0) continue;
        result<> read = co_await read_page(m.extent_pages[slot], page);
        if (!read) co_return fail(why(read.error(), node.id, "its metadata cannot be read"));
        outcome<extent_page> e = extent_page::decode(m.extent_pages[slot], page, super_);
        if (!e)
            co_return fail(failure(
                e.error().code, fmt::format("blob {}: {}", to_string(node.id), e.error().message)));
        const std::uint64_t first = slot * extent_page_clusters;
        const std::uint64_t n = std::min(extent_page_clusters, m.clusters - first);
        // One that is longer is what a crash leaves of SPDK's growing of a blob.
        if (e->first != first || e->clusters.size() < n)
            co_return fail(EILSEQ,
                           fmt::format("blob {}: extent page {}: start_cluster_idx {} and {} "
                                       "clusters, not {} and {}",
                                       to_string(node.id), m.extent_pages[slot], e->first,
                                       e->clusters.size(), first, n));
        e->clusters.resize(n);
        std::ranges::copy(e->clusters, map.begin() + static_cast<std::ptrdiff_t>(first));
    }
    for (std::size_t i = 0; i < map.size(); ++i) {
        if (map[i] == 0 && !m.thin())
            co_return fail(EILSEQ, fmt::format("blob {}: cluster {} is unallocated, the blob is "
                                               "not thin",
                                               to_string(node.id), i));
        if (map[i] != 0 && (map[i] < super_.metadata_clusters() || !used_clusters_.test(map[i])))
            co_return fail(EILSEQ,
                           fmt::format("blob {}: cluster {} is cluster {} of the device, "
                                       "which {}",
                                       to_string(node.id), i, map[i],
                                       map[i] < super_.metadata_clusters() ? "holds metadata"
                                                                           : "is marked free"));
    }
    node.map = std::make_shared<cluster_map>(map);
    co_return outcome<>();
}

task<outcome<std::shared_ptr<external_base>>> blob_engine::open_external(
    const blob_metadata& meta) {
    const std::string identifier = *meta.find(meta.internal, xattr_external);
    const std::string name = identifier.substr(0, identifier.find('\0'));
    outcome<bdev_desc> desc =
        external_opener_ ? external_opener_(identifier) : registry_.open(name, access::read);
    if (!desc)
        co_return fail(failure(desc.error().code, fmt::format("external snapshot {}: {}", name,
                                                              desc.error().message)));
    const std::uint64_t block = desc->device().block_size().value();
    if (super_.io_unit_size % block != 0)
        co_return fail(EINVAL, fmt::format("external snapshot {}: its blocks of {} bytes do not "
                                           "divide the store's {}",
                                           name, block, super_.io_unit_size));
    co_return std::make_shared<external_base>(std::move(*desc), identifier);
}

/// Waits for nothing.
task<outcome<>> blob_engine::give_device(const std::shared_ptr<blob_node>& node) {
    if (node->device == nullptr) {
        auto device = std::make_shared<blob_device>(blob_device::attributes_of(*node), node);
        outcome<> adopted = registry_.adopt(device);
        if (!adopted) co_return adopted;
        node->device = std::move(device);
        node->desc = bdev_registry::open(node->device, access::write);
    }
    ++node->opens;
    ++open_blobs_;
    co_return outcome<>();
}

task<outcome<blob>> blob_engine::open(blob_id id) {
    result<> locked = co_await opening_.lock();
    if (!locked) co_return fail(why(locked.error(), id, "open"));
    const unlock_guard guard(opening_);
    if (dead_) co_return fail(ENODEV, "the store's bdev is gone");
    outcome<std::shared_ptr<blob_node>> node = co_await open_locked(id);
    if (!node) co_return fail(std::move(node.error()));
    if ((*node)->opens == 0) {
        // What changes maps and parents has seen to it that nothing is under way in open blobs.
        locked = co_await devices_.lock();
        if (!locked) co_return fail(why(locked.error(), id, "open"));
        devices_.unlock();
    }
    if (!records_.contains(id)) co_return fail(ENOENT, "blob " + to_string(id) + ": is gone");
    if ((*node)->removing)
        co_return fail(EBUSY, fmt::format("blob {}: is being removed", to_string(id)));
    outcome<> given = co_await give_device(*node);
    if (!given) co_return fail(std::move(given.error()));
    co_return blob(std::move(*node));
}

void blob_engine::leave(std::shared_ptr<blob_node> node) {
    leaving.fetch_sub(1, std::memory_order_relaxed);
    left_.push_back(std::move(node));
    task<result<>> closing = close_left();
    if (closing.valid()) background_.spawn(std::move(closing));
}

task<result<>> blob_engine::close_left() {
    while (leaving.load(std::memory_order_relaxed) != 0) co_await yield();
    while (!left_.empty()) {
        node_handle next{std::move(left_.back())};
        left_.pop_back();
        result<> closed = co_await close(next);
        if (closed) continue;
        left_.push_back(std::move(next.node));
        co_return closed;
    }
    co_return result<>();
}

task<result<>> blob_engine::close(node_handle handle) {
    const std::shared_ptr<blob_node> node = std::move(handle.node);
    if (node->opens > 1) {
        --node->opens;
        --open_blobs_;
        co_return result<>();
    }
    // In this order: who removes a snapshot opens its clone while it holds the snapshot.
    result<> locked = co_await node->operation.lock();
    if (!locked) co_return locked;
    const unlock_guard operation(node->operation);
    locked = co_await opening_.lock();
    if (!locked) co_return locked;
    const unlock_guard guard(opening_);
    if (node->opens > 1) {  // others have opened it meanwhile
        --node->opens;
        --open_blobs_;
        co_return result<>();
    }
    if (node->unsettled() && !dead_) {
        result<> settled = co_await settle(*node);
        if (!settled) to_settle_.push_back(node);
    }
    if (node->unsynced && !dead_)
        log::warning("blob", fmt::format("blob {}: closed without a sync; changes of its "
                                         "attributes are lost",
                                         to_string(node->id)));
    task<outcome<>> removing = registry_.let_go(node->device);
    if (!removing.valid())
        co_return fail(ENOMEM);  // still open, as whoever opens it again finds it
    node->desc.close();
    outcome<> removed = co_await std::move(removing);
    if (!removed) {
        node->desc = bdev_registry::open(node->device, access::write);
        co_return fail(removed.error().code);
    }
    node->device.reset();
    node->opens = 0;
    --open_blobs_;
    node->unsynced.reset();
    co_return result<>();
}

task<blob_status> blob_engine::status_of(across<blob_node> of) { co_return look_at(*of); }

blob_status blob_engine::look_at(const blob_node& node) const {
    const blob_metadata& m = node.meta;
    blob_status s;
    s.id = node.id;
    s.clusters = node.map->size();
    for (std::uint64_t i = 0; i < node.map->size(); ++i)
        s.allocated_clusters += (*node.map)[i] != 0;
    s.thin = m.thin();
    s.read_only = m.read_only();
    s.extent_table = m.extent_table;
    s.clear = static_cast<clear_method>(m.flags.md_ro & blob_flags::clear_mask);
    s.parent = m.parent();
    if (const std::string* external = m.find(m.internal, xattr_external)) s.external = *external;
    const auto record = records_.find(node.id);
    if (record != records_.end()) s.clones = record->second.clones;
    s.snapshot = !s.clones.empty();
    const blob_node* last = &node;
    while (last->parent != nullptr) last = last->parent.get();
    s.degraded = last->external != nullptr && !last->external->desc.is_open();
    s.xattrs = xattrs_of(node);
    return s;
}

// --- Create and resize --------------------------------------------------------------------------

task<outcome<blob_id>> blob_engine::create(blob_options o) {
    outcome<> ok = check_writable();
    if (ok) ok = check_xattrs(o.xattrs);
    if (!ok) co_return fail(std::move(ok.error()));
    blob_metadata meta;
    if (o.thin || o.external) meta.flags.invalid |= blob_flags::thin;
    meta.extent_table = o.extent_table;
    if (o.extent_table) meta.flags.invalid |= blob_flags::extent_table;
    meta.flags.md_ro = static_cast<std::uint64_t>(o.clear);
    meta.xattrs = std::move(o.xattrs);
    if (o.external) {
        if (o.external->empty() || o.external->size() > xattr_bytes_max - 7)
            co_return fail(EINVAL, "the external snapshot's identifier is empty or too long");
        meta.set(meta.internal, xattr_external, *o.external);
    }
    outcome<blob_id> made = co_await create_from(std::move(meta), o.clusters, o.leave);
    co_return made;
}

task<outcome<blob_id>> blob_engine::create_from(blob_metadata meta, std::uint64_t clusters,
                                                blob_headroom leave) {
    const std::uint64_t kept = clusters == 0 ? 0 : leave.clusters;
    if (!meta.thin() && clusters + kept > free_cluster_count())
        co_return fail(ENOSPC, fmt::format("{} clusters are wanted, {} are free", clusters,
                                           free_cluster_count()));
    if (clusters > super_.blob_clusters_max())
        co_return fail(EFBIG, fmt::format("{} clusters are more than the {} that a blob can have",
                                          clusters, super_.blob_clusters_max()));
    claims claimed(*this, leave);
    const std::optional<std::uint32_t> root = claimed.page();
    if (!root)
        co_return fail(ENOSPC, fmt::format("of {} metadata pages {} are free", used_pages_.size(),
                                           used_pages_.free_count()));
    const blob_id id = id_of(*root);
    std::vector<std::uint32_t> map(clusters, 0);
    if (!meta.thin())
        for (std::uint32_t& c : map) c = claimed.cluster().value();
    const blob_id parent = meta.parent();
    const bool external = meta.find(meta.internal, xattr_external) != nullptr;
    blob_node node(*this, id);
    result<> done = co_await commit_map(node, std::move(meta), std::move(map), leave);
    if (!done) {
        if (node.root_unsettled) {
            // It may be there after a crash, with all that it has: nobody else gets that.
            for (const std::uint32_t p : node.held_pages) claimed.add_page(p);
            unerased_.push_back(claimed.left_of(id));
            result<> erased = co_await erase_rest();
            (void)erased;
        }
        outcome<> said = why(done, id, "create");
        co_return fail(std::move(said.error()));
    }
    claimed.keep();
    records_.emplace(id, blob_record());
    set_record_parent(id, parent, external);
    co_return id;
}

task<outcome<>> blob_engine::resize(across<blob_node> of, std::uint64_t clusters) {
    blob_changes changes;
    changes.clusters = clusters;
    return change(of, std::move(changes));
}

task<outcome<>> blob_engine::change(across<blob_node> of, blob_changes changes) {
    blob_node& node = *of;
    result<> locked = co_await node.operation.lock();
    if (!locked) co_return fail(why(locked.error(), node.id, "change"));
    const unlock_guard guard(node.operation);
    outcome<> ok = check_writable(node);
    if (ok) ok = check_xattrs(changes.set);
    if (!ok) co_return ok;
    const std::uint64_t old = node.map->size();
    const std::uint64_t clusters = changes.clusters.value_or(old);
    if (clusters > super_.blob_clusters_max())
        co_return fail(EFBIG,
                       fmt::format("blob {}: {} clusters are more than the {} that a blob can have",
                                   to_string(node.id), clusters, super_.blob_clusters_max()));
    if (!node.meta.thin() && clusters > old &&
        clusters - old + changes.leave.clusters > free_cluster_count())
        co_return fail(ENOSPC,
                       fmt::format("blob {}: {} more clusters are wanted, {} are free",
                                   to_string(node.id), clusters - old, free_cluster_count()));
    if (clusters != old) {
        ok = co_await change_size(node, std::move(changes));
        co_return ok;
    }
    if (changes.set.empty() && changes.removed.empty()) co_return ok;
    locked = co_await node.chain.lock();
    if (!locked) co_return fail(why(locked.error(), node.id, "change"));
    const unlock_guard chain(node.chain);
    blob_metadata next = with_edits(node);
    apply(next, changes);
    if (!next.extent_table) next.rle_map = node.map->copy();
    result<> done = co_await commit(node, std::move(next), changes.leave);
    if (done) end_edits(node);
    co_return why(done, node.id, "change");
}

/// Under the node's `operation`. Nothing is under way in the blob meanwhile.
task<outcome<>> blob_engine::change_size(blob_node& node, blob_changes changes) {
    const std::uint64_t old = node.map->size();
    const std::uint64_t clusters = *changes.clusters;
    const blob_headroom leave = changes.leave;
    claims claimed(*this, leave);
    quiet until;
    result<> still = co_await quiesce(node, until, false);
    std::vector<std::uint32_t> dropped;
    if (still) still = co_await node.chain.lock();
    result<> done = still;
    if (still) {
        const unlock_guard chain(node.chain);
        std::vector<std::uint32_t> map = node.map->copy();
        for (std::uint64_t i = clusters; i < old; ++i)
            if (map[i] != 0) dropped.push_back(map[i]);
        map.resize(clusters, 0);
        bool enough = true;
        for (std::uint64_t i = old; i < clusters && !node.meta.thin() && enough; ++i) {
            const std::optional<std::uint32_t> c = claimed.cluster();
            enough = c.has_value();
            if (enough) map[i] = *c;
        }
        blob_metadata next = with_edits(node);
        apply(next, changes);
        if (enough)
            done = co_await commit_map(node, std::move(next), map, leave);
        else
            done = fail(ENOSPC);
        if (done) {
            claimed.keep();
            end_edits(node);
            node.map = std::make_shared<cluster_map>(map);
            while (node.device != nullptr) {
                task<void> telling = node.device->set_clusters(clusters);
                if (telling.valid()) {
                    co_await std::move(telling);
                    break;
                }
                co_await yield();  // lack of memory delays
            }
        } else if (node.root_unsettled) {
            claimed.hold_back(node);
        }
    }
    while (true) {
        result<> released = co_await until.release();
        if (released) break;
        co_await yield();  // lack of memory delays
    }
    outcome<> ok = why(done, node.id, "resize");
    const auto how = static_cast<clear_method>(node.meta.flags.md_ro & blob_flags::clear_mask);
    while (ok && !dropped.empty()) {
        result<> freed = co_await clear_and_free(dropped, how);
        if (freed) break;
        co_await yield();
    }
    co_return ok;
}

// --- Attributes ---------------------------------------------------------------------------------

task<outcome<>> blob_engine::set_xattr(across<blob_node> of, std::string name, std::string value) {
    blob_node& node = *of;
    outcome<> ok = check_writable(node);
    std::vector<blob_xattr> one(1, blob_xattr{std::move(name), std::move(value)});
    if (ok) ok = check_xattrs(one);
    if (!ok) co_return ok;
    result<> locked = co_await node.chain.lock();
    if (!locked) co_return fail(why(locked.error(), node.id, "set_xattr"));
    const unlock_guard guard(node.chain);
    node.meta.set(edits_of(node).xattrs, one[0].name, std::move(one[0].value));
    co_return ok;
}

task<outcome<std::string>> blob_engine::xattr(across<blob_node> of, std::string name) {
    const std::string* value = of->meta.find(xattrs_of(*of), name);
    if (value == nullptr)
        co_return fail(ENOENT,
                       fmt::format("blob {}: has no attribute \"{}\"", to_string(of->id), name));
    co_return *value;
}

task<outcome<>> blob_engine::remove_xattr(across<blob_node> of, std::string name) {
    blob_node& node = *of;
    outcome<> ok = check_writable(node);
    if (!ok) co_return ok;
    result<> locked = co_await node.chain.lock();
    if (!locked) co_return fail(why(locked.error(), node.id, "remove_xattr"));
    const unlock_guard guard(node.chain);
    const bool there = node.meta.find(xattrs_of(node), name) != nullptr;
    if (!there || !node.meta.remove(edits_of(node).xattrs, name))
        co_return fail(ENOENT,
                       fmt::format("blob {}: has no attribute \"{}\"", to_string(node.id), name));
    co_return ok;
}

task<outcome<std::vector<std::string>>> blob_engine::xattr_names(across<blob_node> of) {
    std::vector<std::string> names;
    for (const blob_xattr& x : xattrs_of(*of)) names.push_back(x.name);
    co_return names;
}

task<outcome<>> blob_engine::set_read_only(across<blob_node> of) {
    blob_node& node = *of;
    outcome<> ok = check_writable(node);
    if (!ok) co_return ok;
    result<> locked = co_await node.chain.lock();
    if (!locked) co_return fail(why(locked.error(), node.id, "set_read_only"));
    const unlock_guard guard(node.chain);
    edits_of(node).read_only = true;
    co_return ok;
}

task<outcome<>> blob_engine::sync(across<blob_node> of) {
    blob_node& node = *of;
    result<> locked = co_await node.operation.lock();
    if (!locked) co_return fail(why(locked.error(), node.id, "sync"));
    const unlock_guard guard(node.operation);
    if (!node.unsynced && !node.unsettled()) co_return outcome<>();
    outcome<> ok = check_writable();
    if (!ok) co_return ok;
    if (node.unsynced) {
        locked = co_await node.chain.lock();
        if (!locked) co_return fail(why(locked.error(), node.id, "sync"));
        const unlock_guard chain(node.chain);
        blob_metadata next = with_edits(node);
        if (!next.extent_table) next.rle_map = node.map->copy();
        result<> done = co_await commit(node, std::move(next));
        ok = why(done, node.id, "sync");
        if (!ok) co_return ok;
        end_edits(node);
    }
    result<> settled = co_await settle(node);
    if (!settled) co_return fail(why(settled.error(), node.id, "sync"));
    co_return ok;
}

}  // namespace nacre::detail
