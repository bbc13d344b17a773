// SPDX-License-Identifier: BSD-3-Clause
//
// raid1: all legs hold the same.
//
// A leg that fails a write is ejected before the write is acknowledged, and is never read again. A
// read tries every good leg once.
#pragma once

#include "modules/raid/array.hpp"

namespace nacre::raid {

class raid1_array final : public raid_array {
public:
    using raid_array::raid_array;
    outcome<std::unique_ptr<module_channel>> make_channel(bdev& device) override;

private:
    std::uint64_t lay_out(std::span<std::uint64_t> sizes) const noexcept override;
    void refine(bdev_attributes& a) const noexcept override;
    task<result<>> copy_locked(copy_plan& plan, block_range window) override;
    [[nodiscard]] task<error> copy_to_target(copy_plan& plan, block_range window, unsigned k);
};

}  // namespace nacre::raid
