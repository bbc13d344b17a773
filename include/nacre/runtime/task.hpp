// SPDX-License-Identifier: BSD-3-Clause
//
// task<T>: a lazy coroutine, awaited where it is made.
//
//     task<result<int>> answer();
//     auto value = co_await answer();
//
// Awaiting starts the child on the spot and the end of the child resumes the parent, both by
// symmetric transfer, so a chain of awaits uses no stack. A child inherits the parent's stop
// source. Work that is not awaited where it is made is handed to a `scope` (scope.hpp).
//
// Frames come from frame_pool. When that fails the task is empty: awaiting it yields ENOMEM if T is
// a result, and is a crash otherwise, so whoever must survive exhaustion returns a result.
// Thread-bound: a task is created, awaited and destroyed on one thread.
// Cost of `co_await child()`: see bench/budgets.tsv.
#pragma once

#include <concepts>
#include <coroutine>
#include <exception>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

#include "nacre/core/assert.hpp"
#include "nacre/core/error.hpp"
#include "nacre/core/work.hpp"
#include "nacre/runtime/frame_pool.hpp"
#include "nacre/runtime/stop.hpp"

#if defined(__GNUC__) && !defined(__clang__) && defined(__SANITIZE_ADDRESS__)
#error "g++ does not keep symmetric transfer under ASan: sanitize with clang (presets asan, tsan)"
#endif

namespace nacre {

template <typename T>
class task;

template <typename T>
inline constexpr bool is_result = false;
template <typename T>
inline constexpr bool is_result<std::expected<T, error>> = true;
/// A result, or one whose error has a sentence.
template <typename T>
inline constexpr bool is_fallible = is_result<T>;
template <typename T>
inline constexpr bool is_fallible<std::expected<T, failure>> = true;

/// What every coroutine of nacre carries, whatever it returns.
class promise_base {
public:
    /// Called once, in place of resuming a parent, when a root coroutine has finished. It may
    /// destroy the frame.
    using root_function = void (*)(promise_base& self, void* context) noexcept;

    // Both forms: g++ 12 looks for the first even where the standard says the second.
    static void* operator new(std::size_t bytes) noexcept { return frame_pool::allocate(bytes); }
    static void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
        return frame_pool::allocate(bytes);
    }
    static void operator delete(void* p, std::size_t bytes) noexcept {
        frame_pool::deallocate(p, bytes);
    }

    static std::suspend_always initial_suspend() noexcept { return {}; }
    [[noreturn]] static void unhandled_exception() noexcept { std::terminate(); }

    [[nodiscard]] stop_source* stop() const noexcept { return stop_; }

    struct final_awaiter {
        static constexpr bool await_ready() noexcept { return false; }
        template <typename Promise>
        static std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> h) noexcept {
            promise_base& self = h.promise();
            if (self.parent_ != nullptr) [[likely]]
                return std::coroutine_handle<>::from_address(self.parent_);
            self.root_(self, self.root_context_);
            return std::noop_coroutine();
        }
        static void await_resume() noexcept {}
    };
    static final_awaiter final_suspend() noexcept { return {}; }

private:
    template <typename T>
    friend class task;
    // Set by whoever starts it. Until then they have no value: every child pays for what is here.
    void* parent_;  // frame; null: it is a root
    stop_source* stop_;
    root_function root_;  // meaningful when parent_ is null
    void* root_context_;  // likewise
    struct start_work : work {
        void* frame;
    } start_;  // likewise: queued until the root starts
};

namespace detail {

template <typename T>
class task_promise final : public promise_base {
public:
    task<T> get_return_object() noexcept;
    static task<T> get_return_object_on_allocation_failure() noexcept;
    template <typename U = T>
        requires std::constructible_from<T, U&&>
    void return_value(U&& value) noexcept(std::is_nothrow_constructible_v<T, U&&>) {
        ::new (static_cast<void*>(&storage_)) T(std::forward<U>(value));
        has_value_ = true;
    }
    ~task_promise() {
        if (has_value_) value().~T();
    }
    task_promise() noexcept {}
    task_promise(const task_promise&) = delete;
    task_promise& operator=(const task_promise&) = delete;
    [[nodiscard]] T& value() noexcept { return storage_; }

private:
    union {
        T storage_;
    };
    bool has_value_ = false;
};

template <>
class task_promise<void> final : public promise_base {
public:
    task<void> get_return_object() noexcept;
    static task<void> get_return_object_on_allocation_failure() noexcept;
    void return_void() noexcept {}
};

/// What a task without a frame gives, each time anew.
template <typename T>
[[gnu::cold, gnu::noinline]] T& missing_value() noexcept;

}  // namespace detail

template <typename T = void>
class [[nodiscard]] task {
public:
    using promise_type = detail::task_promise<T>;
    using value_type = T;

    task() noexcept = default;
    task(task&& other) noexcept : frame_(std::exchange(other.frame_, nullptr)) {}
    task& operator=(task&& other) noexcept {
        if (this != &other) {
            if (frame_) frame_.destroy();
            frame_ = std::exchange(other.frame_, nullptr);
        }
        return *this;
    }
    ~task() {
        if (frame_) frame_.destroy();
    }

