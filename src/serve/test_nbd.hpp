// SPDX-License-Identifier: BSD-3-Clause
//
// A simulated world with an NBD server in it, and a client that speaks byte by byte.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nacre/runtime/sleep.hpp"
#include "nacre/serve/nbd.hpp"
#include "nacre/sim/world.hpp"
#include "nbd_socket.hpp"
#include "nbd_wire.hpp"

namespace nacre::nbd {

/// A device in memory that holds on to its ops while it is told to, and knows which blocks were
/// never written.
class tray_bdev final : public bdev {
public:
    tray_bdev(std::string name, std::uint64_t blocks, std::uint32_t block_size);
    [[nodiscard]] outcome<std::unique_ptr<module_channel>> make_channel() override;
    void carry_out(io_op& op) noexcept;
    void let_go();

    std::vector<std::byte> bytes;
    std::vector<bool> written;
    bool holds = false;
    std::deque<io_op*> held;
    unsigned flushes = 0;
    unsigned durable_writes = 0;
    error next_error;  ///< of the next op, once
};

struct fixture_options {
    std::uint64_t seed = 1;
    unsigned reactors = 1;
    limits bounds{};
};

struct fixture {
    explicit fixture(fixture_options options = {});

    sim::world outside;
    std::unique_ptr<runtime> rt;
    bdev_registry registry;
    server target;
    tray_bdev* tray = nullptr;

    /// Runs `body` with the bdev "tray0" (64 blocks of 4 KiB) exported as itself at /nbd.sock, then
    /// closes all and expects nothing to be left.
    void run(task<void> (*body)(fixture& f));
    [[nodiscard]] task<outcome<>> add(std::string bdev_name, std::string export_name,
                                      bool readonly = false);
};

struct reply {
    wire_error code = wire_error::none;
    chunk type = chunk::none;
    bool structured = false;
    std::string data;
};

class test_client {
public:
    explicit test_client(fixture& f, const std::string& path = "/nbd.sock");
    test_client(const test_client&) = delete;
    test_client& operator=(const test_client&) = delete;
    ~test_client() { close(); }
    void close();
    void half_close();

    // Raw.
    [[nodiscard]] task<void> send(std::string bytes);
    /// Fewer when the stream ends.
    [[nodiscard]] task<std::string> receive(std::size_t bytes);
    /// True if the server has closed and sent nothing more.
    [[nodiscard]] task<bool> at_end();

    // Handshake.
    /// Takes the greeting and sends client flags.
    [[nodiscard]] task<void> begin(std::uint32_t flags = 3);
    [[nodiscard]] task<void> send_option(option what, std::string data = {});
    /// All answers up to the one that ends the option: type and data.
    [[nodiscard]] task<std::vector<std::pair<answer, std::string>>> answers();
    /// The usual: structured replies and allocation context if `structured`, then GO. False if
    /// refused.
    [[nodiscard]] task<bool> go(std::string name, bool structured = true);

    // Transmission.
    [[nodiscard]] static std::string request(command what, std::uint64_t cookie,
                                             std::uint64_t offset, std::uint32_t length,
                                             std::uint16_t flags = 0);
    /// Takes a reply and who it is for; nothing when the stream ends. A simple reply that succeeded
    /// carries as many bytes as `lengths` has for its cookie.
    [[nodiscard]] task<std::optional<std::pair<std::uint64_t, reply>>> any_reply();
    /// Sends a request and takes replies until its own.
    [[nodiscard]] task<reply> ask(command what, std::uint64_t offset, std::uint32_t length,
                                  std::uint16_t flags = 0, std::string payload = {});
    std::map<std::uint64_t, std::uint32_t> lengths;

private:
    sim::world& outside_;
    int fd_ = -1;
    std::string received_;
    std::uint64_t next_cookie_ = 1;
};

/// Big-endian, for raw messages.
[[nodiscard]] std::string u16(std::uint16_t n);
[[nodiscard]] std::string u32(std::uint32_t n);
[[nodiscard]] std::string u64(std::uint64_t n);
/// A name with its length before it.
[[nodiscard]] std::string text(std::string_view name);

}  // namespace nacre::nbd
