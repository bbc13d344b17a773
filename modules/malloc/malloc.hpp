// SPDX-License-Identifier: BSD-3-Clause
//
// malloc: a RAM disk. An op is carried out in submit(), by one copy; the memory comes page by page
// at first touch, in huge pages where the kernel has them, and unmapping gives it back.
//
// Several threads may work on it at once; as on any disk, what two overlapping writes leave is
// some mixture of both. compare_and_write is atomic against all other ops: alone on the device it
// simply runs; when other threads have channels, the first one turns the device over to a lock,
// shared by the plain ops, and waits until every thread has passed by (so no op that began without
// the lock is still under way). Plain ops pay one load for that while nobody uses
// compare_and_write.
//
// A zoned one (zone_size) keeps to NVMe ZNS by a zone_table; its zones are empty when it is made. A
// zone that is reset gives its memory back and reads as zeros.
#pragma once

#include "nacre/bdev/registry.hpp"
#include "nacre/core/json_decode.hpp"

namespace nacre {

struct malloc_options {
    std::string name;  ///< empty: Malloc<N>, counted as SPDK does; EEXIST if taken
    std::uint64_t num_blocks = 0;
    std::uint32_t block_size = 4096;
    std::uint32_t physical_block_size = 0;
    std::optional<nacre::uuid> uuid;
    std::uint32_t optimal_io_boundary = 0;
    std::uint32_t md_size = 0;
    bool md_interleave = false;
    std::int32_t dif_type = 0;
    bool dif_is_head_of_md = false;
    std::uint32_t dif_pi_format = 0;
    std::int32_t numa_id = -1;
    // Of a zoned one; in blocks. zone_size 0: not zoned.
    std::uint64_t zone_size = 0;
    std::uint64_t zone_capacity = 0;  ///< 0: zone_size
    std::uint32_t max_open_zones = 0;
    std::uint32_t max_active_zones = 0;
    std::uint32_t max_append_blocks = 0;

    [[nodiscard]] static std::span<const json::field> fields();
};

/// The name of the registered bdev. Home thread.
[[nodiscard]] task<outcome<std::string>> create_malloc(bdev_registry& registry,
                                                       malloc_options options);
/// malloc:///NAME?size=64MiB&block_size=4096&uuid=…
[[nodiscard]] task<outcome<std::string>> create_malloc_from_uri(bdev_registry& registry,
                                                                uri address);
/// zoned+malloc:///NAME?size=64MiB&zone_size=4MiB&zone_capacity=3MiB&max_open_zones=8&…
[[nodiscard]] task<outcome<std::string>> create_zoned_malloc_from_uri(bdev_registry& registry,
                                                                      uri address);
/// ENODEV if `name` is no malloc bdev.
[[nodiscard]] task<outcome<>> delete_malloc(bdev_registry& registry, std::string name);

}  // namespace nacre
