// SPDX-License-Identifier: BSD-3-Clause
//
// Blobstore: what its calls do, without faults.
#include "test_store.hpp"

namespace nacre::test {
namespace {

void simulate(task<void> (*test)(bdev_registry&), std::uint64_t bytes = 4 << 20) {
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
        sim::world w(seed);
        w.make_file("/disk", bytes);
        sim::with_registry(w, test);
        EXPECT_EQ(w.open_descriptors(), 0U);
    }
}

task<void> check_life(bdev_registry& registry) {
    outcome<blobstore> store = co_await init_store(registry);
    EXPECT_TRUE(store) << store.error().message;
    if (!store) co_return;
    blobstore_status s = co_await store->status();
    EXPECT_EQ(s.clusters, 256U);
    EXPECT_EQ(s.free_clusters, s.data_clusters);
    const std::uint64_t all = s.free_clusters;
    blob_options o;
    o.clusters = 3;
    o.xattrs.push_back({"name", "first"});
    outcome<blob_id> id = co_await store->create(o);
    EXPECT_TRUE(id) << id.error().message;
    outcome<blob> b = co_await store->open(*id);
    EXPECT_TRUE(b) << b.error().message;
    if (!b) co_return;
    result<> written = co_await put(*b, 2, 5, 'x');
    EXPECT_TRUE(written);
    std::string text = co_await look_at(*b, 2, 5);
    EXPECT_EQ(text, "xxxxx");
    outcome<> done = co_await b->resize(7);
    EXPECT_TRUE(done) << done.error().message;
    done = co_await b->set_xattr("name", "second");
    EXPECT_TRUE(done);
    done = co_await b->sync();
    EXPECT_TRUE(done);
    s = co_await store->status();
    EXPECT_EQ(s.free_clusters, all - 7);
    co_await b->close();
    done = co_await store->unload();
    EXPECT_TRUE(done) << done.error().message;
    store = co_await load_store(registry);
    EXPECT_TRUE(store) << store.error().message;
    if (!store) co_return;
    s = co_await store->status();
    EXPECT_FALSE(s.recovered);
    EXPECT_EQ(s.free_clusters, all - 7);
    b = co_await store->open(*id);
    EXPECT_TRUE(b) << b.error().message;
    outcome<std::string> name = co_await b->xattr("name");
    EXPECT_EQ(name.value_or("none"), "second");
    text = co_await look_at(*b, 2, 5);
    EXPECT_EQ(text, "xxxxx");
    done = co_await b->resize(1);
    EXPECT_TRUE(done) << done.error().message;
    co_await b->close();
    done = co_await store->remove(*id);
    EXPECT_TRUE(done) << done.error().message;
    s = co_await store->status();
    EXPECT_EQ(s.free_clusters, all);
    EXPECT_EQ(s.blobs, 0U);
    EXPECT_EQ(s.free_metadata_pages, s.metadata_pages);
    done = co_await store->unload();
    EXPECT_TRUE(done) << done.error().message;
}

TEST(blobstore, keeps_a_blob_through_unload_and_load) { simulate(&check_life); }

task<void> check_family(bdev_registry& registry) {
    outcome<blobstore> store = co_await init_store(registry);
    EXPECT_TRUE(store) << store.error().message;
    if (!store) co_return;
    blobstore_status s = co_await store->status();
    const std::uint64_t all = s.free_clusters;
    blob_options o;
    o.clusters = 4;
    o.thin = true;
    outcome<blob_id> id = co_await store->create(o);
    outcome<blob> b = co_await store->open(*id);
    EXPECT_TRUE(b) << b.error().message;
    if (!b) co_return;
    std::string text = co_await look_at(*b, 0, 16);
    EXPECT_EQ(text, "................");
    result<> written = co_await put(*b, 3, 2, 'a');
    EXPECT_TRUE(written);
    text = co_await look_at(*b, 0, 16);
    EXPECT_EQ(text, "...aa...........");
    std::vector<blob_xattr> named;
    named.push_back({"name", "snap"});
    outcome<blob_id> snap = co_await store->snapshot(*id, named);
    EXPECT_TRUE(snap) << snap.error().message;
    written = co_await put(*b, 4, 1, 'b');
    EXPECT_TRUE(written);
    written = co_await put(*b, 12, 1, 'c');
    EXPECT_TRUE(written);
    text = co_await look_at(*b, 0, 16);
    EXPECT_EQ(text, "...ab.......c...");
    outcome<blob> old = co_await store->open(*snap);
    text = co_await look_at(*old, 0, 16);
    EXPECT_EQ(text, "...aa...........");
    written = co_await put(*old, 4, 1, 'z');
    EXPECT_TRUE(!written && written.error().is(EROFS));
    outcome<blob_id> twin = co_await store->clone(*snap, {});
    EXPECT_TRUE(twin) << twin.error().message;
    outcome<blob> c = co_await store->open(*twin);
    written = co_await put(*c, 0, 1, 'd');
    text = co_await look_at(*c, 0, 16);
    EXPECT_EQ(text, "d..aa...........");
    outcome<> done = co_await c->inflate();
    EXPECT_TRUE(done) << done.error().message;
    blob_status st = co_await c->status();
    EXPECT_FALSE(st.thin);
    EXPECT_EQ(st.allocated_clusters, 4U);
    EXPECT_EQ(st.parent, blob_id::none);
    done = co_await store->remove(*snap);
    EXPECT_TRUE(!done && done.error().code.is(EBUSY));
    co_await old->close();
    done = co_await store->remove(*snap);
    EXPECT_TRUE(done) << done.error().message;
    text = co_await look_at(*b, 0, 16);
    EXPECT_EQ(text, "...ab.......c...");
    text = co_await look_at(*c, 0, 16);
    EXPECT_EQ(text, "d..aa...........");
    s = co_await store->status();
    st = co_await b->status();
    EXPECT_EQ(s.free_clusters, all - 4 - st.allocated_clusters);
    EXPECT_EQ(st.parent, blob_id::none);
    co_await b->close();
    co_await c->close();
    done = co_await store->unload();
    EXPECT_TRUE(done) << done.error().message;
    // As if it had not been unloaded: the same is found.
    blobstore_load_options recover;
    recover.recover = true;
    store = co_await load_store(registry, recover);
    EXPECT_TRUE(store) << store.error().message;
    const blobstore_status again = co_await store->status();
    EXPECT_TRUE(again.recovered);
    EXPECT_EQ(again.free_clusters, s.free_clusters);
    EXPECT_EQ(again.free_metadata_pages, s.free_metadata_pages);
    done = co_await store->unload();
    EXPECT_TRUE(done) << done.error().message;
}

TEST(blobstore, snapshots_and_clones_read_through_their_parents) { simulate(&check_family); }

}  // namespace
}  // namespace nacre::test
