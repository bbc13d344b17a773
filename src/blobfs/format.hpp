// SPDX-License-Identifier: BSD-3-Clause
//
// What blobfs keeps on disk: the type of the blobstore, and a few attributes of each blob.
//
// As SPDK's BlobFS has it (docs/formats/blobfs.md), type "BLOBFS":
//     name         the file's name and a zero byte
//     length       8 bytes, little-endian
//     is_deleted   1 byte; its presence says that the file was removed while it was open
//
// nacre's own, type "NACREFS", which SPDK's BlobFS refuses to load. All that, and:
//     parent       8 bytes: the directory that `name` is in; absent from the root, the super blob
//     node         56 bytes: version 1, mode, uid, gid, device, zero (4 bytes each), a, m and ctime
//                  (8 bytes each, ns since 1970), 8 bytes of zeros
//     link.<n>     8 bytes of a directory and a name in it with a zero byte: further names
//     replaces     8 bytes: whoever has the same directory and name and this id has lost that name.
//                  It tells the old one when a crash came between the two steps of a rename.
//     target, target.2   what a symbolic link says, in pieces
//     x.<name>     an extended attribute
//     log          8 bytes, a nonce: its bytes are in blocks as log_layout.hpp says, and `length`
//     is
//                  what it had at least. `node` is of version 2 then, which older readers refuse
// A directory or link has no clusters.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nacre/blobfs/blobfs.hpp"

namespace nacre::fs_format {

inline constexpr std::string_view type_spdk = "BLOBFS";
inline constexpr std::string_view type_nacre = "NACREFS";
inline constexpr std::size_t name_bytes_max = 255;
inline constexpr std::size_t target_bytes_max = 4095;
inline constexpr std::size_t target_piece_bytes = 3500;
inline constexpr std::size_t node_bytes = 56;

inline constexpr std::string_view key_name = "name";
inline constexpr std::string_view key_length = "length";
inline constexpr std::string_view key_deleted = "is_deleted";
inline constexpr std::string_view key_parent = "parent";
inline constexpr std::string_view key_node = "node";
inline constexpr std::string_view key_replaces = "replaces";
inline constexpr std::string_view key_target = "target";
inline constexpr std::string_view key_target_rest = "target.2";
inline constexpr std::string_view link_prefix = "link.";
inline constexpr std::string_view xattr_prefix = "x.";
inline constexpr std::string_view key_log = "log";

/// One name of a node, and the attribute it is kept in.
struct node_name {
    node_id parent = node_id::none;
    std::string name;
    std::string key;
    bool operator==(const node_name&) const = default;
};

struct node_record {
    std::vector<node_name> names;
    std::uint64_t length = 0;
    bool deleted = false;
    node_attributes attributes{};
    node_id replaces = node_id::none;
    std::string target;
    std::optional<std::uint64_t> log{};  ///< its nonce, if it is kept as a log
};

[[nodiscard]] std::string encode_number(std::uint64_t value);
[[nodiscard]] std::string encode_attributes(const node_attributes& attributes, bool is_log);
/// The value of `key` for this name.
[[nodiscard]] std::string encode_name(const node_name& name);
/// What all attributes of a new node are. `compatible`: SPDK's only.
[[nodiscard]] std::vector<blob_xattr> encode(const node_record& record, bool compatible);
/// EILSEQ, with a sentence that names the attribute.
[[nodiscard]] outcome<node_record> decode(const std::vector<blob_xattr>& xattrs, bool compatible,
                                          bool is_root);
/// 0, or ENAMETOOLONG, EINVAL, EEXIST (for "." and ".."), ENOENT (empty).
[[nodiscard]] int check_name(std::string_view name, bool compatible) noexcept;

}  // namespace nacre::fs_format
