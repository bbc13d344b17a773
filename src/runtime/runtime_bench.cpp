// SPDX-License-Identifier: BSD-3-Clause
//
// The time that each primitive of this room takes, on real reactors: `items_per_second` counts
// single operations.
#include <benchmark/benchmark.h>

#include "primitives.hpp"

namespace nacre {
namespace {

constexpr std::uint64_t batch = 4096;

void measure(benchmark::State& state, const primitive& p) {
    auto rt = runtime::make(real_world(), {.reactors = p.reactors});
    if (!rt) {
        state.SkipWithError(rt.error().message.c_str());
        return;
    }
    p.run(**rt, batch);
    for (auto _ : state) p.run(**rt, batch);
    state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations() * batch));
}

const bool registered = [] {
    for (const primitive& p : primitives())
        benchmark::RegisterBenchmark(p.name, measure, p)->UseRealTime();
    return true;
}();

}  // namespace
}  // namespace nacre
