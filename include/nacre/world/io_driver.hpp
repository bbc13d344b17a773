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

#include <cstdint>

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
    };
    static constexpr std::uint8_t flag_dsync = 1;  ///< write: RWF_DSYNC

    kind what = kind::poll_in;
    std::uint8_t flags = 0;
    int fd = -1;
    std::int32_t result = 0;  ///< bytes or a descriptor; negative errno
    std::uint32_t iov_count = 0;
    const iovec* iov = nullptr;
    void* buffer = nullptr;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    run_queue* home = nullptr;
    /// Of the driver: the next one in its overflow FIFO, or its slot.
    io_request* driver_next = nullptr;
};

class io_driver {
public:
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

    /// Something is there to reap. Inline and free of calls: it runs in every turn.
    [[nodiscard]] bool has_completions() const noexcept {
        return __atomic_load_n(completion_tail_, __ATOMIC_RELAXED) != completion_head_;
    }
    [[nodiscard]] bool has_submissions() const noexcept { return unflushed_ != 0; }
    /// Requests that the kernel owes an answer to.
    [[nodiscard]] unsigned in_flight() const noexcept { return in_flight_; }

protected:
    static constexpr unsigned zero_ = 0;
    const unsigned* completion_tail_ = &zero_;
    unsigned completion_head_ = 0;
    unsigned unflushed_ = 0;
    unsigned in_flight_ = 0;
};

}  // namespace nacre
