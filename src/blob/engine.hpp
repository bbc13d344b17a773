// SPDX-License-Identifier: BSD-3-Clause
//
// blob_engine: a loaded store. Everything here is the home thread's, but for what device.cpp reads
// of it. The parts: load.cpp, commit.cpp (how metadata reaches the disk), allocate.cpp (first
// writes, releases), blobs.cpp (open, create, resize, attributes), family.cpp (snapshots, clones,
// removal), engine.cpp (the rest).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "bit_allocator.hpp"
#include "nacre/runtime/scope.hpp"
#include "node.hpp"

namespace nacre::detail {

/// What is known of every blob, open or not.
struct blob_record {
    blob_id parent = blob_id::none;
    bool external = false;
    std::vector<blob_id> clones;
    std::string error;  ///< why it cannot be opened
};

/// A blob that is to be gone, and of which the disk may say otherwise; what it has is not free yet.
struct unerased_blob {
    blob_id id;
    std::vector<std::uint32_t> pages;
    std::vector<std::uint32_t> clusters;
    std::shared_ptr<blob_node> after;  ///< not before this one's root is settled
};

/// Pages and clusters taken for what is not on disk yet: given back unless kept.
class claims {
public:
    explicit claims(blob_engine& engine, blob_headroom leave = {}) noexcept
        : engine_(engine), leave_(leave) {}
    claims(const claims&) = delete;
    claims& operator=(const claims&) = delete;
    ~claims();
    /// None: ENOSPC. Extent pages do not lie at 0.
    [[nodiscard]] std::optional<std::uint32_t> page(std::uint32_t from = 0);
    [[nodiscard]] std::optional<std::uint32_t> cluster();
    void add_cluster(std::uint32_t c) { clusters_.push_back(c); }
    void add_page(std::uint32_t p) { pages_.push_back(p); }
    /// They are in use, by what is known elsewhere.
    [[nodiscard]] unerased_blob left_of(blob_id id, std::shared_ptr<blob_node> after = nullptr) {
        return {id, std::move(pages_), std::move(clusters_), std::move(after)};
    }
    void keep() noexcept {
        pages_.clear();
        clusters_.clear();
    }
    /// The disk may refer to them: not free until the blob is settled.
    void hold_back(blob_node& node);
    [[nodiscard]] const std::vector<std::uint32_t>& clusters() const noexcept { return clusters_; }

private:
    blob_engine& engine_;
    const blob_headroom leave_;
    std::vector<std::uint32_t> pages_;
    std::vector<std::uint32_t> clusters_;
};

/// Nothing is under way in some blobs while it is held. With `standing`: and none gets a device.
class quiet {
public:
    quiet() noexcept = default;
    [[nodiscard]] task<result<>> stand(shared_mutex& standing);
    [[nodiscard]] task<result<>> take(std::shared_ptr<blob_device> device);
    [[nodiscard]] task<result<>> release();

private:
    shared_mutex* standing_ = nullptr;
    std::vector<std::pair<std::shared_ptr<blob_device>, range_lock>> held_;
};

class blob_engine final : public bdev_listener {
public:
    blob_engine(bdev_registry& registry, bdev_desc base);
    ~blob_engine();
    blob_engine(const blob_engine&) = delete;
    blob_engine& operator=(const blob_engine&) = delete;

    // engine.cpp
    [[nodiscard]] outcome<> attach();
    [[nodiscard]] task<outcome<>> init(blobstore_options options);
    [[nodiscard]] task<outcome<>> unload();
    [[nodiscard]] task<outcome<>> destroy();
    [[nodiscard]] task<blobstore_status> status();
    [[nodiscard]] task<std::vector<blob_id>> list();
    [[nodiscard]] task<outcome<blob_id>> super_blob();
    [[nodiscard]] task<outcome<>> set_super_blob(blob_id id);
    [[nodiscard]] task<outcome<>> set_type(std::string type);
    [[nodiscard]] task<outcome<>> grow();
    [[nodiscard]] task<outcome<std::string>> dump();
    task<void> base_removed(bdev& base) override;
    std::function<task<void>()> removal_listener;
    std::atomic<unsigned> leaving{0};  ///< handles on their way to leave()

    // load.cpp
    [[nodiscard]] task<outcome<>> load(blobstore_load_options options);

