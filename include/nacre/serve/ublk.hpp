// SPDX-License-Identifier: BSD-3-Clause
//
// ublk: bdevs as disks of the Linux kernel, /dev/ublkbN, by its ublk driver (6.5 or later).
//
//     ublk::server server(registry);
//     outcome<> ready = co_await server.create_target({});
//     ublk::disk_options options;
//     options.bdev_name = "vol0";
//     outcome<std::uint32_t> id = co_await server.start_disk(std::move(options));
//     …
//     co_await server.close();
//
// Each queue of a disk is served by one thread, on whose reactor's io_uring the kernel hands over
// its requests; it sleeps while there are none. A zoned bdev is a zoned disk.
//
// When the bdev goes away the disk goes first: what is in flight is answered, later requests fail
// with EIO. A disk whose daemon was killed waits for recover_disk(), and its requests with it.
//
// All calls are made on the registry's home thread. docs/ublk.md is the essay.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "nacre/bdev/registry.hpp"
#include "nacre/core/json_decode.hpp"

namespace nacre::ublk {

/// Parameters of ublk_create_target.
struct target_options {
    /// Of the reactors that may serve; absent: all.
    std::optional<std::string> cpumask;
    bool disable_user_copy = false;

    [[nodiscard]] static std::span<const json::field> fields();
};

/// Parameters of ublk_start_disk.
struct disk_options {
    static constexpr std::uint32_t queue_depth_max = 1024;
    static constexpr std::uint32_t queues_max = 32;
    static constexpr std::uint32_t id_max = (1U << 20) - 1;

    std::string bdev_name;
    std::uint32_t ublk_id = 0;
    /// More than the maximum is the maximum, and of queues there are no more than CPUs.
    std::uint32_t queue_depth = 128;
    std::uint32_t num_queues = 1;

    [[nodiscard]] static std::span<const json::field> fields();
};

/// Parameters of ublk_recover_disk.
struct recovery_options {
    std::string bdev_name;
    std::uint32_t ublk_id = 0;

    [[nodiscard]] static std::span<const json::field> fields();
};

/// One disk as ublk_get_disks shows it.
struct disk_info {
    std::string ublk_device;
    std::uint32_t id = 0;
    std::uint32_t queue_depth = 0;
    std::uint32_t num_queues = 0;
    std::string bdev_name;

    [[nodiscard]] static std::span<const json::field> fields();
};

struct server_state;

class server {
public:
    explicit server(bdev_registry& registry);
    /// After close() (asserted), unless no target was ever created.
    ~server();
    server(const server&) = delete;
    server& operator=(const server&) = delete;

    /// EBUSY (there is one), EINVAL (cpumask), or why the kernel's driver cannot be used.
    [[nodiscard]] task<outcome<>> create_target(target_options options);
    /// Stops all disks. ENOENT.
    [[nodiscard]] task<outcome<>> destroy_target();
    /// When it returns the disk is there; its number. ENODEV (no target, no such bdev), EBUSY (the
    /// number is taken), EPERM (writes are claimed), ENOTSUP, EINVAL, or what the kernel said.
    [[nodiscard]] task<outcome<std::uint32_t>> start_disk(disk_options options);
    /// Goes on with a disk whose daemon has ended without stopping it.
    [[nodiscard]] task<outcome<std::uint32_t>> recover_disk(recovery_options options);
    /// ENODEV; EBUSY (something is being done to it).
    [[nodiscard]] task<outcome<>> stop_disk(std::uint32_t id);
    /// In the order of creation.
    [[nodiscard]] std::vector<disk_info> list() const;
    /// [{"method": "ublk_create_target", "params": {…}}, …], for save_config.
    [[nodiscard]] json::array configuration() const;

    /// Stops all disks and the target. Idempotent; later calls fail with ESHUTDOWN.
    [[nodiscard]] task<void> close();

private:
    std::unique_ptr<server_state> state_;
};

}  // namespace nacre::ublk
