// SPDX-License-Identifier: BSD-3-Clause
//
// Several tasks at once, all awaited.
//
//     auto [a, b] = co_await when_all(read(x), read(y));      // a tuple of what each returned
//     result<> r = co_await when_all(std::span(copies));      // the first error, or success
//
// The children run interleaved on this thread, from its ready list. The first one whose result is
// an error asks its siblings to stop; the whole still waits for every one. All are asked to stop
// when the awaiting task is. No allocation.
#pragma once

#include <span>
#include <tuple>
#include <utility>
#include <variant>

#include "nacre/runtime/task.hpp"
#include "nacre/runtime/waiter.hpp"

namespace nacre {

namespace detail {

template <typename T>
using task_result = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

/// What a finished (or, for lack of memory, never started) child gave.
template <typename T>
[[nodiscard]] task_result<T> take_value(task<T>& child) noexcept {
    if constexpr (std::is_void_v<T>) {
        NACRE_ASSERT(child.valid());
        return {};
    } else {
        if (!child.valid()) [[unlikely]]
            return task<T>::no_frame();
        return child.finished_value();
    }
}

template <typename T>
[[nodiscard]] bool has_failed(promise_base& promise) noexcept {
    if constexpr (is_result<T>)
        return !static_cast<task_promise<T>&>(promise).value().has_value();
    else
        return false;
}

/// The awaiting side of a group of children: counts them and is made ready by the last one.
class group_awaiter : public work {
public:
    group_awaiter() noexcept = default;
    group_awaiter(const group_awaiter&) = delete;
    group_awaiter& operator=(const group_awaiter&) = delete;
    [[nodiscard]] static constexpr bool await_ready() noexcept { return false; }

protected:
    ~group_awaiter() = default;
    template <typename P>
    void prepare(std::coroutine_handle<P> parent) noexcept {
        frame_ = parent.address();
        home_ = &current_run_queue();
        run = [](work& w) noexcept { resume_frame(static_cast<group_awaiter&>(w).frame_); };
        stop_.follow(static_cast<promise_base&>(parent.promise()).stop());
    }
    /// A child that has no frame counts as failed at once; false then.
    template <typename T>
    bool start(task<T>& child, promise_base::root_function root, void* context) noexcept {
        if (!child.valid()) [[unlikely]] {
            stop_.request_stop();
            return false;
        }
        ++running_;
        child.start_on(*home_, &stop_, root, context);
        return true;
    }
    void finished() noexcept {
        if (--running_ == 0) home_->push(*this);
    }
    stop_source stop_;
    std::size_t running_ = 0;

private:
    void* frame_ = nullptr;
    run_queue* home_ = nullptr;
};

}  // namespace detail

template <typename... T>
class [[nodiscard]] when_all_awaiter : public detail::group_awaiter {
public:
    explicit when_all_awaiter(task<T>... children) noexcept : children_(std::move(children)...) {}

    template <std::derived_from<promise_base> P>
    bool await_suspend(std::coroutine_handle<P> parent) noexcept {
        this->prepare(parent);
        std::apply([this](auto&... child) { (this->begin(child), ...); }, children_);
        return this->running_ != 0;
    }
    [[nodiscard]] std::tuple<detail::task_result<T>...> await_resume() noexcept {
        return std::apply(
            [](auto&... child) {
                return std::tuple<detail::task_result<T>...>(detail::take_value(child)...);
            },
            children_);
    }

private:
    template <typename U>
    void begin(task<U>& child) noexcept {
        this->start(
            child,
            [](promise_base& promise, void* context) noexcept {
                auto& self = *static_cast<when_all_awaiter*>(context);
                if (detail::has_failed<U>(promise)) self.stop_.request_stop();
                self.finished();
            },
            this);
    }
    std::tuple<task<T>...> children_;
};

/// The caller keeps the tasks.
class [[nodiscard]] when_all_span_awaiter : public detail::group_awaiter {
public:
    explicit when_all_span_awaiter(std::span<task<result<>>> children) noexcept
        : children_(children) {}

    template <std::derived_from<promise_base> P>
    bool await_suspend(std::coroutine_handle<P> parent) noexcept {
        prepare(parent);
        for (task<result<>>& child : children_)
            if (!start(child, on_finished, this)) note(error::posix(ENOMEM));
        return running_ != 0;
    }
    /// The first error in order of time.
    [[nodiscard]] result<> await_resume() const noexcept {
        if (first_error_.failed()) return fail(first_error_);
        return {};
    }

private:
    static void on_finished(promise_base& promise, void* context) noexcept {
        auto& self = *static_cast<when_all_span_awaiter*>(context);
        const result<>& value = static_cast<task<result<>>::promise_type&>(promise).value();
        if (!value) {
            self.note(value.error());
            self.stop_.request_stop();
        }
        self.finished();
    }
    void note(error e) noexcept {
        if (!first_error_.failed()) first_error_ = e;
    }
    std::span<task<result<>>> children_;
    error first_error_;
};

/// A void task gives std::monostate.
template <typename... T>
when_all_awaiter<T...> when_all(task<T>... children) noexcept {
    return when_all_awaiter<T...>(std::move(children)...);
}
/// For a std::vector or array that outlives the await, so a named one.
inline when_all_span_awaiter when_all(std::span<task<result<>>> children) noexcept {
    return when_all_span_awaiter(children);
}

}  // namespace nacre
