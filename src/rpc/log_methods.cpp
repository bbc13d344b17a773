// SPDX-License-Identifier: BSD-3-Clause
//
// Methods on the log.
#include <fmt/format.h>

#include <array>

#include "nacre/core/log.hpp"
#include "tables.hpp"

namespace nacre::log {

// As SPDK names them; found by the enum's codec.
constexpr auto json_names(level) {
    return std::array<json::enum_name<level>, 5>{{{"ERROR", level::error},
                                                  {"WARNING", level::warning},
                                                  {"NOTICE", level::notice},
                                                  {"INFO", level::info},
                                                  {"DEBUG", level::debug}}};
}

}  // namespace nacre::log

namespace nacre::rpc {

namespace {

struct level_params {
    log::level level = log::level::notice;

    static std::span<const json::field> fields() {
        static constexpr json::field table[] = {
            json::required<&level_params::level>("level", "The highest level that is shown"),
        };
        return table;
    }
};

struct flag_params {
    std::string flag;

    static std::span<const json::field> fields() {
        static constexpr json::field table[] = {
            json::required<&flag_params::flag>("flag", "Name of a log flag, or \"all\""),
        };
        return table;
    }
};

struct enabled_params {
    bool enabled = false;

    static std::span<const json::field> fields() {
        static constexpr json::field table[] = {
            json::required<&enabled_params::enabled>("enabled", "On or off"),
        };
        return table;
    }
};

json::value upper_case(log::level l) {
    for (const auto& each : json_names(l))
        if (each.value == l) return std::string_view(each.text);
    return {};
}

task<reply> set_print_level(context&, level_params params) {
    log::set_print_level(params.level);
    co_return json::value(true);
}
task<reply> get_print_level(context&) { co_return upper_case(log::print_level()); }
task<reply> set_level(context&, level_params params) {
    log::set_level(params.level);
    co_return json::value(true);
}
task<reply> get_level(context&) { co_return upper_case(log::current_level()); }

reply switch_flag(const std::string& name, bool on) {
    if (result<> done = log::set_flag(name, on); !done)
        return refuse(invalid_params,
                      fmt::format("invalid log flag: {}; log_get_flags lists them", name));
    return json::value(true);
}
task<reply> set_flag(context&, flag_params params) { co_return switch_flag(params.flag, true); }
task<reply> clear_flag(context&, flag_params params) { co_return switch_flag(params.flag, false); }

task<reply> get_flags(context&) {
    json::object flags;
    for (log::flag* f = log::first_flag(); f != nullptr; f = f->next())
        flags.set(f->name(), f->enabled());
    co_return json::value(std::move(flags));
}

task<reply> enable_timestamps(context&, enabled_params params) {
    log::enable_timestamps(params.enabled);
    co_return json::value(true);
}

}  // namespace

std::span<const method> log_methods() noexcept {
    static constexpr method table[] = {
        declare<&enable_timestamps>("log_enable_timestamps", state::runtime,
                                    "Whether each line on standard error begins with the time"),
        declare<&get_flags>("log_get_flags", state::both, "Log flags and whether they are on"),
        declare<&clear_flag>("log_clear_flag", state::both, "Turns a component's debug output off"),
        declare<&set_flag>("log_set_flag", state::both, "Turns a component's debug output on"),
        declare<&get_level>("log_get_level", state::both, "Level of what goes to the second sink"),
        declare<&set_level>("log_set_level", state::both, "Sets it"),
        declare<&get_print_level>("log_get_print_level", state::both,
                                  "Level of what goes to standard error"),
        declare<&set_print_level>("log_set_print_level", state::both, "Sets it"),
    };
    return table;
}

}  // namespace nacre::rpc
