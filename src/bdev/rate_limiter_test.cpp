// SPDX-License-Identifier: BSD-3-Clause
//
// The limiter by itself, on a clock that the test holds: whose tokens are whose.
#include "rate_limiter.hpp"

#include <gtest/gtest.h>

namespace nacre {
namespace {

constexpr std::uint64_t ms = 1'000'000;

/// 1,000 I/Os a second are one a slice.
constexpr rate_limits one_a_slice{.rw_ios_per_sec = 1'000};

struct limiter_test : testing::Test {
    limiter_test() { limiter.set(one_a_slice, now); }
    ~limiter_test() override {
        limiter.forget(a);
        limiter.forget(b);
    }
    bool take(rate_limiter::share& s, std::uint64_t bytes = 512) {
        return limiter.take(s, opcode::read, bytes, now);
    }
    unsigned take_all(rate_limiter::share& s, unsigned most = 10'000) {
        unsigned n = 0;
        while (n < most && take(s)) ++n;
        return n;
    }
    std::uint64_t now = 1'000 * ms;
    rate_limiter limiter;
    rate_limiter::share a, b;
};

using rate_limiter_tokens = limiter_test;

TEST_F(rate_limiter_tokens, of_who_waits_and_does_not_ask_are_kept_within_bounds) {
    EXPECT_EQ(take_all(a), 1U);
    now += 1'000 * ms;
    EXPECT_LE(take_all(a), 11U);  // and not 1,000
}

TEST_F(rate_limiter_tokens, of_an_old_limit_are_worth_nothing_under_a_new_one) {
    limiter.set({.rw_ios_per_sec = 1'000'000}, now);
    EXPECT_EQ(take_all(a), 1'000U);
    now += ms;
    limiter.set(one_a_slice, now);
    EXPECT_LE(take_all(a), 2U);
}

TEST_F(rate_limiter_tokens, suffice_for_an_op_of_any_length_and_are_then_owed) {
    limiter.set({.rw_bytes_per_sec = 1'000'000}, now);  // 1,000 a slice
    EXPECT_TRUE(take(a, 100'000));
    EXPECT_FALSE(take(a, 1));
    now += 50 * ms;
    EXPECT_FALSE(take(a, 1));
    now += 60 * ms;
    EXPECT_TRUE(take(a, 1));
}

/// What who waits owes, when it goes, everybody owes.
TEST_F(rate_limiter_tokens, that_are_owed_are_not_forgotten_with_the_debtor) {
    limiter.set({.rw_bytes_per_sec = 1'000'000}, now);
    EXPECT_TRUE(take(a, 1'000));
    EXPECT_FALSE(take(a, 100'000));
    now += 5 * ms;
    EXPECT_TRUE(take(a, 100'000));
    limiter.leave(a, now);
    now += 50 * ms;
    EXPECT_FALSE(take(b, 1'000));
    now += 60 * ms;
    EXPECT_TRUE(take(b, 1'000));
}

/// They are another's only after a slice.
TEST_F(rate_limiter_tokens, stay_for_a_moment_with_who_goes) {
    limiter.set({.rw_ios_per_sec = 100'000}, now);  // 100 a slice
    EXPECT_EQ(take_all(a), 100U);
    now += ms;  // 100 more, all a's
    EXPECT_EQ(take_all(a, 10), 10U);
    limiter.leave(a, now);
    EXPECT_FALSE(take(b));
    now += ms / 2;  // b is the only one that waits: what is new is its own
    EXPECT_EQ(take_all(b), 50U);
    EXPECT_EQ(take_all(a), 90U);
    limiter.leave(a, now);
}

TEST_F(rate_limiter_tokens, go_back_to_all_when_the_moment_is_over) {
    limiter.set({.rw_ios_per_sec = 100'000}, now);
    EXPECT_EQ(take_all(a), 100U);
    now += ms;
    EXPECT_EQ(take_all(a, 10), 10U);
    EXPECT_EQ(take_all(b), 0U);
    limiter.leave(a, now);
    now += ms;
    EXPECT_EQ(take_all(b), 190U);  // what is new, and the 90 that a left
}

}  // namespace
}  // namespace nacre
