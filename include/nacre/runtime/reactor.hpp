// SPDX-License-Identifier: BSD-3-Clause
//
// A reactor: one OS thread's loop. Its turn: drain the mailbox, reap the kernel's completions, fire
// timers, poll, run what is ready, then hand over messages and submissions, once each.
//
// What a turn finds ready it runs; what becomes ready meanwhile waits for the next turn. A turn
// that did nothing leads to sleep (mode auto): at once when the kernel owes a completion, after a
// short spin when only other reactors may send something. Every wake source is armed before; a
// message then costs its sender one eventfd write, and costs none while the reactor is awake.
//
// Users meet a reactor through `thread` and `runtime`. The clock is read once a turn: `now_ns()`.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "nacre/core/work.hpp"
#include "nacre/runtime/timer.hpp"
#include "nacre/world/io_driver.hpp"
#include "nacre/world/tick_clock.hpp"
#include "nacre/world/world.hpp"

namespace nacre {

class poller;
class thread;
class prng;

enum class reactor_mode : std::uint8_t {
    automatic,  ///< sleeps when idle
    poll,       ///< never sleeps: lowest latency, one busy core
};

/// A message to a thread: a work that is run there. Owned by the sender until it ran.
struct message : work {
    thread* target = nullptr;
};

struct reactor_options {
    unsigned index = 0;
    int cpu = -1;  ///< -1: floating
    reactor_mode mode = reactor_mode::automatic;
    unsigned ring_entries = 256;
    bool neighbours = false;  ///< other reactors exist: a short spin before sleep may pay
};

struct reactor_statistics {
    std::uint64_t turns_busy = 0;
    std::uint64_t turns_idle = 0;
    std::uint64_t busy_ns = 0;
    std::uint64_t idle_ns = 0;
    std::uint64_t sleeps = 0;
};

class reactor final : public steppable {
public:
    static constexpr unsigned reactors_max = 128;

    [[nodiscard]] static outcome<std::unique_ptr<reactor>> make(world& w,
                                                                const reactor_options& options);
    ~reactor() override;

    /// The one that runs on this OS thread right now, or null.
    [[nodiscard]] static reactor* current() noexcept { return t_current_; }

    // Owner OS thread.
    /// One turn; whether it did anything. Re-entering is a programmer error.
    bool turn() override;
    /// Turns and sleeps until `done(context)`, which is asked before sleeping and every few turns.
    void run_until(bool (*done)(void*), void* context);
    /// Sleeps until a wake source fires or `deadline_ns`; may return at once. Between two turns.
    void sleep(std::uint64_t deadline_ns = UINT64_MAX);
    /// Arms every wake source, so that the driver's wake_fd becomes readable; false if something is
    /// due already. Between two turns; end_sleep() comes before the next one.
    [[nodiscard]] bool begin_sleep() noexcept;
    void end_sleep() noexcept;
    [[nodiscard]] std::uint64_t next_deadline_ns() noexcept override;

    /// The stamp of this turn on the world's monotonic clock.
    [[nodiscard]] std::uint64_t now_ns() const noexcept { return now_; }
    /// Reads the clock now: for measuring, not for the I/O path.
    [[nodiscard]] std::uint64_t precise_now_ns() noexcept { return clock_.now(); }
    [[nodiscard]] timer_wheel& timers() noexcept { return timers_; }
    [[nodiscard]] io_driver& driver() noexcept { return *driver_; }
    [[nodiscard]] world& home_world() noexcept { return world_; }
    [[nodiscard]] runnable_list& runnable() noexcept { return runnable_; }
    void add_poller(poller& p) noexcept;
    void remove_poller(poller& p) noexcept;

    // Any thread.
    /// Delivers to `m.target`, which this reactor hosts. From another reactor's turn it leaves with
    /// that turn's batch; from elsewhere at once.
    void post(message& m) noexcept;
    void wake() noexcept;
    [[nodiscard]] unsigned index() const noexcept { return options_.index; }
    [[nodiscard]] const reactor_options& options() const noexcept { return options_; }
    /// Read without synchronisation: each figure is one that was true recently.
    [[nodiscard]] reactor_statistics statistics() const noexcept;
    /// Where now_ns() is kept: channels read it without passing through their thread.
    [[nodiscard]] const std::uint64_t& turn_stamp() const noexcept { return now_; }

    /// Simulation: the order in which ready work runs, chosen by this generator; null: FIFO.
    void set_shuffle(prng* generator) noexcept { shuffle_ = generator; }

private:
    reactor(world& w, const reactor_options& options) noexcept;
    bool drain_mailbox() noexcept;
    bool run_pollers() noexcept;
    void run_ready() noexcept;
    void run_shuffled(run_queue& q) noexcept;
    static void put_back(run_queue& q, work& first) noexcept;
    void note_change(bool busy) noexcept;
    void flush_outboxes() noexcept;
    static void publish(reactor& target, message* newest, message* oldest) noexcept;
    [[nodiscard]] bool arm_pollers() noexcept;
    /// Those before `end` (null: all).
    void disarm_pollers(poller* end) noexcept;

    static constinit thread_local reactor* t_current_;

    world& world_;
    tick_clock clock_;
    std::uint64_t now_ = 0;
    runnable_list runnable_;
    std::unique_ptr<io_driver> driver_;
    timer_wheel timers_;
    intrusive_list<poller> busy_pollers_;
    poller* next_poller_ = nullptr;  // while they are polled
    unsigned outboxes_dirty_ = 0;
    bool busy_ = false;             // the last turn did something
    std::uint64_t busy_since_ = 0;  // or idle since: when busy_ changed
    prng* shuffle_ = nullptr;
    reactor_statistics statistics_;  // times up to busy_since_
    reactor_options options_;

    struct outbox {
        reactor* target = nullptr;  // meaningful while newest is set
        message* newest = nullptr;
        message* oldest = nullptr;
    };
    std::array<unsigned, reactors_max> dirty_{};
    std::array<outbox, reactors_max> outboxes_{};

    // Written by other OS threads, so apart from what a turn touches.
    alignas(64) std::atomic<message*> mailbox_{nullptr};  // newest first
    alignas(64) std::atomic<bool> sleeping_{false};
};

}  // namespace nacre
