// SPDX-License-Identifier: BSD-3-Clause
//
// concat: the legs one after the other, each as long as it is, in whole strips. Without any one leg
// nothing is left.
#pragma once

#include "modules/raid/array.hpp"

namespace nacre::raid {

class concat_array final : public raid_array {
public:
    using raid_array::raid_array;
    outcome<std::unique_ptr<module_channel>> make_channel(bdev& device) override;

private:
    std::uint64_t lay_out(std::span<std::uint64_t> sizes) const noexcept override;
    void refine(bdev_attributes& a) const noexcept override;
};

}  // namespace nacre::raid
