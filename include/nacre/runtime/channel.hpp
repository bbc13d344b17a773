// SPDX-License-Identifier: BSD-3-Clause
//
// channel<T>: a bounded FIFO between coroutines of one thread.
//
//     result<> sent = co_await c.send(std::move(item));     // waits while it is full
//     result<item> got = co_await c.receive();              // waits while it is empty
//     c.close();
//
// Values arrive in the order in which they were sent, and waiting receivers are served in the order
// in which they came: a value is handed to the first of them, so nobody takes it on the way. After
// close() sending fails with EPIPE, also for those who wait; what was accepted is still received,
// and then receiving fails with EPIPE. Every wait ends with ECANCELED when its task is asked to
// stop; a cancelled send sent nothing, a cancelled receive took nothing. Thread-bound. It allocates
// once, when it is made.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <utility>

#include "nacre/runtime/waiter.hpp"

namespace nacre {

template <typename T>
class channel {
public:
    /// `capacity` > 0.
    explicit channel(std::size_t capacity)
        : ring_(std::make_unique<std::optional<T>[]>(capacity)), capacity_(capacity) {
        NACRE_ASSERT(capacity != 0);
    }
    channel(const channel&) = delete;
    channel& operator=(const channel&) = delete;
    /// Nobody waits any more (asserted).
    ~channel() = default;

    class send_awaiter : public waiter {
    public:
        send_awaiter(channel& c, T value) noexcept : channel_(c), value_(std::move(value)) {}
        [[nodiscard]] bool await_ready() noexcept {
            if (channel_.closed_) {
                outcome_ = error::posix(EPIPE);
                return true;
            }
            if (!channel_.senders_.empty()) return false;  // not past those who wait
            return channel_.accept(value_);
        }
        template <std::derived_from<promise_base> P>
        bool await_suspend(std::coroutine_handle<P> h) noexcept {
            if (!prepare(h, static_cast<promise_base&>(h.promise()).stop())) return false;
            channel_.senders_.push_back(*this);
            return true;
        }
        [[nodiscard]] result<> await_resume() const noexcept {
            if (outcome_.failed()) return fail(outcome_);
            if (status().failed()) return fail(status());
            return {};
        }

    private:
        friend class channel;
        channel& channel_;
        T value_;
        error outcome_;
    };

    class receive_awaiter : public waiter {
    public:
        explicit receive_awaiter(channel& c) noexcept : channel_(c) {}
        [[nodiscard]] bool await_ready() noexcept {
            value_ = channel_.try_receive();
            return value_.has_value() || channel_.closed_;
        }
        template <std::derived_from<promise_base> P>
        bool await_suspend(std::coroutine_handle<P> h) noexcept {
            if (!prepare(h, static_cast<promise_base&>(h.promise()).stop())) return false;
            channel_.receivers_.push_back(*this);
            return true;
        }
        [[nodiscard]] result<T> await_resume() noexcept {
            if (value_.has_value()) return std::move(*value_);
            if (status().failed()) return fail(status());
            return fail(EPIPE);
        }

    private:
        friend class channel;
        channel& channel_;
        std::optional<T> value_;
    };

    [[nodiscard]] send_awaiter send(T value) noexcept {
        return send_awaiter(*this, std::move(value));
    }
    [[nodiscard]] receive_awaiter receive() noexcept { return receive_awaiter(*this); }

    /// False, with `value` untouched, if it is closed, full, or others wait to send.
    [[nodiscard]] bool try_send(T& value) noexcept {
        return !closed_ && senders_.empty() && accept(value);
    }
    /// Empty if there is nothing.
    [[nodiscard]] std::optional<T> try_receive() noexcept {
        std::optional<T> value;
        if (count_ == 0) return value;
        value = std::move(ring_[first_]);
        ring_[first_].reset();
        first_ = first_ + 1 == capacity_ ? 0 : first_ + 1;
        --count_;
        if (auto* sender = static_cast<send_awaiter*>(senders_.front())) {
            put(sender->value_);
            sender->wake();
        }
        return value;
    }
    void close() noexcept {
        closed_ = true;
        while (waiter* w = senders_.front()) w->wake(error::posix(EPIPE));
        while (waiter* w = receivers_.front()) w->wake(error::posix(EPIPE));
    }
    [[nodiscard]] bool closed() const noexcept { return closed_; }
    [[nodiscard]] std::size_t size() const noexcept { return count_; }
    [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }

private:
    /// To the first who waits for it, else into the ring; false if that is full.
    [[nodiscard]] bool accept(T& value) noexcept {
        if (auto* receiver = static_cast<receive_awaiter*>(receivers_.front())) {
            receiver->value_.emplace(std::move(value));
            receiver->wake();
            return true;
        }
        if (count_ == capacity_) return false;
        put(value);
        return true;
    }
    void put(T& value) noexcept {
        std::size_t at = first_ + count_;
        if (at >= capacity_) at -= capacity_;
        ring_[at].emplace(std::move(value));
        ++count_;
    }
    std::unique_ptr<std::optional<T>[]> ring_;
    std::size_t capacity_;
    std::size_t first_ = 0;
    std::size_t count_ = 0;
    bool closed_ = false;
    wait_list senders_;
    wait_list receivers_;
};

}  // namespace nacre
