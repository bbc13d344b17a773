// SPDX-License-Identifier: BSD-3-Clause
//
// Makes a block device a disk of the Linux kernel:
//
//     example_ublk_disk malloc:///m0?size=64MiB 0            # /dev/ublkb0
//     example_ublk_disk 'zoned+malloc:///z0?size=64MiB&zone_size=4MiB' 1
//
// until SIGINT or SIGTERM. Without arguments it shows that a disk comes and goes, or why it cannot.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "modules/modules.hpp"
#include "nacre/runtime/sleep.hpp"
#include "nacre/serve/ublk.hpp"

namespace {

using namespace nacre;

struct arguments {
    std::string device = "malloc:///m0?size=64MiB";
    std::uint32_t id = 100;
    bool until_signal = false;
};

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

task<outcome<>> serve(bdev_registry& registry, ublk::server& server, const arguments& wanted) {
    outcome<std::string> name = co_await create_from_uri(registry, wanted.device);
    if (!name) co_return fail(std::move(name.error()));
    ublk::target_options all_reactors;
    outcome<> ready = co_await server.create_target(std::move(all_reactors));
    if (!ready && !wanted.until_signal) {
        std::printf("No disk: %s\n", ready.error().message.c_str());
        co_return outcome<>();
    }
    if (!ready) co_return ready;
    ublk::disk_options options;
    options.bdev_name = *name;
    options.ublk_id = wanted.id;
    outcome<std::uint32_t> id = co_await server.start_disk(std::move(options));
    if (!id) co_return fail(std::move(id.error()));
    std::printf("/dev/ublkb%u\n", *id);
    std::fflush(stdout);
    outcome<> waited;
    if (wanted.until_signal) waited = co_await wait_for_signal(registry.home_world());
    co_return waited;
}

task<outcome<>> run(runtime* host, const arguments* wanted) {
    bdev_registry registry(*host);
    ublk::server server(registry);
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
        wanted.id = static_cast<std::uint32_t>(std::strtoul(argv[2], nullptr, 10));
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
