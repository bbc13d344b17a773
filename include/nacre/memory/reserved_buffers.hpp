// SPDX-License-Identifier: BSD-3-Clause
//
// reserved_buffers: how a layer of a stack gets buffers without waiting for its own callers.
//
//     result<pooled_buffer> copy = co_await buffers.acquire(op.data.size());
//
// Those above may hold all buffers of the thread's pool until the very op is done that wants one
// more. So a channel never waits for that pool: it takes what is free there, and else waits for a
// chunk of its own, which only ops of this channel have a part in. Each of them holds one buffer
// and waits, if at all, for what stands below; stacks have an end, so somebody always goes on.
//
// The chunk (2 MiB, not touched before it is needed) is taken with the first buffer, or by
// reserve(); it is not registered. Who holds one buffer does not acquire a second one of the same
// channel. Thread-bound, and gone after its buffers.
#pragma once

#include "nacre/memory/buffer_pool.hpp"

namespace nacre {

class reserved_buffers {
public:
    /// Of nothing: only to be assigned to.
    reserved_buffers() noexcept = default;
    explicit reserved_buffers(buffer_pool& common)
        : common_(&common),
          own_(std::make_unique<buffer_pool>(
              buffer_pool::options{.limit = byte_count(1), .registered = false})) {}

    /// Takes the chunk now. ENOMEM.
    [[nodiscard]] result<> reserve() noexcept { return own_->reserve_chunk(); }
    /// As buffer_pool::acquire.
    [[nodiscard]] buffer_pool::awaiter acquire(std::size_t bytes) noexcept {
        // If the system refuses it, the next op tries again.
        (void)own_->reserve_chunk();
        return {*own_, bytes, common_->try_acquire(bytes)};
    }
    /// Empty if it would have to wait for one of its own.
    [[nodiscard]] pooled_buffer try_acquire(std::size_t bytes) noexcept {
        pooled_buffer buffer = common_->try_acquire(bytes);
        if (!buffer.empty()) return buffer;
        (void)own_->reserve_chunk();
        return own_->try_acquire(bytes);
    }
    [[nodiscard]] buffer_pool& common() const noexcept { return *common_; }

private:
    buffer_pool* common_ = nullptr;
    std::unique_ptr<buffer_pool> own_;
};

}  // namespace nacre
