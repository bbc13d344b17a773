// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/core/random.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <vector>

namespace nacre {
namespace {

TEST(splitmix64, gives_the_values_of_its_reference) {
    std::uint64_t state = 1234567;
    EXPECT_EQ(splitmix64(state), 6457827717110365317u);
    EXPECT_EQ(splitmix64(state), 3203168211198807973u);
    EXPECT_EQ(splitmix64(state), 9817491932198370423u);
}

TEST(prng, gives_the_same_sequence_for_ever) {
    // Printed seeds replay failures: these values must never change.
    prng random(42);
    const std::array<std::uint64_t, 4> expected = {1546998764402558742u, 6990951692964543102u,
                                                   12544586762248559009u, 17057574109182124193u};
    for (const std::uint64_t value : expected) EXPECT_EQ(random.next(), value);
}

TEST(prng, below_stays_below_and_is_uniform) {
    prng random(1);
    std::array<unsigned, 6> seen{};
    for (int i = 0; i < 60000; ++i) ++seen[random.below(6)];
    for (const unsigned n : seen) EXPECT_NEAR(n, 10000, 500);
    EXPECT_EQ(random.below(1), 0u);
    // A range where plain modulo would be visibly biased: two thirds of the values are in one half.
    const std::uint64_t wide = (std::uint64_t{3} << 62);
    unsigned low = 0;
    for (int i = 0; i < 30000; ++i) {
        const std::uint64_t n = random.below(wide);
        ASSERT_LT(n, wide);
        low += n < wide / 2 ? 1 : 0;
    }
    EXPECT_NEAR(low, 15000, 500);
}

TEST(prng, between_includes_both_ends) {
    prng random(2);
    bool lowest = false;
    bool highest = false;
    for (int i = 0; i < 1000; ++i) {
        const std::uint64_t n = random.between(10, 13);
        ASSERT_TRUE(n >= 10 && n <= 13);
        lowest = lowest || n == 10;
        highest = highest || n == 13;
    }
    EXPECT_TRUE(lowest && highest);
    EXPECT_EQ(random.between(7, 7), 7u);
    (void)random.between(0, ~std::uint64_t{0});
}

TEST(prng, chance_is_never_at_zero_and_always_at_one) {
    prng random(3);
    unsigned hits = 0;
    for (int i = 0; i < 10000; ++i) {
        EXPECT_FALSE(random.chance(0));
        EXPECT_TRUE(random.chance(1));
        hits += random.chance(0.25) ? 1 : 0;
    }
    EXPECT_NEAR(hits, 2500, 200);
}

TEST(prng, fills_any_size_with_the_same_bytes_for_a_seed) {
    for (const std::size_t size : {0u, 1u, 7u, 8u, 9u, 4096u}) {
        std::vector<std::byte> a(size);
        std::vector<std::byte> b(size);
        prng(5).fill(a);
        prng(5).fill(b);
        EXPECT_EQ(a, b);
    }
    std::vector<std::byte> zeros(4096);
    prng(5).fill(zeros);
    EXPECT_LT(std::ranges::count(zeros, std::byte{0}), 64);
}

TEST(prng, forks_into_another_sequence) {
    prng parent(9);
    prng child = parent.fork();
    EXPECT_NE(parent.next(), child.next());
    EXPECT_NE(prng(1).next(), prng(2).next());
}

TEST(prng_death, refuses_an_empty_range) {
    prng random(1);
    EXPECT_DEATH((void)random.below(0), "assertion failed");
}

}  // namespace
}  // namespace nacre
