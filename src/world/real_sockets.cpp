// SPDX-License-Identifier: BSD-3-Clause
//
// The world of the process's own kernel: sockets.
#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "real_world.hpp"

namespace nacre {
namespace {

constexpr int backlog = 512;

std::unexpected<failure> socket_failure(int error_number, std::string_view doing,
                                        std::string_view name) {
    return fail(error_number,
                fmt::format("{}: cannot {}: {}", name, doing, std::strerror(error_number)));
}

outcome<sockaddr_un> unix_address(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof address.sun_path)
        return fail(ENAMETOOLONG,
                    fmt::format("socket path \"{}\": must have 1 to {} bytes; choose a shorter one",
                                path, sizeof address.sun_path - 1));
    std::memcpy(address.sun_path, path.data(), path.size());
    return address;
}

struct tcp_address {
    sockaddr_storage storage{};
    socklen_t length = 0;
    [[nodiscard]] const sockaddr* raw() const noexcept {
        return reinterpret_cast<const sockaddr*>(&storage);
    }
};

outcome<tcp_address> parse_tcp_address(const std::string& address, std::uint16_t port) {
    tcp_address made;
    auto* v4 = reinterpret_cast<sockaddr_in*>(&made.storage);
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&made.storage);
    if (::inet_pton(AF_INET, address.c_str(), &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        made.length = sizeof *v4;
    } else if (::inet_pton(AF_INET6, address.c_str(), &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        made.length = sizeof *v6;
    } else {
        return fail(EINVAL, fmt::format("{}: not a numeric IPv4 or IPv6 address", address));
    }
    return made;
}

}  // namespace

outcome<int> posix_world::listen_unix(const std::string& path) {
    auto address = unix_address(path);
    if (!address) return fail(std::move(address.error()));
    const std::string lock_path = path + ".lock";
    const int lock_fd = ::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock_fd < 0) return socket_failure(errno, "create its lock file", path);
    if (::flock(lock_fd, LOCK_EX | LOCK_NB) != 0) {
        ::close(lock_fd);
        return fail(
            EADDRINUSE,
            fmt::format("{}: in use by another process; stop it or choose another path", path));
    }
    ::unlink(path.c_str());  // stale: its owner would hold the lock
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const auto* raw = reinterpret_cast<const sockaddr*>(&*address);
    if (fd < 0 || ::bind(fd, raw, sizeof *address) != 0 || ::listen(fd, backlog) != 0) {
        const int error_number = errno;
        if (fd >= 0) ::close(fd);
        ::unlink(lock_path.c_str());
        ::close(lock_fd);
        return socket_failure(error_number, "listen", path);
    }
    const std::lock_guard guard(mutex_);
    listeners_.emplace(fd, unix_listener{path, lock_fd});
    return fd;
}

outcome<int> posix_world::listen_tcp(const std::string& address, std::uint16_t port) {
    const std::string name = fmt::format("{}:{}", address, port);
    outcome<tcp_address> where = parse_tcp_address(address, port);
    if (!where) return fail(std::move(where.error()));
    const int fd =
        ::socket(where->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return socket_failure(errno, "make a socket", name);
    const int on = 1;
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // accepted sockets inherit it
    if (::bind(fd, where->raw(), where->length) != 0 || ::listen(fd, backlog) != 0) {
        const int error_number = errno;
        ::close(fd);
        return socket_failure(error_number, "listen", name);
    }
    return fd;
}

outcome<std::uint16_t> posix_world::local_port(int fd) {
    sockaddr_storage storage{};
    socklen_t length = sizeof storage;
    if (::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0)
        return socket_failure(errno, "read its address", "socket");
    if (storage.ss_family == AF_INET)
        return ntohs(reinterpret_cast<sockaddr_in*>(&storage)->sin_port);
    if (storage.ss_family == AF_INET6)
        return ntohs(reinterpret_cast<sockaddr_in6*>(&storage)->sin6_port);
    return fail(EAFNOSUPPORT, "socket: has no port");
}

outcome<int> posix_world::connect_unix(const std::string& path) {
    auto address = unix_address(path);
    if (!address) return fail(std::move(address.error()));
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return socket_failure(errno, "make a socket", path);
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0) {
        const int error_number = errno;
        ::close(fd);
        return fail(error_number, fmt::format("{}: cannot connect: {}; is `nacre serve` running?",
                                              path, std::strerror(error_number)));
    }
    return fd;
}

outcome<int> posix_world::connect_tcp(const std::string& address, std::uint16_t port) {
    const std::string name = fmt::format("{}:{}", address, port);
    outcome<tcp_address> where = parse_tcp_address(address, port);
    if (!where) return fail(std::move(where.error()));
    const int fd = ::socket(where->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return socket_failure(errno, "make a socket", name);
    if (::connect(fd, where->raw(), where->length) != 0) {
        const int error_number = errno;
        ::close(fd);
        return fail(error_number, fmt::format("{}: cannot connect: {}; is `nacre serve` running?",
                                              name, std::strerror(error_number)));
    }
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

void posix_world::shutdown_socket(int fd) noexcept { ::shutdown(fd, SHUT_RDWR); }

void posix_world::close_socket(int fd) noexcept {
    unix_listener listener{{}, -1};
    {
        const std::lock_guard guard(mutex_);
        if (auto found = listeners_.find(fd); found != listeners_.end()) {
            listener = std::move(found->second);
            listeners_.erase(found);
        }
    }
    if (listener.lock_fd >= 0) {
        ::unlink(listener.path.c_str());
        ::close(fd);
        ::unlink((listener.path + ".lock").c_str());
        ::close(listener.lock_fd);
        return;
    }
    ::close(fd);
}

}  // namespace nacre
