// SPDX-License-Identifier: BSD-3-Clause
#include <benchmark/benchmark.h>

#include <array>

#include "nacre/runtime/runtime.hpp"
#include "nacre/sim/world.hpp"
#include "test_io.hpp"

namespace nacre::sim {
namespace {

task<result<>> nothing() { co_return result<>{}; }

// What a seed costs before it does anything.
void make_world_and_runtime(benchmark::State& state) {
    std::uint64_t seed = 0;
    for (auto _ : state) {
        world w(++seed);
        w.make_file("/disk", 1 << 20);
        auto rt = *runtime::make(w, {.reactors = static_cast<unsigned>(state.range(0))});
        (void)rt->block_on(nothing);
    }
}
BENCHMARK(make_world_and_runtime)->Arg(1)->Arg(2)->Arg(4);

task<result<>> write_and_sync(across<world> w, int count) {
    const int fd = open_at(*w, "/disk");
    std::array<std::byte, 4096> page{};
    for (int i = 0; i < count; ++i) {
        const auto at = static_cast<std::uint64_t>(i % 200) * 4096;
        int written = co_await write_at(fd, at, page);
        if (written < 0) co_return fail(-written);
    }
    int synced = co_await sync_file(fd);
    w->close_file(fd);
    if (synced < 0) co_return fail(-synced);
    co_return result<>{};
}

// A simulated write of 4 KiB, with its share of everything.
void write_a_page(benchmark::State& state) {
    constexpr int count = 1000;
    std::uint64_t seed = 0;
    for (auto _ : state) {
        world w(++seed);
        w.make_file("/disk", 1 << 20);
        auto rt = *runtime::make(w);
        (void)rt->block_on(write_and_sync, across(w), count);
    }
    state.SetItemsProcessed(state.iterations() * count);
}
BENCHMARK(write_a_page);

}  // namespace
}  // namespace nacre::sim
