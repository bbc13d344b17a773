// SPDX-License-Identifier: BSD-3-Clause
//
// The records of a zoned device: its zone pages in memory, and on the base in two copies.
#pragma once

#include <vector>

#include "modules/zoned/format.hpp"
#include "nacre/memory/aligned_bytes.hpp"

namespace nacre::zoned {

class journal final : public zone_journal {
public:
    /// Of a device that is being made: all zones empty, nothing on the base yet.
    explicit journal(const header& h);
    /// Reads all pages. The failure names `device`, which lies on the channel's bdev.
    [[nodiscard]] task<outcome<>> load(bdev_channel& base, std::string device);

    zone_record recorded(zone_index z) const noexcept override;
    void record(zone_index z, zone_record r) noexcept override;
    bool pending() const noexcept override;
    task<result<>> write(bdev_channel& base) override;

private:
    struct page_state {
        std::uint64_t sequence = 0;
        bool changed = true;  // or the copies are not equal
        unsigned first = 0;   // the copy to write first: the one that may be bad
    };
    [[nodiscard]] std::span<std::byte> image(std::uint64_t page) const noexcept {
        return std::span(image_).subspan(page * header_.page_bytes, header_.page_bytes);
    }
    [[nodiscard]] lba place(std::uint64_t page, unsigned copy) const noexcept {
        return lba(header_.page_at(page, copy) / header_.block_size);
    }
    [[nodiscard]] bool choose(std::uint64_t page, std::span<std::byte> other) noexcept;

    const header header_;
    mutable aligned_bytes image_;
    std::vector<page_state> states_;
};

}  // namespace nacre::zoned
