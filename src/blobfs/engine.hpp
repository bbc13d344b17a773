// SPDX-License-Identifier: BSD-3-Clause
//
// fs_engine: a loaded blobfs. Everything here is the home thread's (the registry's), but for what a
// foreign OS thread reads or appends by itself (foreign_reads.hpp, log_tail.hpp). The parts:
// load.cpp, names.cpp (the name space), attributes.cpp, data.cpp (reads, writes, lengths),
// space.cpp, log.cpp, write_back.cpp, foreign_reads.cpp, engine.cpp (the rest).
//
// Locks, in this order: names_, a node's data, its metadata. None is needed to look at what is in
// memory.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "cache.hpp"
#include "foreign_reads.hpp"
#include "format.hpp"
#include "log_tail.hpp"
#include "nacre/memory/buffer_pool.hpp"
#include "nacre/runtime/scope.hpp"
#include "nacre/runtime/thread.hpp"

namespace nacre::detail {

/// Of a file that is kept as log_layout.hpp says.
struct fs_log {
    std::uint64_t nonce = 0;
    std::uint64_t committed = 0;  ///< `length` on the disk
    std::uint64_t written = 0;    ///< bytes whose blocks have been written
    std::uint64_t end = 0;        ///< bytes there are, with those of a write under way
    bool renew = false;           ///< a new nonce before anything is written
    bool mixed = false;           ///< what is written behind `committed` has several nonces
};

struct fs_node {
    fs_node(fs_engine& e, node_id i, std::uint64_t g, page_cache& cache) noexcept
        : engine(e), id(i), generation(g), pages(cache) {}
    fs_engine& engine;
    const node_id id;
    const std::uint64_t generation;

    node_attributes attributes;
    bool attributes_changed = false;  ///< since they were last made durable
    std::vector<fs_format::node_name> names;
    node_id replaces = node_id::none;
    std::string target;
    bool removed = false;    ///< it has no name; its blob goes when nobody uses it
    bool erased = false;     ///< its blob goes now: the id may be another's soon
    bool unsettled = false;  ///< a change of its metadata failed: the disk may say either
    std::map<std::string, node_id, std::less<>> entries;  ///< of a directory
    std::uint32_t subdirectories = 0;

    // Data.
    std::atomic<std::uint64_t> length{0};
    std::uint64_t durable_length = 0;  ///< what a crash leaves at least
    std::uint64_t clusters = 0;
    std::optional<fs_log> log;
    error unreadable;  ///< why nobody can open it: where this log ends could not be read
    std::uint64_t pages_kept = UINT64_MAX;  ///< those behind are not written: they are cut off
    bool unflushed = false;                 ///< data were written since the last flush
    unsigned handles = 0;
    bool uses_reserve = false;  ///< while somebody has it open who asked for that
    unsigned pins = 0;          ///< who needs `file` and `channel`, handles included
    blob file;
    bdev_channel channel;
    bdev_reader reader;                     ///< as long as `file`
    log_tail tail;                          ///< of a log, from lend_tail to end_tail
    unsigned tail_rests = 0;                ///< so many appends it is not lent
    std::atomic<std::uint64_t> changes{0};  ///< see node_change
    std::atomic<bool> plain{true};          ///< no log: bytes lie where the map says
    reading_place foreign_place;
    mutex opening;
    mutex locked;  ///< advisory: blobfs_file::lock
    shared_mutex data;
    mutex metadata;
    file_pages pages;
    std::uint64_t read_next = 0;    ///< where a sequential reader goes on
    std::uint64_t read_streak = 0;  ///< bytes read in sequence so far
    std::uint64_t ahead_until = 0;  ///< what has been asked for ahead

