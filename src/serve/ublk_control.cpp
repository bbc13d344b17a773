// SPDX-License-Identifier: BSD-3-Clause
#include "ublk_control.hpp"

#include <algorithm>
#include <vector>

namespace nacre::ublk {
namespace {

constexpr const char* control_path = "/dev/ublk-control";

class control_io : public kernel_io {
public:
    control_io(int descriptor, io_driver& through, control_code what_to_do,
               const control_command& argument) noexcept
        : kernel_io(descriptor), argument_(argument) {
        what = kind::command;
        offset = static_cast<std::uint32_t>(what_to_do);
        buffer = &argument_;
        length = sizeof argument_;
        go_through(through);
    }

private:
    control_command argument_;
};

/// Ends when there is something to reap.
class readable_io : public kernel_io {
public:
    explicit readable_io(int descriptor) noexcept : kernel_io(descriptor) { what = kind::poll_in; }
};

std::unexpected<failure> cannot_open(failure f) {
    const int number = f.code.to_errno();
    if (number == ENOENT || number == ENXIO || number == ENODEV)
        return fail(ENODEV, std::string(control_path) +
                                ": this kernel has no ublk driver; load it (modprobe ublk_drv), or "
                                "boot a Linux of 6.5 or later that has it");
    if (number == EACCES || number == EPERM)
        return fail(number, std::string(control_path) +
                                ": permission denied; start the daemon as root, or let its user "
                                "read and write this file (docs/ublk.md, \"As an ordinary user\")");
    return fail(std::move(f));
}

}  // namespace

task<outcome<std::unique_ptr<control_channel>>> control_channel::open(world& w) {
    open_options how;
    how.write = true;
    outcome<int> fd = w.open_file(control_path, how);
    if (!fd) co_return cannot_open(std::move(fd.error()));
    driver_options small;
    small.entries = 8;
    small.wide_commands = true;
    small.wide_answers = true;
    outcome<std::unique_ptr<io_driver>> driver = w.make_driver(small);
    if (!driver) {
        w.close_file(*fd);
        co_return fail(std::move(driver.error()));
    }
    std::unique_ptr<control_channel> made(new control_channel(w, *fd, std::move(*driver)));
    const std::span<std::byte> answer = std::as_writable_bytes(std::span(&made->features_, 1));
    const device_name none;
    const std::int32_t told = co_await made->execute(control_code::get_features, none, answer);
    if (told >= 0 && (made->features_ & feature::ioctl_encoding) != 0)
        co_return outcome<std::unique_ptr<control_channel>>(std::move(made));
    co_await made->close();
    co_return fail(ENOTSUP, std::string(control_path) +
                                ": this kernel's ublk driver is too old; Linux 6.5 or later is "
                                "needed");
}

control_channel::~control_channel() { NACRE_ASSERT(fd_ < 0 && !reaping_); }

task<std::int32_t> control_channel::execute(control_code what, const device_name& device,
                                            std::span<std::byte> payload, std::uint64_t data) {
    std::vector<std::byte> memory(device.path.size() + payload.size());
    const std::span<std::byte> body = std::span(memory).subspan(device.path.size());
    std::ranges::copy(std::as_bytes(std::span(device.path)), memory.begin());
    std::ranges::copy(payload, body.begin());
    control_command argument{};
    argument.device_id = device.id;
    argument.queue_id = UINT16_MAX;
    argument.length = static_cast<std::uint16_t>(memory.size());
    argument.address = reinterpret_cast<std::uintptr_t>(memory.data());
    argument.data = data;
    argument.path_length = static_cast<std::uint16_t>(device.path.size());
    control_io io(fd_, *driver_, what, argument);
    if (!reaping_) {
        reaping_ = true;
        reaper_.spawn(reap_completions());
    }
    const std::int32_t result = co_await io.carry_out();
    std::ranges::copy(body, payload.begin());
    co_return result;
}

task<void> control_channel::reap_completions() {
    readable_io readable(driver_->wake_fd());
    while (driver_->in_flight() != 0) {
        const std::int32_t ready = co_await readable.carry_out();
        (void)ready;  // what there is to reap says the ring itself
        driver_->reap();
    }
    reaping_ = false;
}

task<void> control_channel::close() {
    result<> joined = co_await reaper_.join();
    (void)joined;  // it has no result
    world_.close_file(std::exchange(fd_, -1));
}

}  // namespace nacre::ublk
