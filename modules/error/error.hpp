// SPDX-License-Identifier: BSD-3-Clause
//
// error: a layer that goes wrong on command, named EE_<base>. An injection is set for a kind of
// I/O, and is used up after `num` ops. What an op can meet:
//
//     failure       it fails with EIO, and does not reach the base
//     nvme_failure  likewise, with an NVMe status
//     nomem         the layer is out of memory: flow control, so the op goes down again by itself
//     pending       it hangs, until resume_error_pending, a reset, an abort or the removal
//     corrupt_data  a byte is changed on its way to the base or back from it; nobody is told
//
// Not for production, as SPDK says of its own.
#pragma once

#include <array>

#include "nacre/bdev/layer_bdev.hpp"
#include "nacre/core/json_decode.hpp"

namespace nacre {

struct error_options {
    std::string base_name;
    std::optional<nacre::uuid> uuid;

    [[nodiscard]] static std::span<const json::field> fields();
};

enum class error_io_type : std::uint8_t {
    clear,  ///< ends all injections
    read,
    write,
    unmap,
    flush,
    all,  ///< every operation but reset and abort
};
[[nodiscard]] constexpr auto json_names(error_io_type) {
    using name = json::enum_name<error_io_type>;
    return std::array{name{"clear", error_io_type::clear}, name{"read", error_io_type::read},
                      name{"write", error_io_type::write}, name{"unmap", error_io_type::unmap},
                      name{"flush", error_io_type::flush}, name{"all", error_io_type::all}};
}

enum class error_type : std::uint8_t { failure, pending, corrupt_data, nomem, nvme_failure };
[[nodiscard]] constexpr auto json_names(error_type) {
    using name = json::enum_name<error_type>;
    return std::array{name{"failure", error_type::failure}, name{"pending", error_type::pending},
                      name{"corrupt_data", error_type::corrupt_data},
                      name{"nomem", error_type::nomem},
                      name{"nvme_failure", error_type::nvme_failure}};
}

/// Parameters of bdev_error_inject_error.
struct error_injection {
    std::string name;
    error_io_type io_type = error_io_type::clear;
    nacre::error_type error_type = nacre::error_type::failure;
    std::uint32_t nvme_sct = 0;
    std::uint32_t nvme_sc = 0;
    std::uint32_t num = 1;          ///< ops that it hits; 0: none, 2^32-1: all
    std::uint64_t queue_depth = 0;  ///< only while so many ops or more are under way
    std::uint64_t corrupt_offset = 0;
    std::uint8_t corrupt_value = 0;  ///< xor, so not 0 for corrupt_data

    [[nodiscard]] static std::span<const json::field> fields();
};

// Home thread.
/// The name of the registered bdev, EE_<base>.
[[nodiscard]] task<outcome<std::string>> create_error(bdev_registry& registry,
                                                      error_options options);
/// error:///?base=BASE
[[nodiscard]] task<outcome<std::string>> create_error_from_uri(bdev_registry& registry,
                                                               uri address);
// ENODEV if the name is that of no error bdev.
[[nodiscard]] task<outcome<>> delete_error(bdev_registry& registry, std::string name);
[[nodiscard]] outcome<> inject_error(bdev_registry& registry, const error_injection& injection);
/// Ops that hang go down to the base.
[[nodiscard]] task<outcome<>> resume_error_pending(bdev_registry& registry, std::string name);

}  // namespace nacre
