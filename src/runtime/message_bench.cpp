// SPDX-License-Identifier: BSD-3-Clause
//
// What a message to a busy reactor takes, with a sender and a receiver on two OS threads: the
// sender posts eight a turn and keeps a few batches under way, so that both sides always have work.
// Then the time that a message takes is that of the slower side, and "ns_a_side" bounds both.
#include <benchmark/benchmark.h>

#include <array>
#include <chrono>

#include "nacre/runtime/runtime.hpp"
#include "nacre/runtime/sleep.hpp"

namespace nacre {
namespace {

constexpr unsigned batch_messages = 8;
constexpr std::uint64_t batches_a_round = 1'000;

struct counted_message : message {
    counted_message() noexcept {
        run = [](work& w) noexcept {
            std::atomic<std::uint64_t>& count =
                static_cast<counted_message&>(static_cast<message&>(w)).runs;
            count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_release);
        };
    }
    std::atomic<std::uint64_t> runs = 0;
};

using batch = std::array<counted_message, batch_messages>;

/// The nanoseconds that it took.
task<double> post_batches(thread* to, batch* ring, unsigned batches, std::uint64_t count) {
    const auto before = std::chrono::steady_clock::now();
    for (std::uint64_t i = 0; i < count; ++i) {
        batch& b = ring[i % batches];
        while (b.back().runs.load(std::memory_order_acquire) != i / batches) co_await yield();
        for (counted_message& m : b) to->post(m);
        co_await yield();  // the turn's end hands them over
    }
    for (std::uint64_t i = count - batches; i < count; ++i)
        while (ring[i % batches].back().runs.load(std::memory_order_acquire) != i / batches + 1)
            co_await yield();
    const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - before;
    co_return took.count();
}

void message_to_busy_reactor(benchmark::State& state) {
    auto rt = runtime::make(real_world(), {.reactors = 2, .mode = reactor_mode::poll});
    if (!rt) {
        state.SkipWithError(rt.error().message.c_str());
        return;
    }
    thread& receiver = (*rt)->make_thread("receiver", 1);
    const auto batches = static_cast<unsigned>(state.range(0));
    double best_ns = 1e9;
    for (auto _ : state) {
        const auto ring = std::make_unique<batch[]>(batches);
        const double took_ns =
            (*rt)->block_on(&post_batches, &receiver, ring.get(), batches, batches_a_round);
        best_ns = std::min(best_ns, took_ns / (batches_a_round * batch_messages));
    }
    state.SetItemsProcessed(state.iterations() *
                            static_cast<std::int64_t>(batches_a_round * batch_messages));
    state.counters["ns_a_side"] = best_ns;  // of the best round: others use the machine, too
}
BENCHMARK(message_to_busy_reactor)->Arg(1)->Arg(4)->Arg(16)->Arg(64)->UseRealTime();

}  // namespace
}  // namespace nacre
