// SPDX-License-Identifier: BSD-3-Clause
//
// bdev_channel: how a coroutine does I/O.
//
//     auto channel = descriptor.open_channel();
//     result<> r = co_await channel->read(lba(0), iov_view(buffer, 4096));
//
// Each call returns an awaiter that holds the op; nothing is allocated. The buffers, and the array
// of a scattered view, stay valid until the await ends. If the awaiting task is asked to stop and
// the device can abort, it is asked; the await still ends only when the device gave its answer.
// Errors: ENOTSUP (not of this device), EINVAL (length not in blocks), ERANGE (past the end), EBADF
// (write through a read-only descriptor), ENODEV (removed), ETIMEDOUT, ECANCELED, EILSEQ (compare
// found a difference), or what the device says.
// Thread-bound: of the thread that opened it, and closed there.
#pragma once

#include <memory>
#include <optional>
#include <span>

#include "nacre/bdev/bdev.hpp"
#include "nacre/bdev/block_loan.hpp"
#include "nacre/bdev/module_channel.hpp"
#include "nacre/bdev/nvme_command.hpp"

namespace nacre {

/// The op of an awaiting coroutine.
class io_awaiter {
public:
    io_awaiter(module_channel* channel, opcode code, lba first, const iov_view& data,
               std::uint8_t flags = 0) noexcept
        : channel_(channel), op_(code, flags, first, data) {}
    io_awaiter(module_channel* channel, opcode code, lba first, block_count blocks) noexcept
        : channel_(channel), op_(code, first, blocks) {}
    /// read, write with separate metadata.
    io_awaiter(module_channel* channel, opcode code, lba first, const iov_view& data,
               std::byte* metadata) noexcept
        : io_awaiter(channel, code, first, data, io_op::flag_metadata) {
        op_.metadata = metadata;
    }
    /// compare_and_write.
    io_awaiter(module_channel* channel, lba first, const iov_view& data,
               const const_iov_view& expected) noexcept
        : io_awaiter(channel, opcode::compare_and_write, first, data) {
        op_.expected = &expected;
    }
    /// copy.
    io_awaiter(module_channel* channel, lba to, lba from, block_count n) noexcept
        : io_awaiter(channel, opcode::copy, to, n) {
        op_.source = from;
    }
    /// zone_manage.
    io_awaiter(module_channel* channel, lba zone, zone_command what) noexcept
        : channel_(channel), op_(opcode::zone_manage, zone, block_count()) {
        op_.zones = what;
    }
    /// One that is refused before it reaches a channel.
    explicit io_awaiter(int errno_value) noexcept : channel_(nullptr) {
        op_.status = error::posix(errno_value);
    }
    io_awaiter(const io_awaiter&) = delete;
    io_awaiter& operator=(const io_awaiter&) = delete;

