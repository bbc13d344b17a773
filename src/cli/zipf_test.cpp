// SPDX-License-Identifier: BSD-3-Clause
#include "zipf.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace nacre::cli {
namespace {

std::vector<std::uint64_t> draw(std::uint64_t n, double theta, unsigned count) {
    const zipf numbers(n, theta);
    prng random(1);
    std::vector<std::uint64_t> seen(n);
    for (unsigned i = 0; i < count; ++i) ++seen.at(numbers.next(random));
    return seen;
}

TEST(zipf, gives_the_kth_rank_in_proportion_to_its_power) {
    for (const double theta : {0.5, 0.99, 1.0, 1.2, 2.0}) {
        constexpr std::uint64_t n = 1000;
        constexpr unsigned count = 400'000;
        std::vector<std::uint64_t> seen = draw(n, theta, count);
        std::ranges::sort(seen, std::greater());
        double whole = 0;
        for (std::uint64_t k = 1; k <= n; ++k) whole += std::pow(static_cast<double>(k), -theta);
        for (const std::uint64_t k : {1, 2, 3, 5, 10}) {
            const double expected = count * std::pow(static_cast<double>(k), -theta) / whole;
            EXPECT_NEAR(static_cast<double>(seen[k - 1]), expected, 5 * std::sqrt(expected) + 1)
                << "theta " << theta << ", rank " << k;
        }
    }
}

TEST(zipf, reaches_every_number_and_none_beyond) {
    for (const std::uint64_t n : {1, 2, 3, 7, 64}) {
        const std::vector<std::uint64_t> seen = draw(n, 0.3, 20'000);
        EXPECT_EQ(std::ranges::count(seen, 0U), 0) << n;
    }
}

TEST(zipf, strews_the_frequent_ones) {
    const std::vector<std::uint64_t> seen = draw(4096, 1.2, 100'000);
    const auto most = std::ranges::max_element(seen) - seen.begin();
    std::vector<std::uint64_t> others = seen;
    others[static_cast<std::size_t>(most)] = 0;
    const auto second = std::ranges::max_element(others) - others.begin();
    EXPECT_GT(std::abs(most - second), 100);
}

}  // namespace
}  // namespace nacre::cli
