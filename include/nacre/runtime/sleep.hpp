// SPDX-License-Identifier: BSD-3-Clause
//
// Waiting for time to pass, and letting others go first.
//
//     result<> slept = co_await sleep_for(5'000'000);
//     co_await yield();
//
// Times are nanoseconds on the reactor's clock, which is read once a turn: sleep_for() counts from
// the stamp of the current turn. A sleep never ends early; it ends with ECANCELED when its task is
// asked to stop. No allocation.
// Cost of yield and of arming and cancelling: see bench/budgets.tsv.
#pragma once

#include <concepts>
#include <coroutine>
#include <cstdint>

#include "nacre/runtime/thread.hpp"
#include "nacre/runtime/timer.hpp"
#include "nacre/runtime/waiter.hpp"

namespace nacre {

class [[nodiscard]] sleep_awaiter : public wait_awaiter<sleep_awaiter> {
public:
    /// `since_ns` is added to the deadline, which saturates: UINT64_MAX means until cancelled.
    sleep_awaiter(std::uint64_t since_ns, std::uint64_t ns) noexcept
        : deadline_ns_(ns > UINT64_MAX - since_ns ? UINT64_MAX : since_ns + ns) {
        on_cancel = [](waiter& w) noexcept { static_cast<sleep_awaiter&>(w).timer_.cancel(); };
    }
    [[nodiscard]] bool must_wait() const noexcept { return deadline_ns_ > here().now_ns(); }
    void enqueue(waiter&) noexcept { here().timers().arm(timer_, deadline_ns_); }

private:
    [[nodiscard]] static reactor& here() noexcept {
        thread* t = thread::current();
        NACRE_ASSERT(t != nullptr);
        return t->host();
    }
    struct wake_timer : timer {
        explicit wake_timer(sleep_awaiter& of) noexcept
            : timer([](timer& t) noexcept { static_cast<wake_timer&>(t).owner.wake(); }),
              owner(of) {}
        sleep_awaiter& owner;
    };
    std::uint64_t deadline_ns_;
    wake_timer timer_{*this};
};

/// Until `deadline_ns`; a past one does not suspend.
inline sleep_awaiter sleep_until(std::uint64_t deadline_ns) noexcept {
    return sleep_awaiter(0, deadline_ns);
}
/// On a thread of the runtime only. 0 does not suspend; yield() does.
inline sleep_awaiter sleep_for(std::uint64_t ns) noexcept {
    thread* t = thread::current();
    NACRE_ASSERT(t != nullptr);
    return sleep_awaiter(t->now_ns(), ns);
}

class [[nodiscard]] yield_awaiter : work {
public:
    yield_awaiter() noexcept = default;
    yield_awaiter(const yield_awaiter&) = delete;
    yield_awaiter& operator=(const yield_awaiter&) = delete;
    [[nodiscard]] static constexpr bool await_ready() noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) noexcept {
        frame_ = h.address();
        run = [](work& w) noexcept { resume_frame(static_cast<yield_awaiter&>(w).frame_); };
        current_run_queue().push(*this);
    }
    static void await_resume() noexcept {}

private:
    void* frame_ = nullptr;
};

/// To the back of the thread's ready list: whatever is ready now, and the kernel, go first.
inline yield_awaiter yield() noexcept { return {}; }

}  // namespace nacre
