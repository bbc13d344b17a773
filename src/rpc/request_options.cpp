// SPDX-License-Identifier: BSD-3-Clause
#include "request_options.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace nacre::rpc {
namespace {

reply would(const method& of, const char* what, json::object params) {
    json::object answer{{"dry_run", true}, {"method", of.name}, {"would", what}};
    if (of.fields != nullptr) answer.append("params", std::move(params));
    return json::value(std::move(answer));
}

/// Empty if a request for `wanted`, of which `given` was typed, describes what `have` made.
std::string difference(const method& of, const json::value& given, const json::object& wanted,
                       const json::object& have) {
    for (const json::field& f : of.fields()) {
        const json::value* asked = wanted.find(f.name);
        const bool was_given = given.find(f.name) != nullptr;
        // A secret is never written, so that nobody can say whether it is the same.
        if (asked == nullptr && was_given) return fmt::format("and {} cannot be compared", f.name);
        if (asked == nullptr || (f.derived && !was_given)) continue;
        const json::value* is = have.find(f.name);
        if (is == nullptr) return fmt::format("without {}", f.name);
        if (*is != *asked)
            return fmt::format("with {} {}, not {}", f.name, is->dump(), asked->dump());
    }
    return {};
}

/// As `difference`, of something that may have been made in any other way.
std::string compare(const method& of, const json::value& given, const json::object& wanted,
                    const existing& found) {
    // Of several commands the first makes it; those after it set something of it.
    const json::value& command =
        found.made_by.if_array() != nullptr ? found.made_by[0] : found.made_by;
    const std::optional<std::string_view> made_by = command["method"].as_string();
    if (!made_by) return "but not by a method with parameters to compare";
    if (*made_by != of.name) return fmt::format("made by {}", *made_by);
    outcome<json::object> have = of.normalize(command["params"]);
    if (!have) return "and cannot be compared as it is now: " + have.error().message;
    return difference(of, given, wanted, *have);
}

/// What people call the thing: the first parameter that is a required text, or the name given.
std::string subject(const method& of, const json::object& wanted) {
    if (const json::value* name = wanted.find("name"); name != nullptr && name->is_string())
        return *name->if_string();
    for (const json::field& f : of.fields())
        if (const json::value* v = wanted.find(f.name); v != nullptr && v->is_string())
            return *v->if_string();
    return of.name;
}

}  // namespace

std::span<const json::field> request_options::fields() {
    using self = request_options;
    static constexpr json::field table[] = {
        json::optional<&self::dry_run>("dry_run", "Check, and say what would be done"),
        json::optional<&self::idempotent>("idempotent",
                                          "What exists with the same configuration is a success"),
    };
    return table;
}

std::expected<request_options, request_error> take_options(const method& of, json::value& params) {
    const json::object* given = params.if_object();
    if (given == nullptr) return {};
    json::object ours;
    json::object theirs;
    for (const auto& [name, v] : *given) {
        const bool is_option = std::ranges::any_of(
            request_options::fields(), [&](const json::field& f) { return name == f.name; });
        (is_option ? ours : theirs).append(name, v);
    }
    if (ours.empty()) return {};
    outcome<request_options> options = json::decode<request_options>(json::value(std::move(ours)));
    if (!options) return std::unexpected(detail::undecodable(of, options.error()));
    if (options->idempotent && of.creates == nullptr)
        return refuse(
            invalid_params,
            fmt::format("parameter \"idempotent\": {} makes nothing that has a name", of.name));
    params = json::value();
    if (of.fields != nullptr || !theirs.empty()) params = json::value(std::move(theirs));
    return *options;
}

std::optional<reply> settle(const method& of, context& here, const json::value& params,
                            request_options options) {
    if (!options.dry_run && !options.idempotent) return std::nullopt;
    json::object wanted;
    if (of.fields == nullptr) {
        if (!params.is_null())
            if (std::optional<request_error> why = detail::takes_none(of))
                return reply(std::unexpected(std::move(*why)));
    } else {
        outcome<json::object> all = of.normalize(params);
        if (!all) return reply(std::unexpected(detail::undecodable(of, all.error())));
        wanted = std::move(*all);
    }
    if (of.creates == nullptr) return would(of, "call", std::move(wanted));
    std::optional<existing> found = of.creates(here, wanted);
    if (!found) {
        if (options.dry_run) return would(of, "create", std::move(wanted));
        return std::nullopt;
    }
    const std::string differs = compare(of, params, wanted, *found);
    if (!options.idempotent)
        return reply(refuse(-EEXIST, fmt::format("{}: File exists", subject(of, wanted))));
    if (!differs.empty())
        return reply(refuse(-EEXIST, fmt::format("{}: File exists, {}; delete it first, or ask "
                                                 "for what it is",
                                                 subject(of, wanted), differs)));
    if (options.dry_run) return would(of, "nothing", std::move(wanted));
    return reply(std::move(found->answer));
}

std::optional<existing> existing_bdev(context& here, std::string_view name, json::value answer) {
    bdev* const device = here.bdevs().find(name);
    if (device == nullptr) return std::nullopt;
    return existing{device->configuration(), std::move(answer)};
}

std::optional<existing> bdev_of_that_name(context& here, const json::object& params) {
    const json::value* name = params.find("name");
    if (name == nullptr || !name->is_string() || name->if_string()->empty()) return std::nullopt;
    return existing_bdev(here, *name->if_string(), *name);
}

}  // namespace nacre::rpc
