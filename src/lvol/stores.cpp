// SPDX-License-Identifier: BSD-3-Clause
//
// Stores: found, made, renamed, grown, deleted, unloaded.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "nacre/core/bytes.hpp"
#include "nacre/core/log.hpp"
#include "nacre/memory/aligned_bytes.hpp"
#include "nacre/runtime/sleep.hpp"
#include "store.hpp"

namespace nacre {

using detail::lvol;
using detail::lvol_hold;
using detail::lvol_store;
using detail::name_to_come;

namespace {

constexpr std::uint64_t super_bytes = 4096;
constexpr std::uint64_t type_at = 56;

/// A glance at the first block, before anything is claimed.
task<bool> looks_like_a_store(bdev_registry& registry, std::string name) {
    outcome<bdev_desc> desc = registry.open(name, access::read);
    if (!desc) co_return false;
    outcome<bdev_channel> channel = desc->open_channel();
    if (!channel) co_return false;
    aligned_bytes bytes(align_up(super_bytes, desc->device().block_size().value()));
    if (desc->device().size().value() < bytes.size()) co_return false;
    const iov_view into(bytes.data(), bytes.size());
    result<> read = co_await channel->read(lba(0), into);
    if (!read) co_return false;
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    co_return text.starts_with("SPDKBLOB") &&
        text.substr(type_at).starts_with(std::string(detail::store_type) + '\0');
}

task<void> note_leaving(bool& leaving) {
    leaving = true;
    co_return;
}

outcome<bdev_desc> claim_base(bdev_registry& registry, const std::string& name) {
    return layer_bdev::open_base(registry, name, "lvol");
}

}  // namespace

lvol_stores::lvol_stores(bdev_registry& registry) noexcept : registry_(registry) {}
lvol_stores::~lvol_stores() = default;

uuid lvol_stores::new_uuid() const {
    std::array<std::byte, uuid::size> random;
    registry_.home_world().fill_random(random);
    return uuid::from_random(random);
}

lvol_stores::store_ptr lvol_stores::find_store(std::string_view name) const {
    const auto found = std::ranges::find(stores_, name, [](const auto& s) { return s->name; });
    return found == stores_.end() ? nullptr : *found;
}

std::optional<std::string> lvol_stores::name_of_store(std::string_view uuid_text) const {
    const result<uuid> id = uuid::parse(uuid_text);
    if (!id) return std::nullopt;
    for (const store_ptr& s : stores_)
        if (s->uuid == *id) return s->name;
    return std::nullopt;
}

outcome<lvol_hold> lvol_stores::take_store(std::string_view name) {
    store_ptr store = find_store(name);
    if (store == nullptr || !store->users.enter())
        return fail(ENODEV, fmt::format("{}: no such logical volume store; "
                                        "bdev_lvol_get_lvstores lists those that exist",
                                        name));
    return lvol_hold(std::move(store));
}

namespace {

lvstore_status status_of(const lvol_store& store, const blobstore_status& b) {
    lvstore_status s;
    s.uuid = store.uuid;
    s.name = store.name;
    s.base = store.base;
    s.data_clusters = b.data_clusters;
    s.free_clusters = b.free_clusters;
    s.block_size = b.io_unit_size;
    s.cluster_size = b.cluster_size;
    s.size_max = b.clusters_max * b.cluster_size;
    s.metadata_percent = static_cast<std::uint32_t>(divide_up(b.metadata_pages * 100, b.clusters));
    s.metadata_page_size = b.metadata_page_size;
    return s;
}

}  // namespace

task<std::vector<lvstore_status>> lvol_stores::stores() {
    std::vector<lvstore_status> all;
    const std::vector<store_ptr> present = stores_;
    for (const store_ptr& each : present) {
        if (!each->users.enter()) continue;
        const lvol_hold hold(each);
        const blobstore_status now = co_await each->blobs.status();
        all.push_back(status_of(*each, now));
    }
    co_return all;
}

std::optional<lvstore_status> lvol_stores::store_as_loaded(std::string_view name) const {
    const store_ptr found = find_store(name);
    if (found == nullptr) return std::nullopt;
    return status_of(*found, found->geometry);
}

// --- Found --------------------------------------------------------------------------------------

task<void> lvol_stores::examine(bdev& device) {
    const bdev_attributes& a = device.attributes();
    std::string name = a.name;
    std::string id = a.id.to_string();
    const bool suits = !a.is_zoned() && a.metadata_size == 0 && a.write_unit.value() == 1 &&
                       device.supports(opcode::read) && device.claimed() == claim::none;
    bool read_through = co_await reopen(std::move(id), true);
    if (read_through || !suits) co_return;
    bool ours = co_await looks_like_a_store(registry_, name);
    if (!ours) co_return;
    outcome<> loaded = co_await load(name);
    if (!loaded)
        log::error("lvol", fmt::format("{}: its logical volume store is left alone: {}", name,
                                       loaded.error().message));
}

task<outcome<>> lvol_stores::load(std::string base) {
    outcome<bdev_desc> desc = claim_base(registry_, base);
    if (!desc) co_return fail(std::move(desc.error()));
    blobstore_load_options options;
    options.type = std::string(detail::store_type);
    options.external = [this](std::string_view identifier) { return open_external(identifier); };
    options.missing_external = true;
    outcome<blobstore> blobs =
        co_await blobstore::load(registry_, std::move(*desc), std::move(options));
    if (!blobs) co_return fail(std::move(blobs.error()));
    auto store = std::make_shared<lvol_store>();
    store->base = std::move(base);
    store->blobs = std::move(*blobs);
    outcome<> done = co_await read_store(*store);
    if (done && has_store(store->name))
        done = fail(EEXIST, fmt::format("there is a store named {} already", store->name));
    if (done && name_of_store(store->uuid.to_string()))
        done = fail(EEXIST, fmt::format("store {} is there already, with this UUID", store->name));
    if (done) {
        keep(store);
        done = co_await read_volumes(store);
        if (done) co_return done;
        co_await close_store(store);
        co_return done;
    }
    outcome<> unloaded = co_await store->blobs.unload();
    (void)unloaded;  // nothing was written
    co_return done;
}

void lvol_stores::keep(const store_ptr& store) {
    stores_.push_back(store);
    store->blobs.set_removal_listener(
        [this, weak = std::weak_ptr<lvol_store>(store)] { return close_store(weak.lock()); });
}

/// What the super blob says.
task<outcome<>> lvol_stores::read_store(lvol_store& store) {
    store.geometry = co_await store.blobs.status();
    outcome<blob_id> super = co_await store.blobs.super_blob();
    if (!super) co_return fail(ENODEV, store.base + ": no super blob is set");
    store.super = *super;
    outcome<blob> opened = co_await store.blobs.open(*super);
    if (!opened) co_return fail(std::move(opened.error()));
    const blob_status s = opened->current_status();
    co_await opened->close();
    store.uuid = detail::uuid_of(s);
    if (store.uuid.is_null())
        co_return fail(EINVAL, store.base +
                                   ": super blob: attribute \"uuid\" is missing, or no "
                                   "UUID");
    outcome<std::string> name = detail::name_of(s, store.base + ": super blob");
    if (!name) co_return fail(std::move(name.error()));
    if (name->empty()) co_return fail(EINVAL, store.base + ": super blob: the name is empty");
    store.name = std::move(*name);
    co_return outcome<>();
}

task<outcome<>> lvol_stores::read_volumes(store_ptr store) {
    if (!store->users.enter()) co_return fail(ENODEV, store->base + ": is going away");
    const lvol_hold hold(store);
    const std::vector<blob_id> ids = co_await store->blobs.list();
    for (const blob_id id : ids) {
        if (id == store->super) continue;
        outcome<blob> opened = co_await store->blobs.open(id);
        if (!opened) {
            log::error("lvol", fmt::format("{}: a volume is left out: {}", store->name,
                                           opened.error().message));
            continue;
        }
        const blob_status s = opened->current_status();
        outcome<std::string> name = detail::name_of(s, store->base);
        if (!name) {
            co_await opened->close();
            co_return fail(std::move(name.error()));
        }
        auto volume = std::make_shared<lvol>(*store, id, std::move(*name), detail::uuid_of(s));
        volume->degraded = s.degraded;
        volume->handle = std::move(*opened);
        store->volumes.push_back(std::move(volume));
    }
    const std::vector<lvol_ptr> all = store->volumes;
    for (const lvol_ptr& volume : all) {
        outcome<> shown = co_await show(volume);
        if (!shown)
            log::error("lvol",
                       fmt::format("{}: has no bdev: {}", volume->alias(), shown.error().message));
    }
    co_return outcome<>();
}

// --- Made ---------------------------------------------------------------------------------------

outcome<> lvol_stores::check_new_store(std::string_view base, const lvstore_options& o) const {
    if (o.name.empty() || o.name.size() > name_bytes_max)
        return fail(EINVAL, fmt::format("store name \"{}\": must have 1 to {} bytes", o.name,
                                        name_bytes_max));
    const std::uint32_t page = o.metadata_page_size;
    if (page != 0 && (page < 4096 || page > 65536 || !is_power_of_two(page)))
        return fail(EINVAL, fmt::format("{}: metadata pages of {} bytes; a power of two from 4096 "
                                        "to 65536 is possible",
                                        o.name, page));
    bdev* const device = registry_.find(base);
    if (device == nullptr) return fail(ENODEV, fmt::format("{}: no such bdev", base));
    if (device->claimed() != claim::none)
        return fail(EPERM, fmt::format("{}: {} holds it; a store needs a bdev of its own", base,
                                       name_of(device->claimed())));
    const std::uint64_t block = device->block_size().value();
    if (o.cluster_size != 0 && (o.cluster_size < block || o.cluster_size % block != 0))
        return fail(EINVAL, fmt::format("{}: clusters of {} bytes are no multiple of the bdev's "
                                        "blocks of {}",
                                        o.name, o.cluster_size, block));
    if (has_store(o.name) || std::ranges::count(names_to_come_, o.name) != 0 ||
        std::ranges::count(stores_, o.name, [](const auto& s) { return s->next_name; }) != 0)
        return fail(EEXIST, fmt::format("{}: there is a logical volume store of this name; choose "
                                        "another",
                                        o.name));
    return {};
}

task<outcome<uuid>> lvol_stores::create_store(std::string base, lvstore_options o) {
    outcome<> ok = check_new_store(base, o);
    if (!ok) co_return fail(std::move(ok.error()));
    const name_to_come reserved(names_to_come_, o.name);
    outcome<bdev_desc> desc = claim_base(registry_, base);
    if (!desc) co_return fail(std::move(desc.error()));
    blobstore_options how;
    if (o.cluster_size == 0) o.cluster_size = lvstore_options().cluster_size;
    if (o.metadata_percent == 0) o.metadata_percent = lvstore_options().metadata_percent;
    const std::uint64_t clusters = desc->device().size().value() / o.cluster_size;
    how.cluster_size = o.cluster_size;
    how.metadata_pages = clusters * o.metadata_percent / 100;
    how.metadata_page_size = o.metadata_page_size;
    how.type = std::string(detail::store_type);
    how.clear = o.clear;
    const std::string base_name = desc->device().name();
    outcome<blobstore> blobs =
        co_await blobstore::init(registry_, std::move(*desc), std::move(how));
    if (!blobs) co_return fail(std::move(blobs.error()));
    auto store = std::make_shared<lvol_store>();
    store->base = base_name;
    store->name = o.name;
    store->uuid = new_uuid();
    store->blobs = std::move(*blobs);
    store->blobs.set_external_opener(
        [this](std::string_view identifier) { return open_external(identifier); }, true);
    // While the base goes away under it, it is not in the list yet.
    bool leaving = false;
    store->blobs.set_removal_listener([&leaving]() -> task<void> { return note_leaving(leaving); });
    outcome<> done = co_await write_super(*store);
    store->geometry = co_await store->blobs.status();
    if (done && !leaving) {
        keep(store);
        co_return store->uuid;
    }
    if (done) done = fail(ENODEV, base_name + ": is going away");
    outcome<> unloaded = co_await store->blobs.destroy();
    if (!unloaded) unloaded = co_await store->blobs.unload();
    co_return fail(std::move(done.error()));
}

task<outcome<>> lvol_stores::write_super(lvol_store& store) {
    blob_options o;
    o.xattrs.push_back({"uuid", detail::uuid_value(store.uuid)});
    o.xattrs.push_back({"name", store.name + '\0'});
    outcome<blob_id> super = co_await store.blobs.create(std::move(o));
    if (!super) co_return fail(std::move(super.error()));
    store.super = *super;
    outcome<> set = co_await store.blobs.set_super_blob(*super);
    co_return set;
}

// --- Renamed, grown -----------------------------------------------------------------------------

task<outcome<>> lvol_stores::rename_store(std::string name, std::string new_name) {
    outcome<lvol_hold> hold = take_store(name);
    if (!hold) co_return fail(std::move(hold.error()));
    lvol_store& store = *hold->store();
    if (name == new_name) co_return outcome<>();
    if (new_name.empty() || new_name.size() > name_bytes_max)
        co_return fail(EINVAL, fmt::format("store name \"{}\": must have 1 to {} bytes", new_name,
                                           name_bytes_max));
    const auto taken = [&](const store_ptr& s) {
        return s->name == new_name || s->next_name == new_name;
    };
    if (std::ranges::any_of(stores_, taken) || std::ranges::count(names_to_come_, new_name) != 0)
        co_return fail(EEXIST, fmt::format("{}: there is a logical volume store of this name; "
                                           "choose another",
                                           new_name));
    if (!store.next_name.empty())
        co_return fail(EBUSY, fmt::format("{}: is being renamed to {}", name, store.next_name));
    store.next_name = new_name;
    outcome<blob> super = co_await store.blobs.open(store.super);
    outcome<> done;
    if (super) {
        std::string value = new_name + '\0';
        done = co_await super->set_xattr("name", std::move(value));
        if (done) done = co_await super->sync();
        if (!done) {
            std::string old = name + '\0';
            outcome<> back = co_await super->set_xattr("name", std::move(old));
            if (back) back = co_await super->sync();
        }
        co_await super->close();
    } else {
        done = fail(std::move(super.error()));
    }
    store.next_name.clear();
    if (!done) co_return done;
    store.name = std::move(new_name);
    for (const lvol_ptr& v : store.volumes) {
        if (v->device == nullptr) continue;
        std::vector<std::string> aliases(1, v->alias());
        outcome<> renamed = registry_.set_aliases(*v->device, std::move(aliases));
        if (!renamed) log::error("lvol", renamed.error().message);
    }
    co_return done;
}

task<outcome<>> lvol_stores::grow_store(std::string name) {
    outcome<lvol_hold> hold = take_store(name);
    if (!hold) co_return fail(std::move(hold.error()));
    outcome<> grown = co_await hold->store()->blobs.grow();
    co_return grown;
}

// --- Deleted, unloaded --------------------------------------------------------------------------

task<void> lvol_stores::close_volumes(lvol_store& store) {
    store.closing = true;
    store.copies.request_stop();
    while (true) {
        result<> empty = co_await store.users.close();
        if (empty || store.users.inside() == 0) break;
        co_await yield();
    }
    while (store.copies.running() != 0) {
        result<> joined = co_await store.copies.join();
        if (!joined && store.copies.running() != 0) co_await yield();
    }
    for (std::size_t i = store.volumes.size(); i-- > 0;) {
        lvol_ptr volume = store.volumes[i];
        co_await hide(volume);
        co_await volume->handle.close();
    }
}

/// Nothing is lost: what could be written is, and the base is left alone.
task<void> lvol_stores::close_store(store_ptr store) {
    if (store == nullptr) co_return;
    if (store->closing) {
        while (!store->gone.is_set()) {
            result<> waited = co_await store->gone.wait();
            if (!waited) co_await yield();
        }
        co_return;
    }
    co_await close_volumes(*store);
    outcome<> unloaded = co_await store->blobs.unload();
    while (store->blobs.is_loaded()) {
        co_await yield();  // lack of memory delays
        unloaded = co_await store->blobs.unload();
    }
    if (!unloaded) log::error("lvol", fmt::format("{}: {}", store->name, unloaded.error().message));
    std::erase(stores_, store);
    store->gone.set();
}

task<outcome<>> lvol_stores::delete_store(std::string name) {
    const store_ptr store = find_store(name);
    if (store == nullptr || store->closing)
        co_return fail(ENODEV, fmt::format("{}: no such logical volume store; "
                                           "bdev_lvol_get_lvstores lists those that exist",
                                           name));
    co_await close_volumes(*store);
    // Leaves first, so that what they had is cleared as each of them asks for.
    for (bool some = true; some;) {
        some = false;
        for (std::size_t i = store->volumes.size(); i-- > 0;) {
            outcome<> removed = co_await store->blobs.remove(store->volumes[i]->id);
            if (!removed) continue;
            store->volumes.erase(store->volumes.begin() + static_cast<std::ptrdiff_t>(i));
            some = true;
        }
    }
    outcome<> done = co_await store->blobs.destroy();
    while (store->blobs.is_loaded()) {
        outcome<> unloaded = co_await store->blobs.unload();
        if (!unloaded)
            co_await yield();  // lack of memory delays; the first error is the one to tell
    }
    std::erase(stores_, store);
    store->gone.set();
    co_return done;
}

}  // namespace nacre
