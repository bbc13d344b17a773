// SPDX-License-Identifier: BSD-3-Clause
#include "nbd_server.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "nacre/core/log.hpp"
#include "nacre/core/uri.hpp"

namespace nacre::nbd {
namespace {

/// Where an export listens, from its options; port 0 is a free one.
struct place {
    std::string key;
    std::string unix_path;  // empty: TCP
    host_and_port address;
};

std::string tcp_key(const host_and_port& a) {
    const bool v6 = a.host.find(':') != std::string::npos;
    return fmt::format("tcp:{}{}{}:{}", v6 ? "[" : "", a.host, v6 ? "]" : "", a.port);
}

outcome<place> place_of(const std::string& name, const std::optional<std::string>& unix_path,
                        const std::optional<std::string>& address) {
    if (unix_path.has_value() == address.has_value())
        return fail(EINVAL, fmt::format("export {}: needs either a unix socket's path or an "
                                        "address (host:port), and not both",
                                        name));
    place made;
    if (unix_path) {
        made.key = "unix:" + *unix_path;
        made.unix_path = *unix_path;
        return made;
    }
    std::string_view text = *address;
    const bool any_port = text.ends_with(":0");
    if (any_port) text.remove_suffix(2);
    auto parsed = parse_host_and_port(text, default_port);
    if (!parsed) return fail(EINVAL, fmt::format("export {}: {}", name, parsed.error().message));
    made.address = std::move(*parsed);
    if (made.address.host == "localhost") made.address.host = "127.0.0.1";
    if (any_port) made.address.port = 0;
    made.key = tcp_key(made.address);
    return made;
}

std::uint16_t flags_of(const bdev& device, bool readonly) noexcept {
    using namespace export_flag;
    std::uint16_t flags = has_flags | send_flush | send_fua | can_multi_conn;
    if (readonly) return flags | read_only;
    if (device.supports(opcode::unmap)) flags |= send_trim;
    if (device.supports(opcode::write_zeroes)) flags |= send_write_zeroes | send_fast_zero;
    return flags;
}

// On the export's thread.
outcome<> open_core(across<exported> e) {
    auto opened = e->descriptor.open_channel();
    if (!opened) return fail(std::move(opened.error()));
    e->core.channel = std::move(*opened);
    const bdev& device = e->core.channel.device();
    e->core.block_bytes = device.block_size().value();
    e->core.can_seek = device.supports(opcode::seek_data) && device.supports(opcode::seek_hole);
    return {};
}
void close_connections(across<exported> e) {
    e->core.ended = true;
    for (connection* c = e->core.connections.front(); c != nullptr;
         c = e->core.connections.next(*c))
        c->begin_close();
}
void close_core(across<exported> e) {
    NACRE_ASSERT(e->core.connections.empty() && e->core.guard.empty());
    e->core.channel.close();
}

/// The address with the port that was taken.
std::optional<std::string> shown_address(const exported& e) {
    if (!e.options.address) return std::nullopt;
    return e.key.substr(std::string_view("tcp:").size());
}

export_info describe(const exported& e) {
    export_info info;
    info.bdev_name = e.options.bdev_name;
    info.export_name = e.options.export_name;
    info.unix_path = e.options.unix_path;
    info.address = shown_address(e);
    info.readonly = e.options.readonly;
    info.description = e.options.description;
    info.size_bytes = e.descriptor.device().size().value();
    info.connections = e.clients;
    info.uri = e.options.unix_path
                   ? uri("nbd+unix", "", e.options.export_name, {{"socket", *e.options.unix_path}})
                         .to_string()
                   : uri("nbd", *info.address, e.options.export_name).to_string();
    return info;
}

bool matches(const exported& e, const export_selector& which) {
    if (e.options.export_name != which.export_name) return false;
    if (which.unix_path && e.options.unix_path != which.unix_path) return false;
    return !which.address || e.options.address == which.address ||
           shown_address(e) == which.address;
}

}  // namespace

// --- Exports ------------------------------------------------------------------------------------

task<void> exported::base_removed(bdev& base) {
    const auto self = std::find_if(owner.exports.begin(), owner.exports.end(),
                                   [this](const auto& e) { return e.get() == this; });
    if (self == owner.exports.end()) co_return;
    log::notice("nbd", fmt::format("export {}: ends, because bdev {} goes away",
                                   options.export_name, base.name()));
    co_await owner.end_export(*self);
}

listener* server_state::find_listener(std::string_view key) noexcept {
    const auto found = std::find_if(listeners.begin(), listeners.end(),
                                    [&](const auto& l) { return l->key == key; });
    return found == listeners.end() ? nullptr : found->get();
}

task<outcome<>> server_state::add(export_options options) {
    if (closed) co_return fail(ESHUTDOWN, "the NBD server is shutting down");
    if (options.export_name.empty()) options.export_name = options.bdev_name;
    if (options.export_name.size() > string_bytes_max ||
        options.description.size() > string_bytes_max)
        co_return fail(EINVAL, fmt::format("an export's name and description have at most {} bytes",
                                           string_bytes_max));
    auto where = place_of(options.export_name, options.unix_path, options.address);
    if (!where) co_return fail(std::move(where.error()));
    for (const std::shared_ptr<exported>& other : exports)
        if (other->key == where->key && other->options.export_name == options.export_name)
            co_return fail(EEXIST, fmt::format("export {}: exists at {} already; delete it or "
                                               "choose another name",
                                               options.export_name, where->key));
    auto e = std::make_shared<exported>(*this, std::move(options));
    e->key = where->key;
    exports.push_back(e);
    outcome<> up = co_await bring_up(*e);
    e->bringing_up = false;
    e->changed.wake_all();
    if (up && e->ending)
        up = fail(ENODEV, fmt::format("export {}: its bdev {} has just been removed",
                                      e->options.export_name, e->options.bdev_name));
    if (!up) co_await end_export(e);
    co_return up;
}

outcome<> server_state::open_device(exported& e) {
    auto opened =
        registry.open(e.options.bdev_name, e.options.readonly ? access::read : access::write);
    if (!opened) return fail(std::move(opened.error()));
    const bdev& device = opened->device();
    const bdev_attributes& a = device.attributes();
    if (a.is_zoned())
        return fail(ENOTSUP, fmt::format("bdev {}: is zoned, which NBD cannot say to its clients; "
                                         "put a layer over it that is not",
                                         device.name()));
    if (a.metadata_interleaved)
        return fail(ENOTSUP, fmt::format("bdev {}: has metadata between its blocks, which NBD "
                                         "cannot carry",
                                         device.name()));
    if (!e.options.readonly && !device.supports(opcode::write))
        return fail(EROFS, fmt::format("bdev {}: cannot be written; export it with readonly",
                                       device.name()));
    e.descriptor = std::move(*opened);
    e.descriptor.set_listener(&e);
    e.flags = flags_of(device, e.options.readonly);
    return {};
}

task<outcome<>> server_state::bring_up(exported& e) {
    outcome<> opened = open_device(e);
    if (!opened) co_return opened;
    runtime& host = registry.host();
    e.worker = host.reactor_count() == 1 ? &home : &host.service_thread(host.next_reactor_index());
    opened = co_await call_on(*e.worker, &open_core, across<exported>(e));
    if (!opened) co_return opened;
    opened = co_await listen_for(e);
    co_return opened;
}

task<outcome<>> server_state::listen_for(exported& e) {
    auto where = place_of(e.options.export_name, e.options.unix_path, e.options.address);
    const bool any_port = where->unix_path.empty() && where->address.port == 0;
    listener* found = find_listener(where->key);
    while (found != nullptr && found->closing) {
        co_await listener_gone.wait();
        found = find_listener(where->key);
    }
    if (found == nullptr || any_port) {
        world& w = registry.home_world();
        auto fd = where->unix_path.empty() ? w.listen_tcp(where->address.host, where->address.port)
                                           : w.listen_unix(where->unix_path);
        if (!fd) co_return fail(std::move(fd.error()));
        if (any_port) {
            auto port = w.local_port(*fd);
            if (!port) {
                w.close_socket(*fd);
                co_return fail(std::move(port.error()));
            }
            where->address.port = *port;
            where->key = e.key = tcp_key(where->address);
        }
        listeners.push_back(std::make_unique<listener>(where->key, *fd));
        found = listeners.back().get();
        found->acceptor.spawn(accept_clients(*found));
    }
    e.at = found;
    log::info("nbd", [&] {
        return fmt::format("export {}: serves bdev {} at {}", e.options.export_name,
                           e.options.bdev_name, nbd::describe(e).uri);
    });
    co_return outcome<>();
}

task<void> server_state::end_export(std::shared_ptr<exported> e) {
    if (e->ending) {
        while (!e->ended) co_await e->changed.wait();
        co_return;
    }
    e->ending = true;
    while (e->bringing_up) co_await e->changed.wait();
    if (e->core.channel.is_open()) {
        co_await call_on(*e->worker, &close_connections, across<exported>(*e));
        while (e->clients != 0) co_await e->changed.wait();
        co_await call_on(*e->worker, &close_core, across<exported>(*e));
    }
    e->descriptor.close();
    std::erase(exports, e);
    listener* const at = e->at;
    const bool last = std::none_of(exports.begin(), exports.end(),
                                   [at](const auto& other) { return other->at == at; });
    if (at != nullptr && last && !at->closing) co_await end_listener(*at);
    e->ended = true;
    e->changed.wake_all();
}

// --- Listeners ----------------------------------------------------------------------------------

task<void> server_state::end_listener(listener& l) {
    l.closing = true;
    l.accepting.cancel();
    l.clients.request_stop();
    result<> joined = co_await l.acceptor.join();
    joined = co_await l.clients.join();
    NACRE_ASSERT(joined.has_value());
    registry.home_world().close_socket(l.descriptor);
    std::erase_if(listeners, [&](const auto& other) { return other.get() == &l; });
    listener_gone.wake_all();
}

// --- The interface ------------------------------------------------------------------------------

server::server(bdev_registry& registry, const limits& bounds)
    : state_(std::make_unique<server_state>(registry, bounds)) {}

server::~server() { NACRE_ASSERT(state_->exports.empty() && state_->listeners.empty()); }

task<outcome<>> server::add_export(export_options options) {
    outcome<> added = co_await state_->add(std::move(options));
    co_return added;
}

task<outcome<>> server::remove_export(export_selector which) {
    std::vector<std::shared_ptr<exported>> found;
    for (const std::shared_ptr<exported>& e : state_->exports)
        if (matches(*e, which)) found.push_back(e);
    if (found.empty())
        co_return fail(ENOENT, fmt::format("export {}: there is none of this name{}; `nacre rpc "
                                           "nbd_get_exports` lists those that exist",
                                           which.export_name,
                                           which.unix_path || which.address ? " there" : ""));
    for (const std::shared_ptr<exported>& e : found) co_await state_->end_export(e);
    co_return outcome<>();
}

std::vector<export_info> server::list() const {
    std::vector<export_info> infos;
    for (const std::shared_ptr<exported>& e : state_->exports)
        if (e->at != nullptr && !e->ending) infos.push_back(describe(*e));
    return infos;
}

json::array server::configuration() const {
    json::array calls;
    for (const std::shared_ptr<exported>& e : state_->exports)
        if (e->at != nullptr && !e->ending)
            calls.push_back(json::object{{"method", "nbd_export_create"},
                                         {"params", json::encode(e->options)}});
    return calls;
}

unsigned server::connections() const noexcept { return state_->clients; }

task<void> server::close() {
    state_->closed = true;
    scope ending;
    for (const std::shared_ptr<exported>& e : state_->exports) ending.spawn(state_->end_export(e));
    result<> joined = co_await ending.join();
    NACRE_ASSERT(joined.has_value());
    while (!state_->listeners.empty()) co_await state_->listener_gone.wait();
}

// --- Options ------------------------------------------------------------------------------------

std::span<const json::field> export_options::fields() {
    using self = export_options;
    static constexpr json::field table[] = {
        json::required<&self::bdev_name>("bdev_name", "Name, alias or UUID of the bdev to serve"),
        json::automatic<&self::export_name>("export",
                                            "What clients ask for; empty: the bdev's name"),
        json::optional<&self::unix_path>("unix", "Path of a unix socket to serve at"),
        json::optional<&self::address>("address",
                                       "Address of a TCP socket to serve at, host:port; port 0: "
                                       "a free one"),
        json::optional<&self::readonly>("readonly", "Refuse writes"),
        json::optional<&self::description>("description", "For people, in the list of exports"),
    };
    return table;
}

std::span<const json::field> export_selector::fields() {
    using self = export_selector;
    static constexpr json::field table[] = {
        json::required<&self::export_name>("export", "Name of the export"),
        json::optional<&self::unix_path>("unix", "Only at this unix socket"),
        json::optional<&self::address>("address", "Only at this TCP address"),
    };
    return table;
}

std::span<const json::field> export_info::fields() {
    using self = export_info;
    static constexpr json::field table[] = {
        json::required<&self::bdev_name>("bdev_name", "The bdev that is served"),
        json::required<&self::export_name>("export", "What clients ask for"),
        json::optional<&self::unix_path>("unix", "Path of the unix socket"),
        json::optional<&self::address>("address", "Address of the TCP socket"),
        json::required<&self::readonly>("readonly", "Writes are refused"),
        json::required<&self::description>("description", "For people"),
        json::required<&self::size_bytes>("size", "Bytes"),
        json::required<&self::connections>("connections", "Clients connected now"),
        json::required<&self::uri>("uri", "What a client is given"),
    };
    return table;
}

}  // namespace nacre::nbd
