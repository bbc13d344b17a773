// SPDX-License-Identifier: BSD-3-Clause
//
// scope: the only home of work that nobody awaits where it is made.
//
//     scope children;
//     children.spawn(copy(a, b));
//     children.spawn(copy(c, d));
//     auto first_error = co_await children.join();
//
// Children run on the scope's thread, from its ready list. join() waits for all and reports the
// first error among those that return result<>; if the joining task is asked to stop, the children
// are, and join still waits for them. The destructor asserts that all have finished. Thread-bound.
// Cost of spawn, run and join: see bench/budgets.tsv.
#pragma once

#include "nacre/runtime/task.hpp"
#include "nacre/runtime/waiter.hpp"

namespace nacre {

class scope {
public:
    scope() noexcept = default;
    /// Its children are asked to stop when `parent` is.
    explicit scope(stop_source* parent) noexcept : stop_(parent) {}
    scope(const scope&) = delete;
    scope& operator=(const scope&) = delete;
    ~scope() { NACRE_ASSERT(running_ == 0); }

    /// Queues the child. One whose frame could not be allocated counts as failed with ENOMEM.
    void spawn(task<result<>> child) noexcept {
        if (!child.valid()) [[unlikely]] {
            note(error::posix(ENOMEM));
            return;
        }
        ++running_;
        child.start_on(
            current_run_queue(), &stop_,
            [](promise_base& promise, void* context) noexcept {
                auto& typed = static_cast<task<result<>>::promise_type&>(promise);
                error e;
                if (!typed.value()) e = typed.value().error();
                task<result<>>::destroy_frame(promise);
                static_cast<scope*>(context)->finished(e);
            },
            this);
        child.release();
    }
    void spawn(task<void> child) noexcept {
        NACRE_ASSERT(child.valid());
        ++running_;
        child.start_on(
            current_run_queue(), &stop_,
            [](promise_base& promise, void* context) noexcept {
                task<void>::destroy_frame(promise);
                static_cast<scope*>(context)->finished(error());
            },
            this);
        child.release();
    }

    /// Counts something that runs elsewhere as a child, until leave(); join() waits for it.
    void enter() noexcept { ++running_; }
    void leave(error e = {}) noexcept { finished(e); }

    void request_stop() noexcept { stop_.request_stop(); }
    [[nodiscard]] stop_source& stop() noexcept { return stop_; }
    [[nodiscard]] std::uint64_t running() const noexcept { return running_; }

    class join_awaiter : public work {
    public:
        explicit join_awaiter(scope& s) noexcept : scope_(s) {}
        join_awaiter(const join_awaiter&) = delete;
        join_awaiter& operator=(const join_awaiter&) = delete;
        [[nodiscard]] bool await_ready() const noexcept { return scope_.running_ == 0; }
        template <std::derived_from<promise_base> P>
        void await_suspend(std::coroutine_handle<P> h) noexcept {
            frame_ = h.address();
            home_ = &current_run_queue();
            run = [](work& w) noexcept { resume_frame(static_cast<join_awaiter&>(w).frame_); };
            NACRE_ASSERT(scope_.joiner_ == nullptr);
            scope_.joiner_ = this;
            stop_source* stop = static_cast<promise_base&>(h.promise()).stop();
            if (stop == nullptr) return;
            if (stop->stop_requested())
                scope_.request_stop();
            else
                stop->link(forward_);
        }
        [[nodiscard]] result<> await_resume() noexcept {
            const error e = scope_.first_error_;
            scope_.first_error_ = error();
            if (e.failed()) return fail(e);
            return {};
        }

    private:
        friend class scope;
        struct forward : stop_callback {
            explicit forward(join_awaiter& j) noexcept
                : stop_callback([](stop_callback& self) noexcept {
                      static_cast<forward&>(self).owner.scope_.request_stop();
                  }),
                  owner(j) {}
            join_awaiter& owner;
        };
        scope& scope_;
        void* frame_ = nullptr;
        run_queue* home_ = nullptr;
        forward forward_{*this};
    };
    /// `result<> r = co_await s.join();` One joiner at a time; the scope can be used again after.
    [[nodiscard]] join_awaiter join() noexcept { return join_awaiter(*this); }

private:
    void note(error e) noexcept {
        if (e.failed() && !first_error_.failed()) first_error_ = e;
    }
    void finished(error e) noexcept {
        note(e);
        if (--running_ == 0 && joiner_ != nullptr) {
            join_awaiter& j = *std::exchange(joiner_, nullptr);
            if (j.forward_.linked()) j.forward_.unlink();
            j.home_->push(j);
        }
    }
    stop_source stop_;
    std::uint64_t running_ = 0;
    error first_error_;
    join_awaiter* joiner_ = nullptr;
};

}  // namespace nacre
