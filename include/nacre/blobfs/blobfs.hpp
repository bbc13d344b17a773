// SPDX-License-Identifier: BSD-3-Clause
//
// blobfs: files in a blobstore; docs/blobfs.md is the essay.
//
//     outcome<blobfs> fs = co_await blobfs::load(registry, std::move(desc), options);
//     outcome<blobfs_file> log = co_await fs->open("/db/000007.log", {.write = true, .create =
//     true}); result<> written = co_await log->append(bytes); result<> durable = co_await
//     log->sync();
//
// Any thread of the runtime may call anything but make and load, which are the registry's home
// thread's; foreign OS threads have blocking.hpp. What changes names (create, rename, link, remove)
// is durable when it returns, and a crash leaves it done or undone. Data and lengths are durable
// after sync(); before it a crash leaves of each byte, and of the length, what was synced last or
// something written later (of a log's length: anything between what it had). ENOSPC comes with the
// write that needs the space, never with a sync of what was accepted.
//
// Memory that a call is given (paths, data) stays valid until the await ends.
// Errors are those of the POSIX call of that name; EROFS: loaded read-only; ENODEV: the bdev is
// gone; EILSEQ: what is on disk makes no sense; ENOTSUP: the store is kept as SPDK's BlobFS
// understands it (`compatible`), which has no directories, links or attributes.
#pragma once

#include <sys/stat.h>

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nacre/blob/blobstore.hpp"

namespace nacre {

namespace detail {
class fs_engine;
struct fs_node;
}  // namespace detail

/// Of a file, directory or link; its blob's. Given again to others after the node is gone.
enum class node_id : std::uint64_t { none = UINT64_MAX };

struct blobfs_options {
    using may_cross_threads = void;
    bool compatible = false;         ///< SPDK's format, flat; otherwise with nacre's extensions
    std::uint32_t cluster_size = 0;  ///< bytes; 0: 1 MiB, less for a small device
    std::uint32_t root_mode = 0755;  ///< permissions of the root directory
    std::uint32_t uid = 0;           ///< its owner
    std::uint32_t gid = 0;
};

struct blobfs_load_options {
    bool read_only = false;
    load_progress progress{};
};

/// stat's. Times are ns since 1970.
struct node_attributes {
    using may_cross_threads = void;
    std::uint32_t mode = S_IFREG | 0644;  ///< kind and permissions
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::uint32_t device = 0;  ///< of device nodes
    std::int64_t atime_ns = 0;
    std::int64_t mtime_ns = 0;
    std::int64_t ctime_ns = 0;
    bool operator==(const node_attributes&) const = default;
};

struct node_status {
    using may_cross_threads = void;
    node_id id = node_id::none;
    std::uint64_t generation = 0;  ///< tells two nodes of one id apart, while loaded
    node_attributes attributes{};
    std::uint64_t length = 0;     ///< bytes
    std::uint64_t allocated = 0;  ///< bytes
    std::uint32_t links = 1;
    bool log = false;  ///< its blocks say how long it is: file_open_options::log
    [[nodiscard]] bool is_directory() const noexcept { return S_ISDIR(attributes.mode); }
    [[nodiscard]] bool is_file() const noexcept { return S_ISREG(attributes.mode); }
    [[nodiscard]] bool is_link() const noexcept { return S_ISLNK(attributes.mode); }
};

struct attribute_changes {
    using may_cross_threads = void;
    std::optional<std::uint32_t> mode{};  ///< permissions only
    std::optional<std::uint32_t> uid{};
    std::optional<std::uint32_t> gid{};
    std::optional<std::int64_t> atime_ns{};
    std::optional<std::int64_t> mtime_ns{};
};

struct directory_entry {
    using may_cross_threads = void;
    std::string name;
    node_id id = node_id::none;
    std::uint32_t mode = 0;
};

struct file_open_options {
    using may_cross_threads = void;
    bool write = false;
    bool create = false;     ///< if it is missing
    bool exclusive = false;  ///< with create: EEXIST
    bool truncate = false;
    bool direct = false;  ///< past the cache where offset, length and memory allow it (4 KiB)
    /// Of a file that is made or truncated by this open: a sync of what was appended is one write
    /// and one flush. Everything passes the cache, and what is read is checked by CRC32C. Nothing
    /// changes where the store is `compatible`.
    bool log = false;
    bool keep_space = false;  ///< with truncate: the file goes on where its old bytes were
    /// To write. Made and begun even if others find the device full: for what is small, and what a
    /// program cannot go on without.
    bool uses_reserve = false;
    /// A write is no reason to change mtime: the caller sets it, as a kernel does that gathers
    /// writes.
    bool keeps_mtime = false;
    node_attributes attributes{};  ///< of a new file; times are set
};

struct rename_options {
    using may_cross_threads = void;
    bool no_replace = false;  ///< EEXIST instead of replacing
};

/// Who is evicted first.
enum class file_priority : std::uint8_t { low, high };

struct blobfs_status {
    using may_cross_threads = void;
    bool compatible = false;
    bool read_only = false;
    bool recovered = false;       ///< it was not unloaded before this load
    std::uint64_t size = 0;       ///< bytes
    std::uint64_t free = 0;       ///< bytes
    std::uint64_t available = 0;  ///< bytes of them that are not kept back, see docs/blobfs.md
    std::uint32_t cluster_size = 0;
    std::uint64_t nodes = 0;
    std::uint64_t free_nodes = 0;  ///< metadata pages that are free and not kept back
    std::uint64_t open_files = 0;
    std::uint64_t cached = 0;        ///< bytes
    std::uint64_t dirty = 0;         ///< bytes of them not written yet
    std::uint64_t cache_hits = 0;    ///< pages read from the cache
    std::uint64_t cache_misses = 0;  ///< pages read from the store
    std::vector<std::string> findings{};
};

class blobfs;

/// An open file. Reads and writes of one file may overlap in time; each is atomic to the others,
/// but for what blocking_file::read copies out of the cache, which is whole by chunks of 16 KiB.
class [[nodiscard]] blobfs_file {
public:
    using may_cross_threads = void;
    blobfs_file() noexcept = default;
    blobfs_file(blobfs_file&& other) noexcept = default;
    blobfs_file& operator=(blobfs_file&& other) noexcept;
    /// Closes it a little later if close() was not called.
    ~blobfs_file();
    /// What was written goes to the store in time; only sync() says that it has, and whether it
    /// could.
    [[nodiscard]] task<result<>> close();
    [[nodiscard]] bool is_open() const noexcept { return node_ != nullptr; }

