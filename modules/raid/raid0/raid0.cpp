// SPDX-License-Identifier: BSD-3-Clause
#include "modules/raid/raid0/raid0.hpp"

#include <algorithm>
#include <bit>

#include "modules/raid/spread_channel.hpp"

namespace nacre::raid {
namespace {

class raid0_channel final : public spread_channel {
public:
    raid0_channel(bdev& device, raid_array& array)
        : spread_channel(device, array),
          // One leg is one strip.
          shift_(slots_ == 1 ? 63 : static_cast<unsigned>(std::countr_zero(array.strip_blocks()))),
          mask_((std::uint64_t{1} << shift_) - 1),
          reciprocal_(slots_ == 1 ? 0 : UINT64_MAX / slots_ + 1) {}

private:
    void submit(io_op& op) noexcept override {
        const std::uint64_t first = op.first.value();
        const std::uint64_t last = first + op.blocks.value() - 1;
        if (!has_range(op) || ((first ^ last) >> shift_) != 0) [[unlikely]]
            return spread(op);
        const std::uint64_t strip = first >> shift_;
        const std::uint64_t row = row_of(strip);
        leg& l = legs_[strip - row * slots_];
        op.push_layer<&came_back>(&l);
        op.first = lba(l.offset + (row << shift_) + (first & mask_));
        l.base->forward(op);
    }

    /// An op that met a lack of memory goes down again, so it is put back as it was.
    static hook_verdict came_back(io_op& op, void* context) noexcept {
        const leg& l = *static_cast<const leg*>(context);
        const auto& self = *static_cast<const raid0_channel*>(l.channel);
        const std::uint64_t at = op.first.value() - l.offset;
        const std::uint64_t strip = (at >> self.shift_) * self.slots_ + l.index;
        op.first = lba((strip << self.shift_) + (at & self.mask_));
        return hook_verdict::done;
    }

    /// strip / slots_ without a division: exact while strip * slots_ < 2^64.
    [[nodiscard]] std::uint64_t row_of(std::uint64_t strip) const noexcept {
        using wide = unsigned __int128;
        return static_cast<std::uint64_t>(wide{strip} * reciprocal_ >> 64);
    }

    place place_of(std::uint64_t block) const noexcept override {
        const std::uint64_t strip = block >> shift_;
        return {static_cast<unsigned>(strip - row_of(strip) * slots_), mask_ + 1 - (block & mask_)};
    }

    std::uint64_t position(unsigned k, std::uint64_t block) const noexcept override {
        const std::uint64_t strip = block >> shift_;
        const std::uint64_t row = row_of(strip);
        const std::uint64_t turn = strip - row * slots_;
        const std::uint64_t in_row = k < turn ? mask_ + 1 : k == turn ? block & mask_ : 0;
        return (row << shift_) + in_row;
    }

    const unsigned shift_;
    const std::uint64_t mask_;
    const std::uint64_t reciprocal_;
};

}  // namespace

outcome<std::unique_ptr<module_channel>> raid0_array::make_channel(bdev& device) {
    auto channel = std::make_unique<raid0_channel>(device, *this);
    outcome<> opened = channel->open(*this);
    if (!opened) return fail(std::move(opened.error()));
    return channel;
}

std::uint64_t raid0_array::lay_out(std::span<std::uint64_t> sizes) const noexcept {
    const std::uint64_t least = std::ranges::min(sizes) / strip_blocks() * strip_blocks();
    std::ranges::fill(sizes, least);
    return least * sizes.size();
}

void raid0_array::refine(bdev_attributes& a) const noexcept {
    advise_boundary(a, slots() == 1 ? 0 : strip_blocks());
}

}  // namespace nacre::raid
