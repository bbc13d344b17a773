// SPDX-License-Identifier: BSD-3-Clause
//
// The one way a coroutine waits: a node in a FIFO that is woken or cancelled, exactly once.
//
// A `waiter` lives in an awaiter, in the suspended frame. Waking it unlinks it everywhere and makes
// it ready on its own thread; it never resumes on the spot. If the task's stop source is asked
// first, it is woken with ECANCELED. All synchronisation primitives are built from this. No
// allocation.
#pragma once

#include <coroutine>
#include <cstdint>

#include "nacre/core/error.hpp"
#include "nacre/core/intrusive_list.hpp"
#include "nacre/core/work.hpp"
#include "nacre/runtime/stop.hpp"
#include "nacre/runtime/task.hpp"

namespace nacre {

class thread;
/// The run queue of the current thread; there is one.
[[nodiscard]] run_queue& current_run_queue() noexcept;

class waiter : public list_hook, public work {
public:
    waiter() noexcept = default;

    /// Wakes it; it must not have been woken before. `status` is what await_resume reports.
    void wake(error status = {}) noexcept {
        if (list_hook::linked()) list_hook::unlink();
        if (on_stop_.linked()) on_stop_.unlink();
        status_ = status;
        home_->push(*this);
    }
    [[nodiscard]] error status() const noexcept { return status_; }
    /// Free use of the primitive: which side a lock's waiter wants, how many permits.
    std::uint64_t argument = 0;

    /// Returns false, with the status set, if the task was already asked to stop: do not suspend.
    bool prepare(std::coroutine_handle<> h, stop_source* stop) noexcept {
        if (stop != nullptr) {
            if (stop->stop_requested()) {
                status_ = error::posix(ECANCELED);
                return false;
            }
            stop->link(on_stop_);
        }
        frame_ = h.address();
        home_ = &current_run_queue();
        run = [](work& w) noexcept { resume_frame(static_cast<waiter&>(w).frame_); };
        return true;
    }
    /// The primitive's clean-up when the wait is cancelled; runs before the waiter is made ready.
    using cancel_function = void (*)(waiter& self) noexcept;
    cancel_function on_cancel = nullptr;

private:
    struct stop_hook : stop_callback {
        explicit stop_hook(waiter& of) noexcept
            : stop_callback([](stop_callback& self) noexcept {
                  waiter& w = static_cast<stop_hook&>(self).owner;
                  if (w.on_cancel != nullptr) w.on_cancel(w);
                  w.wake(error::posix(ECANCELED));
              }),
              owner(of) {}
        waiter& owner;
    };
    void* frame_ = nullptr;
    run_queue* home_ = nullptr;
    error status_;
    stop_hook on_stop_{*this};
};

using wait_list = intrusive_list<waiter>;

/// Base of awaiters: `Derived::enqueue(waiter&)` links the waiter somewhere and returns true, or
/// returns false when there is nothing to wait for.
template <typename Derived>
class wait_awaiter : public waiter {
public:
    [[nodiscard]] static constexpr bool await_ready() noexcept { return false; }
    template <std::derived_from<promise_base> P>
    bool await_suspend(std::coroutine_handle<P> h) noexcept {
        if (!static_cast<Derived*>(this)->must_wait()) return false;
        if (!prepare(h, static_cast<promise_base&>(h.promise()).stop())) return false;
        static_cast<Derived*>(this)->enqueue(*this);
        return true;
    }
    [[nodiscard]] result<> await_resume() const noexcept {
        if (status().failed()) return fail(status());
        return {};
    }
};

}  // namespace nacre