    // blobs.cpp
    [[nodiscard]] task<outcome<blob_id>> create(blob_options options);
    [[nodiscard]] task<outcome<blob>> open(blob_id id);
    [[nodiscard]] task<outcome<std::shared_ptr<blob_node>>> open_node(blob_id id);
    [[nodiscard]] task<result<>> close(node_handle handle);
    /// A handle that went without close(): it is closed as soon as there is memory to.
    void leave(std::shared_ptr<blob_node> node);
    [[nodiscard]] task<result<>> close_left();
    [[nodiscard]] task<blob_status> status_of(across<blob_node> node);
    [[nodiscard]] blob_status look_at(const blob_node& node) const;
    void set_external_opener(external_opener opener, bool may_be_missing) {
        external_opener_ = std::move(opener);
        missing_external_ = may_be_missing;
    }
    [[nodiscard]] task<outcome<>> resize(across<blob_node> node, std::uint64_t clusters);
    [[nodiscard]] task<outcome<>> change(across<blob_node> node, blob_changes changes);
    [[nodiscard]] task<outcome<>> set_xattr(across<blob_node> node, std::string name,
                                            std::string value);
    [[nodiscard]] task<outcome<std::string>> xattr(across<blob_node> node, std::string name);
    [[nodiscard]] task<outcome<>> remove_xattr(across<blob_node> node, std::string name);
    [[nodiscard]] task<outcome<std::vector<std::string>>> xattr_names(across<blob_node> node);
    [[nodiscard]] task<outcome<>> set_read_only(across<blob_node> node);
    [[nodiscard]] task<outcome<>> sync(across<blob_node> node);

    // family.cpp
    [[nodiscard]] task<outcome<blob_id>> snapshot(blob_id of, std::vector<blob_xattr> xattrs);
    [[nodiscard]] task<outcome<blob_id>> clone(blob_id of, std::vector<blob_xattr> xattrs);
    [[nodiscard]] task<outcome<>> remove(blob_id id);
    // copies.cpp
    [[nodiscard]] task<outcome<>> inflate(across<blob_node> node, across<copy_progress> progress);
    [[nodiscard]] task<outcome<>> decouple_parent(across<blob_node> node,
                                                  across<copy_progress> progress);
    [[nodiscard]] task<outcome<>> set_parent(across<blob_node> node, blob_id snapshot);
    [[nodiscard]] task<outcome<>> set_external_parent(across<blob_node> node,
                                                      std::string identifier);
    [[nodiscard]] task<outcome<>> shallow_copy(across<blob_node> node, std::string to,
                                               across<copy_progress> progress);

    // allocate.cpp
    /// The cluster of the device that the blob's has when this ends. It stays the caller's to write
    /// to until its op has ended, though the map may have lost it by then: release() waits for
    /// what is under way in the blob before somebody else gets it.
    [[nodiscard]] task<result<std::uint32_t>> allocate(across<blob_node> node, std::uint64_t index);
    /// Unmap of a whole cluster: gives it back if that can be done now; otherwise false.
    [[nodiscard]] task<result<bool>> release(across<blob_node> node, std::uint64_t index);

    [[nodiscard]] bool is_loaded() const noexcept { return loaded_; }

    // Any thread: constant once loaded, but for the size.
    [[nodiscard]] thread& home() const noexcept { return home_; }
    [[nodiscard]] bdev_registry& registry() const noexcept { return registry_; }
    [[nodiscard]] bdev_desc& base() noexcept { return base_; }
    [[nodiscard]] std::uint32_t block_size() const noexcept { return block_size_; }
    [[nodiscard]] std::uint32_t io_unit_size() const noexcept { return io_unit_size_; }
    [[nodiscard]] std::uint64_t blocks_per_cluster() const noexcept { return cluster_blocks_; }
    [[nodiscard]] const blob_format::super_block& super() const noexcept { return super_; }

private:
    friend class claims;

