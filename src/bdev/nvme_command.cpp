// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/bdev/nvme_command.hpp"

namespace nacre {

// Whatever is not known here may write: another specification's commands, and vendors'.
bool only_reads(const nvme_command& command, opcode code) noexcept {
    if (code == opcode::nvme_admin) {
        switch (command.opcode) {
            case 0x02:  // Get Log Page
            case 0x06:  // Identify
            case 0x0a:  // Get Features
            case 0x86:  // Get LBA Status
                return true;
            default:
                return false;
        }
    }
    switch (command.opcode) {
        case 0x00:  // Flush
        case 0x02:  // Read
        case 0x05:  // Compare
        case 0x0c:  // Verify
        case 0x0e:  // Reservation Report
        case 0x7a:  // Zone Management Receive
            return true;
        default:
            return false;
    }
}

}  // namespace nacre
