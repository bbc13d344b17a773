// SPDX-License-Identifier: BSD-3-Clause
//
// The RPC server: JSON-RPC 2.0 on a unix socket, as SPDK's server frames it.
//
// The stream of each direction is JSON values one after the other; white space between them is
// optional, and each answer ends with one newline. Requests may be pipelined, split anywhere and
// grouped in batches; answers come in the order of completion. Malformed JSON, a request beyond the
// bounds below or more than 8,192 values in one get -32700 with "id": null, and the connection is
// closed when what is outstanding has been answered. After a client's half close its outstanding
// requests are still answered. A client that vanishes loses its answers, not its operations.
//
// At most one send is in flight a connection; answers that come meanwhile leave together with the
// next. A client that does not read is not read from either.
//
//     rpc::server server(dispatcher, {.path = "/run/nacre.sock"});
//     outcome<> listening = server.listen();
//     co_await server.close();
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "nacre/core/intrusive_list.hpp"
#include "nacre/rpc/dispatcher.hpp"
#include "nacre/runtime/scope.hpp"
#include "nacre/runtime/sync.hpp"

namespace nacre::rpc {

struct server_options {
    /// A unix socket's path, or a loopback address with a port, 127.0.0.1:5260 (0: a free one),
    /// which needs a token.
    std::string path = "/var/tmp/nacre.sock";
    /// If there is one, a connection's first message must be rpc_authenticate with it.
    std::string token = {};
    std::size_t request_bytes_max = 256 * 1024;
    std::size_t request_values_max = 8192;
    /// Further ones wait in the listener's backlog.
    unsigned connections_max = 64;
    /// Of one connection; further ones wait in its socket.
    unsigned requests_in_flight_max = 1024;
    /// Of answers that a client has not fetched; beyond it, its requests wait.
    std::size_t unsent_bytes_max = 32 * 1024 * 1024;
    /// How long close() waits for clients to fetch answers.
    std::uint64_t drain_ns = 100'000'000;
};

struct server_statistics {
    std::uint64_t connections_accepted = 0;
    std::uint64_t requests = 0;  ///< messages: a batch is one
    std::uint64_t parse_errors = 0;
    std::uint64_t sends = 0;
};

class server {
public:
    server(dispatcher& target, server_options options);
    /// Closed, or never listening (asserted).
    ~server();
    server(const server&) = delete;
    server& operator=(const server&) = delete;

    /// On the thread where it then lives, once. EADDRINUSE if another process holds the path; EPERM
    /// for an address that others than this machine reach, or without a token.
    [[nodiscard]] outcome<> listen();
    /// Accepts no more, asks outstanding requests to stop, sends what is answered, closes.
    [[nodiscard]] task<void> close();
    [[nodiscard]] bool listening() const noexcept { return listener_fd_ >= 0; }

    [[nodiscard]] const std::string& path() const noexcept { return options_.path; }
    [[nodiscard]] unsigned connections() const noexcept { return connections_open_; }
    [[nodiscard]] const server_statistics& statistics() const noexcept { return statistics_; }

private:
    task<void> accept_clients();
    task<void> serve(int fd);
    task<result<>> join_connections();

    dispatcher& dispatcher_;
    server_options options_;
    server_statistics statistics_;
    int listener_fd_ = -1;
    unsigned connections_open_ = 0;
    bool closing_ = false;
    bool limit_noted_ = false;
    intrusive_list<list_hook> open_;  // connections
    condition connection_closed_;
    scope acceptor_;
    scope connections_;
};

}  // namespace nacre::rpc
