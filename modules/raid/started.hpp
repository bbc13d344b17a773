// SPDX-License-Identifier: BSD-3-Clause
//
// An array that is ready, between being made and being registered.
#pragma once

#include "modules/raid/array.hpp"

namespace nacre {

struct raid_module::started {
    std::shared_ptr<raid::raid_array> array;
    std::shared_ptr<bdev> device;    // null: nothing is ready
    std::vector<std::string> stale;  // bdevs that join by a rebuild
};

}  // namespace nacre
