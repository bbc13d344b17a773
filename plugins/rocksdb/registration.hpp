// SPDX-License-Identifier: BSD-3-Clause
//
// "nacre://…" in RocksDB's registry.
#pragma once

#include <cstdint>

namespace nacre::rocks {

/// Of an address that cannot be opened.
enum class on_refusal : std::uint8_t {
    fail,      ///< CreateFromString says why
    stand_in,  ///< it gives a file system of which every call says why (refused.hpp)
};

void register_addresses(on_refusal what);

}  // namespace nacre::rocks
