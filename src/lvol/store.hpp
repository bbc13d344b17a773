// SPDX-License-Identifier: BSD-3-Clause
//
// A loaded store and its volumes in memory. Home thread.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "nacre/bdev/layer_bdev.hpp"
#include "nacre/lvol/lvol.hpp"
#include "nacre/runtime/scope.hpp"
#include "nacre/runtime/sync.hpp"

namespace nacre::detail {

inline constexpr std::string_view store_type = "LVOLSTORE";
/// Value of "name" as a new volume gets it.
inline constexpr std::size_t name_bytes = lvol_stores::name_bytes_max + 1;

[[nodiscard]] std::string name_value(std::string_view name);
[[nodiscard]] std::string uuid_value(const uuid& id);
[[nodiscard]] std::vector<blob_xattr> volume_xattrs(std::string_view name, const uuid& id);
/// EINVAL: it has none, or one that is too long.
[[nodiscard]] outcome<std::string> name_of(const blob_status& blob, std::string_view what);
/// Null: it has none, or no good one.
[[nodiscard]] uuid uuid_of(const blob_status& blob);

class lvol_bdev;

struct lvol {
    lvol(lvol_store& s, blob_id i, std::string n, const nacre::uuid& u)
        : store(s), id(i), name(std::move(n)), uuid(u) {}
    lvol_store& store;
    const blob_id id;
    std::string name;
    const nacre::uuid uuid;
    blob handle;                  ///< closed for moments only, while it is busy
    lvol_bdev* device = nullptr;  ///< while it is registered
    bool degraded = false;
    const char* busy = nullptr;  ///< what is being done to it
    condition freed;

    [[nodiscard]] std::string bdev_name() const;
    [[nodiscard]] std::string alias() const;
    [[nodiscard]] lvol_status status() const;
};

struct lvol_store {
    nacre::uuid uuid;
    std::string name;
    std::string base;
    std::string next_name{};  ///< while it is being renamed
    blobstore blobs;
    blobstore_status geometry;  ///< of when it was loaded: sizes
    blob_id super = blob_id::none;
    std::vector<std::shared_ptr<lvol>> volumes;
    std::vector<std::string> names_to_come;  ///< of volumes that are being made
    gate users;
    bool closing = false;
    event gone;
    scope copies;

    [[nodiscard]] std::shared_ptr<lvol> find(blob_id id) const;
    [[nodiscard]] std::uint64_t clusters_of(std::uint64_t bytes) const noexcept;
};

/// While it is held, its store stays loaded, and nobody else does anything to its volume.
class lvol_hold {
public:
    explicit lvol_hold(std::shared_ptr<lvol_store> store) noexcept : store_(std::move(store)) {}
    lvol_hold(std::shared_ptr<lvol_store> store, std::shared_ptr<lvol> volume,
              const char* what) noexcept
        : store_(std::move(store)), volume_(std::move(volume)) {
        volume_->busy = what;
    }
    lvol_hold(lvol_hold&& o) noexcept = default;
    lvol_hold& operator=(lvol_hold&&) = delete;
    ~lvol_hold();
    [[nodiscard]] const std::shared_ptr<lvol_store>& store() const noexcept { return store_; }
    [[nodiscard]] const std::shared_ptr<lvol>& volume() const noexcept { return volume_; }

private:
    std::shared_ptr<lvol_store> store_;
    std::shared_ptr<lvol> volume_;
};

/// A name that is taken before what it names is there.
class name_to_come {
public:
    name_to_come(std::vector<std::string>& names, std::string name)
        : names_(names), name_(std::move(name)) {
        names_.push_back(name_);
    }
    name_to_come(const name_to_come&) = delete;
    name_to_come& operator=(const name_to_come&) = delete;
    ~name_to_come() { names_.erase(std::ranges::find(names_, name_)); }

private:
    std::vector<std::string>& names_;
    std::string name_;
};

/// The blob's own bdev with a name: address-identical, so its channel forwards.
class lvol_bdev final : public layer_bdev {
public:
    /// Of the volume's blob; ENODEV, EINVAL.
    [[nodiscard]] static outcome<std::shared_ptr<lvol_bdev>> make(
        bdev_registry& registry, const std::shared_ptr<lvol>& volume);
    lvol_bdev(bdev_attributes attributes, bdev_registry& registry, bdev_desc base,
              const std::shared_ptr<lvol>& volume)
        : layer_bdev(std::move(attributes), registry, std::move(base)), volume_(volume) {}

    outcome<std::unique_ptr<module_channel>> make_channel() override;
    task<void> close() override;
    json::value information() const override;
    void make_read_only() noexcept;

private:
    std::weak_ptr<lvol> volume_;
};

/// Tells the volumes that read through a bdev when it goes.
class external_watch final : public bdev_listener {
public:
    external_watch(lvol_stores& stores, std::string identifier, bdev_desc desc)
        : stores_(stores), identifier_(std::move(identifier)), desc_(std::move(desc)) {
        desc_.set_listener(this);
    }
    task<void> base_removed(bdev& base) override;

private:
    lvol_stores& stores_;
    std::string identifier_;
    bdev_desc desc_;
};

struct shallow_copy_run {
    shallow_copy_run(lvol_hold from, std::string target)
        : source(std::move(from)), to(std::move(target)) {}
    std::optional<lvol_hold> source;  ///< until it runs
    std::string to;
    copy_progress progress{};
    bool ended = false;
    error failed{};
};

}  // namespace nacre::detail
