// SPDX-License-Identifier: BSD-3-Clause
//
// Synchronisation between coroutines of one thread: event, mutex, shared_mutex, semaphore,
// condition, gate. All are fair (first come, first served), allocate nothing, and every wait ends
// with ECANCELED when its task is asked to stop. Thread-bound; a primitive outlives its waiters
// (asserted).
#pragma once

#include <utility>

#include "nacre/runtime/waiter.hpp"

namespace nacre {

/// Manual-reset: once set, everybody passes until reset().
class event {
public:
    void set() noexcept {
        set_ = true;
        while (waiter* w = waiters_.front()) w->wake();
    }
    void reset() noexcept { set_ = false; }
    [[nodiscard]] bool is_set() const noexcept { return set_; }

    class awaiter : public wait_awaiter<awaiter> {
    public:
        explicit awaiter(event& e) noexcept : event_(e) {}
        [[nodiscard]] bool must_wait() const noexcept { return !event_.set_; }
        void enqueue(waiter& w) noexcept { event_.waiters_.push_back(w); }

    private:
        event& event_;
    };
    /// `result<> r = co_await e.wait();`
    [[nodiscard]] awaiter wait() noexcept { return awaiter(*this); }

private:
    wait_list waiters_;
    bool set_ = false;
};

/// Permits are handed over in order: a large request at the head is not overtaken by small ones.
class semaphore {
public:
    explicit semaphore(std::uint64_t permits) noexcept : permits_(permits) {}
    [[nodiscard]] std::uint64_t available() const noexcept { return permits_; }
    [[nodiscard]] bool try_acquire(std::uint64_t n = 1) noexcept {
        if (!waiters_.empty() || permits_ < n) return false;
        permits_ -= n;
        return true;
    }
    void release(std::uint64_t n = 1) noexcept {
        permits_ += n;
        serve();
    }

    class awaiter : public wait_awaiter<awaiter> {
    public:
        awaiter(semaphore& s, std::uint64_t n) noexcept : semaphore_(s) {
            argument = n;
            on_cancel = [](waiter& w) noexcept {
                // Whoever stood behind a cancelled large request may fit now.
                w.list_hook::unlink();
                static_cast<awaiter&>(w).semaphore_.serve();
            };
        }
        [[nodiscard]] bool must_wait() noexcept { return !semaphore_.try_acquire(argument); }
        void enqueue(waiter& w) noexcept { semaphore_.waiters_.push_back(w); }

    private:
        semaphore& semaphore_;
    };
    /// On success the caller owns `n` permits and releases them.
    [[nodiscard]] awaiter acquire(std::uint64_t n = 1) noexcept { return awaiter(*this, n); }

private:
    void serve() noexcept {
        for (waiter* w = waiters_.front(); w != nullptr && w->argument <= permits_;
             w = waiters_.front()) {
            permits_ -= w->argument;
            w->wake();
        }
    }
    wait_list waiters_;
    std::uint64_t permits_;
};

class mutex {
public:
    [[nodiscard]] auto lock() noexcept { return permits_.acquire(); }
    [[nodiscard]] bool try_lock() noexcept { return permits_.try_acquire(); }
    void unlock() noexcept { permits_.release(); }
    [[nodiscard]] bool locked() const noexcept { return permits_.available() == 0; }

private:
    semaphore permits_{1};
};

/// Readers together, a writer alone; a waiting writer stops later readers from overtaking it.
class shared_mutex {
public:
    [[nodiscard]] auto lock() noexcept { return permits_.acquire(readers_max); }
    [[nodiscard]] auto lock_shared() noexcept { return permits_.acquire(1); }
    [[nodiscard]] bool try_lock() noexcept { return permits_.try_acquire(readers_max); }
    [[nodiscard]] bool try_lock_shared() noexcept { return permits_.try_acquire(1); }
    void unlock() noexcept { permits_.release(readers_max); }
    void unlock_shared() noexcept { permits_.release(1); }

private:
    static constexpr std::uint64_t readers_max = 1U << 30;
    semaphore permits_{readers_max};
};

/// Releases a lock at the end of the block: `unlock_guard guard(m);` after a successful lock().
template <typename Mutex>
class [[nodiscard]] unlock_guard {
public:
    explicit unlock_guard(Mutex& m) noexcept : mutex_(&m) {}
    unlock_guard(unlock_guard&& o) noexcept : mutex_(std::exchange(o.mutex_, nullptr)) {}
    unlock_guard& operator=(unlock_guard&&) = delete;
    ~unlock_guard() {
        if (mutex_ != nullptr) mutex_->unlock();
    }

private:
    Mutex* mutex_;
};

/// Waiters of something to become true. On one thread nothing runs between testing it and waiting,
/// so no mutex belongs to it: `while (!ready) { result<> r = co_await c.wait(); … }`.
class condition {
public:
    void notify_one() noexcept {
        if (waiter* w = waiters_.front()) w->wake();
    }
    void notify_all() noexcept {
        while (waiter* w = waiters_.front()) w->wake();
    }
    [[nodiscard]] bool has_waiters() const noexcept { return !waiters_.empty(); }

    class awaiter : public wait_awaiter<awaiter> {
    public:
        explicit awaiter(condition& c) noexcept : condition_(c) {}
        [[nodiscard]] static bool must_wait() noexcept { return true; }
        void enqueue(waiter& w) noexcept { condition_.waiters_.push_back(w); }

    private:
        condition& condition_;
    };
    [[nodiscard]] awaiter wait() noexcept { return awaiter(*this); }

private:
    wait_list waiters_;
};

/// Counts who is inside; after close() nobody enters, and closing waits until all have left.
class gate {
public:
    /// False once closed.
    [[nodiscard]] bool enter() noexcept {
        if (closed_) return false;
        ++inside_;
        return true;
    }
    void leave() noexcept {
        NACRE_ASSERT(inside_ != 0);
        if (--inside_ != 0) return;
        while (waiter* w = waiters_.front()) w->wake();
    }
    [[nodiscard]] bool closed() const noexcept { return closed_; }
    [[nodiscard]] std::uint64_t inside() const noexcept { return inside_; }

    class awaiter : public wait_awaiter<awaiter> {
    public:
        explicit awaiter(gate& g) noexcept : gate_(g) {}
        [[nodiscard]] bool must_wait() noexcept {
            gate_.closed_ = true;
            return gate_.inside_ != 0;
        }
        void enqueue(waiter& w) noexcept { gate_.waiters_.push_back(w); }

    private:
        gate& gate_;
    };
    /// Closes at once, then waits until it is empty.
    [[nodiscard]] awaiter close() noexcept { return awaiter(*this); }

private:
    wait_list waiters_;
    std::uint64_t inside_ = 0;
    bool closed_ = false;
};

}  // namespace nacre