    // commit.cpp: bytes. Offsets and lengths are whole blocks.
    [[nodiscard]] task<result<>> read_bytes(std::uint64_t offset, std::span<std::byte> into);
    [[nodiscard]] task<result<>> write_bytes(std::uint64_t offset, std::span<const std::byte> from);
    [[nodiscard]] task<result<>> write_zeroes(std::uint64_t offset, std::uint64_t bytes);
    [[nodiscard]] task<result<>> flush();
    [[nodiscard]] task<result<>> read_page(std::uint32_t index, std::span<std::byte> into);
    [[nodiscard]] task<result<>> write_page(std::uint32_t index, std::span<const std::byte> page);
    [[nodiscard]] task<result<>> write_super(blob_format::super_block next);
    /// Before the first change of metadata: the masks on disk do not count any more.
    [[nodiscard]] task<result<>> mark_dirty();
    /// Writes what `next` says and makes it what the node is; under its chain mutex. Pages of
    /// the old chain are free afterwards. Failed and node.root_unsettled: the disk may say `next`.
    [[nodiscard]] task<result<>> commit(blob_node& node, blob_format::blob_metadata next,
                                        blob_headroom leave = {});
    /// The same, with another map: extent pages that change are written anew. ENOSPC.
    [[nodiscard]] task<result<>> commit_map(blob_node& node, blob_format::blob_metadata next,
                                            std::vector<std::uint32_t> map,
                                            blob_headroom leave = {});
    /// The node's root and extent pages once more, after a failure.
    [[nodiscard]] task<result<>> settle(blob_node& node);
    [[nodiscard]] task<result<>> settle_root(blob_node& node);
    [[nodiscard]] task<result<>> write_slot(blob_node& node, std::uint64_t slot);
    [[nodiscard]] task<result<>> put_entry(blob_node& node, extent_entry& entry);
    /// What failed writes may refer to, once all that was written after them is durable.
    [[nodiscard]] task<result<>> release_held(blob_node& node);
    /// Removes the blob from the disk; what it had stays in use.
    [[nodiscard]] task<result<>> erase_root(blob_id id);
    /// Before anything that decides over other blobs: those that could not be erased are.
    [[nodiscard]] task<result<>> erase_rest();
    /// All that failed writes left open.
    [[nodiscard]] task<result<>> settle_all();
    [[nodiscard]] task<result<>> write_masks();

    // allocate.cpp
    [[nodiscard]] task<result<std::uint32_t>> allocate_new(blob_node& node, std::uint64_t index);
    [[nodiscard]] task<result<>> fill(blob_node& node, std::uint64_t index, std::uint32_t cluster,
                                      bool& copied);
    [[nodiscard]] task<result<>> copy_external(external_base& from, std::uint64_t offset,
                                               std::uint32_t cluster);
    [[nodiscard]] task<result<>> copy_cluster(std::uint32_t from, std::uint32_t to);
    [[nodiscard]] task<result<std::uint32_t>> take_zeroed();
    [[nodiscard]] bool begin_release(blob_node& node);
    static void end_release(blob_node& node);
    [[nodiscard]] task<result<>> release_quietly(std::shared_ptr<blob_node> node,
                                                 std::uint64_t index, std::uint32_t cluster);
    /// Clears clusters that nothing on disk refers to any more, then they are free.
    [[nodiscard]] task<result<>> clear_and_free(std::vector<std::uint32_t> clusters,
                                                clear_method how);
    void free_clusters(const std::vector<std::uint32_t>& clusters) noexcept;
    void free_pages(const std::vector<std::uint32_t>& pages) noexcept;
    [[nodiscard]] std::uint64_t free_cluster_count() const noexcept {
        return used_clusters_.free_count() + zeroed_.size();
    }
    void drop_zeroed() noexcept;

    // blobs.cpp
    [[nodiscard]] task<outcome<std::shared_ptr<blob_node>>> open_locked(blob_id id);
    [[nodiscard]] task<outcome<>> read_blob(blob_node& node);
    [[nodiscard]] task<outcome<std::shared_ptr<external_base>>> open_external(
        const blob_format::blob_metadata& meta);
    [[nodiscard]] task<outcome<>> give_device(const std::shared_ptr<blob_node>& node);
    [[nodiscard]] task<outcome<blob_id>> create_from(blob_format::blob_metadata meta,
                                                     std::uint64_t clusters,
                                                     blob_headroom leave = {});
    [[nodiscard]] task<outcome<>> change_size(blob_node& node, blob_changes changes);
    [[nodiscard]] outcome<> check_writable() const;
    [[nodiscard]] outcome<> check_writable(const blob_node& node) const;
    [[nodiscard]] outcome<> check_xattrs(const std::vector<blob_xattr>& xattrs) const;

