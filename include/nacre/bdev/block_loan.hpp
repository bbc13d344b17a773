// SPDX-License-Identifier: BSD-3-Clause
//
// lent_blocks: blocks of a bdev in memory that its channel lends, to be read and changed in place.
//
//     result<lent_blocks> lent = co_await channel.lend(lba(8), block_count(4), populate::yes);
//     change(lent->bytes());
//     result<> r = co_await lent->give_back(commit::yes);
//
// A device that has its blocks in memory lends that: nothing is copied, and what was changed is
// there at once, committed or not. Any other one lends a buffer of the thread's pool, which is read
// if it is to be populated, and written if it is committed; at most buffer_pool::bytes_max.
// Without populate the memory holds whatever it holds.
//
// From the first to the last await it is one op under way, of opcode::zcopy: a lock of the range
// waits until the blocks are given back (so who has them must not wait for such a lock), limits
// count it once, and a bdev that is removed waits for it. What the holder and others do to the same
// blocks meanwhile is not ordered. Giving back must not be forgotten (asserted). Thread-bound; on
// the thread of the channel, which stays open.
#pragma once

#include <span>
#include <utility>

#include "nacre/bdev/io_op.hpp"
#include "nacre/core/assert.hpp"
#include "nacre/memory/buffer_pool.hpp"
#include "nacre/runtime/task.hpp"

namespace nacre {

enum class populate : bool { no, yes };
enum class commit : bool { no, yes };

/// The op behind lent_blocks; from the frame pool.
struct block_loan : work {
    block_loan(lba first, block_count n, populate p) noexcept
        : op(opcode::zcopy, first, n), lent(first), populated(p == populate::yes) {}
    block_loan(const block_loan&) = delete;
    block_loan& operator=(const block_loan&) = delete;

    /// For the user: until the blocks are lent, or the op is over.
    struct answer {
        block_loan& loan;
        [[nodiscard]] static constexpr bool await_ready() noexcept { return false; }
        void await_suspend(std::coroutine_handle<> h) const noexcept { loan.holder = h.address(); }
        static void await_resume() noexcept {}
    };
    /// For a channel that lends a buffer: until it is given back.
    struct give_back {
        block_loan& loan;
        [[nodiscard]] static constexpr bool await_ready() noexcept { return false; }
        void await_suspend(std::coroutine_handle<> h) const noexcept { loan.lender = h.address(); }
        static void await_resume() noexcept {}
    };

    io_op op;
    const lba lent;  // as the holder counts; layers change the op's
    const bool populated;
    bool committed = false;
    bool over = false;
    void* holder = nullptr;  // frame of the coroutine that waits on the user's side
    void* lender = nullptr;  // and on the channel's
    pooled_buffer buffer;    // of a device that has no memory of its own
};

class [[nodiscard]] lent_blocks {
public:
    lent_blocks() noexcept = default;
    lent_blocks(lent_blocks&& o) noexcept : loan_(std::exchange(o.loan_, nullptr)) {}
    lent_blocks& operator=(lent_blocks&& o) noexcept {
        std::swap(loan_, o.loan_);
        return *this;
    }
    ~lent_blocks() { NACRE_ASSERT(loan_ == nullptr); }

    [[nodiscard]] bool held() const noexcept { return loan_ != nullptr; }
    [[nodiscard]] std::span<std::byte> bytes() const noexcept {
        return {loan_->op.data.data(), loan_->op.data.size()};
    }
    [[nodiscard]] lba first() const noexcept { return loan_->lent; }
    /// They are not held any more, whatever this returns; unless it is ENOMEM and they still are:
    /// then it has done nothing.
    [[nodiscard]] task<result<>> give_back(commit c);

private:
    friend class bdev_channel;
    explicit lent_blocks(block_loan& loan) noexcept : loan_(&loan) {}
    block_loan* loan_ = nullptr;
};

}  // namespace nacre
