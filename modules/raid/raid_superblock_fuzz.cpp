// SPDX-License-Identifier: BSD-3-Clause
//
// Fuzz target: a RAID superblock and a write-intent slot. So that inputs get past the checksum, the
// bytes are decoded as they are and once more with the right one. What is taken is written as the
// same again.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "modules/raid/intent_bitmap.hpp"
#include "modules/raid/superblock.hpp"
#include "nacre/core/assert.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/crc32c.hpp"

namespace {

using namespace nacre;
using raid::superblock;

void decode(std::span<const std::byte> bytes) {
    outcome<superblock> sb = superblock::decode(bytes);
    if (!sb) return;
    NACRE_ASSERT(sb->legs.size() <= 255 && sb->name.size() <= superblock::name_bytes_max);
    if (sb->block_size < 512 || sb->block_size > 65536 ||
        (sb->block_size & (sb->block_size - 1)) != 0)
        return;
    superblock copy = *sb;
    const aligned_bytes again = copy.encode();
    outcome<superblock> back = superblock::decode(again);
    NACRE_ASSERT(back.has_value());
    NACRE_ASSERT(back->legs == sb->legs && back->name == sb->name && back->id == sb->id &&
                 back->level == sb->level && back->strip_size == sb->strip_size &&
                 back->blocks == sb->blocks && back->sequence == sb->sequence);
    // No device has more.
    const std::uint64_t blocks = std::clamp<std::uint64_t>(sb->blocks, 1, std::uint64_t{1} << 48);
    const auto geometry = raid::intent_geometry::of(blocks, sb->block_size);
    (void)raid::intent_slot::decode(bytes, geometry, *sb);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::vector<std::byte> bytes(size);
    std::transform(data, data + size, bytes.begin(),
                   [](std::uint8_t b) { return static_cast<std::byte>(b); });
    decode(bytes);
    const auto length = superblock::length_of(bytes);
    if (!length || *length > bytes.size()) return 0;
    constexpr std::size_t at_crc = 16;
    store_le<std::uint32_t>(bytes.data() + at_crc, 0);
    const std::uint32_t crc = crc32c_raw(std::span(bytes).first(*length), 0);
    store_le<std::uint32_t>(bytes.data() + at_crc, crc);
    decode(bytes);
    return 0;
}
