// SPDX-License-Identifier: BSD-3-Clause
//
// A simulated world with an RPC server in it, for the tests of this room.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "nacre/rpc/config.hpp"
#include "nacre/rpc/server.hpp"
#include "nacre/runtime/sleep.hpp"
#include "nacre/sim/world.hpp"
#include "socket_io.hpp"

namespace nacre::rpc {

/// test_echo {"value": any}, test_sleep {"ms": n}, test_count (how often test_sleep has ended),
/// test_startup (startup only), test_fail {"errno": n}, test_big {"bytes": n}.
[[nodiscard]] std::span<const method> test_methods() noexcept;

class test_lifecycle final : public lifecycle {
public:
    [[nodiscard]] task<outcome<>> initialize(context& here) override;
    void request_shutdown(int signal_number) override { signal = signal_number; }
    int signal = 0;
    std::uint64_t initialize_ns = 0;  ///< what initialisation takes
    bool refuses = false;
};

struct fixture_options {
    std::uint64_t seed = 1;
    /// First in, first out, for tests that look at an order.
    bool shuffle = true;
    server_options server{.path = "/rpc.sock"};
    bool started = true;  ///< already in the state runtime
};

struct fixture {
    explicit fixture(fixture_options options = {});

    sim::world outside;
    std::unique_ptr<runtime> rt;
    bdev_registry registry;
    context here;
    test_lifecycle application;
    dispatcher target;
    server listener;
    bool started;

    /// Runs `body` with the server listening, then closes all and expects nothing to be left.
    void run(task<void> (*body)(fixture& f));
    /// As `{"jsonrpc":"2.0",…}` would be answered, without a socket.
    [[nodiscard]] task<std::string> ask(std::string text);
};

/// The other end of a connection, byte by byte.
class raw_client {
public:
    explicit raw_client(fixture& f);
    raw_client(const raw_client&) = delete;
    raw_client& operator=(const raw_client&) = delete;
    ~raw_client() { close(); }

    [[nodiscard]] task<void> send(std::string text);
    /// Up to a newline, without it; what there is when the stream ends first.
    [[nodiscard]] task<std::string> line();
    [[nodiscard]] task<std::string> to_end();
    void half_close() { outside_.half_close(fd_); }
    void close();

private:
    [[nodiscard]] task<bool> receive();
    sim::world& outside_;
    int fd_ = -1;
    std::string received_;
};

}  // namespace nacre::rpc
