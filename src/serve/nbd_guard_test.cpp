// SPDX-License-Identifier: BSD-3-Clause
#include "nbd_guard.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "nacre/core/random.hpp"

namespace nacre::nbd {
namespace {

struct writer : write_guard::entry {
    writer(std::uint64_t from, std::uint64_t to, bool alone) {
        first = from;
        end = to;
        exclusive = alone;
        admitted = [](write_guard::entry& e) noexcept { static_cast<writer&>(e).in = true; };
    }
    void enter(write_guard& g) { in = g.enter(*this); }
    bool in = false;
};

TEST(nbd_guard, lets_plain_writes_overlap) {
    write_guard guard;
    writer a(0, 8, false), b(4, 12, false);
    a.enter(guard);
    b.enter(guard);
    EXPECT_TRUE(a.in && b.in);
    guard.leave(a);
    guard.leave(b);
    EXPECT_TRUE(guard.empty());
}

TEST(nbd_guard, keeps_an_exclusive_write_until_those_inside_have_left) {
    write_guard guard;
    writer a(0, 8, false), part(7, 8, true), elsewhere(8, 9, false);
    a.enter(guard);
    part.enter(guard);
    elsewhere.enter(guard);
    EXPECT_FALSE(part.in);
    EXPECT_TRUE(elsewhere.in);
    guard.leave(a);
    EXPECT_TRUE(part.in);
    guard.leave(part);
    guard.leave(elsewhere);
    EXPECT_TRUE(guard.empty());
}

TEST(nbd_guard, lets_nobody_overtake_an_exclusive_write_that_waits) {
    write_guard guard;
    writer a(0, 8, false), part(4, 5, true), late(4, 6, false), later(5, 6, true);
    a.enter(guard);
    part.enter(guard);
    late.enter(guard);
    later.enter(guard);
    EXPECT_FALSE(late.in);
    guard.leave(a);
    EXPECT_TRUE(part.in);
    EXPECT_FALSE(late.in);
    guard.leave(part);
    EXPECT_TRUE(late.in);
    EXPECT_FALSE(later.in);
    guard.leave(late);
    EXPECT_TRUE(later.in);
    guard.leave(later);
    EXPECT_TRUE(guard.empty());
}

TEST(nbd_guard, never_lets_an_exclusive_write_in_with_another_and_forgets_nobody) {
    for (std::uint64_t seed = 1; seed <= 200; ++seed) {
        prng dice(seed);
        write_guard guard;
        std::vector<std::unique_ptr<writer>> writers;
        std::uint64_t arrivals = 40;
        while (arrivals != 0 || !writers.empty()) {
            if (arrivals != 0 && dice.chance(0.6)) {
                const std::uint64_t from = dice.below(10);
                writers.push_back(
                    std::make_unique<writer>(from, from + 1 + dice.below(4), dice.chance(0.4)));
                writers.back()->enter(guard);
                --arrivals;
            } else if (!writers.empty()) {
                std::size_t i = dice.below(writers.size());
                while (!writers[i]->in) i = (i + 1) % writers.size();  // somebody always is
                guard.leave(*writers[i]);
                writers.erase(writers.begin() + static_cast<std::ptrdiff_t>(i));
            }
            for (const auto& a : writers)
                for (const auto& b : writers)
                    ASSERT_FALSE(a != b && a->in && b->in && a->conflicts(*b)) << "seed " << seed;
        }
        EXPECT_TRUE(guard.empty());
    }
}

}  // namespace
}  // namespace nacre::nbd
