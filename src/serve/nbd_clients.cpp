// SPDX-License-Identifier: BSD-3-Clause
//
// A listener's clients: accepted, brought through the handshake, handed to their export's thread.
#include <fmt/format.h>

#include <algorithm>

#include "nacre/core/log.hpp"
#include "nacre/runtime/sleep.hpp"
#include "nacre/runtime/timeout.hpp"
#include "nbd_server.hpp"

namespace nacre::nbd {
namespace {

constexpr std::uint64_t accept_pause_ns = 100'000'000;

/// The exports of one listener, for one client.
class client_catalogue final : public catalogue {
public:
    client_catalogue(server_state& s, const listener& l) noexcept : server_(s), listener_(l) {}

    std::vector<export_offer> offers() override {
        std::vector<export_offer> list;
        offered_.clear();
        for (const std::shared_ptr<exported>& e : server_.exports) {
            if (e->at != &listener_ || e->ending) continue;
            const bdev& device = e->descriptor.device();
            const std::uint64_t preferred = std::max<std::uint64_t>(
                {4096, device.block_size().value(), device.attributes().physical_block_size});
            list.push_back({.name = e->options.export_name,
                            .description = e->options.description,
                            .size_bytes = device.size().value(),
                            .flags = e->flags,
                            .preferred_bytes = static_cast<std::uint32_t>(preferred)});
            offered_.push_back(e);
        }
        return list;
    }
    void choose(std::size_t index) override {
        chosen_ = offered_[index];
        ++chosen_->clients;
    }
    [[nodiscard]] const std::shared_ptr<exported>& chosen() const noexcept { return chosen_; }
    void let_go() noexcept {
        if (chosen_ == nullptr) return;
        --chosen_->clients;
        chosen_->changed.wake_all();
    }

private:
    server_state& server_;
    const listener& listener_;
    std::vector<std::shared_ptr<exported>> offered_;
    std::shared_ptr<exported> chosen_;
};

/// On the export's thread.
task<result<>> serve_session(across<exported> e, session s) {
    if (e->core.ended) co_return fail(ESHUTDOWN);
    auto serving = std::make_unique<connection>(e->core, std::move(s));
    e->core.connections.push_back(*serving);
    result<> done = co_await serving->run();
    serving->unlink();
    co_return done;
}

}  // namespace

task<void> server_state::accept_clients(listener& l) {
    while (!l.closing) {
        l.accepting.accept();
        const std::int32_t fd = co_await l.accepting.carry_out();
        if (fd == -EINTR || fd == -ECONNABORTED || fd == -EAGAIN) continue;
        if (fd < 0) {
            if (l.closing) break;
            log::error("nbd", fmt::format("{}: cannot accept a client: {}; trying again", l.key,
                                          nacre::describe(error::posix(-fd))));
            result<> slept = co_await sleep_for(accept_pause_ns);
            if (!slept) break;
            continue;
        }
        task<void> serving;
        if (clients < bounds.connections_max && !l.closing)
            serving = serve_client(l, fd, ++clients_ever);
        if (!serving.valid()) {
            log::warning("nbd", fmt::format("{}: a client was turned away: {} are connected", l.key,
                                            clients));
            registry.home_world().close_socket(fd);
            continue;
        }
        ++clients;
        l.clients.spawn(std::move(serving));
    }
}

task<void> server_state::serve_client(listener& l, int fd, std::uint64_t number) {
    client_catalogue offered(*this, l);
    std::string who = fmt::format("{}: client {}", l.key, number);
    result<handshake_result> agreed =
        co_await with_timeout(shake_hands(fd, who, offered), bounds.handshake_ns_max);
    if (agreed) {
        exported& e = *offered.chosen();
        who = fmt::format("export {}: client {}", e.options.export_name, number);
        log::info("nbd", [&] {
            return fmt::format("{} connected{}", who,
                               agreed->terms.structured ? ", structured replies" : "");
        });
        session s;
        s.fd = fd;
        s.client = who;
        s.terms = agreed->terms;
        s.bounds = bounds;
        s.received = std::move(agreed->received);
        join_handle<result<>> served =
            e.worker->spawn(&serve_session, across<exported>(e), std::move(s));
        result<> done = co_await served;
        log::info("nbd", [&] {
            return fmt::format("{} gone{}{}", who, done ? "" : ": ",
                               done ? "" : nacre::describe(done.error()));
        });
    } else if (agreed.error().is(ETIMEDOUT)) {
        log::warning("nbd", fmt::format("{}: did not finish its handshake; disconnected", who));
    }
    registry.home_world().close_socket(fd);
    offered.let_go();
    --clients;
}

}  // namespace nacre::nbd
