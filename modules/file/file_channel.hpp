// SPDX-License-Identifier: BSD-3-Clause
//
// One file on one thread: an op becomes a request to the reactor's io_driver, which lives in the
// op's backend_area. Short transfers are continued. Nothing is allocated, except that a scattered
// view of which only a part is asked for takes an array from the channel's list of spare ones.
#pragma once

#include <sys/uio.h>

#include <array>
#include <memory>

#include "nacre/bdev/bdev.hpp"
#include "nacre/bdev/module_channel.hpp"
#include "nacre/core/intrusive_list.hpp"

namespace nacre {

/// What all channels of a file share.
struct file_state {
    std::string path;
    int fd = -1;
    world* outside = nullptr;
    std::uint32_t offset_alignment = 1;
    // What the file system turned out not to have; any thread may find out.
    std::atomic<bool> zero_range_refused{false};
    std::atomic<bool> punch_hole_refused{false};
    std::atomic<unsigned> errors_reported{0};
};

class file_channel final : public module_channel {
public:
    file_channel(bdev& device, file_state& file) noexcept;
    ~file_channel() override = default;
    void request_abort(io_op& op) noexcept override;

private:
    struct vector_array;
    struct request;
    void submit(io_op& op) noexcept override;
    void submit_transfer(request& r) noexcept;
    void submit_zeros(request& r) noexcept;
    void submit_deallocation(request& r) noexcept;
    void hand_over(request& r) noexcept;
    void seek(io_op& op) noexcept;
    [[nodiscard]] result<std::uint64_t> find_hole(std::uint64_t offset) const noexcept;
    void reset(io_op& op) noexcept;
    void came_back(request& r) noexcept;
    /// Whether it was turned into something else that the file system may have.
    [[nodiscard]] bool try_otherwise(request& r) noexcept;
    /// In submit(): the op comes back from the ready list.
    void finish(request& r, error status) noexcept;
    /// From the ready list, where the request has just been run: the op need not go there again.
    void answer(request& r, error status) noexcept;
    void settle(request& r, error status) noexcept;
    void report(const request& r, error status) noexcept;
    [[nodiscard]] vector_array* take_vectors() noexcept;

    file_state& file_;
    const unsigned block_shift_;
    const io_registration registration_;
    const std::int16_t file_slot_;
    intrusive_list<request> outstanding_;
    struct vector_list {
        std::unique_ptr<vector_array> first;
        vector_list() noexcept;
        ~vector_list();
    } spare_vectors_;
};

}  // namespace nacre
