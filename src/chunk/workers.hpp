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

/// Takes no signals, which are the program's own, and is bound to no core, though a reactor's
/// thread may start it. Throws std::system_error, as std::thread does.
[[nodiscard]] std::thread make_thread(std::function<void()> work);

class workers {
public:
    workers() = default;
    workers(const workers&) = delete;
    workers& operator=(const workers&) = delete;
    ~workers() { stop(); }
    /// Throws std::system_error; stop() all the same.
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
