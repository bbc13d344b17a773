// SPDX-License-Identifier: BSD-3-Clause
//
// raid0: strips of one length, dealt out to the legs in turn. Strip s lies on leg s mod n as its
// strip s div n. Without any one leg nothing is left.
//
// Cost of an op within a strip, over null legs: see bench/budgets.tsv.
#pragma once

#include "modules/raid/array.hpp"

namespace nacre::raid {

class raid0_array final : public raid_array {
public:
    using raid_array::raid_array;
    outcome<std::unique_ptr<module_channel>> make_channel(bdev& device) override;

private:
    std::uint64_t lay_out(std::span<std::uint64_t> sizes) const noexcept override;
    void refine(bdev_attributes& a) const noexcept override;
};

}  // namespace nacre::raid
