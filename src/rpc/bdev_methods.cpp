// SPDX-License-Identifier: BSD-3-Clause
//
// Methods on bdevs of every kind.
#include <fmt/format.h>

#include "nacre/bdev/registry.hpp"
#include "nacre/runtime/timeout.hpp"
#include "notifications.hpp"
#include "tables.hpp"

namespace nacre::rpc {

namespace {

/// Parameters of bdev_set_options. Nacre has no pool of I/Os, so but for examining they are only
/// kept, and saved again.
struct bdev_options {
    std::uint32_t bdev_io_pool_size = 65535;
    std::uint32_t bdev_io_cache_size = 256;
    bool bdev_auto_examine = true;
    std::uint32_t iobuf_small_cache_size = 128;
    std::uint32_t iobuf_large_cache_size = 16;

    static std::span<const json::field> fields() {
        using self = bdev_options;
        static constexpr json::field table[] = {
            json::optional<&self::bdev_io_pool_size>("bdev_io_pool_size",
                                                     "Kept for SPDK's sake: no I/O is allocated"),
            json::optional<&self::bdev_io_cache_size>("bdev_io_cache_size", "Kept for SPDK's sake"),
            json::optional<&self::bdev_auto_examine>(
                "bdev_auto_examine", "Whether modules look at each new bdev by themselves"),
            json::optional<&self::iobuf_small_cache_size>("iobuf_small_cache_size",
                                                          "Kept for SPDK's sake"),
            json::optional<&self::iobuf_large_cache_size>("iobuf_large_cache_size",
                                                          "Kept for SPDK's sake"),
        };
        return table;
    }
};

task<reply> set_options(context& here, bdev_options options) {
    std::uint64_t threads = 0;
    here.host().for_each_thread([&](thread&) { ++threads; });
    // As SPDK refuses, though nothing here is as large.
    if (options.bdev_io_pool_size < options.bdev_io_cache_size * (threads + 1))
        co_return refuse(invalid_params,
                         fmt::format("Pool size {} too small for cache size {}",
                                     options.bdev_io_pool_size, options.bdev_io_cache_size));
    here.local<bdev_options>() = options;
    here.bdevs().set_auto_examine(options.bdev_auto_examine);
    co_return json::value(true);
}

struct get_bdevs_params {
    std::string name;
    std::uint64_t timeout = 0;

    static std::span<const json::field> fields() {
        using self = get_bdevs_params;
        static constexpr json::field table[] = {
            json::optional<&self::name>("name", "Only this one"),
            json::optional<&self::timeout>("timeout",
                                           "Milliseconds to wait for the named bdev to appear"),
        };
        return table;
    }
};

task<result<>> wait_for(context& here, std::string name) {
    while (here.bdevs().find(name) == nullptr) {
        result<> happened = co_await here.service<notifications>()->happened().wait();
        if (!happened) co_return happened;
    }
    co_return result<>();
}

std::string no_such_device(std::string_view name) {
    return fmt::format("{}: No such device; `nacre rpc bdev_get_bdevs` lists those that exist",
                       name);
}

task<reply> get_bdevs(context& here, get_bdevs_params params) {
    if (params.name.empty()) {
        json::array list;
        here.bdevs().for_each([&](bdev& d) { list.push_back(describe_bdev(d)); });
        co_return json::value(std::move(list));
    }
    if (here.bdevs().find(params.name) == nullptr && params.timeout != 0) {
        constexpr std::uint64_t ns_per_ms = 1'000'000;
        const std::uint64_t limit_ns =
            params.timeout > UINT64_MAX / ns_per_ms ? UINT64_MAX : params.timeout * ns_per_ms;
        result<> found = co_await with_timeout(wait_for(here, params.name), limit_ns);
        (void)found;  // looked up below
    }
    bdev* const device = here.bdevs().find(params.name);
    if (device == nullptr) co_return refuse(-ENODEV, no_such_device(params.name));
    json::array list;
    list.push_back(describe_bdev(*device));
    co_return json::value(std::move(list));
}

task<reply> examine(context& here, name_params params) {
    outcome<> examined = co_await here.bdevs().examine_named(std::move(params.name));
    co_return to_reply(examined);
}

/// A method that makes a bdev answers when the new bdev has been examined.
task<reply> wait_for_examine(context&) { co_return json::value(true); }

}  // namespace

task<json::value> bdev_configuration(context& here) {
    json::array commands;
    commands.emplace_back(json::object{{"method", "bdev_set_options"},
                                       {"params", json::encode(here.local<bdev_options>())}});
    for (const std::string& name : here.bdevs().names_to_examine())
        commands.emplace_back(
            json::object{{"method", "bdev_examine"}, {"params", json::object{{"name", name}}}});
    json::array raid = raid_configuration(here);
    if (!raid.empty()) commands.push_back(std::move(raid.front()));
    for (json::value& key : crypto_key_configuration(here)) commands.push_back(std::move(key));
    for (json::value& cluster : rbd_configuration(here)) commands.push_back(std::move(cluster));
    here.bdevs().for_each([&](bdev& d) {
        json::value made_by = d.configuration();
        if (json::array* several = made_by.if_array())
            for (json::value& each : *several) commands.push_back(std::move(each));
        else if (!made_by.is_null())
            commands.push_back(std::move(made_by));
    });
    for (std::size_t i = 1; i < raid.size(); ++i) commands.push_back(std::move(raid[i]));
    for (json::array waiting :
         {split_configuration(here), crypto_configuration(here), zone_block_configuration(here)})
        for (json::value& each : waiting) commands.push_back(std::move(each));
    commands.emplace_back(json::object{{"method", "bdev_wait_for_examine"}});
    // Also of bdevs that come back by being examined.
    for (json::value& limit : qos_configuration(here)) commands.push_back(std::move(limit));
    co_return json::value(std::move(commands));
}

std::span<const method> bdev_methods() noexcept {
    static constexpr method table[] = {
        declare<&set_options>("bdev_set_options", state::startup, "Options of the block layer"),
        declare<&get_bdevs>("bdev_get_bdevs", state::runtime, "All bdevs, or the one named"),
        declare<&examine>("bdev_examine", state::runtime,
                          "Lets modules look at the bdev, where they do not by themselves"),
        declare<&wait_for_examine>("bdev_wait_for_examine", state::runtime,
                                   "Answers when all bdevs have been examined"),
    };
    return table;
}

}  // namespace nacre::rpc
