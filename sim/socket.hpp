// SPDX-License-Identifier: BSD-3-Clause
//
// A stream socket or a listener in memory. As in the kernel, a request that is under way keeps its
// socket open after its descriptor was closed: who closes without cancelling leaves the peer
// waiting for ever.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "nacre/world/io_driver.hpp"

namespace nacre::sim {

class world;

class socket {
public:
    socket(world& w, unsigned id) noexcept : world_(w), id_(id) {}
    socket(const socket&) = delete;
    socket& operator=(const socket&) = delete;

    void become_listener(std::string name, std::uint16_t port);
    /// Two streams that are each other's peer; `name` is for traces.
    static void join(socket& a, socket& b, const std::string& name, std::uint16_t port);
    /// A connection that accept will hand out; false: the backlog is full.
    [[nodiscard]] bool enqueue(socket& server);

    /// The request can make progress, if only to fail.
    [[nodiscard]] bool ready_for(const io_request& request) const noexcept;
    /// Progress, or empty if it must wait.
    [[nodiscard]] std::optional<std::int32_t> attempt(const io_request& request);

    void shut_down();
    void half_close();
    /// References are its descriptor and its requests; the last one closes it.
    void acquire() noexcept { ++references_; }
    void release();

    [[nodiscard]] unsigned id() const noexcept { return id_; }
    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] std::uint16_t port() const noexcept { return port_; }
    [[nodiscard]] bool listening() const noexcept { return listening_; }

private:
    [[nodiscard]] std::size_t available() const noexcept { return buffer_.size() - taken_; }
    [[nodiscard]] bool can_send() const noexcept;
    [[nodiscard]] std::size_t room() const noexcept;
    [[nodiscard]] std::int32_t receive(const io_request& request);
    [[nodiscard]] std::int32_t send(const io_request& request);
    [[nodiscard]] std::uint64_t some_of(std::uint64_t bytes);

    world& world_;
    unsigned id_;
    unsigned references_ = 0;
    bool listening_ = false;
    bool input_ended_ = false;  // the peer sends no more
    bool input_shut_ = false;   // this side reads no more
    bool output_shut_ = false;  // this side sends no more
    bool closed_ = false;       // the last reference is gone
    std::uint16_t port_ = 0;
    socket* peer_ = nullptr;
    std::vector<std::byte> buffer_;  // received, from taken_ on
    std::size_t taken_ = 0;
    std::deque<socket*> backlog_;
    std::string name_;
};

}  // namespace nacre::sim
