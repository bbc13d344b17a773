// SPDX-License-Identifier: BSD-3-Clause
#include "modules/raid/superblock.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "nacre/core/assert.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/crc32c.hpp"

namespace nacre::raid {
namespace {

constexpr std::string_view signature = "SPDKRAID";
constexpr std::uint16_t version_major = 1;

// Offsets of the header, then of an entry.
enum : std::size_t {
    at_version_major = 8,
    at_version_minor = 10,
    at_length = 12,
    at_crc = 16,
    at_uuid = 24,
    at_name = 40,
    at_blocks = 104,
    at_block_size = 112,
    at_level = 116,
    at_strip_size = 120,
    at_sequence = 128,
    at_slots = 136,
    at_entries = 255,
};
enum : std::size_t {
    entry_uuid = 0,
    entry_data_offset = 16,
    entry_data_size = 24,
    entry_state = 32,
    entry_slot = 40,
};

uuid uuid_at(std::span<const std::byte> bytes, std::size_t offset) {
    return uuid(bytes.subspan(offset).first<uuid::size>());
}

std::uint32_t crc_of(std::span<const std::byte> bytes) {
    static constexpr std::array<std::byte, 4> zero{};
    std::uint32_t state = crc32c_raw(bytes.first(at_crc), 0);
    state = crc32c_raw(zero, state);
    return crc32c_raw(bytes.subspan(at_crc + zero.size()), state);
}

superblock_leg decode_entry(std::span<const std::byte> entry) {
    superblock_leg leg;
    leg.id = uuid_at(entry, entry_uuid);
    leg.data_offset = load_le<std::uint64_t>(entry.data() + entry_data_offset);
    leg.data_size = load_le<std::uint64_t>(entry.data() + entry_data_size);
    leg.state = static_cast<leg_state>(load_le<std::uint32_t>(entry.data() + entry_state));
    leg.slot = static_cast<std::uint8_t>(entry[entry_slot]);
    return leg;
}

}  // namespace

superblock_leg* superblock::find(const uuid& leg) noexcept {
    const auto found = std::find_if(legs.begin(), legs.end(),
                                    [&](const superblock_leg& l) { return l.id == leg; });
    return found == legs.end() ? nullptr : &*found;
}

superblock_leg* superblock::at_slot(unsigned slot) noexcept {
    const auto found = std::find_if(legs.begin(), legs.end(),
                                    [&](const superblock_leg& l) { return l.slot == slot; });
    return found == legs.end() ? nullptr : &*found;
}

outcome<std::size_t> superblock::length_of(std::span<const std::byte> header) {
    if (header.size() < header_bytes || text_of(header.first(signature.size())) != signature)
        return fail(ENOENT, "no RAID superblock");
    const auto length = load_le<std::uint32_t>(header.data() + at_length);
    if (length < header_bytes || length > bytes_max)
        return fail(EILSEQ, fmt::format("RAID superblock of {} bytes; {} to {} are possible",
                                        length, header_bytes, bytes_max));
    return length;
}

outcome<superblock> superblock::decode(std::span<const std::byte> bytes) {
    auto length = length_of(bytes);
    if (!length) return fail(std::move(length.error()));
    if (*length > bytes.size()) return fail(EILSEQ, "RAID superblock: cut short");
    bytes = bytes.first(*length);

    superblock sb;
    sb.crc = load_le<std::uint32_t>(bytes.data() + at_crc);
    if (const std::uint32_t computed = crc_of(bytes); computed != sb.crc)
        return fail(EILSEQ,
                    fmt::format("RAID superblock: CRC is {:#010x}, of its contents {:#010x}",
                                sb.crc, computed));
    const auto major = load_le<std::uint16_t>(bytes.data() + at_version_major);
    if (major != version_major)
        return fail(EILSEQ,
                    fmt::format("RAID superblock: version {}, not {}", major, version_major));
    sb.id = uuid_at(bytes, at_uuid);
    if (sb.id.is_null()) return fail(EILSEQ, "RAID superblock: the array has no UUID");
    const std::string_view name = text_of(bytes.subspan(at_name, name_bytes_max + 1));
    if (name.find('\0') == std::string_view::npos)
        return fail(EILSEQ, "RAID superblock: the array's name does not end");
    sb.name = name.substr(0, name.find('\0'));
    sb.blocks = load_le<std::uint64_t>(bytes.data() + at_blocks);
    sb.block_size = load_le<std::uint32_t>(bytes.data() + at_block_size);
    sb.level = load_le<std::uint32_t>(bytes.data() + at_level);
    sb.strip_size = load_le<std::uint32_t>(bytes.data() + at_strip_size);
    sb.sequence = load_le<std::uint64_t>(bytes.data() + at_sequence);
    sb.slots = static_cast<std::uint8_t>(bytes[at_slots]);

    const auto entries = static_cast<std::size_t>(bytes[at_entries]);
    if (*length != header_bytes + entries * entry_bytes)
        return fail(EILSEQ,
                    fmt::format("RAID superblock: {} bytes do not hold {} legs", *length, entries));
    for (std::size_t i = 0; i < entries; ++i) {
        sb.legs.push_back(decode_entry(bytes.subspan(header_bytes + i * entry_bytes)));
        if (sb.legs.back().slot >= sb.slots)
            return fail(EILSEQ, fmt::format("RAID superblock: leg {} is in slot {} of {}", i,
                                            sb.legs.back().slot, sb.slots));
    }
    return sb;
}

aligned_bytes superblock::encode() {
    NACRE_ASSERT(block_size != 0 && name.size() <= name_bytes_max && legs.size() <= 255);
    aligned_bytes bytes(align_up(length(), block_size));
    std::byte* const to = bytes.data();
    std::ranges::copy(bytes_of(signature), to);
    store_le<std::uint16_t>(to + at_version_major, version_major);
    store_le<std::uint32_t>(to + at_length, static_cast<std::uint32_t>(length()));
    std::ranges::copy(id.bytes(), to + at_uuid);
    std::ranges::copy(bytes_of(name), to + at_name);
    store_le<std::uint64_t>(to + at_blocks, blocks);
    store_le<std::uint32_t>(to + at_block_size, block_size);
    store_le<std::uint32_t>(to + at_level, level);
    store_le<std::uint32_t>(to + at_strip_size, strip_size);
    store_le<std::uint64_t>(to + at_sequence, sequence);
    to[at_slots] = std::byte{slots};
    to[at_entries] = static_cast<std::byte>(legs.size());
    std::byte* entry = to + header_bytes;
    for (const superblock_leg& leg : legs) {
        std::ranges::copy(leg.id.bytes(), entry + entry_uuid);
        store_le<std::uint64_t>(entry + entry_data_offset, leg.data_offset);
        store_le<std::uint64_t>(entry + entry_data_size, leg.data_size);
        store_le<std::uint32_t>(entry + entry_state, static_cast<std::uint32_t>(leg.state));
        entry[entry_slot] = std::byte{leg.slot};
        entry += entry_bytes;
    }
    crc = crc_of(std::span<const std::byte>(bytes).first(length()));
    store_le<std::uint32_t>(to + at_crc, crc);
    return bytes;
}

}  // namespace nacre::raid
