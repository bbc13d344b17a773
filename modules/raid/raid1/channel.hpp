// SPDX-License-Identifier: BSD-3-Clause
//
// A mirror on one thread. A read is the user's own op, sent to one leg; if that fails, the hook
// sends it to the next. A write is a write_group with a child for every leg.
//
// Cost, over two null legs: see bench/budgets.tsv.
#pragma once

#include "modules/raid/redundant_channel.hpp"

namespace nacre::raid {

class raid1_channel final : public redundant_channel {
public:
    raid1_channel(bdev& device, raid_array& array);

private:
    /// Where a read is in its round of the legs; the context of its hook.
    struct alignas(32) read_state {
        raid1_channel* channel;
        leg* of;
        std::uint32_t current;  // the leg's number
        std::uint32_t round;    // legs that it has passed
    };

    void submit(io_op& op) noexcept override;
    void submit_read(io_op& op) noexcept;
    void submit_write(io_op& op) noexcept override;
    void start_write(io_op& op, const block_range& range) noexcept;
    void send(io_op& op, read_state& s) noexcept;
    [[nodiscard]] unsigned choose_leg() noexcept;
    static hook_verdict read_came_back(io_op& op, void* context) noexcept;
    [[nodiscard]] hook_verdict read_failed(io_op& op, read_state& s) noexcept;
    static void child_came_back(io_op& child) noexcept;
    [[nodiscard]] block_range range_of(const io_op& op) const noexcept override;

    unsigned next_leg_ = 0;
    std::unique_ptr<read_state[]> states_;  // [round * slots + current]
};

}  // namespace nacre::raid
