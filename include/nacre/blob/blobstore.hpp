// SPDX-License-Identifier: BSD-3-Clause
//
// blobstore: blobs on a block device, in SPDK's disk format; docs/blobstore.md is the essay.
//
//     blobstore_load_options options;
//     outcome<blobstore> store = co_await blobstore::load(registry, std::move(desc), options);
//     outcome<blob> b = co_await store->open(id);
//     outcome<bdev_channel> channel = b->open_channel();
//     result<> written = co_await channel->write(lba(0), data);   // in io units
//
// Any thread of the runtime may call anything but init and load, which are the registry's home
// thread's; metadata is changed on that thread. What a call that changes something says it did is
// durable when it returns; attributes are changed in memory and become durable together by
// sync(), or with the next change() or resize(). A crash leaves each call done or undone. ENOSPC:
// no cluster or metadata page was free; what the call had taken is given back. EROFS: the store
// was loaded, or the blob is, read-only. EIO and the like: what was to be written may be there or
// not after a crash, nothing else is hurt.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nacre/bdev/registry.hpp"

namespace nacre {

namespace detail {
class blob_engine;
struct blob_node;
}  // namespace detail

/// Root page's index in the low half, bit 32 set.
enum class blob_id : std::uint64_t { none = UINT64_MAX };
/// "0x100000003".
[[nodiscard]] std::string to_string(blob_id id);

/// How clusters that become free are cleared. Values as on disk.
enum class clear_method : std::uint8_t { by_default = 0, none = 1, unmap = 2, write_zeroes = 3 };

struct blob_xattr {
    using may_cross_threads = void;
    std::string name;
    std::string value;  // any bytes
    bool operator==(const blob_xattr&) const = default;
};

struct blobstore_options {
    using may_cross_threads = void;
    std::uint32_t cluster_size = 1U << 20;     ///< bytes; a multiple of 4096
    std::uint64_t metadata_pages = 0;          ///< 0: one for each cluster
    std::uint32_t metadata_page_size = 0;      ///< bytes; 0: 4096 or the physical block, if larger
    std::string type{};                        ///< at most 16 bytes
    clear_method clear = clear_method::unmap;  ///< of the data area
};

/// Of a load that takes long: how far it is, in metadata pages looked at. Home thread.
using load_progress = std::function<void(std::uint64_t done, std::uint64_t all)>;
/// Opens the bdev that an external snapshot's identifier names. Home thread.
using external_opener = std::function<outcome<bdev_desc>(std::string_view identifier)>;

struct blobstore_load_options {
    std::optional<std::string> type{};  ///< absent: any
    bool read_only = false;             ///< writes nothing, repairs in memory only
    bool recover = false;               ///< as if it had not been unloaded
    bool grow = false;                  ///< takes all of a base that has become larger
    load_progress progress{};
    external_opener external{};     ///< absent: the identifier is a bdev's name, alias or UUID
    bool missing_external = false;  ///< see blobstore::set_external_opener
};

struct blobstore_status {
    using may_cross_threads = void;
    std::uint32_t version = 3;
    std::uint32_t cluster_size = 0;  ///< bytes
    std::uint32_t io_unit_size = 0;  ///< bytes
    std::uint32_t metadata_page_size = 0;
    std::uint64_t size = 0;  ///< bytes
    std::uint64_t clusters = 0;
    std::uint64_t clusters_max = 0;  ///< that it can be grown to
    std::uint64_t data_clusters = 0;
    std::uint64_t free_clusters = 0;
    std::uint64_t metadata_pages = 0;
    std::uint64_t free_metadata_pages = 0;
    std::uint64_t blobs = 0;
    blob_id super_blob = blob_id::none;
    std::string type{};
    bool read_only = false;
    bool recovered = false;               ///< it was not unloaded before this load
    std::vector<std::string> findings{};  ///< what was wrong and, unless read-only, repaired
};

struct blob_status {
    using may_cross_threads = void;
    blob_id id = blob_id::none;
    std::uint64_t clusters = 0;
    std::uint64_t allocated_clusters = 0;
    bool thin = false;
    bool read_only = false;
    bool snapshot = false;  ///< others read through it
    bool degraded = false;  ///< the external snapshot that it reads through is not there
    bool extent_table = false;
    clear_method clear = clear_method::by_default;
    blob_id parent = blob_id::none;
    std::optional<std::string> external{};  ///< identifier of its external snapshot
    std::vector<blob_id> clones{};
    std::vector<blob_xattr> xattrs{};
};

/// ENOSPC rather than leave fewer of them free: for who keeps some back.
struct blob_headroom {
    using may_cross_threads = void;
    std::uint64_t clusters = 0;
    std::uint64_t pages = 0;  ///< of metadata
};

struct blob_options {
    using may_cross_threads = void;
    std::uint64_t clusters = 0;
    bool thin = false;
    bool extent_table = true;
    clear_method clear = clear_method::by_default;
    std::vector<blob_xattr> xattrs{};
    std::optional<std::string>
        external{};  ///< what unallocated clusters are read from; makes it thin
    blob_headroom leave{};
};

/// What one call changes of a blob, all or nothing.
struct blob_changes {
    using may_cross_threads = void;
    std::vector<blob_xattr> set{};       ///< replaces
    std::vector<std::string> removed{};  ///< those that there are
    std::optional<std::uint64_t> clusters{};
    blob_headroom leave{};
};

/// Clusters done of all; any thread may look.
struct copy_progress {
    std::atomic<std::uint64_t> done{0};
    std::atomic<std::uint64_t> all{0};
};

class blobstore;

/// An open blob. It counts as open until close(), or destruction, which closes it a little later.
class [[nodiscard]] blob {
public:
    using may_cross_threads = void;
    blob() noexcept = default;
    blob(blob&& other) noexcept = default;
    blob& operator=(blob&& other) noexcept;
    ~blob();
    /// Its channels have been closed before.
    [[nodiscard]] task<void> close();
    [[nodiscard]] bool is_open() const noexcept { return node_ != nullptr; }

