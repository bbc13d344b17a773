// SPDX-License-Identifier: BSD-3-Clause
//
// For the tests of logical volumes: /disk as the bdev "disk", whose store appears by itself, and
// volumes whose contents say what they should be.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "modules/file/file.hpp"
#include "modules/malloc/malloc.hpp"
#include "nacre/lvol/lvol.hpp"
#include "nacre/memory/aligned_bytes.hpp"
#include "nacre/sim/disk_model.hpp"
#include "nacre/sim/sweep.hpp"
#include "nacre/sim/world.hpp"

namespace nacre::test {

inline constexpr std::uint32_t block = 4096;
inline constexpr std::uint32_t cluster = 32768;
inline constexpr std::uint64_t units = cluster / block;

inline void simulate(task<void> (*test)(bdev_registry&), std::uint64_t bytes = 4 << 20) {
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
        sim::world w(seed);
        w.make_file("/disk", bytes);
        sim::with_registry(w, test);
        EXPECT_EQ(w.open_descriptors(), 0U);
    }
}

/// Registered, it is looked at.
inline task<outcome<>> add_disk(bdev_registry& registry) {
    (void)lvol_stores::of(registry);
    file_options o;
    o.name = "disk";
    o.filename = "/disk";
    o.block_size = block;
    outcome<std::string> made = co_await create_file(registry, std::move(o));
    if (!made) co_return fail(std::move(made.error()));
    co_return outcome<>();
}

inline task<outcome<uuid>> make_store(bdev_registry& registry) {
    outcome<> added = co_await add_disk(registry);
    if (!added) co_return fail(std::move(added.error()));
    lvstore_options o;
    o.name = "lvs";
    o.cluster_size = cluster;
    outcome<uuid> made = co_await lvol_stores::of(registry).create_store("disk", std::move(o));
    co_return made;
}

/// As after a restart: the store is unloaded, and found again.
inline task<outcome<>> come_back(bdev_registry& registry) {
    outcome<> done = co_await registry.remove("disk");
    if (done) done = co_await add_disk(registry);
    co_return done;
}

inline lvol_options volume(std::string name, std::uint64_t clusters, bool thin = false) {
    lvol_options o;
    o.name = std::move(name);
    o.bytes = clusters * cluster;
    o.thin = thin;
    return o;
}

inline task<outcome<>> put(bdev_registry& registry, std::string name, std::uint64_t first,
                           std::uint64_t n, unsigned char pattern) {
    outcome<bdev_desc> desc = registry.open(name, access::write);
    if (!desc) co_return fail(std::move(desc.error()));
    outcome<bdev_channel> channel = desc->open_channel();
    if (!channel) co_return fail(std::move(channel.error()));
    aligned_bytes data(n * block, std::byte{pattern});
    const const_iov_view view{std::span<const std::byte>(data)};
    result<> done = co_await channel->write(lba(first), view);
    if (done) done = co_await channel->flush();
    if (!done) co_return fail(failure(done.error()));
    co_return outcome<>();
}

/// One byte for each block, as a text; '?' where a block is not all of one byte, '.' for zeros.
inline task<std::string> look_at(bdev_registry& registry, std::string name, std::uint64_t first,
                                 std::uint64_t n) {
    outcome<bdev_desc> desc = registry.open(name, access::read);
    if (!desc) co_return desc.error().message;
    outcome<bdev_channel> channel = desc->open_channel();
    if (!channel) co_return channel.error().message;
    aligned_bytes data(n * block);
    const iov_view view{std::span<std::byte>(data)};
    result<> done = co_await channel->read(lba(first), view);
    if (!done) co_return describe(done.error());
    std::string text;
    for (std::uint64_t i = 0; i < n; ++i) {
        const auto unit = std::span(data).subspan(i * block, block);
        const bool one = std::ranges::all_of(unit, [&](std::byte v) { return v == unit[0]; });
        text += !one ? '?' : unit[0] == std::byte{0} ? '.' : static_cast<char>(unit[0]);
    }
    co_return text;
}

inline std::string names_of(bdev_registry& registry) {
    std::string names;
    for (const lvol_status& s : lvol_stores::of(registry).volumes())
        names += (names.empty() ? "" : " ") + s.name;
    return names;
}

/// "" or why not.
inline std::string why(const outcome<>& done) { return done ? "" : done.error().message; }
template <typename T>
std::string why(const outcome<T>& done) {
    return done ? "" : done.error().message;
}
template <typename T>
int code(const outcome<T>& done) {
    return done ? 0 : done.error().code.to_errno();
}

}  // namespace nacre::test
