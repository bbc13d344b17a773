// SPDX-License-Identifier: BSD-3-Clause
//
// One client of the RPC server: its input is framed and dispatched, its answers are gathered and
// sent. Lives in the frame of server::serve, which ends when run() does.
#pragma once

#include <memory>
#include <string>

#include "nacre/core/intrusive_list.hpp"
#include "nacre/core/json_scan.hpp"
#include "nacre/rpc/server.hpp"
#include "socket_io.hpp"

namespace nacre::rpc {

class connection : public list_hook {
public:
    connection(dispatcher& target, const server_options& options, server_statistics& statistics,
               int fd);

    /// Until there is no more to read, all requests are answered, and all answers are sent or
    /// nobody is there to take them.
    [[nodiscard]] task<void> run();
    /// The server closes: no more requests; those outstanding are asked to stop.
    void stop_reading() noexcept;

private:
    [[nodiscard]] task<void> read_requests();
    /// All that the framer can give; false when reading is over.
    [[nodiscard]] task<bool> take_messages();
    [[nodiscard]] bool take_message(std::string_view text);
    /// The first message where the server has a token: whether there may be others.
    [[nodiscard]] bool authenticate(const json::value& message);
    [[nodiscard]] bool refuse(std::string message);
    [[nodiscard]] task<void> answer(json::value message);
    void send(std::string_view text);
    [[nodiscard]] task<void> send_all();
    void peer_is_gone() noexcept;
    [[nodiscard]] bool reading_over() const noexcept { return closing_ || gone_; }
    [[nodiscard]] bool busy() const noexcept {
        return in_flight_ >= options_.requests_in_flight_max ||
               outgoing_.size() >= options_.unsent_bytes_max;
    }

    dispatcher& dispatcher_;
    const server_options& options_;
    server_statistics& statistics_;
    const int fd_;
    bool authenticated_;
    bool closing_ = false;
    bool gone_ = false;     // nobody takes answers any more
    bool sending_ = false;  // send_all is under way
    unsigned in_flight_ = 0;
    socket_io* receiving_ = nullptr;
    json::framer framer_;
    std::unique_ptr<char[]> input_;
    std::string outgoing_;
    condition progress_;  // in_flight_ or outgoing_ became less, or reading is over
    scope requests_;
    scope sender_;
};

}  // namespace nacre::rpc
