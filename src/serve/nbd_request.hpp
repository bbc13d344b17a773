// SPDX-License-Identifier: BSD-3-Clause
//
// A request of a connection, from its header to the last byte of its reply.
#pragma once

#include "nbd_connection.hpp"

namespace nacre::nbd {

struct connection::request : write_guard::entry {
    connection* owner = nullptr;
    request_header header{};
    bool guarded = false;      // has entered the guard, or waits before it
    bool flush_after = false;  // FUA of an op that cannot carry it
    std::uint8_t reply_header_length = 0;
    std::uint32_t payload_length = 0;  // of the reply
    /// Whole blocks around the request's bytes, which begin at `data`.
    buffer_cache::buffer memory;
    std::byte* data = nullptr;
    request* next = nullptr;  // in the list of replies, or of free requests
    std::array<std::byte, reply_header_bytes_max> reply_header;
    std::optional<io_op> op;
};

}  // namespace nacre::nbd
