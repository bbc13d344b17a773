// SPDX-License-Identifier: BSD-3-Clause
//
// file: a file or a block device of the machine, through the reactor's io_driver.
//
// Past the page cache (O_DIRECT) where the file system can, else through it, and then a flush has
// more to write. A flush is an fdatasync, a forced write carries RWF_DSYNC, unmap punches a hole,
// write_zeroes zeroes the range or, where the file system cannot, punches a hole or writes zeros.
// Unmap where holes cannot be punched succeeds and changes nothing, as its contract allows.
//
// A writer holds an exclusive lock on the file (flock) and a reader a shared one, so two processes,
// or two bdevs of one, never have it while one writes.
//
// SPDK's bdev_aio_create and bdev_uring_create both make it; it remembers which one, for the
// configuration.
#pragma once

#include "nacre/bdev/registry.hpp"
#include "nacre/core/json_decode.hpp"

namespace nacre {

/// Parameters of bdev_aio_create, and some more.
struct file_options {
    std::string name;
    std::string filename;
    /// 0: that of the device, or 4096 for a file of a multiple of that, else 512.
    std::uint32_t block_size = 0;
    bool readonly = false;
    /// Kept for SPDK's sake: unmap and write_zeroes deallocate anyway where the file system can.
    bool fallocate = false;
    std::optional<nacre::uuid> uuid;
    bool nowait = false;  ///< kept for SPDK's sake
    /// Bytes; the file is made if it is not there or empty, and refused if it is shorter.
    std::optional<std::uint64_t> size;
    /// With `size`: the file is not made. Saved with every `size`, because what the configuration
    /// remembers has held data, and an empty file in its place would pass for it.
    bool must_exist = false;
    /// All space is allocated before the bdev appears.
    bool preallocate = false;

    [[nodiscard]] static std::span<const json::field> fields();
};

/// Parameters of bdev_uring_create.
struct file_uring_options {
    std::string filename;
    std::string name;
    std::uint32_t block_size = 0;
    std::optional<nacre::uuid> uuid;

    [[nodiscard]] static std::span<const json::field> fields();
};

// Home thread. The name of the registered bdev.
[[nodiscard]] task<outcome<std::string>> create_file(bdev_registry& registry, file_options options);
[[nodiscard]] task<outcome<std::string>> create_file(bdev_registry& registry,
                                                     file_uring_options options);
/// file:///PATH?block_size=4096&size=1GiB&uuid=…&name=…; the name is the path's last component.
[[nodiscard]] task<outcome<std::string>> create_file_from_uri(bdev_registry& registry, uri address);

enum class file_kind : std::uint8_t { any, aio, uring };
// ENODEV if `name` is no file bdev, made in this way.
[[nodiscard]] task<outcome<>> delete_file(bdev_registry& registry, std::string name,
                                          file_kind kind = file_kind::any);
/// Takes over the size that the file has now, and tells the users.
[[nodiscard]] task<outcome<>> rescan_file(bdev_registry& registry, std::string name,
                                          file_kind kind = file_kind::any);
/// Changes the size of the file, and of the bdev.
[[nodiscard]] task<outcome<>> resize_file(bdev_registry& registry, std::string name,
                                          byte_count size);

}  // namespace nacre
