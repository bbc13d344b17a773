// SPDX-License-Identifier: BSD-3-Clause
//
// The disk format of blobstore, which is SPDK's: docs/formats/blobstore.md, whose sections the
// comments name. Encoding and decoding only. What comes from outside is trusted in nothing:
// failures are EILSEQ, and name the structure and the field.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "nacre/blob/blobstore.hpp"
#include "nacre/memory/aligned_bytes.hpp"

namespace nacre::blob_format {

/// Super block and metadata pages; the slots that hold them may be larger.
inline constexpr std::size_t page_bytes = 4096;
inline constexpr std::uint32_t no_page = UINT32_MAX;
inline constexpr std::uint64_t extent_page_clusters = 512;
inline constexpr std::size_t mask_header_bytes = 5;
inline constexpr std::size_t xattr_bytes_max = 4072 - 9;  ///< name and value

struct region {
    std::uint32_t start = 0;  ///< pages
    std::uint32_t length = 0;
    friend bool operator==(const region&, const region&) = default;
};

/// 1.1
struct super_block {
    std::uint32_t version = 3;
    bool clean = false;
    blob_id super_blob = blob_id::none;
    std::uint32_t cluster_size = 0;
    region used_pages;
    region used_clusters;
    region metadata;
    std::string type;  ///< without the zeros behind it
    region used_blobids;
    std::uint64_t size = 0;
    std::uint32_t io_unit_size = 0;
    std::uint32_t page_size = 0;
    /// What is reserved is kept as it was read.
    std::array<std::byte, 3996> reserved{};

    /// Of one blob. A thin one may be larger than the store, but its map is in memory: 4 bytes a
    /// cluster. 64 TiB of clusters of 1 MiB.
    [[nodiscard]] std::uint64_t blob_clusters_max() const noexcept {
        return std::max<std::uint64_t>(clusters(), 1U << 26);
    }
    /// ENOENT: nothing here. Checks everything that does not need the type or other pages; zeros
    /// of old versions become what they stand for.
    [[nodiscard]] static outcome<super_block> decode(std::span<const std::byte> page,
                                                     std::uint64_t device_bytes,
                                                     std::uint32_t block_size);
    void encode(std::span<std::byte> page) const;
    /// 1.2
    [[nodiscard]] static outcome<super_block> make(const blobstore_options& options,
                                                   std::uint64_t device_bytes,
                                                   std::uint32_t block_size,
                                                   std::uint32_t physical_block_size);

    [[nodiscard]] std::uint64_t clusters() const noexcept { return size / cluster_size; }
    /// At the beginning, which hold metadata.
    [[nodiscard]] std::uint64_t metadata_clusters() const noexcept {
        const std::uint64_t each = cluster_size / page_size;
        return (std::uint64_t{metadata.start} + metadata.length + each - 1) / each;
    }
    /// That the mask has room for.
    [[nodiscard]] std::uint64_t clusters_max() const noexcept {
        const std::uint64_t pages = used_blobids.length == 0
                                        ? used_clusters.length
                                        : used_blobids.start - used_clusters.start;
        return pages * page_size * 8 - mask_header_bytes * 8;
    }
    /// Byte of the device.
    [[nodiscard]] std::uint64_t at_page(std::uint64_t page) const noexcept {
        return page * page_size;
    }
    [[nodiscard]] std::uint64_t at_metadata(std::uint32_t index) const noexcept {
        return at_page(std::uint64_t{metadata.start} + index);
    }
};

[[nodiscard]] constexpr blob_id id_of(std::uint32_t root) noexcept {
    return static_cast<blob_id>(std::uint64_t{1} << 32 | root);
}
[[nodiscard]] constexpr std::uint32_t root_of(blob_id id) noexcept {
    return static_cast<std::uint32_t>(static_cast<std::uint64_t>(id));
}

/// 5.3
struct blob_flags {
    static constexpr std::uint64_t thin = 1, internal_xattr = 2, extent_table = 4, external = 8;
    static constexpr std::uint64_t read_only = 1;
    static constexpr std::uint64_t clear_mask = 3;
    static constexpr std::uint64_t invalid_known = 15, data_ro_known = 1, md_ro_known = 3;
    std::uint64_t invalid = 0;
    std::uint64_t data_ro = 0;
    std::uint64_t md_ro = 0;
    friend bool operator==(const blob_flags&, const blob_flags&) = default;
};

/// 5.2
inline constexpr const char* xattr_parent = "SNAP";
inline constexpr const char* xattr_being_made = "SNAPTMP";
inline constexpr const char* xattr_being_removed = "SNAPRM";
inline constexpr const char* xattr_external = "EXTSNAP";

/// A blob as its chain of pages describes it.
struct blob_metadata {
    blob_flags flags;
    std::vector<blob_xattr> xattrs;
    std::vector<blob_xattr> internal;
    bool extent_table = false;
    std::uint64_t clusters = 0;
    std::vector<std::uint32_t> extent_pages;  ///< with an extent table: 0 is absent
    std::vector<std::uint32_t> rle_map;       ///< without: a device cluster for each of the blob
    std::vector<std::uint32_t> chain;         ///< pages behind the root

