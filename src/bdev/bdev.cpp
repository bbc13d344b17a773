// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/bdev/bdev.hpp"

#include <algorithm>

#include "direct_gate.hpp"
#include "lock_table.hpp"
#include "nacre/bdev/child_io.hpp"
#include "nacre/bdev/registry.hpp"
#include "nacre/memory/reserved_buffers.hpp"
#include "nacre/runtime/sleep.hpp"

namespace nacre {

const char* name_of(opcode op) noexcept {
    static constexpr const char* names[opcode_count] = {"read",
                                                        "write",
                                                        "flush",
                                                        "unmap",
                                                        "write_zeroes",
                                                        "compare",
                                                        "compare_and_write",
                                                        "copy",
                                                        "seek_data",
                                                        "seek_hole",
                                                        "reset",
                                                        "abort",
                                                        "zone_append",
                                                        "zone_management",
                                                        "get_zone_info",
                                                        "nvme_admin",
                                                        "nvme_io",
                                                        "zcopy"};
    return names[static_cast<unsigned>(op)];
}

const char* name_of(claim c) noexcept {
    static constexpr const char* names[] = {"none", "exclusive_write", "read_many_write_one",
                                            "read_many_write_none", "read_many_write_shared"};
    return names[static_cast<unsigned>(c)];
}

const char* name_of(io_failure f) noexcept {
    static constexpr const char* names[io_failure_count] = {"aborted", "miscompare", "nomem",
                                                            "nvme_error", "failed"};
    return names[static_cast<unsigned>(f)];
}

io_failure failure_of(error status) noexcept {
    if (status.domain() == error_domain::nvme) return io_failure::nvme_error;
    switch (status.to_errno()) {
        case ECANCELED:
        case ETIMEDOUT:
            return io_failure::aborted;
        case EILSEQ:
            return io_failure::miscompare;
        case ENOMEM:
            return io_failure::nomem;
        default:
            return io_failure::failed;
    }
}

void io_counters::add(const io_counters& other) noexcept {
    operations += other.operations;
    bytes += other.bytes;
    latency_ns += other.latency_ns;
    latency_ns_min = std::min(latency_ns_min, other.latency_ns_min);
    latency_ns_max = std::max(latency_ns_max, other.latency_ns_max);
}

void io_statistics::add(const io_statistics& other) noexcept {
    for (unsigned i = 0; i < opcode_count; ++i) by_opcode[i].add(other.by_opcode[i]);
    errors += other.errors;
    for (unsigned i = 0; i < io_failure_count; ++i) errors_by_kind[i] += other.errors_by_kind[i];
}

void io_statistics::reset(statistics_reset what) noexcept {
    switch (what) {
        case statistics_reset::none:
            return;
        case statistics_reset::errors:
            errors = 0;
            errors_by_kind = {};
            return;
        case statistics_reset::max_min:
            for (io_counters& c : by_opcode) {
                c.latency_ns_min = UINT64_MAX;
                c.latency_ns_max = 0;
            }
            return;
        case statistics_reset::all:
            *this = io_statistics();
            return;
    }
}

void bdev_attributes::derive_from(const bdev_attributes& base) {
    block_size = base.block_size;
    blocks = base.blocks;
    physical_block_size = base.physical_block_size;
    write_unit = base.write_unit;
    protection = base.protection;
    protection_at_head = base.protection_at_head;
    protection_checks = base.protection_checks;
    numa_id = base.numa_id;
    buffer_alignment = base.buffer_alignment;
    optimal_boundary = base.optimal_boundary;
    boundary_optional = base.boundary_optional;
    transfer_bytes_max = base.transfer_bytes_max;
    metadata_size = base.metadata_size;
    metadata_interleaved = base.metadata_interleaved;
    write_cache = base.write_cache;
    zoned = base.zoned;
    operations = base.operations & ~raw_opcodes;
    layers = base.layers + 1;
}

std::uint64_t child_io::block_size() const noexcept {
    return channel_.device().block_size().value();
}

bdev::bdev(bdev_attributes attributes)
    : attributes_(std::move(attributes)), blocks_(attributes_.blocks.value()) {}

reserved_buffers bdev::channel_buffers() { return reserved_buffers(registry_->buffers().here()); }

bdev::~bdev() { NACRE_ASSERT(channels_.empty()); }

task<void> bdev::close() { co_return; }

json::value bdev::information() const { return json::object(); }
json::value bdev::configuration() const { return json::value(); }

namespace {

/// The layer whose channel is being made on this OS thread: what is opened meanwhile, it stands on.
thread_local bdev* making = nullptr;

struct making_guard {
    explicit making_guard(bdev& layer) noexcept : above(std::exchange(making, &layer)) {}
    making_guard(const making_guard&) = delete;
    ~making_guard() { making = above; }
    bdev* const above;
};

}  // namespace

void bdev::note_base(const bdev& base) {
    const std::lock_guard guard(bases_mutex_);
    if (std::ranges::find(bases_, &base) == bases_.end()) bases_.push_back(&base);
}

bool bdev::stands_on_any(std::span<const bdev* const> bases) {
    const std::lock_guard guard(bases_mutex_);
    return std::ranges::find_first_of(bases_, bases) != bases_.end();
}

outcome<module_channel*> bdev::acquire_channel(bool feeds, bdev* layer) {
    thread* const here = thread::current();
    NACRE_ASSERT(here != nullptr);
    if (layer == nullptr) layer = making;
    if (feeds && layer != nullptr) layer->note_base(*this);
    // Held while the channel is made, so that a removal finds it among the channels to drain, or
    // comes first and is seen here. A layer takes the locks of what stands below, never upwards.
    const std::lock_guard guard(mutex_);
    for (channel_slot& slot : channels_) {
        if (slot.home != here) continue;
        ++slot.channel->handles_;
        slot.channel->fed_ |= feeds;
        return slot.channel.get();
    }
    if (removed()) return fail(ENODEV, name() + ": has been removed");
    auto made = [this] {
        const making_guard guarded(*this);
        return make_channel();
    }();
    if (!made) return fail(std::move(made.error()));
    channels_.push_back({here, std::move(*made)});
    channels_.back().channel->handles_ = 1;
    if (closed_latencies_ != nullptr)
        channels_.back().channel->set_histogram(
            std::make_unique<latency_histogram>(closed_latencies_->options()));
    module_channel& channel = *channels_.back().channel;
    channel.fed_ = feeds;
    if (limited_) channel.powers().limit(limiter_.get());
    if (sampled_) channel.powers().sample(true);
    if (locks_ != nullptr)
        locks_->for_each_known([&](const lock_entry& e) {
            if (e.is == lock_state::standing)
                channel.powers().lock(e.range);
            else
                channel.powers().watch(e.range);
        });
    return &channel;
}

void bdev::release_channel(module_channel& channel) noexcept {
    NACRE_ASSERT(thread::current() == &channel.home());
    std::unique_ptr<module_channel> last;
    {
        const std::lock_guard guard(mutex_);
        if (--channel.handles_ != 0) return;
        auto slot = std::find_if(channels_.begin(), channels_.end(), [&](const channel_slot& s) {
            return s.channel.get() == &channel;
        });
        last = std::move(slot->channel);
        closed_channels_.add(last->statistics());
        if (closed_latencies_ != nullptr && last->recorded() != nullptr &&
            last->recorded()->options() == closed_latencies_->options())
            closed_latencies_->merge(*last->recorded());
        channels_.erase(slot);
    }
    // Its destructor may close channels of base devices: not under the lock.
}

std::vector<module_channel*> bdev::pin_channels(io_statistics* closed, statistics_reset reset) {
    const std::lock_guard guard(mutex_);
    if (closed != nullptr) {
        // What is pinned closes later, and is then not counted twice.
        closed->add(closed_channels_);
        closed_channels_.reset(reset);
        if (readers_ != nullptr) readers_->collect(*closed, reset);
        if (writers_ != nullptr) writers_->collect(*closed, reset);
    }
    std::vector<module_channel*> pinned;
    for (channel_slot& slot : channels_) {
        ++slot.channel->handles_;
        pinned.push_back(slot.channel.get());
    }
    return pinned;
}

// --- Limits and samples -------------------------------------------------------------------------

task<void> bdev::set_rate_limits(rate_limits limits) {
    {
        const std::lock_guard guard(mutex_);
        if (locks_ != nullptr && locks_->ended()) co_return;
        if (limiter_ == nullptr) {
            if (!limits.any()) co_return;
            limiter_ = std::make_unique<rate_limiter>();
        }
        limited_ = limits.any();
        limiter_->set(limits, thread::current()->now_ns());
        judge_direct();
    }
    co_await apply_limits(limits.any());
}

task<void> bdev::apply_limits(bool on) {
    const auto apply = [](across<bdev> d, across<module_channel> c, bool limited) {
        c->powers().limit(limited ? d->limiter_.get() : nullptr);
        d->release_channel(*c);
    };
    const across<bdev> self(*this);
    std::vector<module_channel*> pinned = pin_channels();
    for (module_channel* channel : pinned) {
        const across<module_channel> there(*channel);
        if (&channel->home() == thread::current())
            apply(self, there, on);
        else
            co_await call_on(channel->home(), apply, self, there, on);
    }
}

rate_limits bdev::assigned_rate_limits() const noexcept {
    return limiter_ == nullptr ? rate_limits() : limiter_->limits();
}

task<result<std::uint64_t>> bdev::measure_depth(bool sampled) {
    const auto look = [](across<bdev> d, across<module_channel> c, bool on) {
        c->powers().sample(on);
        const std::uint64_t depth = c->powers().depth();
        d->release_channel(*c);
        return depth;
    };
    const across<bdev> self(*this);
    std::uint64_t sum = 0;
    std::vector<module_channel*> pinned = pin_channels();
    for (module_channel* channel : pinned) {
        const across<module_channel> there(*channel);
        std::uint64_t depth;
        if (&channel->home() == thread::current())
            depth = look(self, there, sampled);
        else
            depth = co_await call_on(channel->home(), look, self, there, sampled);
        sum += depth;
    }
    co_return sum;
}

task<void> bdev::sample_queue(std::uint64_t period_us) {
    // One of 2^64 ns and more never ends.
    const std::uint64_t ns = period_us > UINT64_MAX / 1'000 ? UINT64_MAX : period_us * 1'000;
    while (true) {
        result<> slept = co_await sleep_for(ns);
        if (!slept) co_return;
        result<std::uint64_t> depth = co_await measure_depth(true);
        if (!depth) continue;  // no memory now
        queue_.depth = *depth;
        if (queue_.depth == 0) continue;
        queue_.io_time += period_us;
        queue_.weighted_io_time += period_us * queue_.depth;
    }
}

task<void> bdev::set_queue_sampling(std::uint64_t period_us) {
    while (sampling_changes_) co_await yield();
    if (period_us == queue_.period_us) co_return;
    {
        const std::lock_guard guard(mutex_);
        if (period_us != 0 && locks_ != nullptr && locks_->ended()) co_return;  // it is going away
        sampled_ = period_us != 0;
        judge_direct();
    }
    sampling_changes_ = true;
    queue_.period_us = period_us;
    if (sampler_ == nullptr) sampler_ = std::make_unique<scope>();
    sampler_->request_stop();
    // It may be asking the channels still.
    [[maybe_unused]] result<> ended = co_await sampler_->join();
    sampler_ = std::make_unique<scope>();
    while (true) {
        result<std::uint64_t> now = co_await measure_depth(period_us != 0);
        if (now) break;
        co_await yield();  // lack of memory delays
    }
    while (period_us != 0) {
        task<void> sampling = sample_queue(period_us);
        if (sampling.valid()) {
            sampler_->spawn(std::move(sampling));
            break;
        }
        co_await yield();
    }
    sampling_changes_ = false;
}

task<void> bdev::end_powers() {
    {
        const std::lock_guard guard(mutex_);
        if (locks_ == nullptr) locks_ = std::make_unique<lock_table>();
        locks_->end_all();
        limited_ = false;
        judge_direct();
    }
    while (true) {
        result<> left = co_await direct_left(true);
        if (left) break;
        co_await yield();  // lack of memory delays
    }
    while (queue_.period_us != 0) {
        task<void> stopping = set_queue_sampling(0);
        if (stopping.valid())
            co_await std::move(stopping);
        else
            co_await yield();  // lack of memory delays
    }
    const auto end = [](across<bdev> d, across<module_channel> c) {
        if (c->powers_ != nullptr) {
            c->powers_->fail_all(ENODEV);
            c->powers_->limit(nullptr);
            c->powers_->unlock_all();
        }
        d->release_channel(*c);
    };
    const across<bdev> self(*this);
    std::vector<module_channel*> pinned = pin_channels();
    for (module_channel* channel : pinned) {
        const across<module_channel> there(*channel);
        if (&channel->home() == thread::current())
            end(self, there);
        else
            co_await call_on(channel->home(), end, self, there);
    }
}

std::size_t bdev::post_media_events(std::span<const media_event> events) {
    std::size_t most = 0;
    std::vector<bdev_listener*> listeners;
    for (bdev_desc* d : descriptors_) {
        if (d->listener_ != nullptr) {
            listeners.push_back(d->listener_);
            most = events.size();
            continue;
        }
        if (!d->writable() || events.empty()) continue;
        const std::size_t room = bdev_desc::media_events_max - d->media_events_.size();
        const std::size_t taken = std::min(room, events.size());
        d->media_events_.insert(d->media_events_.end(), events.begin(),
                                events.begin() + static_cast<std::ptrdiff_t>(taken));
        if (taken != 0) d->post_event(bdev_event::media_management);
        most = std::max(most, taken);
    }
    for (bdev_listener* l : listeners) l->base_media_events(*this, events);
    return most;
}

namespace {

io_statistics read_statistics(across<module_channel> channel, statistics_reset reset) {
    const io_statistics figures = channel->statistics();
    channel->statistics().reset(reset);
    return figures;
}

task<result<>> drain_on_its_thread(across<module_channel> channel) {
    result<> drained = co_await channel->drain_removed();
    co_return drained;
}

void start_recording(across<module_channel> channel,
                     std::optional<histogram_options> options) noexcept {
    channel->set_histogram(options ? std::make_unique<latency_histogram>(*options) : nullptr);
}
std::optional<latency_histogram> read_recording(across<module_channel> channel) noexcept {
    if (channel->recorded() == nullptr) return std::nullopt;
    return *channel->recorded();
}

}  // namespace

task<void> bdev::unpin(module_channel& channel) {
    thread& there = channel.home();
    if (&there == thread::current()) {
        release_channel(channel);
        co_return;
    }
    // Waited for: a pin does not keep the device, and the caller does.
    const auto release = [](across<bdev> d, across<module_channel> c) { d->release_channel(*c); };
    co_await call_on(there, release, across<bdev>(*this), across<module_channel>(channel));
}

task<io_statistics> bdev::collect_statistics(statistics_reset reset) {
    io_statistics sum;
    std::vector<module_channel*> pinned = pin_channels(&sum, reset);
    for (module_channel* channel : pinned) {
        thread& there = channel->home();
        if (&there == thread::current()) {
            sum.add(read_statistics(across<module_channel>(*channel), reset));
            release_channel(*channel);
        } else {
            io_statistics figures =
                co_await call_on(there, &read_statistics, across<module_channel>(*channel), reset);
            sum.add(figures);
            co_await unpin(*channel);
        }
    }
    co_return sum;
}

task<std::vector<channel_statistics>> bdev::collect_channel_statistics(statistics_reset reset) {
    std::vector<channel_statistics> list;
    std::vector<module_channel*> pinned = pin_channels();
    for (module_channel* channel : pinned) {
        thread& there = channel->home();
        if (&there == thread::current()) {
            list.push_back({there.id(), read_statistics(across<module_channel>(*channel), reset)});
            release_channel(*channel);
        } else {
            io_statistics figures =
                co_await call_on(there, &read_statistics, across<module_channel>(*channel), reset);
            list.push_back({there.id(), figures});
            co_await unpin(*channel);
        }
    }
    co_return list;
}

task<void> bdev::set_histogram(std::optional<histogram_options> options) {
    {
        const std::lock_guard guard(mutex_);
        closed_latencies_ = options ? std::make_unique<latency_histogram>(*options) : nullptr;
        judge_direct();
    }
    std::vector<module_channel*> pinned = pin_channels();
    for (module_channel* channel : pinned) {
        const across<module_channel> there(*channel);
        if (&channel->home() == thread::current())
            start_recording(there, options);
        else
            co_await call_on(channel->home(), &start_recording, there, options);
        co_await unpin(*channel);
    }
}

task<std::optional<latency_histogram>> bdev::collect_histogram() {
    std::vector<module_channel*> pinned = pin_channels();
    std::optional<latency_histogram> sum;
    {
        const std::lock_guard guard(mutex_);
        if (closed_latencies_ != nullptr) sum.emplace(*closed_latencies_);
    }
    for (module_channel* channel : pinned) {
        const across<module_channel> there(*channel);
        std::optional<latency_histogram> part;
        if (&channel->home() == thread::current())
            part = read_recording(there);
        else
            part = co_await call_on(channel->home(), &read_recording, there);
        if (sum && part && part->options() == sum->options()) sum->merge(*part);
        co_await unpin(*channel);
    }
    co_return sum;
}

task<void> bdev::drain_channels() {
    removed_.store(true, std::memory_order_release);
    std::vector<module_channel*> pinned = pin_channels();
    for (module_channel* channel : pinned) {
        const bool here = &channel->home() == thread::current();
        while (true) {
            result<> drained;
            if (here) {
                drained = co_await channel->drain_removed();
            } else {
                join_handle<result<>> draining =
                    channel->home().spawn(&drain_on_its_thread, across<module_channel>(*channel));
                drained = co_await draining;
            }
            if (drained) break;
            co_await yield();  // no memory yet, or asked to stop: it cannot be left half-way
        }
        if (here)
            release_channel(*channel);
        else
            co_await unpin(*channel);
    }
}

task<void> bdev::resized(block_count blocks) {
    blocks_.store(blocks.value(), std::memory_order_release);
    attributes_.blocks = blocks;
    if (registry_ != nullptr && registry_->find(name()) == this)
        for (bdev_registry::observer* o : registry_->observers_) o->resized(*this);
    std::vector<bdev_listener*> listeners;
    for (bdev_desc* d : descriptors_) {
        if (d->listener_ != nullptr)
            listeners.push_back(d->listener_);
        else
            d->post_event(bdev_event::resized);
    }
    for (bdev_listener* l : listeners) co_await l->base_resized(*this);
}

task<void> bdev_listener::base_resized(bdev&) { co_return; }
void bdev_listener::base_media_events(bdev&, std::span<const media_event>) {}

}  // namespace nacre
