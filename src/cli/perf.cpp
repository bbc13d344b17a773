// SPDX-License-Identifier: BSD-3-Clause
#include "perf.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>

#include "nacre/core/random.hpp"
#include "nacre/memory/dma_buffer.hpp"
#include "nacre/runtime/interval.hpp"

namespace nacre::cli {
namespace {

constexpr std::uint64_t progress_period_ns = 200'000'000;
constexpr std::uint64_t buffer_alignment = 4096;

/// One op and its buffer; its place in memory never changes.
struct slot {
    io_op op;
    std::uint64_t issued_ns = 0;  // with precise_clock
};

class job {
public:
    job(const perf_options& options, pattern p, unsigned index, bdev& device, perf_result& result)
        : random_(options.randseed + index * 0x9e3779b97f4a7c15U),
          options_(options),
          result_(result),
          block_bytes_(options.block_bytes),
          blocks_per_op_(options.block_bytes / device.block_size().value()),
          positions_(device.blocks().value() / blocks_per_op_),
          next_position_(positions_ / options.numjobs * index),
          left_(options.number_ios == 0 ? UINT64_MAX : options.number_ios),
          sequential_(p == pattern::read || p == pattern::write || p == pattern::rw),
          read_percent_(p == pattern::read || p == pattern::randread     ? 100
                        : p == pattern::write || p == pattern::randwrite ? 0
                                                                         : options.rwmixread) {}

    task<result<>> run(bdev_channel channel);
    /// One I/O after the other, as an application's coroutine does them.
    task<result<>> await_each(iov_view buffer);
    [[nodiscard]] std::uint64_t operations() const noexcept {
        return result_.reads + result_.writes;
    }

private:
    static void completed(io_op& op) noexcept {
        auto& self = *static_cast<job*>(op.owner);
        self.result_.latency.record(self.channel_->now_ns() - op.entered_ns());
        self.count_and_issue(op);
    }
    static void completed_precisely(io_op& op) noexcept {
        auto& self = *static_cast<job*>(op.owner);
        const std::uint64_t now = self.channel_->home().host().precise_now_ns();
        self.result_.latency.record(now - reinterpret_cast<slot&>(op).issued_ns);
        reinterpret_cast<slot&>(op).issued_ns = now;
        self.count_and_issue(op);
    }
    [[gnu::always_inline]] void count_and_issue(io_op& op) noexcept {
        if (op.status.failed()) [[unlikely]]
            note_error(op.status);
        ++(op.code == opcode::read ? result_.reads : result_.writes);
        issue(op);
    }
    /// Only returns from the end of a run do anything but submit: the rest is straight.
    [[gnu::always_inline]] void issue(io_op& op) noexcept {
        if (left_ == 0 || channel_->now_ns() >= deadline_ns_) [[unlikely]]
            return finished();
        --left_;
        if (random_only_) [[likely]]
            op.first = lba(next_random() * blocks_per_op_);
        else
            choose(op.code, op.first);
        if (!channel_->enter(op)) [[unlikely]]
            refused(op);
    }
    /// splitmix64, scaled to the device: spread enough for addresses, and a third of prng's cost.
    [[nodiscard]] std::uint64_t next_random() noexcept {
        std::uint64_t z = random_state_ += 0x9e3779b97f4a7c15U;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9U;
        z ^= z >> 27;
        return static_cast<std::uint64_t>(static_cast<unsigned __int128>(z) * positions_ >> 64);
    }
    [[gnu::noinline]] void choose(opcode& code, lba& first) noexcept {
        std::uint64_t position = next_position_;
        if (sequential_)
            next_position_ = position + 1 == positions_ ? 0 : position + 1;
        else
            position = next_random();
        if (read_percent_ != 0 && read_percent_ != 100)
            code = random_.below(100) < read_percent_ ? opcode::read : opcode::write;
        first = lba(position * blocks_per_op_);
    }
    [[gnu::noinline]] void finished() noexcept {
        if (--active_ == 0) done_.set();
    }
    [[gnu::noinline]] void refused(io_op& op) noexcept {
        note_error(op.status);
        finished();
    }
    [[gnu::noinline]] void note_error(error e) noexcept {
        if (result_.errors++ == 0) result_.first_error = e;
        left_ = 0;  // the first error ends the run
    }

