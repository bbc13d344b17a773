// SPDX-License-Identifier: BSD-3-Clause
//
// Any C function that calls back, as an awaitable.
//
//     void done(void* context, int status) {
//         callback_token<int>::from(context).complete(status);
//     }
//     result<int> r = co_await from_callback<int>([&](callback_token<int>& token) -> int {
//         return c_submit(device, buffer, done, token.context());
//     });
//
// The submitting function returns 0 if the callback will come, exactly once, now or later, or an
// errno (of either sign) if it never will; that errno is then the result. It is called once, on the
// spot, unless the task was already asked to stop. The three forms differ in what a stop does:
//
//     from_callback<T>(submit)            nothing: it waits for the callback
//     from_callback<T>(submit, cancel)    cancel(token) asks the library, once; it then waits for
//                                         the callback, which may come from within cancel()
//     from_callback_or_detach<T>(submit)  the wait ends with ECANCELED at once; the callback may
//                                         come later, and what it brings is destroyed. For this the
//                                         token lives in memory of its own (ENOMEM if there is
//                                         none), and the thread's exit waits for the callback.
//
// `complete` is called on the awaiting thread, between or within its coroutines, also from within
// the submitting function; `complete_from_any_thread` by OS threads of the library's own and by
// other reactors. If T is a result, it is the result. Functions given here capture by reference or
// trivial things only: g++ 12 destroys other temporaries of an await twice.
#pragma once

#include <coroutine>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

#include "nacre/runtime/oneshot.hpp"
#include "nacre/runtime/thread.hpp"

namespace nacre {

template <typename T = void>
class callback_token : private message {
    using stored = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

public:
    callback_token(const callback_token&) = delete;
    callback_token& operator=(const callback_token&) = delete;

    /// What the library carries to the callback.
    [[nodiscard]] void* context() noexcept { return this; }
    [[nodiscard]] static callback_token& from(void* context) noexcept {
        return *static_cast<callback_token*>(context);
    }
    template <typename... Args>
        requires std::constructible_from<stored, Args...>
    void complete(Args&&... args) noexcept {
        NACRE_ASSERT(thread::current() == home_);
        NACRE_ASSERT(!value_.has_value());
        value_.emplace(std::forward<Args>(args)...);
        settle();
    }
    template <typename... Args>
        requires std::constructible_from<stored, Args...>
    void complete_from_any_thread(Args&&... args) noexcept {
        NACRE_ASSERT(!value_.has_value());
        value_.emplace(std::forward<Args>(args)...);
        run = [](work& w) noexcept {
            static_cast<callback_token&>(static_cast<message&>(w)).settle();
        };
        // It may be gone as soon as this is posted.
        home_->post(*this);
    }

protected:
    using settled_function = void (*)(callback_token& self) noexcept;
    explicit callback_token(settled_function f) noexcept : settled_(f) {}
    ~callback_token() = default;

    /// Calls submit(*this). The errno of a refusal, or 0.
    template <typename Submit>
    [[nodiscard]] int begin(Submit& submit) noexcept {
        home_ = thread::current();
        NACRE_ASSERT(home_ != nullptr);
        submitting_ = true;
        const int refused = submit(*this);
        submitting_ = false;
        // A library that refuses and calls back as well leaves no state to be right about.
        NACRE_ASSERT(refused == 0 || !settled_on_the_spot_);
        return refused < 0 ? -refused : refused;
    }
    [[nodiscard]] bool settled_on_the_spot() const noexcept { return settled_on_the_spot_; }
    [[nodiscard]] thread& home() const noexcept { return *home_; }
    [[nodiscard]] detail::as_result_t<T> take() noexcept {
        if constexpr (std::is_void_v<T>)
            return {};
        else
            return std::move(*value_);
    }

private:
    void settle() noexcept {
        if (submitting_)
            settled_on_the_spot_ = true;
        else
            settled_(*this);
    }
    settled_function settled_;
    thread* home_ = nullptr;
    bool submitting_ = false;
    bool settled_on_the_spot_ = false;
    std::optional<stored> value_;
};

namespace detail {

/// Made ready on its own thread's list.
class callback_resumption : public work {
public:
    template <typename P>
    void set(std::coroutine_handle<P> h) noexcept {
        frame_ = h.address();
        run = [](work& w) noexcept { resume_frame(static_cast<callback_resumption&>(w).frame_); };
    }

private:
    void* frame_ = nullptr;
};

struct cannot_cancel {};

template <typename T, typename Submit, typename Cancel>
class [[nodiscard]] callback_awaiter : public callback_token<T> {
public:
    callback_awaiter(Submit submit, Cancel cancel) noexcept
        : callback_token<T>([](callback_token<T>& token) noexcept {
              auto& self = static_cast<callback_awaiter&>(token);
              if (self.on_stop_.linked()) self.on_stop_.unlink();
              self.home().push(self.resumption_);
          }),
          submit_(std::move(submit)),
          cancel_(std::move(cancel)) {}

