// SPDX-License-Identifier: BSD-3-Clause
//
// Volumes: found by name, made, changed, removed.
#include <fmt/format.h>

#include <algorithm>

#include "nacre/core/log.hpp"
#include "nacre/runtime/sleep.hpp"
#include "store.hpp"

namespace nacre {

using detail::lvol;
using detail::lvol_bdev;
using detail::lvol_hold;
using detail::lvol_store;
using detail::name_to_come;
using detail::shallow_copy_run;

// --- Found --------------------------------------------------------------------------------------

lvol_stores::lvol_ptr lvol_stores::find_volume(std::string_view name) const {
    for (const store_ptr& store : stores_)
        for (const lvol_ptr& v : store->volumes)
            if (v->bdev_name() == name || v->alias() == name) return v;
    return nullptr;
}

outcome<lvol_hold> lvol_stores::take(std::string_view name, const char* what, bool degraded_too) {
    lvol_ptr volume = find_volume(name);
    if (volume == nullptr)
        return fail(ENODEV, fmt::format("{}: no such logical volume; bdev_lvol_get_lvols lists "
                                        "those that exist",
                                        name));
    if (volume->degraded && !degraded_too)
        return fail(ENODEV, fmt::format("{}: is degraded; the external snapshot that it reads "
                                        "through is not there",
                                        name));
    if (volume->busy != nullptr)
        return fail(EBUSY,
                    fmt::format("{}: {} is under way; try again after it", name, volume->busy));
    store_ptr store;
    for (const store_ptr& s : stores_)
        if (s.get() == &volume->store) store = s;
    if (!store->users.enter())
        return fail(ENODEV, fmt::format("{}: its store is being unloaded", name));
    return lvol_hold(std::move(store), std::move(volume), what);
}

std::vector<lvol_status> lvol_stores::volumes(std::string_view store) const {
    std::vector<lvol_status> all;
    for (const store_ptr& s : stores_)
        for (const lvol_ptr& v : s->volumes)
            if (store.empty() || s->name == store) all.push_back(v->status());
    return all;
}

std::optional<lvol_status> lvol_stores::status(std::string_view volume) const {
    const lvol_ptr found = find_volume(volume);
    if (found == nullptr) return std::nullopt;
    return found->status();
}

outcome<> lvol_stores::check_name(const lvol_store& store, std::string_view name) const {
    if (name.empty() || name.size() > name_bytes_max)
        return fail(EINVAL, fmt::format("volume name \"{}\": must have 1 to {} bytes", name,
                                        name_bytes_max));
    const bool taken = std::ranges::count(store.names_to_come, name) != 0 ||
                       std::ranges::count(store.volumes, name, [](const auto& v) {
                           return std::string_view(v->name);
                       }) != 0;
    if (taken)
        return fail(EEXIST, fmt::format("{}/{}: there is a logical volume of this name; choose "
                                        "another",
                                        store.name, name));
    if (registry_.find(store.name + "/" + std::string(name)) != nullptr)
        return fail(EEXIST,
                    fmt::format("{}/{}: a bdev has this name; choose another", store.name, name));
    return {};
}

outcome<> lvol_stores::check_new_name(std::string_view store, std::string_view name) const {
    const store_ptr found = find_store(store);
    if (found == nullptr)
        return fail(ENODEV, fmt::format("{}: no such logical volume store", store));
    return check_name(*found, name);
}

// --- Their bdevs --------------------------------------------------------------------------------

/// Nothing for one that is degraded, or has no cluster: a bdev has blocks.
task<outcome<>> lvol_stores::show(lvol_ptr volume) {
    volume->degraded = volume->handle.current_status().degraded;
    if (volume->degraded || volume->device != nullptr ||
        volume->handle.current_status().clusters == 0)
        co_return outcome<>();
    outcome<std::shared_ptr<lvol_bdev>> made = lvol_bdev::make(registry_, volume);
    if (!made) co_return fail(std::move(made.error()));
    std::shared_ptr<lvol_bdev> device = std::move(*made);
    volume->device = device.get();
    task<outcome<>> adding = registry_.add(device);
    outcome<> added = fail(ENOMEM, volume->alias() + ": no memory for its bdev");
    if (adding.valid()) added = co_await std::move(adding);
    if (!added) {
        volume->device = nullptr;
        co_await device->close();
    }
    co_return added;
}

/// What has it open is told, and its I/O ends first.
task<void> lvol_stores::hide(lvol_ptr volume) {
    while (volume->device != nullptr) {
        outcome<> removed = co_await registry_.remove(volume->bdev_name());
        if (removed || !removed.error().code.is(ENOMEM)) co_return;
        co_await yield();  // lack of memory delays
    }
}

/// A blob that was just made becomes a volume, or goes again.
task<outcome<std::string>> lvol_stores::adopt(store_ptr store, blob_id id, std::string name,
                                              nacre::uuid uuid) {
    auto volume = std::make_shared<lvol>(*store, id, std::move(name), uuid);
    outcome<blob> opened = co_await store->blobs.open(id);
    outcome<> done;
    if (opened) {
        volume->handle = std::move(*opened);
        store->volumes.push_back(volume);
        volume->busy = "creation";
        done = co_await show(volume);
        volume->busy = nullptr;
        volume->freed.notify_all();
        if (done) co_return volume->bdev_name();
        std::erase(store->volumes, volume);
        co_await volume->handle.close();
    } else {
        done = fail(std::move(opened.error()));
    }
    outcome<> removed = co_await store->blobs.remove(id);
    if (!removed) log::error("lvol", removed.error().message);
    co_return fail(std::move(done.error()));
}

// --- Made ---------------------------------------------------------------------------------------

task<outcome<std::string>> lvol_stores::create(std::string store_name, lvol_options o) {
    outcome<lvol_hold> hold = take_store(store_name);
    if (!hold) co_return fail(std::move(hold.error()));
    const store_ptr& store = hold->store();
    outcome<> ok = check_name(*store, o.name);
    if (!ok) co_return fail(std::move(ok.error()));
    const name_to_come reserved(store->names_to_come, o.name);
    const uuid id = new_uuid();
    blob_options how;
    how.clusters = store->clusters_of(o.bytes);
    how.thin = o.thin;
    how.clear = o.clear;
    how.xattrs = detail::volume_xattrs(o.name, id);
    outcome<blob_id> made = co_await store->blobs.create(std::move(how));
    if (!made)
        co_return fail(failure(made.error().code, fmt::format("{}/{}: {}", store->name, o.name,
                                                              made.error().message)));
    outcome<std::string> name = co_await adopt(store, *made, std::move(o.name), id);
    co_return name;
}

task<outcome<std::string>> lvol_stores::snapshot(std::string volume, std::string name) {
    outcome<lvol_hold> hold = take(volume, "a snapshot");
    if (!hold) co_return fail(std::move(hold.error()));
    const store_ptr& store = hold->store();
    outcome<> ok = check_name(*store, name);
    if (!ok) co_return fail(std::move(ok.error()));
    const name_to_come reserved(store->names_to_come, name);
    const uuid id = new_uuid();
    std::vector<blob_xattr> xattrs = detail::volume_xattrs(name, id);
    outcome<blob_id> made = co_await store->blobs.snapshot(hold->volume()->id, std::move(xattrs));
    if (!made) co_return fail(std::move(made.error()));
    outcome<std::string> shown = co_await adopt(store, *made, std::move(name), id);
    co_return shown;
}

task<outcome<std::string>> lvol_stores::clone(std::string snapshot, std::string name) {
    outcome<lvol_hold> hold = take(snapshot, "a clone");
    if (!hold) co_return fail(std::move(hold.error()));
    const store_ptr& store = hold->store();
    outcome<> ok = check_name(*store, name);
    if (!ok) co_return fail(std::move(ok.error()));
    const name_to_come reserved(store->names_to_come, name);
    const uuid id = new_uuid();
    std::vector<blob_xattr> xattrs = detail::volume_xattrs(name, id);
    outcome<blob_id> made = co_await store->blobs.clone(hold->volume()->id, std::move(xattrs));
    if (!made) co_return fail(std::move(made.error()));
    outcome<std::string> shown = co_await adopt(store, *made, std::move(name), id);
    co_return shown;
}

task<outcome<std::string>> lvol_stores::clone_bdev(std::string store_name, std::string base,
                                                   std::string name) {
    outcome<lvol_hold> hold = take_store(store_name);
    if (!hold) co_return fail(std::move(hold.error()));
    const store_ptr& store = hold->store();
    bdev* const device = registry_.find(base);
    if (device == nullptr) co_return fail(ENODEV, base + ": no such bdev");
    const lvol_ptr own = find_volume(device->name());
    if (own != nullptr && &own->store == store.get())
        co_return fail(EINVAL, fmt::format("{}: is a volume of {} itself; make a snapshot of it, "
                                           "and clone that (bdev_lvol_clone)",
                                           base, store->name));
    outcome<> ok = check_name(*store, name);
    if (!ok) co_return fail(std::move(ok.error()));
    const std::uint64_t bytes = device->size().value();
    if (bytes % store->geometry.cluster_size != 0)
        co_return fail(EINVAL, fmt::format("{}: its {} bytes are no multiple of the clusters' {}",
                                           base, bytes, store->geometry.cluster_size));
    const name_to_come reserved(store->names_to_come, name);
    const uuid id = new_uuid();
    blob_options how;
    how.clusters = store->clusters_of(bytes);
    how.thin = true;
    how.xattrs = detail::volume_xattrs(name, id);
    how.external = detail::uuid_value(device->attributes().id);
    outcome<blob_id> made = co_await store->blobs.create(std::move(how));
    if (!made) co_return fail(std::move(made.error()));
    outcome<std::string> shown = co_await adopt(store, *made, std::move(name), id);
    co_return shown;
}

// --- Changed ------------------------------------------------------------------------------------

task<outcome<>> lvol_stores::rename(std::string volume, std::string name) {
    outcome<lvol_hold> hold = take(volume, "a renaming");
    if (!hold) co_return fail(std::move(hold.error()));
    lvol& v = *hold->volume();
    if (v.name == name) co_return outcome<>();
    outcome<> done = check_name(*hold->store(), name);
    if (!done) co_return done;
    const name_to_come reserved(hold->store()->names_to_come, name);
    std::string value = name + '\0';
    done = co_await v.handle.set_xattr("name", std::move(value));
    if (done) done = co_await v.handle.sync();
    if (!done) {
        // What is on disk may be either; it is to be the old one.
        std::string old = detail::name_value(v.name);
        outcome<> back = co_await v.handle.set_xattr("name", std::move(old));
        if (back) back = co_await v.handle.sync();
        co_return done;
    }
    v.name = std::move(name);
    if (v.device == nullptr) co_return done;
    std::vector<std::string> aliases(1, v.alias());
    outcome<> renamed = registry_.set_aliases(*v.device, std::move(aliases));
    if (!renamed) log::error("lvol", renamed.error().message);
    co_return done;
}

task<outcome<>> lvol_stores::resize(std::string volume, std::uint64_t bytes) {
    outcome<lvol_hold> hold = take(volume, "a resizing");
    if (!hold) co_return fail(std::move(hold.error()));
    const lvol_ptr& v = hold->volume();
    const std::uint64_t clusters = hold->store()->clusters_of(bytes);
    if (clusters == 0) co_await hide(v);
    outcome<> done = co_await v->handle.resize(clusters);
    outcome<> shown = co_await show(v);
    co_return done ? shown : done;
}

task<outcome<>> lvol_stores::set_read_only(std::string volume) {
    outcome<lvol_hold> hold = take(volume, "a change");
    if (!hold) co_return fail(std::move(hold.error()));
    lvol& v = *hold->volume();
    if (v.handle.current_status().read_only) co_return outcome<>();
    outcome<> done = co_await v.handle.set_read_only();
    if (done) done = co_await v.handle.sync();
    if (done && v.device != nullptr) v.device->make_read_only();
    co_return done;
}

task<outcome<>> lvol_stores::inflate(std::string volume) {
    outcome<lvol_hold> hold = take(volume, "an inflation");
    if (!hold) co_return fail(std::move(hold.error()));
    outcome<> done = co_await hold->volume()->handle.inflate();
    co_return done;
}

task<outcome<>> lvol_stores::decouple_parent(std::string volume) {
    outcome<lvol_hold> hold = take(volume, "a decoupling");
    if (!hold) co_return fail(std::move(hold.error()));
    outcome<> done = co_await hold->volume()->handle.decouple_parent();
    co_return done;
}

task<outcome<>> lvol_stores::set_parent(std::string volume, std::string snapshot) {
    outcome<lvol_hold> hold = take(volume, "a change of its parent");
    if (!hold) co_return fail(std::move(hold.error()));
    const lvol_ptr found = find_volume(snapshot);
    if (found == hold->volume() || (found != nullptr && &found->store != hold->store().get()))
        co_return fail(EINVAL, fmt::format("{}: must be another volume of the same store than {}",
                                           snapshot, volume));
    outcome<lvol_hold> parent = take(snapshot, "a clone");
    if (!parent) co_return fail(std::move(parent.error()));
    outcome<> done = co_await hold->volume()->handle.set_parent(parent->volume()->id);
    co_return done;
}

task<outcome<>> lvol_stores::set_parent_bdev(std::string volume, std::string base) {
    outcome<lvol_hold> hold = take(volume, "a change of its parent");
    if (!hold) co_return fail(std::move(hold.error()));
    bdev* const device = registry_.find(base);
    if (device == nullptr) co_return fail(ENODEV, base + ": no such bdev");
    const lvol_ptr own = find_volume(device->name());
    if (own != nullptr && &own->store == hold->store().get())
        co_return fail(EINVAL,
                       fmt::format("{}: is a volume of the same store (bdev_lvol_set_parent "
                                   "takes snapshots)",
                                   base));
    std::string identifier = detail::uuid_value(device->attributes().id);
    outcome<> done = co_await hold->volume()->handle.set_external_parent(std::move(identifier));
    co_return done;
}

task<outcome<>> lvol_stores::remove(std::string volume) {
    outcome<lvol_hold> hold = take(volume, "its removal", true);
    if (!hold) co_return fail(std::move(hold.error()));
    const lvol_ptr& v = hold->volume();
    const store_ptr& store = hold->store();
    const std::size_t clones = v->handle.current_status().clones.size();
    if (clones > 1)
        co_return fail(EPERM, fmt::format("{}: {} clones read through it; inflate or remove all "
                                          "but one",
                                          v->alias(), clones));
    co_await hide(v);
    co_await v->handle.close();
    outcome<> done = co_await store->blobs.remove(v->id);
    if (done) {
        std::erase(store->volumes, v);
        co_return done;
    }
    outcome<blob> again = co_await store->blobs.open(v->id);
    if (!again) {
        std::erase(store->volumes, v);
        co_return done;
    }
    v->handle = std::move(*again);
    outcome<> shown = co_await show(v);
    if (!shown) log::error("lvol", shown.error().message);
    co_return done;
}

// --- Shallow copies -----------------------------------------------------------------------------

outcome<std::uint32_t> lvol_stores::start_shallow_copy(std::string volume, std::string to) {
    outcome<lvol_hold> hold = take(volume, "a shallow copy");
    if (!hold) return fail(std::move(hold.error()));
    const blob_status s = hold->volume()->handle.current_status();
    const std::shared_ptr<lvol_store> store = hold->store();
    if (!s.read_only)
        return fail(EPERM, volume + ": can be written; a shallow copy is of a read-only volume");
    bdev* const device = registry_.find(to);
    if (device == nullptr) return fail(ENODEV, to + ": no such bdev");
    if (device->claimed() != claim::none)
        return fail(EPERM, fmt::format("{}: cannot be written, it is held ({})", to,
                                       name_of(device->claimed())));
    const std::uint64_t bytes = s.clusters * store->geometry.cluster_size;
    if (device->size().value() < bytes)
        return fail(EINVAL, fmt::format("{}: has {} bytes, the volume {}", to,
                                        device->size().value(), bytes));
    if (store->geometry.io_unit_size % device->block_size().value() != 0)
        return fail(EINVAL,
                    fmt::format("{}: its blocks of {} bytes do not divide the store's {}", to,
                                device->block_size().value(), store->geometry.io_unit_size));
    auto run = std::make_shared<shallow_copy_run>(std::move(*hold), std::move(to));
    run->progress.all = s.allocated_clusters;
    task<void> copying = run_copy(run);
    if (!copying.valid()) return fail(ENOMEM, volume + ": no memory to copy it");
    const std::uint32_t id = ++copies_begun_;
    copies_.emplace(id, std::move(run));
    store->copies.spawn(std::move(copying));
    return id;
}

task<void> lvol_stores::run_copy(std::shared_ptr<shallow_copy_run> run) {
    outcome<> done;
    {
        const lvol_hold source = std::move(*run->source);
        run->source.reset();
        std::string to = run->to;
        done = co_await source.volume()->handle.shallow_copy(std::move(to), &run->progress);
    }
    if (!done) {
        log::error("lvol", done.error().message);
        run->failed = done.error().code;
    }
    run->ended = true;
}

outcome<shallow_copy_status> lvol_stores::check_shallow_copy(std::uint32_t id) {
    const auto found = copies_.find(id);
    if (found == copies_.end())
        return fail(ENODEV, fmt::format("operation {}: there is none, or it has ended and its "
                                        "end was told",
                                        id));
    const shallow_copy_run& run = *found->second;
    const shallow_copy_status s{run.progress.done, run.progress.all, run.ended, run.failed};
    if (run.ended) copies_.erase(found);
    return s;
}

}  // namespace nacre
