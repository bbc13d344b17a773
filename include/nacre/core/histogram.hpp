// SPDX-License-Identifier: BSD-3-Clause
//
// A log-linear histogram of latencies in nanoseconds: 128 equal buckets for each power of two, so a
// value read back is at most 1/128 too low (values below 256 are exact) over the whole range of 64
// bits. Bucket i is the one that SPDK's histograms of granularity 7 call range i / 128, index i %
// 128. A fixed array of 58 KiB, no allocation. `record` costs 12 instructions. Not thread-safe: one
// per thread, merged for reading.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace nacre {

class histogram {
public:
    static constexpr unsigned sub_bucket_bits = 7;
    static constexpr std::size_t bucket_count = std::size_t{64 - sub_bucket_bits + 1}
                                                << sub_bucket_bits;

    void record(std::uint64_t nanoseconds) noexcept {
        ++buckets_[bucket_of(nanoseconds)];
        sum_ += nanoseconds;
        if (nanoseconds > max_) [[unlikely]]
            max_ = nanoseconds;
    }

    [[nodiscard]] static constexpr std::size_t bucket_of(std::uint64_t value) noexcept {
        // Values below 256 take shift 0: the first two ranges have the same width.
        const auto shift = static_cast<unsigned>(std::bit_width(value | 0xff)) - 8;
        return (std::size_t{shift} << sub_bucket_bits) + static_cast<std::size_t>(value >> shift);
    }
    /// The smallest value that falls into the bucket.
    [[nodiscard]] static constexpr std::uint64_t lower_bound_of(std::size_t bucket) noexcept {
        const std::size_t range = bucket >> sub_bucket_bits;
        if (range < 2) return bucket;
        const std::uint64_t mantissa = (bucket & 127) | 128;
        return mantissa << (range - 1);
    }

    [[nodiscard]] std::uint64_t count() const noexcept;
    /// Exact below 256, else the lower bound of the smallest value's bucket; 0 when empty.
    [[nodiscard]] std::uint64_t min() const noexcept;
    /// Exact; 0 when empty.
    [[nodiscard]] std::uint64_t max() const noexcept { return max_; }
    /// The sum of all values, modulo 2^64.
    [[nodiscard]] std::uint64_t sum() const noexcept { return sum_; }
    /// Exact; 0 when empty.
    [[nodiscard]] double mean() const noexcept;
    /// The value that a fraction p of all values does not exceed, within the bucket's width and
    /// never above max(); p is in [0, 1]; 0 when empty.
    [[nodiscard]] std::uint64_t quantile(double p) const noexcept;

    void merge(const histogram& other) noexcept;
    void clear() noexcept;

    [[nodiscard]] std::span<const std::uint64_t, bucket_count> buckets() const noexcept {
        return buckets_;
    }

private:
    std::uint64_t sum_ = 0;
    std::uint64_t max_ = 0;
    std::array<std::uint64_t, bucket_count> buckets_{};
};
static_assert(histogram::bucket_of(~std::uint64_t{0}) == histogram::bucket_count - 1);

}  // namespace nacre
