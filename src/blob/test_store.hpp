// SPDX-License-Identifier: BSD-3-Clause
//
// For the tests of blobstore: a store on a simulated file, and blobs whose contents say what they
// should be.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "modules/file/file.hpp"
#include "modules/malloc/malloc.hpp"
#include "nacre/blob/blobstore.hpp"
#include "nacre/sim/disk_model.hpp"
#include "nacre/sim/sweep.hpp"
#include "nacre/sim/world.hpp"

namespace nacre::test {

inline constexpr std::uint32_t block = 4096;
inline constexpr std::uint32_t cluster = 16384;
inline constexpr std::uint64_t units = cluster / block;

struct free_memory {
    void operator()(std::byte* p) const noexcept { std::free(p); }
};
using io_memory = std::unique_ptr<std::byte[], free_memory>;
/// For that many units.
inline io_memory memory_of(std::uint64_t n) {
    return io_memory(static_cast<std::byte*>(std::aligned_alloc(block, n * block)));
}

/// /disk as the bdev "disk", claimed.
inline task<outcome<bdev_desc>> open_disk(bdev_registry& registry) {
    if (registry.find("disk") == nullptr) {
        file_options o;
        o.name = "disk";
        o.filename = "/disk";
        o.block_size = block;
        outcome<std::string> made = co_await create_file(registry, std::move(o));
        if (!made) co_return fail(std::move(made.error()));
    }
    outcome<bdev_desc> desc = registry.open("disk", access::write);
    if (!desc) co_return fail(std::move(desc.error()));
    outcome<> claimed = desc->take_claim(claim::exclusive_write, "blobstore");
    if (!claimed) co_return fail(std::move(claimed.error()));
    co_return std::move(*desc);
}

inline task<outcome<blobstore>> init_store(bdev_registry& registry, blobstore_options options) {
    outcome<bdev_desc> desc = co_await open_disk(registry);
    if (!desc) co_return fail(std::move(desc.error()));
    if (options.cluster_size == blobstore_options().cluster_size) options.cluster_size = cluster;
    outcome<blobstore> store =
        co_await blobstore::init(registry, std::move(*desc), std::move(options));
    co_return store;
}

inline task<outcome<blobstore>> load_store(bdev_registry& registry,
                                           blobstore_load_options options) {
    outcome<bdev_desc> desc = co_await open_disk(registry);
    if (!desc) co_return fail(std::move(desc.error()));
    outcome<blobstore> store =
        co_await blobstore::load(registry, std::move(*desc), std::move(options));
    co_return store;
}

inline task<outcome<blobstore>> init_store(bdev_registry& registry) {
    return init_store(registry, blobstore_options());
}
inline task<outcome<blobstore>> load_store(bdev_registry& registry) {
    return load_store(registry, blobstore_load_options());
}

/// Fills `n` units from `first` on with `pattern`.
inline task<result<>> put(blob& b, std::uint64_t first, std::uint64_t n, unsigned char pattern) {
    outcome<bdev_channel> channel = b.open_channel();
    if (!channel) co_return fail(channel.error().code);
    const io_memory data = memory_of(n);
    std::memset(data.get(), pattern, n * block);
    const const_iov_view view(data.get(), n * block);
    result<> done = co_await channel->write(lba(first), view);
    co_return done;
}

/// One byte for each unit, as a text; '?' where a unit is not all of one byte, '.' for zeros.
inline task<std::string> look_at(blob& b, std::uint64_t first, std::uint64_t n) {
    outcome<bdev_channel> channel = b.open_channel();
    if (!channel) co_return channel.error().message;
    const io_memory data = memory_of(n);
    const iov_view view(data.get(), n * block);
    result<> done = co_await channel->read(lba(first), view);
    if (!done) co_return describe(done.error());
    std::string text;
    for (std::uint64_t i = 0; i < n; ++i) {
        const auto unit = std::span(data.get() + i * block, block);
        const bool one = std::memcmp(unit.data(), unit.data() + 1, block - 1) == 0;
        text += !one ? '?' : unit[0] == std::byte{0} ? '.' : static_cast<char>(unit[0]);
    }
    co_return text;
}

}  // namespace nacre::test
