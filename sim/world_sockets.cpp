// SPDX-License-Identifier: BSD-3-Clause
//
// The simulated world: its sockets, on the control path.
#include <fmt/format.h>

#include <cstring>

#include "driver.hpp"
#include "nacre/sim/world.hpp"
#include "socket.hpp"
#include "trace.hpp"

namespace nacre::sim {
namespace {

constexpr std::uint16_t first_free_port = 49152;

std::unexpected<failure> socket_failure(int error_number, std::string_view doing,
                                        std::string_view name) {
    return fail(error_number,
                fmt::format("{}: cannot {}: {}", name, doing, std::strerror(error_number)));
}

}  // namespace

socket& world::add_socket() {
    sockets_.push_back(std::make_unique<socket>(*this, static_cast<unsigned>(sockets_.size() + 1)));
    return *sockets_.back();
}

int world::add_socket_descriptor(socket& s) {
    descriptor d;
    d.on_socket = &s;
    return add_descriptor(d);
}

void world::socket_changed(socket& s) {
    for (driver* d : drivers_) d->socket_changed(s);
}

outcome<int> world::listen_at(const std::string& name, std::uint16_t port) {
    if (dead_) return socket_failure(EIO, "listen", name);
    if (listeners_.contains(name))
        return fail(EADDRINUSE,
                    fmt::format("{}: in use by another process; stop it or choose another", name));
    socket& s = add_socket();
    s.become_listener(name, port);
    s.acquire();
    listeners_.emplace(name, &s);
    return add_socket_descriptor(s);
}

outcome<int> world::listen_unix(const std::string& path) {
    if (path.empty() || path.size() > 107) return socket_failure(ENAMETOOLONG, "listen", path);
    if (const int e = check_parent(path); e != 0) return socket_failure(e, "listen", path);
    if (files_.contains(path) || directories_.contains(path))
        return socket_failure(EADDRINUSE, "listen", path);
    return listen_at(path, 0);
}

outcome<int> world::listen_tcp(const std::string& address, std::uint16_t port) {
    if (port == 0) {
        port = next_port_;
        next_port_ = next_port_ == UINT16_MAX ? first_free_port : next_port_ + 1;
    }
    return listen_at(fmt::format("{}:{}", address, port), port);
}

outcome<std::uint16_t> world::local_port(int fd) {
    const descriptor* d = find(fd);
    if (d == nullptr || d->on_socket == nullptr)
        return socket_failure(EBADF, "read its address", "socket");
    if (d->on_socket->port() == 0) return fail(EAFNOSUPPORT, "socket: has no port");
    return d->on_socket->port();
}

outcome<int> world::connect_to(const std::string& name) {
    if (dead_) return socket_failure(EIO, "connect", name);
    const auto found = listeners_.find(name);
    if (found == listeners_.end()) return socket_failure(ECONNREFUSED, "connect", name);
    socket& client = add_socket();
    socket& server = add_socket();
    socket::join(client, server, name, found->second->port());
    if (!found->second->enqueue(server)) return socket_failure(EAGAIN, "connect", name);
    note(trace_event::connection, found->second->id(), client.id(), server.id());
    client.acquire();
    return add_socket_descriptor(client);
}

outcome<int> world::connect_unix(const std::string& path) {
    if (!listeners_.contains(path) && !file_exists(path))
        return socket_failure(dead_ ? EIO : ENOENT, "connect", path);
    return connect_to(path);
}

outcome<int> world::connect_tcp(const std::string& address, std::uint16_t port) {
    for (const char* any : {"0.0.0.0", "::"}) {
        const std::string name = fmt::format("{}:{}", any, port);
        if (listeners_.contains(name)) return connect_to(name);
    }
    return connect_to(fmt::format("{}:{}", address, port));
}

void world::shutdown_socket(int fd) noexcept {
    const descriptor* d = find(fd);
    if (d != nullptr && d->on_socket != nullptr) d->on_socket->shut_down();
}

void world::half_close(int fd) noexcept {
    const descriptor* d = find(fd);
    if (d != nullptr && d->on_socket != nullptr) d->on_socket->half_close();
}

void world::close_socket(int fd) noexcept {
    if (fd < first_descriptor_) return;  // of before a restart, or none
    descriptor* d = find(fd);
    NACRE_ASSERT(d != nullptr);  // closed twice
    socket* s = d->on_socket;
    NACRE_ASSERT(s != nullptr);
    if (s->listening()) listeners_.erase(s->name());
    *d = descriptor();
    --open_descriptors_;
    s->release();
}

}  // namespace nacre::sim
