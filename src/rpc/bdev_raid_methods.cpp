// SPDX-License-Identifier: BSD-3-Clause
//
// Methods on RAID bdevs.
#include "modules/raid/raid.hpp"
#include "tables.hpp"

namespace nacre::rpc {

namespace {

raid_module& arrays(context& here) { return raid_module::of(here.bdevs()); }

task<reply> set_options(context& here, raid_process_options options) {
    outcome<> done = arrays(here).set_options(options);
    co_return to_reply(done);
}

struct get_params {
    raid_category category = raid_category::all;

    static std::span<const json::field> fields() {
        static constexpr json::field table[] = {
            json::required<&get_params::category>("category", "Those in this state"),
        };
        return table;
    }
};

task<reply> get_bdevs(context& here, get_params params) {
    co_return json::value(arrays(here).list(params.category));
}

task<reply> create(context& here, raid_options options) {
    outcome<std::string> made = co_await arrays(here).create(std::move(options));
    if (!made) co_return refuse(made.error());
    co_return json::value(true);
}

/// Out of what bdev_raid_get_bdevs shows, because an array with a superblock is not saved.
std::optional<existing> existing_array(context& here, const json::object& params) {
    const json::value& name = *params.find("name");
    for (const json::value& shown : arrays(here).list(raid_category::all)) {
        if (shown["name"] != name) continue;
        json::array legs;
        const json::value& list = shown["base_bdevs_list"];
        for (std::size_t i = 0; i < list.size(); ++i) legs.push_back(list[i]["name"]);
        json::object made_with{{"name", name}, {"base_bdevs", std::move(legs)}};
        for (const char* key : {"strip_size_kb", "raid_level", "uuid", "superblock"})
            made_with.append(key, shown[key]);
        return existing{
            json::object{{"method", "bdev_raid_create"}, {"params", std::move(made_with)}}, true};
    }
    return existing_bdev(here, *name.if_string(), true);
}

struct delete_params {
    std::string name;
    bool clear_sb = false;

    static std::span<const json::field> fields() {
        using self = delete_params;
        static constexpr json::field table[] = {
            json::required<&self::name>("name", "Name of the array"),
            json::optional<&self::clear_sb>("clear_sb",
                                            "Erase its superblocks, so that it does not come back"),
        };
        return table;
    }
};

task<reply> destroy(context& here, delete_params params) {
    outcome<> deleted = co_await arrays(here).destroy(std::move(params.name), params.clear_sb);
    co_return to_reply(deleted);
}

struct add_params {
    std::string raid_bdev;
    std::string base_bdev;

    static std::span<const json::field> fields() {
        using self = add_params;
        static constexpr json::field table[] = {
            json::required<&self::raid_bdev>("raid_bdev", "Name of the array"),
            json::required<&self::base_bdev>("base_bdev", "Name of the new leg"),
        };
        return table;
    }
};

task<reply> add_base(context& here, add_params params) {
    outcome<> added =
        co_await arrays(here).add_base(std::move(params.raid_bdev), std::move(params.base_bdev));
    co_return to_reply(added);
}

task<reply> remove_base(context& here, name_params params) {
    outcome<> removed = co_await arrays(here).remove_base(std::move(params.name));
    co_return to_reply(removed);
}

task<reply> start_degraded(context& here, name_params params) {
    outcome<> started = co_await arrays(here).start_degraded(std::move(params.name));
    co_return to_reply(started);
}

}  // namespace

json::array raid_configuration(context& here) { return arrays(here).configuration(); }

std::span<const method> bdev_raid_methods() noexcept {
    static constexpr method table[] = {
        declare<&set_options>("bdev_raid_set_options", state::both, "Options of rebuilds"),
        declare<&remove_base>("bdev_raid_remove_base_bdev", state::runtime,
                              "Takes a leg out of its array"),
        declare<&add_base>("bdev_raid_add_base_bdev", state::runtime,
                           "Adds a leg and rebuilds it in the background"),
        declare<&start_degraded>("bdev_raid_start_degraded", state::runtime,
                                 "Starts an array without the legs that it waits for; what only "
                                 "they hold is lost"),
        declare<&destroy>("bdev_raid_delete", state::runtime, "Deletes an array"),
        declare<&create>("bdev_raid_create", state::runtime,
                         "Makes one bdev of several: raid0, concat, raid1 or raid5f",
                         &existing_array),
        declare<&get_bdevs>("bdev_raid_get_bdevs", state::runtime,
                            "The arrays, their legs, and the progress of rebuilds"),
    };
    return table;
}

}  // namespace nacre::rpc
