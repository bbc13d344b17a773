// SPDX-License-Identifier: BSD-3-Clause
//
// How RocksDB's programs name a blobfs:
//
//     address   = "nacre://" ( bdev-uri / config / bdev-name ) with parameters
//     bdev-uri  = "file:///data/disk.img?size=4GiB"       ; made for this, and gone with it
//     config    = "/etc/nacre.json?bdev=lvs0/db"          ; of an app that is started with it
//     bdev-name = "lvs0/db"                               ; of the app that runs in the process
//
// Parameters besides those of the bdev: mkfs=auto, readonly=true, cache=256MiB, compatible=true,
// reactors=2, rpc=/run/rocks.sock.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "nacre/core/error.hpp"

namespace nacre::rocks {

struct store_address {
    std::string bdev;         ///< a URI, or a name
    std::string config_file;  ///< empty: none
    bool make = false;        ///< a file system, if the device is empty
    bool compatible = false;  ///< with make: in SPDK's format
    bool read_only = false;
    std::uint64_t cache_size = 0;  ///< bytes; 0: blobfs's own
    unsigned reactors = 0;         ///< of an app that is started for it; 0: one

    std::string rpc_socket;  ///< of such an app; empty: none
    std::string key;         ///< what all addresses of one store have in common

    [[nodiscard]] bool makes_bdev() const { return bdev.find("://") != std::string::npos; }

    [[nodiscard]] static outcome<store_address> parse(std::string_view text);
};

/// What addresses start with.
inline constexpr std::string_view address_scheme = "nacre://";

}  // namespace nacre::rocks