    [[nodiscard]] node_id id() const noexcept;
    /// Bytes; as last written, by anybody.
    [[nodiscard]] std::uint64_t length() const noexcept;
    [[nodiscard]] task<result<node_status>> status() const;

    /// How much was read: less than asked for only at the end.
    [[nodiscard]] task<result<std::size_t>> read(std::uint64_t offset,
                                                 std::span<std::byte> into) const;
    /// All or nothing, but for errors of the device. Past the end the gap reads as zeros.
    [[nodiscard]] task<result<>> write(std::uint64_t offset, std::span<const std::byte> from);
    [[nodiscard]] task<result<>> append(std::span<const std::byte> from);
    /// Zeros from `offset` on, within the length.
    [[nodiscard]] task<result<>> zero(std::uint64_t offset, std::uint64_t bytes);
    /// Length and data so far are durable afterwards.
    [[nodiscard]] task<result<>> sync();
    /// Only the device is flushed, which makes durable what was written past the cache, within the
    /// synced length, to any file of the file system.
    [[nodiscard]] task<result<>> flush_device();
    /// Durable when it returns.
    [[nodiscard]] task<result<>> truncate(std::uint64_t length);
    /// Space for that length, so that writes up to it cannot fail with ENOSPC.
    [[nodiscard]] task<result<>> allocate(std::uint64_t length);
    /// Into the cache, a little later.
    [[nodiscard]] task<result<>> prefetch(std::uint64_t offset, std::uint64_t bytes) const;
    /// Cached data of it that is not dirty is forgotten.
    [[nodiscard]] task<result<>> drop_cache();
    void set_priority(file_priority p) noexcept;
    /// Excludes others that ask, until it is closed or unlocked. EWOULDBLOCK.
    [[nodiscard]] task<result<>> lock();
    [[nodiscard]] task<result<>> unlock();

private:
    friend class detail::fs_engine;
    friend class blocking_file;
    blobfs_file(std::shared_ptr<detail::fs_node> node, file_open_options how) noexcept
        : node_(std::move(node)),
          writable_(how.write),
          direct_(how.direct),
          keeps_mtime_(how.keeps_mtime) {}
    std::shared_ptr<detail::fs_node> node_;
    bool writable_ = false;
    bool direct_ = false;
    bool keeps_mtime_ = false;
    bool locked_ = false;
};

class [[nodiscard]] blobfs {
public:
    using may_cross_threads = void;
    blobfs() noexcept;
    blobfs(blobfs&&) noexcept;
    blobfs& operator=(blobfs&&) noexcept;
    /// It has been unloaded, or nothing was ever loaded (asserted).
    ~blobfs();

