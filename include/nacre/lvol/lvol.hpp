// SPDX-License-Identifier: BSD-3-Clause
//
// Logical volumes: blobs of a blobstore as bdevs, in SPDK's format; docs/lvol.md is the essay.
//
//     lvol_stores& stores = lvol_stores::of(registry);
//     outcome<uuid> made = co_await stores.create_store("disk", options);
//     outcome<std::string> name = co_await stores.create("lvs0", lvol_options{…});   // a bdev
//
// A store is found by examine when its bdev appears, and unloaded when that goes. A volume is named
// by its bdev, by its UUID or as "store/volume". Of the registry's home thread. What a call says it
// did is durable. EBUSY: something else is being done to the volume; ENODEV: there is no such store
// or volume, or it is degraded (the external snapshot that it reads through is not there).
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nacre/blob/blobstore.hpp"

namespace nacre {

namespace detail {
struct lvol;
struct lvol_store;
class lvol_hold;
class external_watch;
struct shallow_copy_run;
}  // namespace detail

struct lvstore_options {
    std::string name;                       ///< 1 to 63 bytes
    std::uint32_t cluster_size = 4U << 20;  ///< bytes; 0: that, too
    clear_method clear = clear_method::unmap;
    std::uint32_t metadata_percent = 100;  ///< metadata pages for 100 clusters; 0: 100
    std::uint32_t metadata_page_size = 0;  ///< as of a blobstore; a power of two to 64 KiB
};

struct lvstore_status {
    nacre::uuid uuid;
    std::string name;
    std::string base;
    std::uint64_t data_clusters = 0;
    std::uint64_t free_clusters = 0;
    std::uint32_t block_size = 0;
    std::uint32_t cluster_size = 0;
    std::uint64_t size_max = 0;  ///< bytes that it can be grown to
    std::uint32_t metadata_percent = 0;
    std::uint32_t metadata_page_size = 0;
};

struct lvol_options {
    std::string name;         ///< 1 to 63 bytes, the only one in its store
    std::uint64_t bytes = 0;  ///< rounded up to clusters
    bool thin = false;
    clear_method clear = clear_method::by_default;
};

struct lvol_status {
    std::string bdev_name;  ///< also of a degraded one, which has no bdev
    std::string uuid;       ///< empty: it has none
    std::string name;
    std::string store;
    nacre::uuid store_uuid;
    bool degraded = false;
    std::string base_snapshot;  ///< name of the volume that it is a clone of
    std::vector<std::string> clones;
    blob_status blob;
};

struct shallow_copy_status {
    std::uint64_t copied = 0;  ///< clusters
    std::uint64_t all = 0;
    bool ended = false;
    error failed{};
};

class lvol_stores final : public bdev_registry::examiner {
public:
    static constexpr std::size_t name_bytes_max = 63;

    explicit lvol_stores(bdev_registry& registry) noexcept;
    ~lvol_stores() override;
    [[nodiscard]] static lvol_stores& of(bdev_registry& registry) {
        return registry.examiner_of<lvol_stores>();
    }
    /// Loads the store that is on the bdev; ends the wait of volumes whose external snapshot it is.
    task<void> examine(bdev& device) override;

    /// What create_store refuses before it writes.
    [[nodiscard]] outcome<> check_new_store(std::string_view base, const lvstore_options& o) const;
    /// Whatever the bdev held is lost. EEXIST: a store has this name.
    [[nodiscard]] task<outcome<uuid>> create_store(std::string base, lvstore_options options);
    [[nodiscard]] task<outcome<>> rename_store(std::string name, std::string new_name);
    /// With all its volumes.
    [[nodiscard]] task<outcome<>> delete_store(std::string name);
    /// Takes all of a bdev that has become larger. ENOSPC: beyond size_max.
    [[nodiscard]] task<outcome<>> grow_store(std::string name);
    [[nodiscard]] std::optional<std::string> name_of_store(std::string_view uuid_text) const;
    [[nodiscard]] bool has_store(std::string_view name) const {
        return find_store(name) != nullptr;
    }
    /// In the order in which they appeared.
    [[nodiscard]] task<std::vector<lvstore_status>> stores();
    /// One of them as it was loaded; what was free then.
    [[nodiscard]] std::optional<lvstore_status> store_as_loaded(std::string_view name) const;

