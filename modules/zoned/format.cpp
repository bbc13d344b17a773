// SPDX-License-Identifier: BSD-3-Clause
#include "modules/zoned/format.hpp"

#include <algorithm>
#include <cstring>

#include "nacre/core/assert.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/crc32c.hpp"

namespace nacre::zoned {
namespace {

constexpr std::string_view header_signature = "NACREZNS";
constexpr std::string_view page_signature = "NACREZNP";
constexpr std::uint32_t version = 1;
constexpr std::uint64_t data_alignment = 1 << 20;
constexpr std::uint64_t zones_max = UINT32_MAX - 1;

/// With the field at `crc_at` taken as 0.
std::uint32_t checksum(std::span<const std::byte> bytes, std::size_t crc_at) noexcept {
    constexpr std::byte zero[4]{};
    std::uint32_t crc = crc32c(bytes.first(crc_at));
    crc = crc32c(zero, crc);
    return crc32c(bytes.subspan(crc_at + 4), crc);
}

bool has(std::span<const std::byte> bytes, std::string_view signature) noexcept {
    return text_of(bytes.first(signature.size())) == signature;
}

/// Where data begins behind so many pages.
std::uint64_t data_after(std::uint64_t pages, std::uint32_t page_bytes,
                         std::uint32_t block_size) noexcept {
    return align_up((2 + 2 * pages) * page_bytes, data_alignment) / block_size;
}

/// Whether a device can look like this, so that nothing that is computed from it overflows.
bool sane(const header& h) noexcept {
    if (!is_power_of_two(h.block_size) || h.block_size < 512 || h.block_size > 65536) return false;
    if (h.page_bytes != page_bytes_of(h.block_size)) return false;
    if (h.zones == 0 || h.zones > zones_max) return false;
    if (h.zone_capacity == 0 || h.zone_capacity > h.zone_size) return false;
    if (h.active_zones_max != 0 && h.open_zones_max > h.active_zones_max) return false;
    const auto blocks = checked_mul(h.zones, h.zone_size);
    if (!blocks || *blocks > (UINT64_MAX >> 2) / h.block_size) return false;
    return h.data_start == data_after(h.pages(), h.page_bytes, h.block_size);
}

}  // namespace

std::uint32_t page_bytes_of(std::uint32_t block_size) noexcept {
    return std::max<std::uint32_t>(block_size, 4096);
}

std::uint64_t header::zones_per_page() const noexcept {
    return (page_bytes - zone_page::header_bytes) / zone_page::entry_bytes;
}
std::uint64_t header::pages() const noexcept { return divide_up(zones, zones_per_page()); }
std::uint64_t header::zones_in(std::uint64_t page) const noexcept {
    return std::min(zones_per_page(), zones - page * zones_per_page());
}

void header::lay_out() noexcept {
    page_bytes = page_bytes_of(block_size);
    data_start = data_after(pages(), page_bytes, block_size);
}

std::uint64_t header::zones_that_fit(std::uint64_t blocks) const noexcept {
    header h = *this;
    h.zones = std::min(blocks / zone_capacity, zones_max);
    for (h.lay_out(); h.zones != 0 && h.base_blocks() > blocks; h.lay_out()) {
        const std::uint64_t over = h.base_blocks() - blocks;
        h.zones -= std::min(h.zones, std::max<std::uint64_t>(over / zone_capacity, 1));
    }
    return h.zones;
}

void header::encode(std::span<std::byte> page) const noexcept {
    std::byte* const p = page.data();
    std::memcpy(p, header_signature.data(), header_signature.size());
    store_le<std::uint32_t>(p + 8, version);
    std::memcpy(p + 16, id.bytes().data(), uuid::size);
    store_le<std::uint32_t>(p + 32, block_size);
    store_le<std::uint32_t>(p + 36, page_bytes);
    store_le<std::uint64_t>(p + 40, zones);
    store_le<std::uint64_t>(p + 48, zone_size);
    store_le<std::uint64_t>(p + 56, zone_capacity);
    store_le<std::uint64_t>(p + 64, data_start);
    store_le<std::uint32_t>(p + 72, open_zones_max);
    store_le<std::uint32_t>(p + 76, active_zones_max);
    store_le<std::uint32_t>(p + 80, append_blocks_max);
    store_le<std::uint32_t>(p + 12, checksum(page.first(bytes), 12));
}

result<header> header::decode(std::span<const std::byte> page) noexcept {
    if (page.size() < bytes) return fail(EINVAL);
    const std::span<const std::byte> whole = page.first(bytes);
    const std::byte* const p = whole.data();
    if (!has(whole, header_signature)) return fail(all_zero(page) ? ENOENT : EINVAL);
    if (load_le<std::uint32_t>(p + 12) != checksum(whole, 12)) return fail(EILSEQ);
    if (load_le<std::uint32_t>(p + 8) != version) return fail(EPROTONOSUPPORT);
    header h;
    h.id = uuid(std::span<const std::byte, uuid::size>(p + 16, uuid::size));
    h.block_size = load_le<std::uint32_t>(p + 32);
    h.page_bytes = load_le<std::uint32_t>(p + 36);
    h.zones = load_le<std::uint64_t>(p + 40);
    h.zone_size = load_le<std::uint64_t>(p + 48);
    h.zone_capacity = load_le<std::uint64_t>(p + 56);
    h.data_start = load_le<std::uint64_t>(p + 64);
    h.open_zones_max = load_le<std::uint32_t>(p + 72);
    h.active_zones_max = load_le<std::uint32_t>(p + 76);
    h.append_blocks_max = load_le<std::uint32_t>(p + 80);
    if (!sane(h)) return fail(EILSEQ);
    return h;
}

// --- Zone pages ---------------------------------------------------------------------------------

zone_record zone_page::at(std::uint64_t index) const noexcept {
    const std::byte* const e = bytes_.data() + header_bytes + index * entry_bytes;
    return {static_cast<zone_state>(e[8]), load_le<std::uint64_t>(e)};
}

void zone_page::set(std::uint64_t index, zone_record r) noexcept {
    std::byte* const e = bytes_.data() + header_bytes + index * entry_bytes;
    store_le<std::uint64_t>(e, r.written);
    std::memset(e + 8, 0, entry_bytes - 8);
    e[8] = static_cast<std::byte>(r.state);
}

std::uint64_t zone_page::sequence() const noexcept {
    return load_le<std::uint64_t>(bytes_.data() + 32);
}

void zone_page::seal(const header& of, std::uint64_t page, std::uint64_t sequence) noexcept {
    std::byte* const p = bytes_.data();
    std::memset(p, 0, header_bytes);
    std::memcpy(p, page_signature.data(), page_signature.size());
    store_le<std::uint32_t>(p + 12, static_cast<std::uint32_t>(page));
    std::memcpy(p + 16, of.id.bytes().data(), uuid::size);
    store_le<std::uint64_t>(p + 32, sequence);
    store_le<std::uint32_t>(p + 40, static_cast<std::uint32_t>(of.zones_in(page)));
    store_le<std::uint32_t>(p + 8, checksum(bytes_, 8));
}

bool zone_page::valid(const header& of, std::uint64_t page) const noexcept {
    NACRE_ASSERT(bytes_.size() == of.page_bytes && page < of.pages());
    const std::byte* const p = bytes_.data();
    if (!has(bytes_, page_signature) || load_le<std::uint32_t>(p + 8) != checksum(bytes_, 8))
        return false;
    if (load_le<std::uint32_t>(p + 12) != page) return false;
    if (std::memcmp(p + 16, of.id.bytes().data(), uuid::size) != 0) return false;
    if (load_le<std::uint32_t>(p + 40) != of.zones_in(page)) return false;
    for (std::uint64_t i = 0; i < of.zones_in(page); ++i) {
        const zone_record r = at(i);
        if (r.written > of.zone_capacity) return false;
        switch (r.state) {
            case zone_state::empty:
                if (r.written != 0) return false;
                break;
            case zone_state::closed:
                if (r.written == 0 || r.written == of.zone_capacity) return false;
                break;
            case zone_state::full:
            case zone_state::read_only:
            case zone_state::offline:
                break;
            default:
                return false;
        }
    }
    return true;
}

}  // namespace nacre::zoned
