// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/sim/image.hpp"

#include <algorithm>
#include <cstring>

namespace nacre::sim {

void sparse_image::read(std::uint64_t offset, std::span<std::byte> out) const noexcept {
    while (!out.empty()) {
        const std::uint64_t in_page = offset % page_bytes;
        const std::size_t n = std::min<std::size_t>(out.size(), page_bytes - in_page);
        const auto found = pages_.find(offset / page_bytes);
        if (found == pages_.end())
            std::memset(out.data(), 0, n);
        else
            std::memcpy(out.data(), found->second->data() + in_page, n);
        out = out.subspan(n);
        offset += n;
    }
}

void sparse_image::write(std::uint64_t offset, std::span<const std::byte> in) {
    while (!in.empty()) {
        const std::uint64_t in_page = offset % page_bytes;
        const std::size_t n = std::min<std::size_t>(in.size(), page_bytes - in_page);
        auto& at = pages_[offset / page_bytes];
        if (at == nullptr) {
            at = std::make_unique_for_overwrite<sparse_image::page>();
            if (n != page_bytes) at->fill(std::byte{0});
        }
        std::memcpy(at->data() + in_page, in.data(), n);
        in = in.subspan(n);
        offset += n;
    }
}

void sparse_image::zero(std::uint64_t offset, std::uint64_t length) noexcept {
    if (length == 0) return;
    const std::uint64_t end = length > UINT64_MAX - offset ? UINT64_MAX : offset + length;
    auto at = pages_.lower_bound(offset / page_bytes);
    while (at != pages_.end() && at->first * page_bytes < end) {
        const std::uint64_t start = at->first * page_bytes;
        const std::uint64_t from = std::max(start, offset) - start;
        const std::uint64_t to = std::min(start + page_bytes, end) - start;
        if (to - from == page_bytes) {
            at = pages_.erase(at);
            continue;
        }
        std::memset(at->second->data() + from, 0, to - from);
        ++at;
    }
}

void sparse_image::copy_from(const sparse_image& other, std::uint64_t offset,
                             std::uint64_t length) {
    if (length == 0) return;
    const std::uint64_t first = offset / page_bytes;
    const std::uint64_t last = (offset + length - 1) / page_bytes;
    pages_.erase(pages_.lower_bound(first), pages_.upper_bound(last));
    for (auto from = other.pages_.lower_bound(first);
         from != other.pages_.end() && from->first <= last; ++from)
        pages_.emplace(from->first, std::make_unique<sparse_image::page>(*from->second));
}

std::uint64_t sparse_image::next_data(std::uint64_t offset) const noexcept {
    const auto found = pages_.lower_bound(offset / page_bytes);
    if (found == pages_.end()) return UINT64_MAX;
    return std::max(offset, found->first * page_bytes);
}

std::uint64_t sparse_image::next_hole(std::uint64_t offset) const noexcept {
    std::uint64_t number = offset / page_bytes;
    auto found = pages_.find(number);
    if (found == pages_.end()) return offset;
    while (found != pages_.end() && found->first == number) {
        ++number;
        ++found;
    }
    return number * page_bytes;
}

std::uint64_t sparse_image::missing_pages(std::uint64_t offset,
                                          std::uint64_t length) const noexcept {
    if (length == 0) return 0;
    const std::uint64_t first = offset / page_bytes;
    const std::uint64_t last = (offset + length - 1) / page_bytes;
    const auto present = std::distance(pages_.lower_bound(first), pages_.upper_bound(last));
    return last - first + 1 - static_cast<std::uint64_t>(present);
}

}  // namespace nacre::sim
