// SPDX-License-Identifier: BSD-3-Clause
//
// lent_blocks: blocks of a bdev in memory that its channel lends, to be read and changed in place.
//
//     result<lent_blocks> lent = co_await channel.lend(lba(8), block_count(4), populate::yes);
//     lent->memory().for_each(change);  // in one range or several
//     result<> r = co_await lent->give_back(commit::yes);
//
// A device that has its blocks in memory lends that: nothing is copied, and what was changed is
// there at once, committed or not. Any other one, and one that cannot do so now (ENOTSUP), lends a
// buffer of the thread's pool, which is read if it is to be populated, and written if it is
// committed; at most buffer_pool::bytes_max. Without populate the memory holds whatever it holds.
//
// From the first to the last await it is one op under way, of opcode::zcopy: a lock of the range
// waits until the blocks are given back (so who has them must not wait for such a lock), limits
// count it once, and a bdev that is removed waits for it. What the holder and others do to the same
// blocks meanwhile is not ordered. Giving back must not be forgotten (asserted). Thread-bound; on
// the thread of the channel, which stays open.
#pragma once

#include <utility>

#include "nacre/bdev/io_op.hpp"
#include "nacre/core/assert.hpp"
#include "nacre/memory/buffer_pool.hpp"
#include "nacre/runtime/task.hpp"

namespace nacre {

enum class populate : bool { no, yes };
enum class commit : bool { no, yes };

/// What a zcopy op is about: its borrower and whoever lends. A layer that borrows of its bases has
/// one for each op; `run` is called when the blocks are lent. If they are not, the op comes back;
/// and else when they were given back.
struct block_loan : work {
    explicit block_loan(populate p) noexcept : populated(p == populate::yes) {}
    block_loan(const block_loan&) = delete;
    block_loan& operator=(const block_loan&) = delete;
    /// For the borrower: `op` is the loan's.
    static void give_back(io_op& op, commit c) noexcept;

    /// For a channel that lends a buffer: until it is given back.
    struct returned {
        block_loan& loan;
        [[nodiscard]] static constexpr bool await_ready() noexcept { return false; }
        void await_suspend(std::coroutine_handle<> h) const noexcept { loan.lender = h.address(); }
        static void await_resume() noexcept {}
    };

    const bool populated;
    bool committed = false;
    void* lender = nullptr;       // frame of that channel's coroutine
    std::byte* buffer = nullptr;  // to be lent where the op entered; null: memory of the device
};

/// The op behind lent_blocks; from the frame pool.
struct user_loan final : block_loan {
    user_loan(lba at, block_count n, populate p) noexcept
        : block_loan(p), op(opcode::zcopy, at, n), first(at) {}

    /// Until the blocks are lent, or the op is over.
    struct answer {
        user_loan& loan;
        [[nodiscard]] static constexpr bool await_ready() noexcept { return false; }
        void await_suspend(std::coroutine_handle<> h) const noexcept { loan.holder = h.address(); }
        static void await_resume() noexcept {}
    };

    io_op op;
    const lba first;  // as the holder counts; layers change the op's
    bool over = false;
    void* holder = nullptr;  // frame of the coroutine that waits
    pooled_buffer pooled;    // what `buffer` is
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
    /// Of all the blocks in their order; valid until they are given back.
    [[nodiscard]] const iov_view& memory() const noexcept { return loan_->op.data; }
    [[nodiscard]] lba first() const noexcept { return loan_->first; }
    /// They are not held any more, whatever this returns; unless it is ENOMEM and they still are:
    /// then it has done nothing.
    [[nodiscard]] task<result<>> give_back(commit c);

private:
    friend class bdev_channel;
    explicit lent_blocks(user_loan& loan) noexcept : loan_(&loan) {}
    user_loan* loan_ = nullptr;
};

}  // namespace nacre
