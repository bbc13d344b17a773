// SPDX-License-Identifier: BSD-3-Clause
//
// `nacre chunk perf`: threads that read or write objects, and how long a call took.
#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <thread>

#include "nacre/core/histogram.hpp"
#include "nacre/core/json.hpp"
#include "nacre/core/parse.hpp"
#include "nacre/core/random.hpp"
#include "plugins/chunk/tool.hpp"

namespace nacre::chunks {
namespace {

using steady = std::chrono::steady_clock;

std::uint64_t ns_since(steady::time_point begin) {
    return static_cast<std::uint64_t>((steady::now() - begin).count());
}

class load {
public:
    load(blocking_chunk_store& store, const tool_request& r)
        : store_(store),
          r_(r),
          random_(std::string_view(r.rw).starts_with("rand")),
          writes_(std::string_view(r.rw).ends_with("write")) {}

    outcome<> prepare();
    outcome<> run();
    outcome<> clean_up();
    [[nodiscard]] const histogram& latency() const { return *latency_; }
    [[nodiscard]] double seconds() const { return seconds_; }

private:
    [[nodiscard]] static std::string name_of(std::uint64_t i) { return fmt::format("perf/{}", i); }
    void work(unsigned thread);
    void note(const outcome<>& done);

    blocking_chunk_store& store_;
    const tool_request& r_;
    const bool random_;
    const bool writes_;
    std::unique_ptr<histogram> latency_ = std::make_unique<histogram>();
    double seconds_ = 0;
    std::atomic<bool> stop_ = false;
    std::atomic<std::uint64_t> calls_ = 0;
    std::mutex mutex_;
    outcome<> first_failure_;
};

outcome<> load::prepare() {
    constexpr std::size_t piece = std::size_t{4} << 20;
    std::vector<std::byte> data(piece);
    prng dice(r_.seed);
    dice.fill(data);
    progress line(!r_.print_json);
    for (unsigned i = 0; i < r_.objects; ++i) {
        outcome<> made = store_.create(name_of(i));
        if (!made && !made.error().code.is(EEXIST)) return made;
        for (std::uint64_t at = 0; at < r_.object_bytes; at += piece) {
            const std::size_t n = std::min<std::uint64_t>(piece, r_.object_bytes - at);
            outcome<> done = store_.write(name_of(i), at, std::span(data).first(n));
            if (!done) return done;
            line.show(fmt::format("filling object {} of {}", i + 1, r_.objects));
        }
    }
    return {};
}

void load::note(const outcome<>& done) {
    if (done) return;
    const std::lock_guard guard(mutex_);
    if (first_failure_) first_failure_ = done;
    stop_ = true;
}

void load::work(unsigned thread) {
    prng dice(r_.seed + thread);
    auto mine = std::make_unique<histogram>();
    std::vector<std::byte> data(r_.io_bytes);
    dice.fill(data);
    const std::uint64_t slots = r_.object_bytes / r_.io_bytes;
    std::uint64_t next = 0;
    // Each its own objects, as far as there are enough: calls on one wait for each other.
    const std::uint64_t share = std::max(r_.objects / r_.threads, 1U);
    while (!stop_) {
        const std::uint64_t object =
            (thread * share + (random_ ? dice.below(share) : next / slots % share)) % r_.objects;
        const std::uint64_t slot = random_ ? dice.below(slots) : next % slots;
        ++next;
        const std::string name = name_of(object);
        const steady::time_point begin = steady::now();
        outcome<> done;
        if (writes_) {
            done = store_.write(name, slot * r_.io_bytes, data);
        } else if (const auto n = store_.read(name, slot * r_.io_bytes, data); !n) {
            done = fail(n.error());
        }
        mine->record(ns_since(begin));
        calls_.fetch_add(1, std::memory_order_relaxed);
        note(done);
    }
    const std::lock_guard guard(mutex_);
    latency_->merge(*mine);
}

outcome<> load::run() {
    const steady::time_point begin = steady::now();
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < r_.threads; ++i) threads.emplace_back([this, i] { work(i); });
    progress line(!r_.print_json);
    while (!stop_ && ns_since(begin) < r_.runtime_ns) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        line.show(fmt::format("{:.1f} s  {} calls", static_cast<double>(ns_since(begin)) * 1e-9,
                              calls_.load()));
    }
    stop_ = true;
    for (std::thread& t : threads) t.join();
    seconds_ = static_cast<double>(ns_since(begin)) * 1e-9;
    return first_failure_;
}

outcome<> load::clean_up() {
    for (unsigned i = 0; i < r_.objects; ++i)
        if (outcome<> done = store_.remove(name_of(i)); !done) return done;
    return {};
}

}  // namespace

outcome<int> run_perf(blocking_chunk_store& store, const tool_request& r) {
    if (r.io_bytes == 0 || r.object_bytes < r.io_bytes || r.threads == 0 || r.objects == 0)
        return fail(EINVAL,
                    "perf: --threads, --objects and --io-size are at least 1, and an "
                    "object holds at least one --io-size");
    load l(store, r);
    outcome<> done = l.prepare();
    const outcome<chunk_store_info> before = store.info();
    if (done) done = l.run();
    const outcome<chunk_store_info> after = store.info();
    if (done && !r.keep) done = l.clean_up();
    if (!done) return fail(std::move(done.error()));
    if (!before || !after) return fail(before ? after.error() : before.error());
    const histogram& h = l.latency();
    const auto calls = static_cast<double>(h.count());
    const double rate = calls / l.seconds();
    const std::uint64_t commits = after->commits - before->commits;
    const std::uint64_t changes = after->changes - before->changes;
    const double shared =
        commits == 0 ? 0 : static_cast<double>(changes) / static_cast<double>(commits);
    const auto us = [&h](double q) { return static_cast<double>(h.quantile(q)) * 1e-3; };
    if (r.print_json) {
        const json::object o{{"rw", std::string(r.rw)},
                             {"io_size", r.io_bytes},
                             {"threads", r.threads},
                             {"calls", h.count()},
                             {"seconds", l.seconds()},
                             {"calls_per_second", rate},
                             {"bytes_per_second", rate * static_cast<double>(r.io_bytes)},
                             {"mean_us", h.mean() * 1e-3},
                             {"p50_us", us(0.5)},
                             {"p99_us", us(0.99)},
                             {"p999_us", us(0.999)},
                             {"max_us", static_cast<double>(h.max()) * 1e-3},
                             {"commits", commits},
                             {"changes_per_commit", shared}};
        fmt::print("{}\n", json::value(o).dump_pretty());
        return 0;
    }
    fmt::print("{} io-size={} threads={} objects={} of {}\n", r.rw, r.io_bytes, r.threads,
               r.objects, format_size(r.object_bytes));
    fmt::print("  {:.0f} calls/s, {:.1f} MiB/s, {} calls in {:.2f} s\n", rate,
               rate * static_cast<double>(r.io_bytes) / (1 << 20), h.count(), l.seconds());
    fmt::print("  latency mean {:.1f} us, p50 {:.1f}, p99 {:.1f}, p99.9 {:.1f}, max {:.1f}\n",
               h.mean() * 1e-3, us(0.5), us(0.99), us(0.999), static_cast<double>(h.max()) * 1e-3);
    if (commits != 0) fmt::print("  {} commits, {:.1f} changes each\n", commits, shared);
    return 0;
}

}  // namespace nacre::chunks
