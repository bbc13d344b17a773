// SPDX-License-Identifier: BSD-3-Clause
//
// One request on a socket, as an awaitable: `int n = co_await socket_io(...)`, with the driver's
// result (bytes, a descriptor, or a negated errno).
//
// When the awaiting task is asked to stop the request is cancelled and still awaited; an accept may
// then have succeeded nevertheless.
#pragma once

#include <sys/uio.h>

#include <optional>

#include "nacre/core/uri.hpp"
#include "nacre/runtime/task.hpp"
#include "nacre/runtime/thread.hpp"

namespace nacre::rpc {

/// Of "127.0.0.1:5260" and "[::1]:0" (any free port); nullopt for a path.
[[nodiscard]] inline std::optional<host_and_port> tcp_address_of(std::string_view socket) {
    if (socket.find('/') != std::string_view::npos) return std::nullopt;
    const bool any_port = socket.ends_with(":0");
    if (any_port) socket.remove_suffix(2);
    outcome<host_and_port> address = parse_host_and_port(socket, any_port ? 1 : 0);
    if (!address) return std::nullopt;
    if (any_port) address->port = 0;
    return std::move(*address);
}

class [[nodiscard]] socket_io : public io_request {
public:
    /// accept or poll_in.
    socket_io(kind k, int socket) noexcept {
        what = k;
        fd = socket;
    }
    /// receive or send.
    socket_io(kind k, int socket, void* data, std::size_t bytes) noexcept : socket_io(k, socket) {
        buffer = data;
        length = bytes;
        vector_ = {data, bytes};
        iov = &vector_;
        iov_count = 1;
    }
    socket_io(const socket_io&) = delete;
    socket_io& operator=(const socket_io&) = delete;

    [[nodiscard]] static constexpr bool await_ready() noexcept { return false; }
    template <std::derived_from<promise_base> P>
    bool await_suspend(std::coroutine_handle<P> h) noexcept {
        stop_source* stop = static_cast<promise_base&>(h.promise()).stop();
        if (stop != nullptr && stop->stop_requested()) {
            result = -ECANCELED;
            return false;
        }
        frame_ = h.address();
        home = &current_run_queue();
        run = [](work& w) noexcept {
            auto& self = static_cast<socket_io&>(static_cast<io_request&>(w));
            if (self.on_stop_.linked()) self.on_stop_.unlink();
            std::coroutine_handle<>::from_address(self.frame_).resume();
        };
        driver_ = &thread::current()->host().driver();
        driver_->submit(*this);
        if (stop != nullptr) stop->link(on_stop_);
        return true;
    }
    [[nodiscard]] int await_resume() const noexcept { return result; }

    /// Asks it to end; it still completes.
    void cancel() noexcept { driver_->cancel(*this); }

private:
    struct stop_hook : stop_callback {
        explicit stop_hook(socket_io& of) noexcept
            : stop_callback(
                  [](stop_callback& s) noexcept { static_cast<stop_hook&>(s).owner.cancel(); }),
              owner(of) {}
        socket_io& owner;
    };
    void* frame_ = nullptr;
    io_driver* driver_ = nullptr;
    iovec vector_{};
    stop_hook on_stop_{*this};
};

}  // namespace nacre::rpc
