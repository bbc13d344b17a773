// SPDX-License-Identifier: BSD-3-Clause
//
// The table of block-device modules (modules.def), by the scheme of a URI.
//
// A layer names what it stands on with base=NAME, or base=URI, which is made first; the URI's "&"
// is written "%26":
//
//     passthru:///p0?base=null:///n0?size=1TiB
//     raid1:///r0?base=a,b
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "nacre/bdev/registry.hpp"

namespace nacre {

struct bdev_scheme {
    std::string_view name;
    task<outcome<std::string>> (*create)(bdev_registry& registry, uri address);
    std::string_view example;
};
[[nodiscard]] std::span<const bdev_scheme> bdev_schemes() noexcept;

/// Makes the bdev that `address` names, and says its name. What it made for `base` goes again if
/// that fails. Home thread.
[[nodiscard]] task<outcome<std::string>> create_from_uri(bdev_registry& registry,
                                                         std::string address);

}  // namespace nacre
