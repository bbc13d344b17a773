// SPDX-License-Identifier: BSD-3-Clause
//
// Which NUMA node a block device hangs on, as sysfs has it.
#pragma once

#include <cstdint>
#include <string>

namespace nacre {

/// -1: it is near to none, or nobody knows. `sysfs` is where that is mounted.
[[nodiscard]] std::int32_t numa_node_of(const std::string& sysfs, unsigned major, unsigned minor);

}  // namespace nacre
