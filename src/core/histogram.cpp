// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/core/histogram.hpp"

#include <algorithm>
#include <cmath>

#include "nacre/core/assert.hpp"

namespace nacre {

std::uint64_t histogram::count() const noexcept {
    std::uint64_t total = 0;
    for (const std::uint64_t n : buckets_) total += n;
    return total;
}

std::uint64_t histogram::min() const noexcept {
    for (std::size_t i = 0; i < bucket_count; ++i)
        if (buckets_[i] != 0) return lower_bound_of(i);
    return 0;
}

double histogram::mean() const noexcept {
    const std::uint64_t total = count();
    return total == 0 ? 0.0 : static_cast<double>(sum_) / static_cast<double>(total);
}

std::uint64_t histogram::quantile(double p) const noexcept {
    NACRE_ASSERT(p >= 0.0 && p <= 1.0);
    const std::uint64_t total = count();
    if (total == 0) return 0;
    const double exact_rank = std::ceil(p * static_cast<double>(total));
    const std::uint64_t rank = std::clamp<std::uint64_t>(
        exact_rank >= static_cast<double>(total) ? total : static_cast<std::uint64_t>(exact_rank),
        1, total);
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < bucket_count; ++i) {
        seen += buckets_[i];
        if (seen < rank) continue;
        // The highest value that the bucket holds: the fraction p does not exceed it.
        const std::uint64_t highest =
            i + 1 == bucket_count ? ~std::uint64_t{0} : lower_bound_of(i + 1) - 1;
        return std::min(highest, max_);
    }
    return max_;
}

void histogram::merge(const histogram& other) noexcept {
    for (std::size_t i = 0; i < bucket_count; ++i) buckets_[i] += other.buckets_[i];
    sum_ += other.sum_;
    max_ = std::max(max_, other.max_);
}

void histogram::clear() noexcept {
    buckets_.fill(0);
    sum_ = 0;
    max_ = 0;
}

}  // namespace nacre
