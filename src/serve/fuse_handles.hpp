// SPDX-License-Identifier: BSD-3-Clause
//
// What the kernel has open: numbers that it names files and directories by.
//
// A number is a slot and how often that slot has been given out, so that one that was never given,
// or is closed, finds nothing. Any thread; a look-up takes no lock. The kernel closes a number only
// when it has had all answers that concern it.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "nacre/blobfs/blobfs.hpp"

namespace nacre::fuse {

/// Where a reader of a directory is. Entries are fetched in pieces of one size, each of which
/// begins behind a name that is kept, so that positions stay what they are while names come and go.
struct directory_reader {
    static constexpr std::size_t piece_entries = 256;
    std::vector<std::string> begins_after;  ///< of each piece seen so far
    std::size_t piece = 0;                  ///< whose entries are at hand
    std::vector<directory_entry> entries;
    std::size_t previous_piece = SIZE_MAX;
    std::vector<directory_entry> previous;
};

struct open_node {
    node_id id = node_id::none;
    blobfs_file file;  ///< not open: a directory
    directory_reader directory;
    std::atomic<bool> reading_directory{false};
};

class handle_table {
public:
    handle_table() = default;
    handle_table(const handle_table&) = delete;
    handle_table& operator=(const handle_table&) = delete;
    ~handle_table();

    /// ENFILE
    [[nodiscard]] result<std::uint64_t> insert(std::unique_ptr<open_node> node);
    /// Null: there is none of this number.
    [[nodiscard]] open_node* find(std::uint64_t number) const noexcept {
        const slot* const s = slot_of(static_cast<std::uint32_t>(number));
        if (s == nullptr || s->times.load(std::memory_order_acquire) != number >> 32)
            return nullptr;
        return s->node.load(std::memory_order_acquire);
    }
    [[nodiscard]] std::unique_ptr<open_node> take(std::uint64_t number);
    /// Any one of those that are open; null: none.
    [[nodiscard]] std::unique_ptr<open_node> take_any();
    [[nodiscard]] std::uint64_t size() const noexcept {
        return size_.load(std::memory_order_relaxed);
    }

private:
    struct slot {
        std::atomic<open_node*> node{nullptr};
        std::atomic<std::uint32_t> times{0};
    };
    static constexpr std::uint32_t block_slots = 256;
    static constexpr std::uint32_t blocks_max = 4096;
    using block = std::array<slot, block_slots>;
    [[nodiscard]] const slot* slot_of(std::uint32_t index) const noexcept {
        if (index >= block_slots * blocks_max) return nullptr;
        const block* const b = blocks_[index / block_slots].load(std::memory_order_acquire);
        return b == nullptr ? nullptr : &(*b)[index % block_slots];
    }

    std::array<std::atomic<block*>, blocks_max> blocks_{};
    std::atomic<std::uint64_t> size_{0};
    std::mutex mutex_;  // guards what follows, and changes of the above
    std::uint32_t slots_ = 0;
    std::vector<std::uint32_t> free_;
};

}  // namespace nacre::fuse
