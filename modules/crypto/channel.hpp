// SPDX-License-Identifier: BSD-3-Clause
//
// The I/O path of a crypto bdev, one thread's part of it.
//
// A read goes down as it is; what comes back is decrypted in the caller's buffer. A write is
// encrypted into a pooled buffer, and the same op goes down with that as its data: the caller's is
// not touched. What is longer than a turn of the reactor should take, and a write that finds no
// buffer free, becomes a coroutine: that encrypts or decrypts a turn's share at a time, waits for
// its buffer first come first served, among those of this channel, and writes what is longer than
// the largest buffer in pieces.
//
// Everything else goes down unchanged. Compare, copy and write_zeroes are not among it: the block
// layer carries them out by reads and writes that come through here.
#pragma once

#include "modules/crypto/key.hpp"
#include "nacre/bdev/bdev_channel.hpp"
#include "nacre/core/intrusive_list.hpp"
#include "nacre/memory/reserved_buffers.hpp"

namespace nacre::crypto {

class crypto_channel final : public module_channel {
public:
    /// Bytes that are encrypted or decrypted in one go, some 30 us.
    static constexpr std::size_t turn_bytes = 131072;

    crypto_channel(bdev& device, bdev_channel base, xts_cipher cipher, reserved_buffers buffers);

private:
    /// A write on its way through the base; from the frame pool.
    struct pending_write {
        pending_write(const iov_view& d, buffer_pool& pool, std::size_t bytes) noexcept
            : plain(d), buffer(pool.try_acquire(bytes)) {}
        static void destroy(pending_write& p) noexcept;
        iov_view plain;
        pooled_buffer buffer;
    };
    /// An op that a coroutine carries out, so that it can be given up.
    struct slow_op : list_hook {
        explicit slow_op(io_op& o) noexcept : op(o) {}
        io_op& op;
        io_op* child = nullptr;  // what it waits for
        bool given_up = false;
    };

    void submit(io_op& op) noexcept override;
    void request_abort(io_op& op) noexcept override;
    void submit_write(io_op& op) noexcept;
    [[gnu::noinline]] void submit_other(io_op& op) noexcept;
    [[gnu::noinline]] void start_slow(io_op& op) noexcept;
    static hook_verdict read_came_back(io_op& op, void* context) noexcept;
    static hook_verdict write_came_back(io_op& op, void* context) noexcept;
    [[nodiscard]] task<void> read_long(io_op& op);
    [[nodiscard]] task<void> write_slowly(io_op& op);

    /// Whole blocks, the first of which is `first`.
    [[nodiscard]] bool encrypt(lba first, const iov_view& from, std::byte* to) noexcept {
        if (!from.contiguous() || from.size() != block_bytes_)
            return encrypt_blocks(first, from, to);
        return cipher_.encrypt(first.value(), from.data(), to, block_bytes_);
    }
    [[nodiscard]] bool decrypt(lba first, const iov_view& data) noexcept {
        if (!data.contiguous() || data.size() != block_bytes_) return decrypt_blocks(first, data);
        return cipher_.decrypt(first.value(), data.data(), data.data(), block_bytes_);
    }
    [[nodiscard]] bool encrypt_blocks(lba first, const iov_view& from, std::byte* to) noexcept;
    [[nodiscard]] bool decrypt_blocks(lba first, const iov_view& data) noexcept;
    [[nodiscard]] bool decrypt_scattered(lba first, iov_view data) noexcept;
    [[nodiscard]] bool encrypt_scattered(lba first, iov_view from, std::byte* to) noexcept;

    bdev_channel handle_;
    module_channel& base_;
    xts_cipher cipher_;
    reserved_buffers buffers_;
    buffer_pool& pool_;  // the common one
    const std::size_t block_bytes_;
    std::unique_ptr<std::byte[]> gathered_;  // a block that lies in several ranges
    intrusive_list<slow_op> slow_ops_;
};

}  // namespace nacre::crypto
