// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/bdev/latency_histogram.hpp"

#include <algorithm>
#include <numeric>

#include "nacre/core/assert.hpp"

namespace nacre {

latency_histogram::latency_histogram(const histogram_options& options)
    : options_(options),
      min_range_(range_of(options.min_ns)),
      max_range_(range_of(options.max_ns - 1)),
      buckets_(std::size_t{max_range_ - min_range_ + 1} << options.granularity) {
    NACRE_ASSERT(options.valid());
}

void latency_histogram::merge(const latency_histogram& other) noexcept {
    NACRE_ASSERT(buckets_.size() == other.buckets_.size());
    std::ranges::transform(buckets_, other.buckets_, buckets_.begin(), std::plus<>());
}

std::uint64_t latency_histogram::count() const noexcept {
    return std::accumulate(buckets_.begin(), buckets_.end(), std::uint64_t{0});
}

std::uint64_t latency_histogram::upper_bound_of(std::size_t bucket) const noexcept {
    const std::uint64_t per_range = std::uint64_t{1} << options_.granularity;
    const std::uint64_t range = min_range_ + bucket / per_range;
    const std::uint64_t next = bucket % per_range + 1;
    return range == 0 ? next : (per_range + next) << (range - 1);
}

std::uint64_t latency_histogram::quantile(double p) const noexcept {
    const std::uint64_t all = count();
    if (all == 0) return 0;
    const auto wanted =
        std::max<std::uint64_t>(1, static_cast<std::uint64_t>(p * static_cast<double>(all) + 0.5));
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < buckets_.size(); ++i) {
        seen += buckets_[i];
        if (seen >= wanted) return upper_bound_of(i);
    }
    return upper_bound_of(buckets_.size() - 1);
}

}  // namespace nacre
