// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/rpc/server.hpp"

#include <fmt/format.h>

#include <cstring>

#include "connection.hpp"
#include "nacre/core/log.hpp"
#include "nacre/runtime/sleep.hpp"
#include "nacre/runtime/timeout.hpp"
#include "socket_io.hpp"

namespace nacre::rpc {

server::server(dispatcher& target, server_options options)
    : dispatcher_(target), options_(std::move(options)) {}

server::~server() { NACRE_ASSERT(listener_fd_ < 0 && connections_open_ == 0); }

outcome<> server::listen() {
    NACRE_ASSERT(listener_fd_ < 0);
    world& outside = dispatcher_.here().home_world();
    const std::optional<host_and_port> tcp = tcp_address_of(options_.path);
    if (tcp && !tcp->host.starts_with("127.") && tcp->host != "::1")
        return fail(EPERM, options_.path +
                               ": not an address of this machine alone, such as "
                               "127.0.0.1; reach it from elsewhere through a tunnel");
    if (tcp && options_.token.empty())
        return fail(EPERM, options_.path +
                               ": every user of this machine can connect to it, so it "
                               "needs a token");
    auto fd = tcp ? outside.listen_tcp(tcp->host, tcp->port) : outside.listen_unix(options_.path);
    if (!fd) return fail(std::move(fd.error()));
    listener_fd_ = *fd;
    if (tcp) {
        if (auto port = outside.local_port(*fd); port)
            options_.path =
                fmt::format("{}{}", options_.path.substr(0, options_.path.rfind(':') + 1), *port);
    }
    acceptor_.spawn(accept_clients());
    log::info("rpc", [&] { return fmt::format("listening on {}", options_.path); });
    return {};
}

task<void> server::accept_clients() {
    constexpr std::uint64_t retry_ns = 100'000'000;
    while (!closing_) {
        if (connections_open_ >= options_.connections_max) {
            if (!std::exchange(limit_noted_, true))
                log::warning("rpc", fmt::format("{}: {} clients are connected, which is the "
                                                "limit; others wait",
                                                options_.path, connections_open_));
            result<> closed = co_await connection_closed_.wait();
            (void)closed;  // the loop looks whether it was the stop
            continue;
        }
        const int fd = co_await socket_io(io_request::kind::accept, listener_fd_);
        if (fd >= 0) {
            ++connections_open_;
            ++statistics_.connections_accepted;
            connections_.spawn(serve(fd));
        } else if (fd != -ECANCELED) {
            log::warning("rpc", fmt::format("{}: cannot accept a client: {}", options_.path,
                                            std::strerror(-fd)));
            result<> slept = co_await sleep_for(retry_ns);
            (void)slept;
        }
    }
}

task<void> server::serve(int fd) {
    connection client(dispatcher_, options_, statistics_, fd);
    open_.push_back(client);
    if (closing_) client.stop_reading();
    co_await client.run();
    client.unlink();
    dispatcher_.here().home_world().close_socket(fd);
    --connections_open_;
    limit_noted_ = false;
    connection_closed_.notify_one();
}

task<result<>> server::join_connections() {
    result<> joined = co_await connections_.join();
    co_return joined;
}

task<void> server::close() {
    if (listener_fd_ < 0) co_return;
    closing_ = true;
    acceptor_.request_stop();
    result<> stopped = co_await acceptor_.join();
    dispatcher_.here().home_world().close_socket(std::exchange(listener_fd_, -1));
    for (list_hook* c = open_.front(); c != nullptr; c = open_.next(*c))
        static_cast<connection*>(c)->stop_reading();
    // Who does not fetch its answers in time loses them.
    stopped = co_await with_timeout(join_connections(), options_.drain_ns);
    (void)stopped;
    NACRE_ASSERT(connections_open_ == 0);
}

}  // namespace nacre::rpc
