// SPDX-License-Identifier: BSD-3-Clause
//
// `nacre serve`: the daemon.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "commands.hpp"
#include "nacre/app/app.hpp"
#include "nacre/core/parse.hpp"
#include "nacre/rpc/server.hpp"
#include "nacre/serve/nbd.hpp"
#include "quickstart.hpp"

namespace nacre::cli {
namespace {

constexpr const char* quickstart_folder = "nacre-data";

struct serve_arguments {
    app_options options;
    std::string data;
    bool with_quickstart = false;
    bool print_json = false;
};

/// The folder as it is whatever the working directory is, without a trailing slash.
outcome<std::string> absolute_path(const std::string& path) {
    std::error_code problem;
    std::filesystem::path full = std::filesystem::absolute(path, problem).lexically_normal();
    if (problem) return fail(problem.value(), fmt::format("{}: {}", path, problem.message()));
    if (!full.has_filename()) full = full.parent_path();
    return full.string();
}

/// What --data stands for.
outcome<> use_folder(serve_arguments& a, std::optional<quickstart>& start) {
    app_options& o = a.options;
    if (a.data.empty()) {
        if (o.rpc_socket.empty()) o.rpc_socket = rpc::server_options().path;
        return {};
    }
    outcome<std::string> folder = absolute_path(a.data);
    if (!folder) return fail(std::move(folder.error()));
    a.data = *folder;
    if (o.rpc_socket.empty()) o.rpc_socket = a.data + "/rpc.sock";
    if (a.with_quickstart) {
        start.emplace(real_world(), a.data);
        return start->prepare(o);
    }
    if (outcome<> made = real_world().make_directory(a.data); !made) return made;
    const std::string config = a.data + "/config.json";
    if (o.config_file.empty() && o.config_text.empty() && real_world().file_exists(config))
        o.config_file = config;
    return {};
}

void print_json(app& application) {
    json::array exports;
    for (const nbd::export_info& e : application.exports().list())
        exports.emplace_back(json::encode(e));
    json::object line{{"pid", real_world().process_id()},
                      {"socket", application.options().rpc_socket},
                      {"exports", std::move(exports)}};
    if (!application.options().rpc_tcp.empty()) {
        line.append("tcp", application.options().rpc_tcp);
        line.append("token_file", application.options().rpc_token_file);
    }
    fmt::print("{}\n", json::value(std::move(line)).dump());
}

void print_for_people(app& application) {
    fmt::print("nacre {} is ready (process {}{}).\n", NACRE_VERSION, real_world().process_id(),
               application.options().wait_for_rpc ? ", waits for framework_start_init" : "");
    fmt::print("  RPC   {}\n", application.options().rpc_socket);
    if (!application.options().rpc_tcp.empty())
        fmt::print("  RPC   {}  (token in {})\n", application.options().rpc_tcp,
                   application.options().rpc_token_file);
    for (const nbd::export_info& e : application.exports().list())
        fmt::print("  NBD   {}  ({}, {}{})\n", e.uri, e.bdev_name, format_size(e.size_bytes),
                   e.readonly ? ", read-only" : "");
}

void print_quickstart(app& application, const quickstart& start) {
    const std::string uri =
        fmt::format("'nbd+unix:///{}?socket={}'", quickstart::volume, start.path("nbd.sock"));
    print_for_people(application);
    fmt::print(
        "\n{0} {1} 1 GiB, each block on both {2} and {3}.\n"
        "\nUse it from another terminal, as the same user:\n"
        "  qemu-img info {4}\n"
        "  nbdcopy SOME_FILE {4}\n"
        "  nacre rpc -s {5} bdev_get_bdevs\n"
        "\nCtrl-C or `kill {6}` stops it; the next start finds the same data.\n",
        quickstart::volume, start.made_now() ? "is new:" : "is back:", start.path("leg0.img"),
        start.path("leg1.img"), uri, application.options().rpc_socket, real_world().process_id());
}

int run(serve_arguments& a, const bdev_kinds& kinds) {
    if (a.with_quickstart && a.data.empty()) a.data = quickstart_folder;
    if (a.with_quickstart && !(a.options.config_file.empty() && a.options.config_text.empty())) {
        report_failure("--quickstart has a configuration of its own; leave --config out");
        return 2;
    }
    std::optional<quickstart> start;
    if (outcome<> good = use_folder(a, start); !good) return report_failure(good.error().message);
    if (outcome<> good = a.options.check(); !good) {
        report_failure(good.error().message);
        return 2;
    }
    app application(a.options);
    for (const bdev_kind* kind : kinds) application.add_kind(*kind);
    if (start) application.on_start([&start](app& running) { return start->bring_up(running); });
    if (outcome<> started = application.start(); !started)
        return report_failure(started.error().message);
    if (a.print_json)
        print_json(application);
    else if (start)
        print_quickstart(application, *start);
    else
        print_for_people(application);
    std::fflush(stdout);
    return application.wait();
}

}  // namespace

void add_serve(CLI::App& program, action& chosen, const bdev_kinds& kinds) {
    auto a = std::make_shared<serve_arguments>();
    CLI::App& serve =
        *program.add_subcommand("serve", "The daemon: block devices, RPC server and exports");
    serve.footer(
        "Example:\n  nacre serve --quickstart\n"
        "makes ./nacre-data with a mirrored volume of 1 GiB, and serves it by NBD.");
    serve.add_flag("--quickstart", a->with_quickstart, "Keep a working volume, vol0, under --data");
    serve
        .add_option("--data", a->data,
                    "Folder of rpc.sock and config.json; with --quickstart ./nacre-data if absent")
        ->type_name("DIR");
    serve.add_flag("--json", a->print_json,
                   "Print one line when ready: {\"pid\", \"socket\", \"exports\"}");
    a->options.add_to(serve);
    serve.callback([a, kinds, &chosen] { chosen = [a, kinds] { return run(*a, kinds); }; });
}

}  // namespace nacre::cli
