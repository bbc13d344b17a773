// SPDX-License-Identifier: BSD-3-Clause
//
// Strong integers. A block address, a number of blocks and a number of bytes are never mixed up,
// because they do not convert to each other or from a plain integer without saying so.
// Cost: none, each is one register.
#pragma once

#include <compare>
#include <cstdint>

namespace nacre {

template <typename Tag>
class strong_count {
public:
    constexpr strong_count() noexcept = default;
    constexpr explicit strong_count(std::uint64_t value) noexcept : value_(value) {}
    [[nodiscard]] constexpr std::uint64_t value() const noexcept { return value_; }

    friend constexpr auto operator<=>(strong_count, strong_count) noexcept = default;
    constexpr strong_count& operator+=(strong_count other) noexcept {
        value_ += other.value_;
        return *this;
    }
    constexpr strong_count& operator-=(strong_count other) noexcept {
        value_ -= other.value_;
        return *this;
    }
    friend constexpr strong_count operator+(strong_count a, strong_count b) noexcept {
        return strong_count(a.value_ + b.value_);
    }
    friend constexpr strong_count operator-(strong_count a, strong_count b) noexcept {
        return strong_count(a.value_ - b.value_);
    }

private:
    std::uint64_t value_ = 0;
};

using block_count = strong_count<struct block_count_tag>;
using byte_count = strong_count<struct byte_count_tag>;
using zone_index = strong_count<struct zone_index_tag>;

/// A logical block address: an ordinal, so it moves by block counts and differs by a block count.
class lba {
public:
    constexpr lba() noexcept = default;
    constexpr explicit lba(std::uint64_t value) noexcept : value_(value) {}
    [[nodiscard]] constexpr std::uint64_t value() const noexcept { return value_; }

    friend constexpr auto operator<=>(lba, lba) noexcept = default;
    constexpr lba& operator+=(block_count n) noexcept {
        value_ += n.value();
        return *this;
    }
    friend constexpr lba operator+(lba a, block_count n) noexcept {
        return lba(a.value_ + n.value());
    }
    friend constexpr block_count operator-(lba a, lba b) noexcept {
        return block_count(a.value_ - b.value_);
    }

private:
    std::uint64_t value_ = 0;
};

/// Bytes in `n` blocks. The caller has checked that the product fits (a device's size does).
[[nodiscard]] constexpr byte_count operator*(block_count n, byte_count block_size) noexcept {
    return byte_count(n.value() * block_size.value());
}

namespace literals {
constexpr byte_count operator""_KiB(unsigned long long n) noexcept { return byte_count(n << 10); }
constexpr byte_count operator""_MiB(unsigned long long n) noexcept { return byte_count(n << 20); }
constexpr byte_count operator""_GiB(unsigned long long n) noexcept { return byte_count(n << 30); }
}  // namespace literals

}  // namespace nacre
