// SPDX-License-Identifier: BSD-3-Clause
//
// thread: the lightweight unit that owns channels, pollers and coroutines; a reactor hosts many.
//
// Everything that a coroutine of a thread touches belongs to that thread, and it is resumed nowhere
// else. From outside a thread is reached by messages only: `spawn`, `send_message`, `call_on`. They
// take a function without captures and arguments that may cross (sendable.hpp); any OS thread, also
// one that is no reactor, may use them.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <tuple>

#include "nacre/core/cpu_set.hpp"
#include "nacre/runtime/reactor.hpp"
#include "nacre/runtime/scope.hpp"
#include "nacre/runtime/sendable.hpp"

namespace nacre {

class poller;

namespace detail {

class channel_base;
struct device_access;

/// Result of something that runs on another thread. Counted by its runner and its handle.
class join_base {
public:
    /// On the runner's thread, once.
    void finish() noexcept;
    void drop() noexcept {
        if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) destroy_(this);
    }
    [[nodiscard]] bool done() const noexcept {
        return waiter_.load(std::memory_order_acquire) == done_mark();
    }
    /// False if it has finished already: do not suspend.
    [[nodiscard]] bool suspend(message& m) noexcept {
        message* expected = nullptr;
        return waiter_.compare_exchange_strong(expected, &m, std::memory_order_acq_rel);
    }
    /// A foreign OS thread: blocks until done.
    void block() const noexcept;

protected:
    explicit join_base(void (*destroy)(join_base*)) noexcept : destroy_(destroy) {}

private:
    [[nodiscard]] static message* done_mark() noexcept {
        return reinterpret_cast<message*>(std::uintptr_t{1});
    }
    std::atomic<message*> waiter_{nullptr};
    std::atomic<unsigned> references_{2};
    std::atomic<unsigned> finished_{0};
    void (*destroy_)(join_base*);
};

template <typename T>
struct join_state : join_base {
    using join_base::join_base;
    std::conditional_t<std::is_void_v<T>, std::monostate, std::optional<T>> value;
};

}  // namespace detail

/// The other end of thread::spawn: awaited by a coroutine of any thread, or waited for by a foreign
/// OS thread. Dropping it does not stop the work. Move-only; may cross threads itself.
template <typename T>
class [[nodiscard]] join_handle {
public:
    using may_cross_threads = void;
    explicit join_handle(detail::join_state<T>* state) noexcept : state_(state) {}
    join_handle(join_handle&& o) noexcept : state_(std::exchange(o.state_, nullptr)) {}
    join_handle& operator=(join_handle&& o) noexcept {
        std::swap(state_, o.state_);
        return *this;
    }
    ~join_handle() {
        if (state_ != nullptr) state_->drop();
    }
    [[nodiscard]] bool done() const noexcept { return state_->done(); }

    class awaiter : public message {
    public:
        explicit awaiter(detail::join_state<T>& s) noexcept : state_(s) {}
        awaiter(const awaiter&) = delete;
        awaiter& operator=(const awaiter&) = delete;
        [[nodiscard]] bool await_ready() const noexcept { return state_.done(); }
        bool await_suspend(std::coroutine_handle<> h) noexcept {
            frame_ = h.address();
            target = &current_thread();
            run = [](work& w) noexcept {
                resume_frame(static_cast<awaiter&>(static_cast<message&>(w)).frame_);
            };
            return state_.suspend(*this);
        }
        T await_resume() noexcept {
            if constexpr (!std::is_void_v<T>) return std::move(*state_.value);
        }

    private:
        static thread& current_thread() noexcept;
        detail::join_state<T>& state_;
        void* frame_ = nullptr;
    };
    /// Once. The value moves out.
    [[nodiscard]] awaiter operator co_await() noexcept { return awaiter(*state_); }

    /// From an OS thread that hosts no reactor: blocks. Once. The value moves out.
    T wait() noexcept {
        state_->block();
        if constexpr (!std::is_void_v<T>) return std::move(*state_->value);
    }

private:
    detail::join_state<T>* state_;
};

namespace detail {
template <typename T>
struct task_value;
template <typename T>
struct task_value<task<T>> {
    using type = T;
};
template <typename F, typename... Args>
using spawned_value = typename task_value<std::invoke_result_t<F, std::decay_t<Args>...>>::type;
}  // namespace detail

