// SPDX-License-Identifier: BSD-3-Clause
//
// A 4 KiB read of a malloc bdev that fits the cache, as `nacre perf` does it, against a bare
// memcpy: short rounds of either alternate in one run. "ratio" is the median of what neighbours
// differ by, "ratio_of_best" that of the quickest rounds, which others on the machine disturb less.
// The copy moves between as much memory, at random addresses too, through as many buffers.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>

#include "modules/modules.hpp"
#include "perf.hpp"

namespace nacre::cli {
namespace {

constexpr std::size_t block_bytes = 4096;
constexpr std::size_t device_blocks = 64;
constexpr std::uint64_t reads_a_round = 100'000;

struct memory {
    explicit memory(std::size_t blocks)
        : bytes(static_cast<std::byte*>(std::aligned_alloc(block_bytes, blocks * block_bytes))) {
        if (bytes != nullptr) std::memset(bytes, 0x5a, blocks * block_bytes);
    }
    memory(const memory&) = delete;
    memory& operator=(const memory&) = delete;
    ~memory() { std::free(bytes); }
    std::byte* bytes;
};

/// Nanoseconds a copy.
double copy(const memory& from, const memory& to, unsigned depth) {
    std::uint64_t state = 1;
    unsigned buffer = 0;
    std::size_t bytes = block_bytes;
    asm volatile("" : "+r"(bytes));  // known to the compiler, it would be copied in line
    const auto before = std::chrono::steady_clock::now();
    for (std::uint64_t i = 0; i < reads_a_round; ++i) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        std::byte* const into = to.bytes + buffer * block_bytes;
        std::memcpy(into, from.bytes + (state >> 32) % device_blocks * block_bytes, bytes);
        asm volatile("" : : "r"(into) : "memory");
        buffer = buffer + 1 == depth ? 0 : buffer + 1;
    }
    const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - before;
    return took.count() / reads_a_round;
}

struct comparison {
    std::vector<double> ratios, copies, reads;
};

task<result<>> compare_once(bdev_registry* registry, const perf_options* options,
                            comparison* figures) {
    const memory from(device_blocks);
    const memory to(options->iodepth);
    if (from.bytes == nullptr || to.bytes == nullptr) co_return fail(ENOMEM);
    const double bare = copy(from, to, options->iodepth);
    std::string name = options->bdev;
    outcome<std::unique_ptr<perf_result>> done =
        co_await run_perf(*registry, std::move(name), *options, nullptr);
    if (!done) co_return fail(done.error().code);
    const double read = static_cast<double>((*done)->elapsed_ns) / reads_a_round;
    const double bare_again = copy(from, to, options->iodepth);
    figures->copies.push_back((bare + bare_again) / 2);
    figures->reads.push_back(read);
    figures->ratios.push_back(read / figures->copies.back());
    co_return result<>();
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

task<result<>> compare(runtime* rt, benchmark::State* state, perf_options* options) {
    bdev_registry registry(*rt);
    outcome<std::string> made =
        co_await create_from_uri(registry, "malloc:///m0?size=256KiB&block_size=4096");
    if (!made) co_return fail(made.error().code);
    options->bdev = *made;
    // Never written, it would be one page of zeros, seen at many addresses: quick to hold in the
    // cache, and slow to find there.
    perf_options filling;
    filling.bdev = *made;
    filling.rw = "write";
    filling.runtime_ns = 0;
    filling.number_ios = device_blocks;
    outcome<std::unique_ptr<perf_result>> filled =
        co_await run_perf(registry, *made, filling, nullptr);
    if (!filled) co_return fail(filled.error().code);
    comparison figures;
    result<> compared = co_await compare_once(&registry, options, &figures);  // warm
    figures = {};
    while (compared && state->KeepRunning())
        compared = co_await compare_once(&registry, options, &figures);
    co_await registry.remove_all();
    if (!compared) co_return compared;
    const double read = *std::min_element(figures.reads.begin(), figures.reads.end());
    const double bare = *std::min_element(figures.copies.begin(), figures.copies.end());
    state->counters["ratio"] = median(figures.ratios);
    state->counters["ratio_of_best"] = read / bare;
    state->counters["read_ns"] = read;
    state->counters["memcpy_ns"] = bare;
    co_return compared;
}

void malloc_read_against_memcpy(benchmark::State& state) {
    auto rt = runtime::make(real_world(), {.reactors = 1});
    if (!rt) {
        state.SkipWithError(rt.error().message.c_str());
        return;
    }
    perf_options options;
    options.iodepth = static_cast<unsigned>(state.range(0));
    options.runtime_ns = 0;
    options.number_ios = reads_a_round;
    const result<> done = (*rt)->block_on(&compare, rt->get(), &state, &options);
    if (!done) state.SkipWithError(describe(done.error()).c_str());
}
BENCHMARK(malloc_read_against_memcpy)->Arg(1)->Arg(8)->Arg(32)->Arg(128)->UseRealTime();

}  // namespace
}  // namespace nacre::cli
