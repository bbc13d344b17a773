// SPDX-License-Identifier: BSD-3-Clause
//
// How long a load takes, of a sparse file of 1 TiB with clusters of 4 MiB: clean, and recovering.
// NACRE_BENCH_BLOBS (100) says how many blobs, NACRE_BENCH_FILE where the file is.
#include <benchmark/benchmark.h>
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "modules/file/file.hpp"
#include "nacre/blob/blobstore.hpp"
#include "nacre/runtime/runtime.hpp"

namespace nacre {
namespace {

std::string file_name() {
    const char* const named = std::getenv("NACRE_BENCH_FILE");
    return named == nullptr ? "nacre-load-bench.img" : named;
}

task<outcome<bdev_desc>> open_file(bdev_registry& registry) {
    file_options o;
    o.name = "disk";
    o.filename = file_name();
    o.block_size = 4096;
    o.size = std::uint64_t{1} << 40;
    outcome<std::string> made = co_await create_file(registry, std::move(o));
    if (!made) co_return fail(std::move(made.error()));
    outcome<bdev_desc> desc = registry.open("disk", access::write);
    co_return desc;
}

task<outcome<>> fill_store(bdev_registry& registry, std::uint64_t blobs) {
    outcome<bdev_desc> desc = co_await open_file(registry);
    if (!desc) co_return fail(std::move(desc.error()));
    blobstore_options options;
    options.cluster_size = 4U << 20;
    outcome<blobstore> store = co_await blobstore::init(registry, std::move(*desc), options);
    if (!store) co_return fail(std::move(store.error()));
    for (std::uint64_t i = 0; i < blobs; ++i) {
        blob_options o;
        o.clusters = 4;
        o.thin = i % 2 == 0;
        o.xattrs.push_back({"name", "volume " + std::to_string(i)});
        outcome<blob_id> made = co_await store->create(o);
        if (!made) co_return fail(std::move(made.error()));
    }
    outcome<> unloaded = co_await store->unload();
    co_return unloaded;
}

task<outcome<>> load_once(bdev_registry& registry, bool recover, std::uint64_t* ns) {
    outcome<bdev_desc> desc = co_await open_file(registry);
    if (!desc) co_return fail(std::move(desc.error()));
    blobstore_load_options options;
    options.recover = recover;
    const std::uint64_t began = registry.home_world().monotonic_ns();
    outcome<blobstore> store = co_await blobstore::load(registry, std::move(*desc), options);
    *ns = registry.home_world().monotonic_ns() - began;
    if (!store) co_return fail(std::move(store.error()));
    outcome<> unloaded = co_await store->unload();
    co_return unloaded;
}

struct job {
    std::uint64_t blobs = 0;  // to make; 0: load
    bool recover = false;
    std::uint64_t ns = 0;
    outcome<> ended{};
};

task<void> run_job(across<bdev_registry> registry, across<job> j) {
    if (j->blobs != 0)
        j->ended = co_await fill_store(*registry, j->blobs);
    else
        j->ended = co_await load_once(*registry, j->recover, &j->ns);
    co_await registry->remove_all();
}

void run_real(job& j) {
    auto rt = runtime::make(real_world());
    bdev_registry registry(**rt);
    (*rt)->block_on(&run_job, across<bdev_registry>(registry), across<job>(j));
}

void load_store(benchmark::State& state) {
    const char* const named = std::getenv("NACRE_BENCH_BLOBS");
    std::remove(file_name().c_str());
    job fill{.blobs = named == nullptr ? 100 : std::strtoull(named, nullptr, 10)};
    run_real(fill);
    if (!fill.ended) state.SkipWithError(fill.ended.error().message.c_str());
    for (auto _ : state) {
        job load{.recover = state.range(0) != 0};
        run_real(load);
        if (!load.ended) state.SkipWithError(load.ended.error().message.c_str());
        state.SetIterationTime(static_cast<double>(load.ns) * 1e-9);
    }
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    state.counters["peak_MiB"] = static_cast<double>(usage.ru_maxrss) / 1024;
    std::remove(file_name().c_str());
}
BENCHMARK(load_store)
    ->ArgName("recover")
    ->Arg(0)
    ->Arg(1)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace nacre
