// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/core/histogram.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "nacre/core/random.hpp"

namespace nacre {
namespace {

TEST(histogram, is_empty_at_first) {
    const auto h = std::make_unique<histogram>();
    EXPECT_EQ(h->count(), 0u);
    EXPECT_EQ(h->min(), 0u);
    EXPECT_EQ(h->max(), 0u);
    EXPECT_EQ(h->mean(), 0.0);
    EXPECT_EQ(h->quantile(0.5), 0u);
}

TEST(histogram, buckets_cover_every_value_without_a_gap) {
    EXPECT_EQ(histogram::bucket_of(0), 0u);
    EXPECT_EQ(histogram::lower_bound_of(0), 0u);
    for (std::size_t i = 1; i < histogram::bucket_count; ++i) {
        const std::uint64_t from = histogram::lower_bound_of(i);
        ASSERT_EQ(histogram::bucket_of(from), i);
        ASSERT_EQ(histogram::bucket_of(from - 1), i - 1);
    }
    EXPECT_EQ(histogram::bucket_of(~std::uint64_t{0}), histogram::bucket_count - 1);
}

TEST(histogram, numbers_its_buckets_as_spdk_does) {
    // SPDK: range 0 holds 0 to 127, range r from 128 << (r - 1), each in 128 equal parts.
    EXPECT_EQ(histogram::bucket_of(127), 127u);
    EXPECT_EQ(histogram::bucket_of(128), 128u);
    EXPECT_EQ(histogram::bucket_of(255), 255u);
    EXPECT_EQ(histogram::bucket_of(256), 2 * 128u);
    EXPECT_EQ(histogram::bucket_of(258), 2 * 128u + 1);
    EXPECT_EQ(histogram::bucket_of(512), 3 * 128u);
}

TEST(histogram, error_is_at_most_one_part_in_128) {
    prng random(1);
    for (int i = 0; i < 100000; ++i) {
        const std::uint64_t value = random.next() >> random.below(64);
        const std::uint64_t low = histogram::lower_bound_of(histogram::bucket_of(value));
        ASSERT_LE(low, value);
        ASSERT_LE(value - low, value / 128);
    }
}

TEST(histogram, keeps_mean_and_maximum_exactly) {
    const auto h = std::make_unique<histogram>();
    for (const std::uint64_t value : {1000003u, 5u, 999u}) h->record(value);
    EXPECT_EQ(h->count(), 3u);
    EXPECT_EQ(h->min(), 5u);
    EXPECT_EQ(h->max(), 1000003u);
    EXPECT_EQ(h->sum(), 1001007u);
    EXPECT_DOUBLE_EQ(h->mean(), 1001007.0 / 3);
}

TEST(histogram, quantiles_agree_with_sorted_values) {
    const auto h = std::make_unique<histogram>();
    prng random(7);
    std::vector<std::uint64_t> values;
    for (int i = 0; i < 10001; ++i) values.push_back(random.below(1 << random.between(8, 24)));
    for (const std::uint64_t value : values) h->record(value);
    std::ranges::sort(values);
    for (const double p : {0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0}) {
        const auto rank = static_cast<std::size_t>(p * static_cast<double>(values.size() - 1));
        const std::uint64_t exact = values[rank];
        EXPECT_GE(h->quantile(p), exact) << p;
        EXPECT_LE(static_cast<double>(h->quantile(p)), static_cast<double>(exact) * 1.02 + 1) << p;
    }
    EXPECT_EQ(h->quantile(1.0), values.back());
}

TEST(histogram, merges_and_clears) {
    const auto a = std::make_unique<histogram>();
    const auto b = std::make_unique<histogram>();
    a->record(10);
    b->record(30);
    b->record(~std::uint64_t{0});
    a->merge(*b);
    EXPECT_EQ(a->count(), 3u);
    EXPECT_EQ(a->max(), ~std::uint64_t{0});
    EXPECT_EQ(a->quantile(0.5), 30u);
    EXPECT_EQ(a->buckets()[30], 1u);
    a->clear();
    EXPECT_EQ(a->count(), 0u);
    EXPECT_EQ(a->max(), 0u);
    EXPECT_EQ(b->count(), 2u);
}

}  // namespace
}  // namespace nacre
