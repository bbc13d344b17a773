// SPDX-License-Identifier: BSD-3-Clause
//
// runtime: the reactors of a process, and the threads on them.
//
// Reactor 0 runs on the OS thread that calls block_on() (in a daemon: main); each further one has
// an OS thread of its own, named and pinned if asked. In a world with a virtual clock all are
// stepped by block_on(). Embedding in a foreign loop: one reactor, and poll() / wake_fd() /
// next_deadline_ns() instead of block_on().
//
// Lifetime: threads live until the runtime is destroyed; before that every thread has drained.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "nacre/runtime/thread.hpp"

namespace nacre {

struct runtime_options {
    /// One reactor a CPU, pinned; empty: one floating reactor.
    std::vector<unsigned> cpus = {};
    /// More than cpus.size(): that many floating reactors instead. 0: as `cpus` says.
    unsigned reactors = 0;
    /// Which of them is reactor 0: an index into `cpus`.
    unsigned main_index = 0;
    reactor_mode mode = reactor_mode::automatic;
    unsigned ring_entries = 256;
};

class runtime {
public:
    [[nodiscard]] static outcome<std::unique_ptr<runtime>> make(world& w,
                                                                runtime_options options = {});
    /// Asks all threads to exit, runs until they have, and joins the OS threads.
    ~runtime();
    runtime(const runtime&) = delete;
    runtime& operator=(const runtime&) = delete;

    [[nodiscard]] world& home_world() noexcept { return world_; }
    [[nodiscard]] unsigned reactor_count() const noexcept {
        return static_cast<unsigned>(reactors_.size());
    }
    [[nodiscard]] reactor& reactor_at(unsigned index) noexcept { return *reactors_[index]; }

    /// Any OS thread. `reactor_index` -1: the next in turn, round robin.
    thread& make_thread(std::string name, int reactor_index = -1);
    /// On a reactor that runs on one of these CPUs only, the next such one in turn. A reactor that
    /// floats may run anywhere, so it serves only a set that holds all the process may use.
    [[nodiscard]] outcome<thread*> make_thread_on(std::string name, const cpu_set& cpus);
    /// The reactor that follows the one given out last, round robin.
    [[nodiscard]] unsigned next_reactor_index() noexcept;
    /// A thread of this reactor for calls to it; made when first asked for. Any OS thread.
    [[nodiscard]] thread& service_thread(unsigned reactor_index);
    /// The first thread, on reactor 0: the home of the registry and of the application.
    [[nodiscard]] thread& main_thread() noexcept { return *main_thread_; }
    /// All threads that have not exited, for introspection: `visit(thread&)`. Any OS thread.
    template <typename F>
    void for_each_thread(F visit) {
        const std::lock_guard guard(mutex_);
        for (auto& t : threads_)
            if (!t->exited()) visit(*t);
    }

    /// Runs the coroutine `function(args…)` on the main thread and this OS thread until it has
    /// finished; its value.
    template <captureless F, typename... Args>
    auto block_on(F function, Args... args) -> detail::spawned_value<F, Args...>;

    // A foreign OS thread's loop hosts reactor 0.
    /// One turn; whether another one is due. When it returns false every wake source is armed.
    bool poll();
    /// Readable when a turn is due. Before sleeping on it call poll() until it returns false, then
    /// sleep until next_deadline_ns() at most; the sleep may also end with EINTR.
    [[nodiscard]] int wake_fd() noexcept { return reactors_[0]->driver().wake_fd(); }
    [[nodiscard]] std::uint64_t next_deadline_ns() noexcept {
        return reactors_[0]->next_deadline_ns();
    }

private:
    explicit runtime(world& w) noexcept : world_(w) {}
    void start(reactor& r);
    void run_main(bool (*done)(void*), void* context);
    thread& add_thread(std::string name, unsigned reactor_index);

    world& world_;
    std::vector<std::unique_ptr<reactor>> reactors_;
    std::vector<steppable*> steppables_;
    std::mutex mutex_;  // guards what follows up to next_reactor_; control path only
    std::vector<std::unique_ptr<thread>> threads_;
    std::vector<thread*> service_threads_;
    unsigned next_reactor_ = 0;
    bool hosted_asleep_ = false;  // of poll(): between begin_sleep() and end_sleep()
    thread* main_thread_ = nullptr;
    std::vector<std::thread> os_threads_;
    std::atomic<bool> stopping_{false};
};

template <captureless F, typename... Args>
auto runtime::block_on(F function, Args... args) -> detail::spawned_value<F, Args...> {
    using value = detail::spawned_value<F, Args...>;
    // The caller waits, so its arguments need not be able to cross.
    auto* call = new detail::spawn_call<value, F, Args...>(std::move(function), std::move(args)...);
    join_handle<value> handle(call);
    main_thread_->post(*call);
    run_main([](void* h) { return static_cast<join_handle<value>*>(h)->done(); }, &handle);
    return handle.wait();
}

/// An OS thread that is no reactor and keeps off the reactors' CPUs: for work that blocks.
[[nodiscard]] std::thread make_unaffinitized_os_thread(runtime& rt, void (*function)(void*),
                                                       void* context);

}  // namespace nacre
