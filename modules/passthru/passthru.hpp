// SPDX-License-Identifier: BSD-3-Clause
//
// passthru: a bdev over another one that changes nothing. Made to be copied: README.md says where
// to begin, and the comments in passthru.cpp say what each part is for.
#pragma once

#include "nacre/bdev/layer_bdev.hpp"
#include "nacre/core/json_decode.hpp"

namespace nacre {

/// The parameters of the RPC that makes one. The struct is all that is needed to decode them from
/// JSON, from a URI, and to document them.
struct passthru_options {
    std::string name;
    std::string base_bdev_name;
    std::optional<nacre::uuid> uuid;
    /// Look at each I/O when it comes back, too; counts the failed ones.
    bool watch_completions = false;

    [[nodiscard]] static std::span<const json::field> fields();
};

/// The name of the registered bdev. Home thread.
[[nodiscard]] task<outcome<std::string>> create_passthru(bdev_registry& registry,
                                                         passthru_options options);
/// passthru:///NAME?base=BASE
[[nodiscard]] task<outcome<std::string>> create_passthru_from_uri(bdev_registry& registry,
                                                                  uri address);
/// ENODEV if `name` is no passthru bdev.
[[nodiscard]] task<outcome<>> delete_passthru(bdev_registry& registry, std::string name);

}  // namespace nacre
