// SPDX-License-Identifier: BSD-3-Clause
#include "cache.hpp"

#include <bit>
#include <cstring>

#include "nacre/core/assert.hpp"

namespace nacre::detail {

void page_cache::make_room() noexcept {
    const std::uint64_t limit = limit_.load(std::memory_order_relaxed);
    for (intrusive_list<list_hook>* const list : {&low_, &high_}) {
        // Twice round at most: the first time clears the marks.
        for (std::uint64_t looks = 2 * used_; looks > 0 && used_ >= limit; --looks) {
            list_hook* const oldest = list->front();
            if (oldest == nullptr) break;
            chunk& c = static_cast<chunk&>(*oldest);
            const bool in_use = c.dirty != 0 || c.busy || c.pins != 0;
            if (in_use || c.referenced.exchange(false, std::memory_order_relaxed)) {
                c.unlink();
                list->push_back(c);
                continue;
            }
            c.owner->drop(c);
        }
    }
}

/// Of a chunk; what is in it is anything.
result<dma_buffer> page_cache::take_memory() noexcept {
    if (spare_.empty())
        return dma_buffer::allocate(byte_count(chunk_bytes), {.alignment = page_bytes});
    dma_buffer memory = std::move(spare_.back());
    spare_.pop_back();
    return memory;
}

void page_cache::give_memory(dma_buffer memory) noexcept {
    // All in all no more than what the cache may have.
    const std::uint64_t limit = limit_.load(std::memory_order_relaxed);
    if (spare_.size() < spare_max && used_ + spare_.size() < limit)
        spare_.push_back(std::move(memory));
}

chunk* file_pages::find(std::uint64_t index) noexcept {
    const auto at = chunks_.find(index);
    return at == chunks_.end() ? nullptr : at->second.get();
}

chunk* file_pages::get(std::uint64_t index) noexcept {
    if (chunk* const there = find(index)) {
        there->referenced.store(true, std::memory_order_relaxed);
        return there;
    }
    cache_.make_room();
    result<dma_buffer> memory = cache_.take_memory();
    if (!memory) return nullptr;
    auto made = std::make_unique<chunk>();
    chunk& c = *made;
    c.owner = this;
    c.index = index;
    c.memory = std::move(*memory);
    {
        const std::lock_guard guard(lock_);
        chunks_.emplace(index, std::move(made));
    }
    ++cache_.used_;
    (low_priority.load(std::memory_order_relaxed) ? cache_.low_ : cache_.high_).push_back(c);
    return &c;
}

void file_pages::mark_valid(chunk& c, unsigned pages) noexcept {
    const std::lock_guard guard(lock_);
    c.valid |= pages;
}

void file_pages::mark_dirty(chunk& c, unsigned pages) noexcept {
    cache_.dirty_ += static_cast<unsigned>(std::popcount(pages & ~c.dirty));
    {
        const std::lock_guard guard(lock_);
        c.dirty |= pages;
    }
    dirty_.insert(c.index);
}

void file_pages::mark_clean(chunk& c, unsigned pages) noexcept {
    cache_.dirty_ -= static_cast<unsigned>(std::popcount(pages & c.dirty));
    {
        const std::lock_guard guard(lock_);
        c.dirty &= ~pages;
    }
    if (c.dirty == 0) dirty_.erase(c.index);
}

void file_pages::fill(chunk& c, std::uint64_t offset, std::span<const std::byte> from) noexcept {
    const std::lock_guard guard(lock_);
    std::memcpy(c.page(0) + offset, from.data(), from.size());
}

void file_pages::fill_zeros(chunk& c, std::uint64_t offset, std::uint64_t bytes) noexcept {
    const std::lock_guard guard(lock_);
    std::memset(c.page(0) + offset, 0, bytes);
}

void file_pages::invalidate(chunk& c, unsigned pages) noexcept {
    mark_clean(c, pages);
    {
        const std::lock_guard guard(lock_);
        c.valid &= ~pages;
    }
    if (c.valid == 0 && c.pins == 0 && !c.busy) drop(c);
}

bool file_pages::holds_any(std::uint64_t first, std::uint64_t end) noexcept {
    if (chunks_.empty()) return false;
    for (std::uint64_t i = first / chunk_pages; i * chunk_pages < end; ++i)
        if (find(i) != nullptr) return true;
    return false;
}

std::vector<std::uint64_t> file_pages::indexes_from(std::uint64_t index) const {
    std::vector<std::uint64_t> all;
    for (const auto& [at, c] : chunks_)
        if (at >= index) all.push_back(at);
    return all;
}

void file_pages::drop(chunk& c) noexcept {
    NACRE_ASSERT(!c.busy && c.pins == 0);
    mark_clean(c, c.dirty);
    c.unlink();
    --cache_.used_;
    dma_buffer memory;
    {
        const std::lock_guard guard(lock_);
        memory = std::move(c.memory);
        chunks_.erase(c.index);
    }
    cache_.give_memory(std::move(memory));
}

void file_pages::drop_from(std::uint64_t index) noexcept {
    std::vector<chunk*> gone;
    for (auto& [at, c] : chunks_)
        if (at >= index) gone.push_back(c.get());
    for (chunk* const c : gone) drop(*c);
}

void file_pages::drop_clean() noexcept {
    std::vector<chunk*> gone;
    for (auto& [at, c] : chunks_)
        if (c->dirty == 0 && !c->busy && c->pins == 0) gone.push_back(c.get());
    for (chunk* const c : gone) drop(*c);
}

bool file_pages::clean(std::uint64_t first, std::uint64_t end) noexcept {
    const std::lock_guard guard(lock_);
    if (chunks_.empty()) return true;
    for (std::uint64_t at = first; at < end; ++at) {
        const chunk* const c = find(at / chunk_pages);
        if (c != nullptr && (c->dirty & (1U << at % chunk_pages)) != 0) return false;
    }
    return true;
}

bool file_pages::copy_out(std::uint64_t offset, std::span<std::byte> into) noexcept {
    if (into.empty()) return true;
    const std::uint64_t end = offset + into.size();
    const std::lock_guard guard(lock_);
    for (std::uint64_t at = offset / page_bytes; at * page_bytes < end; ++at) {
        const chunk* const c = find(at / chunk_pages);
        if (c == nullptr || (c->valid & (1U << at % chunk_pages)) == 0) return false;
    }
    for (std::uint64_t at = offset; at < end;) {
        chunk* const c = find(at / chunk_bytes);
        const std::uint64_t n = std::min(end - at, chunk_bytes - at % chunk_bytes);
        std::memcpy(into.data() + (at - offset), c->page(0) + at % chunk_bytes, n);
        c->referenced.store(true, std::memory_order_relaxed);
        at += n;
    }
    cache_.hits.fetch_add((end - 1) / page_bytes - offset / page_bytes + 1,
                          std::memory_order_relaxed);
    return true;
}

}  // namespace nacre::detail
