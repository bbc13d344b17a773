// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/runtime/reactor.hpp"

#include <algorithm>

#include "nacre/core/random.hpp"
#include "nacre/runtime/poller.hpp"
#include "nacre/runtime/thread.hpp"

namespace nacre {
namespace {

constexpr std::uint64_t spin_ns = 20'000;
/// Ready work of one thread in one turn; the rest waits, so that timers and the kernel get their
/// say.
constexpr unsigned run_budget = 4096;
constexpr unsigned turns_between_questions = 16;

void relax_cpu() noexcept {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

}  // namespace

constinit thread_local reactor* reactor::t_current_ = nullptr;
constinit thread_local thread* thread::t_current_ = nullptr;

reactor::reactor(world& w, const reactor_options& options) noexcept
    : world_(w),
      clock_(w),
      now_(clock_.now()),
      timers_(now_),
      busy_since_(now_),
      options_(options) {}

reactor::~reactor() { NACRE_ASSERT(t_current_ != this); }

outcome<std::unique_ptr<reactor>> reactor::make(world& w, const reactor_options& options) {
    NACRE_ASSERT(options.index < reactors_max);
    auto driver = w.make_driver({.entries = options.ring_entries, .wide_commands = true});
    if (!driver) return fail(std::move(driver.error()));
    std::unique_ptr<reactor> r(new reactor(w, options));
    r->driver_ = std::move(*driver);
    return r;
}

void reactor::add_poller(poller& p) noexcept { busy_pollers_.push_back(p); }

void reactor::remove_poller(poller& p) noexcept {
    if (next_poller_ == &p) next_poller_ = busy_pollers_.next(p);
    p.unlink();
}

bool reactor::turn() {
    NACRE_ASSERT(t_current_ != this);
    reactor* const outer = std::exchange(t_current_, this);
    now_ = clock_.now();

    bool worked = false;
    if (mailbox_.load(std::memory_order_relaxed) != nullptr) worked = drain_mailbox();
    if (driver_->has_completions()) worked |= driver_->reap() != 0;
    if (now_ >= timers_.next_ns()) worked |= timers_.expire(now_) != 0;
    if (!busy_pollers_.empty()) worked |= run_pollers();
    if (!runnable_.empty()) {
        run_ready();
        worked = true;
    }
    if (outboxes_dirty_ != 0) flush_outboxes();
    if (driver_->has_submissions()) driver_->flush();

    ++(worked ? statistics_.turns_busy : statistics_.turns_idle);
    if (worked != busy_) note_change(worked);
    t_current_ = outer;
    return worked;
}

void reactor::note_change(bool busy) noexcept {
    (busy_ ? statistics_.busy_ns : statistics_.idle_ns) += now_ - busy_since_;
    busy_since_ = now_;
    busy_ = busy;
}

// The race is on purpose.
__attribute__((no_sanitize("thread"))) reactor_statistics reactor::statistics() const noexcept {
    reactor_statistics s = statistics_;
    (busy_ ? s.busy_ns : s.idle_ns) += now_ - busy_since_;
    return s;
}

inline void reactor::run_ready() noexcept {
    thread* const outer = thread::t_current_;
    runnable_list now = runnable_;  // queues that become runnable meanwhile wait for the next turn
    runnable_ = runnable_list();
    do {
        run_queue* const q = now.pop();
        auto* const t = static_cast<thread*>(q);
        thread::t_current_ = t;
        ++t->statistics_.runs;
        if (shuffle_ != nullptr) [[unlikely]] {
            run_shuffled(*q);
            continue;
        }
        work* w = q->take_all();
        for (unsigned left = run_budget; w != nullptr; --left) {
            if (left == 0) [[unlikely]] {
                put_back(*q, *w);
                break;
            }
            work* const next = w->next;
            w->run(*w);
            w = next;
        }
    } while (!now.empty());
    thread::t_current_ = outer;
}

void reactor::put_back(run_queue& q, work& first) noexcept {
    work* last = &first;
    while (last->next != nullptr) last = last->next;
    q.put_back(first, *last);
}

void reactor::run_shuffled(run_queue& q) noexcept {
    // Some of what is ready, in any order; the generator decides both.
    for (auto left = 1 + shuffle_->below(q.size()); left != 0 && !q.empty(); --left) {
        work* w = q.pop_at(static_cast<unsigned>(shuffle_->below(q.size())));
        w->run(*w);
    }
    if (!q.empty() && !q.linked()) runnable_.push(q);
}

bool reactor::run_pollers() noexcept {
    thread* const outer = thread::t_current_;
    bool worked = false;
    // A poll may destroy or pause any, which then is not the next one, or resume some, which go to
    // the back: the stamp tells those that had their turn.
    const std::uint64_t stamp = statistics_.turns_busy + statistics_.turns_idle;
    for (poller* p = busy_pollers_.front(); p != nullptr && p->polled_in_turn_ != stamp;
         p = next_poller_) {
        next_poller_ = busy_pollers_.next(*p);
        p->polled_in_turn_ = stamp;
        thread::t_current_ = p->owner_;
        worked |= p->run_once();
    }
    next_poller_ = nullptr;
    thread::t_current_ = outer;
    return worked;
}

bool reactor::drain_mailbox() noexcept {
    message* newest = mailbox_.exchange(nullptr, std::memory_order_acquire);
    message* oldest = nullptr;
    while (newest != nullptr) {
        auto* next = static_cast<message*>(newest->next);
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    const bool worked = oldest != nullptr;
    while (oldest != nullptr) {
        auto* next = static_cast<message*>(oldest->next);
        oldest->target->push(*oldest);
        oldest = next;
    }
    return worked;
}

void reactor::post(message& m) noexcept {
    reactor* const from = t_current_;
    if (from == this) {
        m.target->push(m);
        return;
    }
    if (from == nullptr) {
        publish(*this, &m, &m);
        return;
    }
    outbox& box = from->outboxes_[options_.index];
    m.next = box.newest;
    if (m.next == nullptr) {
        box.oldest = &m;
        box.target = this;
        from->dirty_[from->outboxes_dirty_++] = options_.index;
    } else if (box.target != this) [[unlikely]] {  // of another runtime, with the same index
        publish(*this, &m, &m);
        return;
    }
    box.newest = &m;
}

void reactor::flush_outboxes() noexcept {
    for (unsigned i = 0; i < outboxes_dirty_; ++i) {
        outbox& box = outboxes_[dirty_[i]];
        publish(*box.target, box.newest, box.oldest);
        box = outbox();
    }
    outboxes_dirty_ = 0;
}

void reactor::publish(reactor& target, message* newest, message* oldest) noexcept {
    message* head = target.mailbox_.load(std::memory_order_relaxed);
    do {
        oldest->next = head;
    } while (!target.mailbox_.compare_exchange_weak(head, newest, std::memory_order_release,
                                                    std::memory_order_relaxed));
    // Pairs with the fence in sleep(): either it sees the message, or this sees it asleep.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (target.sleeping_.load(std::memory_order_relaxed)) target.wake();
}

void reactor::wake() noexcept { driver_->wake(); }

std::uint64_t reactor::next_deadline_ns() noexcept {
    if (!runnable_.empty() || mailbox_.load(std::memory_order_relaxed) != nullptr) return 0;
    return timers_.next_ns();
}

bool reactor::arm_pollers() noexcept {
    for (poller* p = busy_pollers_.front(); p != nullptr; p = busy_pollers_.next(*p)) {
        const thread_guard guard(*p->owner_);
        if (!p->arm_(p->subject_)) {
            disarm_pollers(p);
            return false;
        }
    }
    return true;
}

void reactor::disarm_pollers(poller* end) noexcept {
    for (poller* p = busy_pollers_.front(); p != end; p = busy_pollers_.next(*p)) {
        const thread_guard guard(*p->owner_);
        p->disarm_(p->subject_);
    }
}

bool reactor::begin_sleep() noexcept {
    if (!runnable_.empty() || driver_->has_completions()) return false;
    if (!arm_pollers()) return false;
    sleeping_.store(true, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (mailbox_.load(std::memory_order_relaxed) == nullptr && runnable_.empty()) return true;
    end_sleep();
    return false;
}

void reactor::end_sleep() noexcept {
    sleeping_.store(false, std::memory_order_relaxed);
    disarm_pollers(nullptr);
}

void reactor::sleep(std::uint64_t deadline_ns) {
    if (!begin_sleep()) return;
    ++statistics_.sleeps;
    driver_->wait(std::min(deadline_ns, timers_.next_ns()));
    end_sleep();
}

void reactor::run_until(bool (*done)(void*), void* context) {
    std::uint64_t idle_since = 0;
    while (!done(context)) {
        unsigned left = turns_between_questions;
        while (left != 0 && turn()) --left;
        if (left != turns_between_questions) {
            idle_since = 0;
            continue;  // what it did may have been the last thing
        }
        if (options_.mode == reactor_mode::poll) {
            relax_cpu();
            continue;
        }
        // What the kernel owes wakes us; only a neighbour's message may be worth a short spin.
        if (driver_->in_flight() == 0 && options_.neighbours) {
            if (idle_since == 0) idle_since = now_;
            if (now_ - idle_since < spin_ns) {
                relax_cpu();
                continue;
            }
        }
        idle_since = 0;
        // The turn may have consumed the wake-up that came with the answer.
        if (done(context)) return;
        sleep();
    }
}

}  // namespace nacre
