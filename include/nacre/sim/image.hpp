// SPDX-License-Identifier: BSD-3-Clause
//
// The bytes of a simulated device: sparse, in pages of 4 KiB. A page that is not there is a hole
// and reads as zeros. No notion of size, time or failure: those are the file's.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>

namespace nacre::sim {

class sparse_image {
public:
    static constexpr std::uint64_t page_bytes = 4096;

    void read(std::uint64_t offset, std::span<std::byte> out) const noexcept;
    void write(std::uint64_t offset, std::span<const std::byte> in);
    /// Whole pages become holes, parts of pages zeros.
    void zero(std::uint64_t offset, std::uint64_t length) noexcept;
    /// Makes this range what it is in `other`, holes included, out to whole pages.
    void copy_from(const sparse_image& other, std::uint64_t offset, std::uint64_t length);
    /// First byte at or after `offset` that is in a page (or in a hole); UINT64_MAX: there is none.
    [[nodiscard]] std::uint64_t next_data(std::uint64_t offset) const noexcept;
    [[nodiscard]] std::uint64_t next_hole(std::uint64_t offset) const noexcept;
    /// Pages that writing this range would add.
    [[nodiscard]] std::uint64_t missing_pages(std::uint64_t offset,
                                              std::uint64_t length) const noexcept;
    [[nodiscard]] std::uint64_t page_count() const noexcept { return pages_.size(); }

private:
    using page = std::array<std::byte, page_bytes>;
    std::map<std::uint64_t, std::unique_ptr<page>> pages_;
};

}  // namespace nacre::sim
