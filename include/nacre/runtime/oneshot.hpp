// SPDX-License-Identifier: BSD-3-Clause
//
// oneshot<T>: one value, handed once from whoever makes it to whoever waits for it, on one thread.
//
//     oneshot<int> answer;
//     answer.set(42);                                   // before or after the wait
//     result<int> r = co_await answer.wait();
//
// A oneshot of a result<T> gives that result itself. A cancelled wait takes nothing: the value may
// be waited for again. Thread-bound, no allocation; it outlives its waiter (asserted).
#pragma once

#include <optional>
#include <utility>
#include <variant>

#include "nacre/runtime/waiter.hpp"

namespace nacre {

namespace detail {
/// result<T>, but a result stays what it is.
template <typename T>
struct as_result {
    using type = result<T>;
};
template <typename T>
struct as_result<result<T>> {
    using type = result<T>;
};
template <typename T>
using as_result_t = typename as_result<T>::type;
}  // namespace detail

template <typename T = void>
class oneshot {
    using stored = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

public:
    /// Once.
    template <typename... Args>
        requires std::constructible_from<stored, Args...>
    void set(Args&&... args) noexcept {
        NACRE_ASSERT(!value_.has_value());
        value_.emplace(std::forward<Args>(args)...);
        if (waiter* w = waiters_.front()) w->wake();
    }
    [[nodiscard]] bool is_set() const noexcept { return value_.has_value(); }

    class awaiter : public waiter {
    public:
        explicit awaiter(oneshot& o) noexcept : oneshot_(o) {}
        [[nodiscard]] bool await_ready() const noexcept { return oneshot_.is_set(); }
        template <std::derived_from<promise_base> P>
        bool await_suspend(std::coroutine_handle<P> h) noexcept {
            if (!prepare(h, static_cast<promise_base&>(h.promise()).stop())) return false;
            NACRE_ASSERT(oneshot_.waiters_.empty());
            oneshot_.waiters_.push_back(*this);
            return true;
        }
        [[nodiscard]] detail::as_result_t<T> await_resume() noexcept {
            if (status().failed()) return fail(status());
            if constexpr (std::is_void_v<T>)
                return {};
            else
                return std::move(*oneshot_.value_);
        }

    private:
        oneshot& oneshot_;
    };
    /// One waiter; on success the value moves out to it.
    [[nodiscard]] awaiter wait() noexcept { return awaiter(*this); }

private:
    std::optional<stored> value_;
    wait_list waiters_;
};

}  // namespace nacre