    [[nodiscard]] bool is_directory() const noexcept { return S_ISDIR(attributes.mode); }
    [[nodiscard]] bool is_file() const noexcept { return S_ISREG(attributes.mode); }
    [[nodiscard]] bool dirty() const noexcept {
        return attributes_changed || !pages.dirty().empty() ||
               durable_length != length.load(std::memory_order_relaxed) ||
               (log && handles == 0 && log->committed != durable_length) ||
               (log && log->renew && unflushed);
    }
};

/// While bytes below a file's length change, or it becomes less: `changes` is odd. Under `data`,
/// alone.
class node_change {
public:
    explicit node_change(fs_node& node) noexcept : node_(node) { node_.changes.fetch_add(1); }
    node_change(const node_change&) = delete;
    node_change& operator=(const node_change&) = delete;
    ~node_change() { node_.changes.fetch_add(1); }

private:
    fs_node& node_;
};

struct byte_span {
    using may_cross_threads = void;
    std::span<std::byte> bytes;
};
struct const_byte_span {
    using may_cross_threads = void;
    std::span<const std::byte> bytes;
};
/// A node on its way to another thread.
struct node_crossing {
    using may_cross_threads = void;
    node_crossing(node_ptr n) noexcept : node(std::move(n)) {}
    node_ptr node;
};

class fs_engine final {
public:
    fs_engine(bdev_registry& registry, blobstore store);
    ~fs_engine();
    fs_engine(const fs_engine&) = delete;
    fs_engine& operator=(const fs_engine&) = delete;
    [[nodiscard]] thread& home() const noexcept { return home_; }
    [[nodiscard]] bool is_loaded() const noexcept { return store_.is_loaded(); }

    // load.cpp
    [[nodiscard]] task<outcome<>> format(blobfs_options options);
    [[nodiscard]] task<outcome<>> load(blobfs_load_options options);

    // engine.cpp
    [[nodiscard]] task<outcome<>> unload();
    [[nodiscard]] task<blobfs_status> status();
    [[nodiscard]] node_id root() const noexcept { return root_; }
    [[nodiscard]] task<result<blobfs_file>> open_node(node_id id, file_open_options how);
    [[nodiscard]] task<result<>> close(node_crossing node);
    /// A handle that went without close().
    void leave(node_crossing node);
    [[nodiscard]] task<result<>> lock(node_crossing node);
    [[nodiscard]] task<result<>> unlock(node_crossing node);

    // names.cpp
    [[nodiscard]] task<result<node_status>> lookup(node_id directory, std::string name);
    [[nodiscard]] task<result<node_status>> make_node(node_id directory, std::string name,
                                                      node_attributes attributes);
    [[nodiscard]] task<result<node_status>> symlink_at(std::string target, node_id directory,
                                                       std::string name,
                                                       node_attributes attributes);
    [[nodiscard]] task<result<node_status>> link_at(node_id existing, node_id directory,
                                                    std::string name);
    [[nodiscard]] task<result<>> remove_at(node_id directory, std::string name, bool is_directory);
    [[nodiscard]] task<result<>> rename_at(node_id from, std::string name, node_id to,
                                           std::string new_name, rename_options options);
    [[nodiscard]] task<result<std::vector<directory_entry>>> list_at(node_id directory,
                                                                     std::string after,
                                                                     std::size_t entries_max);
    [[nodiscard]] task<result<std::string>> read_link(node_id id);

    // paths.cpp
    [[nodiscard]] task<outcome<blobfs_file>> open(std::string path, file_open_options how);
    [[nodiscard]] task<outcome<node_status>> stat_path(std::string path);
    [[nodiscard]] task<outcome<std::vector<directory_entry>>> list(std::string path);
    [[nodiscard]] task<outcome<>> make_directory(std::string path, node_attributes attributes);
    [[nodiscard]] task<outcome<>> remove(std::string path, bool is_directory);
    [[nodiscard]] task<outcome<>> rename(std::string from, std::string to, rename_options options);
    [[nodiscard]] task<outcome<>> link(std::string existing, std::string path);
    [[nodiscard]] task<outcome<>> symlink(std::string target, std::string path,
                                          node_attributes attributes);
    [[nodiscard]] task<outcome<std::string>> read_link_path(std::string path);

