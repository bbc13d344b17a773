// SPDX-License-Identifier: BSD-3-Clause
//
// For the tests of blobfs: a file system on a simulated file.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "modules/file/file.hpp"
#include "modules/malloc/malloc.hpp"
#include "nacre/blobfs/blobfs.hpp"
#include "nacre/runtime/sleep.hpp"
#include "nacre/sim/disk_model.hpp"
#include "nacre/sim/sweep.hpp"
#include "nacre/sim/world.hpp"

namespace nacre::test {

inline constexpr std::uint32_t cluster = 16384;

/// /disk as the bdev "disk", claimed.
inline task<outcome<bdev_desc>> open_disk(bdev_registry& registry) {
    if (registry.find("disk") == nullptr) {
        file_options o;
        o.name = "disk";
        o.filename = "/disk";
        o.block_size = 4096;
        outcome<std::string> made = co_await create_file(registry, std::move(o));
        if (!made) co_return fail(std::move(made.error()));
    }
    outcome<bdev_desc> desc = registry.open("disk", access::write);
    if (!desc) co_return fail(std::move(desc.error()));
    outcome<> claimed = desc->take_claim(claim::exclusive_write, "blobfs");
    if (!claimed) co_return fail(std::move(claimed.error()));
    co_return std::move(*desc);
}

inline task<outcome<blobfs>> make_fs(bdev_registry& registry, bool compatible = false) {
    outcome<bdev_desc> desc = co_await open_disk(registry);
    if (!desc) co_return fail(std::move(desc.error()));
    blobfs_options o;
    o.cluster_size = cluster;
    o.compatible = compatible;
    outcome<blobfs> fs = co_await blobfs::make(registry, std::move(*desc), o);
    co_return fs;
}

inline task<outcome<blobfs>> load_fs(bdev_registry& registry, bool read_only = false) {
    outcome<bdev_desc> desc = co_await open_disk(registry);
    if (!desc) co_return fail(std::move(desc.error()));
    blobfs_load_options o;
    o.read_only = read_only;
    outcome<blobfs> fs = co_await blobfs::load(registry, std::move(*desc), std::move(o));
    co_return fs;
}

inline std::span<const std::byte> bytes_of(std::string_view text) {
    return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

/// All of a file, or the error's text.
inline task<outcome<std::string>> contents(blobfs& fs, std::string path) {
    file_open_options how;
    outcome<blobfs_file> file = co_await fs.open(path, how);
    if (!file) co_return fail(std::move(file.error()));
    std::string text(file->length(), '\0');
    std::span<std::byte> into(reinterpret_cast<std::byte*>(text.data()), text.size());
    result<std::size_t> n = co_await file->read(0, into);
    result<> closed = co_await file->close();
    (void)closed;
    if (!n) co_return fail(failure(n.error()));
    text.resize(*n);
    co_return text;
}

inline task<outcome<>> put(blobfs& fs, std::string path, std::string text) {
    file_open_options how;
    how.write = how.create = how.truncate = true;
    outcome<blobfs_file> file = co_await fs.open(path, how);
    if (!file) co_return fail(std::move(file.error()));
    result<> done = co_await file->append(bytes_of(text));
    result<> closed = co_await file->close();
    if (done) done = closed;
    if (!done) co_return fail(failure(done.error()));
    co_return outcome<>();
}

}  // namespace nacre::test