    module_channel* channel_ = nullptr;
    std::uint64_t deadline_ns_ = UINT64_MAX;
    prng random_;
    const perf_options& options_;
    perf_result& result_;
    std::uint64_t block_bytes_;
    std::uint64_t blocks_per_op_;
    std::uint64_t positions_;
    std::uint64_t next_position_;
    std::uint64_t left_;
    bool sequential_;
    unsigned read_percent_;
    bool random_only_ = !sequential_ && (read_percent_ == 0 || read_percent_ == 100);
    std::uint64_t random_state_ = random_.next();
    unsigned active_ = 0;
    event done_;
};

task<result<>> job::await_each(iov_view buffer) {
    opcode code = read_percent_ == 0 ? opcode::write : opcode::read;
    while (left_ != 0 && channel_->now_ns() < deadline_ns_) {
        --left_;
        lba first;
        if (random_only_) [[likely]]
            first = lba(next_random() * blocks_per_op_);
        else
            choose(code, first);
        io_awaiter io(channel_, code, first, buffer);
        const result<> done = co_await io;
        if (!done) [[unlikely]] {
            note_error(done.error());
            break;
        }
        result_.latency.record(channel_->now_ns() - io.op().entered_ns());
        ++(code == opcode::read ? result_.reads : result_.writes);
    }
    co_return result<>();
}

task<result<>> job::run(bdev_channel channel) {
    channel_ = &channel.base();
    const std::size_t bytes = block_bytes_ * options_.iodepth;
    result<dma_buffer> memory = dma_buffer::allocate(
        byte_count(bytes), {.alignment = buffer_alignment, .registered = true});
    const std::unique_ptr<slot[]> slots(new (std::nothrow) slot[options_.iodepth]);
    if (!memory || slots == nullptr) co_return fail(ENOMEM);
    std::byte* const buffers = memory->writable_unchecked().data();
    random_.fill({buffers, bytes});
    const std::uint64_t started = channel_->now_ns();
    if (options_.runtime_ns != 0) deadline_ns_ = started + options_.runtime_ns;
    if (options_.await) {
        scope crowd;
        for (unsigned i = 0; i < options_.iodepth; ++i)
            crowd.spawn(await_each(iov_view(buffers + i * block_bytes_, block_bytes_)));
        result<> joined = co_await crowd.join();
        result_.elapsed_ns = channel_->home().host().precise_now_ns() - started;
        co_return joined;
    }
    active_ = options_.iodepth;
    for (unsigned i = 0; i < options_.iodepth; ++i) {
        io_op& op = slots[i].op;
        op.code = read_percent_ == 0 ? opcode::write : opcode::read;
        op.flags = 0;
        op.data = iov_view(buffers + i * block_bytes_, block_bytes_);
        op.owner = this;
        op.done = options_.precise_clock ? &job::completed_precisely : &job::completed;
        op.run = &io_op::run_user;
        slots[i].issued_ns = channel_->home().host().precise_now_ns();
        issue(op);
    }
    result<> waited = co_await done_.wait();
    result_.elapsed_ns = channel_->home().host().precise_now_ns() - started;
    co_return waited;
}

/// Born and ended on the job's own thread.
task<result<>> run_job(across<job> work, across<const bdev_desc> descriptor) {
    outcome<bdev_channel> channel = descriptor->open_channel();
    if (!channel) co_return fail(channel.error().code);
    result<> ran = co_await work->run(std::move(*channel));
    co_return ran;
}

std::uint64_t process_cpu_ns() noexcept {
    return static_cast<std::uint64_t>(std::clock()) * (1'000'000'000 / CLOCKS_PER_SEC);
}

outcome<> check(const perf_options& o, bdev& device) {
    const std::uint64_t block = device.block_size().value();
    if (o.block_bytes == 0 || o.block_bytes % block != 0)
        return fail(EINVAL, fmt::format("--bs {}: must be a multiple of {}'s block size, {}",
                                        o.block_bytes, device.name(), block));
    if (o.block_bytes > device.size().value())
        return fail(EINVAL, fmt::format("--bs {}: {} has only {} bytes", o.block_bytes,
                                        device.name(), device.size().value()));
    if (o.runtime_ns == 0 && o.number_ios == 0)
        return fail(EINVAL, "give --runtime or --number_ios, or it would never end");
    return {};
}

}  // namespace

outcome<pattern> parse_pattern(std::string_view text) {
    static constexpr std::pair<std::string_view, pattern> names[] = {
        {"read", pattern::read},
        {"write", pattern::write},
        {"rw", pattern::rw},
        {"readwrite", pattern::rw},
        {"randread", pattern::randread},
        {"randwrite", pattern::randwrite},
        {"randrw", pattern::randrw}};
    for (const auto& [name, p] : names)
        if (name == text) return p;
    return fail(EINVAL, fmt::format("--rw {}: must be read, write, rw, randread, randwrite or "
                                    "randrw",
                                    text));
}

task<outcome<std::unique_ptr<perf_result>>> run_perf(bdev_registry& registry, std::string name,
                                                     const perf_options& options,
                                                     perf_progress progress) {
    outcome<pattern> p = parse_pattern(options.rw);
    if (!p) co_return fail(std::move(p.error()));
    const bool writes = *p != pattern::read && *p != pattern::randread;
    outcome<bdev_desc> descriptor = registry.open(name, writes ? access::write : access::read);
    if (!descriptor) co_return fail(std::move(descriptor.error()));
    bdev& device = descriptor->device();
    outcome<> fits = check(options, device);
    if (!fits) co_return fail(std::move(fits.error()));

    std::vector<std::unique_ptr<perf_result>> results;
    std::vector<std::unique_ptr<job>> jobs;
    std::vector<thread*> threads;
    std::vector<join_handle<result<>>> running;
    for (unsigned i = 0; i < options.numjobs; ++i) {
        results.push_back(std::make_unique<perf_result>());
        jobs.push_back(std::make_unique<job>(options, *p, i, device, *results[i]));
        const int reactor = static_cast<int>(i % registry.host().reactor_count());
        threads.push_back(&registry.host().make_thread(fmt::format("perf_{}", i), reactor));
    }
    const std::uint64_t cpu_before = process_cpu_ns();
    for (unsigned i = 0; i < options.numjobs; ++i)
        running.push_back(threads[i]->spawn(&run_job, across<job>(*jobs[i]),
                                            across<const bdev_desc>(*descriptor)));
    const std::uint64_t started = thread::current()->now_ns();
    interval ticks(progress_period_ns);
    while (progress != nullptr &&
           !std::all_of(running.begin(), running.end(), [](auto& r) { return r.done(); })) {
        result<> slept = co_await ticks.next();
        if (!slept) break;
        std::uint64_t done = 0;
        for (unsigned i = 0; i < options.numjobs; ++i) {
            const std::uint64_t of_job = co_await call_on(
                *threads[i], [](across<job> j) { return j->operations(); }, across<job>(*jobs[i]));
            done += of_job;
        }
        progress(static_cast<double>(thread::current()->now_ns() - started) * 1e-9, done);
    }
    error first;
    for (auto& handle : running) {
        result<> ran = co_await handle;
        if (!ran && first.ok()) first = ran.error();
    }
    for (thread* t : threads) t->request_exit();
    if (first.failed())
        co_return fail(failure(first, fmt::format("{}: {}", device.name(), describe(first))));
    auto total = std::make_unique<perf_result>();
    for (auto& r : results) {
        total->latency.merge(r->latency);
        total->reads += r->reads;
        total->writes += r->writes;
        if (total->errors == 0) total->first_error = r->first_error;
        total->errors += r->errors;
        total->elapsed_ns = std::max(total->elapsed_ns, r->elapsed_ns);
    }
    total->cpu_ns = process_cpu_ns() - cpu_before;
    co_return total;
}

json::value perf_result::to_json(const perf_options& o) const {
    const std::uint64_t operations = reads + writes;
    const double seconds = std::max(static_cast<double>(elapsed_ns) * 1e-9, 1e-9);
    const double iops = static_cast<double>(operations) / seconds;
    return json::object{
        {"bdev", o.bdev},
        {"rw", o.rw},
        {"bs", o.block_bytes},
        {"iodepth", o.iodepth},
        {"numjobs", o.numjobs},
        {"runtime_s", seconds},
        {"total_ios", operations},
        {"read_ios", reads},
        {"write_ios", writes},
        {"iops", iops},
        {"bw_bytes", iops * static_cast<double>(o.block_bytes)},
        {"lat_ns", json::object{{"mean", latency.mean()},
                                {"p50", latency.quantile(0.5)},
                                {"p90", latency.quantile(0.9)},
                                {"p99", latency.quantile(0.99)},
                                {"p99_9", latency.quantile(0.999)},
                                {"max", latency.max()}}},
        {"cpu_ns_per_io",
         operations == 0 ? 0.0 : static_cast<double>(cpu_ns) / static_cast<double>(operations)},
        {"errors", errors}};
}

}  // namespace nacre::cli
