// SPDX-License-Identifier: BSD-3-Clause
//
// A socket's requests to the kernel, as coroutines await them.
#pragma once

#include "kernel_io.hpp"

namespace nacre::nbd {

/// Set up with accept(), receive() or send(), then carried out: bytes, a descriptor, or a negative
/// errno.
class socket_io : public kernel_io {
public:
    using kernel_io::kernel_io;

    void accept() noexcept { what = kind::accept; }
    void receive(void* into, std::size_t bytes) noexcept {
        what = kind::receive;
        buffer = into;
        length = bytes;
        iov_count = 0;
    }
    /// Into several ranges; the array stays valid meanwhile.
    void receive(const iovec* ranges, std::uint32_t count) noexcept {
        what = kind::receive;
        set_ranges(ranges, count);
    }
    void send(const iovec* ranges, std::uint32_t count) noexcept {
        what = kind::send;
        set_ranges(ranges, count);
    }

private:
    void set_ranges(const iovec* ranges, std::uint32_t count) noexcept {
        iov = ranges;
        iov_count = count;
    }
};

}  // namespace nacre::nbd
