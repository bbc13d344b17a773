// SPDX-License-Identifier: BSD-3-Clause
#include "modules/raid/concat/concat.hpp"

#include <algorithm>
#include <array>

#include "modules/raid/spread_channel.hpp"

namespace nacre::raid {
namespace {

class concat_channel final : public spread_channel {
public:
    concat_channel(bdev& device, raid_array& array) : spread_channel(device, array) {
        std::uint64_t end = 0;
        for (unsigned k = 0; k < slots_; ++k) {
            starts_[k] = end;
            end += array.at(k).data_size;
        }
        for (unsigned k = slots_; k <= legs_max; ++k) starts_[k] = end;
    }

private:
    [[nodiscard]] unsigned leg_of(std::uint64_t block) const noexcept {
        unsigned k = 0;
        while (block >= starts_[k + 1]) ++k;
        return k;
    }

    void submit(io_op& op) noexcept override {
        const std::uint64_t first = op.first.value();
        if (!has_range(op)) [[unlikely]]
            return spread(op);
        const unsigned k = leg_of(first);
        if (first + op.blocks.value() > starts_[k + 1]) [[unlikely]]
            return spread(op);
        leg& l = legs_[k];
        op.push_layer<&came_back>(&l);
        op.first = lba(first - starts_[k] + l.offset);
        l.base->forward(op);
    }

    /// An op that met a lack of memory goes down again, so it is put back as it was.
    static hook_verdict came_back(io_op& op, void* context) noexcept {
        const leg& l = *static_cast<const leg*>(context);
        const auto& self = *static_cast<const concat_channel*>(l.channel);
        op.first = lba(op.first.value() - l.offset + self.starts_[l.index]);
        return hook_verdict::done;
    }

    place place_of(std::uint64_t block) const noexcept override {
        const unsigned k = leg_of(block);
        return {k, starts_[k + 1] - block};
    }

    std::uint64_t position(unsigned k, std::uint64_t block) const noexcept override {
        return std::clamp(block, starts_[k], starts_[k + 1]) - starts_[k];
    }

    std::array<std::uint64_t, legs_max + 1> starts_{};  // and the end
};

}  // namespace

outcome<std::unique_ptr<module_channel>> concat_array::make_channel(bdev& device) {
    auto channel = std::make_unique<concat_channel>(device, *this);
    outcome<> opened = channel->open(*this);
    if (!opened) return fail(std::move(opened.error()));
    return channel;
}

std::uint64_t concat_array::lay_out(std::span<std::uint64_t> sizes) const noexcept {
    std::uint64_t all = 0;
    for (std::uint64_t& size : sizes) {
        size = size / strip_blocks() * strip_blocks();
        all += size;
    }
    return all;
}

void concat_array::refine(bdev_attributes& a) const noexcept { advise_boundary(a, strip_blocks()); }

}  // namespace nacre::raid
