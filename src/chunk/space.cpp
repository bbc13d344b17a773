// SPDX-License-Identifier: BSD-3-Clause
#include "space.hpp"

#include <algorithm>
#include <bit>

#include "nacre/core/assert.hpp"

namespace nacre::chunks {

void append(std::vector<extent>& to, std::uint64_t place) {
    if (!to.empty() && to.back().place + to.back().pages == place)
        ++to.back().pages;
    else
        to.push_back({place, 1});
}

void space::add_segment(std::uint64_t number) {
    const std::lock_guard guard(mutex_);
    segment s;
    s.words.resize(segment_pages_ / 64);
    segments_.emplace(number, std::move(s));
}

bool space::has_segment(std::uint64_t number) const {
    const std::lock_guard guard(mutex_);
    return segments_.contains(number);
}

std::uint64_t space::unused_number() const {
    const std::lock_guard guard(mutex_);
    std::uint64_t number = 0;
    for (const auto& [n, s] : segments_) {
        if (n != number) break;
        ++number;
    }
    return number;
}

std::optional<extent> space::take(unsigned lane, std::uint64_t pages, bool any) {
    const std::lock_guard guard(mutex_);
    const int mine = static_cast<int>(lane);
    for (auto& [number, s] : segments_) {
        if (s.lane != mine) continue;
        if (std::optional<extent> e = take_from(number, s, pages)) return e;
        s.lane = -1;  // full
    }
    for (auto& [number, s] : segments_) {
        // A segment that is nearly full is left to those who find nothing else.
        const bool has_room = s.taken * 4 < segment_pages_ * 3;
        if (!any && (s.lane != -1 || !has_room)) continue;
        std::optional<extent> e = take_from(number, s, pages);
        if (!e) continue;
        if (!any) s.lane = mine;
        return e;
    }
    return std::nullopt;
}

/// The first free pages from `next` on, around the end.
std::optional<extent> space::take_from(std::uint64_t number, segment& s, std::uint64_t pages) {
    if (s.taken == segment_pages_) return std::nullopt;
    const auto is_taken = [&s](std::uint64_t p) { return (s.words[p / 64] >> p % 64 & 1) != 0; };
    std::uint64_t first = s.next % segment_pages_;
    for (std::uint64_t seen = 0; is_taken(first); ++seen) {
        NACRE_ASSERT(seen <= segment_pages_);
        const std::uint64_t left = s.words[first / 64] >> first % 64;
        const auto ones = static_cast<std::uint64_t>(std::countr_one(left));
        first = (first + std::min(ones, 64 - first % 64)) % segment_pages_;
    }
    std::uint64_t end = first + 1;
    while (end < segment_pages_ && end - first < pages && !is_taken(end)) ++end;
    for (std::uint64_t p = first; p < end; ++p) s.words[p / 64] |= std::uint64_t{1} << p % 64;
    s.taken += end - first;
    s.next = end;
    return extent{number * segment_pages_ + first, end - first};
}

void space::mark(extent e, bool taken) noexcept {
    segment& s = segments_.at(e.place / segment_pages_);
    for (std::uint64_t i = 0; i < e.pages; ++i) {
        const std::uint64_t page = e.place % segment_pages_ + i;
        const std::uint64_t bit = std::uint64_t{1} << page % 64;
        NACRE_ASSERT(((s.words[page / 64] & bit) != 0) != taken);
        s.words[page / 64] ^= bit;
    }
    s.taken += taken ? e.pages : -e.pages;
}

void space::give_back(const std::vector<extent>& extents) noexcept {
    const std::lock_guard guard(mutex_);
    for (const extent& e : extents)
        for (extent left = e; left.pages != 0;) {  // neighbours may lie in two segments
            const std::uint64_t here =
                std::min(left.pages, segment_pages_ - left.place % segment_pages_);
            mark({left.place, here}, false);
            left = {left.place + here, left.pages - here};
        }
}

std::vector<std::uint64_t> space::drop_empty(std::size_t kept) {
    const std::lock_guard guard(mutex_);
    std::vector<std::uint64_t> empty;
    for (const auto& [number, s] : segments_)
        if (s.taken == 0 && s.lane == -1) empty.push_back(number);
    empty.erase(empty.begin(),
                empty.begin() + static_cast<std::ptrdiff_t>(std::min(kept, empty.size())));
    for (const std::uint64_t number : empty) segments_.erase(number);
    return empty;
}

std::uint64_t space::segments() const {
    const std::lock_guard guard(mutex_);
    return segments_.size();
}

std::uint64_t space::taken_pages() const {
    const std::lock_guard guard(mutex_);
    std::uint64_t all = 0;
    for (const auto& [number, s] : segments_) all += s.taken;
    return all;
}

bool space::restore(std::uint64_t set, const used_set& bits) {
    const std::lock_guard guard(mutex_);
    if (set > UINT64_MAX / set_pages || !segments_.contains(set * set_pages / segment_pages_))
        return false;
    for (std::uint64_t i = 0; i < set_pages; ++i)
        if (bits[i]) mark({set * set_pages + i, 1}, true);
    durable_[set] = bits;
    return true;
}

}  // namespace nacre::chunks
