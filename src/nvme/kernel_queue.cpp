// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/nvme/kernel_queue.hpp"

#include <linux/nvme_ioctl.h>
#include <sys/ioctl.h>

#include <cstring>

namespace nacre::nvme {

void kernel_request::prepare(int device, opcode of, const nvme_command& command,
                             const kernel_data& d) noexcept {
    nvme_uring_cmd c{};
    static_assert(sizeof c == sizeof argument_ && sizeof c <= io_driver::wide_command_bytes_max);
    c.opcode = command.opcode;
    c.flags = command.flags;
    c.nsid = command.nsid;
    c.cdw2 = command.cdw2;
    c.cdw3 = command.cdw3;
    c.metadata = reinterpret_cast<std::uintptr_t>(d.metadata);
    c.addr = reinterpret_cast<std::uintptr_t>(d.data);
    c.metadata_len = static_cast<std::uint32_t>(d.metadata_bytes);
    c.data_len = static_cast<std::uint32_t>(d.data_bytes);
    c.cdw10 = command.cdw10;
    c.cdw11 = command.cdw11;
    c.cdw12 = command.cdw12;
    c.cdw13 = command.cdw13;
    c.cdw14 = command.cdw14;
    c.cdw15 = command.cdw15;
    c.timeout_ms = d.timeout_ms;
    std::memcpy(argument_.data(), &c, sizeof c);
    what = kind::command;
    fd = device;
    offset = of == opcode::nvme_admin ? NVME_URING_CMD_ADMIN : NVME_URING_CMD_IO;
    buffer = argument_.data();
    length = argument_.size();
}

error kernel_request::status() const noexcept {
    if (result > 0)
        return error::nvme(static_cast<std::uint8_t>(result >> 8 & 7),
                           static_cast<std::uint8_t>(result & 0xff));
    if (result == -EINTR) return error::nvme(3, 0x71);  // the driver gave it up, at a reset
    if (result == -EAGAIN) return error::posix(ENOMEM);
    return error::posix(-result);
}

nvme_completion kernel_request::completion() const noexcept {
    nvme_completion c;
    c.cdw0 = static_cast<std::uint32_t>(offset);
    c.cdw1 = static_cast<std::uint32_t>(offset >> 32);
    if (result > 0)
        c.phase_and_status = static_cast<std::uint16_t>(result << 1);
    else
        c.set_status(status());
    return c;
}

kernel_queue::kernel_queue(std::unique_ptr<io_driver> driver) noexcept
    : home_(*thread::current()), driver_(std::move(driver)) {
    flush_.owner = this;
    flush_.run = [](work& w) noexcept {
        kernel_queue& self = *static_cast<flush_work&>(w).owner;
        self.flush_.pending = false;
        self.driver_->flush();
    };
    watch_.owner = this;
    watch_.run = [](work& w) noexcept {
        kernel_queue& self = *static_cast<ring_watch&>(static_cast<io_request&>(w)).owner;
        self.watch_.pending = false;
        self.driver_->reap();
        if (self.driver_->in_flight() != 0) self.watch();
    };
}

outcome<std::unique_ptr<kernel_queue>> kernel_queue::make(world& w, unsigned entries) {
    driver_options wide;
    wide.entries = entries;
    wide.wide_commands = true;
    wide.wide_answers = true;
    outcome<std::unique_ptr<io_driver>> driver = w.make_driver(wide);
    if (!driver) return fail(std::move(driver.error()));
    return std::unique_ptr<kernel_queue>(new kernel_queue(std::move(*driver)));
}

kernel_queue::~kernel_queue() { NACRE_ASSERT(!watch_.pending && !flush_.pending); }

void kernel_queue::submit(kernel_request& request) noexcept {
    request.home = &home_;
    driver_->submit(request);
    if (!flush_.pending) {
        flush_.pending = true;
        home_.push(flush_);
    }
    if (!watch_.pending) watch();
}

void kernel_queue::watch() noexcept {
    watch_.pending = true;
    watch_.what = io_request::kind::poll_in;
    watch_.fd = driver_->wake_fd();
    watch_.home = &home_;
    home_.host().driver().submit(watch_);
}

kernel_queue::execution::execution(kernel_queue& queue, int device, opcode of,
                                   const nvme_command& command, const kernel_data& d) noexcept
    : queue_(queue) {
    prepare(device, of, command, d);
    run = [](work& w) noexcept {
        static_cast<execution&>(static_cast<io_request&>(w)).handle_.resume();
    };
}

}  // namespace nacre::nvme
