// SPDX-License-Identifier: BSD-3-Clause
//
// The insides of ublk::server. Home thread: everything here but a queue's own part
// (ublk_queue.hpp).
//
// A disk ends once: end_disk() has the kernel stop it, which gives the commands of all its tags
// back, waits for its queues, lets go of the device's file and has the kernel remove the device;
// who else wants it to end waits for that. It also ends when somebody else removes the device.
#pragma once

#include "nacre/serve/ublk.hpp"
#include "ublk_control.hpp"
#include "ublk_queue.hpp"

namespace nacre::ublk {

struct disk final : bdev_listener {
    disk(server_state& s, disk_options o) : owner(s), options(std::move(o)) {}
    [[nodiscard]] task<void> base_removed(bdev& base) override;
    [[nodiscard]] task<void> base_resized(bdev& base) override;

    struct served_queue {
        served_queue(bdev_registry& r, const bdev_desc& d, const queue_setup& s, thread& t)
            : core(r, d, s), worker(t) {}
        queue core;
        thread& worker;
        bool open = false;
        bool started = false;
    };

    server_state& owner;
    disk_options options;  ///< as asked for; depth and queues as the kernel made them
    bdev_desc descriptor;
    device_name name;
    device_info info{};
    bool added = false;  ///< the device is there and ours
    int fd = -1;
    std::vector<std::unique_ptr<served_queue>> queues;
    unsigned queues_running = 0;
    bool bringing_up = true;
    bool ending = false;
    bool ended = false;
    wait_point changed;  ///< any of the four above
};

struct server_state {
    explicit server_state(bdev_registry& r) : registry(r), home(r.host().main_thread()) {}

    bdev_registry& registry;
    thread& home;
    bool closed = false;
    bool busy = false;   ///< the target is being made or destroyed
    wait_point settled;  ///< that is over
    std::unique_ptr<control_channel> control;
    target_options target;
    std::vector<thread*> workers;
    std::size_t next_worker = 0;
    std::vector<std::shared_ptr<disk>> disks;
    scope watchers;

    [[nodiscard]] outcome<> choose_workers();
    void set_busy(bool on) noexcept;
    [[nodiscard]] task<void> end_target();
    [[nodiscard]] outcome<> admit(const disk_options& options) const;
    [[nodiscard]] task<outcome<std::uint32_t>> bring_up(std::shared_ptr<disk> d, bool recovering);
    [[nodiscard]] outcome<> open_device(disk& d);
    [[nodiscard]] task<outcome<>> start(const std::shared_ptr<disk>& of);
    [[nodiscard]] task<outcome<>> add_device(disk& d);
    [[nodiscard]] task<outcome<>> set_parameters(disk& d);
    [[nodiscard]] task<outcome<>> recover(const std::shared_ptr<disk>& of);
    [[nodiscard]] task<outcome<>> inspect_left_over(disk& d);
    [[nodiscard]] task<outcome<>> take_over(disk& d);
    [[nodiscard]] task<outcome<>> open_queues(disk& d);
    [[nodiscard]] task<outcome<>> open_file(disk& d);
    [[nodiscard]] task<outcome<>> start_queues(const std::shared_ptr<disk>& d);
    [[nodiscard]] task<void> watch_queue(std::shared_ptr<disk> d, std::size_t index);
    [[nodiscard]] task<void> end_disk(std::shared_ptr<disk> d);
    [[nodiscard]] task<void> remove_device(disk& d);
    [[nodiscard]] task<std::int32_t> command(control_code what, disk& d);
};

}  // namespace nacre::ublk
