// SPDX-License-Identifier: BSD-3-Clause
//
// leg_io: an I/O that the array makes on a leg for its own purposes.
//
//     leg_io write(leg.base(), opcode::write, first, data, io_op::flag_fua);
//     const error status = co_await write;
//
// Like a user's I/O it may be split and bounced; unlike one it does not end when the awaiting task
// is asked to stop: a superblock that is half aborted is a leg that nobody knows the state of.
#pragma once

#include "nacre/bdev/module_channel.hpp"

namespace nacre::raid {

class leg_io {
public:
    leg_io(module_channel& channel, opcode code, lba first, const iov_view& data,
           std::uint8_t flags = 0) noexcept
        : channel_(channel), op_(code, flags, first, data) {}
    leg_io(module_channel& channel, opcode code, lba first, block_count n) noexcept
        : channel_(channel), op_(code, first, n) {}
    leg_io(const leg_io&) = delete;
    leg_io& operator=(const leg_io&) = delete;

    struct awaiter {
        leg_io& self;
        [[nodiscard]] static constexpr bool await_ready() noexcept { return false; }
        bool await_suspend(std::coroutine_handle<> h) noexcept {
            self.op_.owner = h.address();
            self.op_.run = &io_op::run_awaited;
            return self.channel_.enter(self.op_);
        }
        [[nodiscard]] error await_resume() const noexcept { return self.op_.status; }
    };
    [[nodiscard]] awaiter operator co_await() noexcept { return awaiter{*this}; }

private:
    module_channel& channel_;
    io_op op_;
};

}  // namespace nacre::raid
