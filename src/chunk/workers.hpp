// SPDX-License-Identifier: BSD-3-Clause
//
// OS threads that carry out what blocks, for coroutines that must not.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace nacre::chunks {

class workers {
public:
    workers() = default;
    workers(const workers&) = delete;
    workers& operator=(const workers&) = delete;
    ~workers() { stop(); }
    void start(unsigned count);
    /// What was posted is done first.
    void stop();
    /// False: it has been stopped.
    [[nodiscard]] bool post(std::function<void()> work);

private:
    void run();

    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::function<void()>> queue_;
    bool stopping_ = true;
    std::vector<std::thread> threads_;
};

}  // namespace nacre::chunks
