// SPDX-License-Identifier: BSD-3-Clause
//
// nacre inside somebody else's event loop. The loop is epoll's, and has a timer of its own; nacre
// is one more descriptor in it. Nothing blocks but epoll_wait: an idle program sleeps.
//
// The contract: poll() until it is false, only then sleep: on wake_fd(), until next_deadline_ns().
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "nacre/runtime/runtime.hpp"
#include "nacre/runtime/sleep.hpp"

namespace {

using namespace nacre;

// nacre's part of the program: it knows nothing of the loop that runs it.
task<int> count_to(int last) {
    for (int n = 0; n < last; ++n) {
        result<> slept = co_await sleep_for(3'000'000);
        if (!slept) co_return n;
    }
    co_return last;
}

int milliseconds_until(std::uint64_t deadline_ns) {
    if (deadline_ns == UINT64_MAX) return -1;
    const std::uint64_t now = real_world().monotonic_ns();
    const std::uint64_t left = deadline_ns > now ? deadline_ns - now : 0;
    return static_cast<int>(std::min<std::uint64_t>((left + 999'999) / 1'000'000, 1000));
}

void watch(int epoll, int fd) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

}  // namespace

int main() {
    outcome<std::unique_ptr<runtime>> made = runtime::make(real_world());
    if (!made) {
        std::fprintf(stderr, "%s\n", made.error().message.c_str());
        return 1;
    }
    runtime& host = **made;
    // The host program's own business: a tick every 5 ms.
    const int ticker = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    const itimerspec every_5_ms{{0, 5'000'000}, {0, 5'000'000}};
    timerfd_settime(ticker, 0, &every_5_ms, nullptr);
    const int epoll = epoll_create1(EPOLL_CLOEXEC);
    watch(epoll, ticker);
    watch(epoll, host.wake_fd());

    join_handle<int> counted = host.main_thread().spawn(&count_to, 10);
    std::uint64_t ticks = 0;
    while (!counted.done() || ticks < 4) {
        while (host.poll()) {
        }
        epoll_event event{};
        const int ready = epoll_wait(epoll, &event, 1, milliseconds_until(host.next_deadline_ns()));
        std::uint64_t expirations = 0;
        if (ready == 1 && event.data.fd == ticker &&
            read(ticker, &expirations, sizeof expirations) == sizeof expirations)
            ticks += expirations;
    }
    const int n = counted.wait();
    std::printf("nacre counted to %d while the loop ticked %llu times\n", n,
                static_cast<unsigned long long>(ticks));
    close(epoll);
    close(ticker);
    return n == 10 ? 0 : 1;
}
