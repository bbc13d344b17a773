// SPDX-License-Identifier: BSD-3-Clause
//
// A poller: a function that looks for work, in every turn or periodically.
//
// Whatever is looked at must not keep a core awake: a busy poller says how to be woken (`arm`), a
// periodic one bounds its period; the constructor takes nothing else. The function returns whether
// it did anything, so that busy means "did work". Registered on the thread that makes it, until it
// is destroyed, on the same thread and not from its own function.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>

#include "nacre/core/intrusive_list.hpp"
#include "nacre/runtime/thread.hpp"
#include "nacre/runtime/timer.hpp"

namespace nacre {

/// Something that can be asked to wake the reactor: after `arm()` returned true, new work makes one
/// of the reactor's wake sources fire (a kernel request, a message); false means work is there now.
template <typename T>
concept sleepable = requires(T& t) {
    { t.poll() } noexcept -> std::same_as<bool>;
    { t.arm() } noexcept -> std::same_as<bool>;
    { t.disarm() } noexcept -> std::same_as<void>;
};
template <typename T>
concept pollable = requires(T& t) {
    { t.poll() } noexcept -> std::same_as<bool>;
};

struct poller_statistics {
    using may_cross_threads = void;
    std::uint64_t run_count = 0;
    std::uint64_t busy_count = 0;
};

class poller : public list_hook {
public:
    /// Busy: polled in every turn of the current thread's reactor.
    template <sleepable T>
    poller(std::string name, T& subject)
        : poller(std::move(name), &subject, 0,
                 [](void* s) noexcept { return static_cast<T*>(s)->poll(); }) {
        arm_ = [](void* s) noexcept { return static_cast<T*>(s)->arm(); };
        disarm_ = [](void* s) noexcept { static_cast<T*>(s)->disarm(); };
        resume();
    }
    /// Periodic, `period_ns` > 0.
    template <pollable T>
    poller(std::string name, T& subject, std::uint64_t period_ns)
        : poller(std::move(name), &subject, period_ns,
                 [](void* s) noexcept { return static_cast<T*>(s)->poll(); }) {
        NACRE_ASSERT(period_ns != 0);
        resume();
    }
    ~poller();

    void pause() noexcept;
    void resume() noexcept;
    [[nodiscard]] bool paused() const noexcept { return paused_; }
    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    /// 0: busy.
    [[nodiscard]] std::uint64_t period_ns() const noexcept { return period_ns_; }
    [[nodiscard]] const poller_statistics& statistics() const noexcept { return statistics_; }

private:
    friend class reactor;
    friend class thread;
    using poll_function = bool (*)(void*) noexcept;
    poller(std::string name, void* subject, std::uint64_t period_ns, poll_function poll);
    bool run_once() noexcept {
        ++statistics_.run_count;
        if (!poll_(subject_)) return false;
        ++statistics_.busy_count;
        return true;
    }
    void arm_timer() noexcept;

    struct period_timer : timer {
        explicit period_timer(poller& p) noexcept;
        poller& owner;
    };
    std::string name_;
    void* subject_;
    std::uint64_t period_ns_;
    poll_function poll_;
    bool (*arm_)(void*) noexcept = nullptr;
    void (*disarm_)(void*) noexcept = nullptr;
    bool paused_ = true;
    std::uint64_t polled_in_turn_ = UINT64_MAX;  // of the reactor
    thread* owner_;
    poller_statistics statistics_;
    period_timer timer_{*this};

public:
    /// Of the thread: its list of pollers, for introspection.
    struct registration : list_hook {
        explicit registration(poller& p) noexcept : owner(p) {}
        poller& owner;
    };

private:
    registration registration_{*this};
};

template <typename F>
void thread::for_each_poller(F visit) {
    for (list_hook* h = poller_list_.front(); h != nullptr; h = poller_list_.next(*h))
        visit(static_cast<poller::registration*>(h)->owner);
}

}  // namespace nacre
