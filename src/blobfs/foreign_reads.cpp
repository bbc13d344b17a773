// SPDX-License-Identifier: BSD-3-Clause
#include "foreign_reads.hpp"

#include <algorithm>
#include <cstring>

#include "engine.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/runtime/home_call.hpp"

namespace nacre::detail {

// --- Offers -------------------------------------------------------------------------------------

bool page_offers::add(page_offer offer) {
    const std::lock_guard guard(lock_);
    if (waiting_.size() >= waiting_max) return false;
    waiting_.push_back(std::move(offer));
    if (told_ || waiting_.size() < together) return false;
    told_ = true;
    return true;
}

std::vector<page_offer> page_offers::take() {
    const std::lock_guard guard(lock_);
    told_ = false;
    return std::exchange(waiting_, {});
}

/// On the home thread. A page that changed since is not taken, nor one that is being read already.
void fs_engine::take_offers() {
    leaving.fetch_sub(1, std::memory_order_relaxed);
    for (const page_offer& offer : offers.take()) {
        fs_node& node = *offer.node;
        if (node.pins == 0 || node.changes.load(std::memory_order_relaxed) != offer.changes)
            continue;
        for (std::uint64_t i = 0; i < offer.count; ++i) {
            const std::uint64_t page = offer.first + i;
            chunk* const c = node.pages.get(page / chunk_pages);
            if (c == nullptr) return;
            const unsigned bit = 1U << page % chunk_pages;
            if (c->busy || (c->valid & bit) != 0) continue;
            node.pages.fill(*c, page % chunk_pages * page_bytes,
                            {offer.bytes.get() + i * page_bytes, page_bytes});
            node.pages.mark_valid(*c, bit);
        }
    }
}

namespace {

void offer_pages(const node_ptr& node, std::uint64_t changes, std::uint64_t first,
                 std::span<const std::byte> pages) {
    fs_engine& engine = node->engine;
    page_offer offer{node, changes, first, pages.size() / page_bytes, {}};
    if (offer.count == 0) return;
    offer.bytes = std::make_unique_for_overwrite<std::byte[]>(pages.size());
    std::memcpy(offer.bytes.get(), pages.data(), pages.size());
    if (!engine.offers.add(std::move(offer))) return;
    engine.leaving.fetch_add(1, std::memory_order_relaxed);
    engine.home().send_message([](across<fs_engine> e) { e->take_offers(); },
                               across<fs_engine>(engine));
}

// --- Reading ahead ------------------------------------------------------------------------------

constexpr std::uint64_t sequence_bytes = std::uint64_t{32} << 10;
constexpr std::uint64_t window_bytes_min = std::uint64_t{128} << 10;
constexpr std::uint64_t window_bytes_max = std::uint64_t{1} << 20;

/// Whether somebody reads on where the last read ended, and for some time now; what follows is then
/// read ahead, in large steps.
bool reads_on(const node_ptr& node, std::uint64_t offset, std::uint64_t bytes) {
    constexpr auto relaxed = std::memory_order_relaxed;
    reading_place& place = node->foreign_place;
    const bool goes_on = place.next.exchange(offset + bytes, relaxed) == offset;
    const std::uint64_t streak = goes_on ? place.streak.load(relaxed) + bytes : 0;
    place.streak.store(streak, relaxed);
    if (!goes_on) place.ahead.store(offset + bytes, relaxed);
    if (streak < sequence_bytes || bytes >= past_cache_bytes) return false;
    const std::uint64_t window = std::clamp(streak, window_bytes_min, window_bytes_max);
    const std::uint64_t from = std::max(place.ahead.load(relaxed), offset + bytes);
    const std::uint64_t until = std::min(node->length.load(relaxed), offset + bytes + window);
    if (from + window / 2 > until) return true;
    place.ahead.store(until, relaxed);
    fs_engine& engine = node->engine;
    (void)engine.home().spawn(
        &call_member<&fs_engine::prefetch, fs_engine, node_crossing, std::uint64_t, std::uint64_t>,
        across<fs_engine>(engine), node_crossing(node), from, until - from);
    return true;
}

// --- Reading ------------------------------------------------------------------------------------

/// So much is read by way of a thread's own memory.
constexpr std::uint64_t bounced_bytes_max = std::uint64_t{64} << 10;

std::span<std::byte> own_memory() {
    thread_local const result<dma_buffer> memory =
        dma_buffer::allocate(byte_count(bounced_bytes_max));
    if (!memory) return {};
    return memory->writable_unchecked();
}

bool is_aligned(const std::byte* memory) noexcept {
    return reinterpret_cast<std::uintptr_t>(memory) % page_bytes == 0;
}

/// Of whole pages, whose first `length` bytes are the file's.
bool read_pages_here(fs_node& node, std::uint64_t changes, std::uint64_t first,
                     std::span<std::byte> into, std::uint64_t length) {
    if (!node.reader.read(node.engine.unit_of(first * page_bytes), into)) return false;
    std::memset(into.data() + length, 0, into.size() - length);
    // A change of the value that changes nothing, so that no read comes after it.
    return node.changes.fetch_add(0, std::memory_order_acq_rel) == changes;
}

}  // namespace

std::optional<std::size_t> read_here(const node_ptr& of, std::uint64_t offset,
                                     std::span<std::byte> into, bool direct) {
    fs_node& node = *of;
    const std::uint64_t changes = node.changes.load(std::memory_order_acquire);
    const std::uint64_t length = node.length.load(std::memory_order_acquire);
    if (offset >= length || into.empty()) return 0;
    const std::size_t n = std::min<std::uint64_t>(into.size(), length - offset);
    const bool sequential = !direct && reads_on(of, offset, n);
    if (!direct && node.pages.copy_out(offset, into.first(n))) {
        // A truncate meanwhile has left zeros that the file never had.
        if (node.changes.load(std::memory_order_acquire) != changes) return std::nullopt;
        return n;
    }
    if (changes % 2 != 0 || !node.plain.load(std::memory_order_relaxed)) return std::nullopt;
    const std::uint64_t first = offset / page_bytes;
    const std::uint64_t end = divide_up(offset + n, page_bytes);
    const std::uint64_t bytes = (end - first) * page_bytes;
    if (!node.pages.clean(first, end)) return std::nullopt;
    const bool in_place = offset % page_bytes == 0 && into.size() >= bytes &&
                          is_aligned(into.data()) && (direct || n >= past_cache_bytes);
    if (in_place) {
        if (!read_pages_here(node, changes, first, into.first(bytes), n)) return std::nullopt;
        return n;
    }
    // The home thread knows what is being read ahead.
    if (sequential || bytes > bounced_bytes_max) return std::nullopt;
    const std::span<std::byte> memory = own_memory();
    if (memory.empty()) return std::nullopt;
    const std::uint64_t within = std::min(bytes, length - first * page_bytes);
    if (!read_pages_here(node, changes, first, memory.first(bytes), within)) return std::nullopt;
    std::memcpy(into.data(), memory.data() + offset % page_bytes, n);
    node.engine.cache.misses.fetch_add(end - first, std::memory_order_relaxed);
    // The last page of the file may be added to before the offer is taken.
    offer_pages(of, changes, first, memory.first(align_down(within, page_bytes)));
    return n;
}

}  // namespace nacre::detail
