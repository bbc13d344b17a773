// SPDX-License-Identifier: BSD-3-Clause
#include "ublk_server.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "nacre/core/cpu_set.hpp"
#include "nacre/core/log.hpp"

namespace nacre::ublk {
namespace {

// On a queue's thread.
void close_queue(across<queue> q) { q->close(); }
task<outcome<>> start_queue(across<queue> q) {
    outcome<> started = co_await q->start();
    co_return started;
}
task<void> finish_queue(across<queue> q) { co_await q->finish(); }

disk_info describe(const disk& d) {
    disk_info info;
    info.ublk_device = fmt::format("/dev/ublkb{}", d.options.ublk_id);
    info.id = d.options.ublk_id;
    info.queue_depth = d.options.queue_depth;
    info.num_queues = d.options.num_queues;
    info.bdev_name = d.options.bdev_name;
    return info;
}

bool serves(const disk& d) noexcept { return !d.bringing_up && !d.ending; }

}  // namespace

// --- The disk's bdev ----------------------------------------------------------------------------

task<void> disk::base_removed(bdev& base) {
    const auto self = std::find_if(owner.disks.begin(), owner.disks.end(),
                                   [this](const auto& d) { return d.get() == this; });
    if (self == owner.disks.end()) co_return;
    log::notice("ublk", fmt::format("/dev/ublkb{}: ends, because bdev {} goes away",
                                    options.ublk_id, base.name()));
    co_await owner.end_disk(*self);
}

task<void> disk::base_resized(bdev& base) {
    log::notice("ublk", fmt::format("/dev/ublkb{}: keeps its size while it is there, though bdev "
                                    "{} has changed its own",
                                    options.ublk_id, base.name()));
    co_return;
}

// --- The target ---------------------------------------------------------------------------------

/// A reactor that floats may run anywhere, so it serves only a mask of all CPUs.
outcome<> server_state::choose_workers() {
    workers.clear();
    next_worker = 0;
    runtime& host = registry.host();
    cpu_set allowed;
    for (unsigned cpu : host.home_world().allowed_cpus()) allowed.add(cpu);
    cpu_set wanted = allowed;
    if (target.cpumask) {
        outcome<cpu_set> parsed = cpu_set::parse_mask(*target.cpumask);
        if (!parsed) return fail(std::move(parsed.error()));
        if (parsed->empty() || !(*parsed - allowed).empty())
            return fail(EINVAL,
                        fmt::format("cpumask {}: names no CPU, or one that this process may "
                                    "not use (those are {})",
                                    *target.cpumask, allowed.to_list()));
        wanted = *parsed;
    }
    const bool anywhere = (allowed - wanted).empty();
    for (unsigned index = 0; index < host.reactor_count(); ++index) {
        const int cpu = host.reactor_at(index).options().cpu;
        if (cpu < 0 ? !anywhere : !wanted.contains(static_cast<unsigned>(cpu))) continue;
        workers.push_back(host.reactor_count() == 1 ? &home : &host.service_thread(index));
    }
    if (workers.empty())
        return fail(EINVAL, fmt::format("cpumask {}: no reactor runs on these CPUs only; start one "
                                        "there (option --cores)",
                                        *target.cpumask));
    return {};
}

void server_state::set_busy(bool on) noexcept {
    busy = on;
    if (!on) settled.wake_all();
}

task<void> server_state::end_target() {
    scope ending;
    for (const std::shared_ptr<disk>& d : disks) ending.spawn(end_disk(d));
    result<> joined = co_await ending.join();
    joined = co_await watchers.join();
    (void)joined;  // their children have no result
    if (control != nullptr) co_await control->close();
    control.reset();
    workers.clear();
}

// --- A disk begins ------------------------------------------------------------------------------

outcome<> server_state::admit(const disk_options& options) const {
    if (closed) return fail(ESHUTDOWN, "the ublk target is shutting down");
    if (control == nullptr || busy)
        return fail(ENODEV, "there is no ublk target; call ublk_create_target first");
    if (options.ublk_id > disk_options::id_max)
        return fail(EINVAL, fmt::format("ublk_id {}: the largest is {}", options.ublk_id,
                                        disk_options::id_max));
    if (options.queue_depth == 0 || options.num_queues == 0)
        return fail(EINVAL, fmt::format("ublk {}: queue_depth and num_queues are at least 1",
                                        options.ublk_id));
    for (const std::shared_ptr<disk>& d : disks)
        if (d->options.ublk_id == options.ublk_id)
            return fail(EBUSY, fmt::format("ublk {}: serves bdev {} already; choose another id, or "
                                           "call ublk_stop_disk first",
                                           options.ublk_id, d->options.bdev_name));
    return {};
}

task<outcome<std::uint32_t>> server_state::bring_up(std::shared_ptr<disk> d, bool recovering) {
    disks.push_back(d);
    d->name.id = d->options.ublk_id;
    outcome<> up = open_device(*d);
    if (up && recovering)
        up = co_await recover(d);
    else if (up)
        up = co_await start(d);
    d->bringing_up = false;
    d->changed.wake_all();
    if (up && d->ending)
        up = fail(ENODEV, fmt::format("ublk {}: its bdev {} has just been removed",
                                      d->options.ublk_id, d->options.bdev_name));
    if (!up) {
        co_await end_disk(d);
        co_return fail(std::move(up.error()));
    }
    log::info("ublk", [&] {
        return fmt::format(
            "/dev/ublkb{}: {} bdev {} with {} queues of {} requests{}", d->options.ublk_id,
            recovering ? "goes on with" : "serves", d->options.bdev_name, d->options.num_queues,
            d->options.queue_depth,
            (d->info.features & feature::user_copy) != 0 ? "" : ", without user copy");
    });
    co_return d->options.ublk_id;
}

outcome<> server_state::open_device(disk& d) {
    const bdev* device = registry.find(d.options.bdev_name);
    const bool readonly = device != nullptr && !device->supports(opcode::write);
    auto opened = registry.open(d.options.bdev_name, readonly ? access::read : access::write);
    if (!opened) return fail(std::move(opened.error()));
    d.descriptor = std::move(*opened);
    d.descriptor.set_listener(&d);
    return {};
}

task<outcome<>> server_state::start_queues(const std::shared_ptr<disk>& d) {
    for (std::size_t i = 0; i < d->queues.size(); ++i) {
        disk::served_queue& q = *d->queues[i];
        join_handle<outcome<>> starting = q.worker.spawn(&start_queue, across<queue>(q.core));
        outcome<> started = co_await starting;
        ++d->queues_running;
        watchers.spawn(watch_queue(d, i));
        if (!started) co_return started;
    }
    co_return outcome<>();
}

task<void> server_state::watch_queue(std::shared_ptr<disk> d, std::size_t index) {
    disk::served_queue& q = *d->queues[index];
    join_handle<void> finishing = q.worker.spawn(&finish_queue, across<queue>(q.core));
    co_await finishing;
    --d->queues_running;
    d->changed.wake_all();
    if (d->ending || d->bringing_up) co_return;
    log::warning("ublk", fmt::format("/dev/ublkb{}: the kernel has ended it; somebody else has "
                                     "stopped or deleted it",
                                     d->options.ublk_id));
    co_await end_disk(d);
}

// --- A disk ends --------------------------------------------------------------------------------

task<void> server_state::end_disk(std::shared_ptr<disk> d) {
    if (d->ending) {
        while (!d->ended) co_await d->changed.wait();
        co_return;
    }
    d->ending = true;
    while (d->bringing_up) co_await d->changed.wait();
    if (d->added) {
        const std::int32_t stopped = co_await command(control_code::stop, *d);
        if (stopped < 0 && stopped != -ENODEV)
            log::error("ublk",
                       fmt::format("/dev/ublkb{}: the kernel does not stop it: {}",
                                   d->options.ublk_id, nacre::describe(error::posix(-stopped))));
    }
    while (d->queues_running != 0) co_await d->changed.wait();
    for (const auto& q : d->queues) {
        if (q->open) co_await call_on(q->worker, &close_queue, across<queue>(q->core));
        q->core.unmap_descriptors();
    }
    if (d->fd >= 0) registry.home_world().close_file(std::exchange(d->fd, -1));
    if (d->added) co_await remove_device(*d);
    d->descriptor.close();
    std::erase(disks, d);
    d->ended = true;
    d->changed.wake_all();
}

// --- The interface ------------------------------------------------------------------------------

server::server(bdev_registry& registry) : state_(std::make_unique<server_state>(registry)) {}

server::~server() { NACRE_ASSERT(state_->control == nullptr && state_->disks.empty()); }

task<outcome<>> server::create_target(target_options options) {
    server_state& s = *state_;
    if (s.closed) co_return fail(ESHUTDOWN, "the ublk target is shutting down");
    if (s.control != nullptr || s.busy) co_return fail(EBUSY, "the ublk target exists already");
    s.target = std::move(options);
    outcome<> chosen = s.choose_workers();
    if (!chosen) co_return chosen;
    s.set_busy(true);
    auto opened = co_await control_channel::open(s.registry.home_world());
    if (opened) s.control = std::move(*opened);
    s.set_busy(false);
    if (!opened) co_return fail(std::move(opened.error()));
    co_return outcome<>();
}

task<outcome<>> server::destroy_target() {
    server_state& s = *state_;
    if (s.control == nullptr || s.busy) co_return fail(ENOENT, "there is no ublk target");
    s.set_busy(true);
    co_await s.end_target();
    s.set_busy(false);
    co_return outcome<>();
}

task<outcome<std::uint32_t>> server::start_disk(disk_options options) {
    if (outcome<> admitted = state_->admit(options); !admitted)
        co_return fail(std::move(admitted.error()));
    options.queue_depth = std::min(options.queue_depth, disk_options::queue_depth_max);
    options.num_queues = std::min(options.num_queues, disk_options::queues_max);
    auto d = std::make_shared<disk>(*state_, std::move(options));
    outcome<std::uint32_t> up = co_await state_->bring_up(d, false);
    co_return up;
}

task<outcome<std::uint32_t>> server::recover_disk(recovery_options options) {
    disk_options as_asked;
    as_asked.bdev_name = std::move(options.bdev_name);
    as_asked.ublk_id = options.ublk_id;
    if (outcome<> admitted = state_->admit(as_asked); !admitted)
        co_return fail(std::move(admitted.error()));
    auto d = std::make_shared<disk>(*state_, std::move(as_asked));
    outcome<std::uint32_t> up = co_await state_->bring_up(d, true);
    co_return up;
}

task<outcome<>> server::stop_disk(std::uint32_t id) {
    const auto found = std::ranges::find_if(
        state_->disks, [&](const auto& d) { return d->options.ublk_id == id; });
    if (found == state_->disks.end())
        co_return fail(ENODEV, fmt::format("ublk {}: there is no such disk; ublk_get_disks lists "
                                           "those that exist",
                                           id));
    const std::shared_ptr<disk> d = *found;
    if (!serves(*d))
        co_return fail(EBUSY, fmt::format("ublk {}: is being started or stopped already", id));
    co_await state_->end_disk(d);
    co_return outcome<>();
}

std::vector<disk_info> server::list() const {
    std::vector<disk_info> infos;
    for (const std::shared_ptr<disk>& d : state_->disks)
        if (serves(*d)) infos.push_back(describe(*d));
    return infos;
}

json::array server::configuration() const {
    json::array calls;
    if (state_->control == nullptr) return calls;
    calls.push_back(
        json::object{{"method", "ublk_create_target"}, {"params", json::encode(state_->target)}});
    for (const std::shared_ptr<disk>& d : state_->disks)
        if (serves(*d))
            calls.push_back(
                json::object{{"method", "ublk_start_disk"}, {"params", json::encode(d->options)}});
    return calls;
}

task<void> server::close() {
    server_state& s = *state_;
    s.closed = true;
    while (s.busy) co_await s.settled.wait();
    s.set_busy(true);
    co_await s.end_target();
    s.set_busy(false);
}

// --- Options ------------------------------------------------------------------------------------

std::span<const json::field> target_options::fields() {
    using self = target_options;
    static constexpr json::field table[] = {
        json::optional<&self::cpumask>("cpumask", "CPUs of the reactors that may serve; all"),
        json::optional<&self::disable_user_copy>(
            "disable_user_copy", "Have the kernel copy to and from a buffer of each request"),
    };
    return table;
}

std::span<const json::field> disk_options::fields() {
    using self = disk_options;
    static constexpr json::field table[] = {
        json::required<&self::bdev_name>("bdev_name", "Name, alias or UUID of the bdev to serve"),
        json::required<&self::ublk_id>("ublk_id", "The number of /dev/ublkb<number>"),
        json::optional<&self::queue_depth>("queue_depth", "Requests of a queue, at most 1024"),
        json::optional<&self::num_queues>("num_queues", "Queues, at most 32 and one a CPU"),
    };
    return table;
}

std::span<const json::field> recovery_options::fields() {
    using self = recovery_options;
    static constexpr json::field table[] = {
        json::required<&self::bdev_name>("bdev_name", "Name, alias or UUID of the bdev to serve"),
        json::required<&self::ublk_id>("ublk_id", "The number of the disk that was left"),
    };
    return table;
}

std::span<const json::field> disk_info::fields() {
    using self = disk_info;
    static constexpr json::field table[] = {
        json::required<&self::ublk_device>("ublk_device", "The disk"),
        json::required<&self::id>("id", "Its number"),
        json::required<&self::queue_depth>("queue_depth", "Requests of a queue"),
        json::required<&self::num_queues>("num_queues", "Queues"),
        json::required<&self::bdev_name>("bdev_name", "The bdev that it stands for"),
    };
    return table;
}

}  // namespace nacre::ublk