struct thread_statistics {
    std::uint64_t busy_ns = 0;
    std::uint64_t runs = 0;
};

class thread final : public run_queue {
public:
    thread(reactor& host, std::string name, std::uint64_t id) noexcept;
    ~thread();

    /// Null on an OS thread that is not inside a reactor's turn.
    [[nodiscard]] static thread* current() noexcept { return t_current_; }

    // Any OS thread.
    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
    [[nodiscard]] reactor& host() const noexcept { return *host_; }
    /// The CPUs it was made for; empty: any.
    [[nodiscard]] const cpu_set& cpus() const noexcept { return cpus_; }
    void post(message& m) noexcept {
        m.target = this;
        host_->post(m);
    }

    /// Runs the coroutine `function(args…)` here, in the root scope. The coroutine is made on this
    /// thread; only the function and its arguments cross.
    template <captureless F, sendable... Args>
        requires sendable<detail::spawned_value<F, Args...>>
    join_handle<detail::spawned_value<F, Args...>> spawn(F function, Args... args);

    /// Calls `function(args…)` here, some time later.
    template <captureless F, sendable... Args>
    void send_message(F function, Args... args);

    /// Stops the root scope's children, waits for them, then ends the thread. Idempotent.
    void request_exit() noexcept;
    [[nodiscard]] bool exited() const noexcept { return exited_.load(std::memory_order_acquire); }

    // Its own thread.
    [[nodiscard]] scope& root() noexcept { return root_; }
    [[nodiscard]] std::uint64_t now_ns() const noexcept { return host_->now_ns(); }
    [[nodiscard]] bool idle() const noexcept { return empty() && root_.running() == 0; }
    [[nodiscard]] bool has_pollers() const noexcept { return pollers_ != 0; }
    /// When a timer of its reactor fires next; UINT64_MAX: never.
    [[nodiscard]] std::uint64_t next_expiration_ns() const noexcept {
        return host_->timers().next_ns();
    }
    /// Pollers, for introspection: `visit(poller&)`.
    template <typename F>
    void for_each_poller(F visit);
    /// Channels of all devices, for introspection: `visit(detail::channel_base&)`, with
    /// io_device.hpp.
    template <typename F>
    void for_each_channel(F visit);
    [[nodiscard]] const thread_statistics& statistics() const noexcept { return statistics_; }

private:
    friend class reactor;
    friend class poller;
    friend class thread_guard;
    friend class runtime;
    friend struct detail::device_access;
    static task<void> drain_and_exit(thread& self);
    static constinit thread_local thread* t_current_;

    reactor* host_;
    std::uint64_t id_;
    scope root_;
    std::uint64_t pollers_ = 0;
    intrusive_list<list_hook> poller_list_;
    intrusive_list<list_hook> channel_list_;
    thread_statistics statistics_;
    bool exiting_ = false;
    scope exit_scope_;
    std::atomic<bool> exited_{false};
    reactor* exit_listener_ = nullptr;  // woken when it has exited; set before anything runs here
    std::string name_;
    cpu_set cpus_;
};

/// Makes `t` the current thread of this OS thread until the end of the block: for callbacks that a
/// foreign library makes on the reactor's OS thread between turns.
class thread_guard {
public:
    explicit thread_guard(thread& t) noexcept : saved_(std::exchange(thread::t_current_, &t)) {}
    thread_guard(const thread_guard&) = delete;
    thread_guard& operator=(const thread_guard&) = delete;
    ~thread_guard() { thread::t_current_ = saved_; }

private:
    thread* saved_;
};

// Off a thread this is a null reference, whose first use faults; a test would cost more than the
// rest of a yield's push.
inline run_queue& current_run_queue() noexcept { return *thread::current(); }

template <typename T>
thread& join_handle<T>::awaiter::current_thread() noexcept {
    thread* t = thread::current();
    NACRE_ASSERT(t != nullptr);
    return *t;
}

