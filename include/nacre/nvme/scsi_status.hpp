// SPDX-License-Identifier: BSD-3-Clause
//
// What a failed I/O is called elsewhere: as an NVMe status, whatever it failed with, and as SCSI
// status and sense data. The translations are those of SPDK (spdk_bdev_io_get_nvme_status,
// spdk_bdev_io_get_scsi_status), so exports by either protocol answer alike. Texts of NVMe statuses
// are describe()'s.
#pragma once

#include <cstdint>
#include <string>

#include "nacre/core/error.hpp"

namespace nacre::nvme {

/// Of the NVMe domain; success is ok.
[[nodiscard]] error to_nvme_status(error e) noexcept;

/// SAM-5 5.3 and SPC-4 4.5.
struct scsi_status {
    std::uint8_t status = 0;  ///< 0: GOOD
    std::uint8_t sense_key = 0;
    std::uint8_t additional_code = 0;       ///< ASC
    std::uint8_t additional_qualifier = 0;  ///< ASCQ
    bool operator==(const scsi_status&) const = default;
};
[[nodiscard]] scsi_status to_scsi_status(error e) noexcept;

/// "CHECK CONDITION, MEDIUM ERROR, 11h/00h Unrecovered read error"
[[nodiscard]] std::string describe(const scsi_status& s);

}  // namespace nacre::nvme
