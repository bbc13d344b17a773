// SPDX-License-Identifier: BSD-3-Clause
#include "nbd_handshake.hpp"

#include <fmt/format.h>
#include <sys/uio.h>

#include "nacre/core/bytes.hpp"
#include "nacre/core/log.hpp"
#include "nbd_socket.hpp"

namespace nacre::nbd {
namespace {

constexpr std::size_t receive_bytes = 4096;

/// The byte stream of a client that is still negotiating.
class client_stream {
public:
    client_stream(int fd, stop_source* stop) noexcept : io_(fd), stop_(stop), on_stop_(*this) {
        if (stop_ != nullptr && !stop_->stop_requested()) stop_->link(on_stop_);
    }
    client_stream(const client_stream&) = delete;
    client_stream& operator=(const client_stream&) = delete;

    /// Until `bytes` are there: the first of received().
    [[nodiscard]] task<result<>> receive(std::size_t bytes) {
        while (received_.size() < bytes) {
            if (stopped()) co_return fail(ECANCELED);
            const std::size_t had = received_.size();
            received_.resize(had + receive_bytes);
            io_.receive(received_.data() + had, receive_bytes);
            const std::int32_t n = co_await io_.carry_out();
            received_.resize(had + static_cast<std::size_t>(n > 0 ? n : 0));
            if (n == -EAGAIN || n == -EINTR) continue;
            if (n < 0) co_return fail(-n);
            if (n == 0) co_return fail(ECONNRESET);
        }
        co_return result<>();
    }
    /// All of `bytes`.
    [[nodiscard]] task<result<>> send(std::span<const std::byte> bytes) {
        while (!bytes.empty()) {
            if (stopped()) co_return fail(ECANCELED);
            const iovec range{const_cast<std::byte*>(bytes.data()), bytes.size()};
            io_.send(&range, 1);
            const std::int32_t n = co_await io_.carry_out();
            if (n == -EAGAIN || n == -EINTR) continue;
            if (n < 0) co_return fail(-n);
            bytes = bytes.subspan(static_cast<std::size_t>(n));
        }
        co_return result<>();
    }
    [[nodiscard]] std::span<const std::byte> received() const noexcept { return received_; }
    void drop(std::size_t bytes) {
        received_.erase(received_.begin(), received_.begin() + static_cast<std::ptrdiff_t>(bytes));
    }
    [[nodiscard]] std::vector<std::byte> take_rest() noexcept { return std::move(received_); }

private:
    [[nodiscard]] bool stopped() const noexcept {
        return stop_ != nullptr && stop_->stop_requested();
    }
    struct stop_hook : stop_callback {
        explicit stop_hook(client_stream& s) noexcept
            : stop_callback([](stop_callback& self) noexcept {
                  static_cast<stop_hook&>(self).owner.io_.cancel();
              }),
              owner(s) {}
        client_stream& owner;
    };
    socket_io io_;
    stop_source* stop_;
    stop_hook on_stop_;
    std::vector<std::byte> received_;
};

std::unexpected<error> give_up(const std::string& client, std::string_view why) {
    log::warning("nbd", fmt::format("{}: {}; disconnected", client, why));
    return fail(EPROTO);
}

}  // namespace

task<result<handshake_result>> shake_hands(int fd, std::string client, catalogue& exports) {
    stop_source* const stop = co_await current_stop();
    client_stream stream(fd, stop);
    negotiation talk;
    std::vector<std::byte> out;
    negotiation::greet(out);
    result<> done = co_await stream.send(out);
    if (done) done = co_await stream.receive(sizeof(std::uint32_t));
    if (!done) co_return fail(done.error());
    negotiation::verdict next = talk.begin(load_be<std::uint32_t>(stream.received().data()));
    stream.drop(sizeof(std::uint32_t));

    while (next == negotiation::verdict::go_on) {
        done = co_await stream.receive(option_header_bytes);
        if (!done) co_return fail(done.error());
        const std::byte* const header = stream.received().data();
        const auto what = static_cast<option>(load_be<std::uint32_t>(header + 8));
        const auto length = load_be<std::uint32_t>(header + 12);
        if (load_be<std::uint64_t>(header) != option_magic)
            co_return give_up(client, "sent something that is no option");
        if (length > option_bytes_max)
            co_return give_up(client, fmt::format("sent an option of {} bytes", length));
        done = co_await stream.receive(option_header_bytes + length);
        if (!done) co_return fail(done.error());
        const std::vector<export_offer> offers = exports.offers();
        out.clear();
        next = talk.take(what, stream.received().subspan(option_header_bytes, length), offers, out);
        // Held before the answer goes out, while it is still there.
        if (next == negotiation::verdict::transmit) exports.choose(talk.chosen());
        stream.drop(option_header_bytes + length);
        done = co_await stream.send(out);
        if (!done) co_return fail(done.error());
    }
    if (next == negotiation::verdict::disconnect) {
        if (!talk.complaint().empty()) co_return give_up(client, talk.complaint());
        co_return fail(ECONNRESET);
    }
    handshake_result agreed;
    agreed.terms = talk.terms();
    agreed.received = stream.take_rest();
    co_return agreed;
}

}  // namespace nacre::nbd
