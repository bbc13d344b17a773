// SPDX-License-Identifier: BSD-3-Clause
#include "ublk_wire.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "nacre/core/bytes.hpp"

namespace nacre::ublk {
namespace {

constexpr std::uint64_t page_bytes = 4096;  // the kernel's bound for a block
/// Of a discard or zeroing: one request keeps a reactor for that long at most.
constexpr std::uint32_t trim_sectors_max = (64U << 20) / sector_bytes;

std::uint8_t shift_of(std::uint64_t power_of_two) noexcept {
    return static_cast<std::uint8_t>(std::countr_zero(power_of_two));
}

/// Zones that begin at `first`; a reset of all has none.
result<request> check_zone(const request& r, const geometry& of) noexcept {
    if (of.zone_blocks == 0) return fail(EOPNOTSUPP);
    if (r.first >= of.blocks || r.first % of.zone_blocks != 0) return fail(EINVAL);
    request checked = r;
    if (r.what != operation::zone_report) {
        checked.blocks = 0;
        return checked;
    }
    const std::uint64_t zones = (of.blocks - r.first) / of.zone_blocks;
    checked.blocks =
        std::min({r.blocks, zones, of.io_bytes_max / std::uint64_t{sizeof(zone_report_entry)}});
    if (checked.blocks == 0) return fail(EINVAL);
    checked.bytes = checked.blocks * sizeof(zone_report_entry);
    return checked;
}

outcome<> describe_zones(device_params& to, const bdev& device) {
    const zoned_attributes& z = device.attributes().zoned;
    const std::uint64_t zone_bytes = (z.zone_size * device.block_size()).value();
    const std::uint64_t zones = device.blocks().value() / z.zone_size.value();
    if (!std::has_single_bit(zone_bytes) || zone_bytes / sector_bytes > UINT32_MAX)
        return fail(ENOTSUP, fmt::format("bdev {}: has zones of {} bytes; Linux takes powers of "
                                         "two only",
                                         device.name(), zone_bytes));
    if (device.blocks().value() % z.zone_size.value() != 0)
        return fail(ENOTSUP,
                    fmt::format("bdev {}: ends with a part of a zone, which Linux does not take",
                                device.name()));
    const auto limit = [&](std::uint32_t n) { return n >= zones ? 0U : n; };
    to.kinds |= parameters_of::zoned;
    to.chunk_sectors = static_cast<std::uint32_t>(zone_bytes / sector_bytes);
    to.open_zones_max = limit(z.open_zones_max);
    to.active_zones_max = limit(z.active_zones_max);
    const std::uint64_t append_blocks =
        z.append_blocks_max != 0 ? z.append_blocks_max : z.zone_capacity.value();
    to.append_sectors_max = static_cast<std::uint32_t>(std::min<std::uint64_t>(
        append_blocks * (device.block_size().value() / sector_bytes), to.sectors_max));
    return {};
}

}  // namespace

const char* name_of(control_code c) noexcept {
    switch (c) {
        case control_code::get_info:
            return "GET_DEV_INFO";
        case control_code::add:
            return "ADD_DEV";
        case control_code::remove:
            return "DEL_DEV";
        case control_code::start:
            return "START_DEV";
        case control_code::stop:
            return "STOP_DEV";
        case control_code::set_params:
            return "SET_PARAMS";
        case control_code::get_params:
            return "GET_PARAMS";
        case control_code::start_recovery:
            return "START_USER_RECOVERY";
        case control_code::end_recovery:
            return "END_USER_RECOVERY";
        case control_code::get_features:
            return "GET_FEATURES";
        case control_code::remove_later:
            return "DEL_DEV_ASYNC";
    }
    return "a command";
}

result<request> check(const io_descriptor& from, const geometry& of) noexcept {
    request r;
    r.what = static_cast<operation>(from.operation_and_flags & 0xff);
    r.fua = (from.operation_and_flags & flag_fua) != 0;
    switch (r.what) {
        case operation::flush:
            return r;
        case operation::zone_reset_all:
            if (of.zone_blocks == 0) return fail(EOPNOTSUPP);
            if (!of.writable) return fail(EROFS);
            return r;
        case operation::read:
        case operation::zone_report:
            break;
        case operation::write:
        case operation::discard:
        case operation::write_zeroes:
        case operation::zone_open:
        case operation::zone_close:
        case operation::zone_finish:
        case operation::zone_append:
        case operation::zone_reset:
            if (!of.writable) return fail(EROFS);
            break;
        default:
            return fail(EOPNOTSUPP);
    }
    const std::uint64_t sectors = of.sectors_a_block();
    if (from.first_sector % sectors != 0) return fail(EINVAL);
    r.first = from.first_sector / sectors;
    if (r.what >= operation::zone_open && r.what != operation::zone_append) {
        r.blocks = from.sectors;
        return check_zone(r, of);
    }
    if (from.sectors == 0 || from.sectors % sectors != 0) return fail(EINVAL);
    r.blocks = from.sectors / sectors;
    if (r.blocks > of.blocks || r.first > of.blocks - r.blocks) return fail(EINVAL);
    if (r.what == operation::zone_append) {
        if (of.zone_blocks == 0) return fail(EOPNOTSUPP);
        if (r.first % of.zone_blocks != 0) return fail(EINVAL);
    }
    if (r.what == operation::discard || r.what == operation::write_zeroes) return r;
    r.bytes = r.blocks * of.block_bytes;
    if (r.bytes > of.io_bytes_max) return fail(EINVAL);
    return r;
}

std::int32_t to_result(error e) noexcept {
    if (e == zone_error::too_many_active) return -EOVERFLOW;
    if (e == zone_error::too_many_open) return -ETOOMANYREFS;
    switch (const int number = e.to_errno()) {
        case 0:
        case EOPNOTSUPP:
        case ETIMEDOUT:
        case ENOSPC:
        case ENOLINK:
        case EREMOTEIO:
        case ENODATA:
        case EILSEQ:
        case ENODEV:
        case EINVAL:
            return -number;
        default:
            return -EIO;
    }
}

outcome<device_params> describe_disk(const bdev& device, std::uint32_t io_bytes_max) {
    const bdev_attributes& a = device.attributes();
    const std::uint64_t block = device.block_size().value();
    if (a.metadata_interleaved)
        return fail(ENOTSUP, fmt::format("bdev {}: has metadata between its blocks, which a Linux "
                                         "disk cannot carry",
                                         device.name()));
    if (block > page_bytes)
        return fail(ENOTSUP, fmt::format("bdev {}: has blocks of {} bytes; Linux takes up to {}",
                                         device.name(), block, page_bytes));
    device_params p{};
    p.length = sizeof p;
    p.kinds = parameters_of::basic;
    if (!device.supports(opcode::write)) p.attributes |= attribute::read_only;
    if (a.write_cache) p.attributes |= attribute::volatile_cache | attribute::fua;
    const std::uint64_t physical = std::has_single_bit(std::uint64_t{a.physical_block_size})
                                       ? std::max<std::uint64_t>(a.physical_block_size, block)
                                       : block;
    const std::uint64_t optimal = (a.optimal_boundary * device.block_size()).value();
    p.logical_block_shift = shift_of(block);
    p.physical_block_shift = shift_of(physical);
    p.io_minimum_shift = shift_of(physical);
    p.io_optimal_shift =
        std::has_single_bit(optimal) && optimal >= physical && optimal <= io_bytes_max
            ? shift_of(optimal)
            : shift_of(physical);
    p.sectors_max = static_cast<std::uint32_t>(io_bytes_max / sector_bytes);
    p.device_sectors = device.blocks().value() * (block / sector_bytes);
    if (a.is_zoned()) {
        outcome<> described = describe_zones(p, device);
        if (!described) return fail(std::move(described.error()));
        return p;
    }
    const bool unmap = device.supports(opcode::unmap);
    const bool zeroes = device.supports(opcode::write_zeroes);
    if (unmap || zeroes) {
        p.kinds |= parameters_of::discard;
        p.discard_granularity = static_cast<std::uint32_t>(block);
        p.discard_segments_max = 1;
        p.discard_sectors_max = unmap ? trim_sectors_max : 0;
        p.write_zeroes_sectors_max = zeroes ? trim_sectors_max : 0;
    }
    return p;
}

void fill_report(zone_report_entry& to, const zone_descriptor& from, const geometry& of) noexcept {
    constexpr std::uint8_t sequential_write_required = 2;
    const std::uint64_t sectors = of.sectors_a_block();
    to = zone_report_entry{};
    to.start = from.start.value() * sectors;
    to.length = of.zone_blocks * sectors;
    // Linux counts a write pointer that means nothing as the zone's end.
    const bool meaningful = from.state != zone_state::full && from.state != zone_state::read_only &&
                            from.state != zone_state::offline;
    to.write_pointer = meaningful ? from.write_pointer.value() * sectors : to.start + to.length;
    to.type = sequential_write_required;
    to.condition = static_cast<std::uint8_t>(from.state);
    to.capacity = from.capacity.value() * sectors;
}

}  // namespace nacre::ublk
