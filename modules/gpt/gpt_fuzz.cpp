// SPDX-License-Identifier: BSD-3-Clause
//
// Fuzz target: a partition table from any bytes. To get past the checksums, half of the inputs have
// theirs made right first. Whatever is taken lies on the disk, and no two partitions overlap.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "modules/gpt/table.hpp"
#include "nacre/core/assert.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/crc32.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace nacre;
    constexpr std::size_t block = 512;
    if (size < 1 + block) return 0;
    const bool mend = (data[0] & 1) != 0;
    const gpt::geometry disk{block, 1 + data[0] * 8ULL};
    std::vector<std::byte> bytes(size - 1);
    std::memcpy(bytes.data(), data + 1, bytes.size());
    (void)gpt::is_protective_mbr(std::span(bytes).first(block), disk);

    const std::span<std::byte> first = std::span(bytes).first(block);
    const std::span<std::byte> rest = std::span(bytes).subspan(block);
    if (mend) {
        std::memcpy(first.data(), "EFI PART", 8);
        store_le<std::uint32_t>(first.data() + 12, gpt::header::bytes);
        store_le<std::uint64_t>(first.data() + 24, 1);
        store_le<std::uint32_t>(first.data() + 84, gpt::entry_bytes);
        const std::size_t entries = std::min<std::size_t>(rest.size() / gpt::entry_bytes, 128);
        store_le<std::uint32_t>(first.data() + 80, static_cast<std::uint32_t>(entries));
        store_le<std::uint32_t>(first.data() + 88, crc32(rest.first(entries * gpt::entry_bytes)));
        store_le<std::uint32_t>(first.data() + 16, 0);
        store_le<std::uint32_t>(first.data() + 16, crc32(first.first(gpt::header::bytes)));
    }
    const outcome<gpt::header> h = gpt::decode_header(first, 1, disk);
    if (!h) {
        NACRE_ASSERT(!h.error().message.empty());
        return 0;
    }
    std::vector<std::string> problems;
    const outcome<std::vector<gpt::partition>> parts = gpt::decode_entries(*h, rest, problems);
    if (!parts) return 0;
    for (const gpt::partition& p : *parts) {
        NACRE_ASSERT(p.blocks != 0 && range_fits(p.first, p.blocks, disk.blocks));
        for (const gpt::partition& q : *parts)
            NACRE_ASSERT(&p == &q || p.first + p.blocks <= q.first ||
                         q.first + q.blocks <= p.first);
    }
    return 0;
}
