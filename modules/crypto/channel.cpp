// SPDX-License-Identifier: BSD-3-Clause
#include "modules/crypto/channel.hpp"

#include <algorithm>
#include <new>

#include "nacre/bdev/child_io.hpp"
#include "nacre/runtime/frame_pool.hpp"
#include "nacre/runtime/sleep.hpp"

namespace nacre::crypto {

crypto_channel::crypto_channel(bdev& device, bdev_channel base, xts_cipher cipher,
                               reserved_buffers buffers)
    : module_channel(device),
      handle_(std::move(base)),
      base_(handle_.base()),
      cipher_(std::move(cipher)),
      buffers_(std::move(buffers)),
      pool_(buffers_.common()),
      block_bytes_(device.block_size().value()),
      gathered_(std::make_unique<std::byte[]>(block_bytes_)) {}

void crypto_channel::submit(io_op& op) noexcept {
    if (op.code == opcode::read) [[likely]] {
        if (op.data.size() > turn_bytes) [[unlikely]]
            return start_slow(op);
        op.push_layer<&read_came_back>(this);
        base_.forward(op);
        return;
    }
    if (op.code == opcode::write) [[likely]]
        return submit_write(op);
    submit_other(op);
}

inline void crypto_channel::pending_write::destroy(pending_write& p) noexcept {
    p.~pending_write();
    frame_pool::deallocate(&p, sizeof(pending_write));
}

inline void crypto_channel::submit_write(io_op& op) noexcept {
    const std::size_t bytes = op.data.size();
    if (bytes > turn_bytes) [[unlikely]]
        return start_slow(op);
    if (bytes == 0) __builtin_unreachable();  // the block layer lets no empty write through
    void* const memory = frame_pool::allocate(sizeof(pending_write));
    if (memory == nullptr) [[unlikely]]
        return start_slow(op);
    auto& pending = *new (memory) pending_write(op.data, pool_, bytes);
    if (pending.buffer.empty() || !encrypt(op.first, op.data, pending.buffer.data())) [[unlikely]] {
        pending_write::destroy(pending);
        return start_slow(op);
    }
    op.data = pending.buffer.view();
    op.push_layer<&write_came_back>(&pending);
    if (op.code != opcode::write) __builtin_unreachable();  // saves looking up its counters
    base_.forward(op);
}

void crypto_channel::submit_other(io_op& op) noexcept {
    if (op.code == opcode::abort) {
        request_abort(*op.target);
        op.complete();
    } else {
        base_.forward(op);
    }
}

hook_verdict crypto_channel::read_came_back(io_op& op, void* context) noexcept {
    if (op.status.ok()) [[likely]] {
        if (!static_cast<crypto_channel*>(context)->decrypt(op.first, op.data)) [[unlikely]]
            op.status = error::posix(EIO);
    }
    return hook_verdict::done;
}

hook_verdict crypto_channel::write_came_back(io_op& op, void* context) noexcept {
    auto& pending = *static_cast<pending_write*>(context);
    op.data = pending.plain;
    pending_write::destroy(pending);
    return hook_verdict::done;
}

void crypto_channel::request_abort(io_op& op) noexcept {
    for (slow_op* s = slow_ops_.front(); s != nullptr; s = slow_ops_.next(*s)) {
        if (&s->op != &op) continue;
        s->given_up = true;
        if (s->child != nullptr) base_.abort(*s->child);
        return;
    }
    base_.request_abort(op);
}

// --- What takes longer ---------------------------------------------------------------------------

void crypto_channel::start_slow(io_op& op) noexcept {
    task<void> work = op.code == opcode::read ? read_long(op) : write_slowly(op);
    if (!work.valid()) return op.complete(error::posix(ENOMEM));  // it comes again
    children().spawn(std::move(work));
}

task<void> crypto_channel::read_long(io_op& op) {
    slow_op self(op);
    slow_ops_.push_back(self);
    child_io read(base_, opcode::read, op.first, op.data);
    self.child = &read.op();
    error status = co_await read;
    self.child = nullptr;
    for (std::size_t done = 0; done < op.data.size() && status.ok();) {
        const std::size_t n = std::min(op.data.size() - done, turn_bytes);
        if (!decrypt(op.first + block_count(done / block_bytes_), op.data.slice(done, n)))
            status = error::posix(EIO);
        done += n;
        if (done < op.data.size()) co_await yield();
    }
    self.unlink();
    op.complete(status);
}

task<void> crypto_channel::write_slowly(io_op& op) {
    slow_op self(op);
    slow_ops_.push_back(self);
    const std::size_t all = op.data.size();
    result<pooled_buffer> buffer = co_await buffers_.acquire(std::min(all, buffer_pool::bytes_max));
    error status = buffer ? error() : buffer.error();
    for (std::size_t done = 0; done < all && status.ok();) {
        const std::size_t piece = std::min(all - done, buffer->size());
        for (std::size_t at = 0; at < piece && status.ok();) {
            const std::size_t n = std::min(piece - at, turn_bytes);
            const lba first = op.first + block_count((done + at) / block_bytes_);
            if (!encrypt(first, op.data.slice(done + at, n), buffer->data() + at))
                status = error::posix(EIO);
            at += n;
            if (at < piece) co_await yield();
        }
        if (self.given_up) status = error::posix(ECANCELED);
        if (status.failed()) break;
        const iov_view encrypted(buffer->data(), piece);
        child_io write(base_, opcode::write, op.first + block_count(done / block_bytes_), encrypted,
                       op.flags);
        self.child = &write.op();
        status = co_await write;
        self.child = nullptr;
        done += piece;
    }
    self.unlink();
    op.complete(status);
}

// --- The cipher over whatever the data lies in ---------------------------------------------------

bool crypto_channel::encrypt_blocks(lba first, const iov_view& from, std::byte* to) noexcept {
    if (!from.contiguous()) [[unlikely]]
        return encrypt_scattered(first, from, to);
    const std::byte* at = from.data();
    const std::byte* const end = at + from.size();
    for (std::uint64_t block = first.value(); at != end; ++block) {
        if (!cipher_.encrypt(block, at, to, block_bytes_)) [[unlikely]]
            return false;
        at += block_bytes_;
        to += block_bytes_;
    }
    return true;
}

bool crypto_channel::decrypt_blocks(lba first, const iov_view& data) noexcept {
    if (!data.contiguous()) [[unlikely]]
        return decrypt_scattered(first, data);
    std::byte* at = data.data();
    std::byte* const end = at + data.size();
    for (std::uint64_t block = first.value(); at != end; ++block) {
        if (!cipher_.decrypt(block, at, at, block_bytes_)) [[unlikely]]
            return false;
        at += block_bytes_;
    }
    return true;
}

bool crypto_channel::encrypt_scattered(lba first, iov_view from, std::byte* to) noexcept {
    for (std::uint64_t block = first.value();; ++block) {
        const iov_view here = from.slice(0, block_bytes_);
        iovec range{};
        here.to_vectors(std::span(&range, 1));
        const std::byte* plain = static_cast<const std::byte*>(range.iov_base);
        if (range.iov_len != block_bytes_) {
            here.copy_to(to);
            plain = to;
        }
        if (!cipher_.encrypt(block, plain, to, block_bytes_)) return false;
        if (from.size() == block_bytes_) return true;
        from = from.slice(block_bytes_, from.size() - block_bytes_);
        to += block_bytes_;
    }
}

bool crypto_channel::decrypt_scattered(lba first, iov_view data) noexcept {
    for (std::uint64_t block = first.value();; ++block) {
        const iov_view here = data.slice(0, block_bytes_);
        iovec range{};
        here.to_vectors(std::span(&range, 1));
        if (range.iov_len == block_bytes_) {
            auto* const in_place = static_cast<std::byte*>(range.iov_base);
            if (!cipher_.decrypt(block, in_place, in_place, block_bytes_)) return false;
        } else {
            here.copy_to(gathered_.get());
            if (!cipher_.decrypt(block, gathered_.get(), gathered_.get(), block_bytes_))
                return false;
            here.copy_from(gathered_.get());
        }
        if (data.size() == block_bytes_) return true;
        data = data.slice(block_bytes_, data.size() - block_bytes_);
    }
}

}  // namespace nacre::crypto
