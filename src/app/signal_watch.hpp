// SPDX-License-Identifier: BSD-3-Clause
//
// Signals as messages to the main thread: the world's descriptor is polled by the reactor, so
// nothing runs in a signal handler and an idle process sleeps.
#pragma once

#include <span>

#include "nacre/runtime/sync.hpp"
#include "nacre/runtime/thread.hpp"
#include "nacre/world/world.hpp"

namespace nacre {

class signal_watch final : io_request {
public:
    using receiver = void (*)(void* context, int number) noexcept;

    explicit signal_watch(world& w) noexcept : world_(w) {}
    signal_watch(const signal_watch&) = delete;
    signal_watch& operator=(const signal_watch&) = delete;
    /// After stop(), if it was started. The OS thread that opened it.
    ~signal_watch();

    /// Before other OS threads are made: they inherit what is blocked.
    [[nodiscard]] outcome<> open(std::span<const int> numbers);

    // Main thread.
    void start(receiver function, void* context) noexcept;
    [[nodiscard]] task<void> stop();

private:
    void arm() noexcept;
    void readable() noexcept;

    world& world_;
    int signal_fd_ = -1;
    receiver receiver_ = nullptr;
    void* context_ = nullptr;
    io_driver* driver_ = nullptr;  // while started
    bool stopping_ = false;
    event stopped_;
};

}  // namespace nacre
