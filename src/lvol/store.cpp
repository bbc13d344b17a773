// SPDX-License-Identifier: BSD-3-Clause
#include "store.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "nacre/core/bytes.hpp"

namespace nacre::detail {

std::string name_value(std::string_view name) {
    std::string value(name);
    value.resize(name_bytes);
    return value;
}

std::string uuid_value(const uuid& id) {
    std::string value = id.to_string();
    value.push_back('\0');
    return value;
}

std::vector<blob_xattr> volume_xattrs(std::string_view name, const uuid& id) {
    std::vector<blob_xattr> xattrs;
    xattrs.push_back({"name", name_value(name)});
    xattrs.push_back({"uuid", uuid_value(id)});
    return xattrs;
}

namespace {

const std::string* find_xattr(const blob_status& blob, std::string_view name) {
    const auto found = std::ranges::find(blob.xattrs, name, &blob_xattr::name);
    return found == blob.xattrs.end() ? nullptr : &found->value;
}

}  // namespace

outcome<std::string> name_of(const blob_status& blob, std::string_view what) {
    const std::string* value = find_xattr(blob, "name");
    if (value == nullptr)
        return fail(EINVAL,
                    fmt::format("{}: blob {} has no attribute \"name\"", what, to_string(blob.id)));
    if (value->size() > name_bytes)
        return fail(EINVAL, fmt::format("{}: blob {}: attribute \"name\" has {} bytes; at most {} "
                                        "are a name",
                                        what, to_string(blob.id), value->size(), name_bytes));
    return value->substr(0, value->find('\0'));
}

uuid uuid_of(const blob_status& blob) {
    const std::string* value = find_xattr(blob, "uuid");
    if (value == nullptr || value->size() != uuid::text_size + 1 || value->back() != '\0')
        return {};
    const result<uuid> parsed = uuid::parse(std::string_view(*value).substr(0, uuid::text_size));
    return parsed ? *parsed : uuid();
}

std::string lvol::bdev_name() const {
    if (!uuid.is_null()) return uuid.to_string();
    return fmt::format("{}_{}", store.uuid.to_string(), static_cast<std::uint64_t>(id));
}

std::string lvol::alias() const { return store.name + "/" + name; }

lvol_status lvol::status() const {
    lvol_status s;
    s.bdev_name = bdev_name();
    if (!uuid.is_null()) s.uuid = uuid.to_string();
    s.name = name;
    s.store = store.name;
    s.store_uuid = store.uuid;
    s.degraded = degraded;
    if (!handle.is_open()) return s;
    s.blob = handle.current_status();
    if (const std::shared_ptr<lvol> parent = store.find(s.blob.parent))
        s.base_snapshot = parent->name;
    for (const blob_id clone : s.blob.clones)
        if (const std::shared_ptr<lvol> found = store.find(clone)) s.clones.push_back(found->name);
    return s;
}

std::shared_ptr<lvol> lvol_store::find(blob_id id) const {
    const auto found = std::ranges::find(volumes, id, [](const auto& v) { return v->id; });
    return found == volumes.end() ? nullptr : *found;
}

std::uint64_t lvol_store::clusters_of(std::uint64_t bytes) const noexcept {
    return divide_up(bytes, std::uint64_t{geometry.cluster_size});
}

lvol_hold::~lvol_hold() {
    if (store_ == nullptr) return;
    if (volume_ != nullptr) {
        volume_->busy = nullptr;
        volume_->freed.notify_all();
    }
    volume_.reset();
    store_->users.leave();
}

}  // namespace nacre::detail
