// SPDX-License-Identifier: BSD-3-Clause
#include "workers.hpp"

#include <csignal>

namespace nacre::chunks {

void workers::start(unsigned count) {
    stopping_ = false;
    // The program's signals are its own.
    sigset_t all;
    sigset_t before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    for (unsigned i = 0; i < count; ++i) threads_.emplace_back([this] { run(); });
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void workers::stop() {
    {
        const std::lock_guard guard(mutex_);
        stopping_ = true;
    }
    changed_.notify_all();
    for (std::thread& t : threads_) t.join();
    threads_.clear();
}

bool workers::post(std::function<void()> work) {
    {
        const std::lock_guard guard(mutex_);
        if (stopping_) return false;
        queue_.push_back(std::move(work));
    }
    changed_.notify_one();
    return true;
}

void workers::run() {
    std::unique_lock lock(mutex_);
    while (true) {
        if (queue_.empty()) {
            if (stopping_) return;
            changed_.wait(lock);
            continue;
        }
        const std::function<void()> work = std::move(queue_.front());
        queue_.pop_front();
        lock.unlock();
        work();
        lock.lock();
    }
}

}  // namespace nacre::chunks