    // attributes.cpp
    [[nodiscard]] task<result<node_status>> stat(node_id id);
    [[nodiscard]] task<result<node_status>> change(node_id id, attribute_changes changes);
    [[nodiscard]] task<result<std::string>> xattr(node_id id, std::string name);
    [[nodiscard]] task<result<>> set_xattr(node_id id, std::string name, std::string value,
                                           int mode);
    [[nodiscard]] task<result<>> remove_xattr(node_id id, std::string name);
    [[nodiscard]] task<result<std::vector<std::string>>> xattr_names(node_id id);
    [[nodiscard]] task<result<node_status>> status_of(node_crossing node);

    // data.cpp
    [[nodiscard]] task<result<std::size_t>> read(node_crossing node, std::uint64_t offset,
                                                 byte_span into, bool direct);
    struct write_how {
        using may_cross_threads = void;
        bool direct = false;
        bool keeps_mtime = false;
    };
    /// UINT64_MAX: at the end.
    [[nodiscard]] task<result<>> write(node_crossing node, std::uint64_t offset,
                                       const_byte_span from, write_how how);
    [[nodiscard]] task<result<>> append_and_sync(node_crossing node, const_byte_span from);
    /// For a foreign thread, which may go on by itself.
    [[nodiscard]] task<result<>> append_and_sync_outside(node_crossing node, const_byte_span from);
    [[nodiscard]] task<result<>> zero(node_crossing node, std::uint64_t offset,
                                      std::uint64_t bytes);
    [[nodiscard]] task<result<>> truncate(node_crossing node, std::uint64_t length);
    [[nodiscard]] task<result<>> allocate(node_crossing node, std::uint64_t length);
    [[nodiscard]] task<result<>> prefetch(node_crossing node, std::uint64_t offset,
                                          std::uint64_t bytes);
    [[nodiscard]] task<result<>> drop_cache(node_crossing node);

    // write_back.cpp
    [[nodiscard]] task<result<>> sync(node_crossing node);
    [[nodiscard]] task<result<>> flush_device(node_crossing node);
    [[nodiscard]] task<outcome<>> sync_all();

    // foreign_reads.cpp
    void take_offers();
    [[nodiscard]] lba unit_of(std::uint64_t offset) const noexcept {
        return lba(offset / unit_bytes_);
    }

    /// Any OS thread.
    [[nodiscard]] std::int64_t now_ns() const;

    page_cache cache;
    page_offers offers;
    std::atomic<unsigned> leaving{0};  ///< messages on their way to leave() and take_offers()

private:
    // engine.cpp
    [[nodiscard]] task<result<>> pin(node_ptr node);
    void unpin(fs_node& node) noexcept;
    [[nodiscard]] node_ptr find(node_id id) const;
    [[nodiscard]] node_ptr add_node(node_id id, std::uint64_t clusters);
    [[nodiscard]] node_status describe(const fs_node& node) const;
    [[nodiscard]] result<> check_writable() const noexcept;
    void touch(fs_node& node, bool data) noexcept;
    /// Atomically; under the node's `metadata`.
    [[nodiscard]] task<result<>> commit(node_ptr node, blob_changes changes);
    /// What failed changes left open, before names are changed.
    [[nodiscard]] task<result<>> settle();
    void erase_later(const node_ptr& node);
    void drop_handle(const node_ptr& node);
    [[nodiscard]] task<result<>> erase(node_ptr node);

    // load.cpp
    [[nodiscard]] task<outcome<>> load_node(blob_id id);
    [[nodiscard]] task<outcome<>> flush_recovered();
    void place_nodes();
    void place(const node_ptr& node, fs_format::node_name name);
    void find_circles();
    [[nodiscard]] task<result<>> forget_lost_names();

