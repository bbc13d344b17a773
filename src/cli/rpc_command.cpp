// SPDX-License-Identifier: BSD-3-Clause
//
// `nacre rpc`: one call of a running daemon.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <deque>
#include <memory>

#include "commands.hpp"
#include "known_methods.hpp"
#include "nacre/core/parse.hpp"
#include "nacre/rpc/client.hpp"
#include "nacre/rpc/documents.hpp"
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
    bool schema = false;
    bool plugin = false;
    bool idempotent = false;
    bool dry_run = false;
    bool print_json = false;
};

/// That of a quickstart in this folder, if there is one, else the usual one.
std::string default_socket() {
    if (real_world().file_exists(quickstart_socket)) return quickstart_socket;
    return rpc::server_options().path;
}

int list_methods(const rpc::method_table& known, const std::string& filter, bool as_json) {
    if (as_json) {
        fmt::print("{}\n", json::value(rpc::schemas(known, filter)).dump());
        return 0;
    }
    for (const rpc::method* m : known.all())
        if (std::string_view(m->name).find(filter) != std::string_view::npos)
            fmt::print("{:34}{}\n", m->name, m->help);
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

outcome<rpc::client_options> client_options_of(const rpc_arguments& a) {
    outcome<std::chrono::nanoseconds> timeout = parse_duration(a.timeout);
    if (!timeout) return fail(EINVAL, "--timeout: " + timeout.error().message);
    rpc::client_options options;
    options.timeout_ns = static_cast<std::uint64_t>(timeout->count());
    if (a.token_file.empty()) return options;
    outcome<std::string> token = real_world().read_text(a.token_file, 1024);
    if (!token) return fail(std::move(token.error()));
    options.token = token->substr(0, token->find_first_of("\r\n"));
    return options;
}

/// Of this program, or of the server whose socket was named: it may have methods of its own.
int generate(const rpc::method_table& known, const rpc_arguments& a) {
    json::array schemas = rpc::schemas(known, a.method);
    if (!a.socket.empty()) {
        outcome<rpc::client_options> options = client_options_of(a);
        if (!options) return report_failure(options.error().message);
        outcome<rpc::reply> answered = rpc::call_once(real_world(), a.socket, "rpc_get_schema",
                                                      json::value(), std::move(*options));
        if (!answered) return report_failure(answered.error().message);
        if (!*answered || !(*answered)->is_array())
            return report_failure(a.socket + ": does not know rpc_get_schema; is it nacre?");
        schemas = std::move(*(*answered)->if_array());
        std::erase_if(schemas, [&](const json::value& m) {
            return m["method"].as_string().value_or("").find(a.method) == std::string_view::npos;
        });
    }
    if (a.schema)
        fmt::print("{}\n", json::value(std::move(schemas)).dump_pretty());
    else
        fmt::print("{}", rpc::rpc_py_plugin(
                             schemas, a.socket.empty() ? "nacre" : "the server at " + a.socket));
    return 0;
}

/// Of a method that this program does not have, the server knows the types.
outcome<json::value> params_of(const rpc::method_table& known, const rpc_arguments& a,
                               const std::string& socket, const rpc::client_options& options) {
    const bool as_json = a.parameters.size() == 1 && a.parameters[0].starts_with('{');
    if (known.find(a.method) != nullptr || a.parameters.empty() || as_json)
        return rpc::params_from_arguments(known, a.method, a.parameters);
    outcome<rpc::reply> answered = rpc::call_once(real_world(), socket, "rpc_get_schema",
                                                  json::object{{"method", a.method}}, options);
    const bool is_known = answered && *answered && (*answered)->size() == 1;
    return rpc::params_from_arguments(is_known ? (**answered)[0] : json::value(), a.parameters);
}

int call(const rpc::method_table& known, const rpc_arguments& a) {
    outcome<rpc::client_options> options = client_options_of(a);
    if (!options) {
        report_failure(options.error().message);
        return options.error().code.is(EINVAL) ? 2 : 1;
    }
    const std::string socket = a.socket.empty() ? default_socket() : a.socket;
    outcome<json::value> params = params_of(known, a, socket, *options);
    if (!params) {
        report_failure(fmt::format("{}: {}; `nacre rpc --help-method {}` says what it takes",
                                   a.method, params.error().message, a.method));
        return 2;
    }
    for (const auto& [name, wanted] :
         {std::pair{"dry_run", a.dry_run}, {"idempotent", a.idempotent}}) {
        if (!wanted) continue;
        if (params->is_null()) *params = json::object();
        params->if_object()->set(name, true);
    }
    outcome<rpc::reply> answered =
        rpc::call_once(real_world(), socket, a.method, std::move(*params), std::move(*options));
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
    const known_methods methods(kinds);
    const rpc::method_table& known = methods.table();
    if (a.schema || a.plugin) return generate(known, a);
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
        "  nacre rpc --help-method bdev_raid_create\n"
        "  nacre rpc --rpc-py-plugin >nacre_rpc.py   # rpc.py --plugin nacre_rpc METHOD ...");
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
    rpc.add_flag("--idempotent", a->idempotent,
                 "Succeed if what METHOD makes exists with the same configuration");
    rpc.add_flag("--dry-run", a->dry_run, "Check, and say what would be done, without doing it");
    rpc.add_flag("--json", a->print_json, "Print the answer, or the error, as one line of JSON");
    CLI::Option* list = rpc.add_flag("--list", a->list,
                                     "List the methods, or those with METHOD in "
                                     "their names");
    rpc.add_flag("--help-method", a->help_method, "Say what METHOD is for and what it takes")
        ->excludes(list);
    rpc.add_flag("--schema", a->schema,
                 "Print what each method takes, as JSON; of the server, if --socket is given")
        ->excludes(list);
    rpc.add_flag(
           "--rpc-py-plugin", a->plugin,
           "Print a plug-in of SPDK's rpc.py for the methods that it lacks; of the server, if "
           "--socket is given")
        ->excludes(list);
    rpc.callback([a, kinds, &chosen] { chosen = [a, kinds] { return run(*a, kinds); }; });
}

}  // namespace nacre::cli