    [[nodiscard]] bool await_ready() const noexcept { return channel_ == nullptr; }
    template <std::derived_from<promise_base> P>
    bool await_suspend(std::coroutine_handle<P> h) noexcept {
        op_.owner = h.address();
        op_.run = &io_op::run_awaited;
        stop_source* stop = static_cast<promise_base&>(h.promise()).stop();
        if (stop != nullptr && channel_->abortable()) [[unlikely]]
            return suspend_abortable(*stop);
        return channel_->enter(op_);
    }
    [[nodiscard]] result<> await_resume() noexcept {
        if (stop_linked_) [[unlikely]]
            end_abortable();
        if (op_.status.failed()) [[unlikely]]
            return fail(op_.status);
        return {};
    }
    [[nodiscard]] io_op& op() noexcept { return op_; }

private:
    friend class bdev_channel;
    [[gnu::noinline]] bool suspend_abortable(stop_source& stop) noexcept;
    [[gnu::noinline]] void end_abortable() noexcept;
    struct stop_link : stop_callback {
        explicit stop_link(io_awaiter& a) noexcept;
        io_awaiter& owner;
    };
    module_channel* channel_;
    bool stop_linked_ = false;
    io_op op_;
    alignas(8) std::byte stop_link_[40];  // a stop_link while stop_linked_
};

/// seek_data, seek_hole: the block found, or none.
class seek_awaiter : public io_awaiter {
public:
    using io_awaiter::io_awaiter;
    [[nodiscard]] result<std::optional<lba>> await_resume() noexcept {
        const result<> r = io_awaiter::await_resume();
        if (!r) return fail(r.error());
        if (op().found == UINT64_MAX) return std::optional<lba>();
        return std::optional<lba>(lba(op().found));
    }
};

/// zone_append: where the data went.
class append_awaiter : public io_awaiter {
public:
    using io_awaiter::io_awaiter;
    [[nodiscard]] result<lba> await_resume() noexcept {
        const result<> r = io_awaiter::await_resume();
        if (!r) return fail(r.error());
        return op().appended;
    }
};

/// zone_report: how many descriptors were filled in.
class report_awaiter : public io_awaiter {
public:
    using io_awaiter::io_awaiter;
    [[nodiscard]] result<std::size_t> await_resume() noexcept {
        const result<> r = io_awaiter::await_resume();
        if (!r) return fail(r.error());
        return op().reported;
    }
};

/// nvme_admin, nvme_io: the device's answer, whatever status it carries; an error if there is none.
class nvme_awaiter : public io_awaiter {
public:
    nvme_awaiter(module_channel* channel, opcode code, const nvme_command& command,
                 const iov_view& data, std::span<std::byte> metadata,
                 std::uint32_t timeout_ms) noexcept
        : io_awaiter(channel, code, lba(), data),
          exchange_{command, metadata.data(), static_cast<std::uint32_t>(metadata.size()),
                    timeout_ms, nvme_completion()} {
        op().nvme = &exchange_;
    }
    explicit nvme_awaiter(int errno_value) noexcept : io_awaiter(errno_value) {}
    [[nodiscard]] result<nvme_completion> await_resume() noexcept;

private:
    nvme_exchange exchange_;
};

class bdev_channel {
public:
    bdev_channel() noexcept = default;
    bdev_channel(bdev_channel&& other) noexcept
        : channel_(std::exchange(other.channel_, nullptr)),
          device_(std::move(other.device_)),
          writable_(other.writable_) {}
    bdev_channel& operator=(bdev_channel&& other) noexcept {
        std::swap(channel_, other.channel_);
        std::swap(device_, other.device_);
        std::swap(writable_, other.writable_);
        return *this;
    }
    ~bdev_channel() { close(); }
    /// Nothing may be in flight through it (asserted for the last one of a thread).
    void close() noexcept;
    [[nodiscard]] bool is_open() const noexcept { return channel_ != nullptr; }

    [[nodiscard]] io_awaiter read(lba first, const iov_view& into) const noexcept {
        return io_awaiter(channel_, opcode::read, first, into);
    }
    /// Durable after a later flush; with `fua` when it completes.
    [[nodiscard]] io_awaiter write(lba first, const const_iov_view& from,
                                   bool fua = false) const noexcept {
        if (!writable_) [[unlikely]]
            return io_awaiter(EBADF);
        return io_awaiter(channel_, opcode::write, first, from.borrowed(),
                          fua ? io_op::flag_fua : std::uint8_t{0});
    }
    // Of a device with separate metadata (ENOTSUP otherwise): that of all blocks, metadata_size
    // each, in one run. Where the device checks protection information, the caller makes it.
    [[nodiscard]] io_awaiter read_with_metadata(lba first, const iov_view& into,
                                                std::span<std::byte> metadata) const noexcept;
    [[nodiscard]] io_awaiter write_with_metadata(
        lba first, const const_iov_view& from, std::span<const std::byte> metadata) const noexcept;
    /// Everything that completed before this was called is durable after it.
    [[nodiscard]] io_awaiter flush() const noexcept {
        return io_awaiter(channel_, opcode::flush, lba(), block_count());
    }
    [[nodiscard]] io_awaiter unmap(lba first, block_count n) const noexcept {
        return modify(opcode::unmap, first, n);
    }
    [[nodiscard]] io_awaiter write_zeroes(lba first, block_count n) const noexcept {
        return modify(opcode::write_zeroes, first, n);
    }
    /// EILSEQ if the device holds something else.
    [[nodiscard]] io_awaiter compare(lba first, const_iov_view expected) const noexcept {
        return io_awaiter(channel_, opcode::compare, first, expected.borrowed());
    }
    /// Atomic against other ops of this device; `expected` outlives the await.
    [[nodiscard]] io_awaiter compare_and_write(lba first, const const_iov_view& expected,
                                               const_iov_view from) const noexcept;
    [[nodiscard]] io_awaiter copy(lba to, lba from, block_count n) const noexcept;
    [[nodiscard]] seek_awaiter seek_data(lba from) const noexcept {
        return seek_awaiter(channel_, opcode::seek_data, from, block_count(1));
    }
    [[nodiscard]] seek_awaiter seek_hole(lba from) const noexcept {
        return seek_awaiter(channel_, opcode::seek_hole, from, block_count(1));
    }

