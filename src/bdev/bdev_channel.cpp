// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/bdev/bdev_channel.hpp"

namespace nacre {

io_awaiter::stop_link::stop_link(io_awaiter& a) noexcept
    : stop_callback([](stop_callback& self) noexcept {
          io_awaiter& waiting = static_cast<stop_link&>(self).owner;
          waiting.channel_->abort(waiting.op_);
      }),
      owner(a) {}

bool io_awaiter::suspend_abortable(stop_source& stop) noexcept {
    if (stop.stop_requested()) {
        op_.status = error::posix(ECANCELED);
        return false;
    }
    if (!channel_->enter(op_)) return false;
    static_assert(sizeof(stop_link) <= sizeof stop_link_);
    stop.link(*::new (static_cast<void*>(stop_link_)) stop_link(*this));
    stop_linked_ = true;
    return true;
}

void io_awaiter::end_abortable() noexcept {
    std::launder(reinterpret_cast<stop_link*>(stop_link_))->~stop_link();
    stop_linked_ = false;
}

io_awaiter bdev_channel::compare_and_write(lba first, const const_iov_view& expected,
                                           const_iov_view from) const noexcept {
    if (!writable_) return io_awaiter(EBADF);
    if (expected.size() != from.size()) return io_awaiter(EINVAL);
    return io_awaiter(channel_, first, from.borrowed(), expected);
}

io_awaiter bdev_channel::copy(lba to, lba from, block_count n) const noexcept {
    if (!writable_) return io_awaiter(EBADF);
    return io_awaiter(channel_, to, from, n);
}

io_awaiter bdev_channel::read_with_metadata(lba first, const iov_view& into,
                                            std::span<std::byte> metadata) const noexcept {
    const bdev_attributes& a = device_->attributes();
    if (a.metadata_size == 0 || a.metadata_interleaved) return io_awaiter(ENOTSUP);
    if (metadata.size() != into.size() / a.block_size.value() * a.metadata_size)
        return io_awaiter(EINVAL);
    return io_awaiter(channel_, opcode::read, first, into, metadata.data());
}

io_awaiter bdev_channel::write_with_metadata(lba first, const const_iov_view& from,
                                             std::span<const std::byte> metadata) const noexcept {
    if (!writable_) return io_awaiter(EBADF);
    const bdev_attributes& a = device_->attributes();
    if (a.metadata_size == 0 || a.metadata_interleaved) return io_awaiter(ENOTSUP);
    if (metadata.size() != from.size() / a.block_size.value() * a.metadata_size)
        return io_awaiter(EINVAL);
    // The block layer promises not to write through it.
    return io_awaiter(channel_, opcode::write, first, from.borrowed(),
                      const_cast<std::byte*>(metadata.data()));
}

task<result<range_lock>> bdev_channel::lock_range(lba first, block_count n, lock_kind kind) const {
    if (!writable_) co_return fail(EBADF);
    result<range_lock> lock = co_await device_->lock_kept(first, n, kind, device_);
    co_return lock;
}

nvme_awaiter bdev_channel::raw(opcode code, const nvme_command& command, const iov_view& data,
                               std::span<std::byte> metadata,
                               std::uint32_t timeout_ms) const noexcept {
    const bdev_attributes& a = device_->attributes();
    if ((a.operations & bit(code)) == 0) return nvme_awaiter(ENOTSUP);
    if (!writable_ && !only_reads(command, code)) return nvme_awaiter(EBADF);
    if (!metadata.empty() && !a.takes_nvme_metadata()) return nvme_awaiter(ENOTSUP);
    if (metadata.size() > UINT32_MAX || data.size() > UINT32_MAX) return nvme_awaiter(EINVAL);
    return nvme_awaiter(channel_, code, command, data, metadata, timeout_ms);
}

result<nvme_completion> nvme_awaiter::await_resume() noexcept {
    const result<> r = io_awaiter::await_resume();
    if (!r && r.error().domain() != error_domain::nvme) return fail(r.error());
    // A layer may have failed the op by itself.
    if (!r && exchange_.completion.status() != r.error())
        exchange_.completion.set_status(r.error());
    return exchange_.completion;
}

void bdev_channel::close() noexcept {
    if (channel_ == nullptr) return;
    device_->release_channel(*std::exchange(channel_, nullptr));
    device_.reset();
}

}  // namespace nacre
