// SPDX-License-Identifier: BSD-3-Clause
//
// The insides of nbd::server: its exports, its listeners, its clients.
//
// Home thread: everything here but what lies in an export's `core`, which belongs to the export's
// thread once that has opened its channel. An export ends once: end_export() closes the
// connections, waits for their clients' coroutines to leave, closes the channel, then the
// descriptor; who else wants it to end waits for that. A listener ends with its last export.
#pragma once

#include "nbd_connection.hpp"
#include "nbd_handshake.hpp"

namespace nacre::nbd {

struct listener {
    listener(std::string k, int fd) : key(std::move(k)), accepting(fd), descriptor(fd) {}

    std::string key;  ///< "unix:/run/nbd.sock" or "tcp:127.0.0.1:10809"
    socket_io accepting;
    int descriptor;
    bool closing = false;
    scope acceptor;
    scope clients;
};

struct exported final : bdev_listener {
    exported(server_state& s, export_options o) : owner(s), options(std::move(o)) {}
    [[nodiscard]] task<void> base_removed(bdev& base) override;

    server_state& owner;
    export_options options;  ///< as asked for, with the name filled in
    std::string key;         ///< of its listener
    std::uint16_t port = 0;  ///< of TCP, the one that was taken
    listener* at = nullptr;  ///< null until clients can find it
    bdev_desc descriptor;
    thread* worker = nullptr;
    std::uint16_t flags = 0;
    std::uint32_t clients = 0;  ///< those that have chosen it
    bool bringing_up = true;
    bool ending = false;
    bool ended = false;
    wait_point changed;  ///< any of the four above
    export_core core;
};

struct server_state {
    server_state(bdev_registry& r, const limits& l)
        : registry(r), home(r.host().main_thread()), bounds(l) {}

    bdev_registry& registry;
    thread& home;
    const limits bounds;
    bool closed = false;
    std::vector<std::shared_ptr<exported>> exports;
    std::vector<std::unique_ptr<listener>> listeners;
    wait_point listener_gone;
    unsigned clients = 0;
    std::uint64_t clients_ever = 0;

    [[nodiscard]] task<outcome<>> add(export_options options);
    [[nodiscard]] task<outcome<>> bring_up(exported& e);
    [[nodiscard]] outcome<> open_device(exported& e);
    [[nodiscard]] task<outcome<>> listen_for(exported& e);
    [[nodiscard]] task<void> end_export(std::shared_ptr<exported> e);
    [[nodiscard]] task<void> end_listener(listener& l);
    [[nodiscard]] task<void> accept_clients(listener& l);
    [[nodiscard]] task<void> serve_client(listener& l, int fd, std::uint64_t number);
    [[nodiscard]] listener* find_listener(std::string_view key) noexcept;
};

}  // namespace nacre::nbd
