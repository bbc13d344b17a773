// SPDX-License-Identifier: BSD-3-Clause
//
// An NVMe command as it is, on its way through the block layer, and the device's answer. The
// block layer knows of a command only what the opcode says; clauses are those of the NVM Express
// Base Specification 2.0.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "nacre/bdev/module_channel.hpp"
#include "nacre/core/error.hpp"

namespace nacre {

static_assert(std::endian::native == std::endian::little, "the structures are the wire's");

/// Common Command Format, figure 87. What belongs to the queue is filled in by whoever sends it:
/// the command's identifier and the pointers to data and metadata.
struct nvme_command {
    std::uint8_t opcode = 0;
    std::uint8_t flags = 0;  ///< FUSE, PSDT
    std::uint16_t command_id = 0;
    std::uint32_t nsid = 0;
    std::uint32_t cdw2 = 0;
    std::uint32_t cdw3 = 0;
    std::uint64_t metadata_pointer = 0;
    std::uint64_t data_pointer[2] = {};
    std::uint32_t cdw10 = 0;
    std::uint32_t cdw11 = 0;
    std::uint32_t cdw12 = 0;
    std::uint32_t cdw13 = 0;
    std::uint32_t cdw14 = 0;
    std::uint32_t cdw15 = 0;
};
static_assert(sizeof(nvme_command) == 64);

/// Common Completion Queue Entry, figure 89.
struct nvme_completion {
    std::uint32_t cdw0 = 0;
    std::uint32_t cdw1 = 0;
    std::uint16_t sq_head = 0;
    std::uint16_t sq_id = 0;
    std::uint16_t command_id = 0;
    std::uint16_t phase_and_status = 0;  ///< bit 0: phase tag; 15:1: status field, figure 93

    /// Ok, or of the NVMe domain.
    [[nodiscard]] error status() const noexcept {
        const unsigned field = phase_and_status >> 1;
        if ((field & 0x7ff) == 0) return {};
        return error::nvme(static_cast<std::uint8_t>(field >> 8 & 7),
                           static_cast<std::uint8_t>(field & 0xff));
    }
    void set_status(error e) noexcept {
        phase_and_status = static_cast<std::uint16_t>((e.code() & 0x7ff) << 1);
    }
    /// Asked again, it would fail again.
    [[nodiscard]] bool do_not_retry() const noexcept { return (phase_and_status >> 15 & 1) != 0; }
};
static_assert(sizeof(nvme_completion) == 16);

/// What nvme_admin and nvme_io carry besides `data`; lives where the op does.
struct nvme_exchange {
    nvme_command command;
    std::byte* metadata;
    std::uint32_t metadata_bytes;
    std::uint32_t timeout_ms;
    nvme_completion completion;
};

/// Of `code` nvme_admin or nvme_io: it is one of those known to leave data and settings alone.
[[nodiscard]] bool only_reads(const nvme_command& command, opcode code) noexcept;

/// For the module that has carried it out.
inline void complete_nvme(io_op& op, const nvme_completion& answer) noexcept {
    op.nvme->completion = answer;
    op.complete(answer.status());
}

}  // namespace nacre
