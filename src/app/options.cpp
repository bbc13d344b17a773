// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/app/options.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "nacre/core/parse.hpp"
#include "nacre/core/uri.hpp"

namespace nacre {
namespace {

constexpr const char* group = "Process";

/// An option whose text `parse` reads into *to, with its sentence when it cannot.
template <typename Parse, typename T>
CLI::Option* add_parsed(CLI::App& command, const char* name, T& to, Parse parse, const char* help) {
    return command
        .add_option_function<std::string>(
            name,
            [parse, &to, name](const std::string& text) {
                auto parsed = parse(text);
                if (!parsed) throw CLI::ValidationError(name, parsed.error().message);
                to = std::move(*parsed);
            },
            help)
        ->group(group);
}

outcome<log::level> parse_log_level(const std::string& text) {
    result<log::level> level = log::parse_level(text);
    if (!level)
        return fail(EINVAL,
                    fmt::format("\"{}\": expected error, warning, notice, info or debug", text));
    return *level;
}

outcome<reactor_mode> parse_mode(const std::string& text) {
    if (text == "auto") return reactor_mode::automatic;
    if (text == "poll") return reactor_mode::poll;
    return fail(EINVAL, fmt::format("\"{}\": expected auto or poll", text));
}

outcome<huge_page_policy> parse_huge_pages(const std::string& text) {
    if (text == "transparent") return huge_page_policy::transparent;
    if (text == "never") return huge_page_policy::never;
    return fail(EINVAL, fmt::format("\"{}\": expected transparent or never", text));
}

outcome<unsigned> parse_core(const std::string& text) {
    outcome<std::uint64_t> core = parse_uint(text, cpu_set::cpus_max - 1);
    if (!core) return fail(std::move(core.error()));
    return static_cast<unsigned>(*core);
}

}  // namespace

void app_options::add_to(CLI::App& command) {
    add_parsed(
        command, "-m,--cores", cores, [](const std::string& text) { return parse_cpus(text); },
        "One pinned reactor on each of these: 0-3,5 or 0x2f (a mask); else one that floats")
        ->type_name("LIST|MASK");
    add_parsed(command, "--main-core", main_core, parse_core, "Core of the main thread")
        ->type_name("CORE");
    add_parsed(command, "--mode", mode, parse_mode,
               "auto: sleeps when idle; poll: never, for the lowest latency")
        ->type_name("auto|poll");
    add_parsed(
        command, "--mem-size", memory_bytes_max,
        [](const std::string& text) { return parse_size(text); },
        "At most so much memory for data (RAM disks, buffers), such as 2GiB")
        ->type_name("SIZE");
    add_parsed(command, "--huge-pages", huge_pages, parse_huge_pages,
               "Whether large buffers lie in huge pages")
        ->type_name("transparent|never");
    command.add_option("-r,--rpc-socket", rpc_socket, "Path of the RPC socket")
        ->type_name("PATH")
        ->group(group);
    command
        .add_option("--rpc-tcp", rpc_tcp,
                    "Answer RPC there, too, to who has the token: 127.0.0.1:5260 (port 0: a free "
                    "one)")
        ->type_name("ADDRESS")
        ->group(group);
    command
        .add_option("--rpc-token-file", rpc_token_file,
                    "Holds the token for --rpc-tcp; made if there is none (default: the RPC "
                    "socket's path with .token)")
        ->type_name("FILE")
        ->group(group);
    CLI::Option* file =
        command.add_option("-c,--config", config_file, "Configuration, as save_config writes it")
            ->type_name("FILE")
            ->group(group);
    command.add_option("--config-text", config_text, "Configuration as it stands")
        ->type_name("JSON")
        ->excludes(file)
        ->group(group);
    command
        .add_flag_callback(
            "--ignore-config-errors", [this] { config_errors_fatal = false; },
            "Go on after a command of the configuration that fails")
        ->group(group);
    command
        .add_flag("--wait-for-rpc", wait_for_rpc,
                  "Stay in the state startup until the RPC framework_start_init")
        ->group(group);
    command
        .add_flag("--core-dumps", core_dumps,
                  "Leave a core file at a crash, as large as the hard limit allows")
        ->group(group);
    add_parsed(command, "--log-level", log_level, parse_log_level,
               "error, warning, notice, info or debug")
        ->type_name("LEVEL");
    command.add_option("--log-flag", log_flags, "Turn a component's debug output on (repeatable)")
        ->type_name("FLAG")
        ->expected(1)
        ->take_all()
        ->group(group);
}

outcome<> app_options::check() const {
    if (name.empty()) return fail(EINVAL, "an application needs a name");
    if (!config_file.empty() && !config_text.empty())
        return fail(EINVAL, "--config and --config-text: give one of the two");
    if (main_core && !cores.empty() && !cores.contains(*main_core))
        return fail(EINVAL, fmt::format("--main-core {}: is not one of --cores {}", *main_core,
                                        cores.to_list()));
    if (wait_for_rpc && rpc_socket.empty())
        return fail(EINVAL, "--wait-for-rpc: needs an RPC socket to wait on (--rpc-socket)");
    std::string_view address(rpc_tcp);
    const bool any_port = address.ends_with(":0");
    if (any_port) address.remove_suffix(2);
    if (!rpc_tcp.empty() && !parse_host_and_port(address, any_port ? 1 : 0))
        return fail(EINVAL, fmt::format("--rpc-tcp {}: not an address with a port, such as "
                                        "127.0.0.1:5260",
                                        rpc_tcp));
    if (!rpc_tcp.empty() && rpc_socket.empty() && rpc_token_file.empty())
        return fail(EINVAL, "--rpc-tcp: needs a token; say where it is (--rpc-token-file)");
    if (reactors == 0 || reactors > reactor::reactors_max)
        return fail(EINVAL,
                    fmt::format("{} reactors: must be 1 to {}", reactors, reactor::reactors_max));
    return {};
}

}  // namespace nacre
