// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/runtime/thread.hpp"

#include "nacre/runtime/poller.hpp"

namespace nacre {

void detail::join_base::finish() noexcept {
    message* waiting = waiter_.exchange(done_mark(), std::memory_order_acq_rel);
    finished_.store(1, std::memory_order_release);
    finished_.notify_all();
    if (waiting != nullptr) waiting->target->post(*waiting);
}

void detail::join_base::block() const noexcept {
    while (finished_.load(std::memory_order_acquire) == 0)
        finished_.wait(0, std::memory_order_acquire);
}

thread::thread(reactor& host, std::string name, std::uint64_t id) noexcept
    : run_queue(&host.runnable()), host_(&host), id_(id), name_(std::move(name)) {}

thread::~thread() { NACRE_ASSERT(poller_list_.empty() && channel_list_.empty() && empty()); }

task<void> thread::drain_and_exit(thread& self) {
    self.root_.request_stop();
    result<> drained = co_await self.root_.join();
    (void)drained;  // whoever spawned a child has its result; nobody is left to tell here
    self.exited_.store(true, std::memory_order_release);
    // Who waits for it may sleep on another reactor.
    if (self.exit_listener_ != nullptr && self.exit_listener_ != self.host_)
        self.exit_listener_->wake();
}

void thread::request_exit() noexcept {
    send_message(
        [](across<thread> t) {
            if (std::exchange(t->exiting_, true)) return;
            t->exit_scope_.spawn(drain_and_exit(*t));
        },
        across<thread>(*this));
}

poller::poller(std::string name, void* subject, std::uint64_t period_ns, poll_function poll)
    : name_(std::move(name)),
      subject_(subject),
      period_ns_(period_ns),
      poll_(poll),
      owner_(thread::current()) {
    NACRE_ASSERT(owner_ != nullptr);
    owner_->poller_list_.push_back(registration_);
    ++owner_->pollers_;
}

poller::~poller() {
    NACRE_ASSERT(thread::current() == owner_);
    pause();
    registration_.unlink();
    --owner_->pollers_;
}

poller::period_timer::period_timer(poller& p) noexcept
    : timer([](timer& t) noexcept {
          poller& self = static_cast<period_timer&>(t).owner;
          // Armed first: the poll may pause it.
          self.arm_timer();
          thread_guard guard(*self.owner_);
          self.run_once();
      }),
      owner(p) {}

void poller::arm_timer() noexcept {
    owner_->host().timers().arm(timer_, owner_->now_ns() + period_ns_);
}

void poller::pause() noexcept {
    paused_ = true;
    if (linked()) owner_->host().remove_poller(*this);
    timer_.cancel();
}

void poller::resume() noexcept {
    if (!paused_) return;
    paused_ = false;
    if (period_ns_ == 0)
        owner_->host().add_poller(*this);
    else
        arm_timer();
}

}  // namespace nacre
