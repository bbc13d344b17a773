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

// --- Threads ------------------------------------------------------------------------------------

/// Writes units of its own in a blob that others write, too, and reads them back.
task<result<>> write_own_units(across<blob> b, std::uint64_t first, std::uint64_t step,
                               std::uint64_t all, int pattern) {
    for (std::uint64_t i = first; i < all; i += step) {
        result<> written = co_await put(*b, i, 1, static_cast<unsigned char>(pattern));
        if (!written) co_return written;
        std::string text = co_await look_at(*b, i, 1);
        if (text != std::string(1, static_cast<char>(pattern))) co_return fail(EILSEQ);
    }
    co_return result<>();
}

/// Changes metadata from a thread that is not the store's.
task<result<>> change_metadata(across<blobstore> store, across<blob> b) {
    for (int i = 0; i < 3; ++i) {
        std::vector<blob_xattr> none;
        outcome<blob_id> snap = co_await store->snapshot(b->id(), none);
        if (!snap) co_return fail(snap.error().code);
        outcome<> done = co_await b->set_xattr("round", std::to_string(i));
        if (done) done = co_await b->sync();
        if (done) done = co_await store->remove(*snap);
        if (!done) co_return fail(done.error().code);
        const blob_status s = co_await b->status();
        if (s.parent != blob_id::none) co_return fail(EILSEQ);
    }
    co_return result<>();
}

task<void> check_threads(bdev_registry& registry) {
    outcome<blobstore> store = co_await init_store(registry);
    blob_options o;
    o.clusters = 24;
    o.thin = true;
    outcome<blob_id> id = co_await store->create(o);
    outcome<blob> b = co_await store->open(*id);
    EXPECT_TRUE(b) << b.error().message;
    if (!b) co_return;
    std::vector<join_handle<result<>>> users;
    constexpr int writers = 4;
    for (int i = 0; i < writers; ++i) {
        thread& t = registry.host().make_thread("writer", i % 2);
        const auto first = static_cast<std::uint64_t>(i);
        users.push_back(t.spawn(&write_own_units, across<blob>(*b), first, std::uint64_t{writers},
                                24 * units, 'a' + i));
    }
    thread& t = registry.host().make_thread("manager", 1);
    users.push_back(t.spawn(&change_metadata, across<blobstore>(*store), across<blob>(*b)));
    for (auto& user : users) {
        result<> ended = co_await user;
        EXPECT_TRUE(ended) << describe(ended.error());
    }
    std::string text = co_await look_at(*b, 0, 24 * units);
    std::string expected;
    for (std::uint64_t i = 0; i < 24 * units; ++i) expected += static_cast<char>('a' + i % writers);
    EXPECT_EQ(text, expected);
    const blob_status s = co_await b->status();
    EXPECT_EQ(s.allocated_clusters, 24U);
    co_await b->close();
    const blobstore_status all = co_await store->status();
    EXPECT_EQ(all.free_clusters, all.data_clusters - 24);
    outcome<> unloaded = co_await store->unload();
    EXPECT_TRUE(unloaded) << unloaded.error().message;
}

TEST(blobstore, any_thread_writes_a_thin_blob_while_another_makes_and_removes_snapshots) {
    const outcome<> swept = sim::for_seeds(10, [](std::uint64_t seed) {
        sim::world w(seed);
        w.make_file("/disk", 4 << 20);
        sim::with_registry(w, &check_threads, 2);
        return !testing::Test::HasFailure();
    });
    EXPECT_TRUE(swept) << swept.error().message;
    sim::with_registry(
        real_world(),
        [](bdev_registry& registry) -> task<void> {
            malloc_options m;
            m.name = "disk";
            m.num_blocks = 1024;
            m.block_size = block;
            outcome<std::string> made = co_await create_malloc(registry, std::move(m));
            EXPECT_TRUE(made);
            co_await check_threads(registry);
        },
        2);
}

// --- What is refused, and space -----------------------------------------------------------------

task<void> check_space(bdev_registry& registry) {
    outcome<blobstore> store = co_await init_store(registry);
    blobstore_status s = co_await store->status();
    const std::uint64_t all = s.free_clusters;
    blob_options o;
    o.clusters = all + 1;
    outcome<blob_id> id = co_await store->create(o);
    EXPECT_TRUE(!id && id.error().code.is(ENOSPC)) << "a thick blob of more than there is";
    o.clusters = all;
    o.thin = true;
    id = co_await store->create(o);
    outcome<blob> thin = co_await store->open(*id);
    o.thin = false;
    o.clusters = all - 2;
    outcome<blob_id> thick = co_await store->create(o);
    EXPECT_TRUE(thick) << thick.error().message;
    // Two first writes fit; the third does not, and says so; what there is goes on.
    result<> written = co_await put(*thin, 0, 1, 'a');
    EXPECT_TRUE(written);
    written = co_await put(*thin, units, 1, 'b');
    EXPECT_TRUE(written);
    written = co_await put(*thin, 2 * units, 1, 'c');
    EXPECT_TRUE(!written && written.error().is(ENOSPC));
    written = co_await put(*thin, 1, 1, 'd');
    EXPECT_TRUE(written);
    outcome<> done = co_await thin->inflate();
    EXPECT_TRUE(!done && done.error().code.is(ENOSPC));
    s = co_await store->status();
    EXPECT_EQ(s.free_clusters, 0U);
    done = co_await store->remove(*thick);
    EXPECT_TRUE(done) << done.error().message;
    written = co_await put(*thin, 2 * units, 1, 'c');
    EXPECT_TRUE(written);
    std::string text = co_await look_at(*thin, 0, 12);
    EXPECT_EQ(text, "ad..b...c...");
    done = co_await thin->resize(1);
    EXPECT_TRUE(done);
    s = co_await store->status();
    EXPECT_EQ(s.free_clusters, all - 1);
    co_await thin->close();
    // All metadata pages taken: the last one is refused, and nothing is lost.
    std::uint64_t made = 0;
    o = blob_options();
    while (true) {
        outcome<blob_id> one = co_await store->create(o);
        if (!one) {
            EXPECT_TRUE(one.error().code.is(ENOSPC)) << one.error().message;
            break;
        }
        ++made;
    }
    s = co_await store->status();
    EXPECT_EQ(s.free_metadata_pages, 0U);
    EXPECT_EQ(s.blobs, made + 1);
    done = co_await store->unload();
    EXPECT_TRUE(done) << done.error().message;
}

