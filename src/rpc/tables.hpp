// SPDX-License-Identifier: BSD-3-Clause
//
// The tables of methods, one a file, in the order in which rpc_get_methods lists them
// (all_methods.cpp).
#pragma once

#include <optional>
#include <span>

#include "nacre/rpc/context.hpp"
#include "nacre/rpc/dispatcher.hpp"

namespace nacre::rpc {

[[nodiscard]] std::span<const method> framework_methods() noexcept;
[[nodiscard]] std::span<const method> config_methods() noexcept;
[[nodiscard]] std::span<const method> thread_methods() noexcept;
[[nodiscard]] std::span<const method> log_methods() noexcept;
[[nodiscard]] std::span<const method> notify_methods() noexcept;
[[nodiscard]] std::span<const method> bdev_methods() noexcept;
[[nodiscard]] std::span<const method> iostat_methods() noexcept;
[[nodiscard]] std::span<const method> histogram_methods() noexcept;
[[nodiscard]] std::span<const method> qos_methods() noexcept;
[[nodiscard]] std::span<const method> bdev_module_methods() noexcept;
[[nodiscard]] std::span<const method> bdev_layer_methods() noexcept;
[[nodiscard]] std::span<const method> bdev_zone_methods() noexcept;
[[nodiscard]] std::span<const method> bdev_raid_methods() noexcept;
[[nodiscard]] std::span<const method> crypto_methods() noexcept;
[[nodiscard]] std::span<const method> bdev_rbd_methods() noexcept;
[[nodiscard]] std::span<const method> bdev_nvme_methods() noexcept;
[[nodiscard]] std::span<const method> lvol_methods() noexcept;
[[nodiscard]] std::span<const method> nbd_methods() noexcept;
[[nodiscard]] std::span<const method> ublk_methods() noexcept;
[[nodiscard]] std::span<const method> blobfs_methods() noexcept;

/// `name`, of the many methods that take nothing else.
struct name_params {
    std::string name;
    [[nodiscard]] static std::span<const json::field> fields();
};

/// The clock of all figures in ticks: nanoseconds.
inline constexpr std::uint64_t tick_rate = 1'000'000'000;

/// framework_get_config of "bdev".
[[nodiscard]] task<json::value> bdev_configuration(context& here);
/// bdev_raid_set_options, then what makes the arrays that wait for legs.
[[nodiscard]] json::array raid_configuration(context& here);
/// What makes the splits of bdevs that are not there.
[[nodiscard]] json::array split_configuration(context& here);
/// What makes keys known, before everything else.
[[nodiscard]] json::array crypto_key_configuration(context& here);
/// What makes the crypto bdevs that wait for their base or key.
[[nodiscard]] json::array crypto_configuration(context& here);
/// What connects to the Ceph clusters, before the bdevs.
[[nodiscard]] json::array rbd_configuration(context& here);
/// What makes the zone_block bdevs whose base is not there.
[[nodiscard]] json::array zone_block_configuration(context& here);
/// What limits bdevs again as they are limited now.
[[nodiscard]] json::array qos_configuration(context& here);
/// `assigned_rate_limits` of bdev_get_bdevs.
[[nodiscard]] json::object assigned_limits(const bdev& device);
/// framework_get_config of "nbd".
[[nodiscard]] task<json::value> nbd_configuration(context& here);
/// framework_get_config of "blobfs".
[[nodiscard]] task<json::value> blobfs_configuration(context& here);
/// framework_get_config of "ublk".
[[nodiscard]] task<json::value> ublk_configuration(context& here);
/// The BDEV object of bdev_get_bdevs.
[[nodiscard]] json::value describe_bdev(bdev& device);
/// SPDK's name of an I/O type: null if it is none, nullopt if nacre's bdevs never do it.
[[nodiscard]] const std::optional<opcode>* io_type_named(std::string_view name) noexcept;

}  // namespace nacre::rpc
