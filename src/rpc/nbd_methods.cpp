// SPDX-License-Identifier: BSD-3-Clause
//
// Methods on NBD exports. They need an nbd::server among the context's services.
#include "nacre/serve/nbd.hpp"
#include "tables.hpp"

namespace nacre::rpc {

namespace {

reply no_server() { return refuse(-ENOTSUP, "this program has no NBD server"); }

/// Answers with what clients are given: the export's URI.
task<reply> export_create(context& here, nbd::export_options options) {
    auto* server = here.service<nbd::server>();
    if (server == nullptr) co_return no_server();
    outcome<> added = co_await server->add_export(std::move(options));
    if (!added) co_return refuse(added.error());
    const std::vector<nbd::export_info> exports = server->list();
    if (exports.empty()) co_return refuse(-ENODEV, "the bdev went away meanwhile");
    co_return json::value(exports.back().uri);
}

/// Port 0 asks for any, so one that is there will do.
bool is_any_port_of(const json::value* wanted, const std::optional<std::string>& is) {
    if (wanted == nullptr || !is || !wanted->if_string()->ends_with(":0")) return false;
    return wanted->if_string()->substr(0, wanted->if_string()->rfind(':')) ==
           is->substr(0, is->rfind(':'));
}

std::optional<existing> existing_export(context& here, const json::object& params) {
    auto* server = here.service<nbd::server>();
    if (server == nullptr) return std::nullopt;
    const json::value& named = *params.find("export");
    const json::value& name = named.if_string()->empty() ? *params.find("bdev_name") : named;
    const json::value saved(server->configuration());
    const std::vector<nbd::export_info> exports = server->list();
    for (std::size_t i = 0; i < exports.size(); ++i) {
        const json::object shown = json::encode(exports[i]);
        const auto same = [&](const char* key) {
            const json::value* wanted = params.find(key);
            const json::value* is = shown.find(key);
            return wanted == nullptr ? is == nullptr : is != nullptr && *is == *wanted;
        };
        if (*shown.find("export") != name || !same("unix")) continue;
        const json::value* address = params.find("address");
        if (!same("address") && !is_any_port_of(address, exports[i].address)) continue;
        json::value made_by = saved[i];
        // Found to be the same, whether it was given with its port or with 0.
        if (address != nullptr)
            made_by.if_object()->find("params")->if_object()->set("address", *address);
        return existing{std::move(made_by), json::value(exports[i].uri)};
    }
    return std::nullopt;
}

task<reply> export_delete(context& here, nbd::export_selector which) {
    auto* server = here.service<nbd::server>();
    if (server == nullptr) co_return no_server();
    outcome<> removed = co_await server->remove_export(std::move(which));
    co_return to_reply(removed);
}

task<reply> get_exports(context& here) {
    auto* server = here.service<nbd::server>();
    if (server == nullptr) co_return no_server();
    json::array list;
    for (const nbd::export_info& e : server->list()) list.emplace_back(json::encode(e));
    co_return json::value(std::move(list));
}

}  // namespace

task<json::value> nbd_configuration(context& here) {
    auto* server = here.service<nbd::server>();
    if (server == nullptr) co_return json::value(json::array());
    co_return json::value(server->configuration());
}

std::span<const method> nbd_methods() noexcept {
    static constexpr method table[] = {
        declare<&export_create>("nbd_export_create", state::runtime,
                                "Serves a bdev by NBD, on a unix socket or a TCP address",
                                &existing_export),
        declare<&export_delete>("nbd_export_delete", state::runtime, "Ends an export"),
        declare<&get_exports>("nbd_get_exports", state::runtime, "What is exported, and where"),
    };
    return table;
}

}  // namespace nacre::rpc
