// SPDX-License-Identifier: BSD-3-Clause
//
// remote_poller: a poller that runs on another thread than its owner's.
//
//     auto poller = co_await make_poller_on(t, "ring", across(ring));             // busy
//     auto ticker = co_await make_poller_on(t, "tick", across(table), period_ns); // periodic
//     co_await poller.close();
//
// The subject outlives the poller and is polled on that thread. Closing is a call to it, so it is
// awaited; the destructor asserts that it was.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "nacre/runtime/poller.hpp"

namespace nacre {

class [[nodiscard]] remote_poller {
public:
    using may_cross_threads = void;
    explicit remote_poller(std::unique_ptr<poller> made) noexcept
        : home_(thread::current()), poller_(made.release()) {}
    remote_poller(remote_poller&& o) noexcept
        : home_(o.home_), poller_(std::exchange(o.poller_, nullptr)) {}
    remote_poller& operator=(remote_poller&&) = delete;
    ~remote_poller() { NACRE_ASSERT(poller_ == nullptr); }

    [[nodiscard]] thread& home() const noexcept { return *home_; }
    /// `co_await p.close();` Once; afterwards the subject is not touched any more.
    [[nodiscard]] auto close() noexcept {
        NACRE_ASSERT(poller_ != nullptr);
        return call_on(
            *home_, [](across<poller> p) { delete &*p; },
            across<poller>(*std::exchange(poller_, nullptr)));
    }
    [[nodiscard]] auto pause() noexcept {
        return call_on(*home_, [](across<poller> p) { p->pause(); }, across<poller>(*poller_));
    }
    [[nodiscard]] auto resume() noexcept {
        return call_on(*home_, [](across<poller> p) { p->resume(); }, across<poller>(*poller_));
    }
    /// `poller_statistics s = co_await p.statistics();`
    [[nodiscard]] auto statistics() noexcept {
        return call_on(
            *home_, [](across<poller> p) { return p->statistics(); }, across<poller>(*poller_));
    }

private:
    thread* home_;
    poller* poller_;
};

/// Busy: in every turn of that thread's reactor.
template <sleepable T>
[[nodiscard]] auto make_poller_on(thread& t, std::string name, across<T> subject) {
    return call_on(
        t,
        [](std::string n, across<T> s) {
            return remote_poller(std::make_unique<poller>(std::move(n), *s));
        },
        std::move(name), subject);
}
/// Periodic, `period_ns` > 0.
template <pollable T>
[[nodiscard]] auto make_poller_on(thread& t, std::string name, across<T> subject,
                                  std::uint64_t period_ns) {
    return call_on(
        t,
        [](std::string n, across<T> s, std::uint64_t ns) {
            return remote_poller(std::make_unique<poller>(std::move(n), *s, ns));
        },
        std::move(name), subject, period_ns);
}

}  // namespace nacre
