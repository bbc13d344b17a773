// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/bdev/zone.hpp"

namespace nacre {

const char* name_of(zone_state s) noexcept {
    switch (s) {
        case zone_state::empty:
            return "empty";
        case zone_state::implicitly_open:
            return "implicitly open";
        case zone_state::explicitly_open:
            return "explicitly open";
        case zone_state::closed:
            return "closed";
        case zone_state::read_only:
            return "read-only";
        case zone_state::full:
            return "full";
        case zone_state::offline:
            return "offline";
    }
    return "unknown";
}

const char* name_of(zone_action a) noexcept {
    switch (a) {
        case zone_action::close:
            return "close";
        case zone_action::finish:
            return "finish";
        case zone_action::open:
            return "open";
        case zone_action::reset:
            return "reset";
        case zone_action::offline:
            return "offline";
    }
    return "unknown";
}

}  // namespace nacre
