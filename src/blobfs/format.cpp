// SPDX-License-Identifier: BSD-3-Clause
#include "format.hpp"

#include <fmt/format.h>

#include "nacre/core/bytes.hpp"

namespace nacre::fs_format {

namespace {

constexpr std::uint32_t version_plain = 1;
constexpr std::uint32_t version_log = 2;

const std::byte* bytes_of(const std::string& value) {
    return reinterpret_cast<const std::byte*>(value.data());
}

void put32(std::string& to, std::uint32_t value) {
    std::byte raw[4];
    store_le<std::uint32_t>(raw, value);
    to.append(reinterpret_cast<const char*>(raw), sizeof raw);
}
void put64(std::string& to, std::uint64_t value) {
    std::byte raw[8];
    store_le<std::uint64_t>(raw, value);
    to.append(reinterpret_cast<const char*>(raw), sizeof raw);
}

outcome<std::uint64_t> number_of(const blob_xattr& x) {
    if (x.value.size() != 8)
        return fail(EILSEQ,
                    fmt::format("attribute \"{}\" has {} bytes, not 8", x.name, x.value.size()));
    return load_le<std::uint64_t>(bytes_of(x.value));
}

/// A name and one zero byte after it.
outcome<std::string> text_of(const std::string& key, std::string_view value, bool compatible) {
    const std::size_t end = value.find('\0');
    if (end == std::string_view::npos || end + 1 != value.size())
        return fail(EILSEQ,
                    fmt::format("attribute \"{}\" does not end with its only zero byte", key));
    std::string name(value.substr(0, end));
    if (check_name(name, compatible) != 0)
        return fail(EILSEQ, fmt::format("attribute \"{}\" is no possible name", key));
    return name;
}

outcome<> take_attributes(const blob_xattr& x, node_attributes& to, std::uint32_t& version) {
    if (x.value.size() != node_bytes)
        return fail(EILSEQ, fmt::format("attribute \"node\" has {} bytes, not {}", x.value.size(),
                                        node_bytes));
    const std::byte* const p = bytes_of(x.value);
    version = load_le<std::uint32_t>(p);
    if (version != version_plain && version != version_log)
        return fail(EILSEQ, fmt::format("attribute \"node\" is of version {}, not {} or {}",
                                        version, version_plain, version_log));
    to.mode = load_le<std::uint32_t>(p + 4);
    to.uid = load_le<std::uint32_t>(p + 8);
    to.gid = load_le<std::uint32_t>(p + 12);
    to.device = load_le<std::uint32_t>(p + 16);
    to.atime_ns = static_cast<std::int64_t>(load_le<std::uint64_t>(p + 24));
    to.mtime_ns = static_cast<std::int64_t>(load_le<std::uint64_t>(p + 32));
    to.ctime_ns = static_cast<std::int64_t>(load_le<std::uint64_t>(p + 40));
    switch (to.mode & S_IFMT) {
        case S_IFREG:
        case S_IFDIR:
        case S_IFLNK:
        case S_IFIFO:
        case S_IFSOCK:
        case S_IFCHR:
        case S_IFBLK:
            return {};
        default:
            return fail(EILSEQ, fmt::format("attribute \"node\" has mode {:#o}", to.mode));
    }
}

outcome<> take_link(const blob_xattr& x, node_record& to) {
    if (x.value.size() < 9)
        return fail(EILSEQ, fmt::format("attribute \"{}\" is too short", x.name));
    outcome<std::string> name = text_of(x.name, std::string_view(x.value).substr(8), false);
    if (!name) return fail(std::move(name.error()));
    to.names.push_back({static_cast<node_id>(load_le<std::uint64_t>(bytes_of(x.value))),
                        std::move(*name), x.name});
    return {};
}

}  // namespace

int check_name(std::string_view name, bool compatible) noexcept {
    if (name.empty()) return ENOENT;
    if (name.size() > name_bytes_max) return ENAMETOOLONG;
    if (name.find('\0') != std::string_view::npos) return EINVAL;
    if (compatible) return 0;  // a slash means nothing there
    if (name.find('/') != std::string_view::npos) return EINVAL;
    return name == "." || name == ".." ? EEXIST : 0;
}

std::string encode_number(std::uint64_t value) {
    std::string raw;
    put64(raw, value);
    return raw;
}

std::string encode_attributes(const node_attributes& a, bool is_log) {
    std::string raw;
    for (const std::uint32_t v :
         {is_log ? version_log : version_plain, a.mode, a.uid, a.gid, a.device, 0U})
        put32(raw, v);
    for (const std::int64_t v : {a.atime_ns, a.mtime_ns, a.ctime_ns, std::int64_t{0}})
        put64(raw, static_cast<std::uint64_t>(v));
    return raw;
}

std::string encode_name(const node_name& n) {
    std::string raw;
    if (n.key != key_name) put64(raw, static_cast<std::uint64_t>(n.parent));
    raw += n.name;
    raw += '\0';
    return raw;
}

std::vector<blob_xattr> encode(const node_record& record, bool compatible) {
    std::vector<blob_xattr> all;
    for (const node_name& n : record.names) {
        all.push_back({n.key, encode_name(n)});
        if (!compatible && n.key == key_name)
            all.push_back(
                {std::string(key_parent), encode_number(static_cast<std::uint64_t>(n.parent))});
    }
    all.push_back({std::string(key_length), encode_number(record.length)});
    if (compatible) return all;
    all.push_back(
        {std::string(key_node), encode_attributes(record.attributes, record.log.has_value())});
    if (record.log) all.push_back({std::string(key_log), encode_number(*record.log)});
    const std::string_view target = record.target;
    if (!target.empty())
        all.push_back({std::string(key_target), std::string(target.substr(0, target_piece_bytes))});
    if (target.size() > target_piece_bytes)
        all.push_back(
            {std::string(key_target_rest), std::string(target.substr(target_piece_bytes))});
    return all;
}

outcome<node_record> decode(const std::vector<blob_xattr>& xattrs, bool compatible, bool is_root) {
    node_record record;
    record.attributes.mode = 0;
    std::optional<std::string> name;
    node_id parent = node_id::none;
    bool has_length = false;
    std::uint32_t version = version_plain;
    std::string rest;
    for (const blob_xattr& x : xattrs) {
        outcome<std::uint64_t> number = 0;
        outcome<> taken;
        if (x.name == key_name) {
            outcome<std::string> text = text_of(x.name, x.value, compatible);
            if (!text) return fail(std::move(text.error()));
            name = std::move(*text);
        } else if (x.name == key_length) {
            number = number_of(x);
            if (number) record.length = *number;
            has_length = true;
        } else if (x.name == key_deleted) {
            record.deleted = true;
        } else if (compatible) {
            continue;
        } else if (x.name == key_parent) {
            number = number_of(x);
            if (number) parent = static_cast<node_id>(*number);
        } else if (x.name == key_replaces) {
            number = number_of(x);
            if (number) record.replaces = static_cast<node_id>(*number);
        } else if (x.name == key_node) {
            taken = take_attributes(x, record.attributes, version);
        } else if (x.name == key_log) {
            number = number_of(x);
            if (number) record.log = *number;
        } else if (x.name == key_target) {
            record.target = x.value;
        } else if (x.name == key_target_rest) {
            rest = x.value;
        } else if (x.name.starts_with(link_prefix)) {
            taken = take_link(x, record);
        }
        if (!number) return fail(std::move(number.error()));
        if (!taken) return fail(std::move(taken.error()));
    }
    record.target += rest;
    if (compatible) record.attributes.mode = S_IFREG | 0644;
    if (name) record.names.insert(record.names.begin(), {parent, *name, std::string(key_name)});
    if (!has_length) return fail(EILSEQ, "it has no attribute \"length\"");
    if (record.length > INT64_MAX)
        return fail(EILSEQ, fmt::format("its length of {} is impossible", record.length));
    if (record.attributes.mode == 0) return fail(EILSEQ, "it has no attribute \"node\"");
    if (record.names.empty() && !is_root && !record.deleted)
        return fail(EILSEQ, "it has no attribute \"name\"");
    const bool is_log = record.log.has_value();
    if (is_log != (version == version_log) || (is_log && !S_ISREG(record.attributes.mode)))
        return fail(EILSEQ, "its attributes \"node\" and \"log\" contradict each other");
    if (is_root && !S_ISDIR(record.attributes.mode)) return fail(EILSEQ, "it is no directory");
    return record;
}

}  // namespace nacre::fs_format
