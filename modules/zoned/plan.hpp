// SPDX-License-Identifier: BSD-3-Clause
//
// What a device would look like that does not exist yet. Private to the module.
#pragma once

#include "modules/zoned/format.hpp"
#include "modules/zoned/zoned.hpp"

namespace nacre::zoned {

/// A header with everything but the UUID and where things lie; 0 zones where `zones` is absent.
/// EINVAL, EFBIG: no device can be so.
[[nodiscard]] outcome<header> plan(const zoned_options& o, std::uint64_t block_size);

}  // namespace nacre::zoned