    // names.cpp
    [[nodiscard]] static blob_changes without_name(const fs_format::node_name& name);
    [[nodiscard]] static blob_changes with_name(const fs_format::node_name& name);
    [[nodiscard]] static blob_changes marked_deleted();
    [[nodiscard]] result<node_ptr> directory_of(node_id id) const;
    [[nodiscard]] task<result<node_status>> make(node_id directory, std::string name,
                                                 fs_format::node_record record,
                                                 bool uses_reserve = false);
    [[nodiscard]] task<result<>> take_name(node_ptr node, node_id directory, std::string name);
    [[nodiscard]] task<result<>> drop_replaced(node_ptr old, node_id directory, std::string name);
    [[nodiscard]] bool is_within(node_id inner, node_id outer) const;
    void enter(fs_node& directory, const std::string& name, const fs_node& node);
    void leave_directory(fs_node& directory, const std::string& name, const fs_node& node);

    // log_tail.cpp
    static constexpr unsigned tail_rests_max = 64;
    static void join_tail(fs_node& node, const log_tail::state& tail) noexcept;
    [[nodiscard]] static task<result<>> end_tail(fs_node& node);
    [[nodiscard]] task<result<>> lend_tail(node_ptr node);

    // paths.cpp
    /// A directory, and the last name of a path in it.
    struct spot {
        node_id directory = node_id::none;
        std::string name;
    };
    [[nodiscard]] result<node_id> walk(node_id from, std::string_view path, bool follow_last,
                                       unsigned links_followed) const;
    [[nodiscard]] result<spot> find_spot(std::string_view path) const;
    [[nodiscard]] result<node_id> step(node_id directory, std::string_view name) const;

    // space.cpp
    void keep_reserve(const blobstore_status& s) noexcept;
    /// What a change leaves free that takes space for good.
    [[nodiscard]] blob_headroom headroom(bool uses_reserve) const noexcept;
    [[nodiscard]] task<result<>> grow(node_ptr node, std::uint64_t length);

    // data.cpp
    [[nodiscard]] static task<result<>> own_data(fs_node& node);
    [[nodiscard]] static task<result<>> share_data(fs_node& node);
    [[nodiscard]] task<result<>> read_pages(node_ptr node, std::uint64_t offset,
                                            std::span<std::byte> into);
    [[nodiscard]] task<result<>> write_locked(node_ptr node, std::uint64_t offset,
                                              std::span<const std::byte> from, write_how how);
    [[nodiscard]] task<result<>> write_pages(node_ptr node, std::uint64_t offset,
                                             std::span<const std::byte> from);
    [[nodiscard]] task<result<>> ready_page(node_ptr node, std::uint64_t page);
    [[nodiscard]] task<result<>> write_through(node_ptr node, std::uint64_t offset,
                                               std::span<const std::byte> from);
    [[nodiscard]] task<result<>> zero_locked(node_ptr node, std::uint64_t offset,
                                             std::uint64_t bytes);
    struct cut_options {
        std::uint64_t length = 0;
        std::optional<bool> log{};  ///< of length 0: what it is from now on
        bool keep_space = false;
    };
    [[nodiscard]] task<result<>> shorten(node_ptr node, cut_options how);
    [[nodiscard]] task<result<>> empty(node_ptr node, file_open_options how);
    /// In pieces, through the cache.
    [[nodiscard]] task<result<>> write_pieces(node_ptr node, std::uint64_t offset,
                                              std::span<const std::byte> from);
    /// A log forgets what a write past the end has left there; before cut_cache.
    static void take_back(fs_node& node, std::uint64_t length) noexcept;
    [[nodiscard]] task<result<>> cut_cache(node_ptr node, std::uint64_t length);
    void read_ahead(const node_ptr& node, std::uint64_t offset, std::uint64_t bytes);
    [[nodiscard]] task<result<>> read_ahead_task(node_ptr node, std::uint64_t first,
                                                 std::uint64_t end);
    // Pages [first, end); of load_pages and load_run the chunks are pinned.
    [[nodiscard]] task<result<>> load_pages(node_ptr node, std::uint64_t first, std::uint64_t end);
    [[nodiscard]] task<result<>> load_run(node_ptr node, std::uint64_t first, std::uint64_t end);
    [[nodiscard]] static task<result<std::vector<std::uint64_t>>> hold(node_ptr node,
                                                                       std::uint64_t first,
                                                                       std::uint64_t end);
    static void let_go(fs_node& node, const std::vector<std::uint64_t>& held, std::uint64_t first,
                       std::uint64_t end);
    [[nodiscard]] static result<> pin_chunks(fs_node& node, std::uint64_t first, std::uint64_t end);
    static void unpin_chunks(fs_node& node, std::uint64_t first, std::uint64_t end) noexcept;
    [[nodiscard]] static std::vector<iovec> vectors_of(fs_node& node, std::uint64_t first,
                                                       std::uint64_t end);
    static void set_busy(fs_node& node, std::uint64_t first, std::uint64_t end, bool busy);
    /// Until the device does nothing with this chunk.
    [[nodiscard]] static task<result<>> wait_idle(fs_node& node, std::uint64_t index);

