// SPDX-License-Identifier: BSD-3-Clause
//
// page_cache: pages of files in memory, in chunks of four, for reading again and writing later.
//
// A chunk belongs to one node. It is changed on the home thread only; another OS thread may copy
// valid pages out of it, and see what is dirty, while it holds the node's `lock`, which the home
// thread takes for moments, never across an await: whenever it adds or drops a chunk, or changes
// what is valid, dirty or in it.
//
// Invariant: the bytes of a valid page that lie past the node's length are zeros.
#pragma once

#include <array>
#include <atomic>
#include <mutex>
#include <set>
#include <unordered_map>
#include <vector>

#include "nacre/blobfs/blobfs.hpp"
#include "nacre/core/intrusive_list.hpp"
#include "nacre/memory/dma_buffer.hpp"
#include "nacre/runtime/sync.hpp"

namespace nacre::detail {

inline constexpr std::uint64_t page_bytes = 4096;
inline constexpr std::uint64_t chunk_pages = 4;
inline constexpr std::uint64_t chunk_bytes = page_bytes * chunk_pages;
/// From here on pages are not worth copying.
inline constexpr std::uint64_t past_cache_bytes = std::uint64_t{128} << 10;
inline constexpr unsigned all_pages = (1U << chunk_pages) - 1;

class file_pages;

struct chunk : list_hook {
    file_pages* owner = nullptr;
    std::uint64_t index = 0;
    dma_buffer memory;
    unsigned valid = 0;  ///< a bit each page
    unsigned dirty = 0;  ///< of the valid ones
    unsigned pins = 0;   ///< users across awaits
    bool busy = false;   ///< being read or written by the device: not to be changed
    std::atomic<bool> referenced{false};  ///< since the eviction last passed
    condition idle;
    [[nodiscard]] std::byte* page(std::uint64_t i) const noexcept {
        return memory.writable_unchecked().data() + i * page_bytes;
    }
};

class page_cache {
public:
    explicit page_cache(std::uint64_t bytes) {
        set_limit(bytes);
        spare_.reserve(spare_max);
    }
    page_cache(const page_cache&) = delete;
    page_cache& operator=(const page_cache&) = delete;

    void set_limit(std::uint64_t bytes) noexcept {
        limit_.store(std::max<std::uint64_t>(bytes, 1U << 20) / chunk_bytes,
                     std::memory_order_relaxed);
    }
    [[nodiscard]] std::uint64_t used_bytes() const noexcept { return used_ * chunk_bytes; }
    [[nodiscard]] std::uint64_t dirty_bytes() const noexcept { return dirty_ * page_bytes; }
    /// More than a half of the cache waits to be written: who writes more waits.
    [[nodiscard]] bool too_dirty() const noexcept {
        return dirty_ * 2 > limit_.load(std::memory_order_relaxed) * chunk_pages;
    }
    std::atomic<std::uint64_t> hits{0};    ///< pages
    std::atomic<std::uint64_t> misses{0};  ///< pages

private:
    friend class file_pages;
    [[nodiscard]] result<dma_buffer> take_memory() noexcept;
    void give_memory(dma_buffer memory) noexcept;
    /// Drops chunks that nobody has asked for lately until there is room, as far as that goes:
    /// what is dirty, busy or pinned stays, whatever the limit.
    void make_room() noexcept;
    std::atomic<std::uint64_t> limit_{0};  // chunks
    static constexpr std::size_t spare_max = 4096;
    std::uint64_t used_ = 0;         // chunks
    std::uint64_t dirty_ = 0;        // pages
    intrusive_list<list_hook> low_;  // of files of low priority; the longest there first
    intrusive_list<list_hook> high_;
    std::vector<dma_buffer> spare_;  // of chunks that went: memory is dear to map and to unmap
};

/// The chunks of one file.
class file_pages {
public:
    explicit file_pages(page_cache& cache) noexcept : cache_(cache) {}
    file_pages(const file_pages&) = delete;
    file_pages& operator=(const file_pages&) = delete;
    ~file_pages() { drop_from(0); }

    [[nodiscard]] chunk* find(std::uint64_t index) noexcept;
    /// Makes it if it is missing. Null: no memory.
    [[nodiscard]] chunk* get(std::uint64_t index) noexcept;
    void mark_valid(chunk& c, unsigned pages) noexcept;
    void mark_dirty(chunk& c, unsigned pages) noexcept;
    void mark_clean(chunk& c, unsigned pages) noexcept;
    /// Into a valid page.
    void fill(chunk& c, std::uint64_t offset, std::span<const std::byte> from) noexcept;
    void fill_zeros(chunk& c, std::uint64_t offset, std::uint64_t bytes) noexcept;
    /// These pages are not valid any more, written or not. A chunk without any goes, if it can.
    void invalidate(chunk& c, unsigned pages) noexcept;
    /// Whether there is a chunk with a page of [first, end).
    [[nodiscard]] bool holds_any(std::uint64_t first, std::uint64_t end) noexcept;
    /// Of chunks, from this one on.
    [[nodiscard]] std::vector<std::uint64_t> indexes_from(std::uint64_t index) const;
    /// What it holds is lost. Not busy, not pinned.
    void drop(chunk& c) noexcept;
    /// All from this chunk on.
    void drop_from(std::uint64_t index) noexcept;
    /// Those that are clean and in nobody's hands.
    void drop_clean() noexcept;
    /// Any OS thread: all of it, or nothing.
    [[nodiscard]] bool copy_out(std::uint64_t offset, std::span<std::byte> into) noexcept;
    /// Any OS thread: of the pages [first, end) the device has what was written, if it was.
    [[nodiscard]] bool clean(std::uint64_t first, std::uint64_t end) noexcept;

    [[nodiscard]] bool empty() const noexcept { return chunks_.empty(); }
    [[nodiscard]] const std::set<std::uint64_t>& dirty() const noexcept { return dirty_; }
    [[nodiscard]] page_cache& cache() const noexcept { return cache_; }
    std::atomic<bool> low_priority{false};

private:
    page_cache& cache_;
    std::mutex lock_;
    std::unordered_map<std::uint64_t, std::unique_ptr<chunk>> chunks_;
    std::set<std::uint64_t> dirty_;  // indexes
};

}  // namespace nacre::detail
