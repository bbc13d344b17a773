// SPDX-License-Identifier: BSD-3-Clause
#include "workers.hpp"

#include <csignal>
#include <system_error>

#include "nacre/world/world.hpp"

namespace nacre::chunks {

std::thread make_thread(std::function<void()> work) {
    sigset_t all;
    sigset_t before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    std::thread made;
    try {
        made = std::thread([work = std::move(work)] {
            world& w = real_world();
            const std::vector<unsigned> cpus = w.allowed_cpus();
            const outcome<> unbound = w.pin_os_thread(cpus);
            (void)unbound;  // it runs all the same
            work();
        });
    } catch (const std::system_error&) {
        ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
        throw;
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return made;
}

void workers::start(unsigned count) {
    stopping_ = false;
    for (unsigned i = 0; i < count; ++i) threads_.push_back(make_thread([this] { run(); }));
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
