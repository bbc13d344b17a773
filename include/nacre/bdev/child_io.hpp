// SPDX-License-Identifier: BSD-3-Clause
//
// child_io: an op that a layer's coroutine makes on a channel, awaited for its bare status.
//
//     child_io write(channel, opcode::write, first, data);
//     const error status = co_await write;
#pragma once

#include "nacre/bdev/module_channel.hpp"

namespace nacre {

class child_io {
public:
    child_io(module_channel& channel, opcode code, lba first, const iov_view& data,
             std::uint8_t flags = 0) noexcept
        : channel_(channel), op_(code, flags & io_op::flag_fua, first, data) {
        op_.blocks = block_count(data.size() / block_size());
    }
    child_io(module_channel& channel, opcode code, lba first, block_count n) noexcept
        : channel_(channel), op_(code, first, n) {}
    /// The same as `op`, which is of this or of another device.
    child_io(module_channel& channel, const io_op& op) noexcept
        : channel_(channel), op_(op.code, op.flags & io_op::flag_fua, op.first, op.data) {
        op_.blocks = op.blocks;
    }
    child_io(const child_io&) = delete;
    child_io& operator=(const child_io&) = delete;

    [[nodiscard]] io_op& op() noexcept { return op_; }

    struct awaiter {
        child_io& self;
        [[nodiscard]] static constexpr bool await_ready() noexcept { return false; }
        void await_suspend(std::coroutine_handle<> h) noexcept {
            self.op_.owner = h.address();
            self.op_.done = [](io_op& op) noexcept { resume_frame(op.owner); };
            self.channel_.submit_child(self.op_);
        }
        [[nodiscard]] error await_resume() const noexcept { return self.op_.status; }
    };
    [[nodiscard]] awaiter operator co_await() noexcept { return awaiter{*this}; }

private:
    [[nodiscard]] std::uint64_t block_size() const noexcept;
    module_channel& channel_;
    io_op op_;
};

}  // namespace nacre
