// SPDX-License-Identifier: BSD-3-Clause
//
// blob_node: an open blob in memory. Changed on the home thread. What I/O reads on other threads
// (`map`, `parent`, `external`) is replaced only while the blob, and every blob that reads through
// it, is quiesced; single entries of the map change at any time.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "format.hpp"
#include "nacre/runtime/sync.hpp"

namespace nacre::detail {

class blob_device;

/// A device cluster for each of the blob's; 0: unallocated.
class cluster_map {
public:
    explicit cluster_map(std::uint64_t clusters)
        : entries_(std::make_unique<std::atomic<std::uint32_t>[]>(clusters)), size_(clusters) {}
    explicit cluster_map(const std::vector<std::uint32_t>& from) : cluster_map(from.size()) {
        for (std::size_t i = 0; i < from.size(); ++i) set(i, from[i]);
    }
    [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
    [[nodiscard]] std::uint32_t operator[](std::uint64_t i) const noexcept {
        return entries_[i].load(std::memory_order_acquire);
    }
    void set(std::uint64_t i, std::uint32_t cluster) noexcept {
        entries_[i].store(cluster, std::memory_order_release);
    }
    [[nodiscard]] std::vector<std::uint32_t> copy() const {
        std::vector<std::uint32_t> v(size_);
        for (std::uint64_t i = 0; i < size_; ++i) v[i] = (*this)[i];
        return v;
    }

private:
    std::unique_ptr<std::atomic<std::uint32_t>[]> entries_;
    std::uint64_t size_;
};

/// The bdev that an external snapshot is, shared by all that read through it.
struct external_base {
    bdev_desc desc;
    std::string identifier;
};

/// An entry of an extent page that is to be written.
struct extent_entry {
    std::uint64_t index = 0;    ///< of the blob's clusters
    std::uint32_t cluster = 0;  ///< 0: as the map has it
    bool after_flush = false;   ///< what the cluster holds is not durable yet
    bool done = false;
    bool maybe_on_disk = false;  ///< of a failure
    error status{};
};

/// One extent page: who writes it takes what has gathered.
struct extent_writer {
    bool writing = false;
    std::vector<extent_entry*> waiting;
    condition turn;
};

struct pending_allocation {
    event done;
    result<std::uint32_t> cluster{0};
};

/// Attributes that were changed in memory.
struct attribute_edits {
    std::vector<blob_xattr> xattrs;  ///< all of them
    bool read_only = false;
};

struct blob_node {
    blob_node(blob_engine& e, blob_id i) : engine(e), id(i) {}
    blob_engine& engine;
    const blob_id id;
    blob_format::blob_metadata meta;            ///< as on disk
    std::optional<attribute_edits> unsynced{};  ///< what sync() and change() write with it
    std::atomic<bool> read_only{false};

    std::shared_ptr<cluster_map> map;
    std::shared_ptr<blob_node> parent;
    std::shared_ptr<external_base> external;

    std::shared_ptr<blob_device> device;  ///< while somebody has it open
    bdev_desc desc;
    unsigned opens = 0;
    bool removing = false;  ///< it is not to be opened any more

    mutex operation;        ///< one metadata operation at a time; a parent's before its clone's
    unsigned releases = 0;  ///< clusters on their way back, which hold `operation` together
    unsigned releases_joined = 0;  ///< since they took it: others are to get it, too
    mutex chain;  ///< held while the root is written; who makes a new one starts under it
    std::map<std::uint64_t, std::shared_ptr<pending_allocation>> allocations;
    std::map<std::uint64_t, extent_writer> writers;

    // After failed writes: what the disk may refer to, and which pages must be written again.
    bool root_unsettled = false;
    std::set<std::uint64_t> unsettled_slots;
    std::vector<std::uint32_t> held_pages;
    std::vector<std::uint32_t> held_clusters;

    [[nodiscard]] bool has_backing() const noexcept {
        return parent != nullptr || external != nullptr;
    }
    [[nodiscard]] bool must_rewrite() const noexcept {
        return root_unsettled || !unsettled_slots.empty();
    }
    [[nodiscard]] bool holds_back() const noexcept {
        return !held_pages.empty() || !held_clusters.empty();
    }
    [[nodiscard]] bool unsettled() const noexcept { return must_rewrite() || holds_back(); }
};

/// A node on its way to another thread.
struct node_handle {
    using may_cross_threads = void;
    std::shared_ptr<blob_node> node;
};

}  // namespace nacre::detail
