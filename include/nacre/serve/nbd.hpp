// SPDX-License-Identifier: BSD-3-Clause
//
// nbd: block devices for other programs, by the NBD protocol (fixed newstyle, structured replies).
//
//     nbd::server server(registry);
//     nbd::export_options options;
//     options.bdev_name = "vol0";
//     options.unix_path = "/run/nacre/nbd.sock";
//     outcome<> added = co_await server.add_export(std::move(options));
//     …
//     co_await server.close();
//
// Exports of one address share its listener, which lives as long as the first and the last of them.
// Each export is served on one thread; exports are spread over the reactors. A client that asks for
// the export "" gets the only one of the address, if it is the only one.
//
// When the bdev goes away its exports go too: what is in flight is answered, later requests get
// ESHUTDOWN, and their connections end. The configuration then no longer has them.
//
// Memory is bounded: `connections_max` connections, each with `requests_max` requests and
// `request_bytes_max` of payload in flight at most.
//
// All calls are made on the registry's home thread. docs/nbd.md is the essay.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nacre/bdev/registry.hpp"
#include "nacre/core/json_decode.hpp"

namespace nacre::nbd {

inline constexpr std::uint16_t default_port = 10809;

/// Parameters of nbd_export_create.
struct export_options {
    std::string bdev_name;
    /// What clients ask for; empty: the bdev's name.
    std::string export_name;
    /// One of the two: a socket's path, or "127.0.0.1:10809", "[::1]:0" (port 0: a free one).
    std::optional<std::string> unix_path;
    std::optional<std::string> address;
    bool readonly = false;
    /// For people, in the list of exports.
    std::string description;

    [[nodiscard]] static std::span<const json::field> fields();
};

/// Parameters of nbd_export_delete.
struct export_selector {
    std::string export_name;
    /// Both absent: wherever it is exported.
    std::optional<std::string> unix_path;
    std::optional<std::string> address;

    [[nodiscard]] static std::span<const json::field> fields();
};

/// One export as nbd_get_exports shows it: its options with defaults filled in and the port that
/// was taken, and what clients do with it.
struct export_info {
    std::string bdev_name;
    std::string export_name;
    std::optional<std::string> unix_path;
    std::optional<std::string> address;
    bool readonly = false;
    std::string description;
    std::uint64_t size_bytes = 0;
    std::uint32_t connections = 0;
    /// What a client is given: "nbd+unix:///vol0?socket=/run/nbd.sock".
    std::string uri;

    [[nodiscard]] static std::span<const json::field> fields();
};

struct limits {
    unsigned connections_max = 256;  ///< of a server, those that still negotiate included
    unsigned requests_max = 128;     ///< of a connection
    /// Of a connection; a single request of up to 32 MiB is always let through.
    std::uint64_t request_bytes_max = std::uint64_t{32} << 20;
    std::uint64_t handshake_ns_max = 30'000'000'000;
};

struct server_state;

class server {
public:
    explicit server(bdev_registry& registry, const limits& bounds = {});
    /// After close() (asserted), unless nothing was ever exported.
    ~server();
    server(const server&) = delete;
    server& operator=(const server&) = delete;

    /// When it returns, clients can connect. ENODEV (no such bdev), EPERM (writes are claimed),
    /// EEXIST (the name is taken at this address), EINVAL, EADDRINUSE, or what the socket said.
    [[nodiscard]] task<outcome<>> add_export(export_options options);
    /// Answers what is in flight, ends the export's connections, then returns. ENOENT.
    [[nodiscard]] task<outcome<>> remove_export(export_selector which);
    /// In the order of creation.
    [[nodiscard]] std::vector<export_info> list() const;
    /// [{"method": "nbd_export_create", "params": {…}}, …], for save_config.
    [[nodiscard]] json::array configuration() const;
    [[nodiscard]] unsigned connections() const noexcept;

    /// Ends everything. Idempotent; later calls of add_export fail with ESHUTDOWN.
    [[nodiscard]] task<void> close();

private:
    std::unique_ptr<server_state> state_;
};

}  // namespace nacre::nbd