    // log.cpp
    [[nodiscard]] std::uint64_t fresh_nonce() const;
    [[nodiscard]] task<result<>> recover_log(node_ptr node);
    [[nodiscard]] task<result<>> renew_log(node_ptr node);
    [[nodiscard]] task<result<>> write_back_log(node_ptr node);
    [[nodiscard]] task<result<>> write_log_run(node_ptr node, std::uint64_t first,
                                               std::uint64_t end);
    [[nodiscard]] task<result<>> load_log_run(node_ptr node, std::uint64_t first,
                                              std::uint64_t end);
    /// Of bytes [from, to) that lie in block `index`, into `into`, from the cache or the disk.
    [[nodiscard]] task<result<>> fetch_log(node_ptr node, std::uint64_t index, std::uint64_t from,
                                           std::span<std::byte> into);
    [[nodiscard]] static std::optional<std::uint64_t> fill_from_log(
        fs_node& node, std::uint64_t first, std::span<const std::byte> blocks, std::uint64_t from,
        std::uint64_t to);

    // write_back.cpp
    struct sync_options {
        bool attributes = false;  ///< times and permissions, too
        bool trim = false;        ///< surplus clusters go back
    };
    [[nodiscard]] task<result<>> write_back(node_ptr node);
    [[nodiscard]] task<result<>> write_back_run(node_ptr node, std::uint64_t first,
                                                std::uint64_t end);
    [[nodiscard]] task<result<>> sync_node(node_ptr node, sync_options how);
    [[nodiscard]] task<result<>> flush(node_ptr node);
    [[nodiscard]] task<result<>> relieve(node_ptr node);
    [[nodiscard]] task<result<>> give_back_surplus();
    [[nodiscard]] std::uint64_t clusters_for(const fs_node& node,
                                             std::uint64_t length) const noexcept;
    [[nodiscard]] std::uint64_t clusters_needed(const fs_node& node) const noexcept;
    void note_dirty(const node_ptr& node);
    void start_flusher();
    [[nodiscard]] task<result<>> flush_later();

    bdev_registry& registry_;
    thread& home_;
    blobstore store_;
    std::map<node_id, node_ptr> nodes_;
    std::map<node_id, node_ptr> dirty_nodes_;  // perhaps; for the flusher
    std::vector<node_ptr> unsettled_;
    std::vector<node_ptr> erasing_;  // nameless, and nobody uses them
    std::vector<std::pair<node_ptr, fs_format::node_name>> lost_names_;
    mutex names_;
    node_id root_ = node_id::none;
    std::uint64_t generations_ = 0;
    std::uint64_t cluster_bytes_ = 0;
    std::uint64_t unit_bytes_ = 0;
    blob_headroom reserve_;  // of clusters; of pages one such for each kind
    std::uint64_t open_files_ = 0;
    bool compatible_ = false;
    bool read_only_ = false;
    bool recovered_ = false;
    bool flushing_ = false;  // flush_later is under way
    bool unloading_ = false;
    std::vector<std::string> findings_;
    buffer_pool log_buffers_;
    scope background_;
};

}  // namespace nacre::detail