    [[nodiscard]] blob_id id() const noexcept;
    [[nodiscard]] task<blob_status> status() const;
    /// Home thread.
    [[nodiscard]] blob_status current_status() const;
    /// Another handle.
    [[nodiscard]] task<outcome<blob>> share() const;

    /// For I/O on this thread; lba and block_count are io units. EROFS comes with the op.
    [[nodiscard]] outcome<bdev_channel> open_channel() const;
    /// For reads on foreign OS threads, as of any bdev. Home thread.
    [[nodiscard]] bdev_reader open_reader() const;
    /// Likewise for writes, of what is allocated.
    [[nodiscard]] bdev_writer open_writer() const;
    /// For layers: the blob as a bdev without a name. Home thread.
    [[nodiscard]] outcome<bdev_desc> open_device(access a) const;

    /// Durable when it returns; nothing is under way in the blob while it happens. A smaller blob
    /// gives its clusters back.
    [[nodiscard]] task<outcome<>> resize(std::uint64_t clusters);
    /// Durable when it returns, and done or undone after a crash. EFBIG, as set_xattr.
    [[nodiscard]] task<outcome<>> change(blob_changes changes);
    /// Replaces. EFBIG: name and value do not fit into a page.
    [[nodiscard]] task<outcome<>> set_xattr(std::string name, std::string value);
    /// ENOENT.
    [[nodiscard]] task<outcome<std::string>> xattr(std::string name) const;
    [[nodiscard]] task<outcome<>> remove_xattr(std::string name);
    [[nodiscard]] task<outcome<std::vector<std::string>>> xattr_names() const;
    /// With the next sync.
    [[nodiscard]] task<outcome<>> set_read_only();
    /// Attributes and flags that were changed are durable. Data is: channel.flush().
    [[nodiscard]] task<outcome<>> sync();

