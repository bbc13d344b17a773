// SPDX-License-Identifier: BSD-3-Clause
//
// The world of the process's own kernel: the process and its signals, through signalfd(2), so that
// nothing runs in a signal handler.
#include <fmt/format.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cstring>

#include "real_world.hpp"

namespace nacre {

outcome<int> world::watch_signals(std::span<const int>) { return -1; }
int world::take_signal(int) noexcept { return 0; }
void world::unwatch_signals(int) noexcept {}

std::uint64_t posix_world::process_id() const noexcept {
    return static_cast<std::uint64_t>(::getpid());
}

outcome<int> posix_world::watch_signals(std::span<const int> numbers) {
    sigset_t watched;
    sigset_t before;
    ::sigemptyset(&watched);
    for (const int number : numbers) ::sigaddset(&watched, number);
    if (const int error_number = ::pthread_sigmask(SIG_BLOCK, &watched, &before); error_number != 0)
        return fail(error_number,
                    fmt::format("cannot block signals: {}", std::strerror(error_number)));
    const int fd = ::signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0) {
        const int error_number = errno;
        ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
        return fail(error_number,
                    fmt::format("cannot watch signals: {}", std::strerror(error_number)));
    }
    const std::lock_guard guard(mutex_);
    masks_before_.insert_or_assign(fd, before);
    return fd;
}

int posix_world::take_signal(int fd) noexcept {
    signalfd_siginfo information{};
    if (::read(fd, &information, sizeof information) != sizeof information) return 0;
    return static_cast<int>(information.ssi_signo);
}

void posix_world::unwatch_signals(int fd) noexcept {
    // One that came meanwhile has been answered: what it asked for is under way.
    while (take_signal(fd) != 0) {
    }
    sigset_t before;
    {
        const std::lock_guard guard(mutex_);
        const auto found = masks_before_.find(fd);
        if (found == masks_before_.end()) return;
        before = found->second;
        masks_before_.erase(found);
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    ::close(fd);
}

}  // namespace nacre
