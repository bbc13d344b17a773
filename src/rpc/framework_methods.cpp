// SPDX-License-Identifier: BSD-3-Clause
//
// Methods on the server and the application itself.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <csignal>

#include "tables.hpp"

namespace nacre::rpc {

namespace {

struct get_methods_params {
    bool current = false;
    bool include_aliases = false;

    static std::span<const json::field> fields() {
        using self = get_methods_params;
        static constexpr json::field table[] = {
            json::optional<&self::current>("current", "Only those callable in the present state"),
            json::optional<&self::include_aliases>("include_aliases",
                                                   "Deprecated names too; there are none"),
        };
        return table;
    }
};

task<reply> get_methods(context& here, get_methods_params params) {
    json::array names;
    for (const method* m : here.methods().all())
        if (!params.current || allows(m->when, here.current_state())) names.emplace_back(m->name);
    co_return json::value(std::move(names));
}

struct get_schema_params {
    std::string method;

    static std::span<const json::field> fields() {
        static constexpr json::field table[] = {
            json::optional<&get_schema_params::method>("method", "Only this one"),
        };
        return table;
    }
};

task<reply> get_schema(context& here, get_schema_params params) {
    json::array schemas;
    for (const method* m : here.methods().all())
        if (params.method.empty() || params.method == m->name) schemas.push_back(schema(*m));
    if (schemas.empty())
        co_return refuse(-ENOENT, fmt::format("{}: no such method", params.method));
    co_return json::value(std::move(schemas));
}

task<reply> get_version(context& here) {
    const process_identity& who = here.identity();
    co_return json::value(json::object{
        {"version", fmt::format("{} v{}.{}{}{}", who.name, who.major, who.minor,
                                who.patch == 0 ? "" : fmt::format(".{}", who.patch), who.suffix)},
        {"fields", json::object{{"major", who.major},
                                {"minor", who.minor},
                                {"patch", who.patch},
                                {"suffix", who.suffix}}}});
}

enum class kill_signal : int {
    interrupt = SIGINT,
    terminate = SIGTERM,
    quit = SIGQUIT,
    hang_up = SIGHUP,
    kill = SIGKILL,
    user1 = SIGUSR1
};
constexpr auto json_names(kill_signal) {
    return std::array<json::enum_name<kill_signal>, 6>{{{"SIGINT", kill_signal::interrupt},
                                                        {"SIGTERM", kill_signal::terminate},
                                                        {"SIGQUIT", kill_signal::quit},
                                                        {"SIGHUP", kill_signal::hang_up},
                                                        {"SIGKILL", kill_signal::kill},
                                                        {"SIGUSR1", kill_signal::user1}}};
}

struct kill_params {
    kill_signal sig_name = kill_signal::terminate;

    static std::span<const json::field> fields() {
        static constexpr json::field table[] = {
            json::required<&kill_params::sig_name>("sig_name", "Signal to act as if received"),
        };
        return table;
    }
};

task<reply> kill_instance(context& here, kill_params params) {
    if (here.application() == nullptr)
        co_return refuse(-ENOTSUP, "this program cannot be ended by RPC");
    here.application()->request_shutdown(static_cast<int>(params.sig_name));
    co_return json::value(true);
}

task<reply> start_init(context& here) {
    outcome<> started = co_await here.start();
    if (!started)
        co_return refuse(internal_error,
                         "framework_initialization failed: " + started.error().message);
    co_return json::value(true);
}

task<reply> wait_init(context& here) {
    if (here.current_state() == state::runtime) co_return json::value(true);
    result<> started = co_await here.wait_started();
    if (!started)
        co_return refuse(-started.error().to_errno(),
                         "the framework was not initialized: " + describe(started.error()));
    co_return json::value(true);
}

}  // namespace

std::span<const method> framework_methods() noexcept {
    static constexpr method table[] = {
        declare<&get_version>("spdk_get_version", state::both, "The server's version"),
        declare<&get_methods>("rpc_get_methods", state::both, "Names of all methods"),
        declare<&get_schema>("rpc_get_schema", state::both,
                             "What each method is for and the parameters that it takes"),
        declare<&kill_instance>("spdk_kill_instance", state::runtime, "Ends the program"),
        declare<&start_init>("framework_start_init", state::startup,
                             "Initialises the subsystems and goes to the runtime state"),
        declare<&wait_init>("framework_wait_init", state::both,
                            "Answers once the runtime state is reached"),
    };
    return table;
}

}  // namespace nacre::rpc