namespace detail {

template <typename F, typename... Args>
struct message_call : message {
    message_call(F f, Args... a) : function(std::move(f)), arguments(std::move(a)...) {
        run = [](work& w) noexcept {
            auto* self = static_cast<message_call*>(static_cast<message*>(&w));
            std::apply(self->function, std::move(self->arguments));
            delete self;
        };
    }
    F function;
    std::tuple<Args...> arguments;
};

template <typename T, typename F, typename... Args>
struct spawn_call final : join_state<T>, message {
    spawn_call(F f, Args... a)
        : join_state<T>([](join_base* b) { delete static_cast<spawn_call*>(b); }),
          function(std::move(f)),
          arguments(std::move(a)...) {
        run = [](work& w) noexcept {
            static_cast<spawn_call*>(static_cast<message*>(&w))->start();
        };
    }
    void start() noexcept {
        body = std::apply(function, std::move(arguments));
        if (!body.valid()) {
            if constexpr (is_fallible<T>)
                this->value.emplace(task<T>::no_frame());
            else
                NACRE_ASSERT(body.valid());
            finish_and_drop();
            return;
        }
        thread& here = *static_cast<thread*>(target);
        here.root().enter();
        body.start_on(
            here, &here.root().stop(),
            [](promise_base&, void* context) noexcept {
                auto* self = static_cast<spawn_call*>(context);
                if constexpr (!std::is_void_v<T>) self->value.emplace(self->body.finished_value());
                {
                    task<T> finished = std::move(self->body);
                }
                self->target->root().leave();
                self->finish_and_drop();
            },
            this);
    }
    void finish_and_drop() noexcept {
        this->finish();
        this->drop();
    }
    F function;
    std::tuple<Args...> arguments;
    task<T> body;
};

/// The node of a call and of its answer: both travel in the caller's frame.
template <typename F, typename... Args>
class call_awaiter : public message {
public:
    using value = std::invoke_result_t<F, Args...>;
    call_awaiter(thread& t, F f, Args... a)
        : callee_(t), function_(std::move(f)), arguments_(std::move(a)...) {}
    call_awaiter(const call_awaiter&) = delete;
    call_awaiter& operator=(const call_awaiter&) = delete;
    [[nodiscard]] static constexpr bool await_ready() noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) noexcept {
        frame_ = h.address();
        caller_ = thread::current();
        NACRE_ASSERT(caller_ != nullptr);
        run = [](work& w) noexcept {
            auto& self = static_cast<call_awaiter&>(static_cast<message&>(w));
            if constexpr (std::is_void_v<value>)
                std::apply(self.function_, std::move(self.arguments_));
            else
                self.value_.emplace(std::apply(self.function_, std::move(self.arguments_)));
            self.run = [](work& answer) noexcept {
                resume_frame(static_cast<call_awaiter&>(static_cast<message&>(answer)).frame_);
            };
            self.caller_->post(self);
        };
        callee_.post(*this);
    }
    value await_resume() noexcept {
        if constexpr (!std::is_void_v<value>) return std::move(*value_);
    }

private:
    thread& callee_;
    thread* caller_ = nullptr;
    F function_;
    std::tuple<Args...> arguments_;
    void* frame_ = nullptr;
    std::conditional_t<std::is_void_v<value>, std::monostate, std::optional<value>> value_;
};

}  // namespace detail

/// `auto r = co_await call_on(t, function, args…);` runs a plain function on `t`, without
/// allocation, and resumes here with what it returned. For a coroutine there: `co_await
/// t.spawn(…)`.
template <captureless F, sendable... Args>
    requires sendable<std::invoke_result_t<F, Args...>>
[[nodiscard]] auto call_on(thread& t, F function, Args... args) {
    return detail::call_awaiter<F, Args...>(t, std::move(function), std::move(args)...);
}

template <captureless F, sendable... Args>
    requires sendable<detail::spawned_value<F, Args...>>
join_handle<detail::spawned_value<F, Args...>> thread::spawn(F function, Args... args) {
    using value = detail::spawned_value<F, Args...>;
    auto* call = new detail::spawn_call<value, F, Args...>(std::move(function), std::move(args)...);
    post(*call);
    return join_handle<value>(call);
}

template <captureless F, sendable... Args>
void thread::send_message(F function, Args... args) {
    post(*new detail::message_call<F, Args...>(std::move(function), std::move(args)...));
}

}  // namespace nacre
