// SPDX-License-Identifier: BSD-3-Clause
#include "numa_node.hpp"

#include <fmt/format.h>

#include <fstream>

namespace nacre {

std::int32_t numa_node_of(const std::string& sysfs, unsigned major, unsigned minor) {
    // A disk's `device` is its driver's, which has the attribute itself or below the bus it is on;
    // a partition stands inside its disk.
    for (const char* place :
         {"device/numa_node", "device/device/numa_node", "device/../numa_node",
          "../device/numa_node", "../device/device/numa_node", "../device/../numa_node"}) {
        std::ifstream file(fmt::format("{}/dev/block/{}:{}/{}", sysfs, major, minor, place));
        std::int32_t node = -1;
        if (file >> node) return node < 0 ? -1 : node;
    }
    return -1;
}

}  // namespace nacre
