// SPDX-License-Identifier: BSD-3-Clause
//
// Cancellation within one thread: ask, then still await the answer.
//
// A `stop_source` is asked once; every `stop_callback` linked to it then runs once, on the spot. A
// task inherits the source of whoever awaits it, so `with_timeout`, `when_any` and `scope` reach
// everything below them. Thread-bound: no atomics. std::stop_token stays outside, at the API's
// edge. Cost: linking and unlinking a callback, 9 instructions together.
#pragma once

#include "nacre/core/intrusive_list.hpp"

namespace nacre {

class stop_source;

/// What waits to be told. The function runs inside request_stop(); it may unlink other callbacks,
/// and it resumes nobody, it only makes ready.
class stop_callback : public list_hook {
public:
    using function = void (*)(stop_callback& self) noexcept;
    explicit stop_callback(function f) noexcept : function_(f) {}
    ~stop_callback() {
        if (linked()) unlink();
    }

private:
    friend class stop_source;
    function function_;
};

class stop_source {
public:
    stop_source() noexcept = default;
    /// A child is asked as soon as its parent is; `parent` may be null and outlives the child.
    explicit stop_source(stop_source* parent) noexcept { follow(parent); }
    stop_source(const stop_source&) = delete;
    stop_source& operator=(const stop_source&) = delete;

    void follow(stop_source* parent) noexcept {
        if (parent == nullptr) return;
        if (parent->stop_requested())
            request_stop();
        else
            parent->link(from_parent_);
    }
    [[nodiscard]] bool stop_requested() const noexcept { return requested_; }
    void request_stop() noexcept;
    /// Not after stop_requested(): the caller looks first, and then does not wait at all.
    void link(stop_callback& callback) noexcept { callbacks_.push_back(callback); }

private:
    struct parent_callback : stop_callback {
        explicit parent_callback(stop_source& s) noexcept;
        stop_source& child;
    };
    intrusive_list<stop_callback> callbacks_;
    parent_callback from_parent_{*this};
    bool requested_ = false;
};

}  // namespace nacre
