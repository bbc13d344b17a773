// SPDX-License-Identifier: BSD-3-Clause
//
// Methods that make and delete zoned bdevs over conventional ones.
#include "modules/zone_block/zone_block.hpp"
#include "modules/zoned/zoned.hpp"
#include "tables.hpp"

namespace nacre::rpc {

namespace {

task<reply> zone_block_create(context& here, zone_block_options options) {
    outcome<std::string> made =
        co_await zone_block_module::of(here.bdevs()).create(std::move(options));
    // SPDK has one code for all that goes wrong here.
    if (!made) co_return refuse(internal_error, std::move(made.error().message));
    co_return to_reply(made);
}
task<reply> zone_block_delete(context& here, name_params params) {
    outcome<> deleted =
        co_await zone_block_module::of(here.bdevs()).destroy(std::move(params.name));
    co_return to_reply(deleted);
}

task<reply> zoned_create(context& here, zoned_options options) {
    outcome<std::string> made = co_await create_zoned(here.bdevs(), std::move(options));
    co_return to_reply(made);
}
task<reply> zoned_file_create(context& here, zoned_file_options options) {
    outcome<std::string> made = co_await create_zoned_file(here.bdevs(), std::move(options));
    co_return to_reply(made);
}
task<reply> zoned_delete(context& here, name_params params) {
    outcome<> deleted = co_await delete_zoned(here.bdevs(), std::move(params.name));
    co_return to_reply(deleted);
}

/// What its superblock holds is not saved, so it is read off the bdev; `unit` is what sizes are
/// given in, 1 for blocks.
json::object shape_of(const bdev& device, std::uint64_t unit) {
    const zoned_attributes& z = device.attributes().zoned;
    return {{"name", device.name()},
            {"zone_size", z.zone_size.value() * unit},
            {"zone_capacity", z.zone_capacity.value() * unit},
            {"zones", device.blocks().value() / z.zone_size.value()},
            {"max_open_zones", z.open_zones_max},
            {"max_active_zones", z.active_zones_max},
            {"max_append_blocks", z.append_blocks_max},
            {"uuid", device.attributes().id.to_string()}};
}

std::optional<existing> existing_zoned(context& here, const json::object& params) {
    std::optional<existing> found = bdev_of_that_name(here, params);
    if (!found || found->made_by["method"] != json::value("bdev_zoned_create")) return found;
    const json::value saved = found->made_by["params"];
    json::object made_with = shape_of(*here.bdevs().find(*params.find("name")->if_string()), 1);
    made_with.append("base_bdev", saved["base_bdev"]);
    if (const json::value* owns = saved.find("owns_base")) made_with.append("owns_base", *owns);
    found->made_by =
        json::object{{"method", "bdev_zoned_create"}, {"params", std::move(made_with)}};
    return found;
}

std::optional<existing> existing_zoned_file(context& here, const json::object& params) {
    std::optional<existing> found = bdev_of_that_name(here, params);
    if (!found || found->made_by["method"] != json::value("bdev_zoned_create")) return found;
    const std::optional<std::string_view> base = found->made_by["params"]["base_bdev"].as_string();
    bdev* const below = base ? here.bdevs().find(*base) : nullptr;
    const json::value file = below != nullptr ? below->configuration() : json::value();
    if (!file["params"]["filename"].is_string()) return found;  // on a bdev of another kind
    const bdev& device = *here.bdevs().find(*params.find("name")->if_string());
    json::object made_with = shape_of(device, device.block_size().value());
    made_with.append("filename", file["params"]["filename"]);
    made_with.append("block_size", device.block_size().value());
    made_with.append("size", device.size().value());
    found->made_by =
        json::object{{"method", "bdev_zoned_file_create"}, {"params", std::move(made_with)}};
    return found;
}

enum class degraded : std::uint8_t { read_only, offline };
[[nodiscard]] constexpr auto json_names(degraded) {
    using name = json::enum_name<degraded>;
    return std::array{name{"read_only", degraded::read_only}, name{"offline", degraded::offline}};
}

struct degrade_params {
    std::string name;
    std::uint64_t zone = 0;
    degraded state = degraded::read_only;

    static std::span<const json::field> fields() {
        using self = degrade_params;
        static constexpr json::field table[] = {
            json::required<&self::name>("name", "Name of the zoned bdev"),
            json::required<&self::zone>("zone", "Number of the zone, from 0"),
            json::required<&self::state>("state", "What becomes of it"),
        };
        return table;
    }
};

task<reply> zoned_degrade(context& here, degrade_params params) {
    const zone_state state =
        params.state == degraded::offline ? zone_state::offline : zone_state::read_only;
    outcome<> done =
        co_await degrade_zone(here.bdevs(), std::move(params.name), params.zone, state);
    co_return to_reply(done);
}

}  // namespace

json::array zone_block_configuration(context& here) {
    return zone_block_module::of(here.bdevs()).configuration();
}

std::span<const method> bdev_zone_methods() noexcept {
    constexpr state runtime = state::runtime;
    static constexpr method table[] = {
        declare<&zone_block_delete>("bdev_zone_block_delete", runtime,
                                    "Deletes a zoned view of a bdev"),
        declare<&zone_block_create>("bdev_zone_block_create", runtime,
                                    "Makes a zoned view of a bdev; its zones begin full",
                                    &bdev_of_that_name),
        declare<&zoned_degrade>("bdev_zoned_degrade_zone", runtime,
                                "Makes a zone read-only or offline, as one that wears out"),
        declare<&zoned_delete>("bdev_zoned_delete", runtime,
                               "Deletes a zoned bdev; what it keeps on its base stays"),
        declare<&zoned_create>("bdev_zoned_create", runtime,
                               "Makes a zoned bdev that survives restarts on another bdev",
                               &existing_zoned),
        declare<&zoned_file_create>("bdev_zoned_file_create", runtime,
                                    "Makes a zoned bdev that survives restarts on a file",
                                    &existing_zoned_file),
    };
    return table;
}

}  // namespace nacre::rpc
