// SPDX-License-Identifier: BSD-3-Clause
//
// One namespace on one thread: an op becomes an NVMe command to the kernel in one of the channel's
// slots; when all are taken, ops wait in the block layer. Scattered data go through a pooled
// buffer. What a command cannot do at once (a long unmap, a report of many zones) is done in
// pieces, one after the other. Nothing is allocated.
#pragma once

#include <memory>
#include <vector>

#include "nacre/bdev/bdev.hpp"
#include "nacre/bdev/module_channel.hpp"
#include "nacre/memory/reserved_buffers.hpp"
#include "nacre/nvme/kernel_queue.hpp"
#include "nacre/nvme/spec.hpp"

namespace nacre {

/// What all channels of a namespace share.
struct nvme_device {
    world* outside = nullptr;
    int io_fd = -1;     // /dev/ngXnY
    int admin_fd = -1;  // /dev/nvmeX
    std::uint32_t nsid = 0;
};

class nvme_channel final : public module_channel {
public:
    static constexpr unsigned slot_count = 256;

    nvme_channel(bdev& device, const nvme_device& state, reserved_buffers buffers,
                 std::unique_ptr<nvme::kernel_queue> queue);
    ~nvme_channel() override;

private:
    struct slot;
    void submit(io_op& op) noexcept override;
    /// Asks the device for what is left to do.
    [[nodiscard]] error start(slot& s) noexcept;
    [[nodiscard]] error start_transfer(slot& s, std::uint8_t opcode) noexcept;
    [[nodiscard]] error start_piece(slot& s) noexcept;
    [[nodiscard]] error start_report(slot& s) noexcept;
    [[nodiscard]] error start_raw(slot& s) noexcept;
    [[nodiscard]] error send(slot& s, const nvme_command& command, nvme::kernel_data d) noexcept;
    void came_back(slot& s) noexcept;
    /// Whether all of it is done.
    [[nodiscard]] bool advance(slot& s) noexcept;
    void release(slot& s) noexcept;

    const nvme_device& state_;
    reserved_buffers buffers_;
    const std::uint64_t block_bytes_;
    const std::uint32_t metadata_bytes_;  // a block, apart
    std::unique_ptr<nvme::kernel_queue> queue_;
    std::vector<slot> slots_;
    slot* free_ = nullptr;
    // The metadata of those who bring none: zeros to write, and what was read of it.
    std::vector<std::byte> no_metadata_;
};

}  // namespace nacre
