// SPDX-License-Identifier: BSD-3-Clause
#include "quickstart.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "modules/raid/raid.hpp"
#include "nacre/rpc/config.hpp"
#include "nacre/serve/nbd.hpp"

namespace nacre::cli {
namespace {

constexpr std::uint64_t volume_bytes = std::uint64_t{1} << 30;
constexpr std::uint64_t raid_bytes = std::uint64_t{1} << 20;
constexpr std::uint64_t config_bytes_max = 16 * 1024 * 1024;
constexpr const char* legs[] = {"leg0", "leg1"};

/// Calls visit(method, params) for each command of a configuration.
template <typename F>
void for_each_command(const json::value& configuration, F visit) {
    const json::value& subsystems = configuration["subsystems"];
    for (std::size_t s = 0; s < subsystems.size(); ++s) {
        const json::value& commands = subsystems[s]["config"];
        for (std::size_t i = 0; i < commands.size(); ++i)
            visit(commands[i]["method"].as_string().value_or(""), commands[i]["params"]);
    }
}

/// Where the first leg's file is said to lie; empty if there is none.
std::string folder_of(const json::value& configuration) {
    std::string found;
    for_each_command(configuration, [&](std::string_view, const json::value& params) {
        if (params["name"].as_string() != legs[0]) return;
        const std::string_view file = params["filename"].as_string().value_or("");
        const std::size_t slash = file.rfind('/');
        if (slash != std::string_view::npos) found = file.substr(0, slash);
    });
    return found;
}

bool has_export(const json::value& configuration) {
    bool found = false;
    for_each_command(configuration, [&](std::string_view method, const json::value&) {
        found |= method == "nbd_export_create";
    });
    return found;
}

/// `v` with the folder `from` replaced by `to` in every path.
json::value moved(const json::value& v, const std::string& from, const std::string& to) {
    if (const json::object* members = v.if_object()) {
        json::object result;
        for (const auto& [key, member] : *members) result.append(key, moved(member, from, to));
        return result;
    }
    if (const json::array* elements = v.if_array()) {
        json::array result;
        for (const json::value& e : *elements) result.push_back(moved(e, from, to));
        return result;
    }
    const std::optional<std::string_view> text = v.as_string();
    if (text && text->starts_with(from) && text->substr(from.size()).starts_with('/'))
        return to + std::string(text->substr(from.size()));
    return v;
}

}  // namespace

std::string quickstart::path(std::string_view name) const {
    return fmt::format("{}/{}", folder_, name);
}

outcome<> quickstart::prepare(app_options& options) {
    if (outcome<> made = world_.make_directory(folder_); !made) return made;
    if (!world_.file_exists(path("config.json"))) {
        if (outcome<> written = write_first_configuration(); !written) return written;
    }
    return read_configuration(options);
}

outcome<> quickstart::write_first_configuration() {
    json::array commands;
    for (const char* leg : legs) {
        const std::string file = path(fmt::format("{}.img", leg));
        if (world_.file_exists(file))
            return fail(EEXIST,
                        fmt::format("{}: is there, but {} is not, so it may hold somebody's "
                                    "data; move it away, or restore the configuration",
                                    file, path("config.json")));
        std::array<std::byte, uuid::size> random;
        world_.fill_random(random);
        commands.emplace_back(
            json::object{{"method", "bdev_aio_create"},
                         {"params", json::object{{"name", leg},
                                                 {"filename", file},
                                                 {"block_size", 4096U},
                                                 {"uuid", uuid::from_random(random).to_string()},
                                                 {"size", volume_bytes + raid_bytes}}}});
    }
    json::array subsystems;
    subsystems.emplace_back(json::object{{"subsystem", "bdev"}, {"config", std::move(commands)}});
    const json::value root(json::object{{"subsystems", std::move(subsystems)}});
    return world_.write_text(path("config.json"), root.dump_pretty() + "\n");
}

outcome<> quickstart::read_configuration(app_options& options) {
    const std::string file = path("config.json");
    outcome<std::string> text = world_.read_text(file, config_bytes_max);
    if (!text) return fail(std::move(text.error()));
    outcome<json::value> read = json::parse(*text, {.allow_comments = true});
    if (!read)
        return fail(EINVAL, fmt::format("{}: {}; correct it, or start with another --data folder",
                                        file, read.error().message));
    first_ = !has_export(*read);
    unsaved_ = first_;
    const std::string was = folder_of(*read);
    if (was.empty())
        return fail(EINVAL, fmt::format("{}: makes no {}, so this is no folder of --quickstart; "
                                        "use --config {} to start with it",
                                        file, legs[0], file));
    if (was == folder_) {
        options.config_file = file;
        return {};
    }
    if (world_.file_exists(fmt::format("{}/{}.img", was, legs[0])) &&
        world_.file_exists(path(fmt::format("{}.img", legs[0]))))
        return fail(EEXIST, fmt::format("{}: belongs to {}, which still exists; a copy would have "
                                        "the same UUIDs. Remove one of the two",
                                        file, was));
    options.config_text = moved(*read, was, folder_).dump();
    unsaved_ = true;
    return {};
}

task<outcome<>> quickstart::bring_up(app& application) {
    if (application.bdevs().find(volume) == nullptr) {
        outcome<> made = co_await make_mirror(application);
        if (!made) co_return made;
    }
    outcome<> exported = co_await make_export(application);
    if (!exported || !unsaved_) co_return exported;
    std::string text = co_await rpc::save_text(application.context());
    outcome<> saved = world_.write_text(path("config.json"), text);
    co_return saved;
}

task<outcome<>> quickstart::make_mirror(app& application) {
    raid_module& raid = raid_module::of(application.bdevs());
    if (!first_ && raid.list(raid_category::configuring).size() != 0)
        co_return fail(ENODEV,
                       fmt::format("{0}: waits for a leg that may hold newer data; put it back. If "
                                   "it is lost, go on with the other alone: `nacre serve --config "
                                   "{1} --ignore-config-errors -r {2}`, then `nacre rpc -s {2} "
                                   "bdev_raid_start_degraded name={0}`",
                                   volume, path("config.json"), path("rpc.sock")));
    if (!first_)
        co_return fail(EIO, fmt::format("{}: was not found on {} and {}; see what the log says of "
                                        "them, restore one of them, or start with another --data "
                                        "folder",
                                        volume, path("leg0.img"), path("leg1.img")));
    raid_options options;
    options.name = volume;
    options.base_bdevs = {legs[0], legs[1]};
    options.superblock = true;
    outcome<std::string> made = co_await raid.create(std::move(options));
    if (!made) co_return fail(std::move(made.error()));
    co_return outcome<>();
}

task<outcome<>> quickstart::make_export(app& application) {
    const std::string socket = path("nbd.sock");
    for (const nbd::export_info& e : application.exports().list())
        if (e.bdev_name == volume && e.unix_path == socket) co_return outcome<>();
    unsaved_ = true;
    nbd::export_options options;
    options.bdev_name = volume;
    options.export_name = volume;
    options.unix_path = socket;
    outcome<> exported = co_await application.exports().add_export(std::move(options));
    co_return exported;
}

}  // namespace nacre::cli
