// SPDX-License-Identifier: BSD-3-Clause
//
// lock_table: the range locks of a bdev, those that are held and those that wait for others, in the
// order in which they were asked for. One waits for all that overlap it and came before, so no two
// wait for each other. Guarded by the bdev's mutex.
#pragma once

#include <memory>
#include <vector>

#include "powers.hpp"

namespace nacre {

enum class lock_state : std::uint8_t {
    waiting,
    settling,   // its turn: channels are to watch what comes, and hold nothing back yet
    standing,   // channels are to hold ops back
    releasing,  // and now not any more
    ended,      // the bdev is going away
};

struct lock_entry : message {
    locked_range range{};
    lock_state is = lock_state::waiting;
    thread* asked_on = nullptr;  // while its asker is suspended
    void* frame = nullptr;
};

class lock_table {
public:
    lock_entry& add(std::uint64_t first, std::uint64_t end, lock_kind kind);
    [[nodiscard]] lock_entry* find(std::uint64_t id) noexcept;
    void remove(std::uint64_t id);
    /// Lets those settle that wait for nobody any more.
    void grant();
    void end_all();
    [[nodiscard]] bool ended() const noexcept { return ended_; }
    /// `visit(const lock_entry&)` of those that channels know of.
    template <typename F>
    void for_each_known(F visit) const {
        for (const auto& e : entries_)
            if (e->is == lock_state::settling || e->is == lock_state::standing) visit(*e);
    }

private:
    static void wake(lock_entry& e);
    std::vector<std::unique_ptr<lock_entry>> entries_;
    std::uint64_t next_id_ = 0;
    bool ended_ = false;
};

}  // namespace nacre
