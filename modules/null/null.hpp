// SPDX-License-Identifier: BSD-3-Clause
//
// null: a device that is all speed and no memory. Writes vanish, reads leave the buffer as it was.
// For measuring everything above a device.
#pragma once

#include "nacre/bdev/registry.hpp"
#include "nacre/core/json_decode.hpp"

namespace nacre {

struct null_options {
    std::string name;
    std::uint64_t num_blocks = 0;
    std::uint32_t block_size = 4096;
    std::optional<nacre::uuid> uuid;
    std::uint32_t physical_block_size = 0;
    std::uint32_t md_size = 0;
    std::int32_t dif_type = 0;
    bool dif_is_head_of_md = false;
    std::uint32_t dif_pi_format = 0;
    // For those who ask; in blocks.
    std::uint32_t preferred_write_granularity = 0;
    std::uint32_t preferred_write_alignment = 0;
    std::uint32_t optimal_write_size = 0;
    std::uint32_t preferred_unmap_granularity = 0;
    std::uint32_t preferred_unmap_alignment = 0;

    [[nodiscard]] static std::span<const json::field> fields();
};

/// The name of the registered bdev. Home thread.
[[nodiscard]] task<outcome<std::string>> create_null(bdev_registry& registry, null_options options);
/// null:///NAME?size=1TiB&block_size=4096&uuid=…
[[nodiscard]] task<outcome<std::string>> create_null_from_uri(bdev_registry& registry, uri address);
/// ENODEV if `name` is no null bdev.
[[nodiscard]] task<outcome<>> delete_null(bdev_registry& registry, std::string name);
/// ENODEV if `name` is no null bdev. Growing and shrinking; users are told.
[[nodiscard]] task<outcome<>> resize_null(bdev_registry& registry, std::string name,
                                          block_count blocks);

}  // namespace nacre
