// SPDX-License-Identifier: BSD-3-Clause
//
// The NBD protocol's numbers and frames. All integers are big-endian.
//
//     greeting   = "NBDMAGIC" "IHAVEOPT" u16 handshake flags          ; server
//     flags      = u32 client flags                                   ; client
//     option     = "IHAVEOPT" u32 option u32 length data              ; client, any number
//     answer     = u64 0x3e889045565a9 u32 option u32 type u32 length data
//     request    = u32 0x25609513 u16 flags u16 command u64 cookie u64 offset u32 length [payload]
//     simple     = u32 0x67446698 u32 error u64 cookie [payload]
//     structured = u32 0x668e33ef u16 flags u16 type u64 cookie u32 length payload
//
// Pure functions on bytes, so that the fuzzer reaches all of them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "nacre/core/error.hpp"

namespace nacre::nbd {

inline constexpr std::uint64_t greeting_magic = 0x4e42444d41474943;  // "NBDMAGIC"
inline constexpr std::uint64_t option_magic = 0x49484156454f5054;    // "IHAVEOPT"
inline constexpr std::uint64_t answer_magic = 0x0003e889045565a9;
inline constexpr std::uint32_t request_magic = 0x25609513;
inline constexpr std::uint32_t simple_magic = 0x67446698;
inline constexpr std::uint32_t structured_magic = 0x668e33ef;

inline constexpr std::size_t greeting_bytes = 18;
inline constexpr std::size_t option_header_bytes = 16;
inline constexpr std::size_t answer_header_bytes = 20;
inline constexpr std::size_t request_bytes = 28;
inline constexpr std::size_t simple_bytes = 16;
inline constexpr std::size_t structured_bytes = 20;
inline constexpr std::size_t extent_bytes = 8;

/// "String" of the protocol: names of exports, queries.
inline constexpr std::uint32_t string_bytes_max = 4096;
/// What we take of an option; the longest that means anything is a list of queries.
inline constexpr std::uint32_t option_bytes_max = 65536;
/// Advertised, and what a client that asked for nothing may send.
inline constexpr std::uint32_t payload_bytes_max = 32U << 20;
/// Extents in one answer to BLOCK_STATUS: with the header, just under 16 KiB.
inline constexpr std::size_t extents_max = 2047;
inline constexpr std::uint32_t allocation_context_id = 1;

namespace handshake_flag {
inline constexpr std::uint32_t fixed_newstyle = 1;
inline constexpr std::uint32_t no_zeroes = 2;
}  // namespace handshake_flag

namespace export_flag {
inline constexpr std::uint16_t has_flags = 1;
inline constexpr std::uint16_t read_only = 1 << 1;
inline constexpr std::uint16_t send_flush = 1 << 2;
inline constexpr std::uint16_t send_fua = 1 << 3;
inline constexpr std::uint16_t send_trim = 1 << 5;
inline constexpr std::uint16_t send_write_zeroes = 1 << 6;
inline constexpr std::uint16_t send_df = 1 << 7;
inline constexpr std::uint16_t can_multi_conn = 1 << 8;
inline constexpr std::uint16_t send_fast_zero = 1 << 11;
}  // namespace export_flag

enum class option : std::uint32_t {
    export_name = 1,
    abort = 2,
    list = 3,
    starttls = 5,
    info = 6,
    go = 7,
    structured_reply = 8,
    list_meta_context = 9,
    set_meta_context = 10,
};

enum class answer : std::uint32_t {
    ack = 1,
    server = 2,
    info = 3,
    meta_context = 4,
    unsupported = 0x80000001,
    policy = 0x80000002,
    invalid = 0x80000003,
    unknown = 0x80000006,
    shutdown = 0x80000007,
    too_big = 0x80000009,
};

enum class info_type : std::uint16_t { export_size = 0, name = 1, description = 2, block_size = 3 };

enum class command : std::uint16_t {
    read = 0,
    write = 1,
    disconnect = 2,
    flush = 3,
    trim = 4,
    cache = 5,
    write_zeroes = 6,
    block_status = 7,
};

namespace command_flag {
inline constexpr std::uint16_t fua = 1;
inline constexpr std::uint16_t no_hole = 2;
inline constexpr std::uint16_t df = 4;
inline constexpr std::uint16_t req_one = 8;
inline constexpr std::uint16_t fast_zero = 16;
}  // namespace command_flag

enum class chunk : std::uint16_t {
    none = 0,
    offset_data = 1,
    block_status = 5,
    error = 0x8001,
};
inline constexpr std::uint16_t chunk_flag_done = 1;

namespace extent_flag {
inline constexpr std::uint32_t hole = 1;
inline constexpr std::uint32_t zero = 2;
}  // namespace extent_flag

/// The protocol's errors; the values are fixed, whatever this system's errno are.
enum class wire_error : std::uint32_t {
    none = 0,
    perm = 1,
    io = 5,
    nomem = 12,
    inval = 22,
    nospc = 28,
    overflow = 75,
    notsup = 95,
    shutdown = 108,
};
[[nodiscard]] wire_error to_wire(error e) noexcept;

struct request_header {
    std::uint16_t flags;
    command what;
    std::uint64_t cookie;
    std::uint64_t offset;
    std::uint32_t length;

    [[nodiscard]] bool has(std::uint16_t flag) const noexcept { return (flags & flag) != 0; }
    [[nodiscard]] std::uint32_t payload() const noexcept {
        return what == command::write ? length : 0;
    }
};

/// EPROTO if the magic is wrong.
[[nodiscard]] result<request_header> read_request(
    std::span<const std::byte, request_bytes> from) noexcept;

/// What a session may do, as it was negotiated.
struct session_terms {
    std::uint16_t flags = 0;  ///< export_flag, as the client was told
    bool structured = false;
    bool block_status = false;
};

/// Why a request is not carried out: `none` if it is. `fatal` says why the connection has to end,
/// because what follows in the stream cannot be found any more; null otherwise.
struct request_verdict {
    wire_error code = wire_error::none;
    const char* fatal = nullptr;
};
/// `size_bytes`: of the export, now.
[[nodiscard]] request_verdict check_request(const request_header& request,
                                            const session_terms& terms,
                                            std::uint64_t size_bytes) noexcept;

// Frames of replies. Each returns the number of bytes written.
std::size_t put_simple(std::byte* to, wire_error code, std::uint64_t cookie) noexcept;
std::size_t put_chunk(std::byte* to, chunk type, std::uint64_t cookie,
                      std::uint32_t length) noexcept;
/// Chunk header and offset: what precedes the data of a read.
std::size_t put_data_chunk(std::byte* to, std::uint64_t cookie, std::uint64_t offset,
                           std::uint32_t data_length) noexcept;
std::size_t put_error_chunk(std::byte* to, std::uint64_t cookie, wire_error code) noexcept;
/// The longest of them.
inline constexpr std::size_t reply_header_bytes_max = 32;

/// Collects the extents of a BLOCK_STATUS reply, joining neighbours of one state.
class extent_list {
public:
    /// `memory` has room for extents_max extents.
    explicit extent_list(std::span<std::byte> memory, std::size_t count_max) noexcept
        : memory_(memory), count_max_(count_max) {}
    /// False when it is full: nothing was added.
    bool add(std::uint32_t length, std::uint32_t flags) noexcept;
    [[nodiscard]] std::size_t bytes() const noexcept { return count_ * extent_bytes; }
    [[nodiscard]] std::size_t count() const noexcept { return count_; }

private:
    std::span<std::byte> memory_;
    std::size_t count_max_;
    std::size_t count_ = 0;
};

}  // namespace nacre::nbd
