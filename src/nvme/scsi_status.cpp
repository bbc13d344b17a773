// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/nvme/scsi_status.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace nacre::nvme {
namespace {

// SAM-5 table 44.
constexpr std::uint8_t good = 0x00, check_condition = 0x02, reservation_conflict = 0x18,
                       task_aborted = 0x40;
// SPC-4 table 49.
constexpr std::uint8_t no_sense = 0x0, not_ready = 0x2, medium_error = 0x3, hardware_error = 0x4,
                       illegal_request = 0x5, data_protect = 0x7, aborted_command = 0xb,
                       miscompare = 0xe;

struct row {
    std::uint16_t nvme;  // type << 8 | code
    scsi_status scsi;
};
// Everything that is not here is an illegal request without more.
constexpr scsi_status any_other{check_condition, illegal_request, 0x00, 0x00};
constexpr auto rows = std::to_array<row>({
    {0x000, {good, no_sense, 0x00, 0x00}},
    {0x001, {check_condition, illegal_request, 0x20, 0x00}},
    {0x002, {check_condition, illegal_request, 0x24, 0x00}},
    {0x004, {check_condition, medium_error, 0x00, 0x00}},
    {0x005, {task_aborted, aborted_command, 0x0b, 0x08}},
    {0x006, {check_condition, hardware_error, 0x44, 0x00}},
    {0x007, {task_aborted, aborted_command, 0x00, 0x00}},
    {0x008, {task_aborted, aborted_command, 0x00, 0x00}},
    {0x009, {task_aborted, aborted_command, 0x00, 0x00}},
    {0x00a, {task_aborted, aborted_command, 0x00, 0x00}},
    {0x00b, {check_condition, illegal_request, 0x20, 0x09}},
    {0x080, {check_condition, illegal_request, 0x21, 0x00}},
    {0x081, {check_condition, medium_error, 0x00, 0x00}},
    {0x082, {check_condition, not_ready, 0x04, 0x00}},
    {0x083, {reservation_conflict, no_sense, 0x00, 0x00}},
    {0x10a, {check_condition, illegal_request, 0x31, 0x01}},
    {0x180, {check_condition, illegal_request, 0x24, 0x00}},
    {0x182, {check_condition, data_protect, 0x27, 0x00}},
    {0x280, {check_condition, medium_error, 0x03, 0x00}},
    {0x281, {check_condition, medium_error, 0x11, 0x00}},
    {0x282, {check_condition, medium_error, 0x10, 0x01}},
    {0x283, {check_condition, medium_error, 0x10, 0x02}},
    {0x284, {check_condition, medium_error, 0x10, 0x03}},
    {0x285, {check_condition, miscompare, 0x1d, 0x00}},
    {0x286, {check_condition, data_protect, 0x20, 0x02}},
});
static_assert(std::ranges::is_sorted(rows, {}, &row::nvme));

struct word {
    std::uint16_t value;
    std::string_view text;
};
constexpr auto statuses = std::to_array<word>({
    {good, "GOOD"},
    {check_condition, "CHECK CONDITION"},
    {reservation_conflict, "RESERVATION CONFLICT"},
    {task_aborted, "TASK ABORTED"},
});
constexpr auto sense_keys = std::to_array<word>({
    {no_sense, "NO SENSE"},
    {not_ready, "NOT READY"},
    {medium_error, "MEDIUM ERROR"},
    {hardware_error, "HARDWARE ERROR"},
    {illegal_request, "ILLEGAL REQUEST"},
    {data_protect, "DATA PROTECT"},
    {aborted_command, "ABORTED COMMAND"},
    {miscompare, "MISCOMPARE"},
});
// SPC-4 annex F.2: code << 8 | qualifier.
constexpr auto additional = std::to_array<word>({
    {0x0000, "No additional sense information"},
    {0x0300, "Peripheral device write fault"},
    {0x0400, "Logical unit not ready, cause not reportable"},
    {0x0b08, "Warning - power loss expected"},
    {0x1001, "Logical block guard check failed"},
    {0x1002, "Logical block application tag check failed"},
    {0x1003, "Logical block reference tag check failed"},
    {0x1100, "Unrecovered read error"},
    {0x1d00, "Miscompare during verify operation"},
    {0x2000, "Invalid command operation code"},
    {0x2002, "Access denied - no access rights"},
    {0x2009, "Access denied - invalid LU identifier"},
    {0x2100, "Logical block address out of range"},
    {0x2400, "Invalid field in CDB"},
    {0x2700, "Write protected"},
    {0x3101, "Format command failed"},
    {0x4400, "Internal target failure"},
});

template <std::size_t N>
std::string_view text_of(const std::array<word, N>& words, unsigned value) noexcept {
    const auto* found = std::ranges::find(words, value, &word::value);
    return found == words.end() ? std::string_view("unknown") : found->text;
}

}  // namespace

error to_nvme_status(error e) noexcept {
    if (e.ok() || e.domain() == error_domain::nvme) return e;
    switch (e.to_errno()) {
        case EILSEQ:
            return error::nvme(2, 0x85);  // Compare Failure
        case ECANCELED:
        case ETIMEDOUT:
            return error::nvme(0, 0x07);  // Command Abort Requested
        default:
            return error::nvme(0, 0x06);  // Internal Error
    }
}

scsi_status to_scsi_status(error e) noexcept {
    if (e.ok()) return {};
    if (e.domain() != error_domain::nvme) {
        if (e.is(EILSEQ)) return {check_condition, miscompare, 0x1d, 0x00};
        return {check_condition, aborted_command, 0x00, 0x00};
    }
    const auto* found = std::ranges::lower_bound(rows, e.code(), {}, &row::nvme);
    return found != rows.end() && found->nvme == e.code() ? found->scsi : any_other;
}

std::string describe(const scsi_status& s) {
    const unsigned code = s.additional_code << 8 | s.additional_qualifier;
    if (s.status == good) return "GOOD";
    return fmt::format("{}, {}, {:02x}h/{:02x}h {}", text_of(statuses, s.status),
                       text_of(sense_keys, s.sense_key), s.additional_code, s.additional_qualifier,
                       text_of(additional, code));
}

}  // namespace nacre::nvme
