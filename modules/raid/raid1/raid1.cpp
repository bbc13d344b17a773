// SPDX-License-Identifier: BSD-3-Clause
#include "modules/raid/raid1/raid1.hpp"

#include <algorithm>
#include <cstring>

#include "modules/raid/raid1/channel.hpp"
#include "nacre/core/bytes.hpp"

namespace nacre::raid {

outcome<std::unique_ptr<module_channel>> raid1_array::make_channel(bdev& device) {
    auto channel = std::make_unique<raid1_channel>(device, *this);
    outcome<> opened = channel->open();
    if (!opened) return fail(std::move(opened.error()));
    return channel;
}

std::uint64_t raid1_array::lay_out(std::span<std::uint64_t> sizes) const noexcept {
    std::uint64_t least = UINT64_MAX;
    for (const std::uint64_t size : sizes)
        if (size != 0) least = std::min(least, size);
    std::ranges::fill(sizes, least);
    return least;
}

void raid1_array::refine(bdev_attributes&) const noexcept {}

task<result<>> raid1_array::copy_locked(copy_plan& plan, block_range window) {
    const std::size_t bytes = (window.end - window.first) * block_size();
    const std::span<std::byte> data = plan.buffer.writable_unchecked().first(bytes);
    // The source if there is one, else the first leg; and the others if it cannot be read.
    leg_mask untried = active();
    unsigned from =
        source() != legs_max ? source() : static_cast<unsigned>(__builtin_ctz(active()));
    error status = error::posix(EIO);
    while (true) {
        status = co_await leg_read(from, window.first + at(from).data_offset, data);
        if (status.ok() || status.is(ECANCELED)) break;
        untried &= active() & ~(leg_mask{1} << from);
        if (untried == 0) break;
        from = static_cast<unsigned>(__builtin_ctz(untried));
    }
    if (status.failed()) co_return fail(status);
    const leg_mask others = writable() & ~(leg_mask{1} << from);
    const leg_mask targets = plan.targets == 0 ? others : others & plan.targets;
    leg_mask failed = 0;
    for (unsigned k = 0; k < slots(); ++k) {
        if ((targets >> k & 1) == 0) continue;
        status = co_await copy_to_target(plan, window, k);
        if (status.is(ECANCELED)) co_return fail(status);
        if (status.failed()) failed |= leg_mask{1} << k;
    }
    if (failed == 0) co_return result<>();
    result<> ejected = co_await eject(failed, leg_state::failed);
    co_return ejected;
}

task<error> raid1_array::copy_to_target(copy_plan& plan, block_range window, unsigned k) {
    const std::size_t bytes = (window.end - window.first) * block_size();
    const std::span<std::byte> data = plan.buffer.writable_unchecked().first(bytes);
    const std::uint64_t block = window.first + at(k).data_offset;
    if (plan.only_different) {
        const std::span<std::byte> theirs = plan.other.writable_unchecked().first(bytes);
        const error read = co_await leg_read(k, block, theirs);
        if (read.ok() && std::memcmp(theirs.data(), data.data(), bytes) == 0) co_return error();
        // What cannot be read is overwritten: a leg may mend a bad block by that.
    } else if (all_zero(data) && at(k).desc.device().supports(opcode::write_zeroes)) {
        const error zeroed = co_await leg_zero(k, block, window.end - window.first);
        co_return zeroed;
    }
    const error written = co_await leg_copy(k, block, data);
    co_return written;
}

}  // namespace nacre::raid
