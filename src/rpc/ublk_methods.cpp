// SPDX-License-Identifier: BSD-3-Clause
//
// Methods on ublk disks. They need a ublk::server among the context's services.
#include "nacre/serve/ublk.hpp"
#include "tables.hpp"

namespace nacre::rpc {

namespace {

reply no_server() { return refuse(-ENOTSUP, "this program has no ublk server"); }

/// SPDK answers with an internal error, whatever it is, when the target as such fails.
reply target_reply(const outcome<>& done) {
    if (!done) return refuse(internal_error, request_error(done.error()).message);
    return json::value(true);
}
reply id_reply(const outcome<std::uint32_t>& id) {
    if (!id) return refuse(id.error());
    return json::value(std::uint64_t{*id});
}

/// The command that made it, out of what would be saved; `key` tells one disk from another.
std::optional<existing> saved_command(context& here, const char* method, const char* key,
                                      const json::object& params, json::value answer) {
    auto* server = here.service<ublk::server>();
    if (server == nullptr) return std::nullopt;
    for (const json::value& command : server->configuration()) {
        if (command["method"] != json::value(method)) continue;
        if (key == nullptr || command["params"][key] == *params.find(key))
            return existing{command, std::move(answer)};
    }
    return std::nullopt;
}
std::optional<existing> existing_target(context& here, const json::object& params) {
    return saved_command(here, "ublk_create_target", nullptr, params, true);
}
std::optional<existing> existing_disk(context& here, const json::object& params) {
    return saved_command(here, "ublk_start_disk", "ublk_id", params, *params.find("ublk_id"));
}

task<reply> create_target(context& here, ublk::target_options options) {
    auto* server = here.service<ublk::server>();
    if (server == nullptr) co_return no_server();
    outcome<> created = co_await server->create_target(std::move(options));
    co_return target_reply(created);
}

task<reply> destroy_target(context& here) {
    auto* server = here.service<ublk::server>();
    if (server == nullptr) co_return no_server();
    outcome<> destroyed = co_await server->destroy_target();
    co_return target_reply(destroyed);
}

task<reply> start_disk(context& here, ublk::disk_options options) {
    auto* server = here.service<ublk::server>();
    if (server == nullptr) co_return no_server();
    outcome<std::uint32_t> id = co_await server->start_disk(std::move(options));
    co_return id_reply(id);
}

task<reply> recover_disk(context& here, ublk::recovery_options options) {
    auto* server = here.service<ublk::server>();
    if (server == nullptr) co_return no_server();
    outcome<std::uint32_t> id = co_await server->recover_disk(std::move(options));
    co_return id_reply(id);
}

struct disk_params {
    std::uint32_t ublk_id = 0;

    static std::span<const json::field> fields() {
        static constexpr json::field table[] = {
            json::required<&disk_params::ublk_id>("ublk_id", "The number of the disk"),
        };
        return table;
    }
};

task<reply> stop_disk(context& here, disk_params params) {
    auto* server = here.service<ublk::server>();
    if (server == nullptr) co_return no_server();
    outcome<> stopped = co_await server->stop_disk(params.ublk_id);
    co_return to_reply(stopped);
}

/// 0 asks for all of them, as in SPDK.
struct list_params {
    std::uint32_t ublk_id = 0;

    static std::span<const json::field> fields() {
        static constexpr json::field table[] = {
            json::optional<&list_params::ublk_id>("ublk_id", "Only this one; all"),
        };
        return table;
    }
};

task<reply> get_disks(context& here, list_params params) {
    auto* server = here.service<ublk::server>();
    if (server == nullptr) co_return no_server();
    json::array list;
    for (const ublk::disk_info& disk : server->list())
        if (params.ublk_id == 0 || disk.id == params.ublk_id) list.emplace_back(json::encode(disk));
    if (params.ublk_id != 0 && list.empty()) co_return refuse(-ENODEV, "No such device");
    co_return json::value(std::move(list));
}

}  // namespace

task<json::value> ublk_configuration(context& here) {
    auto* server = here.service<ublk::server>();
    if (server == nullptr) co_return json::value(json::array());
    co_return json::value(server->configuration());
}

std::span<const method> ublk_methods() noexcept {
    constexpr state runtime = state::runtime;
    static constexpr method table[] = {
        declare<&create_target>("ublk_create_target", runtime,
                                "Makes ready to serve bdevs as disks of the Linux kernel",
                                &existing_target),
        declare<&destroy_target>("ublk_destroy_target", runtime, "Stops all ublk disks"),
        declare<&start_disk>("ublk_start_disk", runtime, "Serves a bdev as /dev/ublkb<ublk_id>",
                             &existing_disk),
        declare<&recover_disk>("ublk_recover_disk", runtime,
                               "Goes on with a disk whose daemon ended without stopping it"),
        declare<&stop_disk>("ublk_stop_disk", runtime, "Ends a disk"),
        declare<&get_disks>("ublk_get_disks", runtime, "The disks that are served"),
    };
    return table;
}

}  // namespace nacre::rpc
