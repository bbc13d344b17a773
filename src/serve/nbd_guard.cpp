// SPDX-License-Identifier: BSD-3-Clause
#include "nbd_guard.hpp"

namespace nacre::nbd {

/// By somebody inside, or by somebody who has waited longer (those before `stop_at`).
bool write_guard::blocked(entry& e, const entry* stop_at) noexcept {
    for (entry* other = inside_.front(); other != nullptr; other = inside_.next(*other))
        if (e.conflicts(*other)) return true;
    for (entry* other = waiting_.front(); other != nullptr && other != stop_at;
         other = waiting_.next(*other))
        if (e.conflicts(*other)) return true;
    return false;
}

bool write_guard::enter_slow(entry& e) noexcept {
    if (e.exclusive) ++exclusives_;
    if (blocked(e, nullptr)) {
        waiting_.push_back(e);
        return false;
    }
    inside_.push_back(e);
    return true;
}

void write_guard::leave_slow(const entry& e) noexcept {
    if (e.exclusive) --exclusives_;
    // One that is let in may enter others and leave at once, so the search begins anew each time.
    for (entry* waiting = waiting_.front(); waiting != nullptr;) {
        if (blocked(*waiting, waiting)) {
            waiting = waiting_.next(*waiting);
            continue;
        }
        waiting->unlink();
        inside_.push_back(*waiting);
        waiting->admitted(*waiting);
        waiting = waiting_.front();
    }
}

}  // namespace nacre::nbd
