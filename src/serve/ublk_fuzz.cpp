// SPDX-License-Identifier: BSD-3-Clause
//
// Fuzz target: what a ublk driver may hand over. Input: u8 geometry, then descriptors of 24 bytes.
// Whatever is let through stays within the disk and within what may be copied at once.
#include <cstdint>
#include <cstring>

#include "nacre/core/assert.hpp"
#include "ublk_wire.hpp"

namespace {

using namespace nacre;
using namespace nacre::ublk;

geometry drawn(std::uint8_t dice) {
    geometry g;
    g.block_bytes = std::uint64_t{512} << (dice & 3);
    g.zone_blocks = (dice & 4) != 0 ? 64 : 0;
    g.blocks = (dice & 8) != 0 ? std::uint64_t{1} << 40 : 1024;
    g.io_bytes_max = (dice & 16) != 0 ? 4096 : 1 << 20;
    g.writable = (dice & 32) == 0;
    return g;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const geometry disk = drawn(data[0]);
    for (std::size_t at = 1; at + sizeof(io_descriptor) <= size; at += sizeof(io_descriptor)) {
        io_descriptor d;
        std::memcpy(&d, data + at, sizeof d);
        const result<request> r = check(d, disk);
        if (!r) continue;
        NACRE_ASSERT(r->bytes <= disk.io_bytes_max);
        const bool reads = r->what == operation::read || r->what == operation::flush ||
                           r->what == operation::zone_report;
        NACRE_ASSERT(disk.writable || reads);
        if (r->what == operation::flush || r->what == operation::zone_reset_all) continue;
        NACRE_ASSERT(r->first < disk.blocks);
        if (r->what == operation::zone_report)
            NACRE_ASSERT(r->blocks <= (disk.blocks - r->first) / disk.zone_blocks);
        else
            NACRE_ASSERT(r->blocks <= disk.blocks - r->first);
    }
    return 0;
}
