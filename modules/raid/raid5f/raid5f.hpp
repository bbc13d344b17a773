// SPDX-License-Identifier: BSD-3-Clause
//
// raid5f: parity that rotates, and writes of whole stripes only.
//
// A stripe is one strip of each leg. Of stripe s on n legs the parity is on leg n-1 - s mod n, and
// the data chunks are on the others in their order. Since a write brings the whole stripe, its
// parity needs no read. A leg whose write fails is ejected before the write is acknowledged; what
// it held is made of the others when it is read, and again when another leg is put in its place.
#pragma once

#include "modules/raid/array.hpp"

namespace nacre::raid {

class raid5f_array final : public raid_array {
public:
    using raid_array::raid_array;
    outcome<std::unique_ptr<module_channel>> make_channel(bdev& device) override;
    [[nodiscard]] static unsigned parity_leg(std::uint64_t stripe, unsigned legs) noexcept {
        return legs - 1 - static_cast<unsigned>(stripe % legs);
    }

private:
    std::uint64_t lay_out(std::span<std::uint64_t> sizes) const noexcept override;
    void refine(bdev_attributes& a) const noexcept override;
    /// While the parity is being made right every leg is.
    bool needed(unsigned) const noexcept override { return source() != legs_max; }
    task<result<>> copy_locked(copy_plan& plan, block_range window) override;
    /// Reads the range of the legs into `into`, each on top of the others; `scratch` is as long.
    [[nodiscard]] task<error> combine(leg_mask legs, block_range range, std::span<std::byte> into,
                                      std::span<std::byte> scratch);
    [[nodiscard]] task<result<>> mend_parity(copy_plan& plan, block_range range);
};

}  // namespace nacre::raid
