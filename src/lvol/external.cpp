// SPDX-License-Identifier: BSD-3-Clause
//
// External snapshots: bdevs that come and go. A volume that reads through one that is not there is
// degraded; it is opened anew when that appears.
#include <fmt/format.h>

#include <algorithm>

#include "nacre/core/log.hpp"
#include "nacre/runtime/sleep.hpp"
#include "store.hpp"

namespace nacre {

using detail::external_watch;
using detail::lvol;
using detail::lvol_hold;
using detail::lvol_store;

namespace {

std::string_view text_of(std::string_view identifier) {
    return identifier.substr(0, identifier.find('\0'));
}

/// Whether it reads through the external snapshot, by itself or by way of others.
bool reads_through(const lvol& volume, std::string_view identifier) {
    const lvol* v = &volume;
    for (std::size_t steps = 0; v != nullptr && steps <= volume.store.volumes.size(); ++steps) {
        if (!v->handle.is_open()) return false;
        const blob_status s = v->handle.current_status();
        if (s.external) return text_of(*s.external) == identifier;
        v = volume.store.find(s.parent).get();
    }
    return false;
}

}  // namespace

/// For the blobstore: nobody writes it while it is read through.
outcome<bdev_desc> lvol_stores::open_external(std::string_view identifier) {
    const result<uuid> id = identifier.size() == uuid::text_size + 1 && identifier.back() == '\0'
                                ? uuid::parse(text_of(identifier))
                                : fail(EINVAL);
    if (!id) return fail(EINVAL, "its identifier is no UUID");
    const std::string name = id->to_string();
    outcome<bdev_desc> desc = registry_.open(name, access::read);
    if (!desc) return desc;
    outcome<> claimed = desc->take_claim(claim::read_many_write_none, "lvol");
    if (!claimed) return fail(std::move(claimed.error()));
    if (!watches_.contains(name)) {
        outcome<bdev_desc> watched = registry_.open(name, access::read);
        if (!watched) return watched;
        watches_.emplace(name, std::make_unique<external_watch>(*this, name, std::move(*watched)));
    }
    return desc;
}

task<void> external_watch::base_removed(bdev&) {
    lvol_stores& stores = stores_;
    const std::string identifier = identifier_;
    // A device that appears with the same UUID is watched anew.
    const std::unique_ptr<external_watch> self = std::move(stores.watches_[identifier]);
    stores.watches_.erase(identifier);
    bool some = co_await stores.reopen(identifier, false);
    (void)some;
}

/// All volumes that read through it, or with `come_back` those of them that are degraded. False:
/// there are none.
task<bool> lvol_stores::reopen(std::string identifier, bool come_back) {
    const auto wanted = [&](const store_ptr& s) {
        return std::ranges::any_of(s->volumes, [&](const lvol_ptr& v) {
            return (!come_back || v->degraded) && reads_through(*v, identifier);
        });
    };
    if (!std::ranges::any_of(stores_, wanted)) co_return false;
    bool some = false;
    const std::vector<store_ptr> present = stores_;
    for (const store_ptr& store : present) {
        bool here = co_await reopen_in(store, identifier, come_back);
        some = some || here;
    }
    co_return some;
}

task<bool> lvol_stores::reopen_in(store_ptr store, std::string identifier, bool come_back) {
    if (!store->users.enter()) co_return false;
    const lvol_hold hold(store);
    std::vector<lvol_ptr> dependent;
    for (const lvol_ptr& v : store->volumes)
        if ((!come_back || v->degraded) && reads_through(*v, identifier)) dependent.push_back(v);
    // In the order of the list, as everybody who waits for more than one.
    for (const lvol_ptr& v : dependent) {
        while (v->busy != nullptr) {
            result<> free = co_await v->freed.wait();
            if (!free) co_await yield();
        }
        v->busy = "the change of its external snapshot";
    }
    // All of them at once, so that nothing keeps the old one open.
    std::erase_if(dependent, [](const lvol_ptr& v) {
        if (v->handle.is_open()) return false;
        v->busy = nullptr;
        return true;
    });
    for (const lvol_ptr& v : dependent) {
        co_await hide(v);
        co_await v->handle.close();
    }
    for (const lvol_ptr& v : dependent) co_await reopen_volume(v);
    for (const lvol_ptr& v : dependent) {
        v->busy = nullptr;
        v->freed.notify_all();
    }
    co_return !dependent.empty();
}

task<void> lvol_stores::reopen_volume(lvol_ptr volume) {
    outcome<blob> opened = co_await volume->store.blobs.open(volume->id);
    outcome<> shown;
    if (opened) {
        volume->handle = std::move(*opened);
        shown = co_await show(volume);
    } else {
        shown = fail(std::move(opened.error()));
        std::erase(volume->store.volumes, volume);
    }
    if (!shown) log::error("lvol", fmt::format("{}: {}", volume->alias(), shown.error().message));
}

}  // namespace nacre
