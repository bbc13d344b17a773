// SPDX-License-Identifier: BSD-3-Clause
//
// Every method and every subsystem that nacre has, and so the order of rpc_get_methods and of a
// saved configuration.
#include "tables.hpp"

namespace nacre::rpc {

method_table all_methods() {
    method_table all;
    for (const auto table :
         {framework_methods(),   config_methods(),     thread_methods(),    log_methods(),
          notify_methods(),      bdev_methods(),       iostat_methods(),    histogram_methods(),
          qos_methods(),         bdev_layer_methods(), bdev_zone_methods(), bdev_raid_methods(),
          bdev_module_methods(), crypto_methods(),     bdev_rbd_methods(),  bdev_nvme_methods(),
          lvol_methods(),        nbd_methods(),        ublk_methods(),      blobfs_methods()})
        all.add(table);
    return all;
}

std::span<const subsystem> all_subsystems() noexcept {
    static constexpr const char* on_bdev[] = {"bdev"};
    static constexpr subsystem table[] = {
        {"bdev", {}, &bdev_configuration},
        {"nbd", on_bdev, &nbd_configuration},
        {"ublk", on_bdev, &ublk_configuration},
        {"blobfs", on_bdev, &blobfs_configuration},
    };
    return table;
}

std::span<const json::field> name_params::fields() {
    static constexpr json::field table[] = {
        json::required<&name_params::name>("name", "Its name"),
    };
    return table;
}

}  // namespace nacre::rpc
