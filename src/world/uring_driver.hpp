// SPDX-License-Identifier: BSD-3-Clause
//
// io_driver on one io_uring. The ring's flags were chosen by measurement (docs/benchmarks.md):
// never DEFER_TASKRUN, which cost more, nor COOP_TASKRUN, with which a polling reactor waits for a
// timer tick to learn of a completion.
#pragma once

#include <liburing.h>
#include <sys/socket.h>

#include <memory>

#include "nacre/world/io_driver.hpp"
#include "nacre/world/world.hpp"
#include "uring_registrar.hpp"

namespace nacre {

class uring_driver final : public io_driver {
public:
    [[nodiscard]] static outcome<std::unique_ptr<io_driver>> make(world& w,
                                                                  const driver_options& options);
    ~uring_driver() override;

    void submit(io_request& request) noexcept override;
    void cancel(io_request& request) noexcept override;
    void flush() noexcept override;
    unsigned reap() noexcept override;
    void wait(std::uint64_t deadline_ns) noexcept override;
    void wake() noexcept override;
    [[nodiscard]] int wake_fd() const noexcept override { return ring_.ring_fd; }
    [[nodiscard]] io_registration register_memory(std::span<std::byte> memory) noexcept override {
        return registered_->add_memory(memory);
    }
    [[nodiscard]] io_registration register_file(int fd) noexcept override {
        return registered_->add_file(fd);
    }

private:
    explicit uring_driver(world& w) : world_(w) {}
    [[nodiscard]] io_uring_sqe* next_sqe() noexcept;
    void prepare(io_uring_sqe& sqe, io_request& request) noexcept;
    void prepare_wait(const io_request& request) noexcept;
    void cancel_tag(std::uint64_t tag) noexcept;
    void prepare_transfer(io_uring_sqe& sqe, const io_request& request) noexcept;
    void prepare_command(io_uring_sqe& sqe, const io_request& request) const noexcept;
    void drain_overflow() noexcept;
    void arm_wake() noexcept;

    world& world_;
    io_uring ring_{};
    bool ring_ready_ = false;
    bool wide_answers_ = false;
    std::shared_ptr<uring_registrar> registered_ = std::make_shared<uring_registrar>(ring_);
    int wake_fd_ = -1;
    bool wake_armed_ = false;
    std::unique_ptr<msghdr[]> headers_;  // of gathered sends, one a submission slot
    io_request* overflow_head_ = nullptr;
    io_request* overflow_tail_ = nullptr;
};

}  // namespace nacre
