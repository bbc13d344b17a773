// SPDX-License-Identifier: BSD-3-Clause
//
// What the coroutines of servers wait for: a request to the kernel, or each other. Neither takes
// notice of stop sources: what serves others ends by its own protocol, whoever is asked to stop.
#pragma once

#include <coroutine>

#include "nacre/runtime/thread.hpp"
#include "nacre/world/io_driver.hpp"

namespace nacre {

/// A derived class sets it up; then `std::int32_t n = co_await io.carry_out();` gives the result,
/// or a negative errno, when the kernel is done with it.
class kernel_io : protected io_request {
public:
    explicit kernel_io(int descriptor) noexcept { fd = descriptor; }
    kernel_io(const kernel_io&) = delete;
    kernel_io& operator=(const kernel_io&) = delete;
    ~kernel_io() { NACRE_ASSERT(!under_way_); }

    /// Asks; carry_out() still ends in its own time, with -ECANCELED or with what was done.
    void cancel() noexcept {
        if (under_way_) driver_->cancel(*this);
    }

    struct awaiter {
        kernel_io& self;
        [[nodiscard]] static constexpr bool await_ready() noexcept { return false; }
        void await_suspend(std::coroutine_handle<> h) const noexcept { self.start(h); }
        [[nodiscard]] std::int32_t await_resume() const noexcept { return self.result; }
    };
    [[nodiscard]] awaiter carry_out() noexcept { return awaiter{*this}; }

protected:
    /// Another driver than the reactor's, which its owner reaps.
    void go_through(io_driver& other) noexcept { driver_ = other_ = &other; }

private:
    void start(std::coroutine_handle<> h) noexcept {
        NACRE_ASSERT(!under_way_);
        thread* const here = thread::current();
        handle_ = h;
        if (driver_ == nullptr) driver_ = &here->host().driver();
        home = here;
        run = [](work& w) noexcept {
            auto& self = static_cast<kernel_io&>(static_cast<io_request&>(w));
            self.under_way_ = false;
            self.handle_.resume();
        };
        under_way_ = true;
        driver_->submit(*this);
        if (other_ != nullptr) other_->flush();
    }
    std::coroutine_handle<> handle_;
    io_driver* driver_ = nullptr;
    io_driver* other_ = nullptr;
    bool under_way_ = false;
};

/// Where coroutines of one thread wait for something to become true:
/// `while (!ready) co_await point.wait();`. Those woken run in the next turn, after all that is
/// ready now, which is what gathers the replies of a turn into one send.
class wait_point {
public:
    wait_point() noexcept = default;
    wait_point(const wait_point&) = delete;
    wait_point& operator=(const wait_point&) = delete;
    ~wait_point() { NACRE_ASSERT(waiting_ == nullptr); }

    void wake_all() noexcept {
        while (waiting_ != nullptr) {
            awaiter& w = *waiting_;
            waiting_ = w.next_waiting_;
            w.home_->push(w);
        }
    }
    class awaiter : private work {
    public:
        explicit awaiter(wait_point& p) noexcept : point_(p) {}
        awaiter(const awaiter&) = delete;
        awaiter& operator=(const awaiter&) = delete;
        [[nodiscard]] static constexpr bool await_ready() noexcept { return false; }
        void await_suspend(std::coroutine_handle<> h) noexcept {
            handle_ = h;
            home_ = thread::current();
            run = [](work& w) noexcept { static_cast<awaiter&>(w).handle_.resume(); };
            next_waiting_ = point_.waiting_;
            point_.waiting_ = this;
        }
        static void await_resume() noexcept {}

    private:
        friend class wait_point;
        wait_point& point_;
        std::coroutine_handle<> handle_;
        run_queue* home_ = nullptr;
        awaiter* next_waiting_ = nullptr;
    };
    [[nodiscard]] awaiter wait() noexcept { return awaiter(*this); }

private:
    awaiter* waiting_ = nullptr;
};

}  // namespace nacre
