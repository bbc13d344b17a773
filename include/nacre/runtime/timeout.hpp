// SPDX-License-Identifier: BSD-3-Clause
//
// A bound on how long a task may take.
//
//     auto read = co_await with_timeout(read_header(device), 50'000'000);
//
// When the time is up the task is asked to stop, and is still awaited: what it lent to a device
// stays lent until the device answers. The result is ETIMEDOUT if the task then ended with
// ECANCELED; if it came through after all, late, its own result stands. No allocation.
#pragma once

#include <cstdint>

#include "nacre/runtime/thread.hpp"
#include "nacre/runtime/timer.hpp"

namespace nacre {

/// T is a result.
template <typename T>
class [[nodiscard]] timeout_awaiter {
public:
    timeout_awaiter(task<T> child, std::uint64_t ns) noexcept : child_(std::move(child)), ns_(ns) {}
    timeout_awaiter(const timeout_awaiter&) = delete;
    timeout_awaiter& operator=(const timeout_awaiter&) = delete;
    ~timeout_awaiter() = default;

    [[nodiscard]] bool await_ready() const noexcept { return !child_.valid(); }
    template <std::derived_from<promise_base> P>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<P> parent) noexcept {
        stop_.follow(static_cast<promise_base&>(parent.promise()).stop());
        home_ = thread::current();
        NACRE_ASSERT(home_ != nullptr);
        const std::uint64_t now = home_->now_ns();
        const std::uint64_t deadline = ns_ > UINT64_MAX - now ? UINT64_MAX : now + ns_;
        home_->host().timers().arm(timer_, deadline);
        return child_.start_under(parent, &stop_);
    }
    [[nodiscard]] T await_resume() noexcept {
        timer_.cancel();
        if (!child_.valid()) [[unlikely]]
            return task<T>::no_frame();
        T value = child_.finished_value();
        if (timed_out_ && !value && value.error().is(ECANCELED)) return fail(ETIMEDOUT);
        return value;
    }

private:
    struct stop_timer : timer {
        explicit stop_timer(timeout_awaiter& of) noexcept
            : timer([](timer& t) noexcept {
                  timeout_awaiter& self = static_cast<stop_timer&>(t).owner;
                  const thread_guard guard(*self.home_);  // a timer belongs to no thread
                  // Whoever was asked by its parent first ends with ECANCELED, not ETIMEDOUT.
                  self.timed_out_ = !self.stop_.stop_requested();
                  self.stop_.request_stop();
              }),
              owner(of) {}
        timeout_awaiter& owner;
    };
    stop_source stop_;
    task<T> child_;
    std::uint64_t ns_;
    thread* home_ = nullptr;
    bool timed_out_ = false;
    stop_timer timer_{*this};
};

/// `result<T> r = co_await with_timeout(f(), ns);` counts from the current turn's stamp.
template <typename T>
    requires is_result<T>
timeout_awaiter<T> with_timeout(task<T> child, std::uint64_t ns) noexcept {
    return timeout_awaiter<T>(std::move(child), ns);
}

}  // namespace nacre