    /// Allocates everything; the blob depends on nothing afterwards.
    [[nodiscard]] task<outcome<>> inflate(copy_progress* progress = nullptr);
    /// Takes over what its parent has allocated, and the parent's parent.
    [[nodiscard]] task<outcome<>> decouple_parent(copy_progress* progress = nullptr);
    /// Of a thin blob: unallocated clusters are read from `snapshot` from now on. EINVAL: it is
    /// none, or of another size; EEXIST: it is already.
    [[nodiscard]] task<outcome<>> set_parent(blob_id snapshot);
    [[nodiscard]] task<outcome<>> set_external_parent(std::string identifier);
    /// Writes the clusters that this read-only blob itself has to the same places of `to`.
    [[nodiscard]] task<outcome<>> shallow_copy(std::string to, copy_progress* progress = nullptr);
    /// The io unit at or after `from` that is in an allocated (or unallocated) cluster.
    [[nodiscard]] task<std::optional<std::uint64_t>> next_allocated(std::uint64_t from) const;
    [[nodiscard]] task<std::optional<std::uint64_t>> next_unallocated(std::uint64_t from) const;

private:
    friend class detail::blob_engine;
    explicit blob(std::shared_ptr<detail::blob_node> node) noexcept : node_(std::move(node)) {}
    std::shared_ptr<detail::blob_node> node_;
};

class [[nodiscard]] blobstore {
public:
    using may_cross_threads = void;
    blobstore() noexcept;
    blobstore(blobstore&&) noexcept;
    blobstore& operator=(blobstore&&) noexcept;
    /// It has been unloaded, or nothing was ever loaded (asserted).
    ~blobstore();

    /// Makes an empty store; what `base` held is lost. `base` is open for writing and claimed.
    [[nodiscard]] static task<outcome<blobstore>> init(bdev_registry& registry, bdev_desc base,
                                                       blobstore_options options);
    /// ENOENT: there is no store; EILSEQ: a damaged one; ENXIO: one of another type.
    [[nodiscard]] static task<outcome<blobstore>> load(bdev_registry& registry, bdev_desc base,
                                                       blobstore_load_options options);
    /// EBUSY while blobs are open. Marks it clean, if all went well; the store is gone in any case
    /// but EBUSY, and ENOMEM while is_loaded(): then it could not be begun.
    [[nodiscard]] task<outcome<>> unload();
    /// Unloads, and there is no store any more. EBUSY.
    [[nodiscard]] task<outcome<>> destroy();
    [[nodiscard]] bool is_loaded() const noexcept { return engine_ != nullptr; }

    [[nodiscard]] task<blobstore_status> status() const;
    [[nodiscard]] task<outcome<blob_id>> create(blob_options options);
    /// ENOENT; EINVAL: damaged, or of features unknown here; EBUSY: it is being removed.
    [[nodiscard]] task<outcome<blob>> open(blob_id id);
    /// EBUSY: open, or more than one clone reads through it. A single clone takes over what it had.
    [[nodiscard]] task<outcome<>> remove(blob_id id);
    /// In the order of ids.
    [[nodiscard]] task<std::vector<blob_id>> list() const;
    /// ENOENT: none is set.
    [[nodiscard]] task<outcome<blob_id>> super_blob() const;
    [[nodiscard]] task<outcome<>> set_super_blob(blob_id id);
    /// 16 bytes at most.
    [[nodiscard]] task<outcome<>> set_type(std::string type);
    /// A read-only copy of what the blob is now; it becomes thin and reads through the copy.
    [[nodiscard]] task<outcome<blob_id>> snapshot(blob_id of, std::vector<blob_xattr> xattrs);
    /// EINVAL: not of a snapshot (a read-only blob).
    [[nodiscard]] task<outcome<blob_id>> clone(blob_id of, std::vector<blob_xattr> xattrs);
    /// Takes all of a base that has become larger. ENOSPC: the masks have no room for it.
    [[nodiscard]] task<outcome<>> grow();
    /// Super block, masks and every page, as text.
    [[nodiscard]] task<outcome<std::string>> dump() const;

    [[nodiscard]] bdev& base() const noexcept;
    /// As `external` of the load options. `may_be_missing`: a blob whose external snapshot cannot
    /// be opened opens all the same, degraded; what would be read from there fails with ENODEV.
    void set_external_opener(external_opener opener, bool may_be_missing);
    /// Told, on the home thread, when the base goes away, while it can still be written: closes
    /// what it has open and unloads.
    void set_removal_listener(std::function<task<void>()> listener);

private:
    explicit blobstore(std::unique_ptr<detail::blob_engine> engine) noexcept;
    std::unique_ptr<detail::blob_engine> engine_;
};

}  // namespace nacre
