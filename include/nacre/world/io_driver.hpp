// SPDX-License-Identifier: BSD-3-Clause
//
// One reactor's door to the kernel: asynchronous requests on files and sockets.
//
// An `io_request` lives in whatever waits for it (an op, an awaiter). `submit` never completes it;
// the completion stores `result` and pushes the request, which is a `work`, to `home`, the run
// queue of the thread that owns it. A request completes exactly once, cancelled ones too; its
// memory and buffers belong to the driver until then.
//
// The real driver is an io_uring, entered once per turn; the simulated one is a priority queue of
// virtual completion times.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "nacre/core/error.hpp"
#include "nacre/core/work.hpp"

struct iovec;

namespace nacre {

struct io_request : work {
    enum class kind : std::uint8_t {
        read,        ///< iov, iov_count, offset: positional vectored read
        write,       ///< iov, iov_count, offset; `flags` & flag_dsync makes it durable
        sync,        ///< data and the metadata needed to read it back
        punch_hole,  ///< offset, length: deallocate, reads back zeros
        zero_range,  ///< offset, length: zeros, allocated or not
        allocate,    ///< offset, length
        accept,      ///< result: the new descriptor, close-on-exec and non-blocking
        receive,     ///< buffer, length, or iov, iov_count; result 0 is the peer's half close
        send,        ///< iov, iov_count; completes when some bytes went out
        poll_in,     ///< fd becomes readable
        command,     ///< offset: a driver's own command; buffer, length: its argument, copied by
                     ///< the flush; iov, iov_count: what it points at, if anything; result: what
                     ///< that driver says, and more of it, where answers are wide, in `offset`
    };
    static constexpr std::uint8_t flag_dsync = 1;  ///< write: RWF_DSYNC
    /// read, write: of a device that copies to and from others' memory, never to a disk. It goes
    /// with the rest of the turn, and not by registered memory, which such devices refuse.
    static constexpr std::uint8_t flag_copied = 2;
    /// read, of one range: when the descriptor, which is non-blocking, has become readable. -EAGAIN
    /// if another reader was faster.
    static constexpr std::uint8_t flag_when_readable = 4;
    /// write: it may wait for those whom this reactor serves, so it is done by an OS thread of the
    /// kernel's.
    static constexpr std::uint8_t flag_elsewhere = 8;

    kind what = kind::poll_in;
    std::uint8_t flags = 0;
    int fd = -1;
    std::int16_t file_slot = -1;  ///< of register_file() on this driver, or none
    std::int32_t result = 0;      ///< bytes or a descriptor; negative errno
    std::uint32_t iov_count = 0;
    const iovec* iov = nullptr;
    void* buffer = nullptr;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    run_queue* home = nullptr;
    /// Of the driver: the next one in its overflow FIFO, or its slot.
    io_request* driver_next = nullptr;
};

/// Where a driver keeps what its kernel has at hand; lives as long as the last registration. Any
/// thread.
class io_registrar {
public:
    virtual ~io_registrar() = default;
    virtual void forget_memory(unsigned slot) noexcept = 0;
    virtual void forget_file(unsigned slot) noexcept = 0;
};

/// A file, or a piece of memory, that one driver's kernel has at hand while this lives; empty if it
/// would not. Goes before the file is closed or the memory unmapped, on any thread.
class io_registration {
public:
    io_registration() noexcept = default;
    io_registration(std::shared_ptr<io_registrar> with, bool is_file, unsigned slot) noexcept
        : with_(std::move(with)), slot_(slot), is_file_(is_file) {}
    io_registration(io_registration&& other) noexcept
        : with_(std::move(other.with_)), slot_(other.slot_), is_file_(other.is_file_) {}
    io_registration& operator=(io_registration&& other) noexcept {
        std::swap(with_, other.with_);
        std::swap(slot_, other.slot_);
        std::swap(is_file_, other.is_file_);
        return *this;
    }
    ~io_registration() {
        if (with_ == nullptr) return;
        if (is_file_)
            with_->forget_file(slot_);
        else
            with_->forget_memory(slot_);
    }
    [[nodiscard]] bool active() const noexcept { return with_ != nullptr; }
    /// For io_request::file_slot.
    [[nodiscard]] std::int16_t file_slot() const noexcept {
        return with_ != nullptr && is_file_ ? static_cast<std::int16_t>(slot_) : std::int16_t{-1};
    }

private:
    std::shared_ptr<io_registrar> with_;
    unsigned slot_ = 0;
    bool is_file_ = false;
};

class io_driver {
public:
    /// Of a command's argument; and of a driver with wide commands.
    static constexpr std::size_t command_bytes_max = 16;
    static constexpr std::size_t wide_command_bytes_max = 80;

    io_driver() = default;
    io_driver(const io_driver&) = delete;
    io_driver& operator=(const io_driver&) = delete;
    virtual ~io_driver() = default;

    /// Owner thread. Queues; the kernel sees it at the next flush at the latest. Never fails: what
    /// the ring has no room for waits in a FIFO.
    virtual void submit(io_request& request) noexcept = 0;
    /// Owner thread. Asks; the request still completes, with -ECANCELED or with its real result.
    virtual void cancel(io_request& request) noexcept = 0;
    /// Owner thread. Hands over everything queued, in one system call or none.
    virtual void flush() noexcept = 0;
    /// Owner thread. Completes what is done, into the home queues; returns how many.
    virtual unsigned reap() noexcept = 0;
    /// Owner thread. Flushes, then sleeps until a completion, a wake() or `deadline_ns` on the
    /// world's monotonic clock (UINT64_MAX: none). May return early.
    virtual void wait(std::uint64_t deadline_ns) noexcept = 0;
    /// Any thread. Ends a wait that is under way, or the next one.
    virtual void wake() noexcept = 0;
    /// Becomes readable when reap() or a wake-up is due; for a foreign event loop. -1 where there
    /// is none (simulation). Owned by the driver.
    [[nodiscard]] virtual int wake_fd() const noexcept = 0;

    /// Owner thread. Requests whose buffer lies within need no look-up of its pages. Empty where
    /// the kernel, or the user's memlock limit, has no room: they work without, a little slower.
    [[nodiscard]] virtual io_registration register_memory(std::span<std::byte>) noexcept {
        return {};
    }
    /// Owner thread. Likewise for requests that carry the slot.
    [[nodiscard]] virtual io_registration register_file(int) noexcept { return {}; }

    /// Something is there to reap. Inline and free of calls: it runs in every turn.
    [[nodiscard]] bool has_completions() const noexcept {
        return __atomic_load_n(completion_tail_, __ATOMIC_RELAXED) != completion_head_;
    }
    [[nodiscard]] bool has_submissions() const noexcept { return unflushed_ != 0; }
    /// Of a command's argument.
    [[nodiscard]] std::size_t command_bytes() const noexcept { return command_bytes_max_; }
    /// Requests that the kernel owes an answer to.
    [[nodiscard]] unsigned in_flight() const noexcept { return in_flight_; }

protected:
    static constexpr unsigned zero_ = 0;
    const unsigned* completion_tail_ = &zero_;
    unsigned completion_head_ = 0;
    unsigned unflushed_ = 0;
    unsigned in_flight_ = 0;
    std::size_t command_bytes_max_ = command_bytes_max;
};

}  // namespace nacre