    /// EINVAL, EEXIST.
    [[nodiscard]] outcome<> check_new_name(std::string_view store, std::string_view name) const;
    /// These four answer with the name of the new bdev.
    [[nodiscard]] task<outcome<std::string>> create(std::string store, lvol_options options);
    [[nodiscard]] task<outcome<std::string>> snapshot(std::string volume, std::string name);
    [[nodiscard]] task<outcome<std::string>> clone(std::string snapshot, std::string name);
    /// EINVAL: the bdev's size is no multiple of the clusters', or it is a volume of this store.
    [[nodiscard]] task<outcome<std::string>> clone_bdev(std::string store, std::string base,
                                                        std::string name);
    [[nodiscard]] task<outcome<>> rename(std::string volume, std::string name);
    [[nodiscard]] task<outcome<>> resize(std::string volume, std::uint64_t bytes);
    [[nodiscard]] task<outcome<>> set_read_only(std::string volume);
    [[nodiscard]] task<outcome<>> inflate(std::string volume);
    [[nodiscard]] task<outcome<>> decouple_parent(std::string volume);
    [[nodiscard]] task<outcome<>> set_parent(std::string volume, std::string snapshot);
    [[nodiscard]] task<outcome<>> set_parent_bdev(std::string volume, std::string base);
    /// EPERM: several clones read through it. A degraded one can be removed.
    [[nodiscard]] task<outcome<>> remove(std::string volume);

    /// An identifier for its status; the copy goes on by itself.
    [[nodiscard]] outcome<std::uint32_t> start_shallow_copy(std::string volume, std::string to);
    /// Once it has ended it is forgotten.
    [[nodiscard]] outcome<shallow_copy_status> check_shallow_copy(std::uint32_t id);

    /// Of a store, or all; in the order of their identifiers as loaded, then as made.
    [[nodiscard]] std::vector<lvol_status> volumes(std::string_view store = {}) const;
    [[nodiscard]] std::optional<lvol_status> status(std::string_view volume) const;

private:
    friend class detail::external_watch;
    using store_ptr = std::shared_ptr<detail::lvol_store>;
    using lvol_ptr = std::shared_ptr<detail::lvol>;

    // stores.cpp
    [[nodiscard]] store_ptr find_store(std::string_view name) const;
    [[nodiscard]] task<outcome<>> load(std::string base);
    [[nodiscard]] task<outcome<>> read_store(detail::lvol_store& store);
    [[nodiscard]] task<outcome<>> read_volumes(store_ptr store);
    void keep(const store_ptr& store);
    [[nodiscard]] task<outcome<>> write_super(detail::lvol_store& store);
    task<void> close_store(store_ptr store);
    task<void> close_volumes(detail::lvol_store& store);
    [[nodiscard]] uuid new_uuid() const;

    // volumes.cpp
    [[nodiscard]] lvol_ptr find_volume(std::string_view name) const;
    [[nodiscard]] outcome<detail::lvol_hold> take_store(std::string_view name);
    [[nodiscard]] outcome<detail::lvol_hold> take(std::string_view volume, const char* what,
                                                  bool degraded_too = false);
    [[nodiscard]] outcome<> check_name(const detail::lvol_store& store,
                                       std::string_view name) const;
    [[nodiscard]] task<outcome<std::string>> adopt(store_ptr store, blob_id id, std::string name,
                                                   nacre::uuid id_of_bdev);
    [[nodiscard]] task<outcome<>> show(lvol_ptr volume);
    task<void> hide(lvol_ptr volume);
    task<void> run_copy(std::shared_ptr<detail::shallow_copy_run> run);

    // external.cpp
    [[nodiscard]] outcome<bdev_desc> open_external(std::string_view identifier);
    [[nodiscard]] task<bool> reopen(std::string identifier, bool come_back);
    [[nodiscard]] task<bool> reopen_in(store_ptr store, std::string identifier, bool come_back);
    task<void> reopen_volume(lvol_ptr volume);

    bdev_registry& registry_;
    std::vector<store_ptr> stores_;
    std::vector<std::string> names_to_come_;  // of stores that are being made
    std::map<std::string, std::unique_ptr<detail::external_watch>, std::less<>> watches_;
    std::map<std::uint32_t, std::shared_ptr<detail::shallow_copy_run>> copies_;
    std::uint32_t copies_begun_ = 0;
};

}  // namespace nacre
