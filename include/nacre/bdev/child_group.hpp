// SPDX-License-Identifier: BSD-3-Clause
//
// child_group: child ops of a layer's coroutine that run at the same time, awaited together.
//
//     child_group<2> copies;
//     copies.add(first, opcode::write, op.first, op.data);
//     copies.add(second, opcode::write, op.first, op.data);
//     const error status = co_await copies;
//
// They complete in any order; the await ends with the last of them and gives the first failure.
// The ops live in the group, which the coroutine keeps until then. For a few children; each costs
// about 500 bytes of frame.
#pragma once

#include <array>
#include <coroutine>
#include <optional>

#include "nacre/bdev/child_io.hpp"

namespace nacre {

template <unsigned Most>
class child_group {
public:
    child_group() noexcept = default;
    child_group(const child_group&) = delete;
    child_group& operator=(const child_group&) = delete;

    /// At most Most (asserted). What it is given is as for child_io.
    void add(module_channel& channel, opcode code, lba first, const iov_view& data,
             std::uint8_t flags = 0) noexcept {
        NACRE_ASSERT(size_ < Most);
        children_[size_].io.emplace(channel, code, first, data, flags);
        children_[size_++].channel = &channel;
    }
    void add(module_channel& channel, opcode code, lba first, block_count n) noexcept {
        NACRE_ASSERT(size_ < Most);
        children_[size_].io.emplace(channel, code, first, n);
        children_[size_++].channel = &channel;
    }
    void add(module_channel& channel, const io_op& op) noexcept {
        NACRE_ASSERT(size_ < Most);
        children_[size_].io.emplace(channel, op);
        children_[size_++].channel = &channel;
    }
    [[nodiscard]] unsigned size() const noexcept { return size_; }
    /// After the await, in the order of add().
    [[nodiscard]] error status(unsigned index) noexcept { return children_[index].io->op().status; }
    [[nodiscard]] io_op& op(unsigned index) noexcept { return children_[index].io->op(); }

    struct awaiter {
        child_group& self;
        [[nodiscard]] bool await_ready() const noexcept { return self.size_ == 0; }
        void await_suspend(std::coroutine_handle<> h) noexcept { self.submit(h.address()); }
        [[nodiscard]] error await_resume() const noexcept {
            for (unsigned i = 0; i < self.size_; ++i)
                if (self.status(i).failed()) return self.status(i);
            return {};
        }
    };
    [[nodiscard]] awaiter operator co_await() noexcept { return awaiter{*this}; }

private:
    struct child {
        std::optional<child_io> io;
        module_channel* channel = nullptr;
    };
    void submit(void* frame) noexcept {
        frame_ = frame;
        pending_ = size_;
        for (unsigned i = 0; i < size_; ++i) {
            io_op& op = children_[i].io->op();
            op.owner = this;
            op.done = [](io_op& done) noexcept {
                auto& group = *static_cast<child_group*>(done.owner);
                if (--group.pending_ == 0) resume_frame(group.frame_);
            };
            children_[i].channel->submit_child(op);
        }
    }
    std::array<child, Most> children_;
    unsigned size_ = 0;
    unsigned pending_ = 0;
    void* frame_ = nullptr;
};

}  // namespace nacre
