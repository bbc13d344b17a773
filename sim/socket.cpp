// SPDX-License-Identifier: BSD-3-Clause
#include "socket.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstring>

#include "driver.hpp"
#include "nacre/sim/world.hpp"
#include "trace.hpp"

namespace nacre::sim {
namespace {

constexpr std::size_t backlog_max = 512;
using kind = io_request::kind;

/// Of a receive or send.
std::uint64_t bytes_wanted(const io_request& request) noexcept {
    if (request.iov_count == 0) return request.length;
    std::uint64_t total = 0;
    for (std::uint32_t i = 0; i < request.iov_count; ++i) total += request.iov[i].iov_len;
    return total;
}

}  // namespace

void socket::become_listener(std::string name, std::uint16_t port) {
    listening_ = true;
    name_ = std::move(name);
    port_ = port;
}

void socket::join(socket& a, socket& b, const std::string& name, std::uint16_t port) {
    a.peer_ = &b;
    b.peer_ = &a;
    a.name_ = b.name_ = name;
    a.port_ = b.port_ = port;
}

bool socket::enqueue(socket& server) {
    if (input_shut_ || backlog_.size() >= backlog_max) return false;
    server.acquire();  // as long as it stands in the backlog
    backlog_.push_back(&server);
    world_.socket_changed(*this);
    return true;
}

std::size_t socket::room() const noexcept {
    const std::size_t capacity = world_.options().socket_buffer_bytes;
    return capacity > available() ? capacity - available() : 0;
}

bool socket::ready_for(const io_request& request) const noexcept {
    const bool input = input_shut_ || input_ended_ || available() != 0;
    switch (request.what) {
        case kind::accept:
            return !listening_ || input_shut_ || !backlog_.empty();
        case kind::receive:
            return listening_ || input || bytes_wanted(request) == 0;
        case kind::send:
            return listening_ || !can_send() || peer_->room() != 0;
        case kind::poll_in:
            return listening_ ? input_shut_ || !backlog_.empty() : input;
        default:
            return true;
    }
}

std::optional<std::int32_t> socket::attempt(const io_request& request) {
    if (!ready_for(request)) return std::nullopt;
    switch (request.what) {
        case kind::accept: {
            if (!listening_ || input_shut_) return -EINVAL;
            socket* server = backlog_.front();
            backlog_.pop_front();
            return world_.add_socket_descriptor(*server);
        }
        case kind::receive:
            return listening_ ? -ENOTCONN : receive(request);
        case kind::send:
            return listening_ ? -ENOTCONN : send(request);
        case kind::poll_in:
            return POLLIN;
        default:
            return -ESPIPE;
    }
}

std::uint64_t socket::some_of(std::uint64_t bytes) {
    if (bytes < 2 || !world_.dice().chance(world_.options().partial_transfer)) return bytes;
    return world_.dice().between(1, bytes);
}

std::int32_t socket::receive(const io_request& request) {
    const std::uint64_t wanted = bytes_wanted(request);
    if (input_shut_ || available() == 0 || wanted == 0) return 0;
    const std::uint64_t n = some_of(std::min<std::uint64_t>(available(), wanted));
    if (request.iov_count == 0) std::memcpy(request.buffer, buffer_.data() + taken_, n);
    std::uint64_t left = n;
    for (std::uint32_t i = 0; i < request.iov_count && left != 0; ++i) {
        const std::uint64_t piece = std::min<std::uint64_t>(left, request.iov[i].iov_len);
        std::memcpy(request.iov[i].iov_base, buffer_.data() + taken_ + (n - left), piece);
        left -= piece;
    }
    taken_ += n;
    if (taken_ == buffer_.size()) {
        buffer_.clear();
        taken_ = 0;
    }
    world_.socket_changed(*peer_);  // there is room to send
    return static_cast<std::int32_t>(n);
}

std::int32_t socket::send(const io_request& request) {
    if (!can_send()) return -EPIPE;
    const std::uint64_t total = bytes_wanted(request);
    if (total == 0) return 0;
    std::vector<std::byte>& to = peer_->buffer_;
    if (peer_->taken_ > to.size() / 2) {
        to.erase(to.begin(), to.begin() + static_cast<std::ptrdiff_t>(peer_->taken_));
        peer_->taken_ = 0;
    }
    const std::uint64_t n = some_of(std::min<std::uint64_t>(total, peer_->room()));
    std::uint64_t left = n;
    for (std::uint32_t i = 0; left != 0; ++i) {
        const auto* from = static_cast<const std::byte*>(request.iov[i].iov_base);
        const std::uint64_t piece = std::min<std::uint64_t>(left, request.iov[i].iov_len);
        to.insert(to.end(), from, from + piece);
        left -= piece;
    }
    world_.socket_changed(*peer_);
    return static_cast<std::int32_t>(n);
}

bool socket::can_send() const noexcept {
    return !output_shut_ && !peer_->input_shut_ && !peer_->closed_;
}

void socket::half_close() {
    output_shut_ = true;
    if (peer_ != nullptr) {
        peer_->input_ended_ = true;
        world_.socket_changed(*peer_);
    }
    world_.socket_changed(*this);
}

void socket::shut_down() {
    input_shut_ = true;
    half_close();
}

void socket::release() {
    if (--references_ != 0) return;
    closed_ = true;
    input_shut_ = true;
    buffer_ = {};
    taken_ = 0;
    if (!listening_) {
        half_close();
        return;
    }
    while (!backlog_.empty()) {
        socket* refused = backlog_.front();
        backlog_.pop_front();
        refused->release();
    }
}

}  // namespace nacre::sim
