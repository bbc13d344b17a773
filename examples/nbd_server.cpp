// SPDX-License-Identifier: BSD-3-Clause
//
// Serves a block device to other programs over NBD:
//
//     example_nbd_server malloc:///m0?size=64MiB /tmp/m0.sock
//     example_nbd_server file:///data/disk.img 127.0.0.1:10809 readonly
//     qemu-img info 'nbd+unix:///m0?socket=/tmp/m0.sock'
//
// until SIGINT or SIGTERM. Without arguments it shows that an export comes and goes.
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>

#include "modules/modules.hpp"
#include "nacre/runtime/sleep.hpp"
#include "nacre/serve/nbd.hpp"

namespace {

using namespace nacre;

struct arguments {
    std::string device = "malloc:///m0?size=64MiB";
    std::string place = "/tmp/nacre-example-nbd.sock";
    bool readonly = false;
    bool until_signal = false;
};

nbd::export_options options_for(const std::string& bdev_name, const arguments& wanted) {
    nbd::export_options options;
    options.bdev_name = bdev_name;
    options.readonly = wanted.readonly;
    if (wanted.place.starts_with('/'))
        options.unix_path = wanted.place;
    else
        options.address = wanted.place;
    return options;
}

task<outcome<>> wait_for_signal(world& w) {
    constexpr int endings[] = {SIGINT, SIGTERM};
    outcome<int> signals = w.watch_signals(endings);
    if (!signals) co_return fail(std::move(signals.error()));
    while (w.take_signal(*signals) == 0) {
        result<> slept = co_await sleep_for(20'000'000);
        if (!slept) break;
    }
    w.unwatch_signals(*signals);
    co_return outcome<>();
}

task<outcome<>> serve(bdev_registry& registry, nbd::server& server, const arguments& wanted) {
    outcome<std::string> name = co_await create_from_uri(registry, wanted.device);
    if (!name) co_return fail(std::move(name.error()));
    outcome<> added = co_await server.add_export(options_for(*name, wanted));
    if (!added) co_return added;
    for (const nbd::export_info& e : server.list())
        std::printf("%s, %llu bytes\n", e.uri.c_str(),
                    static_cast<unsigned long long>(e.size_bytes));
    std::fflush(stdout);
    if (wanted.until_signal) added = co_await wait_for_signal(registry.home_world());
    co_return added;
}

task<outcome<>> run(runtime* host, const arguments* wanted) {
    bdev_registry registry(*host);
    nbd::server server(registry);
    outcome<> served = co_await serve(registry, server, *wanted);
    co_await server.close();
    co_await registry.remove_all();
    co_return served;
}

}  // namespace

int main(int argc, char** argv) {
    arguments wanted;
    if (argc > 2) {
        wanted.device = argv[1];
        wanted.place = argv[2];
        wanted.readonly = argc > 3 && std::strcmp(argv[3], "readonly") == 0;
        wanted.until_signal = true;
    }
    auto host = runtime::make(real_world());
    if (!host) {
        std::fprintf(stderr, "%s\n", host.error().message.c_str());
        return 1;
    }
    outcome<> done = (*host)->block_on(&run, host->get(), &wanted);
    if (!done) std::fprintf(stderr, "%s\n", done.error().message.c_str());
    return done ? 0 : 1;
}
