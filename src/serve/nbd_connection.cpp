// SPDX-License-Identifier: BSD-3-Clause
#include "nbd_connection.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "nacre/core/log.hpp"
#include "nbd_request.hpp"

namespace nacre::nbd {
namespace {

/// What a request adds to the bytes in flight: those with a payload, either way.
std::uint64_t charge_of(const request_header& header) noexcept {
    if (header.what != command::read && header.what != command::write) return 0;
    return std::min(header.length, payload_bytes_max);
}

/// How long a client may take to fetch its last replies before its socket is shut down.
constexpr std::uint64_t linger_closing_ns = 1'000'000'000;
constexpr std::uint64_t linger_ended_ns = 10'000'000'000;

}  // namespace

connection::linger_timer::linger_timer(connection& c) noexcept
    : timer([](timer& t) noexcept {
          connection& self = static_cast<linger_timer&>(t).owner;
          self.export_.channel.base().home().host().home_world().shutdown_socket(self.session_.fd);
      }),
      owner(c) {}

connection::connection(export_core& of, session s) noexcept
    : export_(of),
      session_(std::move(s)),
      guard_(of.guard),
      block_bytes_(of.block_bytes),
      receive_(session_.fd),
      buffer_(std::make_unique_for_overwrite<std::byte[]>(receive_bytes)),
      send_(session_.fd) {
    NACRE_ASSERT(session_.received.size() <= receive_bytes);
    std::memcpy(buffer_.get(), session_.received.data(), session_.received.size());
    end_ = session_.received.size();
}

connection::~connection() {
    NACRE_ASSERT(in_flight_ == 0);
    while (free_ != nullptr) {
        request* const r = free_;
        free_ = r->next;
        delete r;
    }
}

task<result<>> connection::run() {
    children_.spawn(send_replies());
    co_await receive_requests();
    result<> joined = co_await children_.join();
    co_return joined;
}

void connection::begin_close() noexcept {
    closing_ = true;
    receive_.cancel();
    room_.wake_all();
    end_receiving(linger_closing_ns);
}

// --- Receiving ----------------------------------------------------------------------------------

task<void> connection::receive_requests() {
    while (true) {
        const progress made = parse();
        if (ended_) break;
        if (made == progress::no_room) {
            co_await room_.wait();
            continue;
        }
        set_up_receive();
        const std::int32_t n = co_await receive_.carry_out();
        received(n);
        if (ended_) break;
    }
    if (closing_) (void)parse();  // what has arrived already is told why
    if (payload_of_ != nullptr) release(*std::exchange(payload_of_, nullptr));
    received_all_ = true;
    end_receiving(linger_ended_ns);
}

void connection::end_receiving(std::uint64_t linger_ns) noexcept {
    ended_ = true;
    if (!linger_.armed()) {
        reactor& here = export_.channel.base().home().host();
        here.timers().arm(linger_, here.now_ns() + linger_ns);
    }
    reply_ready_.wake_all();
}

/// One line, and the end: where the next request begins in the stream is not known.
void connection::complain(const char* what) noexcept {
    log::warning("nbd", fmt::format("{}: {}; disconnected", session_.client, what));
    closing_ = false;
    ended_ = true;
}

bool connection::has_room(const request_header& header) const noexcept {
    if (in_flight_ == 0) return true;
    if (in_flight_ >= session_.bounds.requests_max) return false;
    return bytes_in_flight_ + charge_of(header) <= session_.bounds.request_bytes_max;
}

connection::progress connection::parse() noexcept {
    while (true) {
        const std::size_t there = end_ - begin_;
        if (payload_of_ != nullptr) {
            request& r = *payload_of_;
            const std::size_t n = std::min(there, payload_left_);
            std::memcpy(r.data + (r.header.length - payload_left_), buffer_.get() + begin_, n);
            begin_ += n;
            payload_left_ -= n;
            if (payload_left_ != 0) return progress::need_more;
            payload_of_ = nullptr;
            write_received(r);
            continue;
        }
        if (skip_left_ != 0) {
            const std::size_t n = std::min(there, skip_left_);
            begin_ += n;
            skip_left_ -= n;
            if (skip_left_ != 0) return progress::need_more;
            continue;
        }
        if (there < request_bytes) return progress::need_more;
        const auto header = read_request(
            std::span<const std::byte, request_bytes>(buffer_.get() + begin_, request_bytes));
        if (!header) {
            complain("sent something that is no request");
            return progress::need_more;
        }
        if (!has_room(*header)) return progress::no_room;
        begin_ += request_bytes;
        take(*header);
        if (ended_ && !closing_) return progress::need_more;
    }
}

void connection::take(const request_header& header) noexcept {
    const std::uint64_t size = export_.channel.device().size().value();
    request_verdict verdict = check_request(header, session_.terms, size);
    if (verdict.fatal != nullptr) {
        complain(verdict.fatal);
        return;
    }
    if (header.what == command::disconnect) {
        closing_ = false;  // nothing follows
        ended_ = true;
        return;
    }
    if (closing_) verdict.code = wire_error::shutdown;
    request* const r = make_request(header);
    if (r == nullptr) {
        complain("no memory for a request of it");
        return;
    }
    if (verdict.code == wire_error::none && header.what == command::write && !prepare_write(*r))
        verdict.code = wire_error::nomem;
    if (verdict.code != wire_error::none) {
        skip_left_ = header.payload();
        finish(*r, verdict.code);
        return;
    }
    if (header.what == command::write) {
        payload_of_ = r;
        payload_left_ = header.length;
        return;
    }
    start(*r);
}

void connection::set_up_receive() noexcept {
    if (payload_of_ != nullptr) {
        // parse() has used up the buffer: the payload's rest goes where it belongs, and what
        // follows it comes along.
        std::byte* const rest = payload_of_->data + (payload_of_->header.length - payload_left_);
        receive_vectors_ = {iovec{rest, payload_left_}, iovec{buffer_.get(), receive_bytes}};
        begin_ = end_ = 0;
        receive_.receive(receive_vectors_.data(), 2);
        return;
    }
    if (begin_ != 0) {
        std::memmove(buffer_.get(), buffer_.get() + begin_, end_ - begin_);  // part of a header
        end_ -= begin_;
        begin_ = 0;
    }
    receive_.receive(buffer_.get() + end_, receive_bytes - end_);
}

void connection::received(std::int32_t n) noexcept {
    if (n == -EAGAIN || n == -EINTR) return;
    if (n <= 0) {
        if (!closing_ && (payload_of_ != nullptr || end_ != begin_ || n < 0))
            log::info("nbd", [&] {
                return fmt::format("{}: vanished{}: {}", session_.client,
                                   payload_of_ != nullptr ? " in the middle of a write" : "",
                                   n == 0 ? "end of stream" : describe(error::posix(-n)));
            });
        ended_ = true;
        return;
    }
    auto got = static_cast<std::size_t>(n);
    if (payload_of_ != nullptr) {
        const std::size_t direct = std::min(got, payload_left_);
        payload_left_ -= direct;
        got -= direct;
    }
    end_ += got;
}

// --- Requests -----------------------------------------------------------------------------------

connection::request* connection::make_request(const request_header& header) noexcept {
    request* r = free_;
    if (r != nullptr)
        free_ = r->next;
    else
        r = new (std::nothrow) request;
    if (r == nullptr) return nullptr;
    r->owner = this;
    r->header = header;
    r->guarded = false;
    r->flush_after = false;
    r->payload_length = 0;
    ++in_flight_;
    bytes_in_flight_ += charge_of(header);
    return r;
}

void connection::release(request& r) noexcept {
    buffers_.give_back(std::exchange(r.memory, {}));
    --in_flight_;
    bytes_in_flight_ -= charge_of(r.header);
    r.next = free_;
    free_ = &r;
    room_.wake_all();
}

// --- Sending ------------------------------------------------------------------------------------

task<result<>> connection::send_replies() {
    while (true) {
        while (replies_first_ == nullptr && (!received_all_ || in_flight_ != 0))
            co_await reply_ready_.wait();
        if (replies_first_ == nullptr) break;
        std::int32_t n = -EPIPE;
        if (!broken_) {
            send_.send(vectors_.data(), gather_replies());
            n = co_await send_.carry_out();
        }
        if (n == -EAGAIN || n == -EINTR) continue;
        if (n >= 0) {
            consume_sent(static_cast<std::size_t>(n));
            continue;
        }
        broken_ = true;
        ended_ = true;
        receive_.cancel();
        consume_sent(SIZE_MAX);
    }
    linger_.cancel();
    co_return result<>();
}

/// As many replies as the vectors take; the first one without what has gone already.
std::uint32_t connection::gather_replies() noexcept {
    std::uint32_t count = 0;
    std::size_t skip = first_sent_;
    for (request* r = replies_first_; r != nullptr && count + 2 <= vectors_max; r = r->next) {
        const std::size_t header = r->reply_header_length;
        if (skip < header) vectors_[count++] = {r->reply_header.data() + skip, header - skip};
        skip = skip < header ? 0 : skip - header;
        if (r->payload_length > skip)
            vectors_[count++] = {r->data + skip, r->payload_length - skip};
        skip = 0;
    }
    return count;
}

void connection::consume_sent(std::size_t bytes) noexcept {
    while (replies_first_ != nullptr) {
        request& r = *replies_first_;
        const std::size_t left = r.reply_header_length + r.payload_length - first_sent_;
        if (bytes < left) {
            first_sent_ += bytes;
            return;
        }
        bytes -= left;
        first_sent_ = 0;
        replies_first_ = r.next;
        release(r);
    }
}

}  // namespace nacre::nbd
