// SPDX-License-Identifier: BSD-3-Clause
#include "modules/raid/raid5f/raid5f.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "modules/raid/raid5f/channel.hpp"
#include "modules/raid/raid5f/parity.hpp"

namespace nacre::raid {

outcome<std::unique_ptr<module_channel>> raid5f_array::make_channel(bdev& device) {
    auto channel = std::make_unique<raid5f_channel>(device, *this);
    outcome<> opened = channel->open();
    if (!opened) return fail(std::move(opened.error()));
    return channel;
}

std::uint64_t raid5f_array::lay_out(std::span<std::uint64_t> sizes) const noexcept {
    std::uint64_t least = UINT64_MAX;
    for (const std::uint64_t size : sizes)
        if (size != 0) least = std::min(least, size);
    least = least / strip_blocks() * strip_blocks();
    std::ranges::fill(sizes, least);
    return least * (sizes.size() - 1);
}

void raid5f_array::refine(bdev_attributes& a) const noexcept {
    advise_boundary(a, strip_blocks());
    a.write_unit = block_count(strip_blocks() * (slots() - 1));
    a.buffer_alignment = std::max<std::uint32_t>(a.buffer_alignment, parity_alignment);
    // Zeros have a parity of zeros. What an unmapped leg holds nobody knows.
    a.operations |= bit(opcode::write_zeroes);
    a.operations &= ~bit(opcode::unmap);
    // Of a leg that joins later nobody asks it.
    bool lend = true;
    for_each_leg(active(), [&](unsigned k) {
        lend &= (at(k).desc.device().operations() & bit(opcode::zcopy)) != 0;
    });
    if (lend) a.operations |= bit(opcode::zcopy);
}

task<error> raid5f_array::combine(leg_mask legs, block_range range, std::span<std::byte> into,
                                  std::span<std::byte> scratch) {
    bool first = true;
    for (; legs != 0; legs &= legs - 1) {
        const auto k = static_cast<unsigned>(std::countr_zero(legs));
        const std::span<std::byte> target = first ? into : scratch;
        const error status = co_await leg_read(k, range.first + at(k).data_offset, target);
        if (status.failed()) co_return status;
        if (!first) {
            const iov_view sources[] = {iov_view(into), iov_view(scratch)};
            xor_into(into, sources);
        }
        first = false;
    }
    co_return error();
}

task<result<>> raid5f_array::copy_locked(copy_plan& plan, block_range window) {
    if (plan.targets == 0) {
        // The parity is of one leg within a stripe.
        for (std::uint64_t from = window.first; from < window.end;) {
            const std::uint64_t strip_end = (from / strip_blocks() + 1) * strip_blocks();
            block_range part{from, std::min(strip_end, window.end)};
            result<> mended = co_await mend_parity(plan, part);
            if (!mended) co_return mended;
            from = part.end;
        }
        co_return result<>();
    }
    const auto k = static_cast<unsigned>(std::countr_zero(plan.targets));
    const std::size_t bytes = (window.end - window.first) * block_size();
    const std::span<std::byte> data = plan.buffer.writable_unchecked().first(bytes);
    const std::span<std::byte> scratch = plan.other.writable_unchecked().first(bytes);
    const leg_mask others = active() & ~plan.targets;
    error status = co_await combine(others, window, data, scratch);
    if (status.failed()) co_return fail(status);
    status = co_await leg_copy(k, window.first + at(k).data_offset, data);
    if (status.ok()) co_return result<>();
    if (status.is(ECANCELED)) co_return fail(status);
    result<> ejected = co_await eject(plan.targets, leg_state::failed);
    co_return ejected;
}

task<result<>> raid5f_array::mend_parity(copy_plan& plan, block_range range) {
    const leg_mask all = active();
    // Without a leg its chunk is what the others make of it.
    if (static_cast<unsigned>(std::popcount(all)) < slots()) co_return result<>();
    const unsigned p = parity_leg(range.first / strip_blocks(), slots());
    const std::size_t bytes = (range.end - range.first) * block_size();
    const std::span<std::byte> right = plan.buffer.writable_unchecked().first(bytes);
    const std::span<std::byte> there = plan.other.writable_unchecked().first(bytes);
    error status = co_await combine(all & ~(leg_mask{1} << p), range, right, there);
    if (status.failed()) co_return fail(status);
    const std::uint64_t block = range.first + at(p).data_offset;
    status = co_await leg_read(p, block, there);
    if (status.is(ECANCELED)) co_return fail(status);
    if (status.ok() && std::memcmp(right.data(), there.data(), bytes) == 0) co_return result<>();
    status = co_await leg_copy(p, block, right);
    if (status.ok()) co_return result<>();
    if (status.is(ECANCELED)) co_return fail(status);
    result<> ejected = co_await eject(leg_mask{1} << p, leg_state::failed);
    co_return ejected;
}

}  // namespace nacre::raid
