// SPDX-License-Identifier: BSD-3-Clause
//
// A write of whole stripes to a raid5f over malloc bdevs against isa-l's bare xor_gen of the same
// chunks, and against xor_gen followed by the copies that the malloc bdevs make of every chunk:
// short rounds of all three alternate in one run. "of_xor" is the rate of the array in that of
// xor_gen, "of_xor_and_copies" in that of both; medians.
#include <benchmark/benchmark.h>
#include <isa-l/raid.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "modules/malloc/malloc.hpp"
#include "modules/raid/raid.hpp"
#include "nacre/memory/dma_buffer.hpp"

namespace nacre::raid {
namespace {

constexpr unsigned legs = 5;
constexpr std::uint64_t stripes = 16;
constexpr unsigned rounds_of_stripes = 20;

struct figures {
    std::vector<double> of_xor, of_both, array_gbps;
};

class stopwatch {
public:
    [[nodiscard]] double ns() const {
        const std::chrono::duration<double, std::nano> took =
            std::chrono::steady_clock::now() - began_;
        return took.count();
    }

private:
    std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

struct memory {
    dma_buffer stripe;  // what the user writes
    dma_buffer parity;
    dma_buffer legs;  // where the bare copies go
};

double bare(const memory& m, std::size_t strip, bool copies) {
    void* pointers[legs];
    std::byte* const data = m.stripe.writable_unchecked().data();
    for (unsigned i = 0; i + 1 < legs; ++i) pointers[i] = data + i * strip;
    pointers[legs - 1] = m.parity.writable_unchecked().data();
    std::byte* const to = m.legs.writable_unchecked().data();
    const stopwatch watch;
    for (unsigned round = 0; round < rounds_of_stripes; ++round) {
        for (std::uint64_t s = 0; s < stripes; ++s) {
            benchmark::DoNotOptimize(xor_gen(legs, static_cast<int>(strip), pointers));
            if (!copies) continue;
            for (unsigned k = 0; k < legs; ++k)
                std::memcpy(to + (k * stripes + s) * strip, pointers[k], strip);
            benchmark::ClobberMemory();
        }
    }
    return watch.ns();
}

task<result<>> through_array(bdev_channel& channel, const memory& m, std::uint64_t unit) {
    const const_iov_view data(m.stripe.writable_unchecked().data(), unit * 4096);
    for (unsigned round = 0; round < rounds_of_stripes; ++round) {
        for (std::uint64_t s = 0; s < stripes; ++s) {
            result<> written = co_await channel.write(lba(s * unit), data);
            if (!written) co_return written;
        }
    }
    co_return result<>();
}

task<result<>> compare_on(bdev_registry& registry, benchmark::State& state) {
    const auto strip = static_cast<std::size_t>(state.range(0)) * 1024;
    raid_options o;
    o.name = "r0";
    o.raid_level = raid_level::raid5f;
    o.strip_size_kb = static_cast<std::uint32_t>(strip / 1024);
    for (unsigned k = 0; k < legs; ++k) {
        malloc_options leg;
        leg.name = "m" + std::to_string(k);
        leg.block_size = 4096;
        leg.num_blocks = stripes * strip / 4096;
        outcome<std::string> made = co_await create_malloc(registry, std::move(leg));
        if (!made) co_return fail(made.error().code);
        o.base_bdevs.push_back(*made);
    }
    outcome<std::string> made = co_await raid_module::of(registry).create(std::move(o));
    if (!made) co_return fail(made.error().code);
    memory m;
    m.stripe = std::move(*dma_buffer::allocate(byte_count((legs - 1) * strip)));
    m.parity = std::move(*dma_buffer::allocate(byte_count(strip)));
    m.legs = std::move(*dma_buffer::allocate(byte_count(legs * stripes * strip)));
    std::memset(m.stripe.writable_unchecked().data(), 0x5a, (legs - 1) * strip);
    std::memset(m.legs.writable_unchecked().data(), 0x5a, legs * stripes * strip);
    outcome<bdev_desc> desc = registry.open("r0", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    result<> written = co_await through_array(*channel, m, (legs - 1) * strip / 4096);  // warm
    figures f;
    while (written && state.KeepRunning()) {
        const double xor_ns = bare(m, strip, false);
        const double both_ns = bare(m, strip, true);
        const stopwatch watch;
        written = co_await through_array(*channel, m, (legs - 1) * strip / 4096);
        const double array_ns = watch.ns();
        f.of_xor.push_back(xor_ns / array_ns);
        f.of_both.push_back(both_ns / array_ns);
        f.array_gbps.push_back(static_cast<double>((legs - 1) * strip) * stripes *
                               rounds_of_stripes / array_ns);
    }
    const auto median = [](std::vector<double> v) {
        std::ranges::sort(v);
        return v[v.size() / 2];
    };
    state.counters["of_xor"] = median(f.of_xor);
    state.counters["of_xor_and_copies"] = median(f.of_both);
    state.counters["GB_per_s"] = median(f.array_gbps);
    co_return written;
}

task<result<>> compare(runtime* rt, benchmark::State* state) {
    bdev_registry registry(*rt);
    result<> compared = co_await compare_on(registry, *state);
    co_await registry.remove_all();
    co_return compared;
}

void raid5f_write_against_xor(benchmark::State& state) {
    auto rt = runtime::make(real_world(), {.reactors = 1});
    if (!rt) {
        state.SkipWithError(rt.error().message.c_str());
        return;
    }
    const result<> done = (*rt)->block_on(&compare, rt->get(), &state);
    if (!done) state.SkipWithError(describe(done.error()).c_str());
}
BENCHMARK(raid5f_write_against_xor)->Arg(4)->Arg(16)->Arg(64)->Arg(256)->UseRealTime();

}  // namespace
}  // namespace nacre::raid
