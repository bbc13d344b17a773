// SPDX-License-Identifier: BSD-3-Clause
//
// Snapshots and clones: what changes more than one blob. The marks SNAPTMP and SNAPRM on disk say
// which of two blobs goes when a crash comes in between (load.cpp decides by them).
#include <fmt/format.h>

#include <algorithm>

#include "device.hpp"
#include "engine.hpp"
#include "nacre/core/log.hpp"
#include "nacre/runtime/sleep.hpp"

namespace nacre::detail {

using namespace blob_format;

namespace {

failure why(error e, blob_id id, const char* what) {
    return failure(e, fmt::format("blob {}: {}: {}", to_string(id), what, describe(e)));
}

}  // namespace

// --- Quiet --------------------------------------------------------------------------------------

task<result<>> quiet::stand(shared_mutex& standing) {
    result<> locked = co_await standing.lock_shared();
    if (locked) standing_ = &standing;
    co_return locked;
}

task<result<>> quiet::take(std::shared_ptr<blob_device> device) {
    if (device->blocks().value() == 0) co_return result<>();
    result<range_lock> lock = co_await device->quiesce();
    if (!lock) co_return fail(lock.error());
    held_.emplace_back(std::move(device), std::move(*lock));
    co_return result<>();
}

task<result<>> quiet::release() {
    while (!held_.empty()) {
        task<void> releasing = held_.back().second.release();
        if (!releasing.valid()) co_return fail(ENOMEM);
        co_await std::move(releasing);
        held_.pop_back();
    }
    if (standing_ != nullptr) std::exchange(standing_, nullptr)->unlock_shared();
    co_return result<>();
}

/// The blob, and with descendants all that read through it; those nearer to it first. Those that
/// are not open cannot be opened until it ends.
task<result<>> blob_engine::quiesce(blob_node& node, quiet& until, bool with_descendants) {
    result<> standing = co_await until.stand(devices_);
    if (!standing) co_return standing;
    std::vector<std::shared_ptr<blob_device>> devices;
    if (node.device != nullptr) devices.push_back(node.device);
    for (const auto& [id, weak] : nodes_) {
        const std::shared_ptr<blob_node> other = weak.lock();
        if (!with_descendants || other == nullptr || other->device == nullptr) continue;
        for (const blob_node* p = other->parent.get(); p != nullptr; p = p->parent.get())
            if (p == &node) devices.push_back(other->device);
    }
    for (std::shared_ptr<blob_device>& device : devices) {
        result<> taken = co_await until.take(std::move(device));
        if (taken || taken.error().is(ENODEV)) continue;  // closed meanwhile
        co_return taken;
    }
    co_return result<>();
}

void blob_engine::set_record_parent(blob_id id, blob_id parent, bool external) {
    blob_record& record = records_[id];
    const auto was = records_.find(record.parent);
    if (was != records_.end()) std::erase(was->second.clones, id);
    record.parent = parent;
    record.external = external;
    const auto is = records_.find(parent);
    if (is != records_.end()) is->second.clones.push_back(id);
}

// --- Snapshot and clone -------------------------------------------------------------------------

task<outcome<blob_id>> blob_engine::snapshot(blob_id of, std::vector<blob_xattr> xattrs) {
    outcome<> ok = check_writable();
    if (ok) ok = check_xattrs(xattrs);
    if (!ok) co_return fail(std::move(ok.error()));
    outcome<std::shared_ptr<blob_node>> opened = co_await open_node(of);
    if (!opened) co_return fail(std::move(opened.error()));
    const std::shared_ptr<blob_node> origin = std::move(*opened);
    result<> locked = co_await origin->operation.lock();
    if (!locked) co_return fail(why(locked.error(), of, "snapshot"));
    const unlock_guard guard(origin->operation);
    if (!records_.contains(of)) co_return fail(ENOENT, "blob " + to_string(of) + ": is gone");
    ok = check_writable(*origin);
    if (!ok)
        co_return fail(EINVAL,
                       ok.error().message + "; a snapshot of it would be the same: clone it");
    claims claimed(*this);
    const std::optional<std::uint32_t> root = claimed.page();
    if (!root)
        co_return fail(ENOSPC, fmt::format("all {} metadata pages are in use", used_pages_.size()));
    const auto copy = std::make_shared<blob_node>(*this, id_of(*root));
    quiet until;
    result<> still = co_await quiesce(*origin, until, false);
    if (still) still = co_await erase_rest();
    if (still) still = co_await settle(*origin);
    if (still) still = co_await clear_parents_marks(*origin);
    if (still) still = co_await origin->chain.lock();
    outcome<> done;
    if (still) {
        const unlock_guard chain(origin->chain);
        done = co_await split_off(*origin, copy, std::move(xattrs));
    } else {
        done = fail(why(still.error(), of, "snapshot"));
    }
    // What is not there for good is erased, now or later, and its root page free then.
    if (done || copy->root_unsettled) claimed.keep();
    while (true) {
        result<> released = co_await until.release();
        if (released) break;
        co_await yield();
    }
    if (!done) co_return fail(std::move(done.error()));
    co_return copy->id;
}

/// `copy` becomes what `origin` is, on disk and in memory, and `origin` an empty clone of it.
task<outcome<>> blob_engine::split_off(blob_node& origin, std::shared_ptr<blob_node> copy,
                                       std::vector<blob_xattr> xattrs) {
    blob_metadata frozen = origin.meta;
    frozen.chain.clear();
    frozen.xattrs = std::move(xattrs);
    frozen.set_reference(xattr_being_made, origin.id);
    frozen.flags.data_ro |= blob_flags::read_only;
    if (!frozen.extent_table) frozen.rle_map = origin.map->copy();
    blob_metadata emptied = origin.meta;
    std::ranges::fill(emptied.extent_pages, 0);
    if (!emptied.extent_table) emptied.rle_map.assign(origin.map->size(), 0);
    emptied.set_reference(xattr_parent, copy->id);
    emptied.remove(emptied.internal, xattr_external);
    emptied.flags.invalid |= blob_flags::thin;
    result<> done = co_await commit(*copy, std::move(frozen));
    if (done) {
        done = co_await commit(origin, std::move(emptied));
        // Not, or perhaps: it is to be what it was, on disk too, before anything else happens.
        while (!done && origin.root_unsettled) {
            blob_metadata same = origin.meta;
            if (!same.extent_table) same.rle_map = origin.map->copy();
            result<> again = co_await commit(origin, std::move(same));
            if (again) break;
            leave(*copy, nodes_[origin.id].lock());
            co_return fail(why(done.error(), origin.id, "snapshot"));
        }
    }
    if (!done) {
        leave(*copy, nullptr);
        result<> erased = co_await erase_rest();
        (void)erased;
        co_return fail(why(done.error(), origin.id, "snapshot"));
    }
    copy->map = origin.map;
    copy->parent = std::move(origin.parent);
    copy->external = std::move(origin.external);
    copy->read_only = true;
    origin.map = std::make_shared<cluster_map>(copy->map->size());
    origin.parent = copy;
    const blob_record was = records_[origin.id];
    records_.emplace(copy->id, blob_record());
    set_record_parent(origin.id, copy->id, false);
    set_record_parent(copy->id, was.parent, was.external);
    nodes_[copy->id] = copy;
    blob_metadata finished = copy->meta;
    finished.remove(finished.internal, xattr_being_made);
    if (!finished.extent_table) finished.rle_map = copy->map->copy();
    result<> last = co_await commit(*copy, std::move(finished));
    // It stands all the same: the next load takes the mark away.
    if (!last) to_settle_.push_back(copy);
    co_return outcome<>();
}

/// A snapshot that came to nothing: its pages are in use until it is erased.
void blob_engine::leave(blob_node& copy, std::shared_ptr<blob_node> origin) {
    unerased_blob left{copy.id, copy.meta.chain, {}, std::move(origin)};
    left.pages.insert(left.pages.end(), copy.held_pages.begin(), copy.held_pages.end());
    left.pages.push_back(root_of(copy.id));
    unerased_.push_back(std::move(left));
    copy.root_unsettled = true;
}

task<outcome<blob_id>> blob_engine::clone(blob_id of, std::vector<blob_xattr> xattrs) {
    outcome<> ok = check_writable();
    if (ok) ok = check_xattrs(xattrs);
    if (!ok) co_return fail(std::move(ok.error()));
    outcome<std::shared_ptr<blob_node>> opened = co_await open_node(of);
    if (!opened) co_return fail(std::move(opened.error()));
    const std::shared_ptr<blob_node> parent = std::move(*opened);
    result<> locked = co_await parent->operation.lock();
    if (!locked) co_return fail(why(locked.error(), of, "clone"));
    const unlock_guard guard(parent->operation);
    if (!records_.contains(of)) co_return fail(ENOENT, "blob " + to_string(of) + ": is gone");
    if (!parent->meta.read_only())
        co_return fail(EINVAL, fmt::format("blob {}: can be written; make a snapshot, and clone "
                                           "that",
                                           to_string(of)));
    blob_metadata meta;
    meta.flags.invalid = blob_flags::thin;
    meta.extent_table = parent->meta.extent_table;
    if (meta.extent_table) meta.flags.invalid |= blob_flags::extent_table;
    meta.flags.md_ro = parent->meta.flags.md_ro & blob_flags::clear_mask;
    meta.xattrs = std::move(xattrs);
    meta.set_reference(xattr_parent, of);
    outcome<blob_id> made = co_await create_from(std::move(meta), parent->map->size());
    co_return made;
}

// --- Removal ------------------------------------------------------------------------------------

namespace {

/// While it stands the blob cannot be opened.
class removal_mark {
public:
    explicit removal_mark(blob_node& node) noexcept : node_(node) { node_.removing = true; }
    removal_mark(const removal_mark&) = delete;
    ~removal_mark() { node_.removing = false; }

private:
    blob_node& node_;
};

}  // namespace

/// The one clone that reads through the snapshot, locked; none: null. More: EBUSY. Under the
/// snapshot's operation mutex. Until a clone is locked it may go, get another parent, or become a
/// snapshot's clone itself.
task<outcome<std::shared_ptr<blob_node>>> blob_engine::lock_only_clone(blob_id id) {
    while (true) {
        const std::vector<blob_id> clones = records_[id].clones;
        if (clones.empty()) co_return nullptr;
        if (clones.size() > 1)
            co_return fail(EBUSY, fmt::format("blob {}: {} clones read through it; inflate or "
                                              "remove all but one",
                                              to_string(id), clones.size()));
        outcome<std::shared_ptr<blob_node>> clone = co_await open_node(clones.front());
        if (!clone && records_[id].clones == clones) co_return clone;
        if (!clone) continue;
        result<> locked = co_await (*clone)->operation.lock();
        if (!locked) co_return fail(why(locked.error(), id, "remove"));
        if (records_[id].clones == clones) co_return clone;
        (*clone)->operation.unlock();
    }
}

task<outcome<>> blob_engine::remove(blob_id id) {
    outcome<> ok = check_writable();
    if (!ok) co_return ok;
    result<> closed = co_await close_left();
    if (!closed) co_return fail(why(closed.error(), id, "remove"));
    outcome<std::shared_ptr<blob_node>> opened = co_await open_node(id);
    if (!opened) co_return fail(std::move(opened.error()));
    const std::shared_ptr<blob_node> node = std::move(*opened);
    result<> locked = co_await node->operation.lock();
    if (!locked) co_return fail(why(locked.error(), id, "remove"));
    const unlock_guard guard(node->operation);
    if (!records_.contains(id)) co_return fail(ENOENT, "blob " + to_string(id) + ": is gone");
    if (node->opens != 0)
        co_return fail(EBUSY, fmt::format("blob {}: is open; close it first", to_string(id)));
    // It cannot be opened from here on, and gets no clones. The one that it has may go.
    const removal_mark removing(*node);
    outcome<std::shared_ptr<blob_node>> only = co_await lock_only_clone(id);
    if (!only) co_return fail(std::move(only.error()));
    const std::shared_ptr<blob_node> clone = std::move(*only);
    std::optional<unlock_guard<mutex>> other;
    if (clone != nullptr) other.emplace(clone->operation);
    result<> clear = co_await erase_rest();
    if (clear) clear = co_await clear_parents_marks(*node);
    if (!clear) co_return fail(why(clear.error(), id, "remove"));
    std::vector<std::uint32_t> clusters = node->map->copy();
    std::vector<std::uint32_t> extent_pages = node->meta.extent_pages;
    const bool half_done = clone != nullptr;
    if (clone != nullptr) {
        outcome<> merged = co_await merge_into_clone(*node, *clone);
        if (!merged) co_return merged;
        for (std::uint64_t i = 0; i < clusters.size() && i < clone->map->size(); ++i)
            if (clusters[i] == (*clone->map)[i]) clusters[i] = 0;
        other.reset();
    }
    result<> erased = co_await erase_root(id);
    if (!erased && !half_done) {
        // It goes on being a blob, so the disk is to say so, too.
        node->root_unsettled = true;
        result<> settled = co_await settle(*node);
        if (!settled) to_settle_.push_back(node);
        co_return fail(why(erased.error(), id, "remove"));
    }
    set_record_parent(id, blob_id::none, false);
    records_.erase(id);
    nodes_.erase(id);
    std::erase(to_settle_, node);  // it is not to be written once more
    if (super_.super_blob == id) {
        outcome<> none = co_await set_super_blob(blob_id::none);
        if (!none) log::warning("blob", none.error().message);
    }
    // And what failed writes of it may have referred to.
    extent_pages.insert(extent_pages.end(), node->held_pages.begin(), node->held_pages.end());
    clusters.insert(clusters.end(), node->held_clusters.begin(), node->held_clusters.end());
    std::erase(extent_pages, 0U);
    std::erase(clusters, 0U);
    if (!erased) {
        // Not yet, on disk; sooner or later it is, and nobody gets what it had before.
        extent_pages.insert(extent_pages.end(), node->meta.chain.begin(), node->meta.chain.end());
        extent_pages.push_back(root_of(id));
        unerased_.push_back({id, std::move(extent_pages), std::move(clusters), nullptr});
        co_return outcome<>();
    }
    free_pages(extent_pages);
    free_pages(node->meta.chain);
    used_pages_.clear(root_of(id));
    const auto how = static_cast<clear_method>(node->meta.flags.md_ro & blob_flags::clear_mask);
    while (!clusters.empty()) {
        result<> freed = co_await clear_and_free(clusters, how);
        if (freed) break;
        co_await yield();
    }
    co_return outcome<>();
}

/// The clone takes over what only the snapshot has; afterwards nothing reads through the snapshot,
/// which the disk says is being removed.
task<outcome<>> blob_engine::merge_into_clone(blob_node& snapshot, blob_node& clone) {
    quiet until;
    result<> still = co_await quiesce(clone, until, true);
    if (still) still = co_await settle(clone);
    if (still) still = co_await settle(snapshot);
    if (still) still = co_await snapshot.chain.lock();
    result<> done = still;
    if (still) {
        const unlock_guard chain(snapshot.chain);
        blob_metadata marked = snapshot.meta;
        marked.set_reference(xattr_being_removed, clone.id);
        if (!marked.extent_table) marked.rle_map = snapshot.map->copy();
        done = co_await commit(snapshot, std::move(marked));
        if (!done) still = fail(done.error());
    }
    if (still) still = co_await clone.chain.lock();
    if (!still && done) done = still;
    if (still) {
        const unlock_guard chain(clone.chain);
        std::vector<std::uint32_t> map = clone.map->copy();
        for (std::uint64_t i = 0; i < map.size() && i < snapshot.map->size(); ++i)
            if (map[i] == 0) map[i] = (*snapshot.map)[i];
        blob_metadata next = clone.meta;
        next.remove(next.internal, xattr_parent);
        if (const std::string* up = snapshot.meta.find(snapshot.meta.internal, xattr_parent))
            next.set(next.internal, xattr_parent, *up);
        if (const std::string* up = snapshot.meta.find(snapshot.meta.internal, xattr_external))
            next.set(next.internal, xattr_external, *up);
        done = co_await commit_map(clone, std::move(next), map);
        if (done) {
            clone.map = std::make_shared<cluster_map>(map);
            clone.parent = snapshot.parent;
            clone.external = snapshot.external;
            const blob_record above = records_[snapshot.id];
            set_record_parent(clone.id, above.parent, above.external);
        }
    }
    if (!done) {
        // The snapshot stays: without the mark, if that can be written.
        result<> unmarked = co_await unmark(snapshot, clone);
        if (!unmarked) {
            to_settle_.push_back(nodes_[clone.id].lock());
            to_settle_.push_back(nodes_[snapshot.id].lock());
        }
    }
    while (true) {
        result<> released = co_await until.release();
        if (released) break;
        co_await yield();
    }
    if (!done) co_return fail(why(done.error(), snapshot.id, "remove"));
    co_return outcome<>();
}

/// Both are on disk what they are in memory, the snapshot without a mark.
task<result<>> blob_engine::unmark(blob_node& snapshot, blob_node& clone) {
    result<> done = co_await settle(clone);
    if (done) done = co_await clear_marks(snapshot);
    co_return done;
}

/// A mark that could not be taken away names a blob. Before that blob gets another parent or goes,
/// it must be gone, or the next load would take the snapshot for one that was never finished.
task<result<>> blob_engine::clear_marks(blob_node& snapshot) {
    const auto is_marked = [&snapshot] {
        const blob_metadata& m = snapshot.meta;
        return m.find(m.internal, xattr_being_made) != nullptr ||
               m.find(m.internal, xattr_being_removed) != nullptr || snapshot.root_unsettled;
    };
    if (!is_marked()) co_return result<>();
    result<> done = co_await snapshot.chain.lock();
    if (!done) co_return done;
    const unlock_guard chain(snapshot.chain);
    blob_metadata next = snapshot.meta;
    next.remove(next.internal, xattr_being_made);
    next.remove(next.internal, xattr_being_removed);
    if (!next.extent_table) next.rle_map = snapshot.map->copy();
    result<> unmarked = co_await commit(snapshot, std::move(next));
    if (!unmarked) co_return fail(unmarked.error());
    co_return result<>();
}

task<result<>> blob_engine::clear_parents_marks(blob_node& node) {
    const std::shared_ptr<blob_node> parent = node.parent;
    if (parent == nullptr) co_return result<>();
    result<> done = co_await clear_marks(*parent);
    co_return done;
}

}  // namespace nacre::detail
