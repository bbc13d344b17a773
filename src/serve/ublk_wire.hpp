// SPDX-License-Identifier: BSD-3-Clause
//
// The interface of Linux's ublk driver (drivers/block/ublk_drv.c of 6.5 and later), which Debian
// 12's headers know only in part, and what becomes of a request that comes through it.
//
// A server adds a device by commands on /dev/ublk-control (io_uring URING_CMD with 128-byte
// entries): ADD_DEV makes /dev/ublkcN, SET_PARAMS says what the disk is like, START_DEV, once each
// tag of each queue has a FETCH_REQ under way, makes the disk /dev/ublkbN. A FETCH_REQ completes
// when the kernel has a request for its tag; the request stands in the array of io_descriptors that
// /dev/ublkcN maps, and COMMIT_AND_FETCH_REQ answers it and waits for the next one. Data is copied
// by the kernel from and to the address that the command names, or, with USER_COPY, by the server's
// own reads and writes of /dev/ublkcN at data_position().
//
// Everything is of the machine's byte order. Sectors are 512 bytes, whatever the block size.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "nacre/bdev/bdev.hpp"

namespace nacre::ublk {

inline constexpr std::uint64_t sector_bytes = 512;

// --- Control ------------------------------------------------------------------------------------

/// Argument of a command on /dev/ublk-control.
struct control_command {
    std::uint32_t device_id;
    std::uint16_t queue_id;  ///< UINT16_MAX: of the device
    std::uint16_t length;    ///< of what `address` points at
    std::uint64_t address;
    std::uint64_t data;
    std::uint16_t path_length;  ///< of an unprivileged device: `address` begins with its path
    std::uint16_t padding;
    std::uint32_t reserved;
};
static_assert(sizeof(control_command) == 32);

/// The ioctl encoding: direction (2: read, 3: read and write), size of the argument, 'u', number.
[[nodiscard]] constexpr std::uint32_t encode(std::uint32_t direction, std::uint32_t bytes,
                                             std::uint32_t number) noexcept {
    return direction << 30 | bytes << 16 | std::uint32_t{'u'} << 8 | number;
}

enum class control_code : std::uint32_t {
    get_info = encode(2, 32, 0x02),
    add = encode(3, 32, 0x04),
    remove = encode(3, 32, 0x05),  ///< ends when nobody has the disk open any more
    start = encode(3, 32, 0x06),
    stop = encode(3, 32, 0x07),
    set_params = encode(3, 32, 0x08),
    get_params = encode(2, 32, 0x09),
    start_recovery = encode(3, 32, 0x10),
    end_recovery = encode(3, 32, 0x11),
    get_features = encode(2, 32, 0x13),  ///< since Linux 6.5
    remove_later = encode(2, 32, 0x14),  ///< as remove, without the wait; since 6.7
};
[[nodiscard]] const char* name_of(control_code c) noexcept;

namespace feature {
inline constexpr std::uint64_t user_recovery = 1U << 3;
inline constexpr std::uint64_t user_recovery_reissue = 1U << 4;
inline constexpr std::uint64_t unprivileged = 1U << 5;
inline constexpr std::uint64_t ioctl_encoding = 1U << 6;
inline constexpr std::uint64_t user_copy = 1U << 7;
inline constexpr std::uint64_t zoned = 1U << 8;
}  // namespace feature

enum class device_state : std::uint16_t { dead = 0, live = 1, quiesced = 2 };

struct device_info {
    std::uint16_t queues;
    std::uint16_t queue_depth;
    device_state state;
    std::uint16_t padding0;
    std::uint32_t io_bytes_max;
    std::uint32_t device_id;
    std::int32_t server_pid;
    std::uint32_t padding1;
    std::uint64_t features;
    std::uint64_t server_flags;  ///< the server's own; nacre leaves it 0
    std::uint32_t owner_uid;
    std::uint32_t owner_gid;
    std::uint64_t reserved1;
    std::uint64_t reserved2;
};
static_assert(sizeof(device_info) == 64);

namespace attribute {
inline constexpr std::uint32_t read_only = 1U << 0;
inline constexpr std::uint32_t volatile_cache = 1U << 2;
inline constexpr std::uint32_t fua = 1U << 3;
}  // namespace attribute

namespace parameters_of {
inline constexpr std::uint32_t basic = 1U << 0;
inline constexpr std::uint32_t discard = 1U << 1;
inline constexpr std::uint32_t zoned = 1U << 3;
}  // namespace parameters_of

/// What the disk is like. Shifts are of bytes.
struct device_params {
    std::uint32_t length;
    std::uint32_t kinds;  ///< bits of parameters_of
    // basic
    std::uint32_t attributes;
    std::uint8_t logical_block_shift;
    std::uint8_t physical_block_shift;
    std::uint8_t io_optimal_shift;
    std::uint8_t io_minimum_shift;
    std::uint32_t sectors_max;    ///< of a request
    std::uint32_t chunk_sectors;  ///< of a zone
    std::uint64_t device_sectors;
    std::uint64_t virtual_boundary_mask;
    // discard
    std::uint32_t discard_alignment;
    std::uint32_t discard_granularity;
    std::uint32_t discard_sectors_max;
    std::uint32_t write_zeroes_sectors_max;
    std::uint16_t discard_segments_max;
    std::uint16_t discard_reserved;
    // device numbers, which the kernel fills in
    std::array<std::uint32_t, 4> numbers;
    // zoned
    std::uint32_t open_zones_max;
    std::uint32_t active_zones_max;
    std::uint32_t append_sectors_max;
    std::array<std::uint8_t, 20> zoned_reserved;
    std::uint32_t padding;
};
static_assert(sizeof(device_params) == 112);
static_assert(offsetof(device_params, discard_alignment) == 40);
static_assert(offsetof(device_params, numbers) == 60);
static_assert(offsetof(device_params, open_zones_max) == 76);

// --- Input and output ---------------------------------------------------------------------------

/// Commands on /dev/ublkcN.
inline constexpr std::uint32_t fetch = encode(3, 16, 0x20);
inline constexpr std::uint32_t commit_and_fetch = encode(3, 16, 0x21);

struct io_command {
    std::uint16_t queue_id;
    std::uint16_t tag;
    std::int32_t result;  ///< of a commit: bytes, or a negative errno
    /// Where data goes without USER_COPY; of an answer to a zone append: the sector it went to.
    std::uint64_t address;
};
static_assert(sizeof(io_command) == 16);

/// As the kernel writes it. Copied before it is looked at.
struct io_descriptor {
    std::uint32_t operation_and_flags;
    std::uint32_t sectors;  ///< of a zone report: zones
    std::uint64_t first_sector;
    std::uint64_t address;
};
static_assert(sizeof(io_descriptor) == 24);

inline constexpr std::uint32_t queue_depth_max = 4096;

/// Where /dev/ublkcN shows the descriptors of a queue, and how many bytes of them.
[[nodiscard]] constexpr std::uint64_t descriptors_position(std::uint32_t queue) noexcept {
    return std::uint64_t{queue} * queue_depth_max * sizeof(io_descriptor);
}
/// Where its reads and writes find the data of a request.
[[nodiscard]] constexpr std::uint64_t data_position(std::uint16_t queue,
                                                    std::uint16_t tag) noexcept {
    return 0x8000'0000 + (std::uint64_t{queue} << 41) + (std::uint64_t{tag} << 25);
}

/// Values of the kernel's; also `command` of a request.
enum class operation : std::uint8_t {
    read = 0,
    write = 1,
    flush = 2,
    discard = 3,
    write_zeroes = 5,
    zone_open = 10,
    zone_close = 11,
    zone_finish = 12,
    zone_append = 13,
    zone_reset_all = 14,
    zone_reset = 15,
    zone_report = 18,
};
inline constexpr std::uint32_t flag_fua = 1U << 13;

/// A zone as a report shows it: struct blk_zone of linux/blkzoned.h.
struct zone_report_entry {
    std::uint64_t start;
    std::uint64_t length;
    std::uint64_t write_pointer;
    std::uint8_t type;       ///< 2: must be written in order
    std::uint8_t condition;  ///< as NVMe's zone state
    std::array<std::uint8_t, 6> reserved0;
    std::uint64_t capacity;
    std::array<std::uint8_t, 24> reserved1;
};
static_assert(sizeof(zone_report_entry) == 64);

// --- Between the two sides ----------------------------------------------------------------------

/// What the requests of a disk must keep to.
struct geometry {
    std::uint64_t block_bytes = 512;
    std::uint64_t blocks = 0;
    std::uint64_t zone_blocks = 0;  ///< 0: not zoned
    std::uint64_t io_bytes_max = 0;
    bool writable = true;

    [[nodiscard]] std::uint64_t sectors_a_block() const noexcept {
        return block_bytes / sector_bytes;
    }
};

/// A request that has been checked: in blocks, within the disk.
struct request {
    operation what = operation::flush;
    bool fua = false;
    std::uint64_t first = 0;   ///< block
    std::uint64_t blocks = 0;  ///< of a zone report: zones
    std::uint64_t bytes = 0;   ///< of data that is copied; 0: none
};

/// EINVAL for what no disk of this geometry can be asked, EROFS, EOPNOTSUPP for what it was never
/// said to do.
[[nodiscard]] result<request> check(const io_descriptor& from, const geometry& of) noexcept;

/// What `commit` says of an error: the errnos that the kernel's block layer has a status for.
[[nodiscard]] std::int32_t to_result(error e) noexcept;

/// The disk that stands for a bdev. EINVAL, ENOTSUP: a sentence why there is none.
[[nodiscard]] outcome<device_params> describe_disk(const bdev& device, std::uint32_t io_bytes_max);

void fill_report(zone_report_entry& to, const zone_descriptor& from, const geometry& of) noexcept;

}  // namespace nacre::ublk
