// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/nvme/spec.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstring>

#include "nacre/core/bytes.hpp"

namespace nacre::nvme {
namespace {

using page = std::array<std::byte, identify_bytes>;

void put_text(page& p, std::size_t at, std::string_view text) {
    std::memcpy(p.data() + at, text.data(), text.size());
}

TEST(nvme_spec, puts_the_fields_of_commands_in_their_places) {
    const nvme_command read = on_blocks(io::read, 7, 0x123456789aULL, 65536);
    EXPECT_EQ(read.opcode, 2);
    EXPECT_EQ(read.nsid, 7U);
    EXPECT_EQ(read.cdw10, 0x3456789aU);
    EXPECT_EQ(read.cdw11, 0x12U);
    EXPECT_EQ(read.cdw12, 0xffffU);
    EXPECT_EQ(on_blocks(io::write, 1, 0, 1).cdw12, 0U);
    const nvme_command trim = deallocate(3);
    EXPECT_EQ(trim.opcode, 9);
    EXPECT_EQ(trim.cdw10, 0U);
    EXPECT_EQ(trim.cdw11, 4U);
    const nvme_command who = identify(identify_what::controller_of_set, 0, command_set::zoned);
    EXPECT_EQ(who.cdw10, 6U);
    EXPECT_EQ(who.cdw11, 0x02000000U);
    const nvme_command report = report_zones(1, 512, 4096);
    EXPECT_EQ(report.opcode, 0x7a);
    EXPECT_EQ(report.cdw12, 1023U);
    EXPECT_EQ(report.cdw13, 0x10000U);
    const nvme_command reset_all = manage_zone(1, 0, {zone_action::reset, true});
    EXPECT_EQ(reset_all.opcode, 0x79);
    EXPECT_EQ(reset_all.cdw13, 0x104U);
}

TEST(identify_data, of_a_controller) {
    page p{};
    put_text(p, 4, "S1 2                ");
    put_text(p, 24, "Model                                   ");
    put_text(p, 64, "1.0     ");
    EXPECT_EQ(parse_controller(p).transfer_bytes_max, 0U);
    p[77] = std::byte{5};
    store_le<std::uint16_t>(p.data() + 520, 0x0c);
    p[525] = std::byte{7};
    const controller_facts f = parse_controller(p);
    EXPECT_EQ(f.serial, "S1 2");
    EXPECT_EQ(f.model, "Model");
    EXPECT_EQ(f.firmware, "1.0");
    EXPECT_EQ(f.transfer_bytes_max, 131072U);
    EXPECT_TRUE(f.deallocates && f.writes_zeroes && f.has_write_cache);
    EXPECT_FALSE(f.compares);
    p[77] = std::byte{255};  // a shift that no integer has
    EXPECT_EQ(parse_controller(p).transfer_bytes_max, 0U);
}

TEST(identify_data, of_a_namespace) {
    page p{};
    store_le<std::uint64_t>(p.data(), 1000);
    EXPECT_EQ(parse_namespace(p).block_size, 0U) << "a format that is not there";
    // Format 17, which takes bits of both halves of FLBAS, with metadata among the data.
    p[26] = std::byte{0x10 | 0x20 | 0x01};
    store_le<std::uint16_t>(p.data() + 128 + 17 * 4, 8);
    p[128 + 17 * 4 + 2] = std::byte{12};
    p[29] = std::byte{0x0a};
    p[104] = std::byte{1};
    p[127] = std::byte{2};
    const namespace_facts f = parse_namespace(p);
    EXPECT_EQ(f.blocks, 1000U);
    EXPECT_EQ(f.format, 17U);
    EXPECT_EQ(f.block_size, 4096U);
    EXPECT_EQ(f.metadata_size, 8U);
    EXPECT_TRUE(f.metadata_interleaved);
    EXPECT_EQ(f.protection, 2);
    EXPECT_EQ(f.guid[0], std::byte{1});
    EXPECT_EQ(f.extended_id[7], std::byte{2});
    p[128 + 17 * 4 + 2] = std::byte{64};
    EXPECT_EQ(parse_namespace(p).block_size, 0U);
}

TEST(identify_data, of_a_namespaces_identity) {
    page p{};
    EXPECT_FALSE(parse_identity(p).id);
    EXPECT_EQ(parse_identity(p).set, command_set::nvm);
    // An EUI64, a UUID, the command set.
    p[0] = std::byte{1};
    p[1] = std::byte{8};
    p[12] = std::byte{3};
    p[13] = std::byte{16};
    p[16] = std::byte{0xaa};
    p[32] = std::byte{4};
    p[33] = std::byte{1};
    p[36] = std::byte{2};
    const namespace_identity f = parse_identity(p);
    EXPECT_EQ(f.id->to_string(), "aa000000-0000-0000-0000-000000000000");
    EXPECT_EQ(f.set, command_set::zoned);
    // Lengths that lead past the end, and a list that fills the page.
    p.fill(std::byte{255});
    EXPECT_FALSE(parse_identity(p).id);
}

TEST(identify_data, of_zones) {
    page p{};
    store_le<std::uint32_t>(p.data() + 4, 13);
    store_le<std::uint32_t>(p.data() + 8, UINT32_MAX);
    store_le<std::uint64_t>(p.data() + 2816 + 16 * 2, 1024);
    const zoned_facts f = parse_zoned_namespace(p, 2);
    EXPECT_EQ(f.active_zones_max, 14U);
    EXPECT_EQ(f.open_zones_max, 0U);
    EXPECT_EQ(f.zone_size, 1024U);
    EXPECT_EQ(parse_append_bytes_max(p), 0U);
    p[0] = std::byte{3};
    EXPECT_EQ(parse_append_bytes_max(p), 32768U);
}

TEST(zone_reports, are_read_as_far_as_they_and_the_room_go) {
    std::array<std::byte, zone_report_head_bytes + 2 * zone_descriptor_bytes> report{};
    store_le<std::uint64_t>(report.data(), 1000);  // says more than it has
    std::byte* const second = report.data() + zone_report_head_bytes + zone_descriptor_bytes;
    second[0] = std::byte{2};
    second[1] = std::byte{0xe0};
    store_le<std::uint64_t>(second + 8, 768);
    store_le<std::uint64_t>(second + 16, 1024);
    store_le<std::uint64_t>(second + 24, 1792);
    std::array<zone_descriptor, 4> zones;
    EXPECT_EQ(parse_zone_report(report, zones), 2U);
    EXPECT_EQ(zones[1].state, zone_state::full);
    EXPECT_EQ(zones[1].capacity.value(), 768U);
    EXPECT_EQ(zones[1].start.value(), 1024U);
    EXPECT_EQ(zones[1].write_pointer.value(), 1792U);
    EXPECT_EQ(parse_zone_report(report, std::span(zones).first(1)), 1U);
    EXPECT_EQ(parse_zone_report(std::span(report).first(63), zones), 0U);
    store_le<std::uint64_t>(report.data(), 0);
    EXPECT_EQ(parse_zone_report(report, zones), 0U);
}

}  // namespace
}  // namespace nacre::nvme
