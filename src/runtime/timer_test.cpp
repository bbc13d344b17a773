// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/runtime/timer.hpp"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <set>
#include <vector>

#include "nacre/core/random.hpp"

namespace nacre {
namespace {

constexpr std::uint64_t tick_ns = 1U << timer_wheel::tick_shift;

struct recorder : timer {
    explicit recorder(std::vector<int>& to, int number)
        : timer([](timer& t) noexcept {
              auto& self = static_cast<recorder&>(t);
              self.fired->push_back(self.id);
          }),
          fired(&to),
          id(number) {}
    std::vector<int>* fired;
    int id;
};

TEST(timer_wheel, never_fires_early_and_at_most_one_tick_late) {
    for (const std::uint64_t start : {std::uint64_t{0}, std::uint64_t{5}, std::uint64_t{1} << 40}) {
        for (std::uint64_t delay = 1; delay < std::uint64_t{1} << 50; delay = delay * 3 + 1) {
            timer_wheel wheel(start);
            std::vector<int> fired;
            recorder t(fired, 1);
            const std::uint64_t deadline = start + delay;
            wheel.arm(t, deadline);
            // Follow the wheel's own wish of when to be called, as a sleeping reactor does.
            std::uint64_t now = start;
            int calls = 0;
            while (fired.empty()) {
                ASSERT_LE(++calls, 16);
                ASSERT_GT(wheel.next_ns(), now);
                now = wheel.next_ns();
                wheel.expire(now);
                if (now < deadline) {
                    ASSERT_TRUE(fired.empty());
                }
            }
            EXPECT_GE(now, deadline);
            EXPECT_LT(now, deadline + tick_ns);
            EXPECT_EQ(wheel.next_ns(), UINT64_MAX);
        }
    }
}

TEST(timer_wheel, fires_a_past_deadline_at_the_next_tick) {
    const std::uint64_t now = 1'000'000'000;
    timer_wheel wheel(now);
    std::vector<int> fired;
    recorder t(fired, 1);
    wheel.arm(t, 17);
    EXPECT_LE(wheel.next_ns(), now + tick_ns);
    EXPECT_EQ(wheel.expire(now + tick_ns), 1U);
    EXPECT_FALSE(t.armed());
}

TEST(timer_wheel, does_not_fire_what_was_cancelled_or_destroyed) {
    timer_wheel wheel(0);
    std::vector<int> fired;
    recorder kept(fired, 1), cancelled(fired, 2);
    wheel.arm(kept, 1'000'000);
    wheel.arm(cancelled, 1'000'000);
    {
        recorder destroyed(fired, 3);
        wheel.arm(destroyed, 1'000'000);
    }
    cancelled.cancel();
    cancelled.cancel();
    wheel.expire(2'000'000);
    EXPECT_EQ(fired, std::vector<int>{1});
    EXPECT_EQ(wheel.next_ns(), UINT64_MAX);
}

TEST(timer_wheel, keeps_a_timer_for_ever_that_is_armed_for_the_end_of_time) {
    timer_wheel wheel(12'345);
    std::vector<int> fired;
    recorder t(fired, 1);
    wheel.arm(t, UINT64_MAX);
    std::uint64_t now = 12'345;
    for (int i = 0; i < 1000 && wheel.next_ns() < UINT64_MAX / 4; ++i) {
        now = wheel.next_ns();
        wheel.expire(now);
    }
    wheel.expire(std::uint64_t{1} << 61);
    EXPECT_TRUE(fired.empty());
    EXPECT_TRUE(t.armed());
}

struct cancelling : timer {
    cancelling()
        : timer([](timer& t) noexcept {
              for (timer* other : static_cast<cancelling&>(t).others) other->cancel();
          }) {}
    std::vector<timer*> others;
};

TEST(timer_wheel, lets_a_firing_timer_cancel_others_that_are_due) {
    timer_wheel wheel(0);
    std::vector<int> fired;
    cancelling first;
    recorder second(fired, 2), third(fired, 3);
    first.others = {&second, &third};
    wheel.arm(first, 100);
    wheel.arm(second, 100);
    wheel.arm(third, 50'000'000);
    wheel.expire(60'000'000);
    EXPECT_TRUE(fired.empty());
}

struct repeating : timer {
    repeating(timer_wheel& w, std::uint64_t period)
        : timer([](timer& t) noexcept {
              auto& self = static_cast<repeating&>(t);
              ++self.count;
              self.wheel->arm(self, *self.now + self.period_ns);
          }),
          wheel(&w),
          period_ns(period) {}
    timer_wheel* wheel;
    std::uint64_t period_ns;
    const std::uint64_t* now = nullptr;
    int count = 0;
};

TEST(timer_wheel, lets_a_firing_timer_arm_itself_again_once_a_call) {
    timer_wheel wheel(0);
    std::uint64_t now = 0;
    repeating t(wheel, 1);
    t.now = &now;
    wheel.arm(t, 1);
    for (int i = 1; i <= 100; ++i) {
        now += 10 * tick_ns;
        wheel.expire(now);
        ASSERT_EQ(t.count, i);
    }
    t.cancel();
}

// The wheel against what it stands for: a multimap from deadline to timer.
class model_check {
public:
    explicit model_check(std::uint64_t seed) : random_(seed), now_(random_.below(1ULL << 45)) {
        wheel_ = std::make_unique<timer_wheel>(now_);
        for (int i = 0; i < timers; ++i) timers_.push_back(std::make_unique<recorder>(fired_, i));
    }
    void run(int steps) {
        for (int i = 0; i < steps && !testing::Test::HasFatalFailure(); ++i) {
            const auto n = static_cast<int>(random_.below(timers));
            const auto what = random_.below(10);
            if (what < 5)
                arm(n);
            else if (what < 8)
                cancel(n);
            else
                advance();
        }
        for (int i = 0; i < timers; ++i) cancel(i);
    }

private:
    static constexpr int timers = 64;
    // Every magnitude of distance alike, so that every level is used.
    std::uint64_t distance() { return random_.below(std::uint64_t{2} << random_.below(46)); }
    void arm(int n) {
        cancel(n);
        const std::uint64_t deadline = now_ + distance();
        wheel_->arm(*timers_[static_cast<std::size_t>(n)], deadline);
        model_.emplace(deadline, n);
        armed_[n] = deadline;
    }
    void cancel(int n) {
        timers_[static_cast<std::size_t>(n)]->cancel();
        if (auto at = armed_.find(n); at != armed_.end()) {
            forget(at->second, n);
            armed_.erase(at);
        }
    }
    void forget(std::uint64_t deadline, int n) {
        auto [begin, end] = model_.equal_range(deadline);
        for (; begin != end; ++begin)
            if (begin->second == n) {
                model_.erase(begin);
                return;
            }
    }
    void advance() {
        // Either to just where the wheel asks for, or anywhere.
        const std::uint64_t next = wheel_->next_ns();
        if (random_.chance(0.5) && next != UINT64_MAX)
            now_ = std::max(now_, next);
        else
            now_ += distance();
        fired_.clear();
        wheel_->expire(now_);
        for (int n : fired_) {
            ASSERT_TRUE(armed_.contains(n)) << "fired without being armed";
            ASSERT_LE(armed_[n], now_) << "early";
            forget(armed_[n], n);
            armed_.erase(n);
        }
        // What is left is not due, but for the rounding up to a tick.
        const std::uint64_t tick_start = now_ / tick_ns * tick_ns;
        if (!model_.empty()) {
            ASSERT_GT(model_.begin()->first + tick_ns, tick_start) << "late";
            // It asks to be called no later than the tick of the earliest.
            const std::uint64_t due = (model_.begin()->first + tick_ns - 1) / tick_ns * tick_ns;
            ASSERT_LE(wheel_->next_ns(), std::max(due, tick_start + tick_ns));
        }
        ASSERT_GT(wheel_->next_ns(), now_);
    }

    prng random_;
    std::uint64_t now_;
    std::vector<int> fired_;
    std::unique_ptr<timer_wheel> wheel_;
    std::vector<std::unique_ptr<recorder>> timers_;
    std::multimap<std::uint64_t, int> model_;
    std::map<int, std::uint64_t> armed_;
};

TEST(timer_wheel, agrees_with_a_multimap_on_random_arms_cancels_and_leaps) {
    for (std::uint64_t seed = 1; seed <= 200 && !HasFatalFailure(); ++seed) {
        SCOPED_TRACE(seed);
        model_check check(seed);
        check.run(3000);
    }
}

}  // namespace
}  // namespace nacre
