// SPDX-License-Identifier: BSD-3-Clause
//
// zoned: an emulated zoned device that survives restarts and crashes, on any conventional bdev.
//
// docs/formats/zoned.md has the format and says what is durable when; nacre/bdev/zone_layer.hpp has
// the rules. `zoned+file` is one on a file bdev that is made with it.
#pragma once

#include "nacre/bdev/registry.hpp"
#include "nacre/bdev/zone.hpp"
#include "nacre/core/json_decode.hpp"

namespace nacre {

struct zoned_options {
    std::string name;
    std::string base_bdev;
    // In blocks. What a base already holds is taken where these are absent, and must agree with
    // those that are given. Without a zone_size an empty base is refused.
    std::optional<std::uint64_t> zone_size;
    std::optional<std::uint64_t> zone_capacity;  ///< of a new one: zone_size
    std::optional<std::uint64_t> zones;          ///< of a new one: as many as fit
    std::optional<std::uint32_t> max_open_zones;
    std::optional<std::uint32_t> max_active_zones;
    std::optional<std::uint32_t> max_append_blocks;
    std::optional<nacre::uuid> uuid;
    bool owns_base = false;  ///< the base bdev is deleted with it (what is on it stays)

    [[nodiscard]] static std::span<const json::field> fields();
};

/// The same on a file. All sizes in bytes.
struct zoned_file_options {
    std::string name;
    std::string filename;          ///< made if it is not there
    std::uint32_t block_size = 0;  ///< 0: 4096, or what suits the file
    std::optional<std::uint64_t> zone_size;
    std::optional<std::uint64_t> zone_capacity;
    std::optional<std::uint64_t> zones;
    std::optional<std::uint64_t> size;  ///< zones times zone_size, in the place of `zones`
    std::optional<std::uint32_t> max_open_zones;
    std::optional<std::uint32_t> max_active_zones;
    std::optional<std::uint32_t> max_append_blocks;
    std::optional<nacre::uuid> uuid;

    [[nodiscard]] static std::span<const json::field> fields();
};

/// The name of the registered bdev. Home thread.
[[nodiscard]] task<outcome<std::string>> create_zoned(bdev_registry& registry,
                                                      zoned_options options);
/// The file bdev below it has its name and "_file", and is deleted with it.
[[nodiscard]] task<outcome<std::string>> create_zoned_file(bdev_registry& registry,
                                                           zoned_file_options options);
/// zoned:///NAME?base=BASE&zone_size=64MiB&zone_capacity=48MiB&zones=100&max_open_zones=14&…
[[nodiscard]] task<outcome<std::string>> create_zoned_from_uri(bdev_registry& registry,
                                                               uri address);
/// zoned+file:///PATH?zone_size=64MiB&zone_capacity=48MiB&zones=100&…; the bdev has the name of the
/// file.
[[nodiscard]] task<outcome<std::string>> create_zoned_file_from_uri(bdev_registry& registry,
                                                                    uri address);
/// ENODEV if `name` is no zoned bdev. What is on the base stays.
[[nodiscard]] task<outcome<>> delete_zoned(bdev_registry& registry, std::string name);
/// Makes a zone read-only or offline, as one whose media wears out; for tests of what stands above.
[[nodiscard]] task<outcome<>> degrade_zone(bdev_registry& registry, std::string name,
                                           std::uint64_t zone, zone_state state);

}  // namespace nacre
