// SPDX-License-Identifier: BSD-3-Clause
//
// Methods on the configuration.
#include <fmt/format.h>

#include "nacre/rpc/config.hpp"
#include "tables.hpp"

namespace nacre::rpc {

namespace {

task<reply> get_subsystems(context& here) {
    json::array list;
    for (const subsystem& s : here.subsystems()) {
        json::array below;
        for (const char* name : s.depends_on) below.emplace_back(std::string_view(name));
        list.emplace_back(json::object{{"subsystem", s.name}, {"depends_on", std::move(below)}});
    }
    co_return json::value(std::move(list));
}

struct get_config_params {
    std::string name;
    bool with_batches = false;

    static std::span<const json::field> fields() {
        using self = get_config_params;
        static constexpr json::field table[] = {
            json::required<&self::name>("name", "Name of the subsystem"),
            json::optional<&self::with_batches>("with_batches",
                                                "Allow batches in the answer; there are none"),
        };
        return table;
    }
};

task<reply> get_config(context& here, get_config_params params) {
    outcome<json::value> commands = co_await save_subsystem(here, params.name);
    if (!commands) co_return refuse(invalid_params, commands.error().message);
    co_return std::move(*commands);
}

struct save_params {
    std::string filename;

    static std::span<const json::field> fields() {
        static constexpr json::field table[] = {
            json::optional<&save_params::filename>(
                "filename", "File of the server's machine to write; absent: it is the answer"),
        };
        return table;
    }
};

task<reply> save_config(context& here, save_params params) {
    if (params.filename.empty()) {
        json::value saved = co_await save(here);
        co_return saved;
    }
    std::string text = co_await save_text(here);
    outcome<> written = here.home_world().write_text(params.filename, text);
    co_return to_reply(written);
}

struct load_params {
    std::string filename;
    std::optional<json::object> config;
    bool ignore_errors = false;

    static std::span<const json::field> fields() {
        using self = load_params;
        static constexpr json::field table[] = {
            json::optional<&self::filename>("filename", "File of the server's machine to read"),
            json::optional<&self::config>("config", "The configuration itself, instead of a file"),
            json::optional<&self::ignore_errors>("ignore_errors",
                                                 "Go on after a command that fails"),
        };
        return table;
    }
};

task<reply> load_config(context& here, load_params params) {
    if (params.filename.empty() != params.config.has_value())
        co_return refuse(-EINVAL, "give either \"filename\" or \"config\"");
    outcome<configuration> parsed =
        params.config
            ? configuration::from_json(json::value(std::move(*params.config)), "\"config\"")
            : configuration::read(here.home_world(), params.filename);
    if (!parsed) co_return refuse(parsed.error());
    dispatcher local(here);
    apply_options options{.ignore_errors = params.ignore_errors};
    if (here.current_state() == state::startup) {
        outcome<> applied = co_await apply(*parsed, local, options);
        if (!applied) co_return refuse(applied.error());
        outcome<> started = co_await here.start();
        if (!started) co_return refuse(started.error());
    }
    outcome<> applied = co_await apply(*parsed, local, options);
    co_return to_reply(applied);
}

}  // namespace

std::span<const method> config_methods() noexcept {
    static constexpr method table[] = {
        declare<&get_subsystems>("framework_get_subsystems", state::runtime,
                                 "The subsystems in the order of their initialisation"),
        declare<&get_config>("framework_get_config", state::runtime,
                             "The methods that make the subsystem's present state again"),
        declare<&save_config>("save_config", state::runtime,
                              "The configuration that makes the present state again"),
        declare<&load_config>("load_config", state::both,
                              "Carries out a saved configuration, through startup if need be"),
    };
    return table;
}

}  // namespace nacre::rpc