    // Of zoned devices. What a zone's state forbids fails with a zone_error (zone.hpp); so does a
    // write that is not at the write pointer.
    /// To the zone that starts at `zone`; the device says where the data went.
    [[nodiscard]] append_awaiter zone_append(lba zone, const const_iov_view& from) const noexcept {
        if (!writable_) [[unlikely]]
            return append_awaiter(EBADF);
        return append_awaiter(channel_, opcode::zone_append, zone, from.borrowed());
    }
    [[nodiscard]] io_awaiter zone_manage(zone_action action, lba zone) const noexcept {
        if (!writable_) [[unlikely]]
            return io_awaiter(EBADF);
        return io_awaiter(channel_, zone, zone_command{action, false});
    }
    /// On every zone that is in a state for it.
    [[nodiscard]] io_awaiter zone_manage_all(zone_action action) const noexcept {
        if (!writable_) [[unlikely]]
            return io_awaiter(EBADF);
        return io_awaiter(channel_, lba(), zone_command{action, true});
    }
    /// Of the zone that holds `from` and those after it, as many as there are and fit.
    [[nodiscard]] report_awaiter zone_report(lba from,
                                             std::span<zone_descriptor> into) const noexcept {
        return report_awaiter(
            channel_, opcode::zone_report, from,
            iov_view(reinterpret_cast<std::byte*>(into.data()), into.size_bytes()));
    }

    // NVMe commands as they are, of devices that take them (ENOTSUP otherwise). Data go where the
    // command's opcode says. Through a read-only descriptor, those that are known to change nothing
    // (EBADF otherwise). `timeout_ms` 0: the device's own.
    [[nodiscard]] nvme_awaiter nvme_admin(const nvme_command& command, const iov_view& data = {},
                                          std::uint32_t timeout_ms = 0) const noexcept {
        return raw(opcode::nvme_admin, command, data, {}, timeout_ms);
    }
    /// `nsid` 0 is the device's own. `metadata`: of a device with separate metadata.
    [[nodiscard]] nvme_awaiter nvme_io(const nvme_command& command, const iov_view& data = {},
                                       std::span<std::byte> metadata = {},
                                       std::uint32_t timeout_ms = 0) const noexcept {
        return raw(opcode::nvme_io, command, data, metadata, timeout_ms);
    }

    /// Aborts what is outstanding on this channel, then resets the device.
    [[nodiscard]] io_awaiter reset() const noexcept {
        return io_awaiter(channel_, opcode::reset, lba(), block_count());
    }
    /// See block_loan.hpp. EBADF (read-only), EINVAL (more than is lent at once), and as a write.
    [[nodiscard]] task<result<lent_blocks>> lend(lba first, block_count n, populate p) const;
    /// See range_lock.hpp. The bdev is kept while the lock is. ENODEV, ERANGE, EBADF (read-only).
    [[nodiscard]] task<result<range_lock>> lock_range(lba first, block_count n,
                                                      lock_kind kind = lock_kind::writes) const;
    /// See module_channel::set_timeout: of all users of this thread's channel.
    void set_timeout(std::uint64_t timeout_ns) const { channel_->set_timeout(timeout_ns); }

    [[nodiscard]] bdev& device() const noexcept { return *device_; }
    [[nodiscard]] bool writable() const noexcept { return writable_; }
    /// For layers, of a claimed descriptor: the channel that ops are forwarded to.
    [[nodiscard]] module_channel& base() const noexcept { return *channel_; }

private:
    friend class bdev_desc;
    bdev_channel(module_channel* channel, std::shared_ptr<bdev> device, bool writable) noexcept
        : channel_(channel), device_(std::move(device)), writable_(writable) {}
    [[nodiscard]] io_awaiter modify(opcode code, lba first, block_count n) const noexcept {
        if (!writable_) [[unlikely]]
            return io_awaiter(EBADF);
        return io_awaiter(channel_, code, first, n);
    }
    [[nodiscard]] nvme_awaiter raw(opcode code, const nvme_command& command, const iov_view& data,
                                   std::span<std::byte> metadata,
                                   std::uint32_t timeout_ms) const noexcept;
    [[nodiscard]] task<result<>> take_buffer(user_loan& loan) const;
    module_channel* channel_ = nullptr;
    std::shared_ptr<bdev> device_;
    bool writable_ = false;
};

}  // namespace nacre
