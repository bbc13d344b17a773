// SPDX-License-Identifier: BSD-3-Clause
//
// What the registry sees of an array that is online.
#pragma once

#include "modules/raid/array.hpp"

namespace nacre::raid {

class raid_bdev final : public bdev {
public:
    raid_bdev(bdev_attributes attributes, std::shared_ptr<raid_array> array)
        : bdev(std::move(attributes)), array_(std::move(array)) {}

    outcome<std::unique_ptr<module_channel>> make_channel() override;
    task<void> close() override;
    json::value information() const override;
    json::value configuration() const override { return array_->configuration(); }

private:
    std::shared_ptr<raid_array> array_;
};

}  // namespace nacre::raid
