// SPDX-License-Identifier: BSD-3-Clause
#include "perf.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>

#include "block_stamps.hpp"
#include "nacre/core/random.hpp"
#include "nacre/memory/dma_buffer.hpp"
#include "nacre/runtime/interval.hpp"
#include "nacre/runtime/sleep.hpp"
#include "zipf.hpp"

namespace nacre::cli {
namespace {

constexpr std::uint64_t progress_period_ns = 200'000'000;
constexpr std::uint64_t buffer_alignment = 4096;
constexpr std::uint64_t ns_per_second = 1'000'000'000;

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
          positions_(positions_of(options, device)),
          first_position_(options.verify ? positions_ * index : 0),
          next_position_(options.verify ? 0 : positions_ / options.numjobs * index),
          left_(options.number_ios == 0 ? UINT64_MAX : options.number_ios),
          sequential_(p == pattern::read || p == pattern::write || p == pattern::rw),
          read_percent_(p == pattern::read || p == pattern::randread     ? 100
                        : p == pattern::write || p == pattern::randwrite ? 0
                                                                         : options.rwmixread) {
        if (options.zipf_theta > 0) zipf_.emplace(positions_, options.zipf_theta);
        if (options.verify) stamps_.emplace(positions_, first_position_, options.randseed);
    }
    /// Of one job.
    [[nodiscard]] static std::uint64_t positions_of(const perf_options& o, const bdev& device) {
        const std::uint64_t all = device.size().value();
        const std::uint64_t used = o.size_bytes == 0 ? all : std::min(all, o.size_bytes);
        return used / o.block_bytes / (o.verify ? o.numjobs : 1);
    }

