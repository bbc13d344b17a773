// SPDX-License-Identifier: BSD-3-Clause
//
// The handshake of one connection, with its socket: reads options, lets `negotiation` answer them.
#pragma once

#include <string>
#include <vector>

#include "nacre/core/error.hpp"
#include "nacre/runtime/task.hpp"
#include "nbd_negotiation.hpp"

namespace nacre::nbd {

/// The exports of a listener, as they are when a client asks.
class catalogue {
public:
    [[nodiscard]] virtual std::vector<export_offer> offers() = 0;
    /// The client takes the one at this place of the offers made last, which nothing changed since.
    /// It is held from now on.
    virtual void choose(std::size_t index) = 0;

protected:
    ~catalogue() = default;
};

struct handshake_result {
    session_terms terms;
    std::vector<std::byte> received;  ///< what came after the last option
};

/// Greets, negotiates. An error means that the connection is over; if anybody is to blame, the log
/// has the reason. Ends with ECANCELED when it is asked to stop.
[[nodiscard]] task<result<handshake_result>> shake_hands(int fd, std::string client,
                                                         catalogue& exports);

}  // namespace nacre::nbd