TEST(blobstore, no_space_is_said_and_changes_nothing) { simulate(&check_space); }

// --- External snapshots -------------------------------------------------------------------------

task<void> check_external(bdev_registry& registry) {
    malloc_options m;
    m.name = "golden";
    m.num_blocks = 2 * units + 2;
    m.block_size = block;
    outcome<std::string> made = co_await create_malloc(registry, std::move(m));
    EXPECT_TRUE(made);
    outcome<bdev_desc> golden = registry.open("golden", access::write);
    outcome<bdev_channel> channel = golden->open_channel();
    const io_memory data = memory_of(2 * units + 2);
    std::memset(data.get(), 'g', (2 * units + 2) * block);
    const const_iov_view view(data.get(), (2 * units + 2) * block);
    result<> written = co_await channel->write(lba(0), view);
    EXPECT_TRUE(written);
    channel->close();
    golden->close();
    outcome<blobstore> store = co_await init_store(registry);
    blob_options o;
    o.clusters = 4;
    o.external = "golden";
    outcome<blob_id> id = co_await store->create(o);
    EXPECT_TRUE(id) << id.error().message;
    outcome<blob> b = co_await store->open(*id);
    EXPECT_TRUE(b) << b.error().message;
    if (!b) co_return;
    std::string text = co_await look_at(*b, 0, 16);
    EXPECT_EQ(text, "gggggggggg......") << "zeros behind its end";
    written = co_await put(*b, 9, 2, 'w');
    EXPECT_TRUE(written);
    text = co_await look_at(*b, 0, 16);
    EXPECT_EQ(text, "gggggggggww.....");
    std::vector<blob_xattr> none;
    outcome<blob_id> snap = co_await store->snapshot(*id, none);
    EXPECT_TRUE(snap) << snap.error().message;
    written = co_await put(*b, 0, 1, 'x');
    text = co_await look_at(*b, 0, 16);
    EXPECT_EQ(text, "xggggggggww.....");
    co_await b->close();
    outcome<> done = co_await store->unload();
    EXPECT_TRUE(done) << done.error().message;
    store = co_await load_store(registry);
    b = co_await store->open(*id);
    EXPECT_TRUE(b) << b.error().message;
    text = co_await look_at(*b, 0, 16);
    EXPECT_EQ(text, "xggggggggww.....");
    done = co_await b->inflate();
    EXPECT_TRUE(done) << done.error().message;
    co_await b->close();
    done = co_await store->remove(*snap);
    EXPECT_TRUE(done) << done.error().message;
    outcome<> removed = co_await registry.remove("golden");
    EXPECT_TRUE(removed);
    b = co_await store->open(*id);
    text = co_await look_at(*b, 0, 16);
    EXPECT_EQ(text, "xggggggggww.....");
    co_await b->close();
    done = co_await store->unload();
    EXPECT_TRUE(done) << done.error().message;
}

TEST(blobstore, external_snapshots_are_read_through_until_the_blob_has_all) {
    simulate(&check_external);
}

// --- Unmap --------------------------------------------------------------------------------------

task<void> check_unmap(bdev_registry& registry) {
    outcome<blobstore> store = co_await init_store(registry);
    blob_options o;
    o.clusters = 4;
    o.thin = true;
    outcome<blob_id> id = co_await store->create(o);
    outcome<blob> b = co_await store->open(*id);
    result<> written = co_await put(*b, 0, 16, 'a');
    EXPECT_TRUE(written);
    outcome<bdev_channel> channel = b->open_channel();
    result<> done = co_await channel->unmap(lba(2), block_count(12));
    EXPECT_TRUE(done);
    std::string text = co_await look_at(*b, 4, 8);
    EXPECT_EQ(text, "........") << "whole clusters are given back at once";
    result<> again = co_await put(*b, 5, 1, 'b');
    EXPECT_TRUE(again);
    text = co_await look_at(*b, 4, 8);
    EXPECT_EQ(text, ".b......");
    done = co_await channel->write_zeroes(lba(0), block_count(16));
    EXPECT_TRUE(done);
    text = co_await look_at(*b, 0, 16);
    EXPECT_EQ(text, "................");
    channel->close();
    co_await b->close();
    outcome<> unloaded = co_await store->unload();
    EXPECT_TRUE(unloaded) << unloaded.error().message;
    store = co_await load_store(registry);
    b = co_await store->open(*id);
    const blob_status s = co_await b->status();
    EXPECT_EQ(s.allocated_clusters, 3U);
    const blobstore_status all = co_await store->status();
    EXPECT_EQ(all.free_clusters, all.data_clusters - 3);
    co_await b->close();
    unloaded = co_await store->unload();
    EXPECT_TRUE(unloaded) << unloaded.error().message;
}

TEST(blobstore, an_unmap_of_whole_clusters_gives_them_back) { simulate(&check_unmap); }

}  // namespace
}  // namespace nacre::test
