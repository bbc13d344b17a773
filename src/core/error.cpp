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

// The status values of NVMe Base 2.0 (figures 94 to 100) and of the NVM, key-value and ZNS command
// sets, without those of Fabrics commands, which depend on the command.
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
    {0x00d, EINVAL, "Invalid SGL Segment Descriptor"},
    {0x00e, EINVAL, "Invalid Number of SGL Descriptors"},
    {0x00f, EINVAL, "Data SGL Length Invalid"},
    {0x010, EINVAL, "Metadata SGL Length Invalid"},
    {0x011, EINVAL, "SGL Descriptor Type Invalid"},
    {0x012, EINVAL, "Invalid Use of Controller Memory Buffer"},
    {0x013, EINVAL, "PRP Offset Invalid"},
    {0x014, EINVAL, "Atomic Write Unit Exceeded"},
    {0x015, EPERM, "Operation Denied"},
    {0x016, EINVAL, "SGL Offset Invalid"},
    {0x018, EINVAL, "Host Identifier Inconsistent Format"},
    {0x019, ETIMEDOUT, "Keep Alive Timer Expired"},
    {0x01a, EINVAL, "Keep Alive Timeout Invalid"},
    {0x01b, ECANCELED, "Command Aborted due to Preempt and Abort"},
    {0x01c, EBUSY, "Sanitize Failed"},
    {0x01d, EBUSY, "Sanitize In Progress"},
    {0x01e, EINVAL, "SGL Data Block Granularity Invalid"},
    {0x01f, EINVAL, "Command Not Supported for Queue in CMB"},
    {0x020, EROFS, "Namespace is Write Protected"},
    {0x021, EAGAIN, "Command Interrupted"},
    {0x022, EAGAIN, "Transient Transport Error"},
    {0x023, EPERM, "Command Prohibited by Command and Feature Lockdown"},
    {0x024, EAGAIN, "Admin Command Media Not Ready"},
    {0x029, ENOTSUP, "Flexible Data Placement Disabled"},
    {0x02a, EINVAL, "Invalid Placement Handle List"},
    {0x080, ERANGE, "LBA Out of Range"},
    {0x081, ENOSPC, "Capacity Exceeded"},
    {0x082, EAGAIN, "Namespace Not Ready"},
    {0x083, EBUSY, "Reservation Conflict"},
    {0x084, EBUSY, "Format In Progress"},
    {0x085, EINVAL, "Invalid Value Size"},
    {0x086, EINVAL, "Invalid Key Size"},
    {0x087, ENOENT, "KV Key Does Not Exist"},
    {0x088, EIO, "Unrecovered Error"},
    {0x089, EEXIST, "Key Exists"},
    {0x100, EINVAL, "Completion Queue Invalid"},
    {0x101, EINVAL, "Invalid Queue Identifier"},
    {0x102, EINVAL, "Invalid Queue Size"},
    {0x103, EBUSY, "Abort Command Limit Exceeded"},
    {0x105, EBUSY, "Asynchronous Event Request Limit Exceeded"},
    {0x106, EINVAL, "Invalid Firmware Slot"},
    {0x107, EINVAL, "Invalid Firmware Image"},
    {0x108, EINVAL, "Invalid Interrupt Vector"},
    {0x109, EINVAL, "Invalid Log Page"},
    {0x10a, EINVAL, "Invalid Format"},
    {0x10b, EAGAIN, "Firmware Activation Requires Conventional Reset"},
    {0x10c, EINVAL, "Invalid Queue Deletion"},
    {0x10d, EINVAL, "Feature Identifier Not Saveable"},
    {0x10e, EPERM, "Feature Not Changeable"},
    {0x10f, EINVAL, "Feature Not Namespace Specific"},
    {0x110, EAGAIN, "Firmware Activation Requires NVM Subsystem Reset"},
    {0x111, EAGAIN, "Firmware Activation Requires Controller Level Reset"},
    {0x112, EAGAIN, "Firmware Activation Requires Maximum Time Violation"},
    {0x113, EPERM, "Firmware Activation Prohibited"},
    {0x114, EINVAL, "Overlapping Range"},
    {0x115, ENOSPC, "Namespace Insufficient Capacity"},
    {0x116, EBUSY, "Namespace Identifier Unavailable"},
    {0x118, EEXIST, "Namespace Already Attached"},
    {0x119, EPERM, "Namespace Is Private"},
    {0x11a, ENODEV, "Namespace Not Attached"},
    {0x11b, ENOTSUP, "Thin Provisioning Not Supported"},
    {0x11c, EINVAL, "Controller List Invalid"},
    {0x11d, EBUSY, "Device Self-test In Progress"},
    {0x11e, EPERM, "Boot Partition Write Prohibited"},
    {0x11f, EINVAL, "Invalid Controller Identifier"},
    {0x120, EINVAL, "Invalid Secondary Controller State"},
    {0x121, EINVAL, "Invalid Number of Controller Resources"},
    {0x122, EINVAL, "Invalid Resource Identifier"},
    {0x123, EPERM, "Sanitize Prohibited While Persistent Memory Region is Enabled"},
    {0x124, EINVAL, "ANA Group Identifier Invalid"},
    {0x125, EIO, "ANA Attach Failed"},
    {0x126, ENOSPC, "Insufficient Capacity"},
    {0x127, ENOSPC, "Namespace Attachment Limit Exceeded"},
    {0x128, ENOTSUP, "Prohibition of Command Execution Not Supported"},
    {0x129, ENOTSUP, "I/O Command Set Not Supported"},
    {0x12a, ENOTSUP, "I/O Command Set Not Enabled"},
    {0x12b, EINVAL, "I/O Command Set Combination Rejected"},
    {0x12c, EINVAL, "Invalid I/O Command Set"},
    {0x12d, EBUSY, "Identifier Unavailable"},
    {0x17f, ENOSPC, "Stream Resource Allocation Failed"},
    {0x180, EINVAL, "Conflicting Attributes"},
    {0x181, EILSEQ, "Invalid Protection Information"},
    {0x182, EROFS, "Attempted Write to Read Only Range"},
    {0x183, EINVAL, "Command Size Limit Exceeded"},
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
    {0x288, EILSEQ, "End-to-end Storage Tag Check Error"},
    {0x300, EIO, "Internal Path Error"},
    {0x301, EIO, "Asymmetric Access Persistent Loss"},
    {0x302, EAGAIN, "Asymmetric Access Inaccessible"},
    {0x303, EAGAIN, "Asymmetric Access Transition"},
    {0x360, EIO, "Controller Pathing Error"},
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
    const std::string_view other = code >> 8 == 7 ? "Vendor specific status" : "Unknown status";
    return fmt::format("{} (NVMe status type {:x}h code {:02x}h)",
                       known != nullptr ? known->text : other, code >> 8, code & 0xff);
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
