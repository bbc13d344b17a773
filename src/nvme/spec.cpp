// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/nvme/spec.hpp"

#include <algorithm>

#include "nacre/core/bytes.hpp"

namespace nacre::nvme {
namespace {

/// Fields of text are padded with spaces, Base 1.4.2.
std::string text_at(identify_page page, std::size_t offset, std::size_t bytes) {
    std::string text(text_of(page.subspan(offset, bytes)));
    const auto end = text.find_last_not_of(std::string_view(" \0", 2));
    text.resize(end == std::string::npos ? 0 : end + 1);
    return text;
}
template <typename T>
T at(identify_page page, std::size_t offset) noexcept {
    return load_le<T>(page.data() + offset);
}

nvme_command at_block(std::uint8_t opcode, std::uint32_t nsid, std::uint64_t first) noexcept {
    nvme_command c;
    c.opcode = opcode;
    c.nsid = nsid;
    c.cdw10 = static_cast<std::uint32_t>(first);
    c.cdw11 = static_cast<std::uint32_t>(first >> 32);
    return c;
}

}  // namespace

nvme_command on_blocks(std::uint8_t opcode, std::uint32_t nsid, std::uint64_t first,
                       std::uint64_t blocks) noexcept {
    nvme_command c = at_block(opcode, nsid, first);
    c.cdw12 = static_cast<std::uint32_t>(blocks - 1) & 0xffff;
    return c;
}

nvme_command deallocate(std::uint32_t nsid) noexcept {
    nvme_command c;
    c.opcode = io::dataset_management;
    c.nsid = nsid;
    c.cdw10 = 0;        // one range
    c.cdw11 = 1U << 2;  // Attribute - Deallocate
    return c;
}

nvme_command identify(identify_what what, std::uint32_t nsid, command_set set) noexcept {
    nvme_command c;
    c.opcode = admin::identify;
    c.nsid = nsid;
    c.cdw10 = static_cast<std::uint32_t>(what);
    c.cdw11 = static_cast<std::uint32_t>(set) << 24;
    return c;
}

controller_facts parse_controller(identify_page page) {
    controller_facts f;
    f.serial = text_at(page, 4, 20);
    f.model = text_at(page, 24, 40);
    f.firmware = text_at(page, 64, 8);
    const auto mdts = at<std::uint8_t>(page, 77);
    if (mdts != 0 && mdts < 32) f.transfer_bytes_max = std::uint64_t{4096} << mdts;
    const auto oncs = at<std::uint16_t>(page, 520);
    f.compares = (oncs & 1) != 0;
    f.deallocates = (oncs & 4) != 0;
    f.writes_zeroes = (oncs & 8) != 0;
    f.has_write_cache = (at<std::uint8_t>(page, 525) & 1) != 0;
    return f;
}

namespace_facts parse_namespace(identify_page page) noexcept {
    namespace_facts f;
    f.blocks = at<std::uint64_t>(page, 0);
    const auto flbas = at<std::uint8_t>(page, 26);
    f.format = (flbas & 0xfU) | (flbas >> 1 & 0x30U);
    f.metadata_interleaved = (flbas & 0x10) != 0;
    const std::size_t format_at = 128 + f.format * 4;  // at most 380
    f.metadata_size = at<std::uint16_t>(page, format_at);
    const auto shift = at<std::uint8_t>(page, format_at + 2);
    f.block_size = shift >= 9 && shift <= 16 ? 1ULL << shift : 0;
    f.protection = at<std::uint8_t>(page, 29) & 7;
    std::ranges::copy(page.subspan(104, 16), f.guid.begin());
    std::ranges::copy(page.subspan(120, 8), f.extended_id.begin());
    return f;
}

namespace_identity parse_identity(identify_page page) noexcept {
    constexpr std::size_t head = 4;
    constexpr std::uint8_t of_uuid = 3, of_set = 4;
    namespace_identity found;
    std::size_t offset = 0;
    while (offset + head <= page.size()) {
        const auto type = at<std::uint8_t>(page, offset);
        const auto bytes = at<std::uint8_t>(page, offset + 1);
        if (bytes == 0 || offset + head + bytes > page.size()) break;
        const std::byte* const value = page.data() + offset + head;
        if (type == of_uuid && bytes == uuid::size)
            found.id = uuid(std::span<const std::byte, uuid::size>(value, uuid::size));
        if (type == of_set && bytes == 1)
            found.set = static_cast<command_set>(std::to_integer<std::uint8_t>(*value));
        offset += head + bytes;
    }
    return found;
}

zoned_facts parse_zoned_namespace(identify_page page, unsigned format) noexcept {
    zoned_facts f;
    // 0's based; all ones, no limit, comes out as 0.
    f.active_zones_max = at<std::uint32_t>(page, 4) + 1;
    f.open_zones_max = at<std::uint32_t>(page, 8) + 1;
    f.zone_size = at<std::uint64_t>(page, 2816 + std::size_t{16} * (format & 0x3f));
    return f;
}

std::uint64_t parse_append_bytes_max(identify_page page) noexcept {
    const auto zasl = at<std::uint8_t>(page, 0);
    return zasl == 0 || zasl >= 32 ? 0 : std::uint64_t{4096} << zasl;
}

nvme_command report_zones(std::uint32_t nsid, std::uint64_t first, std::size_t bytes) noexcept {
    nvme_command c = at_block(io::zone_management_receive, nsid, first);
    c.cdw12 = static_cast<std::uint32_t>(bytes / 4 - 1);
    c.cdw13 = 1U << 16;  // Partial Report: the count is of those that are there
    return c;
}

nvme_command manage_zone(std::uint32_t nsid, std::uint64_t first, zone_command what) noexcept {
    nvme_command c = at_block(io::zone_management_send, nsid, first);
    c.cdw13 = static_cast<std::uint32_t>(what.action) | (what.all ? 1U << 8 : 0);
    return c;
}

std::size_t parse_zone_report(std::span<const std::byte> report,
                              std::span<zone_descriptor> into) noexcept {
    if (report.size() < zone_report_head_bytes) return 0;
    const std::uint64_t room = std::min<std::uint64_t>(
        (report.size() - zone_report_head_bytes) / zone_descriptor_bytes, into.size());
    const std::uint64_t count = std::min(load_le<std::uint64_t>(report.data()), room);
    for (std::size_t i = 0; i < count; ++i) {
        const std::byte* const d =
            report.data() + zone_report_head_bytes + i * zone_descriptor_bytes;
        into[i].state = static_cast<zone_state>(load_le<std::uint8_t>(d + 1) >> 4);
        into[i].capacity = block_count(load_le<std::uint64_t>(d + 8));
        into[i].start = lba(load_le<std::uint64_t>(d + 16));
        into[i].write_pointer = lba(load_le<std::uint64_t>(d + 24));
    }
    return count;
}

}  // namespace nacre::nvme
