// SPDX-License-Identifier: BSD-3-Clause
//
// What a trace consists of: every decision and device operation, with up to four numbers.
#pragma once

#include <cstdint>

namespace nacre::sim {

enum class trace_event : std::uint8_t {
    turn,        // reactor, worked
    clock,       // nanoseconds
    action,      // number
    submit,      // file, kind, offset, bytes
    complete,    // file, kind, offset, result
    transfer,    // socket, kind, result
    block,       // socket, kind
    cancel,      // kind, outcome
    change,      // operation number, kind of change
    power_cut,   // device operations
    fate,        // file, digest of what survived
    restart,     // device operations
    connection,  // listener, client, server
    last
};

}  // namespace nacre::sim
