// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/core/error.hpp"

#include <fmt/format.h>

#include <array>
#include <cstring>
#include <string_view>

namespace nacre {

namespace {

struct nvme_status {
    std::uint16_t code;  // type << 8 | code
    int as_errno;
    std::string_view text;
};

// The status values of NVMe Base 2.0 (figures 94 to 100) and of the NVM and ZNS command sets that a
// host or target of this project can meet.
constexpr auto nvme_statuses = std::to_array<nvme_status>({
    {0x000, 0, "Successful Completion"},
    {0x001, EINVAL, "Invalid Command Opcode"},
    {0x002, EINVAL, "Invalid Field in Command"},
    {0x003, EIO, "Command ID Conflict"},
    {0x004, EIO, "Data Transfer Error"},
    {0x005, EIO, "Commands Aborted due to Power Loss Notification"},
    {0x006, EIO, "Internal Error"},
    {0x007, ECANCELED, "Command Abort Requested"},
    {0x008, ECANCELED, "Command Aborted due to SQ Deletion"},
    {0x009, ECANCELED, "Command Aborted due to Failed Fused Command"},
    {0x00a, ECANCELED, "Command Aborted due to Missing Fused Command"},
    {0x00b, EINVAL, "Invalid Namespace or Format"},
    {0x00c, EINVAL, "Command Sequence Error"},
    {0x015, EPERM, "Operation Denied"},
    {0x018, EINVAL, "Host Identifier Inconsistent Format"},
    {0x01c, EBUSY, "Sanitize Failed"},
    {0x01d, EBUSY, "Sanitize In Progress"},
    {0x020, EROFS, "Namespace is Write Protected"},
    {0x021, EAGAIN, "Command Interrupted"},
    {0x022, EAGAIN, "Transient Transport Error"},
    {0x080, ERANGE, "LBA Out of Range"},
    {0x081, ENOSPC, "Capacity Exceeded"},
    {0x082, EAGAIN, "Namespace Not Ready"},
    {0x083, EBUSY, "Reservation Conflict"},
    {0x084, EBUSY, "Format In Progress"},
    {0x180, EINVAL, "Conflicting Attributes"},
    {0x181, EILSEQ, "Invalid Protection Information"},
    {0x182, EROFS, "Attempted Write to Read Only Range"},
    {0x1b8, EINVAL, "Zoned Boundary Error"},
    {0x1b9, ENOSPC, "Zone Is Full"},
    {0x1ba, EROFS, "Zone Is Read Only"},
    {0x1bb, EIO, "Zone Is Offline"},
    {0x1bc, EINVAL, "Zone Invalid Write"},
    {0x1bd, EBUSY, "Too Many Active Zones"},
    {0x1be, EBUSY, "Too Many Open Zones"},
    {0x1bf, EINVAL, "Invalid Zone State Transition"},
    {0x280, EIO, "Write Fault"},
    {0x281, EIO, "Unrecovered Read Error"},
    {0x282, EILSEQ, "End-to-end Guard Check Error"},
    {0x283, EILSEQ, "End-to-end Application Tag Check Error"},
    {0x284, EILSEQ, "End-to-end Reference Tag Check Error"},
    {0x285, EILSEQ, "Compare Failure"},
    {0x286, EACCES, "Access Denied"},
    {0x287, ENODATA, "Deallocated or Unwritten Logical Block"},
    {0x300, EIO, "Internal Path Error"},
    {0x301, EIO, "Asymmetric Access Persistent Loss"},
    {0x302, EAGAIN, "Asymmetric Access Inaccessible"},
    {0x303, EAGAIN, "Asymmetric Access Transition"},
    {0x370, EIO, "Host Pathing Error"},
    {0x371, ECANCELED, "Command Aborted By Host"},
});

const nvme_status* find_nvme(std::uint16_t code) noexcept {
    for (const nvme_status& s : nvme_statuses)
        if (s.code == code) return &s;
    return nullptr;
}

std::string describe_nvme(std::uint16_t code) {
    const nvme_status* known = find_nvme(code);
    return fmt::format("{} (NVMe status type {:x}h code {:02x}h)",
                       known != nullptr ? known->text : "Unknown status", code >> 8, code & 0xff);
}

std::string describe_posix(int code) {
    const char* text = ::strerrordesc_np(code);
    const char* name = ::strerrorname_np(code);
    if (text == nullptr || name == nullptr) return fmt::format("Unknown error (errno {})", code);
    return fmt::format("{} ({})", text, name);
}

}  // namespace

int error::to_errno() const noexcept {
    switch (domain_) {
        case error_domain::none:
            return 0;
        case error_domain::posix:
            return code_;
        case error_domain::nvme:
            break;
    }
    const nvme_status* known = find_nvme(code_);
    // A failed op never maps to success, whatever the device put into its status.
    return known != nullptr && known->as_errno != 0 ? known->as_errno : EIO;
}

std::string describe(error e) {
    switch (e.domain()) {
        case error_domain::none:
            return "Success";
        case error_domain::posix:
            return describe_posix(e.code());
        case error_domain::nvme:
            return describe_nvme(e.code());
    }
    return fmt::format("Unknown error (domain {}, code {})", static_cast<unsigned>(e.domain()),
                       e.code());
}

}  // namespace nacre
