// SPDX-License-Identifier: BSD-3-Clause
//
// A bdev as bdev_get_bdevs shows it. The keys and their order are those of SPDK's
// rpc_dump_bdev_info.
#include <algorithm>
#include <optional>

#include "nacre/bdev/registry.hpp"
#include "tables.hpp"

namespace nacre::rpc {

namespace {

// Those without an opcode are things that nacre's bdevs never do, but for nvme_io_md: an nvme_io.
struct io_type {
    std::string_view name;
    std::optional<opcode> operation;
};
constexpr std::string_view nvme_io_md = "nvme_io_md";
constexpr io_type io_types[] = {{"read", opcode::read},
                                {"write", opcode::write},
                                {"unmap", opcode::unmap},
                                {"flush", opcode::flush},
                                {"reset", opcode::reset},
                                {"nvme_admin", opcode::nvme_admin},
                                {"nvme_io", opcode::nvme_io},
                                {nvme_io_md, std::nullopt},
                                {"write_zeroes", opcode::write_zeroes},
                                {"zcopy", opcode::zcopy},
                                {"get_zone_info", opcode::zone_report},
                                {"zone_management", opcode::zone_manage},
                                {"zone_append", opcode::zone_append},
                                {"compare", opcode::compare},
                                {"compare_and_write", opcode::compare_and_write},
                                {"abort", opcode::abort},
                                {"seek_hole", opcode::seek_hole},
                                {"seek_data", opcode::seek_data},
                                {"copy", opcode::copy},
                                {"nvme_iov_md", std::nullopt},
                                {"nvme_nssr", std::nullopt},
                                {"write_uncorrectable", std::nullopt}};

/// Of what the block layer does by other operations SPDK names write_zeroes alone.
bool shown_as_supported(const bdev& device, opcode op) {
    return (device.operations() & bit(op)) != 0 ||
           (op == opcode::write_zeroes && device.supports(op));
}

json::object supported_io_types(const bdev& device) {
    json::object types;
    for (const io_type& t : io_types)
        types.append(std::string(t.name),
                     t.operation.has_value()
                         ? shown_as_supported(device, *t.operation)
                         : t.name == nvme_io_md && device.attributes().takes_nvme_metadata());
    return types;
}

void append_metadata(json::object& shown, const bdev_attributes& a) {
    shown.append("md_size", a.metadata_size);
    shown.append("md_interleave", a.metadata_interleaved);
    shown.append("dif_type", static_cast<unsigned>(a.protection));
    if (a.protection == protection_type::none) return;
    const auto checks = [&](std::uint8_t what) { return (a.protection_checks & what) != 0; };
    shown.append("dif_is_head_of_md", a.protection_at_head);
    shown.append("enabled_dif_check_types", json::object{{"reftag", checks(check_reference)},
                                                         {"apptag", checks(check_application)},
                                                         {"guard", checks(check_guard)}});
    shown.append("dif_pi_format", 0);  // the 16-bit guard
}

json::array aliases_of(const bdev_attributes& a) {
    json::array aliases;
    for (const std::string& alias : a.aliases) aliases.emplace_back(alias);
    const std::string id = a.id.to_string();
    if (id != a.name && std::ranges::find(a.aliases, id) == a.aliases.end())
        aliases.emplace_back(id);
    return aliases;
}

}  // namespace

const std::optional<opcode>* io_type_named(std::string_view name) noexcept {
    const auto* found = std::ranges::find(io_types, name, &io_type::name);
    return found == std::end(io_types) ? nullptr : &found->operation;
}

json::value describe_bdev(bdev& device) {
    const bdev_attributes& a = device.attributes();
    json::object shown{{"name", a.name},
                       {"aliases", aliases_of(a)},
                       {"product_name", a.product_name},
                       {"block_size", a.block_size.value()},
                       {"num_blocks", device.blocks().value()},
                       {"preferred_write_alignment", a.preferred.write_alignment},
                       {"preferred_write_granularity", a.preferred.write_granularity},
                       {"optimal_write_size", a.preferred.optimal_write},
                       {"preferred_unmap_alignment", a.preferred.unmap_alignment},
                       {"preferred_unmap_granularity", a.preferred.unmap_granularity},
                       {"uuid", a.id.to_string()}};
    if (a.numa_id) shown.append("numa_id", *a.numa_id);
    if (a.metadata_size != 0) append_metadata(shown, a);
    shown.append("assigned_rate_limits", assigned_limits(device));
    const claim held = device.claimed();
    shown.append("claimed", held != claim::none);
    if (held != claim::none) shown.append("claim_type", name_of(held));
    shown.append("zoned", a.is_zoned());
    if (a.is_zoned()) {
        shown.append("zone_size", a.zoned.zone_size.value());
        shown.append("max_open_zones", a.zoned.open_zones_max);
        shown.append("optimal_open_zones", a.zoned.optimal_open_zones != 0
                                               ? a.zoned.optimal_open_zones
                                               : a.zoned.open_zones_max);
    }
    shown.append("supported_io_types", supported_io_types(device));
    shown.append("driver_specific", device.information());
    return shown;
}

}  // namespace nacre::rpc
