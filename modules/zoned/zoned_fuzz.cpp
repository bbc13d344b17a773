// SPDX-License-Identifier: BSD-3-Clause
//
// Fuzz target: a header and a zone page from any bytes, with right checksums for half of the
// inputs. What is taken is written as it was read, and what a device would compute from it fits.
#include <cstdint>
#include <cstring>
#include <vector>

#include "modules/zoned/format.hpp"
#include "nacre/core/assert.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/crc32c.hpp"

namespace {

using namespace nacre;

void mend(std::span<std::byte> bytes, const char* signature, std::size_t crc_at) {
    std::memcpy(bytes.data(), signature, 8);
    store_le<std::uint32_t>(bytes.data() + crc_at, 0);
    store_le<std::uint32_t>(bytes.data() + crc_at, crc32c(bytes));
}

void try_page(const zoned::header& h, std::span<const std::byte> input, bool right) {
    std::vector<std::byte> page(h.page_bytes);
    std::memcpy(page.data(), input.data(), std::min(page.size(), input.size()));
    if (right) {
        store_le<std::uint32_t>(page.data() + 12, 0);
        std::memcpy(page.data() + 16, h.id.bytes().data(), uuid::size);
        store_le<std::uint32_t>(page.data() + 40, static_cast<std::uint32_t>(h.zones_in(0)));
        mend(page, "NACREZNP", 8);
    }
    zoned::zone_page entries(page);
    if (!entries.valid(h, 0)) return;
    for (std::uint64_t i = 0; i < h.zones_in(0); ++i) {
        const zone_record r = entries.at(i);
        NACRE_ASSERT(r.written <= h.zone_capacity);
        entries.set(i, r);
        NACRE_ASSERT(entries.at(i) == r);
    }
    entries.seal(h, 0, entries.sequence() + 1);
    NACRE_ASSERT(entries.valid(h, 0));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 1) return 0;
    const bool right = (data[0] & 1) != 0;
    std::vector<std::byte> bytes(4096);
    std::memcpy(bytes.data(), data + 1, std::min(size - 1, bytes.size()));
    const std::span<std::byte> first = std::span(bytes).first(zoned::header::bytes);
    if (right) {
        store_le<std::uint32_t>(first.data() + 8, 1);
        mend(first, "NACREZNS", 12);
    }
    const result<zoned::header> h = zoned::header::decode(bytes);
    if (h) {
        NACRE_ASSERT(h->zones != 0 && h->zone_capacity != 0);
        NACRE_ASSERT(h->base_blocks() > h->data_start);
        NACRE_ASSERT(h->page_at(h->pages() - 1, 1) + h->page_bytes <=
                     h->data_start * h->block_size);
        std::vector<std::byte> again(h->page_bytes);
        h->encode(again);
        const result<zoned::header> same = zoned::header::decode(again);
        NACRE_ASSERT(same && *same == *h);
        if (h->zones <= 252) try_page(*h, std::span(bytes).subspan(zoned::header::bytes), right);
    }
    zoned::header small;
    small.block_size = 512;
    small.zone_size = small.zone_capacity = 64;
    small.zones = 20;
    small.lay_out();
    try_page(small, bytes, right);
    return 0;
}
