// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/bdev/block_loan.hpp"

#include "channel_flags.hpp"
#include "nacre/bdev/bdev_channel.hpp"
#include "nacre/memory/reserved_buffers.hpp"
#include "nacre/runtime/frame_pool.hpp"

namespace nacre {
namespace {

void destroy(block_loan& loan) noexcept {
    loan.~block_loan();
    frame_pool::deallocate(&loan, sizeof(block_loan));
}

/// The op has come back, before anything was lent or after everything was given back.
void came_back(io_op& op) noexcept {
    block_loan& loan = *op.loan;
    loan.over = true;
    if (loan.holder != nullptr) resume_frame(std::exchange(loan.holder, nullptr));
}

}  // namespace

void io_op::lend(const iov_view& memory) noexcept {
    NACRE_ASSERT(code == opcode::zcopy && memory.contiguous());
    data = memory;
    entry_->lent(*this);
    loan->run = [](work& w) noexcept {
        auto& lent = static_cast<block_loan&>(w);
        if (lent.holder != nullptr) resume_frame(std::exchange(lent.holder, nullptr));
    };
    entry_->home().push(*loan);
}

/// As SPDK counts: a read or a write of the device that lends, when it does.
void module_channel::lent(const io_op& op) noexcept {
    if ((op.flags & flag_emulated) != 0) return;  // its pieces are counted
    io_counters& c = statistics_.of(op.loan->populated ? opcode::read : opcode::write);
    ++c.operations;
    c.bytes += op.data.size();
}

task<result<lent_blocks>> bdev_channel::lend(lba first, block_count n, populate p) const {
    if (!writable_) co_return fail(EBADF);
    void* const memory = frame_pool::allocate(sizeof(block_loan));
    if (memory == nullptr) co_return fail(ENOMEM);
    block_loan& loan = *::new (memory) block_loan(first, n, p);
    loan.op.loan = &loan;
    loan.op.run = &io_op::run_user;
    loan.op.done = &came_back;
    error status;
    if ((channel_->supported_ & bit(opcode::zcopy)) == 0 && device_->supports(opcode::zcopy)) {
        // Before the op is under way: others may wait for that, and this may wait for them.
        const std::uint64_t blocks_max = buffer_pool::bytes_max / channel_->block_bytes_;
        if (n.value() == 0 || n.value() > blocks_max) {
            status = error::posix(EINVAL);
        } else {
            const std::size_t bytes = channel_->bytes_of(n.value());
            result<pooled_buffer> buffer = co_await channel_->buffers().common().acquire(bytes);
            if (buffer)
                loan.buffer = std::move(*buffer);
            else
                status = buffer.error();
        }
    }
    if (status.ok() && !channel_->enter(loan.op)) status = loan.op.status;
    if (status.ok()) {
        block_loan::answer lent_or_over{loan};
        co_await lent_or_over;
        if (loan.over) status = loan.op.status;
    }
    if (status.ok()) co_return lent_blocks(loan);
    destroy(loan);
    co_return fail(status);
}

task<result<>> lent_blocks::give_back(commit c) {
    block_loan& loan = *std::exchange(loan_, nullptr);
    loan.committed = c == commit::yes;
    if (loan.lender == nullptr) {
        loan.op.complete();
    } else {
        loan.run = [](work& w) noexcept {
            resume_frame(std::exchange(static_cast<block_loan&>(w).lender, nullptr));
        };
        loan.op.entry().home().push(loan);
    }
    block_loan::answer over{loan};
    co_await over;
    const error status = loan.op.status;
    destroy(loan);
    co_return status.ok() ? result<>() : fail(status);
}

}  // namespace nacre
