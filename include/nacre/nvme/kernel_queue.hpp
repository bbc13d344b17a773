// SPDX-License-Identifier: BSD-3-Clause
//
// NVMe commands to the kernel's own driver: by IORING_OP_URING_CMD to /dev/ngXnY (I/O) and
// /dev/nvmeX (admin), past the kernel's block layer.
//
// The driver takes them only from a ring with wide entries, so a queue has a ring of its own beside
// the reactor's. What a turn submits is handed over once, when everything that was ready has run;
// while commands are under way, one poll request on the reactor's ring waits for the queue's, so
// the reactor sleeps as for any other request. Thread-bound. No allocation a command.
#pragma once

#include <array>
#include <coroutine>
#include <cstddef>
#include <memory>

#include "nacre/bdev/nvme_command.hpp"
#include "nacre/memory/iov_view.hpp"
#include "nacre/runtime/thread.hpp"
#include "nacre/world/world.hpp"

namespace nacre::nvme {

/// The data of a command, and where it goes: contiguous memory.
struct kernel_data {
    void* data = nullptr;
    std::size_t data_bytes = 0;
    void* metadata = nullptr;
    std::size_t metadata_bytes = 0;
    std::uint32_t timeout_ms = 0;  ///< 0: the driver's
};

/// One command, from prepare() to its completion. Whoever derives from it sets `run`.
struct kernel_request : io_request {
    /// `device`: an open /dev/ngXnY for I/O, /dev/nvmeX for admin commands.
    void prepare(int device, opcode of, const nvme_command& command,
                 const kernel_data& d = {}) noexcept;
    /// Once completed. ENOMEM: the driver has no room for a moment; other errno values: the kernel
    /// refused it.
    [[nodiscard]] error status() const noexcept;
    /// Of one that reached the device.
    [[nodiscard]] nvme_completion completion() const noexcept;

private:
    alignas(8) std::array<std::byte, 72> argument_;  // struct nvme_uring_cmd
};

class kernel_queue {
public:
    /// Of the calling thread, for `entries` (a power of two) requests at once.
    [[nodiscard]] static outcome<std::unique_ptr<kernel_queue>> make(world& w, unsigned entries);
    /// Nothing is under way (asserted).
    ~kernel_queue();
    kernel_queue(const kernel_queue&) = delete;
    kernel_queue& operator=(const kernel_queue&) = delete;

    void submit(kernel_request& request) noexcept;

    /// `nvme_completion c = co_await queue.execute(…)`; the control path's.
    class execution : private kernel_request {
    public:
        execution(kernel_queue& queue, int device, opcode of, const nvme_command& command,
                  const kernel_data& d) noexcept;
        execution(const execution&) = delete;
        execution& operator=(const execution&) = delete;
        [[nodiscard]] static constexpr bool await_ready() noexcept { return false; }
        void await_suspend(std::coroutine_handle<> h) noexcept {
            handle_ = h;
            queue_.submit(*this);
        }
        [[nodiscard]] nacre::result<nvme_completion> await_resume() const noexcept {
            const error e = status();
            if (e.failed()) return fail(e);
            return completion();
        }

    private:
        kernel_queue& queue_;
        std::coroutine_handle<> handle_;
    };
    [[nodiscard]] execution execute(int device, opcode of, const nvme_command& command,
                                    const kernel_data& d = {}) noexcept {
        return {*this, device, of, command, d};
    }

private:
    explicit kernel_queue(std::unique_ptr<io_driver> driver) noexcept;
    void watch() noexcept;

    thread& home_;
    std::unique_ptr<io_driver> driver_;
    struct flush_work : work {
        kernel_queue* owner;
        bool pending = false;
    } flush_;
    struct ring_watch : io_request {
        kernel_queue* owner;
        bool pending = false;
    } watch_;
};

}  // namespace nacre::nvme
