// SPDX-License-Identifier: BSD-3-Clause
//
// The I/O path of an image, one thread's part of it.
//
// What librbd needs to know of an op lies in the op's own memory. Several ranges that are not all
// of the caller's array are listed in a block of the frame pool; nothing else is allocated here (in
// librbd much is). A write that must be durable is followed by a flush. librbd cannot give up what
// it has begun: a reset waits for what is outstanding.
#pragma once

#include "modules/rbd/api.hpp"
#include "nacre/bdev/module_channel.hpp"

namespace nacre::rbd {

class rbd_channel final : public module_channel {
public:
    rbd_channel(bdev& device, const api& functions, image& of) noexcept;

private:
    /// In the op's backend_area.
    struct pending : message, request {
        pending(rbd_channel& c, io_op& o) noexcept : channel(c), op(o) {}
        rbd_channel& channel;
        io_op& op;
        iovec range;              // of a contiguous op
        iovec* listed = nullptr;  // of the frame pool
        std::size_t listed_bytes = 0;
    };

    void submit(io_op& op) noexcept override;
    [[nodiscard]] bool describe(pending& p) noexcept;
    void hand_over(pending& p) noexcept;
    void finished(pending& p) noexcept;
    void complete(pending& p, error status) noexcept;
    void reset(io_op& op) noexcept;

    const api& api_;
    image& image_;
    std::uint64_t outstanding_ = 0;
    work* resets_ = nullptr;  // ops, linked by work::next
};

}  // namespace nacre::rbd
