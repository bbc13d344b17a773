// SPDX-License-Identifier: BSD-3-Clause
#include "connection.hpp"

#include <fmt/format.h>

#include <cstring>

#include "nacre/core/log.hpp"

namespace nacre::rpc {
namespace {

constexpr std::size_t input_bytes = 16 * 1024;

/// Takes as long wherever they differ.
bool same_secret(std::string_view given, std::string_view wanted) noexcept {
    unsigned difference = given.size() == wanted.size() ? 0 : 1;
    for (std::size_t i = 0; i < given.size(); ++i)
        difference |= static_cast<unsigned char>(given[i] ^ wanted[i % wanted.size()]);
    return difference == 0;
}

}  // namespace

connection::connection(dispatcher& target, const server_options& options,
                       server_statistics& statistics, int fd)
    : dispatcher_(target),
      options_(options),
      statistics_(statistics),
      fd_(fd),
      authenticated_(options.token.empty()),
      framer_(options.request_bytes_max),
      input_(std::make_unique<char[]>(input_bytes)) {}

task<void> connection::run() {
    co_await read_requests();
    result<> finished = co_await requests_.join();
    finished = co_await sender_.join();
    (void)finished;  // neither has failures to tell
}

void connection::stop_reading() noexcept {
    closing_ = true;
    if (receiving_ != nullptr) receiving_->cancel();
    requests_.request_stop();
    progress_.notify_all();
}

task<void> connection::read_requests() {
    bool more = true;
    while (more && !reading_over()) {
        socket_io receive(io_request::kind::receive, fd_, input_.get(), input_bytes);
        receiving_ = &receive;
        const int received = co_await receive;
        receiving_ = nullptr;
        if (received > 0) {
            framer_.feed({input_.get(), static_cast<std::size_t>(received)});
        } else if (received == 0) {
            framer_.finish();
        } else {
            if (received != -ECANCELED) peer_is_gone();
            co_return;
        }
        more = co_await take_messages();
        if (received == 0) co_return;
    }
}

task<bool> connection::take_messages() {
    while (true) {
        while (busy() && !reading_over()) {
            result<> less = co_await progress_.wait();
            if (!less) co_return false;
        }
        if (reading_over()) co_return false;
        switch (framer_.next()) {
            case json::framer::status::need_more:
                co_return true;
            case json::framer::status::error:
                co_return refuse(
                    fmt::format("byte {}: {}", framer_.error_offset(), framer_.error_text()));
            case json::framer::status::value:
                if (!take_message(framer_.text())) co_return false;
        }
    }
}

bool connection::take_message(std::string_view text) {
    outcome<json::value> message = json::parse(text, {.values_max = options_.request_values_max});
    if (!message) {
        // The text is JSON and the next one is where it should be: only this one is refused.
        if (message.error().code.is(EEXIST)) {
            send(dispatcher::error_text(invalid_request,
                                        "Invalid request: " + message.error().message));
            return true;
        }
        return refuse(message.error().message);
    }
    ++statistics_.requests;
    if (!authenticated_) return authenticate(*message);
    ++in_flight_;
    requests_.spawn(answer(std::move(*message)));
    return true;
}

bool connection::authenticate(const json::value& message) {
    const json::value* id = message.find("id");
    json::object answer{{"jsonrpc", "2.0"}, {"id", id == nullptr ? json::value() : *id}};
    const std::optional<std::string_view> given = message["params"]["token"].as_string();
    authenticated_ = message["method"].as_string() == "rpc_authenticate" && given &&
                     same_secret(*given, options_.token);
    if (authenticated_) {
        answer.append("result", true);
    } else {
        log::warning("rpc", fmt::format("{}: a client did not begin with rpc_authenticate and the "
                                        "right token; its connection is closed",
                                        options_.path));
        answer.append("error", request_error(-EACCES,
                                             "Permission denied: the first message must be "
                                             "rpc_authenticate with this server's token")
                                   .to_json());
    }
    send(json::value(std::move(answer)).dump() + "\n");
    return authenticated_;
}

bool connection::refuse(std::string message) {
    ++statistics_.parse_errors;
    log::info("rpc", [&] { return fmt::format("a client sent malformed JSON: {}", message); });
    send(dispatcher::error_text(parse_error, "Parse error: " + message));
    return false;
}

task<void> connection::answer(json::value message) {
    std::optional<std::string> text = co_await dispatcher_.answer(std::move(message));
    --in_flight_;
    if (text) send(*text);
    progress_.notify_all();
}

void connection::send(std::string_view text) {
    if (gone_) return;
    outgoing_ += text;
    if (std::exchange(sending_, true)) return;
    sender_.spawn(send_all());
}

task<void> connection::send_all() {
    std::string text;
    while (!gone_ && !outgoing_.empty()) {
        text.clear();
        text.swap(outgoing_);
        std::size_t sent = 0;
        while (sent < text.size() && !gone_) {
            ++statistics_.sends;
            const int n = co_await socket_io(io_request::kind::send, fd_, text.data() + sent,
                                             text.size() - sent);
            if (n < 0) {
                log::info("rpc", [&] {
                    return fmt::format("a client did not take its answer: {}", std::strerror(-n));
                });
                peer_is_gone();
            } else {
                sent += static_cast<std::size_t>(n);
            }
        }
        progress_.notify_all();
    }
    sending_ = false;
}

void connection::peer_is_gone() noexcept {
    gone_ = true;
    outgoing_.clear();
    if (receiving_ != nullptr) receiving_->cancel();
    progress_.notify_all();
}

}  // namespace nacre::rpc
