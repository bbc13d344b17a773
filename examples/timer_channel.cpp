// SPDX-License-Identifier: BSD-3-Clause
//
// Timers, channels and threads without any block device: a sampler ticks every 10 ms and sends what
// it measured through a bounded channel; a consumer on the same thread takes it, with a timeout;
// and the sum is computed by another thread, reached by a message.
#include <cstdio>

#include "nacre/runtime/channel.hpp"
#include "nacre/runtime/runtime.hpp"
#include "nacre/runtime/sleep.hpp"
#include "nacre/runtime/timeout.hpp"

namespace {

using namespace nacre;

constexpr std::uint64_t tick_ns = 10'000'000;
constexpr unsigned samples = 20;

// A sleep ends early only when the task is asked to stop, and then says so.
task<result<>> sample(channel<std::uint64_t>& out) {
    for (unsigned i = 0; i < samples; ++i) {
        const std::uint64_t before = thread::current()->now_ns();
        result<> slept = co_await sleep_for(tick_ns);
        if (!slept) co_return slept;
        // Waits while the channel is full.
        result<> sent = co_await out.send(thread::current()->now_ns() - before);
        if (!sent) co_return sent;
    }
    out.close();
    co_return result<>();
}

task<result<std::uint64_t>> next(channel<std::uint64_t>& in) {
    result<std::uint64_t> got = co_await in.receive();
    co_return got;
}

std::uint64_t average(std::vector<std::uint64_t> values) {
    std::uint64_t sum = 0;
    for (const std::uint64_t v : values) sum += v;
    return values.empty() ? 0 : sum / values.size();
}

task<int> run(runtime* host) {
    channel<std::uint64_t> measured(4);
    // Detached work lives in a scope, which waits for it.
    scope children;
    children.spawn(sample(measured));
    std::vector<std::uint64_t> late_ns;
    while (true) {
        result<std::uint64_t> got = co_await with_timeout(next(measured), 100 * tick_ns);
        if (!got && got.error().is(EPIPE)) break;  // closed, and everything taken
        if (!got) co_return 1;
        late_ns.push_back(*got - tick_ns);
    }
    result<> sampled = co_await children.join();
    const std::size_t count = late_ns.size();
    // Only what may cross goes along: values, not references.
    thread& helper = host->make_thread("helper");
    const std::uint64_t mean = co_await call_on(helper, &average, std::move(late_ns));
    helper.request_exit();
    std::printf("%zu ticks of 10 ms, %llu us late on average\n", count,
                static_cast<unsigned long long>(mean / 1000));
    co_return sampled&& count == samples ? 0 : 1;
}

}  // namespace

int main() {
    outcome<std::unique_ptr<runtime>> host = runtime::make(real_world(), {.reactors = 2});
    if (!host) {
        std::fprintf(stderr, "%s\n", host.error().message.c_str());
        return 1;
    }
    return (*host)->block_on(&run, host->get());
}
