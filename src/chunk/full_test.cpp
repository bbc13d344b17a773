// SPDX-License-Identifier: BSD-3-Clause
//
// The chunk store where there is no space left.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <thread>

#include "modules/error/error.hpp"
#include "nacre/blobfs/blocking.hpp"
#include "nacre/chunk/blocking.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/rocksdb/rocksdb.hpp"
#include "plugins/rocksdb/test_host.hpp"

namespace nacre::chunks {
namespace {

using test::test_host;

/// All further writes hang, or go on.
task<outcome<>> hold_writes(across<app> host, bool hold) {
    error_injection how;
    how.name = "EE_m0";
    how.io_type = hold ? error_io_type::write : error_io_type::clear;
    how.error_type = error_type::pending;
    how.num = UINT32_MAX;
    outcome<> done = inject_error(host->bdevs(), how);
    if (done && !hold) done = co_await resume_error_pending(host->bdevs(), how.name);
    co_return done;
}

outcome<> fill(blocking_chunk_store& store, std::size_t piece) {
    const std::string data(piece, 'f');
    outcome<> done = store.create("o" + std::to_string(piece));
    for (std::uint64_t at = 0; done; at += piece)
        done = store.write("o" + std::to_string(piece), at, bytes_of(data));
    return done.error().code.is(ENOSPC) ? outcome<>() : done;
}

TEST(chunk_full, pages_of_a_removal_that_is_not_durable_yet_are_nobody_elses) {
    test_host host{{"malloc:///m0?size=64MiB", "error:///?base=m0"}};
    auto store = blocking_chunk_store::open(test_host::address("EE_m0") + "&mkfs=auto", {});
    ASSERT_TRUE(store.has_value()) << store.error().message;
    ASSERT_TRUE(store->create("mine").has_value());
    for (const std::size_t piece : {1U << 20, 1U << 16, 1U << 12}) {
        const outcome<> filled = fill(*store, piece);
        ASSERT_TRUE(filled.has_value()) << filled.error().message;
    }
    const outcome<> held = host.on_main(&hold_writes, across<app>(host.application()), true);
    ASSERT_TRUE(held.has_value()) << held.error().message;

    std::thread other([&] { EXPECT_TRUE(store->remove("o1048576").has_value()); });
    // Whenever it looks, there is none: before that commit begins, and while it hangs. Had it one,
    // it would hang as well.
    std::future<unsigned> looked = std::async(std::launch::async, [&] {
        const std::string page(4096, 'm');
        unsigned refused = 0;
        for (unsigned i = 0; i < 500; ++i) {
            const outcome<> done = store->write("mine", 0, bytes_of(page));
            if (!done && done.error().code.is(ENOSPC)) ++refused;
        }
        return refused;
    });
    EXPECT_EQ(looked.wait_for(std::chrono::seconds(20)), std::future_status::ready);
    const outcome<> goes_on = host.on_main(&hold_writes, across<app>(host.application()), false);
    EXPECT_TRUE(goes_on.has_value()) << goes_on.error().message;
    other.join();
    EXPECT_EQ(looked.get(), 500U);
    const std::string page(4096, 'm');
    EXPECT_TRUE(store->write("mine", 0, bytes_of(page)).has_value());
    EXPECT_TRUE(store->close().has_value());
}

TEST(chunk_full, stores_open_though_a_data_file_was_begun_and_its_space_is_gone) {
    test_host host{{"malloc:///m0?size=64MiB"}};
    const std::string address = test_host::address("m0") + "&mkfs=auto";
    {
        auto store = blocking_chunk_store::open(address, {});
        ASSERT_TRUE(store.has_value()) << store.error().message;
        ASSERT_TRUE(store->create("a").has_value());
        ASSERT_TRUE(store->write("a", 0, bytes_of(std::string_view("kept"))).has_value());
        ASSERT_TRUE(store->close().has_value());
    }
    {
        outcome<rocksdb_store> beside = open_rocksdb_store(address);
        ASSERT_TRUE(beside.has_value());
        blocking_blobfs files(*beside->files);
        file_open_options how;
        how.write = how.create = true;
        for (const char* name : {"/chunk/data/000000aa", "/ballast"}) {
            auto file = files.open(name, how);
            ASSERT_TRUE(file.has_value()) << file.error().message;
            const std::uint64_t left = files.status()->available - (1 << 20);
            ASSERT_TRUE(file->truncate(name[1] == 'b' ? left : 5000).has_value());
            ASSERT_TRUE(file->close().has_value());
        }
    }
    auto store = blocking_chunk_store::open(address, {});
    ASSERT_TRUE(store.has_value()) << store.error().message;
    std::string found(4, '?');
    EXPECT_TRUE(store->read("a", 0, std::as_writable_bytes(std::span(found))).has_value());
    EXPECT_EQ(found, "kept");
    EXPECT_EQ(store->info()->data_files, 1U);
    EXPECT_TRUE(store->close().has_value());
}

}  // namespace
}  // namespace nacre::chunks