    /// Makes an empty one; what `base` held is lost. `base` is open for writing and claimed.
    [[nodiscard]] static task<outcome<blobfs>> make(bdev_registry& registry, bdev_desc base,
                                                    blobfs_options options);
    /// ENOENT: there is no blobstore; ENXIO: one of another type.
    [[nodiscard]] static task<outcome<blobfs>> load(bdev_registry& registry, bdev_desc base,
                                                    blobfs_load_options options);
    /// Whether there is one, of either kind. Writes nothing.
    [[nodiscard]] static task<outcome<bool>> detect(bdev_registry& registry, bdev_desc base);
    /// EBUSY while files are open. It is gone in any case but EBUSY.
    [[nodiscard]] task<outcome<>> unload();
    [[nodiscard]] bool is_loaded() const noexcept { return engine_ != nullptr; }
    [[nodiscard]] task<blobfs_status> status() const;
    /// All data and lengths of all files are durable afterwards.
    [[nodiscard]] task<outcome<>> sync();

    // By path: names between slashes; a leading slash is the root. Symbolic links in the middle are
    // followed, a last one only by open.
    [[nodiscard]] task<outcome<blobfs_file>> open(std::string path, file_open_options how);
    [[nodiscard]] task<outcome<node_status>> stat(std::string path) const;
    [[nodiscard]] task<outcome<std::vector<directory_entry>>> list(std::string path) const;
    [[nodiscard]] task<outcome<>> make_directory(std::string path, node_attributes attributes);
    /// Of files and links; an open file's data go when it is closed.
    [[nodiscard]] task<outcome<>> remove(std::string path);
    [[nodiscard]] task<outcome<>> remove_directory(std::string path);
    /// Replaces a file, or an empty directory by a directory; at every time one of the two is
    /// there.
    [[nodiscard]] task<outcome<>> rename(std::string from, std::string to,
                                         rename_options options = rename_options());
    [[nodiscard]] task<outcome<>> link(std::string existing, std::string path);
    [[nodiscard]] task<outcome<>> symlink(std::string target, std::string path,
                                          node_attributes attributes);
    [[nodiscard]] task<outcome<std::string>> read_link(std::string path) const;

    // By node, as a kernel asks. Names have no slashes.
    [[nodiscard]] node_id root() const noexcept;
    [[nodiscard]] task<result<node_status>> lookup(node_id directory, std::string name) const;
    [[nodiscard]] task<result<node_status>> stat(node_id id) const;
    [[nodiscard]] task<result<node_status>> change(node_id id, attribute_changes changes);
    /// A file, directory, device, pipe or socket, as the mode says.
    [[nodiscard]] task<result<node_status>> make_node(node_id directory, std::string name,
                                                      node_attributes attributes);
    [[nodiscard]] task<result<node_status>> symlink_at(std::string target, node_id directory,
                                                       std::string name,
                                                       node_attributes attributes);
    [[nodiscard]] task<result<std::string>> read_link(node_id id) const;
    [[nodiscard]] task<result<node_status>> link_at(node_id existing, node_id directory,
                                                    std::string name);
    [[nodiscard]] task<result<>> remove_at(node_id directory, std::string name, bool is_directory);
    [[nodiscard]] task<result<>> rename_at(node_id from, std::string name, node_id to,
                                           std::string new_name, rename_options options);
    /// In the order of names, those after `after`; at most `entries_max`.
    [[nodiscard]] task<result<std::vector<directory_entry>>> list_at(node_id directory,
                                                                     std::string after,
                                                                     std::size_t entries_max) const;
    /// create, exclusive and the attributes do not count here.
    [[nodiscard]] task<result<blobfs_file>> open_node(node_id id, file_open_options how);

    // Extended attributes, by node. ENODATA; EFBIG; ENOTSUP (compatible).
    [[nodiscard]] task<result<std::string>> xattr(node_id id, std::string name) const;
    /// `mode`: 0, XATTR_CREATE or XATTR_REPLACE.
    [[nodiscard]] task<result<>> set_xattr(node_id id, std::string name, std::string value,
                                           int mode);
    [[nodiscard]] task<result<>> remove_xattr(node_id id, std::string name);
    [[nodiscard]] task<result<std::vector<std::string>>> xattr_names(node_id id) const;

    /// Bound of the page cache, bytes; at least 1 MiB. A smaller one is kept from the next page on.
    void set_cache_size(std::uint64_t bytes) noexcept;

private:
    friend class blocking_blobfs;
    explicit blobfs(std::unique_ptr<detail::fs_engine> engine) noexcept;
    std::unique_ptr<detail::fs_engine> engine_;
};

}  // namespace nacre
