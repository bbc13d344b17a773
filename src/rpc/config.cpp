// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/rpc/config.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "nacre/core/log.hpp"

namespace nacre::rpc {
namespace {

constexpr std::uint64_t file_bytes_max = 16 * 1024 * 1024;
constexpr std::size_t file_values_max = 1'000'000;

/// "nacre.json: subsystem "bdev", entry 3"
std::string place(std::string_view file, std::string_view subsystem, std::size_t index) {
    return fmt::format("{}: subsystem \"{}\", entry {}", file, subsystem, index);
}

std::string place(const configuration& c, const configuration::command& at) {
    return fmt::format("{} ({})", place(c.name(), at.subsystem, at.index), at.method);
}

outcome<configuration::command> read_command(const json::value& from, const std::string& file,
                                             const std::string& subsystem, std::size_t index) {
    struct params {
        std::string method;
        std::optional<json::object> params;
    } read;
    json::decoder decode(from);
    decode.required("method", read.method).optional("params", read.params);
    if (outcome<> good = decode.finish(); !good)
        return fail(EINVAL,
                    fmt::format("{}: {}", place(file, subsystem, index), good.error().message));
    json::value given;
    if (read.params) given = json::value(std::move(*read.params));
    return configuration::command{subsystem, index, std::move(read.method), std::move(given)};
}

}  // namespace

outcome<configuration> configuration::parse(std::string_view text, std::string name) {
    outcome<json::value> root =
        json::parse(text, {.allow_comments = true, .values_max = file_values_max});
    if (!root) return fail(EINVAL, fmt::format("{}: {}", name, root.error().message));
    return from_json(*root, std::move(name));
}

outcome<configuration> configuration::read(world& w, const std::string& path) {
    outcome<std::string> text = w.read_text(path, file_bytes_max);
    if (!text) return fail(std::move(text.error()));
    return parse(*text, path);
}

outcome<configuration> configuration::from_json(const json::value& root, std::string name) {
    configuration made;
    made.name_ = std::move(name);
    const std::string& file = made.name_;
    if (!root.is_object())
        return fail(EINVAL, fmt::format("{}: expected an object with \"subsystems\", got {}", file,
                                        root.summary()));
    const json::value* list = root.find("subsystems");
    if (list == nullptr) {
        log::warning("rpc", fmt::format("{}: has no \"subsystems\"; nothing is configured", file));
        return made;
    }
    if (!list->is_array())
        return fail(EINVAL, fmt::format("{}: \"subsystems\" must be an array, got {}", file,
                                        list->summary()));
    for (std::size_t s = 0; s < list->size(); ++s) {
        std::string subsystem;
        json::value commands;
        json::decoder decode((*list)[s]);
        decode.required("subsystem", subsystem);
        decode.required("config", commands);
        if (outcome<> good = decode.finish(); !good)
            return fail(EINVAL, fmt::format("{}: subsystem {}: {}", file, s, good.error().message));
        if (commands.is_null()) continue;
        if (!commands.is_array())
            return fail(EINVAL, fmt::format("{}: subsystem \"{}\": \"config\" must be an array or "
                                            "null, got {}",
                                            file, subsystem, commands.summary()));
        for (std::size_t i = 0; i < commands.size(); ++i) {
            step next;
            const json::value& entry = commands[i];
            const std::size_t count = entry.is_array() ? entry.size() : 1;
            for (std::size_t j = 0; j < count; ++j) {
                auto read = read_command(entry.is_array() ? entry[j] : entry, file, subsystem, i);
                if (!read) return fail(std::move(read.error()));
                next.push_back(std::move(*read));
            }
            if (!next.empty()) made.steps_.push_back(std::move(next));
        }
    }
    return made;
}

namespace {

bool has_subsystem(context& here, std::string_view name) {
    return std::ranges::any_of(here.subsystems(),
                               [&](const subsystem& s) { return name == s.name; });
}

/// Whether the step belongs to the pass of `now`. All methods of a batch share a state; it runs in
/// startup if all of them may.
outcome<bool> belongs(const configuration& from, const configuration::step& step, context& here,
                      state now) {
    unsigned shared = static_cast<unsigned>(state::both);
    for (const configuration::command& c : step) {
        const method* m = here.methods().find(c.method);
        if (m == nullptr && !has_subsystem(here, c.subsystem)) {
            // SPDK's configurations have parts for what is not built in; they are no errors there.
            if (now == state::startup)
                log::notice("rpc", place(from, c) + ": there is no such subsystem; passed over");
            return false;
        }
        if (m == nullptr)
            return fail(ENOENT, fmt::format("{}: Method not found; `nacre rpc rpc_get_methods` "
                                            "lists those that exist",
                                            place(from, c)));
        shared &= static_cast<unsigned>(m->when);
    }
    if (shared == 0)
        return fail(EINVAL, fmt::format("{}: the methods of this batch are for different states",
                                        place(from, step.front())));
    const bool in_startup = allows(static_cast<state>(shared), state::startup);
    return in_startup == (now == state::startup);
}

task<void> call_one(dispatcher& target, const configuration::command& c,
                    std::optional<request_error>& problem) {
    reply answered = co_await target.call(c.method, c.params);
    if (!answered) problem = std::move(answered.error());
}

}  // namespace

task<outcome<>> apply(const configuration& from, dispatcher& target, apply_options options) {
    context& here = target.here();
    const state now = here.current_state();
    for (const configuration::step& step : from.steps()) {
        outcome<> done;
        outcome<bool> due = belongs(from, step, here, now);
        if (due && !*due) continue;
        if (!due) {
            // Found in both passes, told in the first.
            if (options.ignore_errors && now == state::runtime) continue;
            done = fail(std::move(due.error()));
        } else {
            std::vector<std::optional<request_error>> problems(step.size());
            scope calls;
            for (std::size_t i = 0; i < step.size(); ++i)
                calls.spawn(call_one(target, step[i], problems[i]));
            result<> called = co_await calls.join();
            (void)called;
            for (std::size_t i = 0; i < step.size() && done; ++i) {
                if (!problems[i]) continue;
                const int code = problems[i]->code;
                // Negated errno values are small; JSON-RPC's own codes mean a wrong request.
                done = fail(code < 0 && code > -4096 ? -code : EINVAL,
                            fmt::format("{}: {}", place(from, step[i]), problems[i]->message));
            }
        }
        if (done) continue;
        if (!options.ignore_errors) co_return done;
        log::warning("rpc", done.error().message + " (ignored)");
    }
    co_return outcome<>();
}

task<outcome<json::value>> save_subsystem(context& here, std::string name) {
    const auto list = here.subsystems();
    const auto found =
        std::ranges::find_if(list, [&](const subsystem& s) { return name == s.name; });
    if (found == list.end()) co_return fail(ENOENT, fmt::format("Subsystem '{}' not found", name));
    json::value commands;
    if (found->configuration != nullptr) commands = co_await found->configuration(here);
    co_return commands;
}

task<json::value> save(context& here) {
    json::array subsystems;
    for (const subsystem& s : here.subsystems()) {
        outcome<json::value> commands = co_await save_subsystem(here, s.name);
        NACRE_ASSERT(commands.has_value());
        subsystems.emplace_back(
            json::object{{"subsystem", s.name}, {"config", std::move(*commands)}});
    }
    co_return json::object{{"subsystems", std::move(subsystems)}};
}

task<std::string> save_text(context& here) {
    json::value saved = co_await save(here);
    co_return saved.dump_pretty() + "\n";
}

}  // namespace nacre::rpc
