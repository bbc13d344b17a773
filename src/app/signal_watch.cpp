// SPDX-License-Identifier: BSD-3-Clause
#include "signal_watch.hpp"

namespace nacre {

signal_watch::~signal_watch() {
    NACRE_ASSERT(driver_ == nullptr);
    if (signal_fd_ >= 0) world_.unwatch_signals(signal_fd_);
}

outcome<> signal_watch::open(std::span<const int> numbers) {
    outcome<int> opened = world_.watch_signals(numbers);
    if (!opened) return fail(std::move(opened.error()));
    signal_fd_ = *opened;
    return {};
}

void signal_watch::start(receiver function, void* context) noexcept {
    if (signal_fd_ < 0) return;
    receiver_ = function;
    context_ = context;
    thread* const here = thread::current();
    driver_ = &here->host().driver();
    what = kind::poll_in;
    fd = signal_fd_;
    home = here;
    run = [](work& w) noexcept {
        static_cast<signal_watch&>(static_cast<io_request&>(w)).readable();
    };
    arm();
}

void signal_watch::arm() noexcept { driver_->submit(*this); }

void signal_watch::readable() noexcept {
    while (const int number = world_.take_signal(signal_fd_)) receiver_(context_, number);
    if (stopping_)
        stopped_.set();
    else
        arm();
}

task<void> signal_watch::stop() {
    if (driver_ == nullptr) co_return;
    stopping_ = true;
    driver_->cancel(*this);
    nacre::result<> ended = co_await stopped_.wait();
    (void)ended;  // nobody stops the one who stops
    driver_ = nullptr;
}

}  // namespace nacre