    /// False when its frame could not be allocated, or after it was moved from.
    [[nodiscard]] bool valid() const noexcept { return static_cast<bool>(frame_); }

    class awaiter {
    public:
        explicit awaiter(std::coroutine_handle<promise_type> frame) noexcept : frame_(frame) {}
        awaiter(const awaiter&) = delete;
        awaiter& operator=(const awaiter&) = delete;
        [[nodiscard]] bool await_ready() const noexcept { return !frame_; }
        template <std::derived_from<promise_base> Parent>
        std::coroutine_handle<> await_suspend(std::coroutine_handle<Parent> parent) noexcept {
            promise_base& child = frame_.promise();
            child.parent_ = parent.address();
            child.stop_ = static_cast<promise_base&>(parent.promise()).stop_;
            return frame_;
        }
        T await_resume() noexcept {
            if constexpr (std::is_void_v<T>) {
                NACRE_ASSERT(frame_);
            } else {
                // One way out, so that the value is moved straight to where it is wanted.
                T& value = frame_ ? frame_.promise().value() : detail::missing_value<T>();
                return std::move(value);
            }
        }

    private:
        std::coroutine_handle<promise_type> frame_;
    };
    /// The task stays alive, and owns the frame, until the full expression ends.
    [[nodiscard]] awaiter operator co_await() && noexcept { return awaiter(frame_); }

    /// Starts it as the child of `parent`, which it resumes when it has finished, under another
    /// stop source than the parent's: for awaiters like with_timeout, which then keep the task.
    [[nodiscard]] std::coroutine_handle<> start_under(std::coroutine_handle<> parent,
                                                      stop_source* stop) noexcept {
        promise_base& child = frame_.promise();
        child.parent_ = parent.address();
        child.stop_ = stop;
        return frame_;
    }

    // For those who run roots: scope, thread::spawn, when_all. Ordinary code awaits.

    /// Makes it a root, queued on `queue`; `root` is called once when it finished. The task object
    /// must outlive that call or be released with release().
    void start_on(run_queue& queue, stop_source* stop, promise_base::root_function root,
                  void* context) noexcept {
        promise_base& promise = frame_.promise();
        promise.parent_ = nullptr;
        promise.stop_ = stop;
        promise.root_ = root;
        promise.root_context_ = context;
        promise.start_.frame = frame_.address();
        promise.start_.run = [](work& w) noexcept {
            resume_frame(static_cast<promise_base::start_work&>(w).frame);
        };
        queue.push(promise.start_);
    }
    /// Gives up the frame: the root function destroys it with destroy_frame().
    void release() noexcept { frame_ = nullptr; }
    static void destroy_frame(promise_base& promise) noexcept {
        std::coroutine_handle<promise_type>::from_promise(static_cast<promise_type&>(promise))
            .destroy();
    }
    /// The value of a finished root.
    [[nodiscard]] decltype(auto) finished_value() noexcept
        requires(!std::is_void_v<T>)
    {
        return std::move(frame_.promise().value());
    }
    [[nodiscard]] static T no_frame() noexcept
        requires(!std::is_void_v<T>)
    {
        if constexpr (is_result<T>)
            return fail(ENOMEM);
        else if constexpr (is_fallible<T>)
            return fail(failure(error::posix(ENOMEM)));
        else
            assertion_failed("memory for the frame of a task that cannot fail", __FILE__, __LINE__);
    }

private:
    friend promise_type;
    explicit task(std::coroutine_handle<promise_type> frame) noexcept : frame_(frame) {}
    std::coroutine_handle<promise_type> frame_;
};

namespace detail {
template <typename T>
T& missing_value() noexcept {
    static constinit thread_local std::optional<T> value;
    value.emplace(task<T>::no_frame());
    return *value;
}
template <typename T>
task<T> task_promise<T>::get_return_object() noexcept {
    return task<T>(std::coroutine_handle<task_promise>::from_promise(*this));
}
template <typename T>
task<T> task_promise<T>::get_return_object_on_allocation_failure() noexcept {
    return task<T>();
}
inline task<void> task_promise<void>::get_return_object() noexcept {
    return task<void>(std::coroutine_handle<task_promise>::from_promise(*this));
}
inline task<void> task_promise<void>::get_return_object_on_allocation_failure() noexcept {
    return task<void>();
}
}  // namespace detail

/// `stop_source* stop = co_await current_stop();` the source that this task listens to, or null.
struct current_stop {
    static constexpr bool await_ready() noexcept { return false; }
    template <std::derived_from<promise_base> P>
    bool await_suspend(std::coroutine_handle<P> h) noexcept {
        source = static_cast<promise_base&>(h.promise()).stop();
        return false;
    }
    [[nodiscard]] stop_source* await_resume() const noexcept { return source; }
    stop_source* source = nullptr;
};

}  // namespace nacre
