// SPDX-License-Identifier: BSD-3-Clause
#include "format.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "nacre/core/assert.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/crc32c.hpp"

namespace nacre::blob_format {
namespace {

constexpr std::size_t descriptors_at = 16, descriptors_end = 4088;
constexpr std::size_t descriptors_max = descriptors_end - descriptors_at;
constexpr std::size_t crc_at = 4092;
constexpr std::string_view signature = "SPDKBLOB";
enum : std::uint8_t { padding, extent_rle, xattr, flags, xattr_internal, extent_table, extents };

std::uint32_t crc_of(std::span<const std::byte> page) noexcept {
    return crc32c(page.first(crc_at));
}

std::unexpected<failure> damaged(std::string message) { return fail(EILSEQ, std::move(message)); }

struct writer {
    std::vector<std::byte>& to;
    template <typename T>
    void put(T value) {
        to.resize(to.size() + sizeof value);
        store_le<T>(to.data() + to.size() - sizeof value, value);
    }
    void put(std::string_view bytes) {
        const auto b = bytes_of(bytes);
        to.insert(to.end(), b.begin(), b.end());
    }
};

}  // namespace

// --- Super block --------------------------------------------------------------------------------

namespace {

/// Regions in their order, within the metadata clusters, and large enough.
outcome<> check_regions(const super_block& s) {
    const std::uint64_t pages_max = s.size / s.page_size;
    const auto fits = [&](const region& r, const char* name) -> outcome<> {
        if (std::uint64_t{r.start} + r.length <= pages_max && r.start != 0) return {};
        return damaged(
            fmt::format("super block: {} (start {}, length {}) does not lie within the "
                        "{} pages of the store",
                        name, r.start, r.length, pages_max));
    };
    outcome<> ok = fits(s.used_pages, "used_page_mask");
    if (ok) ok = fits(s.used_clusters, "used_cluster_mask");
    if (ok && s.used_blobids.length != 0) ok = fits(s.used_blobids, "used_blobid_mask");
    if (ok) ok = fits(s.metadata, "md");
    if (!ok) return ok;
    std::vector<std::pair<region, const char*>> in_order{{s.used_pages, "used_page_mask"},
                                                         {s.used_clusters, "used_cluster_mask"}};
    if (s.used_blobids.length != 0) in_order.emplace_back(s.used_blobids, "used_blobid_mask");
    in_order.emplace_back(s.metadata, "md");
    for (std::size_t i = 1; i < in_order.size(); ++i) {
        const region& before = in_order[i - 1].first;
        if (in_order[i].first.start < before.start + before.length)
            return damaged(fmt::format("super block: {}_start {} lies within {}",
                                       in_order[i].second, in_order[i].first.start,
                                       in_order[i - 1].second));
    }
    const auto holds = [&](const region& r, std::uint64_t bits, const char* name) -> outcome<> {
        if (std::uint64_t{r.length} * s.page_size * 8 >= bits + mask_header_bytes * 8) return {};
        return damaged(
            fmt::format("super block: {}_len {} is too small for {} bits", name, r.length, bits));
    };
    if (s.metadata.length == 0) return damaged("super block: md_len is 0");
    ok = holds(s.used_pages, s.metadata.length, "used_page_mask");
    if (ok) ok = holds(s.used_clusters, s.clusters(), "used_cluster_mask");
    if (ok && s.used_blobids.length != 0)
        ok = holds(s.used_blobids, s.metadata.length, "used_blobid_mask");
    if (ok && s.metadata_clusters() > s.clusters())
        return damaged(fmt::format("super block: md_len {} takes more than the {} clusters",
                                   s.metadata.length, s.clusters()));
    return ok;
}

}  // namespace

outcome<super_block> super_block::decode(std::span<const std::byte> page,
                                         std::uint64_t device_bytes, std::uint32_t block_size) {
    NACRE_ASSERT(page.size() >= page_bytes);
    const std::byte* p = page.data();
    if (text_of(page.first(signature.size())) != signature)
        return fail(ENOENT, "super block: no blobstore (signature)");
    super_block s;
    s.version = load_le<std::uint32_t>(p + 8);
    if (s.version < 1 || s.version > 3)
        return damaged(fmt::format("super block: version {} is not 1, 2 or 3", s.version));
    if (load_le<std::uint32_t>(p + crc_at) != crc_of(page.first(page_bytes)))
        return damaged("super block: crc does not match");
    s.clean = load_le<std::uint32_t>(p + 16) == 1;
    s.super_blob = static_cast<blob_id>(load_le<std::uint64_t>(p + 20));
    s.cluster_size = load_le<std::uint32_t>(p + 28);
    s.used_pages = {load_le<std::uint32_t>(p + 32), load_le<std::uint32_t>(p + 36)};
    s.used_clusters = {load_le<std::uint32_t>(p + 40), load_le<std::uint32_t>(p + 44)};
    s.metadata = {load_le<std::uint32_t>(p + 48), load_le<std::uint32_t>(p + 52)};
    const std::string_view type = text_of(page.subspan(56, 16));
    s.type = type.substr(0, std::min(type.find_last_not_of('\0') + 1, type.size()));
    s.used_blobids = {load_le<std::uint32_t>(p + 72), load_le<std::uint32_t>(p + 76)};
    s.size = load_le<std::uint64_t>(p + 80);
    s.io_unit_size = load_le<std::uint32_t>(p + 88);
    s.page_size = load_le<std::uint32_t>(p + 92);
    std::memcpy(s.reserved.data(), p + 96, s.reserved.size());
    if (s.size == 0) s.size = device_bytes;
    if (s.io_unit_size == 0) s.io_unit_size = 4096;
    if (s.page_size == 0) s.page_size = 4096;
    if (s.size > device_bytes)
        return damaged(fmt::format("super block: size {} is more than the device's {} bytes",
                                   s.size, device_bytes));
    if (s.page_size < page_bytes || s.page_size > 65536 || !is_power_of_two(s.page_size))
        return damaged(
            fmt::format("super block: md_page_size {} is not a power of two from 4096 "
                        "to 65536",
                        s.page_size));
    if (s.cluster_size == 0 || s.cluster_size % s.page_size != 0)
        return damaged(fmt::format("super block: cluster_size {} is no multiple of the page's {}",
                                   s.cluster_size, s.page_size));
    if (s.cluster_size > s.size || s.clusters() > UINT32_MAX)
        return damaged(fmt::format("super block: cluster_size {} does not suit a store of {} bytes",
                                   s.cluster_size, s.size));
    if (!is_power_of_two(s.io_unit_size) || s.io_unit_size % block_size != 0 ||
        s.io_unit_size > s.cluster_size || s.page_size % block_size != 0)
        return damaged(
            fmt::format("super block: io_unit_size {} and md_page_size {} do not suit "
                        "blocks of {} bytes",
                        s.io_unit_size, s.page_size, block_size));
    outcome<> regions = check_regions(s);
    if (!regions) return fail(std::move(regions.error()));
    return s;
}

void super_block::encode(std::span<std::byte> page) const {
    std::memset(page.data(), 0, page.size());
    std::byte* p = page.data();
    std::memcpy(p, signature.data(), signature.size());
    store_le<std::uint32_t>(p + 8, version);
    store_le<std::uint32_t>(p + 12, page_bytes);
    store_le<std::uint32_t>(p + 16, clean ? 1 : 0);
    store_le<std::uint64_t>(p + 20, static_cast<std::uint64_t>(super_blob));
    store_le<std::uint32_t>(p + 28, cluster_size);
    store_le<std::uint32_t>(p + 32, used_pages.start);
    store_le<std::uint32_t>(p + 36, used_pages.length);
    store_le<std::uint32_t>(p + 40, used_clusters.start);
    store_le<std::uint32_t>(p + 44, used_clusters.length);
    store_le<std::uint32_t>(p + 48, metadata.start);
    store_le<std::uint32_t>(p + 52, metadata.length);
    std::memcpy(p + 56, type.data(), std::min<std::size_t>(type.size(), 16));
    store_le<std::uint32_t>(p + 72, used_blobids.start);
    store_le<std::uint32_t>(p + 76, used_blobids.length);
    store_le<std::uint64_t>(p + 80, size);
    store_le<std::uint32_t>(p + 88, io_unit_size);
    store_le<std::uint32_t>(p + 92, page_size);
    std::memcpy(p + 96, reserved.data(), reserved.size());
    store_le<std::uint32_t>(p + crc_at, crc_of(page.first(page_bytes)));
}

outcome<super_block> super_block::make(const blobstore_options& o, std::uint64_t device_bytes,
                                       std::uint32_t block_size,
                                       std::uint32_t physical_block_size) {
    super_block s;
    s.page_size = std::max({physical_block_size, std::uint32_t{page_bytes}, o.metadata_page_size});
    if (!is_power_of_two(s.page_size) || s.page_size > 65536)
        return fail(EINVAL, fmt::format("metadata_page_size {} is not a power of two from 4096 to "
                                        "65536",
                                        s.page_size));
    if (o.cluster_size == 0 || o.cluster_size % s.page_size != 0)
        return fail(EINVAL, fmt::format("cluster_size {} is no multiple of {}", o.cluster_size,
                                        s.page_size));
    if (o.type.size() > 16)
        return fail(EINVAL, fmt::format("type \"{}\" is longer than 16 bytes", o.type));
    if (device_bytes < o.cluster_size)
        return fail(ENOSPC, fmt::format("the device has {} bytes, less than a cluster of {}",
                                        device_bytes, o.cluster_size));
    s.cluster_size = o.cluster_size;
    s.type = o.type;
    s.size = device_bytes;
    s.io_unit_size = block_size;
    const std::uint64_t clusters = s.clusters();
    if (clusters > UINT32_MAX)
        return fail(EINVAL, fmt::format("cluster_size {} gives more than 2^32 clusters on a device "
                                        "of {} bytes; choose a larger one",
                                        o.cluster_size, device_bytes));
    const std::uint64_t pages = o.metadata_pages == 0 ? clusters : o.metadata_pages;
    if (pages > UINT32_MAX - 1)
        return fail(EINVAL, fmt::format("{} metadata pages are too many", pages));
    s.metadata.length = static_cast<std::uint32_t>(pages);
    const std::uint32_t page_mask = mask_pages(pages, s.page_size);
    const std::uint32_t cluster_mask = mask_pages(clusters, s.page_size);
    s.used_pages = {1, page_mask};
    s.used_clusters = {1 + page_mask, cluster_mask};
    s.used_blobids = {s.used_clusters.start + std::max(page_mask, cluster_mask), page_mask};
    s.metadata.start = s.used_blobids.start + page_mask;
    if (s.metadata_clusters() > clusters)
        return fail(ENOSPC, fmt::format("{} metadata pages take more than the {} clusters of the "
                                        "device",
                                        pages, clusters));
    return s;
}

// --- Metadata of a blob -------------------------------------------------------------------------

const std::string* blob_metadata::find(const std::vector<blob_xattr>& in,
                                       std::string_view name) const noexcept {
    const auto found = std::ranges::find(in, name, &blob_xattr::name);
    return found == in.end() ? nullptr : &found->value;
}

blob_id blob_metadata::reference(std::string_view name) const noexcept {
    const std::string* value = find(internal, name);
    if (value == nullptr || value->size() != 8) return blob_id::none;
    return static_cast<blob_id>(load_le<std::uint64_t>(bytes_of(*value).data()));
}

void blob_metadata::set(std::vector<blob_xattr>& in, std::string_view name, std::string value) {
    const auto found = std::ranges::find(in, name, &blob_xattr::name);
    if (found != in.end())
        found->value = std::move(value);
    else
        in.push_back({std::string(name), std::move(value)});
}

bool blob_metadata::remove(std::vector<blob_xattr>& in, std::string_view name) {
    return std::erase_if(in, [&](const blob_xattr& x) { return x.name == name; }) != 0;
}

void blob_metadata::set_reference(std::string_view name, blob_id to) {
    std::string value(8, '\0');
    store_le<std::uint64_t>(reinterpret_cast<std::byte*>(value.data()),
                            static_cast<std::uint64_t>(to));
    set(internal, name, std::move(value));
}

void blob_metadata::settle_flags() noexcept {
    if (internal.empty())
        flags.invalid &= ~blob_flags::internal_xattr;
    else
        flags.invalid |= blob_flags::internal_xattr;
    if (find(internal, xattr_external) != nullptr)
        flags.invalid |= blob_flags::external;
    else
        flags.invalid &= ~blob_flags::external;
}

page_header header_of(std::span<const std::byte> page) noexcept {
    const std::byte* p = page.data();
    return {.id = static_cast<blob_id>(load_le<std::uint64_t>(p)),
            .sequence = load_le<std::uint32_t>(p + 8),
            .next = load_le<std::uint32_t>(p + descriptors_end),
            .valid = load_le<std::uint32_t>(p + crc_at) == crc_of(page.first(page_bytes))};
}

bool may_be_root(std::span<const std::byte> page, std::uint32_t index) noexcept {
    return static_cast<blob_id>(load_le<std::uint64_t>(page.data())) == id_of(index) &&
           load_le<std::uint32_t>(page.data() + 8) == 0;
}

outcome<std::optional<std::uint32_t>> chain_reader::take(std::uint32_t index,
                                                         std::span<const std::byte> page) {
    const std::string where =
        fmt::format("blob {}: metadata page {}", to_string(id_of(root_)), index);
    const page_header h = header_of(page);
    if (!h.valid) return damaged(where + ": crc does not match");
    if (h.id != id_of(root_)) return damaged(fmt::format("{}: id is {}", where, to_string(h.id)));
    if (h.sequence != pages_)
        return damaged(fmt::format("{}: sequence_num is {}, not {}", where, h.sequence, pages_));
    if (pages_ != 0) blob_.chain.push_back(index);
    ++pages_;
    const std::span<const std::byte> area = page.subspan(descriptors_at, descriptors_max);
    for (std::size_t at = 0; at + 5 <= area.size();) {
        const auto type = static_cast<std::uint8_t>(area[at]);
        const std::uint32_t length = load_le<std::uint32_t>(area.data() + at + 1);
        if (type == padding && length == 0) break;
        if (length > area.size() - at - 5)
            return damaged(fmt::format("{}: descriptor at {}: length {} runs over the page", where,
                                       descriptors_at + at, length));
        outcome<> taken =
            take_descriptor(type, area.subspan(at + 5, length),
                            fmt::format("{}: descriptor at {}", where, descriptors_at + at));
        if (!taken) return fail(std::move(taken.error()));
        at += 5 + length;
    }
    if (h.next != no_page) {
        if (h.next >= super_.metadata.length)
            return damaged(
                fmt::format("{}: next is {}, of {} pages", where, h.next, super_.metadata.length));
        if (pages_ > super_.metadata.length) return damaged(where + ": next leads in a circle");
        return std::optional<std::uint32_t>(h.next);
    }
    outcome<> finished = finish();
    if (!finished) return fail(std::move(finished.error()));
    return std::optional<std::uint32_t>();
}

outcome<> chain_reader::take_descriptor(std::uint8_t type, std::span<const std::byte> body,
                                        const std::string& where) {
    switch (type) {
        case padding:
            return {};
        case extent_rle:
            return take_rle(body, where);
        case xattr:
            return take_xattr(body, blob_.xattrs, where);
        case flags:
            return take_flags(body, where);
        case xattr_internal:
            return take_xattr(body, blob_.internal, where);
        case extent_table:
            return take_table(body, where);
        case extents:
            return damaged(where + ": an EXTENT_PAGE in a chain");
        default:
            unknown_ = true;
            return {};
    }
}

outcome<> chain_reader::take_xattr(std::span<const std::byte> body, std::vector<blob_xattr>& into,
                                   const std::string& where) {
    if (body.size() < 4) return damaged(where + ": an XATTR without lengths");
    const std::size_t name = load_le<std::uint16_t>(body.data());
    const std::size_t value = load_le<std::uint16_t>(body.data() + 2);
    if (body.size() != 4 + name + value)
        return damaged(
            fmt::format("{}: an XATTR's length {} is not that of its name ({}) and "
                        "value ({})",
                        where, body.size(), name, value));
    std::string_view text = text_of(body.subspan(4, name));
    text = text.substr(0, text.find('\0'));
    blob_.set(into, text, std::string(text_of(body.subspan(4 + name, value))));
    return {};
}

outcome<> chain_reader::take_flags(std::span<const std::byte> body, const std::string& where) {
    if (body.size() != 24)
        return damaged(fmt::format("{}: FLAGS of length {}, not 24", where, body.size()));
    blob_.flags = {load_le<std::uint64_t>(body.data()), load_le<std::uint64_t>(body.data() + 8),
                   load_le<std::uint64_t>(body.data() + 16)};
    return {};
}

outcome<> chain_reader::take_rle(std::span<const std::byte> body, const std::string& where) {
    if (body.empty() || body.size() % 8 != 0)
        return damaged(fmt::format("{}: EXTENT_RLE of length {}", where, body.size()));
    if (blob_.extent_table) return damaged(where + ": EXTENT_RLE beside an EXTENT_TABLE");
    rle_ = true;
    for (std::size_t at = 0; at < body.size(); at += 8) {
        const std::uint32_t cluster = load_le<std::uint32_t>(body.data() + at);
        const std::uint64_t n = load_le<std::uint32_t>(body.data() + at + 4);
        if (cluster == 0 && !blob_.thin())
            return damaged(where + ": EXTENT_RLE has unallocated clusters, the blob is not thin");
        if (cluster != 0 && cluster + n > super_.clusters())
            return damaged(fmt::format("{}: EXTENT_RLE has clusters {} to {}, of {}", where,
                                       cluster, cluster + n, super_.clusters()));
        if (blob_.rle_map.size() + n > super_.blob_clusters_max())
            return damaged(fmt::format("{}: EXTENT_RLE has a run of {} clusters", where, n));
        for (std::uint64_t i = 0; i < n; ++i)
            blob_.rle_map.push_back(cluster == 0 ? 0 : cluster + static_cast<std::uint32_t>(i));
    }
    blob_.clusters = blob_.rle_map.size();
    return {};
}

outcome<> chain_reader::take_table(std::span<const std::byte> body, const std::string& where) {
    if (body.size() < 8 || body.size() % 8 != 0)
        return damaged(fmt::format("{}: EXTENT_TABLE of length {}", where, body.size()));
    if (rle_) return damaged(where + ": EXTENT_TABLE beside an EXTENT_RLE");
    const std::uint64_t clusters = load_le<std::uint64_t>(body.data());
    if (blob_.extent_table && clusters != blob_.clusters)
        return damaged(fmt::format("{}: EXTENT_TABLE's num_clusters {} was {} before", where,
                                   clusters, blob_.clusters));
    if (clusters > super_.blob_clusters_max())
        return damaged(fmt::format("{}: EXTENT_TABLE's num_clusters {}, of at most {}", where,
                                   clusters, super_.blob_clusters_max()));
    blob_.extent_table = true;
    blob_.clusters = clusters;
    const std::uint64_t all = divide_up(clusters, extent_page_clusters);
    for (std::size_t at = 8; at < body.size(); at += 8) {
        const std::uint32_t page = load_le<std::uint32_t>(body.data() + at);
        const std::uint64_t n = load_le<std::uint32_t>(body.data() + at + 4);
        if (page >= super_.metadata.length)
            return damaged(fmt::format("{}: EXTENT_TABLE has page_idx {}, of {}", where, page,
                                       super_.metadata.length));
        if (page != 0 && n != 1)
            return damaged(fmt::format("{}: EXTENT_TABLE has num_pages {} of a page", where, n));
        if (n > all - std::min<std::uint64_t>(all, blob_.extent_pages.size()))
            return damaged(fmt::format("{}: EXTENT_TABLE has more entries than {} clusters need",
                                       where, clusters));
        if (page == 0 && !blob_.thin())
            return damaged(where + ": EXTENT_TABLE lacks a page, the blob is not thin");
        blob_.extent_pages.insert(blob_.extent_pages.end(), n, page);
    }
    return {};
}

outcome<> chain_reader::finish() {
    const std::string where = fmt::format("blob {}", to_string(id_of(root_)));
    if (blob_.extent_table &&
        blob_.extent_pages.size() != divide_up(blob_.clusters, extent_page_clusters))
        return damaged(fmt::format("{}: EXTENT_TABLE has {} entries for {} clusters", where,
                                   blob_.extent_pages.size(), blob_.clusters));
    for (const char* name : {xattr_parent, xattr_being_made, xattr_being_removed}) {
        const std::string* value = blob_.find(blob_.internal, name);
        if (value != nullptr && value->size() != 8)
            return damaged(fmt::format("{}: {} of {} bytes, not 8", where, name, value->size()));
    }
    if ((blob_.flags.invalid & blob_flags::external) != 0 &&
        blob_.find(blob_.internal, xattr_external) == nullptr)
        return damaged(where + ": EXTERNAL_SNAPSHOT without EXTSNAP");
    return {};
}

outcome<extent_page> extent_page::decode(std::uint32_t index, std::span<const std::byte> page,
                                         const super_block& super) {
    const std::string where = fmt::format("extent page {}", index);
    const page_header h = header_of(page);
    if (!h.valid) return damaged(where + ": crc does not match");
    if (h.sequence != 0) return damaged(fmt::format("{}: sequence_num {}", where, h.sequence));
    if (h.next != no_page) return damaged(fmt::format("{}: next {}", where, h.next));
    const std::span<const std::byte> area = page.subspan(descriptors_at, descriptors_max);
    const std::uint32_t length = load_le<std::uint32_t>(area.data() + 1);
    if (static_cast<std::uint8_t>(area[0]) != extents)
        return damaged(fmt::format("{}: no EXTENT_PAGE but a descriptor of type {}", where,
                                   static_cast<unsigned>(area[0])));
    if (length < 4 || length % 4 != 0 || length > 4 + 4 * extent_page_clusters)
        return damaged(fmt::format("{}: EXTENT_PAGE of length {}", where, length));
    if (load_le<std::uint32_t>(area.data() + 5 + length + 1) != 0)
        return damaged(where + ": something follows the EXTENT_PAGE");
    extent_page e;
    e.first = load_le<std::uint32_t>(area.data() + 5);
    for (std::size_t at = 9; at < 5 + length; at += 4) {
        const std::uint32_t cluster = load_le<std::uint32_t>(area.data() + at);
        if (cluster >= super.clusters())
            return damaged(
                fmt::format("{}: cluster_idx {}, of {}", where, cluster, super.clusters()));
        e.clusters.push_back(cluster);
    }
    return e;
}

void encode_extent_page(std::span<std::byte> page, blob_id owner, std::uint32_t first,
                        std::span<const std::uint32_t> clusters) {
    NACRE_ASSERT(clusters.size() <= extent_page_clusters);
    std::vector<std::byte> descriptor;
    writer w{descriptor};
    w.put(std::uint8_t{extents});
    w.put(static_cast<std::uint32_t>(4 + 4 * clusters.size()));
    w.put(first);
    for (const std::uint32_t c : clusters) w.put(c);
    encode_chain_page(page, owner, 0, no_page, descriptor);
}

std::vector<std::vector<std::byte>> encode_descriptors(const blob_metadata& blob) {
    std::vector<std::vector<std::byte>> pages(1);
    const auto room_for = [&](std::size_t bytes) -> writer {
        if (pages.back().size() + bytes > descriptors_max) pages.emplace_back();
        return writer{pages.back()};
    };
    writer w = room_for(29);
    w.put(std::uint8_t{flags});
    w.put(std::uint32_t{24});
    w.put(blob.flags.invalid);
    w.put(blob.flags.data_ro);
    w.put(blob.flags.md_ro);
    const auto put_xattrs = [&](const std::vector<blob_xattr>& all, std::uint8_t type) {
        for (const blob_xattr& x : all) {
            writer to = room_for(9 + x.name.size() + x.value.size());
            to.put(type);
            to.put(static_cast<std::uint32_t>(4 + x.name.size() + x.value.size()));
            to.put(static_cast<std::uint16_t>(x.name.size()));
            to.put(static_cast<std::uint16_t>(x.value.size()));
            to.put(std::string_view(x.name));
            to.put(std::string_view(x.value));
        }
    };
    put_xattrs(blob.xattrs, xattr);
    put_xattrs(blob.internal, xattr_internal);
    // Entries of 8 bytes behind a header, as many in a page as fit.
    struct entry {
        std::uint32_t what;
        std::uint32_t run;
    };
    std::vector<entry> entries;
    const std::vector<std::uint32_t>& list = blob.extent_table ? blob.extent_pages : blob.rle_map;
    for (const std::uint32_t v : list) {
        const bool joins =
            !entries.empty() && (blob.extent_table || entries.back().what == 0
                                     ? v == 0 && entries.back().what == 0
                                     : v != 0 && v == entries.back().what + entries.back().run);
        if (joins)
            ++entries.back().run;
        else
            entries.push_back({v, 1});
    }
    const std::size_t head = blob.extent_table ? 13 : 5;
    std::size_t next = 0;
    while (next < entries.size() || (blob.extent_table && next == 0)) {
        writer to = room_for(head + (entries.empty() ? 0 : 8));
        const std::size_t room = (descriptors_max - to.to.size() - head) / 8;
        const std::size_t n = std::min(room, entries.size() - next);
        to.put(blob.extent_table ? std::uint8_t{extent_table} : std::uint8_t{extent_rle});
        to.put(static_cast<std::uint32_t>((head - 5) + 8 * n));
        if (blob.extent_table) to.put(blob.clusters);
        for (std::size_t i = next; i < next + n; ++i) {
            to.put(entries[i].what);
            to.put(entries[i].run);
        }
        next += n;
        if (entries.empty()) break;
    }
    return pages;
}

void encode_chain_page(std::span<std::byte> page, blob_id id, std::uint32_t sequence,
                       std::uint32_t next, std::span<const std::byte> descriptors) {
    NACRE_ASSERT(descriptors.size() <= descriptors_max);
    std::memset(page.data(), 0, page.size());
    std::byte* p = page.data();
    store_le<std::uint64_t>(p, static_cast<std::uint64_t>(id));
    store_le<std::uint32_t>(p + 8, sequence);
    std::memcpy(p + descriptors_at, descriptors.data(), descriptors.size());
    store_le<std::uint32_t>(p + descriptors_end, next);
    store_le<std::uint32_t>(p + crc_at, crc_of(page.first(page_bytes)));
}

// --- Masks --------------------------------------------------------------------------------------

std::uint32_t mask_pages(std::uint64_t bits, std::uint32_t page_size) noexcept {
    return static_cast<std::uint32_t>(divide_up(mask_header_bytes + divide_up(bits, 8), page_size));
}

bool mask_suits(std::span<const std::byte> region, mask_type type, std::uint64_t bits) noexcept {
    const std::uint64_t length = load_le<std::uint32_t>(region.data() + 1);
    return static_cast<mask_type>(region[0]) == type &&
           (type == mask_type::clusters ? length >= bits : length == bits) &&
           region.size() >= mask_header_bytes + divide_up(bits, 8);
}

void encode_mask_header(std::span<std::byte> region, mask_type type, std::uint32_t bits) noexcept {
    region[0] = static_cast<std::byte>(type);
    store_le<std::uint32_t>(region.data() + 1, bits);
}

}  // namespace nacre::blob_format
