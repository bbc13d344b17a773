// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/runtime/interval.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "stepped_world.hpp"

namespace nacre {
namespace {

constexpr std::uint64_t ms = 1'000'000;

/// Notes when each tick came, in milliseconds, and then works for so long.
task<result<>> tick(std::vector<std::uint64_t> work_ms, std::vector<std::uint64_t>* seen_ms,
                    std::uint64_t* missed) {
    const std::uint64_t start = thread::current()->now_ns();
    interval ticks(10 * ms);
    for (const std::uint64_t each : work_ms) {
        result<> ticked = co_await ticks.next();
        if (!ticked) co_return ticked;
        seen_ms->push_back((thread::current()->now_ns() - start) / ms);
        result<> worked = co_await sleep_for(each * ms);
        if (!worked) co_return worked;
    }
    *missed = ticks.missed();
    co_return {};
}

TEST(interval, ticks_at_whole_periods_however_long_the_work_takes) {
    stepped_runtime r;
    std::vector<std::uint64_t> seen;
    std::uint64_t missed = 9;
    std::vector<std::uint64_t> work{0, 3, 9, 0, 7, 0};
    EXPECT_TRUE(r.run(tick, std::move(work), &seen, &missed).has_value());
    EXPECT_EQ(seen, (std::vector<std::uint64_t>{10, 20, 30, 40, 50, 60}));
    EXPECT_EQ(missed, 0U);
}

TEST(interval, leaves_out_what_the_work_was_too_slow_for) {
    stepped_runtime r;
    std::vector<std::uint64_t> seen;
    std::uint64_t missed = 9;
    // After 10 the work lasts until 45: the tick of 40 comes late, those of 20 and 30 never.
    std::vector<std::uint64_t> work{35, 0, 0};
    EXPECT_TRUE(r.run(tick, std::move(work), &seen, &missed).has_value());
    EXPECT_EQ(seen, (std::vector<std::uint64_t>{10, 45, 50}));
    EXPECT_EQ(missed, 2U);
}

task<result<>> stop_a_clock() {
    scope children;
    std::vector<std::uint64_t> seen;
    std::uint64_t missed = 0;
    children.spawn(tick(std::vector<std::uint64_t>(100, 0), &seen, &missed));
    result<> slept = co_await sleep_for(25 * ms);
    if (!slept) co_return slept;
    children.request_stop();
    result<> joined = co_await children.join();
    if (seen.size() != 2) co_return fail(EPROTO);
    co_return joined;
}

TEST(interval, ends_when_its_task_is_asked_to_stop) {
    stepped_runtime r;
    EXPECT_TRUE(r.run(stop_a_clock).error().is(ECANCELED));
    EXPECT_LT(r.w.now, stepped_world::start_ns + 30 * ms);
}

}  // namespace
}  // namespace nacre
