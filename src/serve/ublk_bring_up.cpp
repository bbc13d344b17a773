// SPDX-License-Identifier: BSD-3-Clause
//
// How a disk comes to be, new or taken over from a daemon that ended without stopping it.
#include <fmt/format.h>

#include <algorithm>

#include "nacre/core/log.hpp"
#include "nacre/runtime/sleep.hpp"
#include "ublk_server.hpp"

namespace nacre::ublk {
namespace {

/// Of a request, with USER_COPY: memory is taken when it comes. Without, each tag holds it always.
constexpr std::uint32_t io_bytes_max_pooled = buffer_pool::bytes_max;
constexpr std::uint32_t io_bytes_max_held = 128U << 10;

// What the kernel, and udev, do in their own time.
constexpr std::uint64_t retry_ns = 20'000'000;
constexpr unsigned retries_max = 250;  // 5 s

template <typename T>
std::span<std::byte> bytes_of(T& object) noexcept {
    return std::as_writable_bytes(std::span(&object, 1));
}

std::string said(std::int32_t result) { return nacre::describe(error::posix(-result)); }

outcome<> queue_channel(across<queue> q) { return q->open(); }

std::unexpected<failure> kernel_refuses(const disk& d, control_code what, std::int32_t result) {
    return fail(-result,
                fmt::format("ublk {}: {}: {}", d.options.ublk_id, name_of(what), said(result)));
}

}  // namespace

task<std::int32_t> server_state::command(control_code what, disk& d) {
    const bool of_server = what == control_code::start || what == control_code::end_recovery;
    const std::uint64_t data = of_server ? registry.home_world().process_id() : 0;
    const std::int32_t result = co_await control->execute(what, d.name, {}, data);
    co_return result;
}

// --- A new one ----------------------------------------------------------------------------------

task<outcome<>> server_state::start(const std::shared_ptr<disk>& of) {
    disk& d = *of;
    const bdev& device = d.descriptor.device();
    std::uint64_t wanted = feature::user_recovery | feature::user_recovery_reissue |
                           (target.disable_user_copy ? 0 : feature::user_copy);
    if (device.attributes().is_zoned()) wanted |= feature::user_copy | feature::zoned;
    d.info.features = (wanted & control->features()) | feature::ioctl_encoding;
    if (device.attributes().is_zoned() && (d.info.features & wanted) != wanted)
        co_return fail(ENOTSUP, fmt::format("bdev {}: is zoned; this kernel's ublk driver has no "
                                            "zoned disks (Linux 6.6 or later)",
                                            device.name()));
    outcome<> done = co_await add_device(d);
    if (done) done = co_await set_parameters(d);
    if (done) done = co_await open_queues(d);
    if (done) done = co_await open_file(d);
    if (done) done = co_await start_queues(of);
    if (!done) co_return done;
    const std::int32_t started = co_await command(control_code::start, d);
    if (started < 0) co_return kernel_refuses(d, control_code::start, started);
    co_return outcome<>();
}

/// As root; else, where the kernel lets it, as the user's own.
task<outcome<>> server_state::add_device(disk& d) {
    const std::uint64_t features = d.info.features;
    bool own = false;
    std::int32_t added = -EEXIST;
    for (unsigned tries = 0; tries < retries_max; ++tries) {
        const bool pooled = !own && (features & feature::user_copy) != 0;
        d.info = device_info{};
        d.info.queues = static_cast<std::uint16_t>(d.options.num_queues);
        d.info.queue_depth = static_cast<std::uint16_t>(d.options.queue_depth);
        d.info.device_id = d.options.ublk_id;
        d.info.io_bytes_max = pooled ? io_bytes_max_pooled : io_bytes_max_held;
        d.info.server_pid = static_cast<std::int32_t>(registry.home_world().process_id());
        d.info.features = own ? feature::unprivileged | feature::ioctl_encoding : features;
        const device_name unnamed{d.name.id, {}};
        added = co_await control->execute(control_code::add, unnamed, bytes_of(d.info));
        if (added == -EPERM && !own && (features & feature::zoned) == 0 &&
            (control->features() & feature::unprivileged) != 0) {
            own = true;
            continue;
        }
        if (added != -EEXIST) break;
        device_info other{};
        const std::int32_t known =
            co_await control->execute(control_code::get_info, unnamed, bytes_of(other));
        // One that is gone as soon as the last one closes it.
        if (known >= 0 && other.state != device_state::dead) break;
        result<> slept = co_await sleep_for(retry_ns);
        if (!slept) break;
    }
    if (added == -EEXIST)
        co_return fail(EEXIST, fmt::format("ublk {}: exists already. If a daemon that was killed "
                                           "has left it, call ublk_recover_disk; else choose "
                                           "another id",
                                           d.options.ublk_id));
    if (added == -EPERM)
        co_return fail(EPERM,
                       fmt::format("ublk {}: this kernel lets only root add {} (docs/ublk.md, "
                                   "\"As an ordinary user\")",
                                   d.options.ublk_id,
                                   (features & feature::zoned) != 0 ? "zoned disks" : "disks"));
    if (added < 0) co_return kernel_refuses(d, control_code::add, added);
    if (own) d.name.path = fmt::format("/dev/ublkc{}", d.options.ublk_id);
    d.added = true;
    d.options.num_queues = d.info.queues;
    d.options.queue_depth = d.info.queue_depth;
    co_return outcome<>();
}

task<outcome<>> server_state::set_parameters(disk& d) {
    outcome<device_params> params = describe_disk(d.descriptor.device(), d.info.io_bytes_max);
    if (!params) co_return fail(std::move(params.error()));
    // It lies by the path that its owner is let in by, so the node has to be there first.
    outcome<> opened = co_await open_file(d);
    if (!opened) co_return opened;
    const std::int32_t set =
        co_await control->execute(control_code::set_params, d.name, bytes_of(*params));
    if (set < 0) co_return kernel_refuses(d, control_code::set_params, set);
    co_return outcome<>();
}

// --- One that was left --------------------------------------------------------------------------

task<outcome<>> server_state::recover(const std::shared_ptr<disk>& of) {
    disk& d = *of;
    outcome<> done = co_await inspect_left_over(d);
    if (done) done = co_await open_queues(d);
    if (done) done = co_await take_over(d);
    if (done) done = co_await open_file(d);
    if (done) done = co_await start_queues(of);
    if (!done) co_return done;
    const std::int32_t ended = co_await command(control_code::end_recovery, d);
    if (ended < 0) co_return kernel_refuses(d, control_code::end_recovery, ended);
    co_return outcome<>();
}

/// It can be gone on with, and the bdev is what it stood for.
task<outcome<>> server_state::inspect_left_over(disk& d) {
    const std::uint32_t id = d.options.ublk_id;
    std::int32_t told = co_await control->execute(control_code::get_info, d.name, bytes_of(d.info));
    if (told == -ENODEV)
        co_return fail(ENODEV, fmt::format("ublk {}: the kernel has no such device; "
                                           "ublk_start_disk makes one",
                                           id));
    if (told < 0) co_return kernel_refuses(d, control_code::get_info, told);
    if ((d.info.features & feature::user_recovery) == 0)
        co_return fail(ENOTSUP, fmt::format("ublk {}: was not made to be recovered", id));
    device_params old{};
    old.length = sizeof old;
    told = co_await control->execute(control_code::get_params, d.name, bytes_of(old));
    if (told < 0) co_return kernel_refuses(d, control_code::get_params, told);
    outcome<device_params> now = describe_disk(d.descriptor.device(), d.info.io_bytes_max);
    if (!now) co_return fail(std::move(now.error()));
    if (old.device_sectors != now->device_sectors ||
        old.logical_block_shift != now->logical_block_shift ||
        old.chunk_sectors != now->chunk_sectors ||
        ((old.attributes ^ now->attributes) & attribute::read_only) != 0)
        co_return fail(EINVAL, fmt::format("ublk {}: stands for {} bytes in blocks of {}, and bdev "
                                           "{} differs from that in size, block size, zones or in "
                                           "being writable",
                                           id, old.device_sectors * sector_bytes,
                                           1U << old.logical_block_shift, d.options.bdev_name));
    d.options.num_queues = d.info.queues;
    d.options.queue_depth = d.info.queue_depth;
    co_return outcome<>();
}

/// The kernel needs a while to take its leave of a process that was killed.
task<outcome<>> server_state::take_over(disk& d) {
    std::int32_t taken = -EBUSY;
    for (unsigned tries = 0; tries < retries_max && taken == -EBUSY; ++tries) {
        if (tries != 0) {
            result<> slept = co_await sleep_for(retry_ns);
            if (!slept) break;
        }
        taken = co_await command(control_code::start_recovery, d);
    }
    if (taken == -EBUSY)
        co_return fail(EBUSY, fmt::format("ublk {}: process {} serves it", d.options.ublk_id,
                                          d.info.server_pid));
    if (taken < 0) co_return kernel_refuses(d, control_code::start_recovery, taken);
    d.added = true;
    co_return outcome<>();
}

// --- Both ---------------------------------------------------------------------------------------

task<outcome<>> server_state::open_queues(disk& d) {
    const bdev& device = d.descriptor.device();
    const bdev_attributes& a = device.attributes();
    queue_setup setup;
    setup.device_id = d.options.ublk_id;
    setup.depth = d.info.queue_depth;
    setup.user_copy = (d.info.features & feature::user_copy) != 0;
    setup.disk.block_bytes = device.block_size().value();
    setup.disk.blocks = device.blocks().value();
    setup.disk.zone_blocks = a.zoned.zone_size.value();
    setup.disk.io_bytes_max = d.info.io_bytes_max;
    setup.disk.writable = d.descriptor.writable();
    for (std::uint16_t i = 0; i < d.info.queues; ++i) {
        setup.queue_id = i;
        thread& worker = *workers[next_worker++ % workers.size()];
        d.queues.push_back(
            std::make_unique<disk::served_queue>(registry, d.descriptor, setup, worker));
        disk::served_queue& q = *d.queues.back();
        outcome<> opened = co_await call_on(worker, &queue_channel, across<queue>(q.core));
        if (!opened) co_return opened;
        q.open = true;
    }
    co_return outcome<>();
}

/// An ordinary user's node becomes the user's when udev has seen it.
task<outcome<>> server_state::open_file(disk& d) {
    if (d.fd < 0) {
        open_options how;
        how.write = true;
        how.at_once = true;
        const std::string path = fmt::format("/dev/ublkc{}", d.options.ublk_id);
        outcome<int> fd = registry.home_world().open_file(path, how);
        for (unsigned tries = 0; tries < retries_max && !fd; ++tries) {
            const error why = fd.error().code;
            if (!why.is(ENOENT) && !why.is(EACCES)) break;
            result<> slept = co_await sleep_for(retry_ns);
            if (!slept) break;
            fd = registry.home_world().open_file(path, how);
        }
        if (!fd)
            co_return fail(fd.error().code.to_errno(),
                           fmt::format("{}; a rule of udev gives it to the user who made the disk "
                                       "(docs/ublk.md, \"As an ordinary user\")",
                                       fd.error().message));
        d.fd = *fd;
    }
    for (const auto& q : d.queues) {
        outcome<> mapped = q->core.map_descriptors(d.fd);
        if (!mapped) co_return mapped;
    }
    co_return outcome<>();
}

task<void> server_state::remove_device(disk& d) {
    std::int32_t removed = -EOPNOTSUPP;
    if (d.name.path.empty()) removed = co_await command(control_code::remove_later, d);
    if (removed < 0 && removed != -ENODEV) removed = co_await command(control_code::remove, d);
    if (removed < 0 && removed != -ENODEV)
        log::error("ublk", fmt::format("ublk {}: the kernel keeps the device: {}",
                                       d.options.ublk_id, said(removed)));
}

}  // namespace nacre::ublk
