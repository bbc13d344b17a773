// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/nvme/scsi_status.hpp"

#include <gtest/gtest.h>

namespace nacre::nvme {
namespace {

std::string scsi(std::uint8_t type, std::uint8_t code) {
    return describe(to_scsi_status(error::nvme(type, code)));
}

TEST(nvme_status, has_a_text_of_every_kind) {
    EXPECT_EQ(nacre::describe(error::nvme(0, 0x02)),
              "Invalid Field in Command (NVMe status type 0h code 02h)");
    EXPECT_EQ(nacre::describe(error::nvme(1, 0x16)),
              "Namespace Identifier Unavailable (NVMe status type 1h code 16h)");
    EXPECT_EQ(nacre::describe(error::nvme(1, 0xbc)),
              "Zone Invalid Write (NVMe status type 1h code bch)");
    EXPECT_EQ(nacre::describe(error::nvme(2, 0x86)),
              "Access Denied (NVMe status type 2h code 86h)");
    EXPECT_EQ(nacre::describe(error::nvme(3, 0x01)),
              "Asymmetric Access Persistent Loss (NVMe status type 3h code 01h)");
    EXPECT_EQ(nacre::describe(error::nvme(7, 0x01)),
              "Vendor specific status (NVMe status type 7h code 01h)");
    EXPECT_EQ(nacre::describe(error::nvme(5, 0x01)),
              "Unknown status (NVMe status type 5h code 01h)");
}

TEST(nvme_status, is_found_for_every_failure) {
    EXPECT_TRUE(to_nvme_status({}).ok());
    EXPECT_EQ(to_nvme_status(error::nvme(1, 0xb9)), error::nvme(1, 0xb9));
    EXPECT_EQ(to_nvme_status(error::posix(EILSEQ)), error::nvme(2, 0x85));
    EXPECT_EQ(to_nvme_status(error::posix(ECANCELED)), error::nvme(0, 0x07));
    EXPECT_EQ(to_nvme_status(error::posix(EIO)), error::nvme(0, 0x06));
}

// As SPDK's scsi_nvme.c translates, row by row.
TEST(scsi_status, is_that_of_the_nvme_status) {
    EXPECT_EQ(describe(to_scsi_status({})), "GOOD");
    EXPECT_EQ(scsi(0, 0x01),
              "CHECK CONDITION, ILLEGAL REQUEST, 20h/00h Invalid command operation code");
    EXPECT_EQ(scsi(0, 0x02), "CHECK CONDITION, ILLEGAL REQUEST, 24h/00h Invalid field in CDB");
    EXPECT_EQ(scsi(0, 0x04),
              "CHECK CONDITION, MEDIUM ERROR, 00h/00h No additional sense information");
    EXPECT_EQ(scsi(0, 0x05),
              "TASK ABORTED, ABORTED COMMAND, 0bh/08h Warning - power loss expected");
    EXPECT_EQ(scsi(0, 0x06), "CHECK CONDITION, HARDWARE ERROR, 44h/00h Internal target failure");
    for (const std::uint8_t code : {0x07, 0x08, 0x09, 0x0a})
        EXPECT_EQ(scsi(0, code),
                  "TASK ABORTED, ABORTED COMMAND, 00h/00h No additional sense information");
    EXPECT_EQ(scsi(0, 0x0b),
              "CHECK CONDITION, ILLEGAL REQUEST, 20h/09h Access denied - invalid LU identifier");
    EXPECT_EQ(scsi(0, 0x80),
              "CHECK CONDITION, ILLEGAL REQUEST, 21h/00h Logical block address out of range");
    EXPECT_EQ(scsi(0, 0x81), scsi(0, 0x04));
    EXPECT_EQ(scsi(0, 0x82),
              "CHECK CONDITION, NOT READY, 04h/00h Logical unit not ready, cause not reportable");
    EXPECT_EQ(scsi(0, 0x83),
              "RESERVATION CONFLICT, NO SENSE, 00h/00h No additional sense information");
    EXPECT_EQ(scsi(1, 0x0a), "CHECK CONDITION, ILLEGAL REQUEST, 31h/01h Format command failed");
    EXPECT_EQ(scsi(1, 0x80), scsi(0, 0x02));
    EXPECT_EQ(scsi(1, 0x82), "CHECK CONDITION, DATA PROTECT, 27h/00h Write protected");
    EXPECT_EQ(scsi(2, 0x80),
              "CHECK CONDITION, MEDIUM ERROR, 03h/00h Peripheral device write fault");
    EXPECT_EQ(scsi(2, 0x81), "CHECK CONDITION, MEDIUM ERROR, 11h/00h Unrecovered read error");
    EXPECT_EQ(scsi(2, 0x82),
              "CHECK CONDITION, MEDIUM ERROR, 10h/01h Logical block guard check failed");
    EXPECT_EQ(scsi(2, 0x83),
              "CHECK CONDITION, MEDIUM ERROR, 10h/02h Logical block application tag check failed");
    EXPECT_EQ(scsi(2, 0x84),
              "CHECK CONDITION, MEDIUM ERROR, 10h/03h Logical block reference tag check failed");
    EXPECT_EQ(scsi(2, 0x85),
              "CHECK CONDITION, MISCOMPARE, 1dh/00h Miscompare during verify operation");
    EXPECT_EQ(scsi(2, 0x86),
              "CHECK CONDITION, DATA PROTECT, 20h/02h Access denied - no access rights");
    const scsi_status other{0x02, 0x05, 0, 0};
    EXPECT_EQ(to_scsi_status(error::nvme(1, 0xb9)), other);
    EXPECT_EQ(to_scsi_status(error::nvme(2, 0x87)), other);
    EXPECT_EQ(to_scsi_status(error::nvme(7, 0x01)), other);
}

TEST(scsi_status, of_other_failures_is_an_aborted_command_or_a_miscompare) {
    EXPECT_EQ(describe(to_scsi_status(error::posix(EIO))),
              "CHECK CONDITION, ABORTED COMMAND, 00h/00h No additional sense information");
    EXPECT_EQ(to_scsi_status(error::posix(EILSEQ)), to_scsi_status(error::nvme(2, 0x85)));
}

}  // namespace
}  // namespace nacre::nvme