    task<result<>> run(bdev_channel channel);
    /// One I/O after the other, as an application's coroutine does them.
    task<result<>> await_each(iov_view buffer);
    /// The same without data of its own: reads borrow what is there, writes give back what they
    /// borrowed.
    task<result<>> lend_each(const bdev_channel& channel);
    /// The same at a given rate, with data that is verified.
    task<result<>> check_each(iov_view buffer);
    task<result<>> read_back(iov_view buffer);
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
            position = zipf_ ? zipf_->next(random_) : next_random();
        if (read_percent_ != 0 && read_percent_ != 100)
            code = random_.below(100) < read_percent_ ? opcode::read : opcode::write;
        first = lba(position * blocks_per_op_);
    }
    void note_mismatch(const outcome<>& checked) {
        note_error(checked.error().code);
        if (result_.mismatch.empty()) result_.mismatch = checked.error().message;
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
    std::uint64_t first_position_;
    std::uint64_t next_position_;
    std::uint64_t left_;
    bool sequential_;
    unsigned read_percent_;
    bool random_only_ =
        !sequential_ && (read_percent_ == 0 || read_percent_ == 100) && options_.zipf_theta <= 0;
    std::uint64_t random_state_ = random_.next();
    unsigned active_ = 0;
    event done_;
    std::optional<zipf> zipf_;
    std::optional<block_stamps> stamps_;
    std::uint64_t next_issue_ns_ = 0;  // with a rate
    std::uint64_t next_check_ = 0;     // of read_back
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

task<result<>> job::lend_each(const bdev_channel& channel) {
    opcode code = read_percent_ == 0 ? opcode::write : opcode::read;
    while (left_ != 0 && channel_->now_ns() < deadline_ns_) {
        --left_;
        lba first;
        choose(code, first);
        const bool reads = code == opcode::read;
        const std::uint64_t began_ns = channel_->now_ns();
        const populate filled = reads ? populate::yes : populate::no;
        const commit kept = reads ? commit::no : commit::yes;
        result<lent_blocks> lent =
            co_await channel.lend(first, block_count(blocks_per_op_), filled);
        if (!lent) [[unlikely]] {
            note_error(lent.error());
            break;
        }
        result<> done;
        do {
            done = co_await lent->give_back(kept);
        } while (lent->held());  // lack of memory delays
        if (!done) [[unlikely]] {
            note_error(done.error());
            break;
        }
        result_.latency.record(channel_->now_ns() - began_ns);
        ++(reads ? result_.reads : result_.writes);
    }
    co_return result<>();
}

task<result<>> job::check_each(iov_view buffer) {
    const std::uint64_t period_ns =
        options_.rate_iops == 0 ? 0 : ns_per_second / options_.rate_iops;
    opcode code = read_percent_ == 0 ? opcode::write : opcode::read;
    while (left_ != 0 && channel_->now_ns() < deadline_ns_) {
        --left_;
        if (period_ns != 0) {
            const std::uint64_t due_ns = next_issue_ns_;
            next_issue_ns_ += period_ns;
            result<> slept = co_await sleep_until(due_ns);
            if (!slept) co_return slept;
            if (left_ == 0 && result_.errors != 0) co_return result<>();
        }
        lba first;
        std::uint64_t position = 0;
        do {
            choose(code, first);
            position = first.value() / blocks_per_op_;
        } while (stamps_ && !stamps_->begin(position));
        const bool check = stamps_ && code == opcode::read && stamps_->written(position);
        if (stamps_ && code == opcode::write)
            stamps_->fill(position, {buffer.data(), buffer.size()});
        io_awaiter io(channel_, code, lba(first.value() + first_position_ * blocks_per_op_),
                      buffer);
        const result<> done = co_await io;
        if (stamps_) stamps_->end(position);
        if (!done) [[unlikely]] {
            note_error(done.error());
            break;
        }
        result_.latency.record(channel_->now_ns() - io.op().entered_ns());
        ++(code == opcode::read ? result_.reads : result_.writes);
        if (code == opcode::write && stamps_) stamps_->note_written(position);
        if (!check) continue;
        const outcome<> same = stamps_->check(position, {buffer.data(), buffer.size()});
        if (!same) {
            note_mismatch(same);
            break;
        }
        ++result_.verified;
    }
    co_return result<>();
}

task<result<>> job::read_back(iov_view buffer) {
    while (result_.errors == 0) {
        while (next_check_ < positions_ && !stamps_->written(next_check_)) ++next_check_;
        if (next_check_ == positions_) break;
        const std::uint64_t position = next_check_++;
        io_awaiter io(channel_, opcode::read, lba((first_position_ + position) * blocks_per_op_),
                      buffer);
        const result<> done = co_await io;
        if (!done) {
            note_error(done.error());
            break;
        }
        const outcome<> same = stamps_->check(position, {buffer.data(), buffer.size()});
        if (!same) {
            note_mismatch(same);
            break;
        }
        ++result_.verified;
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
    if (options_.await || options_.zcopy || options_.verify || options_.rate_iops != 0) {
        const bool plain = !options_.verify && options_.rate_iops == 0;
        next_issue_ns_ = started;
        scope crowd;
        for (unsigned i = 0; i < options_.iodepth; ++i) {
            const iov_view buffer(buffers + i * block_bytes_, block_bytes_);
            crowd.spawn(options_.zcopy ? lend_each(channel)
                        : plain        ? await_each(buffer)
                                       : check_each(buffer));
        }
        result<> joined = co_await crowd.join();
        result_.elapsed_ns = channel_->home().host().precise_now_ns() - started;
        if (!joined || !stamps_ || result_.errors != 0) co_return joined;
        scope checkers;
        for (unsigned i = 0; i < options_.iodepth; ++i)
            checkers.spawn(read_back(iov_view(buffers + i * block_bytes_, block_bytes_)));
        result<> checked = co_await checkers.join();
        co_return checked;
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
    if (o.size_bytes != 0 && (o.size_bytes < o.block_bytes || o.size_bytes > device.size().value()))
        return fail(EINVAL, fmt::format("--size {}: must be at least --bs and at most the {} bytes "
                                        "of {}",
                                        o.size_bytes, device.size().value(), device.name()));
    if (o.verify) {
        const std::uint64_t positions = job::positions_of(o, device);
        if (o.block_bytes < block_stamps::block_bytes_min)
            return fail(EINVAL, fmt::format("--bs {}: too small for --verify", o.block_bytes));
        if (positions < 2 * std::uint64_t{o.iodepth})
            return fail(EINVAL, fmt::format("--iodepth {}: with --verify each job needs twice as "
                                            "many blocks, and has {}",
                                            o.iodepth, positions));
        if (positions > block_stamps::positions_max)
            return fail(EINVAL, fmt::format("--verify: keeps 4 bytes for each of the {} blocks of "
                                            "a job; limit them to {} with --size",
                                            positions, block_stamps::positions_max));
    }
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
    // Who borrows may write.
    const bool writes = options.zcopy || (*p != pattern::read && *p != pattern::randread);
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
        if (total->mismatch.empty()) total->mismatch = r->mismatch;
        total->verified += r->verified;
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
    json::object shown{
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
    if (o.zcopy) shown.append("zcopy", true);
    if (o.verify) shown.append("verified", verified);
    return shown;
}

}  // namespace nacre::cli
