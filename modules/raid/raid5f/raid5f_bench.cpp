// SPDX-License-Identifier: BSD-3-Clause
//
// A write of whole stripes to a raid5f over malloc bdevs against isa-l's bare xor_gen of the same
// chunks, and against xor_gen followed by the copies that the malloc bdevs make of every chunk:
// short rounds of all three alternate in one run. "of_xor" is the rate of the array in that of
// xor_gen, "of_xor_and_copies" in that of both; medians.
//
// And the same write in memory that the array lends: borrow whole stripes, give them back. xor_gen
// walks as much memory of the same kind, laid out as the legs are, with parity that rotates
// likewise, in the same order. "of_xor" is the median of what neighbouring rounds differ by,
// "of_xor_low" their first quartile. Arguments: KiB a strip, stripes a loan, MiB of all legs
// together.
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

double quantile(std::vector<double> v, double q) {
    std::ranges::sort(v);
    return v[static_cast<std::size_t>(static_cast<double>(v.size()) * q)];
}
double median(const std::vector<double>& v) { return quantile(v, 0.5); }

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
    state.counters["of_xor"] = median(f.of_xor);
    state.counters["of_xor_and_copies"] = median(f.of_both);
    state.counters["GB_per_s"] = median(f.array_gbps);
    co_return written;
}

// --- In lent memory -----------------------------------------------------------------------------

/// Of one round at least.
constexpr std::size_t round_bytes_min = std::size_t{64} << 20;

struct lending {
    std::size_t strip;      // bytes
    std::uint64_t at_once;  // stripes a loan
    std::uint64_t stripes;
    unsigned walks;  // a round
};

double bare_walks(const std::vector<dma_buffer>& memory, const lending& l) {
    void* pointers[legs];
    const stopwatch watch;
    for (unsigned walk = 0; walk < l.walks; ++walk) {
        for (std::uint64_t s = 0; s < l.stripes; ++s) {
            const auto parity = static_cast<unsigned>(legs - 1 - s % legs);
            unsigned n = 0;
            for (unsigned k = 0; k < legs; ++k) {
                std::byte* const chunk = memory[k].writable_unchecked().data() + s * l.strip;
                pointers[k == parity ? legs - 1 : n++] = chunk;
            }
            benchmark::DoNotOptimize(xor_gen(legs, static_cast<int>(l.strip), pointers));
        }
    }
    return watch.ns();
}

task<result<>> lent_walks(const bdev_channel& channel, const lending& l) {
    const std::uint64_t unit = (legs - 1) * l.strip / 4096;
    for (unsigned walk = 0; walk < l.walks; ++walk) {
        for (std::uint64_t s = 0; s < l.stripes; s += l.at_once) {
            result<lent_blocks> lent =
                co_await channel.lend(lba(s * unit), block_count(l.at_once * unit), populate::no);
            if (!lent) co_return fail(lent.error());
            benchmark::DoNotOptimize(lent->memory().range_count());
            result<> back = co_await lent->give_back(commit::yes);
            if (!back) co_return back;
        }
    }
    co_return result<>();
}

task<result<>> compare_lent_on(bdev_registry& registry, benchmark::State& state) {
    lending l;
    l.strip = static_cast<std::size_t>(state.range(0)) * 1024;
    l.at_once = static_cast<std::uint64_t>(state.range(1));
    const auto footprint = static_cast<std::size_t>(state.range(2)) << 20;
    l.stripes = std::max<std::size_t>(footprint / (legs * l.strip) / l.at_once, 1) * l.at_once;
    l.walks = static_cast<unsigned>(
        std::max<std::size_t>(round_bytes_min / (l.stripes * legs * l.strip), 1));
    raid_options o;
    o.name = "r0";
    o.raid_level = raid_level::raid5f;
    o.strip_size_kb = static_cast<std::uint32_t>(l.strip / 1024);
    std::vector<dma_buffer> memory;
    const dma_buffer::options as_legs{.kind = memory_kind::huge};
    for (unsigned k = 0; k < legs; ++k) {
        malloc_options leg;
        leg.name = "m" + std::to_string(k);
        leg.num_blocks = l.stripes * l.strip / 4096;
        outcome<std::string> made = co_await create_malloc(registry, std::move(leg));
        if (!made) co_return fail(made.error().code);
        o.base_bdevs.push_back(*made);
        memory.push_back(
            std::move(*dma_buffer::allocate(byte_count(l.stripes * l.strip), as_legs)));
        std::memset(memory.back().writable_unchecked().data(), 0x5a, l.stripes * l.strip);
    }
    outcome<std::string> made = co_await raid_module::of(registry).create(std::move(o));
    if (!made) co_return fail(made.error().code);
    outcome<bdev_desc> desc = registry.open("r0", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    // Every page of the legs is there, and holds what the bare ones hold.
    const std::size_t stripe_bytes = (legs - 1) * l.strip;
    const std::vector<std::byte> filling(stripe_bytes, std::byte{0x5a});
    const const_iov_view data(filling.data(), filling.size());
    for (std::uint64_t s = 0; s < l.stripes; ++s) {
        result<> written = co_await channel->write(lba(s * stripe_bytes / 4096), data);
        if (!written) co_return written;
    }
    std::vector<double> of_xor, array_gbps, xor_gbps;
    const double bytes = static_cast<double>(stripe_bytes * l.stripes) * l.walks;
    result<> walked;
    while (walked && state.KeepRunning()) {
        const double xor_ns = bare_walks(memory, l);
        const stopwatch watch;
        walked = co_await lent_walks(*channel, l);
        const double array_ns = watch.ns();
        of_xor.push_back(xor_ns / array_ns);
        xor_gbps.push_back(bytes / xor_ns);
        array_gbps.push_back(bytes / array_ns);
    }
    state.counters["of_xor"] = median(of_xor);
    state.counters["of_xor_low"] = quantile(of_xor, 0.25);
    state.counters["GB_per_s"] = median(array_gbps);
    state.counters["xor_GB_per_s"] = median(xor_gbps);
    co_return walked;
}

// ------------------------------------------------------------------------------------------------

using comparison = task<result<>> (*)(bdev_registry& registry, benchmark::State& state);

task<result<>> compare(runtime* rt, benchmark::State* state, comparison on) {
    bdev_registry registry(*rt);
    result<> compared = co_await on(registry, *state);
    co_await registry.remove_all();
    co_return compared;
}

void run(benchmark::State& state, comparison on) {
    auto rt = runtime::make(real_world(), {.reactors = 1});
    if (!rt) {
        state.SkipWithError(rt.error().message.c_str());
        return;
    }
    const result<> done = (*rt)->block_on(&compare, rt->get(), &state, on);
    if (!done) state.SkipWithError(describe(done.error()).c_str());
}

void raid5f_write_against_xor(benchmark::State& state) { run(state, &compare_on); }
BENCHMARK(raid5f_write_against_xor)->Arg(4)->Arg(16)->Arg(64)->Arg(256)->UseRealTime();

void raid5f_lent_write_against_xor(benchmark::State& state) { run(state, &compare_lent_on); }
// One stripe a loan, and as many as one can be of.
BENCHMARK(raid5f_lent_write_against_xor)
    ->ArgsProduct({{4}, {1, 64}, {1, 8, 320}})
    ->ArgsProduct({{16}, {1, 16}, {1, 8, 320}})
    ->ArgsProduct({{64}, {1, 4}, {1, 8, 320}})
    ->ArgsProduct({{256}, {1}, {8, 320}})
    ->Iterations(41)
    ->UseRealTime();

}  // namespace
}  // namespace nacre::raid
