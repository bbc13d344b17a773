// SPDX-License-Identifier: BSD-3-Clause
#include "modules/raid/intent_bitmap.hpp"

#include <algorithm>
#include <array>

#include "nacre/core/bytes.hpp"
#include "nacre/core/crc32c.hpp"

namespace nacre::raid {
namespace {

constexpr std::string_view signature = "NACREWIB";
constexpr std::uint16_t version_major = 1;

enum : std::size_t {
    at_version_major = 8,
    at_crc = 12,
    at_array = 16,
    at_sequence = 32,
    at_superblock_crc = 40,
    at_region_shift = 44,
    at_generation = 48,
    at_region_count = 56,
    at_bits = 64,
};

std::uint32_t crc_of(std::span<const std::byte> slot) {
    static constexpr std::array<std::byte, 4> zero{};
    std::uint32_t crc = crc32c(slot.first(at_crc));
    crc = crc32c(zero, crc);
    return crc32c(slot.subspan(at_crc + zero.size()), crc);
}

}  // namespace

std::uint32_t region_set::next(std::uint32_t from) const noexcept {
    while (from < regions_) {
        const std::uint64_t rest = words_[from >> 6] >> (from & 63);
        if (rest != 0) return from + static_cast<std::uint32_t>(std::countr_zero(rest));
        from = (from | 63) + 1;
    }
    return regions_;
}

intent_geometry intent_geometry::of(std::uint64_t blocks, std::uint32_t block_size) noexcept {
    intent_geometry g;
    g.block_size = block_size;
    while ((std::uint64_t{block_size} << g.region_shift) < region_bytes_min) ++g.region_shift;
    while (divide_up(blocks, 1ULL << g.region_shift) > regions_max) ++g.region_shift;
    g.region_count = static_cast<std::uint32_t>(divide_up(blocks, 1ULL << g.region_shift));
    return g;
}

std::uint64_t intent_geometry::slot_stride() const noexcept {
    return std::max<std::uint64_t>(slot_bytes, block_size);
}
std::uint64_t intent_geometry::slot_block(unsigned slot) const noexcept {
    return (align_up(area_bytes, block_size) + slot * slot_stride()) / block_size;
}
std::uint64_t intent_geometry::end_bytes() const noexcept {
    return align_up(area_bytes, block_size) + 2 * slot_stride();
}

aligned_bytes intent_slot::encode(const intent_geometry& geometry) const {
    aligned_bytes bytes(geometry.slot_stride());
    std::byte* const to = bytes.data();
    std::ranges::copy(bytes_of(signature), to);
    store_le<std::uint16_t>(to + at_version_major, version_major);
    std::ranges::copy(array.bytes(), to + at_array);
    store_le<std::uint64_t>(to + at_sequence, sequence);
    store_le<std::uint32_t>(to + at_superblock_crc, superblock_crc);
    store_le<std::uint32_t>(to + at_region_shift, geometry.region_shift);
    store_le<std::uint64_t>(to + at_generation, generation);
    store_le<std::uint32_t>(to + at_region_count, geometry.region_count);
    for (std::uint32_t r = dirty.next(0); r < dirty.regions(); r = dirty.next(r + 1))
        to[at_bits + r / 8] |= std::byte{1} << (r % 8);
    const std::span<const std::byte> used(to, geometry.slot_bytes);
    store_le<std::uint32_t>(to + at_crc, crc_of(used));
    return bytes;
}

result<intent_slot> intent_slot::decode(std::span<const std::byte> bytes,
                                        const intent_geometry& geometry, const superblock& owner) {
    if (bytes.size() < geometry.slot_bytes) return fail(EILSEQ);
    bytes = bytes.first(geometry.slot_bytes);
    const std::byte* const from = bytes.data();
    if (text_of(bytes.first(signature.size())) != signature) return fail(EILSEQ);
    if (load_le<std::uint32_t>(from + at_crc) != crc_of(bytes)) return fail(EILSEQ);
    if (load_le<std::uint16_t>(from + at_version_major) != version_major) return fail(EILSEQ);
    intent_slot slot;
    slot.array = uuid(bytes.subspan(at_array).first<uuid::size>());
    slot.sequence = load_le<std::uint64_t>(from + at_sequence);
    slot.superblock_crc = load_le<std::uint32_t>(from + at_superblock_crc);
    slot.generation = load_le<std::uint64_t>(from + at_generation);
    if (slot.array != owner.id || slot.sequence != owner.sequence ||
        slot.superblock_crc != owner.crc)
        return fail(EILSEQ);
    if (load_le<std::uint32_t>(from + at_region_shift) != geometry.region_shift ||
        load_le<std::uint32_t>(from + at_region_count) != geometry.region_count)
        return fail(EILSEQ);
    slot.dirty = region_set(geometry.region_count);
    for (std::uint32_t r = 0; r < geometry.region_count; ++r)
        if ((from[at_bits + r / 8] >> (r % 8) & std::byte{1}) != std::byte{0}) slot.dirty.set(r);
    return slot;
}

}  // namespace nacre::raid
