// SPDX-License-Identifier: BSD-3-Clause
//
// interval: a clock that ticks every so often, for a coroutine that does something at each tick.
//
//     interval ticks(1'000'000'000);
//     for (;;) {
//         result<> ticked = co_await ticks.next();
//         if (!ticked) co_return;  // asked to stop
//         show(statistics);
//     }
//
// Ticks stand at whole periods after the start, however long the work between them takes. Those
// that the work was too slow for are left out, and counted. No allocation. Thread-bound.
#pragma once

#include "nacre/runtime/sleep.hpp"

namespace nacre {

class interval {
public:
    /// The first tick comes one period from now; `period_ns` > 0. On a thread of the runtime.
    explicit interval(std::uint64_t period_ns) noexcept : period_ns_(period_ns), last_ns_(now()) {
        NACRE_ASSERT(period_ns != 0);
    }

    /// `result<> ticked = co_await i.next();` ECANCELED when the task is asked to stop.
    [[nodiscard]] sleep_awaiter next() noexcept {
        const std::uint64_t at = now();
        const std::uint64_t due = at > last_ns_ ? (at - last_ns_) / period_ns_ : 0;
        if (due > 1) {
            missed_ += due - 1;
            last_ns_ += (due - 1) * period_ns_;
        }
        last_ns_ += period_ns_;
        return sleep_until(last_ns_);
    }
    [[nodiscard]] std::uint64_t period_ns() const noexcept { return period_ns_; }
    /// Ticks that were left out, ever.
    [[nodiscard]] std::uint64_t missed() const noexcept { return missed_; }

private:
    [[nodiscard]] static std::uint64_t now() noexcept {
        thread* t = thread::current();
        NACRE_ASSERT(t != nullptr);
        return t->now_ns();
    }
    std::uint64_t period_ns_;
    std::uint64_t last_ns_;  // the last tick that was handed out: ahead, if its wait was cancelled
    std::uint64_t missed_ = 0;
};

}  // namespace nacre