    [[nodiscard]] bool thin() const noexcept { return (flags.invalid & blob_flags::thin) != 0; }
    [[nodiscard]] bool read_only() const noexcept {
        return (flags.data_ro & blob_flags::read_only) != 0;
    }
    [[nodiscard]] const std::string* find(const std::vector<blob_xattr>& in,
                                          std::string_view name) const noexcept;
    [[nodiscard]] blob_id reference(std::string_view internal_name) const noexcept;
    [[nodiscard]] blob_id parent() const noexcept { return reference(xattr_parent); }
    void set(std::vector<blob_xattr>& in, std::string_view name, std::string value);
    bool remove(std::vector<blob_xattr>& in, std::string_view name);
    void set_reference(std::string_view internal_name, blob_id to);
    /// Bit 1 follows from the list.
    void settle_flags() noexcept;
};

/// 4
struct page_header {
    blob_id id = blob_id::none;
    std::uint32_t sequence = 0;
    std::uint32_t next = no_page;
    bool valid = false;  ///< its CRC is right
};
[[nodiscard]] page_header header_of(std::span<const std::byte> page) noexcept;
/// Without its CRC: whether this can be the root of a blob at all.
[[nodiscard]] bool may_be_root(std::span<const std::byte> page, std::uint32_t index) noexcept;

/// Takes the pages of a chain, root first.
class chain_reader {
public:
    explicit chain_reader(std::uint32_t root, const super_block& super) noexcept
        : root_(root), super_(super) {}
    /// The index of the page to give next, or none: then the blob is complete.
    [[nodiscard]] outcome<std::optional<std::uint32_t>> take(std::uint32_t index,
                                                             std::span<const std::byte> page);
    /// What has been read; valid after a failure, too.
    [[nodiscard]] blob_metadata& blob() noexcept { return blob_; }
    /// A descriptor of a type that is not known here was skipped.
    [[nodiscard]] bool has_unknown() const noexcept { return unknown_; }

private:
    [[nodiscard]] outcome<> take_descriptor(std::uint8_t type, std::span<const std::byte> body,
                                            const std::string& where);
    [[nodiscard]] outcome<> take_xattr(std::span<const std::byte> body,
                                       std::vector<blob_xattr>& into, const std::string& where);
    [[nodiscard]] outcome<> take_flags(std::span<const std::byte> body, const std::string& where);
    [[nodiscard]] outcome<> take_rle(std::span<const std::byte> body, const std::string& where);
    [[nodiscard]] outcome<> take_table(std::span<const std::byte> body, const std::string& where);
    [[nodiscard]] outcome<> finish();

    std::uint32_t root_;
    const super_block& super_;
    blob_metadata blob_;
    std::uint32_t pages_ = 0;
    bool rle_ = false;
    bool unknown_ = false;
};

/// 5.6. Entries as on disk: `first` and up to 512 clusters.
struct extent_page {
    std::uint32_t first = 0;
    std::vector<std::uint32_t> clusters;
    [[nodiscard]] static outcome<extent_page> decode(std::uint32_t index,
                                                     std::span<const std::byte> page,
                                                     const super_block& super);
};
/// The whole page.
void encode_extent_page(std::span<std::byte> page, blob_id owner, std::uint32_t first,
                        std::span<const std::uint32_t> clusters);

/// The descriptors of a chain, page by page, as they will be written.
[[nodiscard]] std::vector<std::vector<std::byte>> encode_descriptors(const blob_metadata& blob);
void encode_chain_page(std::span<std::byte> page, blob_id id, std::uint32_t sequence,
                       std::uint32_t next, std::span<const std::byte> descriptors);

/// 3. `bits` of a mask region; false if header or length do not suit.
enum class mask_type : std::uint8_t { pages = 0, clusters = 1, blobids = 2 };
[[nodiscard]] bool mask_suits(std::span<const std::byte> region, mask_type type,
                              std::uint64_t bits) noexcept;
void encode_mask_header(std::span<std::byte> region, mask_type type, std::uint32_t bits) noexcept;
[[nodiscard]] std::uint32_t mask_pages(std::uint64_t bits, std::uint32_t page_size) noexcept;

}  // namespace nacre::blob_format
