// SPDX-License-Identifier: BSD-3-Clause
//
// nvme: a namespace of an NVMe device that the kernel drives, by its character device /dev/ngXnY:
// what SPDK calls an xNVMe bdev. I/O goes as NVMe commands past the kernel's block layer, raw
// commands go as they are, and zoned namespaces are zoned bdevs.
#pragma once

#include <string>

#include "nacre/bdev/registry.hpp"
#include "nacre/core/json_decode.hpp"
#include "nacre/core/uri.hpp"

namespace nacre {

/// Parameters of bdev_xnvme_create.
struct nvme_options {
    std::string name;
    std::string filename;
    std::string io_mechanism;
    bool conserve_cpu = false;  ///< nothing: it never polls

    [[nodiscard]] static std::span<const json::field> fields();
};

/// The name of the registered bdev. Home thread.
[[nodiscard]] task<outcome<std::string>> create_nvme(bdev_registry& registry, nvme_options options);
/// nvme+kernel:///dev/ng0n1?name=NAME; the device's name if absent.
[[nodiscard]] task<outcome<std::string>> create_nvme_from_uri(bdev_registry& registry, uri address);
/// ENODEV if `name` is none of these.
[[nodiscard]] task<outcome<>> delete_nvme(bdev_registry& registry, std::string name);

}  // namespace nacre
