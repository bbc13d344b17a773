// SPDX-License-Identifier: BSD-3-Clause
#include "modules/gpt/table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "nacre/core/bytes.hpp"
#include "nacre/core/crc32.hpp"

namespace nacre::gpt {
namespace {

constexpr std::uint8_t protective_type = 0xee;
constexpr std::string_view signature = "EFI PART";
constexpr std::size_t name_units = 36;

/// SPDK's own types. Of the old one SPDK has always shown one block less, and still does.
const uuid& spdk_type() noexcept {
    static const uuid type = *uuid::parse("6527994e-2c5a-4eec-9613-8f5944074e8b");
    return type;
}
const uuid& old_spdk_type() noexcept {
    static const uuid type = *uuid::parse("7c5222bd-8f5d-4087-9c00-bf9843c7b58c");
    return type;
}

/// On disk the first three groups are little-endian numbers.
uuid guid_at(const std::byte* p) noexcept {
    std::array<std::byte, uuid::size> b;
    std::memcpy(b.data(), p, b.size());
    std::reverse(b.begin(), b.begin() + 4);
    std::reverse(b.begin() + 4, b.begin() + 6);
    std::reverse(b.begin() + 6, b.begin() + 8);
    return uuid(b);
}

void append_utf8(std::string& out, std::uint32_t c) {
    if (c < 0x80) {
        out += static_cast<char>(c);
    } else if (c < 0x800) {
        out += static_cast<char>(0xc0 | c >> 6);
        out += static_cast<char>(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        out += static_cast<char>(0xe0 | c >> 12);
        out += static_cast<char>(0x80 | (c >> 6 & 0x3f));
        out += static_cast<char>(0x80 | (c & 0x3f));
    } else {
        out += static_cast<char>(0xf0 | c >> 18);
        out += static_cast<char>(0x80 | (c >> 12 & 0x3f));
        out += static_cast<char>(0x80 | (c >> 6 & 0x3f));
        out += static_cast<char>(0x80 | (c & 0x3f));
    }
}

/// UTF-16LE up to the first NUL; halves of surrogate pairs become U+FFFD.
std::string name_at(const std::byte* p) {
    std::string out;
    for (std::size_t i = 0; i < name_units; ++i) {
        std::uint32_t c = load_le<std::uint16_t>(p + 2 * i);
        if (c == 0) break;
        if (c >= 0xd800 && c < 0xe000) {
            const std::uint32_t low =
                i + 1 < name_units ? load_le<std::uint16_t>(p + 2 * i + 2) : 0U;
            const bool pair = c < 0xdc00 && low >= 0xdc00 && low < 0xe000;
            c = pair ? 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00) : 0xfffd;
            if (pair) ++i;
        }
        append_utf8(out, c);
    }
    return out;
}

struct extent {
    std::uint64_t first;
    std::uint64_t last;
    std::uint32_t number;
};

}  // namespace

bool is_protective_mbr(std::span<const std::byte> block, const geometry& g) noexcept {
    constexpr std::size_t table = 446, record = 16;
    const std::byte* const p = block.data();
    if (block.size() < 512 || load_le<std::uint16_t>(p + 510) != 0xaa55) return false;
    for (std::size_t i = 0; i < 4; ++i) {
        const std::byte* const r = p + table + i * record;
        if (static_cast<std::uint8_t>(r[4]) != protective_type) continue;
        const std::uint32_t count = load_le<std::uint32_t>(r + 12);
        return load_le<std::uint32_t>(r + 8) == 1 &&
               (count == UINT32_MAX || count == static_cast<std::uint32_t>(g.blocks) - 1);
    }
    return false;
}

outcome<header> decode_header(std::span<const std::byte> block, std::uint64_t at,
                              const geometry& g) {
    const std::byte* const p = block.data();
    if (block.size() < header::bytes || text_of(block.first(8)) != signature)
        return fail(EILSEQ, fmt::format("no header at block {}", at));
    const std::uint32_t length = load_le<std::uint32_t>(p + 12);
    if (length < header::bytes || length > block.size())
        return fail(EILSEQ, fmt::format("the header at block {} has {} bytes", at, length));
    constexpr std::byte zero[4]{};
    std::uint32_t crc = crc32(block.first(16));
    crc = crc32(zero, crc);
    crc = crc32(block.subspan(20, length - 20), crc);
    if (crc != load_le<std::uint32_t>(p + 16))
        return fail(EILSEQ, fmt::format("the checksum of the header at block {} is wrong", at));
    if (load_le<std::uint64_t>(p + 24) != at)
        return fail(EILSEQ, fmt::format("the header at block {} says that it is block {}", at,
                                        load_le<std::uint64_t>(p + 24)));
    header h;
    h.first_usable = load_le<std::uint64_t>(p + 40);
    h.last_usable = load_le<std::uint64_t>(p + 48);
    h.disk = guid_at(p + 56);
    h.entries_at = load_le<std::uint64_t>(p + 72);
    h.entries = load_le<std::uint32_t>(p + 80);
    h.entries_crc = load_le<std::uint32_t>(p + 88);
    if (h.last_usable < h.first_usable || h.last_usable >= g.blocks || h.first_usable < 2)
        return fail(EILSEQ, fmt::format("the header at block {} calls blocks {} to {} of {} usable",
                                        at, h.first_usable, h.last_usable, g.blocks));
    const std::uint32_t each = load_le<std::uint32_t>(p + 84);
    if (h.entries > entries_max || each != entry_bytes)
        return fail(EILSEQ, fmt::format("the table of block {} has {} entries of {} bytes; at most "
                                        "{} of {} are read",
                                        at, h.entries, each, entries_max, entry_bytes));
    if (!range_fits(h.entries_at, h.entries_blocks(g), g.blocks))
        return fail(EILSEQ,
                    fmt::format("the entries of the header at block {} lie past the end", at));
    return h;
}

outcome<std::vector<partition>> decode_entries(const header& h, std::span<const std::byte> entries,
                                               std::vector<std::string>& problems) {
    const std::size_t length = std::size_t{h.entries} * entry_bytes;
    if (entries.size() < length || crc32(entries.first(length)) != h.entries_crc)
        return fail(EILSEQ,
                    fmt::format("the checksum of the entries at block {} is wrong", h.entries_at));
    std::vector<partition> ours;
    std::vector<extent> all;
    for (std::uint32_t i = 0; i < h.entries; ++i) {
        const std::byte* const p = entries.data() + std::size_t{i} * entry_bytes;
        const std::uint64_t first = load_le<std::uint64_t>(p + 32);
        const std::uint64_t last = load_le<std::uint64_t>(p + 40);
        const uuid type = guid_at(p);
        if (type.is_null() || first == 0) continue;
        if (first <= last) all.push_back({first, last, i + 1});
        if (type != spdk_type() && type != old_spdk_type()) continue;
        if (last < first || first < h.first_usable || last > h.last_usable) {
            problems.push_back(
                fmt::format("partition {} (blocks {} to {}) lies outside of blocks "
                            "{} to {} and is left out",
                            i + 1, first, last, h.first_usable, h.last_usable));
            continue;
        }
        const std::uint64_t blocks = last - first + (type == spdk_type() ? 1 : 0);
        if (blocks == 0) continue;
        ours.push_back({i + 1, type, guid_at(p + 16), first, blocks, name_at(p + 56)});
    }
    std::erase_if(ours, [&](const partition& part) {
        for (const extent& other : all) {
            if (other.number == part.number || other.last < part.first ||
                other.first > part.first + part.blocks - 1)
                continue;
            problems.push_back(fmt::format("partition {} overlaps partition {} and is left out",
                                           part.number, other.number));
            return true;
        }
        return false;
    });
    return ours;
}

}  // namespace nacre::gpt
