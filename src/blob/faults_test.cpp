// SPDX-License-Identifier: BSD-3-Clause
//
// Blobstore: single faults and what they must not lead to.
#include <fmt/format.h>

#include "format.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/log.hpp"
#include "nacre/runtime/frame_pool.hpp"
#include "nacre/runtime/sleep.hpp"
#include "nacre/sim/bdev_scenario.hpp"
#include "test_store.hpp"

namespace nacre::test {
namespace {

sim::world* outside = nullptr;  // of the run

void simulate(task<void> (*test)(bdev_registry&)) {
    log::silence(true);
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
        sim::world w(seed);
        outside = &w;
        w.make_file("/disk", 4 << 20);
        sim::with_registry(w, test);
    }
    log::silence(false);
}

task<outcome<blob>> make_thin(blobstore& store, std::uint64_t clusters, bool extent_table) {
    blob_options o;
    o.clusters = clusters;
    o.thin = true;
    o.extent_table = extent_table;
    outcome<blob_id> id = co_await store.create(o);
    if (!id) co_return fail(std::move(id.error()));
    outcome<blob> b = co_await store.open(*id);
    co_return b;
}

task<result<>> unmap_first(blob& b) {
    outcome<bdev_channel> channel = b.open_channel();
    if (!channel) co_return fail(channel.error().code);
    result<> done = co_await channel->unmap(lba(0), block_count(units));
    co_return done;
}

/// Until what is on its way back has come.
task<void> wait_a_little() {
    result<> slept = co_await sleep_for(50'000'000);
    (void)slept;
}

// --- What failed writes may refer to ------------------------------------------------------------

/// The entry of a cluster that is given back cannot be written; later the page is, and the cluster
/// becomes a clone's. Wherever the power is cut, the first blob does not show the clone's data.
class given_back final : public sim::bdev_scenario {
public:
    given_back(std::uint64_t fails, std::uint64_t cuts) : fails_(fails), cuts_(cuts) {}

private:
    void prepare(sim::world& w) override { w.make_file("/disk", 48 * cluster); }
    task<void> work(bdev_registry& registry) override {
        outcome<blobstore> store = co_await init_store(registry);
        outcome<blob> a = co_await make_thin(*store, 2, true);
        outcome<blob> s = co_await make_thin(*store, 2, true);
        result<> done = co_await put(*s, 0, 2 * units, 's');
        done = co_await put(*a, 0, units, 'x');
        outcome<bdev_channel> channel = a->open_channel();
        done = co_await channel->flush();
        outcome<blob_id> snap = co_await store->snapshot(s->id(), {});
        first_ = a->id();
        w_->fail_operation(fails_);
        w_->cut_power_after(cuts_);
        done = co_await unmap_first(*a);
        co_await wait_a_little();
        done = co_await put(*a, units, 1, 'y');
        done = co_await put(*s, 0, 1, 'c');
        done = co_await put(*s, units, 1, 'c');
        channel->close();
        co_await a->close();
        co_await s->close();
        outcome<> unloaded = co_await store->unload();
        (void)unloaded;
    }
    task<void> look(bdev_registry& registry) override {
        outcome<blobstore> store = co_await load_store(registry);
        if (!store) {
            violate(std::move(store.error()));
            co_return;
        }
        outcome<blob> a = co_await store->open(first_);
        if (!a) {
            violate(std::move(a.error()));
        } else {
            std::string text = co_await look_at(*a, 0, units);
            if (text.find_first_not_of("x.") != std::string::npos)
                violate(failure(EILSEQ, "it holds " + text));
            co_await a->close();
        }
        outcome<> unloaded = co_await store->unload();
        if (!unloaded) violate(std::move(unloaded.error()));
    }
    std::uint64_t fails_;
    std::uint64_t cuts_;
    blob_id first_ = blob_id::none;
};

TEST(blobstore_faults, a_cluster_whose_entry_may_be_on_disk_is_nobody_elses_before_a_flush) {
    log::silence(true);
    for (std::uint64_t fails = 1; fails <= 4; ++fails)
        for (std::uint64_t cuts = fails + 1; cuts <= fails + 30; ++cuts)
            for (std::uint64_t seed = 1; seed <= 6 && !HasFailure(); ++seed) {
                given_back scenario(fails, cuts);
                sim::world_options o;
                o.atomic_bytes = 4096;
                sim::world w(seed, o);
                outcome<> lived = scenario.run(w);
                w.restart();
                if (lived) lived = scenario.verify(w);
                EXPECT_TRUE(lived) << "operation " << fails << " fails, cut at " << cuts
                                   << ", seed " << seed << ": " << lived.error().message;
            }
    log::silence(false);
}

task<void> check_removal(bdev_registry& registry) {
    outcome<blobstore> store = co_await init_store(registry);
    const blobstore_status before = co_await store->status();
    outcome<blob> a = co_await make_thin(*store, 2, true);
    result<> done = co_await put(*a, 0, units, 'x');
    EXPECT_TRUE(done);
    outside->fail_operation(1);
    done = co_await unmap_first(*a);
    EXPECT_TRUE(done);
    co_await wait_a_little();
    outside->fail_operation(1);
    const blob_id id = a->id();
    co_await a->close();
    outcome<> removed = co_await store->remove(id);
    EXPECT_TRUE(removed) << removed.error().message;
    const blobstore_status after = co_await store->status();
    EXPECT_EQ(after.free_clusters, before.free_clusters);
    EXPECT_EQ(after.free_metadata_pages, before.free_metadata_pages);
    outcome<> unloaded = co_await store->unload();
    EXPECT_TRUE(unloaded) << unloaded.error().message;
}

TEST(blobstore_faults, a_blob_that_could_not_be_settled_leaves_nothing_when_it_is_removed) {
    simulate(&check_removal);
}

task<result<>> mark(bdev_registry& registry, blob_id made, blob_id of) {
    outcome<bdev_desc> desc = registry.open("disk", access::write);
    if (!desc) co_return fail(desc.error().code);
    outcome<bdev_channel> channel = desc->open_channel();
    if (!channel) co_return fail(channel.error().code);
    const io_memory data = memory_of(1);
    const iov_view view(data.get(), block);
    const std::span<std::byte> page(data.get(), block);
    result<> done = co_await channel->read(lba(0), view);
    outcome<blob_format::super_block> super =
        blob_format::super_block::decode(page, desc->device().size().value(), block);
    if (!done || !super) co_return fail(EILSEQ);
    const std::uint32_t root = blob_format::root_of(made);
    const lba at(super->at_metadata(root) / block);
    done = co_await channel->read(at, view);
    blob_format::chain_reader reader(root, *super);
    outcome<std::optional<std::uint32_t>> next = reader.take(root, page);
    if (!done || !next) co_return fail(EILSEQ);
    blob_format::blob_metadata meta = reader.blob();
    meta.set_reference(blob_format::xattr_being_made, of);
    meta.settle_flags();
    const auto parts = blob_format::encode_descriptors(meta);
    blob_format::encode_chain_page(page, made, 0, blob_format::no_page, parts[0]);
    const const_iov_view bytes(data.get(), block);
    done = co_await channel->write(at, bytes);
    co_return done;
}

task<void> check_mark(bdev_registry& registry) {
    outcome<blobstore> store = co_await init_store(registry);
    outcome<blob> a = co_await make_thin(*store, 2, true);
    const blob_id first = a->id();
    co_await a->close();
    const blobstore_status before = co_await store->status();
    blob_options thick;
    thick.clusters = 3;
    outcome<blob_id> made = co_await store->create(thick);
    outcome<> unloaded = co_await store->unload();
    EXPECT_TRUE(unloaded);
    result<> marked = co_await mark(registry, *made, first);
    EXPECT_TRUE(marked);
    for (int i = 0; i < 2; ++i) {
        store = co_await load_store(registry);
        EXPECT_TRUE(store) << store.error().message;
        const blobstore_status after = co_await store->status();
        EXPECT_EQ(after.recovered, i == 0);
        EXPECT_EQ(after.blobs, 1U);
        EXPECT_EQ(after.free_clusters, before.free_clusters);
        EXPECT_EQ(after.free_metadata_pages, before.free_metadata_pages);
        unloaded = co_await store->unload();
        EXPECT_TRUE(unloaded) << unloaded.error().message;
    }
}

TEST(blobstore_faults, a_clean_store_with_an_unfinished_snapshot_gets_back_what_that_had) {
    simulate(&check_mark);
}

// --- Unload -------------------------------------------------------------------------------------

std::uint64_t nth_frame = 0;
bool was_short = false;

task<void> check_unload(bdev_registry& registry) {
    outcome<blobstore> store = co_await init_store(registry);
    outcome<blob> a = co_await make_thin(*store, 2, true);
    result<> done = co_await put(*a, 0, units, 'x');
    EXPECT_TRUE(done);
    const blob_id id = a->id();
    co_await a->close();
    frame_pool::fail_nth_allocation(nth_frame);
    outcome<> unloaded = co_await store->unload();
    was_short = frame_pool::injected_failure_happened();
    frame_pool::fail_nth_allocation(0);
    if (store->is_loaded()) {
        EXPECT_TRUE(!unloaded && unloaded.error().code.is(ENOMEM));
        unloaded = co_await store->unload();
        EXPECT_TRUE(unloaded) << unloaded.error().message;
    }
    store = co_await load_store(registry);
    a = co_await store->open(id);
    std::string text = co_await look_at(*a, 0, units);
    EXPECT_EQ(text, "xxxx");
    co_await a->close();
    unloaded = co_await store->unload();
    EXPECT_TRUE(unloaded) << unloaded.error().message;
}

TEST(blobstore_faults, an_unload_survives_a_lack_of_memory_at_every_frame) {
    log::silence(true);
    was_short = true;
    for (nth_frame = 1; was_short && !HasFailure(); ++nth_frame) {
        sim::world w(nth_frame);
        w.make_file("/disk", 4 << 20);
        sim::with_registry(w, &check_unload);
    }
    log::silence(false);
    EXPECT_GT(nth_frame, 10U);
}

// --- Attributes ---------------------------------------------------------------------------------

task<void> check_edits(bdev_registry& registry) {
    outcome<blobstore> store = co_await init_store(registry);
    outcome<blob> a = co_await make_thin(*store, 2, false);
    const blob_id id = a->id();
    outcome<> done = co_await a->set_xattr("name", "new");
    if (done) done = co_await a->set_read_only();
    EXPECT_TRUE(done) << done.error().message;
    // It can be written as before, so it is no snapshot yet.
    blob_status s = co_await a->status();
    EXPECT_FALSE(s.read_only);
    EXPECT_EQ(s.xattrs.size(), 1U);
    outcome<blob_id> clone = co_await store->clone(id, {});
    EXPECT_TRUE(!clone && clone.error().code.is(EINVAL));
    // The write changes metadata on disk; the attributes stay where they are.
    result<> written = co_await put(*a, 0, 1, 'x');
    EXPECT_TRUE(written);
    co_await a->close();
    a = co_await store->open(id);
    s = co_await a->status();
    EXPECT_EQ(s.xattrs.size(), 0U) << "they were not synced";
    done = co_await a->set_read_only();
    if (done) done = co_await a->sync();
    EXPECT_TRUE(done) << done.error().message;
    written = co_await put(*a, 0, 1, 'y');
    EXPECT_TRUE(!written && written.error().is(EROFS));
    clone = co_await store->clone(id, {});
    EXPECT_TRUE(clone);
    co_await a->close();
    outcome<> unloaded = co_await store->unload();
    EXPECT_TRUE(unloaded) << unloaded.error().message;
}

TEST(blobstore_faults, attributes_that_are_not_synced_count_for_nothing) { simulate(&check_edits); }

// --- Size ---------------------------------------------------------------------------------------

task<void> check_bound(bdev_registry& registry) {
    constexpr std::uint64_t most = 1U << 26;
    outcome<blobstore> store = co_await init_store(registry);
    for (const bool extent_table : {true, false}) {
        outcome<blob> b = co_await make_thin(*store, most + 1, extent_table);
        EXPECT_TRUE(!b && b.error().code.is(EFBIG));
        b = co_await make_thin(*store, 1, extent_table);
        EXPECT_TRUE(b) << b.error().message;
        outcome<> done = co_await b->resize(most + 1);
        EXPECT_TRUE(!done && done.error().code.is(EFBIG));
        // Many times the store, and it can be opened again.
        done = co_await b->resize(100'000);
        EXPECT_TRUE(done) << done.error().message;
        const blob_id id = b->id();
        co_await b->close();
        b = co_await store->open(id);
        EXPECT_TRUE(b) << b.error().message;
        co_await b->close();
    }
    outcome<> unloaded = co_await store->unload();
    EXPECT_TRUE(unloaded) << unloaded.error().message;
}

TEST(blobstore_faults, a_thin_blob_is_refused_that_could_not_be_opened_again) {
    simulate(&check_bound);
}

}  // namespace
}  // namespace nacre::test
