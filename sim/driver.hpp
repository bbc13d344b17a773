// SPDX-License-Identifier: BSD-3-Clause
//
// The twin of the io_uring driver: a priority queue of virtual completion times.
//
// A request reaches its file or socket at the flush. On a file it takes effect when it completes,
// so two that overlap in time are in either order. On a socket it waits, blocked, until it can make
// progress, and then takes its time; if somebody else was faster it is blocked again.
// Single-threaded: also wake() comes from the one OS thread that drives the world.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nacre/world/io_driver.hpp"

namespace nacre::sim {

class file;
class socket;
class world;

class driver final : public io_driver {
public:
    explicit driver(world& w) noexcept : world_(w) {}
    ~driver() override;

    void submit(io_request& request) noexcept override;
    void cancel(io_request& request) noexcept override;
    void flush() noexcept override;
    unsigned reap() noexcept override;
    void wait(std::uint64_t deadline_ns) noexcept override;
    void wake() noexcept override { woken_ = true; }
    [[nodiscard]] int wake_fd() const noexcept override { return -1; }

    // Of the world.
    /// Something to reap, or a wake-up: its reactor is worth a turn. Publishes the former to
    /// has_completions().
    [[nodiscard]] bool due() noexcept;
    void wake_seen() noexcept { woken_ = false; }
    /// UINT64_MAX: none.
    [[nodiscard]] std::uint64_t next_ns() const noexcept {
        return queue_.empty() ? UINT64_MAX : queue_.front().due_ns;
    }
    /// Requests of this socket that can make progress now leave the blocked ones.
    void socket_changed(socket& s);
    /// Power is gone: writes in flight are handed to their files, and all requests fail.
    void hand_over_writes();
    void fail_all();
    /// "receive on socket 3 (/rpc.sock)", for whoever is stuck.
    void describe_blocked(std::string& out) const;

private:
    struct operation {
        std::uint64_t due_ns;
        std::uint64_t number;  // breaks ties
        io_request* request;
        file* on_file;      // null: has no effect
        socket* on_socket;  // null: not of a socket, or no longer
        std::uint64_t watermark;
        int error_number;
        bool hung;  // beyond cancelling
    };
    static bool later(const operation& a, const operation& b) noexcept {
        return a.due_ns != b.due_ns ? a.due_ns > b.due_ns : a.number > b.number;
    }
    void begin(io_request& request);
    void begin_on_file(operation& o, bool writable, bool direct);
    [[nodiscard]] int refusal(const io_request& request, bool writable, bool direct) const noexcept;
    void push(const operation& o);
    void unblock(std::size_t index, std::uint64_t due_ns, int error_number);
    void deliver(const operation& o, std::int32_t answer);

    world& world_;
    std::uint64_t number_ = 0;
    unsigned tail_ = 0;
    bool woken_ = false;
    std::vector<io_request*> unflushed_list_;
    std::vector<operation> queue_;    // heap, earliest first
    std::vector<operation> blocked_;  // on sockets, oldest first
};

}  // namespace nacre::sim
