// SPDX-License-Identifier: BSD-3-Clause
#include "check_rules.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "nacre/core/bytes.hpp"

namespace nacre::blob_check {

using namespace blob_format;

namespace {

constexpr std::size_t descriptors_at = 16, descriptors_end = 4088;
enum : std::uint8_t { padding, extent_rle, xattr, flags, xattr_internal, extent_table, extents };

std::size_t first_nonzero(std::span<const std::byte> bytes) noexcept {
    return static_cast<std::size_t>(
        std::ranges::find_if(bytes, [](std::byte b) { return b != std::byte{0}; }) - bytes.begin());
}

/// Calls visit(type, body, place in the page) until it returns false; where the descriptors end.
template <typename F>
std::size_t each_descriptor(std::span<const std::byte> page, F visit) {
    std::size_t at = descriptors_at;
    while (at + 5 <= descriptors_end) {
        const auto type = static_cast<std::uint8_t>(page[at]);
        const std::size_t length = load_le<std::uint32_t>(page.data() + at + 1);
        if (type == padding && length == 0) break;
        if (length > descriptors_end - at - 5) return SIZE_MAX;
        visit(type, page.subspan(at + 5, length), at);
        at += 5 + length;
    }
    return at;
}

bool is_blob_id(blob_id id, const super_block& super) noexcept {
    return static_cast<std::uint64_t>(id) >> 32 == 1 && root_of(id) < super.metadata.length;
}

}  // namespace

void findings::add(level l, std::string_view code, blob_id blob, std::string text,
                   std::optional<std::uint64_t> offset) {
    worst_ = std::max(worst_, l);
    auto counted = counts_.find(code);
    if (counted == counts_.end()) counted = counts_.emplace(code, 0).first;
    if (++counted->second > shown_max) return;
    list_.push_back({l, std::string(code), blob, std::move(text), offset});
}

std::vector<blob_finding> findings::take() {
    for (const auto& [code, count] : counts_) {
        if (count <= shown_max) continue;
        const auto of = std::ranges::find(list_, code, &blob_finding::code);
        list_.push_back(
            {of->level, code, blob_id::none, fmt::format("and {} more", count - shown_max), {}});
    }
    return std::move(list_);
}

// --- Super block --------------------------------------------------------------------------------

void judge_super(std::span<const std::byte> page, const super_block& s, findings& to) {
    const auto demand = [&](bool holds, level l, std::string_view field, std::uint64_t at,
                            std::string text) {
        if (!holds)
            to.add(l, fmt::format("super-{}", field), blob_id::none,
                   fmt::format("super block: {}: {}", field, text), at);
    };
    // What lies where follows from the number of pages and clusters.
    const std::uint32_t pages = mask_pages(s.metadata.length, s.page_size);
    const std::uint32_t clusters = mask_pages(s.clusters(), s.page_size);
    demand(s.used_pages.start == 1, level::fatal, "used_page_mask_start", 32,
           fmt::format("{}, not 1", s.used_pages.start));
    demand(s.used_pages.length == pages, level::fatal, "used_page_mask_len", 36,
           fmt::format("{}, but {} pages need {}", s.used_pages.length, s.metadata.length, pages));
    demand(s.used_clusters.start == s.used_pages.start + s.used_pages.length, level::fatal,
           "used_cluster_mask_start", 40,
           fmt::format("{}, but the mask before it ends at {}", s.used_clusters.start,
                       s.used_pages.start + s.used_pages.length));
    demand(
        s.used_clusters.length == clusters, level::fatal, "used_cluster_mask_len", 44,
        fmt::format("{}, but {} clusters need {}", s.used_clusters.length, s.clusters(), clusters));
    std::uint32_t end = s.used_clusters.start + clusters;
    if (s.used_blobids.length != 0 || s.used_blobids.start != 0) {
        end = s.used_clusters.start + std::max(clusters, pages);
        demand(s.used_blobids.start >= end, level::fatal, "used_blobid_mask_start", 72,
               fmt::format("{}, but the mask before it has room to {}", s.used_blobids.start, end));
        demand(s.used_blobids.length == pages, level::fatal, "used_blobid_mask_len", 76,
               fmt::format("{}, but {} pages need {}", s.used_blobids.length, s.metadata.length,
                           pages));
        end = s.used_blobids.start + s.used_blobids.length;
        demand(s.metadata.start == end, level::fatal, "md_start", 48,
               fmt::format("{}, but the mask before it ends at {}", s.metadata.start, end));
    }
    demand(s.metadata.start >= end, level::fatal, "md_start", 48,
           fmt::format("{}, but the mask before it ends at {}", s.metadata.start, end));
    demand(s.version != 3 || s.used_blobids.length != 0, level::error, "used_blobid_mask_len", 76,
           "0 in version 3: every load recovers the store");
    demand(s.version == 3 || s.used_blobids.length == 0, level::error, "used_blobid_mask_len", 76,
           fmt::format("{}, but version {} has no such mask", s.used_blobids.length, s.version));
    const std::uint32_t length = load_le<std::uint32_t>(page.data() + 12);
    const std::uint32_t clean = load_le<std::uint32_t>(page.data() + 16);
    demand(length == page_bytes, level::error, "length", 12, fmt::format("{}, not 4096", length));
    demand(clean <= 1, level::error, "clean", 16, fmt::format("{}, neither 0 nor 1", clean));
    demand(!s.type.contains('\0'), level::error, "bstype", 56, "goes on after a zero");
    demand(s.size % s.io_unit_size == 0, level::error, "size", 80,
           fmt::format("{}, not whole io units of {}", s.size, s.io_unit_size));
    demand(s.cluster_size % s.io_unit_size == 0, level::error, "io_unit_size", 88,
           fmt::format("{} does not divide cluster_size, {}", s.io_unit_size, s.cluster_size));
    const std::size_t stray = first_nonzero(s.reserved);
    demand(stray == s.reserved.size(), level::error, "reserved", 96 + stray, "is not zero");
}

// --- Pages --------------------------------------------------------------------------------------

void judge_page(std::uint32_t index, std::span<const std::byte> page, std::uint64_t offset,
                findings& to) {
    const auto wrong = [&](level l, std::string_view code, std::uint64_t at,
                           std::string_view text) {
        to.add(l, code, blob_id::none, fmt::format("metadata page {}: {}", index, text),
               offset + at);
    };
    if (load_le<std::uint32_t>(page.data() + 12) != 0)
        wrong(level::error, "page-reserved", 12, "reserved0 is not 0");
    const std::size_t end = each_descriptor(
        page, [&](std::uint8_t type, std::span<const std::byte> body, std::size_t at) {
            if (type != padding) return;
            wrong(level::warning, "padding", at, "PADDING with a length, which nobody writes");
            if (first_nonzero(body) != body.size())
                wrong(level::error, "stray-bytes", at + 5, "PADDING that is not zero");
        });
    if (end == SIZE_MAX) {
        wrong(level::error, "descriptor-length", descriptors_at, "a descriptor runs over the page");
        return;
    }
    const auto rest = page.subspan(end, descriptors_end - end);
    if (const std::size_t stray = first_nonzero(rest); stray != rest.size())
        wrong(
            level::error, "stray-bytes", end + stray,
            fmt::format("bytes from {} on, after the last descriptor, are not zero", end + stray));
}

std::string why_stray(std::span<const std::byte> page, const super_block& super) {
    const page_header h = header_of(page);
    if (!h.valid) return "is neither empty nor a page with a good crc";
    std::size_t count = 0;
    bool extent_page = false;
    each_descriptor(page, [&](std::uint8_t type, std::span<const std::byte>, std::size_t) {
        extent_page = ++count == 1 && type == extents;
    });
    if (!is_blob_id(h.id, super))
        return fmt::format("its id {} is none of a blob", to_string(h.id));
    if (h.sequence == 0 && !extent_page) return "is neither of a chain nor an extent page";
    if (h.next != no_page && (extent_page || h.next >= super.metadata.length))
        return fmt::format("its next is {}", h.next);
    return {};
}

// --- Chains -------------------------------------------------------------------------------------

void chain_judge::wrong(level l, std::string_view code, std::string_view text, std::uint64_t at) {
    to_.add(l, code, id_, fmt::format("{}: {}", name_, text), at);
}

void chain_judge::take(std::span<const std::byte> page, std::uint64_t offset) {
    each_descriptor(page, [&](std::uint8_t type, std::span<const std::byte> body, std::size_t in) {
        const std::uint64_t at = offset + in;
        if (type == padding) return;
        const bool first = descriptors_++ == 0;
        if (type == xattr || type == xattr_internal) take_xattr(body, type == xattr_internal, at);
        if (type == extent_rle || type == extent_table) take_runs(body, type == extent_table, at);
        if (type == flags && !first) {
            refused_ = true;
            wrong(level::error, "flags-order", "FLAGS is not the first descriptor", at);
        }
        if (type > extents)
            wrong(level::error, "descriptor-type",
                  fmt::format("a descriptor of the unknown type {}: a recovery of the store fails",
                              static_cast<unsigned>(type)),
                  at);
    });
}

void chain_judge::take_xattr(std::span<const std::byte> body, bool internal, std::uint64_t at) {
    if (body.size() < 4) return;  // its decoder says so, as of what follows
    const std::size_t name_length = load_le<std::uint16_t>(body.data());
    const std::size_t value_length = load_le<std::uint16_t>(body.data() + 2);
    if (body.size() != 4 + name_length + value_length) return;
    const std::string_view name = text_of(body.subspan(4, name_length));
    if (name.empty() || name.contains('\0'))
        wrong(level::error, "xattr-name", "the name of an XATTR is empty or holds a zero", at + 5);
    if (!names_[internal].emplace(name).second)
        wrong(level::error, "xattr-twice", fmt::format("XATTR \"{}\" stands twice", name), at);
    if (!internal) return;
    if (name == xattr_external) {
        if (value_length != 0) return;
        refused_ = true;
        wrong(level::error, "xattr-value", "EXTSNAP is empty", at + 7);
    } else if (name != xattr_parent && name != xattr_being_made && name != xattr_being_removed) {
        wrong(level::warning, "xattr-unknown",
              fmt::format("XATTR_INTERNAL \"{}\" is unknown", name), at);
    }
}

void chain_judge::take_runs(std::span<const std::byte> body, bool table, std::uint64_t at) {
    if (!table) runs_ = true;
    for (std::size_t i = table ? 8 : 0; i + 8 <= body.size(); i += 8) {
        if (load_le<std::uint32_t>(body.data() + i + 4) != 0) continue;
        if (table) refused_ = true;
        wrong(level::error, table ? "table-run" : "rle-run",
              table ? "EXTENT_TABLE has num_pages 0" : "EXTENT_RLE has an empty run", at + 5 + i);
    }
}

void chain_judge::judge_flags(const blob_metadata& meta, std::uint64_t offset) {
    const std::uint64_t at = offset + descriptors_at + 5;
    const std::uint64_t bits = meta.flags.invalid;
    if (const std::uint64_t unknown = bits & ~blob_flags::invalid_known; unknown != 0) {
        refused_ = true;
        wrong(level::error, "flags-invalid",
              fmt::format("invalid_flags has unknown bits {:#x}: it cannot be opened", unknown),
              at);
    }
    if (const std::uint64_t unknown = meta.flags.data_ro & ~blob_flags::data_ro_known; unknown != 0)
        wrong(level::warning, "flags-data-ro",
              fmt::format("data_ro_flags has unknown bits {:#x}: it is read-only", unknown),
              at + 8);
    if (const std::uint64_t unknown = meta.flags.md_ro & ~blob_flags::md_ro_known; unknown != 0)
        wrong(level::warning, "flags-md-ro",
              fmt::format("md_ro_flags has unknown bits {:#x}: its metadata is read-only", unknown),
              at + 16);
    const bool snapshot_of = meta.find(meta.internal, xattr_parent) != nullptr;
    const bool external = meta.find(meta.internal, xattr_external) != nullptr;
    const auto counted = std::ranges::count_if(
        meta.internal, [](const blob_xattr& x) { return x.name != xattr_being_made; });
    const auto flag = [&](std::uint64_t bit) { return (bits & bit) != 0; };
    if (counted != 0 && !flag(blob_flags::internal_xattr))
        wrong(level::error, "flag-internal", "has internal attributes, but bit 1 is not set", at);
    if (meta.internal.empty() && flag(blob_flags::internal_xattr))
        wrong(level::warning, "flag-internal", "has bit 1 without internal attributes", at);
    if (meta.extent_table && !flag(blob_flags::extent_table))
        wrong(level::error, "flag-table", "has an extent table, but bit 2 is not set", at);
    if (!meta.extent_table && flag(blob_flags::extent_table))
        wrong(runs_ ? level::error : level::warning, "flag-table",
              "has bit 2 without an extent table", at);
    if (external && !flag(blob_flags::external))
        wrong(level::error, "flag-external", "has EXTSNAP, but bit 3 is not set", at);
    if (external && snapshot_of) wrong(level::error, "two-parents", "has SNAP and EXTSNAP", at);
    if ((external || snapshot_of) && !meta.thin())
        wrong(level::error, "flag-thin", "is a clone that is not thin", at);
}

// --- Logical volumes ----------------------------------------------------------------------------

std::string why_no_name(const std::string* value) {
    if (value == nullptr) return "missing";
    if (value->size() > 64) return fmt::format("{} bytes, more than 64", value->size());
    const std::size_t end = value->find('\0');
    if (end == std::string::npos) return "does not end in a zero";
    if (end == 0) return "empty";
    return value->find_last_not_of('\0') > end ? "goes on after a zero" : "";
}

bool is_uuid_text(std::string_view v) noexcept {
    if (v.size() != 37 || v.back() != '\0') return false;
    for (std::size_t i = 0; i < 36; ++i) {
        const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        const bool digit = (v[i] >= '0' && v[i] <= '9') || (v[i] >= 'a' && v[i] <= 'f');
        if (dash ? v[i] != '-' : !digit) return false;
    }
    return true;
}

}  // namespace nacre::blob_check
