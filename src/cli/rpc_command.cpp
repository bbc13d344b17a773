// SPDX-License-Identifier: BSD-3-Clause
//
// `nacre rpc`: one call of a running daemon.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <deque>
#include <memory>

#include "commands.hpp"
#include "nacre/core/parse.hpp"
#include "nacre/rpc/client.hpp"
#include "nacre/rpc/kind_methods.hpp"
#include "nacre/rpc/server.hpp"

namespace nacre::cli {
namespace {

constexpr const char* quickstart_socket = "./nacre-data/rpc.sock";

struct rpc_arguments {
    std::string socket;
    std::string token_file;
    std::string method;
    std::vector<std::string> parameters;
    std::string timeout = "60";
    bool list = false;
    bool help_method = false;
    bool print_json = false;
};

/// That of a quickstart in this folder, if there is one, else the usual one.
std::string default_socket() {
    if (real_world().file_exists(quickstart_socket)) return quickstart_socket;
    return rpc::server_options().path;
}

int list_methods(const rpc::method_table& known, const std::string& filter, bool as_json) {
    json::array schemas;
    for (const rpc::method* m : known.all()) {
        if (std::string_view(m->name).find(filter) == std::string_view::npos) continue;
        if (as_json)
            schemas.push_back(rpc::schema(*m));
        else
            fmt::print("{:34}{}\n", m->name, m->help);
    }
    if (as_json) fmt::print("{}\n", json::value(std::move(schemas)).dump());
    return 0;
}

int document_method(const rpc::method_table& known, const std::string& name, bool as_json) {
    const rpc::method* m = known.find(name);
    if (m == nullptr) {
        report_failure(fmt::format("{}: nacre has no such method; `nacre rpc --list` names them",
                                   name.empty() ? "--help-method" : name));
        return 2;
    }
    if (as_json)
        fmt::print("{}\n", rpc::schema(*m).dump());
    else
        fmt::print("{}", rpc::document(*m));
    return 0;
}

/// As SPDK's rpc.py prints: a text as it is, all else as JSON.
void print_answer(const json::value& answer, bool as_json) {
    const std::optional<std::string_view> text = answer.as_string();
    if (as_json)
        fmt::print("{}\n", answer.dump());
    else if (text)
        fmt::print("{}\n", *text);
    else
        fmt::print("{}\n", answer.dump_pretty());
}

int call(const rpc::method_table& known, const rpc_arguments& a) {
    outcome<json::value> params = rpc::params_from_arguments(known, a.method, a.parameters);
    if (!params) {
        report_failure(fmt::format("{}: {}; `nacre rpc --help-method {}` says what it takes",
                                   a.method, params.error().message, a.method));
        return 2;
    }
    outcome<std::chrono::nanoseconds> timeout = parse_duration(a.timeout);
    if (!timeout) {
        report_failure("--timeout: " + timeout.error().message);
        return 2;
    }
    rpc::client_options options;
    options.timeout_ns = static_cast<std::uint64_t>(timeout->count());
    if (!a.token_file.empty()) {
        outcome<std::string> token = real_world().read_text(a.token_file, 1024);
        if (!token) return report_failure(token.error().message);
        options.token = token->substr(0, token->find_first_of("\r\n"));
    }
    const std::string socket = a.socket.empty() ? default_socket() : a.socket;
    outcome<rpc::reply> answered =
        rpc::call_once(real_world(), socket, a.method, std::move(*params), options);
    if (!answered) return report_failure(answered.error().message);
    const rpc::reply& reply = *answered;
    if (reply) {
        print_answer(*reply, a.print_json);
        return 0;
    }
    if (a.print_json) fmt::print("{}\n", reply.error().to_json().dump());
    return report_failure(
        fmt::format("{}: {} (code {})", a.method, reply.error().message, reply.error().code));
}

int run(const rpc_arguments& a, const bdev_kinds& kinds) {
    rpc::method_table known = rpc::all_methods();
    std::deque<rpc::kind_methods> added;
    for (const bdev_kind* kind : kinds) added.emplace_back(*kind).add_to(known);
    if (a.list) return list_methods(known, a.method, a.print_json);
    if (a.help_method) return document_method(known, a.method, a.print_json);
    if (!a.method.empty()) return call(known, a);
    report_failure("which method? `nacre rpc --list` names them");
    return 2;
}

}  // namespace

void add_rpc(CLI::App& program, action& chosen, const bdev_kinds& kinds) {
    auto a = std::make_shared<rpc_arguments>();
    CLI::App& rpc = *program.add_subcommand("rpc", "Call a method of a running `nacre serve`");
    rpc.footer(
        "Examples:\n"
        "  nacre rpc bdev_get_bdevs\n"
        "  nacre rpc bdev_malloc_create name=m0 num_blocks=16384 block_size=4096\n"
        "  nacre rpc bdev_malloc_create '{\"name\": \"m0\", \"num_blocks\": 64, \"block_size\": "
        "512}'\n"
        "  nacre rpc --list raid\n"
        "  nacre rpc --help-method bdev_raid_create");
    rpc.add_option("method", a->method, "The method, as SPDK's rpc.py names it")
        ->type_name("METHOD");
    rpc.add_option("parameters", a->parameters, "name=value …, or one JSON object")
        ->type_name("PARAMETERS");
    rpc.add_option("-s,--socket", a->socket,
                   "Its RPC socket, or 127.0.0.1:PORT; if absent ./nacre-data/rpc.sock where there "
                   "is one, else "
                   "/var/tmp/nacre.sock")
        ->type_name("PATH|ADDRESS");
    rpc.add_option("--token-file", a->token_file, "Holds the token that `serve --rpc-tcp` asks for")
        ->type_name("FILE");
    rpc.add_option("-t,--timeout", a->timeout, "Seconds to wait for the answer")
        ->capture_default_str();
    rpc.add_flag("--json", a->print_json, "Print the answer, or the error, as one line of JSON");
    CLI::Option* list = rpc.add_flag("--list", a->list,
                                     "List the methods, or those with METHOD in "
                                     "their names");
    rpc.add_flag("--help-method", a->help_method, "Say what METHOD is for and what it takes")
        ->excludes(list);
    rpc.callback([a, kinds, &chosen] { chosen = [a, kinds] { return run(*a, kinds); }; });
}

}  // namespace nacre::cli