    [[nodiscard]] static constexpr bool await_ready() noexcept { return false; }
    template <std::derived_from<promise_base> P>
    bool await_suspend(std::coroutine_handle<P> h) noexcept {
        stop_source* stop = static_cast<promise_base&>(h.promise()).stop();
        if (stop != nullptr && stop->stop_requested()) {
            refused_ = ECANCELED;
            return false;
        }
        resumption_.set(h);
        refused_ = this->begin(submit_);
        if (refused_ != 0 || this->settled_on_the_spot()) return false;
        if constexpr (!std::is_same_v<Cancel, cannot_cancel>) {
            if (stop != nullptr) {
                // The submitting function itself may have asked.
                if (stop->stop_requested())
                    cancel_(static_cast<callback_token<T>&>(*this));
                else
                    stop->link(on_stop_);
            }
        }
        return true;
    }
    [[nodiscard]] as_result_t<T> await_resume() noexcept {
        if (refused_ != 0) return fail(refused_);
        return this->take();
    }

private:
    struct stop_hook : stop_callback {
        explicit stop_hook(callback_awaiter& of) noexcept
            : stop_callback([](stop_callback& s) noexcept {
                  auto& self = static_cast<stop_hook&>(s).owner;
                  if constexpr (!std::is_same_v<Cancel, cannot_cancel>)
                      self.cancel_(static_cast<callback_token<T>&>(self));
              }),
              owner(of) {}
        callback_awaiter& owner;
    };
    Submit submit_;
    [[no_unique_address]] Cancel cancel_;
    int refused_ = 0;
    callback_resumption resumption_;
    stop_hook on_stop_{*this};
};

template <typename T, typename Submit>
class [[nodiscard]] detachable_callback_awaiter {
public:
    explicit detachable_callback_awaiter(Submit submit) noexcept : submit_(std::move(submit)) {}
    detachable_callback_awaiter(const detachable_callback_awaiter&) = delete;
    detachable_callback_awaiter& operator=(const detachable_callback_awaiter&) = delete;
    ~detachable_callback_awaiter() {
        if (state_ != nullptr) state_->destroy();
    }

    [[nodiscard]] static constexpr bool await_ready() noexcept { return false; }
    template <std::derived_from<promise_base> P>
    bool await_suspend(std::coroutine_handle<P> h) noexcept {
        stop_source* stop = static_cast<promise_base&>(h.promise()).stop();
        if (stop != nullptr && stop->stop_requested()) {
            refused_ = ECANCELED;
            return false;
        }
        void* memory = frame_pool::allocate(sizeof(shared_state));
        if (memory == nullptr) {
            refused_ = ENOMEM;
            return false;
        }
        state_ = ::new (memory) shared_state;
        resumption_.set(h);
        refused_ = state_->submit(submit_);
        if (refused_ != 0 || state_->settled()) return false;
        if (stop != nullptr && stop->stop_requested()) {
            detach();
            return false;
        }
        state_->waiting = this;
        if (stop != nullptr) stop->link(on_stop_);
        return true;
    }
    [[nodiscard]] as_result_t<T> await_resume() noexcept {
        if (refused_ != 0) return fail(refused_);
        return state_->value();
    }

private:
    struct shared_state : callback_token<T> {
        shared_state() noexcept
            : callback_token<T>([](callback_token<T>& token) noexcept {
                  auto& self = static_cast<shared_state&>(token);
                  if (self.waiting == nullptr) {
                      self.home().root().leave();
                      self.destroy();
                      return;
                  }
                  auto& awaiter = *self.waiting;
                  if (awaiter.on_stop_.linked()) awaiter.on_stop_.unlink();
                  self.home().push(awaiter.resumption_);
                  // From here on a stop finds nothing to detach.
              }) {}
        [[nodiscard]] int submit(Submit& f) noexcept { return this->begin(f); }
        [[nodiscard]] bool settled() const noexcept { return this->settled_on_the_spot(); }
        [[nodiscard]] as_result_t<T> value() noexcept { return this->take(); }
        void enter_home() noexcept { this->home().root().enter(); }
        void make_ready(work& w) noexcept { this->home().push(w); }
        void destroy() noexcept {
            this->~shared_state();
            frame_pool::deallocate(this, sizeof(shared_state));
        }
        detachable_callback_awaiter* waiting = nullptr;
    };
    struct stop_hook : stop_callback {
        explicit stop_hook(detachable_callback_awaiter& of) noexcept
            : stop_callback([](stop_callback& s) noexcept {
                  auto& self = static_cast<stop_hook&>(s).owner;
                  self.state_->make_ready(self.resumption_);
                  self.detach();
              }),
              owner(of) {}
        detachable_callback_awaiter& owner;
    };
    /// The state is the callback's alone from here on.
    void detach() noexcept {
        refused_ = ECANCELED;
        state_->waiting = nullptr;
        state_->enter_home();
        state_ = nullptr;
    }
    Submit submit_;
    int refused_ = 0;
    shared_state* state_ = nullptr;
    callback_resumption resumption_;
    stop_hook on_stop_{*this};
};

}  // namespace detail

template <typename T = void, typename Submit>
    requires std::is_invocable_r_v<int, Submit&, callback_token<T>&>
auto from_callback(Submit submit) noexcept {
    return detail::callback_awaiter<T, Submit, detail::cannot_cancel>(std::move(submit), {});
}
template <typename T = void, typename Submit, typename Cancel>
    requires std::is_invocable_r_v<int, Submit&, callback_token<T>&> &&
             std::is_invocable_v<Cancel&, callback_token<T>&>
auto from_callback(Submit submit, Cancel cancel) noexcept {
    return detail::callback_awaiter<T, Submit, Cancel>(std::move(submit), std::move(cancel));
}
template <typename T = void, typename Submit>
    requires std::is_invocable_r_v<int, Submit&, callback_token<T>&>
auto from_callback_or_detach(Submit submit) noexcept {
    return detail::detachable_callback_awaiter<T, Submit>(std::move(submit));
}

}  // namespace nacre
