// SPDX-License-Identifier: BSD-3-Clause
//
// I/O that the array makes on its legs for its own purposes.
#include "modules/raid/array.hpp"
#include "modules/raid/leg_io.hpp"
#include "nacre/runtime/sleep.hpp"

namespace nacre::raid {

bool raid_array::enter_leg(unsigned k) noexcept {
    if (!legs_[k]->present() || (leaving_ >> k & 1) != 0) return false;
    ++legs_[k]->users;
    return true;
}

void raid_array::leave_leg(unsigned k) noexcept {
    if (--legs_[k]->users == 0) left_.notify_all();
}

task<error> raid_array::leg_write(unsigned k, std::uint64_t block,
                                  std::span<const std::byte> bytes) {
    while (true) {
        if (!enter_leg(k)) co_return error::posix(ENODEV);
        const const_iov_view data(bytes);
        leg_io write(legs_[k]->base(), opcode::write, lba(block), data.borrowed(), io_op::flag_fua);
        const error status = co_await write;
        leave_leg(k);
        if (!status.is(ENOMEM)) co_return status;
        result<> slept = co_await sleep_for(tuning().retry_ns);
        if (!slept) co_return slept.error();
    }
}

task<error> raid_array::leg_copy(unsigned k, std::uint64_t block,
                                 std::span<const std::byte> bytes) {
    while (true) {
        if (!enter_leg(k)) co_return error::posix(ENODEV);
        const const_iov_view data(bytes);
        leg_io write(legs_[k]->base(), opcode::write, lba(block), data.borrowed());
        const error status = co_await write;
        leave_leg(k);
        if (!status.is(ENOMEM)) co_return status;
        result<> slept = co_await sleep_for(tuning().retry_ns);
        if (!slept) co_return slept.error();
    }
}

task<error> raid_array::leg_zero(unsigned k, std::uint64_t block, std::uint64_t blocks) {
    while (true) {
        if (!enter_leg(k)) co_return error::posix(ENODEV);
        leg_io zero(legs_[k]->base(), opcode::write_zeroes, lba(block), block_count(blocks));
        const error status = co_await zero;
        leave_leg(k);
        if (!status.is(ENOMEM)) co_return status;
        result<> slept = co_await sleep_for(tuning().retry_ns);
        if (!slept) co_return slept.error();
    }
}

task<error> raid_array::leg_read(unsigned k, std::uint64_t block, std::span<std::byte> into) {
    while (true) {
        if (!enter_leg(k)) co_return error::posix(ENODEV);
        const iov_view data(into);
        leg_io read(legs_[k]->base(), opcode::read, lba(block), data);
        const error status = co_await read;
        leave_leg(k);
        if (!status.is(ENOMEM)) co_return status;
        result<> slept = co_await sleep_for(tuning().retry_ns);
        if (!slept) co_return slept.error();
    }
}

task<error> raid_array::leg_flush(unsigned k) {
    if (!enter_leg(k)) co_return error::posix(ENODEV);
    error status;
    if (legs_[k]->desc.device().supports(opcode::flush)) {
        leg_io flush(legs_[k]->base(), opcode::flush, lba(), block_count());
        status = co_await flush;
    }
    leave_leg(k);
    co_return status;
}

task<leg_mask> raid_array::flush_legs(leg_mask legs) {
    leg_mask failed = 0;
    for (unsigned k = 0; k < slots(); ++k) {
        if ((legs >> k & 1) == 0) continue;
        const error status = co_await leg_flush(k);
        if (status.failed()) failed |= leg_mask{1} << k;
    }
    co_return failed;
}

}  // namespace nacre::raid