    // family.cpp
    [[nodiscard]] task<result<>> quiesce(blob_node& node, quiet& until, bool with_descendants);
    [[nodiscard]] task<outcome<>> split_off(blob_node& origin, std::shared_ptr<blob_node> copy,
                                            std::vector<blob_xattr> xattrs);
    void leave(blob_node& copy, std::shared_ptr<blob_node> origin);
    [[nodiscard]] task<result<>> unmark(blob_node& snapshot, blob_node& clone);
    [[nodiscard]] task<result<>> clear_marks(blob_node& snapshot);
    [[nodiscard]] task<result<>> clear_parents_marks(blob_node& node);
    [[nodiscard]] task<outcome<>> merge_into_clone(blob_node& snapshot, blob_node& clone);
    [[nodiscard]] task<outcome<std::shared_ptr<blob_node>>> lock_only_clone(blob_id id);
    void set_record_parent(blob_id id, blob_id parent, bool external);
    [[nodiscard]] task<outcome<>> change_parent(blob_node& node, blob_format::blob_metadata next,
                                                std::shared_ptr<blob_node> parent,
                                                std::shared_ptr<external_base> external);
    [[nodiscard]] task<result<>> allocate_only(blob_node& node, std::uint64_t index);
    [[nodiscard]] task<outcome<>> allocate_all(blob_node& node,
                                               const std::vector<std::uint64_t>& indexes,
                                               copy_progress& progress);

    // load.cpp
    struct scan;
    [[nodiscard]] task<outcome<>> read_super(const blobstore_load_options& options);
    [[nodiscard]] task<result<bool>> read_masks(bit_allocator& blobids);
    [[nodiscard]] task<outcome<>> scan_pages(scan& s, const bit_allocator* roots);
    [[nodiscard]] task<outcome<>> scan_chain(scan& s, std::uint32_t root);
    [[nodiscard]] task<outcome<>> scan_extents(scan& s, blob_id id,
                                               const blob_format::blob_metadata& meta);
    [[nodiscard]] task<result<std::span<const std::byte>>> scanned_page(scan& s,
                                                                        std::uint32_t index);
    void count_blob(scan& s, blob_id id, const blob_format::blob_metadata& meta);
    [[nodiscard]] task<outcome<>> decide(scan& s);
    [[nodiscard]] task<outcome<>> repair(scan& s);
    [[nodiscard]] task<outcome<>> finish_shrink(blob_node& node, std::vector<std::uint32_t> map);
    [[nodiscard]] task<outcome<>> keep_marked(blob_id id, blob_id other);
    void relate();
    void find_out(std::string what);

    [[nodiscard]] std::uint64_t cluster_offset(std::uint64_t cluster) const noexcept {
        return cluster * super_.cluster_size;
    }

    bdev_registry& registry_;
    thread& home_;
    bdev_desc base_;
    bdev_channel channel_;
    std::uint32_t block_size_ = 0;
    std::uint32_t io_unit_size_ = 0;  // of super_, which is replaced as a whole
    std::uint64_t cluster_blocks_ = 0;
    bool write_cache_ = false;
    blob_format::super_block super_;
    bit_allocator used_pages_;
    bit_allocator used_clusters_;
    std::map<blob_id, blob_record> records_;
    std::map<blob_id, std::weak_ptr<blob_node>> nodes_;
    external_opener external_opener_;
    bool missing_external_ = false;
    mutex super_lock_;
    mutex opening_;         // after a blob's `operation`, where somebody takes both
    shared_mutex devices_;  // shared: none is made; after opening_
    mutex zeroing_;
    std::vector<std::uint32_t> zeroed_;  // in use by nobody, hold zeros durably
    std::uint64_t zeroed_batch_ = 1;
    bool marked_dirty_ = false;
    bool read_only_ = false;
    bool recovered_ = false;
    bool loaded_ = false;
    bool dead_ = false;
    bool unsettled_ = false;  // memory and disk may differ: not to be marked clean
    std::vector<unerased_blob> unerased_;
    std::vector<std::shared_ptr<blob_node>> to_settle_;
    std::vector<std::string> findings_;
    unsigned open_blobs_ = 0;
    std::vector<std::shared_ptr<blob_node>> left_;
    scope background_;
};

}  // namespace nacre::detail
