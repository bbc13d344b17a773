// SPDX-License-Identifier: BSD-3-Clause
//
// check_blobstore on stores of nacre's own in the simulator; tests/blobstore/blob_check_test.py
// holds it against the checker that was written from the format's text, image by image.
#include "nacre/blob/check.hpp"

#include <gtest/gtest.h>

#include "nacre/memory/aligned_bytes.hpp"
#include "test_store.hpp"

namespace nacre::test {
namespace {

using body = task<void> (*)(bdev_registry&);

void simulate(body test) {
    sim::world w(1);
    w.make_file("/disk", 4 << 20);
    sim::with_registry(w, test);
}

task<blob_check_report> check(bdev_registry& registry) {
    outcome<bdev_desc> base = registry.open("disk", access::read);
    EXPECT_TRUE(base.has_value());
    if (!base) co_return blob_check_report();
    blob_check_options options;
    outcome<blob_check_report> report = co_await check_blobstore(*base, std::move(options));
    EXPECT_TRUE(report.has_value()) << (report ? "" : report.error().message);
    if (!report) co_return blob_check_report();
    co_return std::move(*report);
}

task<void> overwrite(bdev_registry& registry, std::uint64_t at, unsigned char value) {
    outcome<bdev_desc> base = registry.open("disk", access::write);
    outcome<bdev_channel> channel = base->open_channel();
    aligned_bytes data(block, std::byte{value});
    const const_iov_view view{std::span<const std::byte>(data)};
    result<> done = co_await channel->write(lba(at / block), view);
    EXPECT_TRUE(done.has_value());
}

/// A thick blob with a snapshot and a clone of it.
task<blob_id> make_family(blobstore& store) {
    blob_options options;
    options.clusters = 4;
    outcome<blob_id> origin = co_await store.create(options);
    std::vector<blob_xattr> none;
    outcome<blob_id> snapshot = co_await store.snapshot(*origin, none);
    outcome<blob_id> clone = co_await store.clone(*snapshot, none);
    EXPECT_TRUE(clone.has_value());
    co_return *clone;
}

task<void> check_whole(bdev_registry& registry) {
    outcome<blobstore> store = co_await init_store(registry);
    co_await make_family(*store);
    outcome<> unloaded = co_await store->unload();
    EXPECT_TRUE(unloaded.has_value());
    blob_check_report report = co_await check(registry);
    EXPECT_EQ(report.verdict, blob_verdict::clean);
    EXPECT_TRUE(report.findings.empty());
    EXPECT_FALSE(report.dirty);
    EXPECT_EQ(report.blobs, 3U);
}

task<void> check_loaded(bdev_registry& registry) {
    outcome<blobstore> store = co_await init_store(registry);
    co_await make_family(*store);
    blob_check_report report = co_await check(registry);
    EXPECT_EQ(report.verdict, blob_verdict::clean);
    EXPECT_TRUE(report.dirty);
    outcome<> unloaded = co_await store->unload();
    EXPECT_TRUE(unloaded.has_value());
}

task<void> check_damaged(bdev_registry& registry) {
    outcome<blobstore> store = co_await init_store(registry);
    blob_id clone = co_await make_family(*store);
    outcome<std::string> dump = co_await store->dump();
    EXPECT_TRUE(dump.has_value());
    outcome<> unloaded = co_await store->unload();
    EXPECT_TRUE(unloaded.has_value());
    blob_check_report before = co_await check(registry);
    // Its root, which is the page of its id's number.
    const std::size_t word = dump->find("metadata\n");
    const std::size_t at = dump->rfind("page ", word);
    const std::uint64_t first = std::strtoull(dump->c_str() + at + 5, nullptr, 10);
    const std::uint64_t root = static_cast<std::uint32_t>(clone);
    co_await overwrite(registry, (first + root) * block, 0x55);
    blob_check_report report = co_await check(registry);
    EXPECT_EQ(report.verdict, blob_verdict::inconsistent);
    EXPECT_EQ(report.damaged, std::vector{clone});
    blob_repair_options options;
    outcome<blob_check_report> repaired =
        co_await repair_blobstore(registry, "disk", std::move(options));
    EXPECT_EQ(repaired->verdict, blob_verdict::inconsistent);
    blob_repair_options removing;
    removing.remove_damaged = true;
    repaired = co_await repair_blobstore(registry, "disk", std::move(removing));
    EXPECT_EQ(repaired->verdict, blob_verdict::clean);
    EXPECT_EQ(repaired->blobs, before.blobs - 1);
}

TEST(blob_check, finds_nothing_in_a_store_that_was_unloaded) { simulate(&check_whole); }
TEST(blob_check, takes_no_mask_of_a_store_that_was_not) { simulate(&check_loaded); }
TEST(blob_check, removes_a_blob_that_cannot_be_opened_only_when_told_to) {
    simulate(&check_damaged);
}

}  // namespace
}  // namespace nacre::test
