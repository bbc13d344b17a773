// SPDX-License-Identifier: BSD-3-Clause
//
// The records of a chunk store in its RocksDB. Numbers in values are little-endian, in keys
// big-endian, so that keys sort as their numbers do.
//
//     store   "S"                -> u32 version (1), u32 page bytes (4096), u64 segment bytes
//     totals  "T"                -> u64 objects, u64 bytes of all sizes, u64 pages, u64 last id
//     scrub   "C"                -> u64 passes, u64 time of the last one's end (ns since 1970),
//                                   name of the object that comes next (empty: from the start)
//     object  "O" name           -> u64 id, u64 size, u64 pages, i64 created, i64 changed (ns)
//     map     "M" u64 id u64 run -> u32 mask, then for each set bit, lowest first:
//                                   u64 place, u32 CRC-32C of the page
//     used    "U" u64 set        -> 64 bytes: bit n is set if place set * 512 + n is taken
//
// A map record has the pages run * 32 + n of the object; a page without a bit reads as zeros. A
// place is a page of the data files: place / pages-in-a-segment names the file, the rest the page
// in it. There is no record for a map without pages or a set without bits.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "nacre/core/error.hpp"

namespace nacre::chunks {

constexpr std::uint64_t page_bytes = 4096;
constexpr std::uint64_t run_pages = 32;   ///< of an object, in a map record
constexpr std::uint64_t set_pages = 512;  ///< places, in a record of what is used
constexpr std::uint32_t format_version = 1;
constexpr std::size_t name_bytes_max = 1024;
constexpr std::uint64_t size_max = std::uint64_t{1} << 56;

struct store_record {
    std::uint64_t segment_bytes = 0;
};
struct totals_record {
    std::uint64_t objects = 0;
    std::uint64_t bytes = 0;
    std::uint64_t pages = 0;
    std::uint64_t last_id = 0;
    bool operator==(const totals_record&) const = default;
};
struct scrub_record {
    std::uint64_t passes = 0;
    std::uint64_t ended_ns = 0;
    std::string next;
};
struct object_record {
    std::uint64_t id = 0;
    std::uint64_t size = 0;
    std::uint64_t pages = 0;
    std::int64_t created_ns = 0;
    std::int64_t changed_ns = 0;
};
struct page_record {
    std::uint64_t place = 0;
    std::uint32_t crc = 0;
    bool operator==(const page_record&) const = default;
};
/// Of one map record.
using page_run = std::array<std::optional<page_record>, run_pages>;
using used_set = std::bitset<set_pages>;

inline constexpr std::string_view store_key = "S";
inline constexpr std::string_view totals_key = "T";
inline constexpr std::string_view scrub_key = "C";
[[nodiscard]] std::string object_key(std::string_view name);
[[nodiscard]] std::string map_key(std::uint64_t id, std::uint64_t run);
[[nodiscard]] std::string used_key(std::uint64_t set);

struct map_position {
    std::uint64_t id = 0;
    std::uint64_t run = 0;
};
[[nodiscard]] std::optional<map_position> parse_map_key(std::string_view key);
[[nodiscard]] std::optional<std::uint64_t> parse_used_key(std::string_view key);

[[nodiscard]] std::string encode(const store_record& r);
[[nodiscard]] std::string encode(const totals_record& r);
[[nodiscard]] std::string encode(const scrub_record& r);
[[nodiscard]] std::string encode(const object_record& r);
[[nodiscard]] std::string encode(const page_run& r);
[[nodiscard]] std::string encode(const used_set& r);

// EILSEQ, with a sentence.
[[nodiscard]] outcome<store_record> decode_store(std::string_view value);
[[nodiscard]] outcome<totals_record> decode_totals(std::string_view value);
[[nodiscard]] outcome<scrub_record> decode_scrub(std::string_view value);
[[nodiscard]] outcome<object_record> decode_object(std::string_view value);
[[nodiscard]] outcome<page_run> decode_run(std::string_view value);
[[nodiscard]] outcome<used_set> decode_used(std::string_view value);

/// EINVAL: empty, too long, or with a NUL.
[[nodiscard]] outcome<> check_name(std::string_view name);

}  // namespace nacre::chunks
