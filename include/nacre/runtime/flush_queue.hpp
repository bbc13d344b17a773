// SPDX-License-Identifier: BSD-3-Clause
//
// flush_queue: work that may finish in any order, and is acknowledged in the order in which it
// began.
//
//     flush_queue order;
//     flush_queue::place mine(order);             // begins: behind all that are in the queue now
//     result<> written = co_await write(record);  // any of them may be done first
//     result<> turn = co_await mine.turn();       // all that began before have gone
//     acknowledge(record);
//                                                 // ~place: the next one's turn
//
// As a commit log does that writes its records side by side. A place that goes without having its
// turn, because its work failed or was asked to stop, holds nobody up. Places live in frames; no
// allocation. Thread-bound.
#pragma once

#include <utility>

#include "nacre/core/intrusive_list.hpp"
#include "nacre/runtime/waiter.hpp"

namespace nacre {

class flush_queue {
public:
    flush_queue() noexcept = default;
    flush_queue(const flush_queue&) = delete;
    flush_queue& operator=(const flush_queue&) = delete;
    /// Nobody is in it (the list asserts it).
    ~flush_queue() = default;

    class place : public list_hook {
    public:
        explicit place(flush_queue& q) noexcept : queue_(q) { q.places_.push_back(*this); }
        place(const place&) = delete;
        place& operator=(const place&) = delete;
        ~place() {
            NACRE_ASSERT(waiting_ == nullptr);
            unlink();
            if (place* first = queue_.places_.front(); first != nullptr) first->wake();
        }

        class [[nodiscard]] turn_awaiter : public wait_awaiter<turn_awaiter> {
        public:
            explicit turn_awaiter(place& p) noexcept : place_(p) {
                on_cancel = [](waiter& w) noexcept {
                    static_cast<turn_awaiter&>(w).place_.waiting_ = nullptr;
                };
            }
            [[nodiscard]] bool must_wait() const noexcept {
                return place_.queue_.places_.front() != &place_;
            }
            void enqueue(waiter& w) noexcept { place_.waiting_ = &w; }

        private:
            place& place_;
        };
        /// `result<> r = co_await p.turn();` ECANCELED when the task is asked to stop first.
        [[nodiscard]] turn_awaiter turn() noexcept { return turn_awaiter(*this); }

    private:
        void wake() noexcept {
            if (waiter* w = std::exchange(waiting_, nullptr); w != nullptr) w->wake();
        }
        flush_queue& queue_;
        waiter* waiting_ = nullptr;
    };

    /// To wait until all who are in it now have gone, take a place oneself.
    [[nodiscard]] bool empty() const noexcept { return places_.empty(); }

private:
    intrusive_list<place> places_;
};

}  // namespace nacre
