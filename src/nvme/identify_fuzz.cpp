// SPDX-License-Identifier: BSD-3-Clause
//
// Fuzz target: what a device answers to Identify and to a report of zones, from any bytes. Whatever
// is taken has sizes that its users can reckon with.
#include <algorithm>
#include <array>
#include <cstring>

#include "nacre/core/assert.hpp"
#include "nacre/nvme/spec.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace nacre;
    std::array<std::byte, nvme::identify_bytes> page{};
    std::memcpy(page.data(), data, std::min(size, page.size()));
    const nvme::controller_facts c = nvme::parse_controller(page);
    NACRE_ASSERT(c.serial.size() <= 20 && c.model.size() <= 40 && c.firmware.size() <= 8);
    const nvme::namespace_facts n = nvme::parse_namespace(page);
    NACRE_ASSERT(n.block_size == 0 || (n.block_size >= 512 && n.block_size <= 65536));
    NACRE_ASSERT(n.format < 64);
    (void)nvme::parse_identity(page);
    (void)nvme::parse_zoned_namespace(page, n.format);
    (void)nvme::parse_append_bytes_max(page);
    std::array<zone_descriptor, 8> zones;
    const std::span<const std::byte> report(reinterpret_cast<const std::byte*>(data), size);
    NACRE_ASSERT(nvme::parse_zone_report(report, zones) <= zones.size());
    return 0;
}
