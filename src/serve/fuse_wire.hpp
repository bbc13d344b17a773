// SPDX-License-Identifier: BSD-3-Clause
//
// The FUSE protocol as <linux/fuse.h> has it, 7.31 and later: what the kernel asks, checked, and
// what it is answered.
//
// A request is a header, the fixed structure of its operation, and then names, each ended by a NUL,
// or data. From /dev/fuse the three come in one piece; over io_uring the structure lies apart. An
// answer is a header and a payload. Cost of a parsed READ or WRITE: no allocation, no copy.
#pragma once

#include <linux/fuse.h>

#include <cstring>
#include <span>
#include <string_view>

#include "nacre/blobfs/blobfs.hpp"

namespace nacre::fuse {

/// Of a read or write; the largest that the kernel makes (256 pages).
constexpr std::uint32_t io_bytes_max = 1U << 20;
constexpr std::size_t name_bytes_max = 255;
constexpr std::size_t path_bytes_max = 4095;
/// The root's; all other nodes have their node_id as number.
constexpr std::uint64_t root_number = FUSE_ROOT_ID;

// --- FUSE over io_uring (7.42), which older headers lack ----------------------------------------

constexpr std::uint64_t flag_over_io_uring = std::uint64_t{1} << 41;

struct ring_entry_info {
    std::uint64_t flags = 0;
    std::uint64_t commit_id = 0;  ///< to be given back with the answer
    std::uint32_t payload_bytes = 0;
    std::uint32_t padding = 0;
    std::uint64_t reserved = 0;
};
/// Shared memory of an entry of a ring; its payload lies apart.
struct ring_header {
    std::byte in_out[128];  ///< fuse_in_header, then fuse_out_header
    std::byte operation[128];
    ring_entry_info info;
};
static_assert(sizeof(ring_header) == 288);

enum class ring_command : std::uint32_t { register_entry = 1, commit_and_fetch = 2 };
struct ring_argument {
    std::uint64_t flags = 0;
    std::uint64_t commit_id = 0;
    std::uint16_t queue = 0;
    std::uint8_t padding[6] = {};
};
static_assert(sizeof(ring_argument) == 24);

// --- Requests -----------------------------------------------------------------------------------

struct request {
    fuse_in_header header{};
    std::span<const std::byte> fixed;  ///< the operation's structure, whole
    std::string_view name;
    std::string_view second;  ///< a rename's new name, a symbolic link's target
    std::span<const std::byte> data;

    /// `const auto in = r.argument<fuse_read_in>();`
    template <typename T>
    [[nodiscard]] T argument() const noexcept {
        T value{};
        std::memcpy(&value, fixed.data(),
                    fixed.size() < sizeof value ? fixed.size() : sizeof value);
        return value;
    }
};

/// From /dev/fuse. EIO: it is not what its header says; EINVAL: it makes no sense; ENOSYS: an
/// operation that is not known; ENAMETOOLONG. In `header` is what could be read of it.
[[nodiscard]] result<request> parse(std::span<const std::byte> message,
                                    fuse_in_header& header) noexcept;
/// From a ring: header and structure as they lie there.
[[nodiscard]] result<request> parse(const ring_header& from,
                                    std::span<const std::byte> payload) noexcept;
/// The kernel waits for an answer.
[[nodiscard]] bool is_answered(std::uint32_t operation) noexcept;
/// "READ"
[[nodiscard]] std::string_view name_of(std::uint32_t operation) noexcept;

// --- Answers ------------------------------------------------------------------------------------

struct wishes {
    bool writeback = true;
    bool uring = true;
};
struct agreement {
    fuse_init_out out{};
    bool uring = false;          ///< both sides want it
    bool uring_offered = false;  ///< the kernel does
};
/// EPROTO: a kernel too old.
[[nodiscard]] result<agreement> negotiate(const fuse_init_in& in, const wishes& w) noexcept;

/// How long the kernel may believe what it is told.
struct validity {
    std::uint64_t seconds = 0;
};
void fill(fuse_attr& to, const node_status& from, std::uint64_t number) noexcept;
[[nodiscard]] fuse_entry_out entry_of(const node_status& from, std::uint64_t number,
                                      validity v) noexcept;
[[nodiscard]] fuse_attr_out attributes_of(const node_status& from, std::uint64_t number,
                                          validity v) noexcept;

/// Fills the answer to READDIR or READDIRPLUS.
class directory_writer {
public:
    explicit directory_writer(std::span<std::byte> out) noexcept : out_(out) {}
    struct entry {
        std::string_view name;
        std::uint64_t number = 0;
        std::uint32_t mode = 0;
        std::uint64_t next = 0;  ///< position after it
    };
    /// False if there is no room; nothing is added then.
    [[nodiscard]] bool add(const entry& e) noexcept;
    /// With what LOOKUP would answer; all zeros: the kernel asks if it wants to know.
    [[nodiscard]] bool add(const entry& e, const fuse_entry_out& looked_up) noexcept;
    [[nodiscard]] std::uint32_t bytes() const noexcept { return static_cast<std::uint32_t>(used_); }

private:
    void put(const void* from, std::size_t bytes) noexcept;
    void put(const entry& e) noexcept;
    std::span<std::byte> out_;
    std::size_t used_ = 0;
};

}  // namespace nacre::fuse
