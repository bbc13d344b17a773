// SPDX-License-Identifier: BSD-3-Clause
//
// /dev/ublk-control: commands on ublk devices. They take 128-byte entries, so they have an io_uring
// of their own, whose completions a reactor's io_uring waits for; nothing waits while there is no
// command. Some last as long as others keep a disk open, and several may be under way.
//
// Of the thread that opened it.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "kernel_io.hpp"
#include "nacre/runtime/scope.hpp"
#include "nacre/world/world.hpp"
#include "ublk_wire.hpp"

namespace nacre::ublk {

/// A device, and the path by which its owner proves to be it; empty for root's.
struct device_name {
    std::uint32_t id = 0;
    std::string path;
};

class control_channel {
public:
    /// ENOENT, ENXIO: the kernel has no ublk driver; EACCES; ENOTSUP: too old a driver.
    [[nodiscard]] static task<outcome<std::unique_ptr<control_channel>>> open(world& w);
    /// After close().
    ~control_channel();
    control_channel(const control_channel&) = delete;
    control_channel& operator=(const control_channel&) = delete;

    [[nodiscard]] std::uint64_t features() const noexcept { return features_; }
    /// 0 or more, or a negative errno. `payload` goes there and comes back.
    [[nodiscard]] task<std::int32_t> execute(control_code what, const device_name& device,
                                             std::span<std::byte> payload, std::uint64_t data = 0);
    /// When no command is under way.
    [[nodiscard]] task<void> close();

private:
    control_channel(world& w, int fd, std::unique_ptr<io_driver> driver) noexcept
        : world_(w), fd_(fd), driver_(std::move(driver)) {}
    [[nodiscard]] task<void> reap_completions();

    world& world_;
    int fd_;
    std::unique_ptr<io_driver> driver_;
    std::uint64_t features_ = 0;
    bool reaping_ = false;
    scope reaper_;
};

}  // namespace nacre::ublk
