// SPDX-License-Identifier: BSD-3-Clause
#include "uring_driver.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

#include "nacre/core/assert.hpp"

namespace nacre {
namespace {

constexpr std::uint64_t wake_tag = 1;
constexpr std::uint64_t ignored_tag = 0;
/// With a request's address: the wait that its read is linked to. It is heard of only when it has
/// failed, and then for both.
constexpr std::uint64_t wait_mark = 1;
/// Reads and writes that are handed over before the turn ends. A disk that gets its work in one
/// burst a turn idles between bursts: at 32 in flight that cost a fifth of the rate.
constexpr unsigned flush_at = 2;
constexpr std::uint64_t ns_per_second = 1'000'000'000;

}  // namespace

outcome<std::unique_ptr<io_driver>> uring_driver::make(world& w, const driver_options& options) {
    std::unique_ptr<uring_driver> driver(new uring_driver(w));
    io_uring_params params{};
    unsigned wide = options.wide_commands ? IORING_SETUP_SQE128 : 0U;
    if (options.wide_answers) wide |= IORING_SETUP_CQE32;
    params.flags = IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL | wide;
    params.cq_entries = options.entries * 4;
    int rc = io_uring_queue_init_params(options.entries, &driver->ring_, &params);
    if (rc == -EINVAL && !options.wide_answers) {  // before 5.18 there is no SUBMIT_ALL either
        wide = 0;
        params = io_uring_params{};
        params.flags = IORING_SETUP_CQSIZE;
        params.cq_entries = options.entries * 4;
        rc = io_uring_queue_init_params(options.entries, &driver->ring_, &params);
    }
    if (rc < 0) {
        const char* hint =
            rc == -EPERM    ? "; see /proc/sys/kernel/io_uring_disabled and the container's seccomp"
            : rc == -ENOMEM ? "; raise the memlock limit (ulimit -l)"
            : rc == -EINVAL && wide != 0 ? "; commands to drivers take Linux 5.19 or later"
                                         : "";
        return fail(-rc, fmt::format("io_uring with {} entries: {}{}", options.entries,
                                     std::strerror(-rc), hint));
    }
    driver->ring_ready_ = true;
    if (wide != 0) driver->command_bytes_max_ = wide_command_bytes_max;
    driver->wide_answers_ = options.wide_answers;
    driver->headers_ = std::make_unique<msghdr[]>(params.sq_entries * (wide != 0 ? 2 : 1));
    driver->wake_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (driver->wake_fd_ < 0)
        return fail(errno, fmt::format("eventfd of a reactor: {}", std::strerror(errno)));
    driver->completion_tail_ = driver->ring_.cq.ktail;
    driver->completion_head_ = *driver->ring_.cq.khead;
    driver->arm_wake();
    return std::unique_ptr<io_driver>(std::move(driver));
}

uring_driver::~uring_driver() {
    registered_->close();
    if (ring_ready_) io_uring_queue_exit(&ring_);
    if (wake_fd_ >= 0) ::close(wake_fd_);
}

io_uring_sqe* uring_driver::next_sqe() noexcept {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    if (sqe == nullptr) [[unlikely]] {
        io_uring_submit(&ring_);
        sqe = io_uring_get_sqe(&ring_);
    }
    return sqe;
}

/// The entry before that of the read. Both go into one submission, which a link does not outlive.
void uring_driver::prepare_wait(const io_request& request) noexcept {
    if (io_uring_sq_space_left(&ring_) < 2) io_uring_submit(&ring_);
    if (io_uring_sq_space_left(&ring_) < 2) return;  // the read then says -EAGAIN
    io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
    io_uring_prep_poll_add(sqe, request.fd, POLLIN);
    sqe->flags |= IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS;
    io_uring_sqe_set_data64(sqe, reinterpret_cast<std::uintptr_t>(&request) | wait_mark);
    ++unflushed_;
}

void uring_driver::prepare(io_uring_sqe& sqe, io_request& request) noexcept {
    using kind = io_request::kind;
    switch (request.what) {
        case kind::read:
        case kind::write:
            prepare_transfer(sqe, request);
            break;
        case kind::sync:
            io_uring_prep_fsync(&sqe, request.fd, IORING_FSYNC_DATASYNC);
            break;
        case kind::punch_hole:
            io_uring_prep_fallocate(&sqe, request.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                    static_cast<off_t>(request.offset),
                                    static_cast<off_t>(request.length));
            break;
        case kind::zero_range:
            io_uring_prep_fallocate(&sqe, request.fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
                                    static_cast<off_t>(request.offset),
                                    static_cast<off_t>(request.length));
            break;
        case kind::allocate:
            io_uring_prep_fallocate(&sqe, request.fd, 0, static_cast<off_t>(request.offset),
                                    static_cast<off_t>(request.length));
            break;
        case kind::accept:
            io_uring_prep_accept(&sqe, request.fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
            break;
        case kind::receive:
            if (request.iov_count == 0)
                io_uring_prep_recv(&sqe, request.fd, request.buffer, request.length, 0);
            else if (request.iov_count == 1)
                io_uring_prep_recv(&sqe, request.fd, request.iov->iov_base, request.iov->iov_len,
                                   0);
            else
                io_uring_prep_readv(&sqe, request.fd, request.iov, request.iov_count, 0);
            break;
        case kind::send:
            // Not WRITEV: to a peer that is gone it raises SIGPIPE, which ends the process.
            if (request.iov_count == 1) {
                io_uring_prep_send(&sqe, request.fd, request.iov->iov_base, request.iov->iov_len,
                                   MSG_NOSIGNAL);
            } else {
                // The kernel copies it when the entry is submitted; the slot is free again after.
                msghdr& header = headers_[static_cast<std::size_t>(&sqe - ring_.sq.sqes)];
                header = msghdr{};
                header.msg_iov = const_cast<iovec*>(request.iov);  // NOLINT: sendmsg only reads it
                header.msg_iovlen = request.iov_count;
                io_uring_prep_sendmsg(&sqe, request.fd, &header, MSG_NOSIGNAL);
            }
            break;
        case kind::poll_in:
            io_uring_prep_poll_add(&sqe, request.fd, POLLIN);
            break;
        case kind::command:
            prepare_command(sqe, request);
            break;
    }
    if (request.file_slot >= 0) {
        sqe.fd = request.file_slot;
        sqe.flags |= IOSQE_FIXED_FILE;
    }
    io_uring_sqe_set_data(&sqe, &request);
}

void uring_driver::prepare_transfer(io_uring_sqe& sqe, const io_request& request) noexcept {
    const bool read = request.what == io_request::kind::read;
    if (request.iov_count == 1 && request.iov->iov_len <= INT32_MAX) [[likely]] {
        const iovec& all = *request.iov;
        const auto bytes = static_cast<unsigned>(all.iov_len);
        const bool copied = (request.flags & io_request::flag_copied) != 0;
        const int slot = copied ? -1 : registered_->find(all.iov_base, all.iov_len);
        if (slot >= 0 && read)
            io_uring_prep_read_fixed(&sqe, request.fd, all.iov_base, bytes, request.offset, slot);
        else if (slot >= 0)
            io_uring_prep_write_fixed(&sqe, request.fd, all.iov_base, bytes, request.offset, slot);
        else if (read)
            io_uring_prep_read(&sqe, request.fd, all.iov_base, bytes, request.offset);
        else
            io_uring_prep_write(&sqe, request.fd, all.iov_base, bytes, request.offset);
    } else if (read) {
        io_uring_prep_readv(&sqe, request.fd, request.iov, request.iov_count, request.offset);
    } else {
        io_uring_prep_writev(&sqe, request.fd, request.iov, request.iov_count, request.offset);
    }
    if ((request.flags & io_request::flag_dsync) != 0) sqe.rw_flags = RWF_DSYNC;
    if ((request.flags & io_request::flag_elsewhere) != 0) sqe.flags |= IOSQE_ASYNC;
}

/// liburing 2.3 has no function for it.
void uring_driver::prepare_command(io_uring_sqe& sqe, const io_request& request) const noexcept {
    NACRE_ASSERT(request.length <= command_bytes_max_);
    io_uring_prep_rw(IORING_OP_URING_CMD, &sqe, request.fd, request.iov, request.iov_count, 0);
    sqe.cmd_op = static_cast<std::uint32_t>(request.offset);
    std::byte* const argument = reinterpret_cast<std::byte*>(&sqe) + offsetof(io_uring_sqe, cmd);
    std::memset(argument, 0, command_bytes_max_);
    std::memcpy(argument, request.buffer, request.length);
}

void uring_driver::submit(io_request& request) noexcept {
    ++in_flight_;
    ++unflushed_;
    const bool waits = (request.flags & io_request::flag_when_readable) != 0;
    if (waits && overflow_head_ == nullptr) [[unlikely]]
        prepare_wait(request);
    io_uring_sqe* sqe = overflow_head_ == nullptr ? next_sqe() : nullptr;
    if (sqe != nullptr) [[likely]] {
        prepare(*sqe, request);
        if (unflushed_ >= flush_at && request.what <= io_request::kind::write &&
            (request.flags & io_request::flag_copied) == 0)
            flush();
        return;
    }
    request.driver_next = nullptr;
    if (overflow_head_ == nullptr)
        overflow_head_ = &request;
    else
        overflow_tail_->driver_next = &request;
    overflow_tail_ = &request;
}

void uring_driver::drain_overflow() noexcept {
    while (overflow_head_ != nullptr) {
        io_uring_sqe* sqe = next_sqe();
        if (sqe == nullptr) return;
        io_request* request = overflow_head_;
        overflow_head_ = request->driver_next;
        prepare(*sqe, *request);
    }
}

void uring_driver::cancel(io_request& request) noexcept {
    // One that the kernel has not seen yet must get there first, or the cancel finds nothing.
    flush();
    for (io_request **link = &overflow_head_, *last = nullptr; *link != nullptr;
         last = *link, link = &(*link)->driver_next) {
        if (*link != &request) continue;
        *link = request.driver_next;
        if (overflow_tail_ == &request) overflow_tail_ = last;
        --in_flight_;
        request.result = -ECANCELED;
        request.home->push(request);
        return;
    }
    const auto tag = reinterpret_cast<std::uintptr_t>(&request);
    if ((request.flags & io_request::flag_when_readable) != 0) cancel_tag(tag | wait_mark);
    cancel_tag(tag);
}

void uring_driver::cancel_tag(std::uint64_t tag) noexcept {
    io_uring_sqe* sqe = next_sqe();
    if (sqe == nullptr) return;  // ring full beyond help: the request completes by itself
    io_uring_prep_cancel64(sqe, tag, 0);
    io_uring_sqe_set_data64(sqe, ignored_tag);
    ++unflushed_;
}

void uring_driver::flush() noexcept {
    if (unflushed_ == 0) return;
    drain_overflow();
    io_uring_submit(&ring_);
    unflushed_ = overflow_head_ == nullptr ? 0 : 1;
}

unsigned uring_driver::reap() noexcept {
    unsigned head = 0, count = 0, completed = 0;
    io_uring_cqe* cqe = nullptr;
    bool woken = false;
    io_uring_for_each_cqe(&ring_, head, cqe) {
        ++count;
        const std::uint64_t tag = io_uring_cqe_get_data64(cqe);
        if (tag > wake_tag) [[likely]] {
            auto& request = *reinterpret_cast<io_request*>(tag & ~wait_mark);
            request.result = cqe->res;
            if (wide_answers_ && request.what == io_request::kind::command) [[unlikely]]
                request.offset = cqe->big_cqe[0];
            --in_flight_;
            ++completed;
            request.home->push(request);
        } else if (tag == wake_tag) {
            woken = true;
            if ((cqe->flags & IORING_CQE_F_MORE) == 0) wake_armed_ = false;
        }
    }
    io_uring_cq_advance(&ring_, count);
    completion_head_ += count;
    if (woken) {
        eventfd_t ignored = 0;
        (void)eventfd_read(wake_fd_, &ignored);
        arm_wake();
    }
    return completed;
}

void uring_driver::arm_wake() noexcept {
    if (wake_armed_) return;
    io_uring_sqe* sqe = next_sqe();
    if (sqe == nullptr) return;  // tried again when the ring is reaped
    io_uring_prep_poll_multishot(sqe, wake_fd_, POLLIN);
    io_uring_sqe_set_data64(sqe, wake_tag);
    wake_armed_ = true;
    ++unflushed_;
}

void uring_driver::wait(std::uint64_t deadline_ns) noexcept {
    drain_overflow();
    arm_wake();
    unflushed_ = overflow_head_ == nullptr ? 0 : 1;
    io_uring_cqe* cqe = nullptr;
    if (deadline_ns == UINT64_MAX) {
        io_uring_submit_and_wait(&ring_, 1);
        return;
    }
    const std::uint64_t now = world_.monotonic_ns();
    const std::uint64_t left = deadline_ns > now ? deadline_ns - now : 0;
    __kernel_timespec timeout{.tv_sec = static_cast<long long>(left / ns_per_second),
                              .tv_nsec = static_cast<long long>(left % ns_per_second)};
    io_uring_submit_and_wait_timeout(&ring_, &cqe, 1, &timeout, nullptr);
}

void uring_driver::wake() noexcept { (void)eventfd_write(wake_fd_, 1); }

}  // namespace nacre
