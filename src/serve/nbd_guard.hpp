// SPDX-License-Identifier: BSD-3-Clause
//
// Keeps a read-modify-write of a block apart from every other write to that block.
//
// A client may write parts of blocks. Such a write reads the block, changes it and writes it back:
// a write of another request that landed in between would be undone. So each write, trim and
// zeroing of an export enters its blocks here first. Plain ones overlap freely, as on any disk; an
// exclusive one waits for what overlaps it, and later ones that overlap it wait behind it.
//
// Entries live in their requests. One thread. Cost while nobody is exclusive: 12 instructions.
#pragma once

#include <cstdint>

#include "nacre/core/intrusive_list.hpp"

namespace nacre::nbd {

class write_guard {
public:
    struct entry : list_hook {
        std::uint64_t first = 0;  ///< block
        std::uint64_t end = 0;    ///< block after the last
        bool exclusive = false;
        /// Called from within another entry's leave(), when this one has been let in.
        void (*admitted)(entry& self) noexcept = nullptr;

        [[nodiscard]] bool overlaps(const entry& other) const noexcept {
            return first < other.end && other.first < end;
        }
        [[nodiscard]] bool conflicts(const entry& other) const noexcept {
            return (exclusive || other.exclusive) && overlaps(other);
        }
    };

    write_guard() noexcept = default;
    write_guard(const write_guard&) = delete;
    write_guard& operator=(const write_guard&) = delete;

    /// True if it is in; else it waits, and `admitted` is called later.
    [[nodiscard]] bool enter(entry& e) noexcept {
        if (exclusives_ == 0 && !e.exclusive) [[likely]] {
            inside_.push_back(e);
            return true;
        }
        return enter_slow(e);
    }
    void leave(entry& e) noexcept {
        e.unlink();
        if (exclusives_ != 0) [[unlikely]]
            leave_slow(e);
    }
    /// Nobody is inside or waits.
    [[nodiscard]] bool empty() noexcept { return inside_.empty() && waiting_.empty(); }

private:
    [[nodiscard]] bool enter_slow(entry& e) noexcept;
    void leave_slow(const entry& e) noexcept;
    [[nodiscard]] bool blocked(entry& e, const entry* stop_at) noexcept;

    intrusive_list<entry> inside_;
    intrusive_list<entry> waiting_;  // in order of arrival
    std::uint64_t exclusives_ = 0;   // inside or waiting
};

}  // namespace nacre::nbd
