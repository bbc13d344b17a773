// SPDX-License-Identifier: BSD-3-Clause
//
// latency_histogram: what bdev_enable_histogram turns on, with buckets that SPDK's tools can read.
//
// Each power of two of nanoseconds is a range of 2^granularity equal buckets; ranges 0 and 1 have
// the same width, one nanosecond. Kept are the ranges from that of `min_ns` to that of the last
// value below `max_ns`; what lies outside is counted in the first or the last bucket kept.
// Not thread-safe: one per channel, merged for reading.
#pragma once

#include <bit>
#include <cstdint>
#include <span>
#include <vector>

namespace nacre {

struct histogram_options {
    using may_cross_threads = void;
    static constexpr unsigned granularity_max = 16;  // 512 KiB a range
    unsigned granularity = 7;
    std::uint64_t min_ns = 1'000;
    std::uint64_t max_ns = 120'000'000'000;
    std::uint32_t opcodes = ~std::uint32_t{0};  ///< bits; others are not recorded

    bool operator==(const histogram_options&) const = default;
    [[nodiscard]] bool valid() const noexcept {
        return granularity <= granularity_max && min_ns < max_ns;
    }
};

class latency_histogram {
public:
    using may_cross_threads = void;
    /// `options.valid()`.
    explicit latency_histogram(const histogram_options& options);

    void record(std::uint64_t ns) noexcept {
        const unsigned range = range_of(ns);
        if (range < min_range_)
            ++buckets_.front();
        else if (range > max_range_)
            ++buckets_.back();
        else
            ++buckets_[index_of(ns, range)];
    }
    /// One of the same options.
    void merge(const latency_histogram& other) noexcept;

    [[nodiscard]] const histogram_options& options() const noexcept { return options_; }
    [[nodiscard]] unsigned min_range() const noexcept { return min_range_; }
    [[nodiscard]] unsigned max_range() const noexcept { return max_range_; }
    [[nodiscard]] std::span<const std::uint64_t> buckets() const noexcept { return buckets_; }
    [[nodiscard]] std::uint64_t count() const noexcept;
    /// The smallest value above the bucket.
    [[nodiscard]] std::uint64_t upper_bound_of(std::size_t bucket) const noexcept;
    /// The value, as the upper bound of its bucket, that a fraction p of all does not exceed; 0
    /// when empty. p is in [0, 1].
    [[nodiscard]] std::uint64_t quantile(double p) const noexcept;

private:
    [[nodiscard]] unsigned range_of(std::uint64_t ns) const noexcept {
        const auto width = static_cast<unsigned>(std::bit_width(ns));
        return width > options_.granularity ? width - options_.granularity : 0;
    }
    [[nodiscard]] std::size_t index_of(std::uint64_t ns, unsigned range) const noexcept {
        const std::uint64_t within =
            (ns >> (range == 0 ? 0 : range - 1)) & ((std::uint64_t{1} << options_.granularity) - 1);
        return (std::size_t{range - min_range_} << options_.granularity) +
               static_cast<std::size_t>(within);
    }

    histogram_options options_;
    unsigned min_range_;
    unsigned max_range_;
    std::vector<std::uint64_t> buckets_;
};

}  // namespace nacre
