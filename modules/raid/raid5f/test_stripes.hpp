// SPDX-License-Identifier: BSD-3-Clause
//
// For the tests of raid5f: stripes of known contents.
#pragma once

#include <algorithm>

#include "modules/raid/test_scenario.hpp"

namespace nacre::raid {

inline constexpr std::uint64_t strip = 4;  ///< blocks of 16 KiB

inline task<void> make_raid5f(test_bed& b, std::string_view legs, bool with_superblock) {
    raid_options o = test_bed::options_of(raid_level::raid5f, legs);
    o.superblock = with_superblock;
    co_await b.make(std::move(o));
}

[[nodiscard]] inline task<result<>> write_stripes(test_bed& b, std::uint64_t first,
                                                  std::uint64_t count, std::uint64_t version) {
    outcome<bdev_desc> desc = b.registry->open("r0", access::write);
    if (!desc) co_return fail(desc.error().code);
    outcome<bdev_channel> channel = desc->open_channel();
    if (!channel) co_return fail(channel.error().code);
    const std::uint64_t unit = desc->device().attributes().write_unit.value();
    std::vector<std::byte> data(count * unit * block_bytes);
    for (std::uint64_t i = 0; i < count * unit; ++i)
        std::fill_n(data.begin() + static_cast<std::ptrdiff_t>(i * block_bytes), block_bytes,
                    test_bed::pattern(first * unit + i, version));
    const const_iov_view view(data.data(), data.size());
    result<> written = co_await channel->write(lba(first * unit), view);
    co_return written;
}

/// All of the stripes are of this version, by one read.
[[nodiscard]] inline task<bool> holds(test_bed& b, std::uint64_t first, std::uint64_t count,
                                      std::uint64_t version) {
    outcome<bdev_desc> desc = b.registry->open("r0", access::read);
    if (!desc) co_return false;
    outcome<bdev_channel> channel = desc->open_channel();
    if (!channel) co_return false;
    const std::uint64_t unit = desc->device().attributes().write_unit.value();
    std::vector<std::byte> data(count * unit * block_bytes);
    const iov_view view(data.data(), data.size());
    result<> got = co_await channel->read(lba(first * unit), view);
    if (!got) co_return false;
    for (std::size_t i = 0; i < data.size(); ++i)
        if (data[i] != test_bed::pattern(first * unit + i / block_bytes, version)) co_return false;
    co_return true;
}

/// The exclusive or of the disks' data is zero everywhere.
[[nodiscard]] inline bool parity_right(test_bed& b, std::string_view disks,
                                       std::uint64_t offset = data_at) {
    std::vector<std::byte> sum(disk_bytes - offset), one(disk_bytes - offset);
    for (const char disk : disks) {
        b.disk(std::string(1, disk)).peek(offset, one);
        for (std::size_t i = 0; i < sum.size(); ++i) sum[i] ^= one[i];
    }
    return std::ranges::all_of(sum, [](std::byte x) { return x == std::byte{0}; });
}

}  // namespace nacre::raid
