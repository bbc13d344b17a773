// SPDX-License-Identifier: BSD-3-Clause
//
// remote_op: an op on its way to another thread, which completes it from there.
//
//     void read(io_op& op, channel&) noexcept {
//         worker.hand_over(remote_op(op));               // a thread of a library's own, say
//     }
//     …
//     remote.data().copy_from(answer);                   // over there
//     remote.complete();
//
// Whoever has it, has the op: nobody else touches the op's data until then. It completes the op
// once; dropped without that, the op fails with ECANCELED. This uses the op's backend_area.
#pragma once

#include <new>
#include <utility>

#include "nacre/bdev/module_channel.hpp"

namespace nacre {

class [[nodiscard]] remote_op {
public:
    using may_cross_threads = void;

    /// On the op's thread, which stays until the op has completed. The op is one that this module
    /// carries out.
    explicit remote_op(io_op& op) noexcept : op_(&op), home_(&op.entry().home()) {
        static_assert(sizeof(completion) <= sizeof op.backend_area);
        ::new (op.backend_area.data()) completion(op);
    }
    remote_op(remote_op&& other) noexcept
        : op_(std::exchange(other.op_, nullptr)), home_(other.home_) {}
    remote_op& operator=(remote_op&& other) noexcept {
        std::swap(op_, other.op_);
        std::swap(home_, other.home_);
        return *this;
    }
    ~remote_op() {
        if (op_ != nullptr) complete(error::posix(ECANCELED));
    }

    // Any thread.
    [[nodiscard]] opcode code() const noexcept { return op_->code; }
    [[nodiscard]] lba first() const noexcept { return op_->first; }
    [[nodiscard]] block_count blocks() const noexcept { return op_->blocks; }
    [[nodiscard]] const iov_view& data() const noexcept { return op_->data; }
    /// Once; the op is its thread's again.
    void complete(error status = {}) noexcept {
        NACRE_ASSERT(op_ != nullptr);
        auto& answer = *std::launder(
            reinterpret_cast<completion*>(std::exchange(op_, nullptr)->backend_area.data()));
        answer.status = status;
        home_->post(answer);
    }

private:
    struct completion : message {
        explicit completion(io_op& o) noexcept : op(&o) {
            run = [](work& w) noexcept {
                auto& self = static_cast<completion&>(static_cast<message&>(w));
                self.op->complete(self.status);
            };
        }
        io_op* op;
        error status;
    };
    io_op* op_;
    thread* home_;
};

}  // namespace nacre
