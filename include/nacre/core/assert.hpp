// SPDX-License-Identifier: BSD-3-Clause
//
// Assertions for programmer errors. They stay on in every build: a storage engine that goes on
// after its invariants broke is a machine for losing data. Cost: one compare and one never-taken
// branch.
#pragma once

namespace nacre {

/// Prints "file:line: assertion failed: what" to standard error, then aborts. Any thread.
[[noreturn, gnu::cold]] void assertion_failed(const char* what, const char* file,
                                              int line) noexcept;

}  // namespace nacre

#define NACRE_ASSERT(condition)                                        \
    do {                                                               \
        if (!(condition)) [[unlikely]]                                 \
            ::nacre::assertion_failed(#condition, __FILE__, __LINE__); \
    } while (false)
