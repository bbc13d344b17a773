// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/bdev/block_loan.hpp"

#include "channel_flags.hpp"
#include "nacre/bdev/bdev_channel.hpp"
#include "nacre/memory/reserved_buffers.hpp"
#include "nacre/runtime/frame_pool.hpp"

namespace nacre {
namespace {

void destroy(user_loan& loan) noexcept {
    loan.~user_loan();
    frame_pool::deallocate(&loan, sizeof(user_loan));
}

void resume_holder(work& w) noexcept {
    auto& loan = static_cast<user_loan&>(w);
    if (loan.holder != nullptr) resume_frame(std::exchange(loan.holder, nullptr));
}

/// The op has come back, before anything was lent or after everything was given back.
void came_back(io_op& op) noexcept {
    auto& loan = *static_cast<user_loan*>(op.owner);
    loan.over = true;
    resume_holder(loan);
}

}  // namespace

void io_op::lend(const iov_view& memory) noexcept {
    NACRE_ASSERT(code == opcode::zcopy);
    data = memory;
    entry_->lent(*this);
    entry_->home().push(*loan);
}

void block_loan::give_back(io_op& op, commit c) noexcept {
    block_loan& loan = *op.loan;
    loan.committed = c == commit::yes;
    if (loan.lender == nullptr) {
        op.complete();
        return;
    }
    loan.run = [](work& w) noexcept {
        resume_frame(std::exchange(static_cast<block_loan&>(w).lender, nullptr));
    };
    op.entry().home().push(loan);
}

/// As SPDK counts: a read or a write of the device that lends, when it does.
void module_channel::lent(const io_op& op) noexcept {
    if ((op.flags & flag_emulated) != 0) return;  // its pieces are counted
    io_counters& c = statistics_.of(op.loan->populated ? opcode::read : opcode::write);
    ++c.operations;
    c.bytes += op.data.size();
}

/// For a loan that is a buffer. Before the op is under way: others may wait for that, and this may
/// wait for them.
task<result<>> bdev_channel::take_buffer(user_loan& loan) const {
    const std::uint64_t n = loan.op.blocks.value();
    const std::uint64_t blocks_max = buffer_pool::bytes_max / channel_->block_bytes_;
    if (n == 0 || n > blocks_max) co_return fail(EINVAL);
    const std::size_t bytes = channel_->bytes_of(n);
    result<pooled_buffer> buffer = co_await channel_->buffers().common().acquire(bytes);
    if (!buffer) co_return fail(buffer.error());
    loan.pooled = std::move(*buffer);
    loan.buffer = loan.pooled.data();
    co_return result<>();
}

task<result<lent_blocks>> bdev_channel::lend(lba first, block_count n, populate p) const {
    if (!writable_) co_return fail(EBADF);
    void* const memory = frame_pool::allocate(sizeof(user_loan));
    if (memory == nullptr) co_return fail(ENOMEM);
    user_loan& loan = *::new (memory) user_loan(first, n, p);
    loan.run = &resume_holder;
    loan.op.loan = &loan;
    loan.op.run = &io_op::run_user;
    loan.op.done = &came_back;
    loan.op.owner = &loan;
    const bool copying = device_->supports(opcode::read) && device_->supports(opcode::write);
    bool asks_device = channel_->lends() || !copying;
    error status;
    while (true) {
        if (!asks_device) {
            result<> taken = co_await take_buffer(loan);
            if (!taken) status = taken.error();
        }
        if (status.ok() && !channel_->enter(loan.op)) status = loan.op.status;
        if (status.ok()) {
            user_loan::answer lent_or_over{loan};
            co_await lent_or_over;
            if (loan.over) status = loan.op.status;
        }
        if (!status.is(ENOTSUP) || !asks_device || !copying) break;
        // It cannot now, or one that it stands on.
        asks_device = false;
        loan.over = false;
        status = error();
    }
    if (status.ok()) co_return lent_blocks(loan);
    destroy(loan);
    co_return fail(status);
}

task<result<>> lent_blocks::give_back(commit c) {
    user_loan& loan = *std::exchange(loan_, nullptr);
    block_loan::give_back(loan.op, c);
    user_loan::answer over{loan};
    co_await over;
    const error status = loan.op.status;
    destroy(loan);
    co_return status.ok() ? result<>() : fail(status);
}

}  // namespace nacre
