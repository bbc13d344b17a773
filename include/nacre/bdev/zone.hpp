// SPDX-License-Identifier: BSD-3-Clause
//
// Zones, as the NVMe Zoned Namespace command set 1.1 has them: what a zone_report fills in, what a
// zone_manage asks for, and the statuses with which a zoned device refuses.
#pragma once

#include <cstdint>

#include "nacre/core/error.hpp"
#include "nacre/core/units.hpp"

namespace nacre {

/// Values of a zone descriptor's Zone State field.
enum class zone_state : std::uint8_t {
    empty = 0x1,
    implicitly_open = 0x2,
    explicitly_open = 0x3,
    closed = 0x4,
    read_only = 0xd,
    full = 0xe,
    offline = 0xf,
};
[[nodiscard]] const char* name_of(zone_state s) noexcept;

/// Values of Zone Send Action.
enum class zone_action : std::uint8_t {
    close = 0x1,
    finish = 0x2,
    open = 0x3,
    reset = 0x4,
    offline = 0x5,  ///< of a zone that is read-only
};
[[nodiscard]] const char* name_of(zone_action a) noexcept;

struct zone_command {
    zone_action action;
    bool all;  ///< every zone that is in a state for the action
};

/// `start + capacity` is where writing ends, whatever the distance to the next zone's start.
struct zone_descriptor {
    lba start;
    block_count capacity;
    lba write_pointer;  ///< meaningless when full, read-only or offline
    zone_state state = zone_state::empty;
};

/// NVMe statuses of the Zoned Namespace command set, figure 12.
namespace zone_error {
inline constexpr error boundary = error::nvme(1, 0xb8);  ///< past the capacity
inline constexpr error full = error::nvme(1, 0xb9);
inline constexpr error read_only = error::nvme(1, 0xba);
inline constexpr error offline = error::nvme(1, 0xbb);
inline constexpr error invalid_write = error::nvme(1, 0xbc);  ///< not at the write pointer
inline constexpr error too_many_active = error::nvme(1, 0xbd);
inline constexpr error too_many_open = error::nvme(1, 0xbe);
inline constexpr error invalid_transition = error::nvme(1, 0xbf);
}  // namespace zone_error

}  // namespace nacre
