// SPDX-License-Identifier: BSD-3-Clause
//
// Awaiting a single request of the driver, for the simulator's own tests.
#pragma once

#include <sys/uio.h>

#include <coroutine>
#include <span>
#include <string>
#include <string_view>

#include "nacre/runtime/runtime.hpp"
#include "nacre/runtime/sleep.hpp"
#include "nacre/sim/world.hpp"

namespace nacre::sim {

/// `int answer = co_await request_awaiter(…);` bytes or negative errno. Asked to stop, it cancels
/// the request and still waits for its answer.
class request_awaiter : public io_request {
public:
    request_awaiter(kind k, int descriptor, std::uint64_t at, std::span<std::byte> bytes,
                    std::uint8_t f = 0) noexcept
        : piece_{bytes.data(), bytes.size()} {
        what = k;
        fd = descriptor;
        flags = f;
        iov = &piece_;
        iov_count = 1;
        buffer = bytes.data();
        offset = at;
        length = bytes.size();
    }
    request_awaiter(kind k, int descriptor, std::uint64_t at, std::uint64_t bytes) noexcept {
        what = k;
        fd = descriptor;
        offset = at;
        length = bytes;
    }
    request_awaiter(const request_awaiter&) = delete;
    request_awaiter& operator=(const request_awaiter&) = delete;

    [[nodiscard]] static bool await_ready() noexcept { return false; }
    template <std::derived_from<promise_base> P>
    void await_suspend(std::coroutine_handle<P> h) noexcept {
        handle_ = h;
        home = &current_run_queue();
        driver_ = &thread::current()->host().driver();
        run = [](work& w) noexcept {
            auto& self = static_cast<request_awaiter&>(w);
            if (self.on_stop_.linked()) self.on_stop_.unlink();
            self.handle_.resume();
        };
        driver_->submit(*this);
        stop_source* stop = static_cast<promise_base&>(h.promise()).stop();
        if (stop == nullptr) return;
        if (stop->stop_requested())
            driver_->cancel(*this);
        else
            stop->link(on_stop_);
    }
    [[nodiscard]] int await_resume() const noexcept { return result; }

private:
    struct cancel_on_stop : stop_callback {
        explicit cancel_on_stop(request_awaiter& of) noexcept
            : stop_callback([](stop_callback& c) noexcept {
                  request_awaiter& self = static_cast<cancel_on_stop&>(c).owner;
                  self.driver_->cancel(self);
              }),
              owner(of) {}
        request_awaiter& owner;
    };
    iovec piece_{};
    std::coroutine_handle<> handle_;
    io_driver* driver_ = nullptr;
    cancel_on_stop on_stop_{*this};
};

inline request_awaiter read_at(int fd, std::uint64_t at, std::span<std::byte> out) noexcept {
    return {io_request::kind::read, fd, at, out};
}
inline request_awaiter write_at(int fd, std::uint64_t at, std::span<std::byte> in,
                                std::uint8_t flags = 0) noexcept {
    return {io_request::kind::write, fd, at, in, flags};
}
inline request_awaiter sync_file(int fd) noexcept { return {io_request::kind::sync, fd, 0, 0}; }
inline request_awaiter receive_some(int fd, std::span<std::byte> out) noexcept {
    return {io_request::kind::receive, fd, 0, out};
}
inline request_awaiter send_some(int fd, std::span<std::byte> in) noexcept {
    return {io_request::kind::send, fd, 0, in};
}
inline request_awaiter accept_one(int fd) noexcept { return {io_request::kind::accept, fd, 0, 0}; }

/// Opens for reading and writing.
inline int open_at(world& w, const std::string& path, bool direct = false) {
    auto fd = w.open_file(path, {.write = true, .create = true, .direct = direct});
    NACRE_ASSERT(fd);
    return *fd;
}

}  // namespace nacre::sim
