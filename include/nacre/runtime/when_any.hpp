// SPDX-License-Identifier: BSD-3-Clause
//
// Several tasks at once, of which the first to finish decides.
//
//     auto first = co_await when_any(read(mirror_a), read(mirror_b));
//     // first.index: who finished first; std::get<i>(first.values): what each returned
//
// The losers are asked to stop, and are awaited before this resumes, so nothing of theirs is left
// behind. "First" is the first to finish, also if it failed. No allocation.
#pragma once

#include "nacre/runtime/when_all.hpp"

namespace nacre {

template <typename... T>
struct any_of {
    std::size_t index;
    std::tuple<T...> values;
};

template <typename... T>
class [[nodiscard]] when_any_awaiter : public detail::group_awaiter {
public:
    explicit when_any_awaiter(task<T>... children) noexcept : children_(std::move(children)...) {}

    template <std::derived_from<promise_base> P>
    bool await_suspend(std::coroutine_handle<P> parent) noexcept {
        this->prepare(parent);
        std::apply(
            [this](auto&... child) {
                std::size_t i = 0;
                (this->begin(child, i++), ...);
            },
            children_);
        return this->running_ != 0;
    }
    [[nodiscard]] any_of<detail::task_result<T>...> await_resume() noexcept {
        return {first_,
                std::apply(
                    [](auto&... child) {
                        return std::tuple<detail::task_result<T>...>(detail::take_value(child)...);
                    },
                    children_)};
    }

private:
    static constexpr std::size_t nobody = static_cast<std::size_t>(-1);
    struct entrant {
        when_any_awaiter* race;
        std::size_t index;
    };
    template <typename U>
    void begin(task<U>& child, std::size_t index) noexcept {
        entrants_[index] = {this, index};
        const bool started = this->start(
            child,
            [](promise_base&, void* context) noexcept {
                const entrant& e = *static_cast<entrant*>(context);
                e.race->won(e.index);
                e.race->finished();
            },
            &entrants_[index]);
        if (!started) won(index);
    }
    void won(std::size_t index) noexcept {
        if (first_ != nobody) return;
        first_ = index;
        this->stop_.request_stop();
    }
    std::tuple<task<T>...> children_;
    std::size_t first_ = nobody;
    entrant entrants_[sizeof...(T)];
};

/// At least one; a void task gives std::monostate.
template <typename... T>
    requires(sizeof...(T) != 0)
when_any_awaiter<T...> when_any(task<T>... children) noexcept {
    return when_any_awaiter<T...>(std::move(children)...);
}

}  // namespace nacre
