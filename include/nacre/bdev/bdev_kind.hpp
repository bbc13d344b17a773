// SPDX-License-Identifier: BSD-3-Clause
//
// bdev_kind: a kind of block device that an application brings along: its name, its options, and
// how one is made. A line in the registry gives it a URI scheme and a way into configurations;
// app::add_kind also gives it RPC methods. custom_bdev.hpp makes one of a class.
#pragma once

#include "nacre/bdev/registry.hpp"
#include "nacre/core/json_decode.hpp"
#include "nacre/core/uri.hpp"

namespace nacre {

struct bdev_kind {
    /// "ram": the scheme of ram:///r0.
    const char* name;
    /// What the device is, as half a sentence: "A RAM disk".
    const char* help;
    /// Of its RPC methods, if they are not to be bdev_<name>_create and bdev_<name>_delete.
    const char* create_method;
    const char* delete_method;
    /// Of the options; one of them is `name`.
    std::span<const json::field> (*fields)();
    json::array (*schema)();
    std::string (*document)();
    outcome<json::object> (*normalize)(const json::value& options);
    /// The options' JSON object; makes the device and says its name. Home thread.
    task<outcome<std::string>> (*create)(bdev_registry& registry, const json::value& options);
    bool (*owns)(const bdev& device);
    /// Looks at a bdev that appeared and may build on it; null: does not.
    task<void> (*examine)(bdev_registry& registry, bdev& device);
};

/// ram:///r0?size=1MiB: the path is the option `name`, the query gives the others. `base`, as all
/// schemes write it, is the option base_bdev, base_bdevs or base_bdev_name.
[[nodiscard]] task<outcome<std::string>> create_of_kind(bdev_registry& registry,
                                                        const bdev_kind& kind, uri address);
/// ENODEV if there is none of this name and kind.
[[nodiscard]] task<outcome<>> delete_of_kind(bdev_registry& registry, const bdev_kind& kind,
                                             std::string name);

}  // namespace nacre
