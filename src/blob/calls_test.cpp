// SPDX-License-Identifier: BSD-3-Clause
//
// Blobstore: each call once, what it refuses, and what it says of damage.
#include "format.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/crc32c.hpp"
#include "test_store.hpp"

namespace nacre::test {
namespace {

sim::world* the_world = nullptr;

void simulate(task<void> (*test)(bdev_registry&), std::uint64_t bytes = 4 << 20) {
    sim::world w(1);
    the_world = &w;
    w.make_file("/disk", bytes);
    sim::with_registry(w, test);
    EXPECT_EQ(w.open_descriptors(), 0U);
}

task<void> check_store_calls(bdev_registry& registry) {
    blobstore_options options;
    options.type = "MINE";
    outcome<blobstore> store = co_await init_store(registry, options);
    EXPECT_TRUE(store) << store.error().message;
    outcome<blob_id> super = co_await store->super_blob();
    EXPECT_TRUE(!super && super.error().code.is(ENOENT));
    std::vector<blob_id> made;
    for (int i = 0; i < 5; ++i) {
        blob_options o;
        o.clusters = static_cast<std::uint64_t>(i);
        outcome<blob_id> id = co_await store->create(o);
        EXPECT_TRUE(id) << id.error().message;
        made.push_back(*id);
    }
    std::vector<blob_id> listed = co_await store->list();
    EXPECT_EQ(listed, made);
    outcome<> done = co_await store->set_super_blob(made[2]);
    EXPECT_TRUE(done);
    done = co_await store->set_super_blob(static_cast<blob_id>(0x100000033));
    EXPECT_TRUE(!done && done.error().code.is(ENOENT));
    done = co_await store->set_type("OTHER");
    EXPECT_TRUE(done);
    outcome<std::string> text = co_await store->dump();
    EXPECT_TRUE(text) << text.error().message;
    EXPECT_NE(text->find("super blob " + to_string(made[2])), std::string::npos) << *text;
    EXPECT_NE(text->find("0 to 3: clusters"), std::string::npos) << *text;
    outcome<blob> held = co_await store->open(made[1]);
    done = co_await store->unload();
    EXPECT_TRUE(!done && done.error().code.is(EBUSY));
    done = co_await store->remove(made[1]);
    EXPECT_TRUE(!done && done.error().code.is(EBUSY));
    co_await held->close();
    done = co_await store->unload();
    EXPECT_TRUE(done) << done.error().message;
    blobstore_load_options load;
    load.type = "MINE";
    store = co_await load_store(registry, load);
    EXPECT_TRUE(!store && store.error().code.is(ENXIO)) << "of another type now";
    load.type = "OTHER";
    load.read_only = true;
    store = co_await load_store(registry, load);
    EXPECT_TRUE(store) << store.error().message;
    super = co_await store->super_blob();
    EXPECT_EQ(super.value_or(blob_id::none), made[2]);
    blob_options o;
    outcome<blob_id> refused = co_await store->create(o);
    EXPECT_TRUE(!refused && refused.error().code.is(EROFS));
    done = co_await store->unload();
    EXPECT_TRUE(done) << done.error().message;
    store = co_await load_store(registry);
    done = co_await store->destroy();
    EXPECT_TRUE(done) << done.error().message;
    store = co_await load_store(registry);
    EXPECT_TRUE(!store && store.error().code.is(ENOENT));
}

TEST(blobstore_calls, of_the_store_do_what_they_say) { simulate(&check_store_calls); }

task<void> check_attributes(bdev_registry& registry) {
    outcome<blobstore> store = co_await init_store(registry);
    blob_options o;
    outcome<blob_id> id = co_await store->create(o);
    outcome<blob> b = co_await store->open(*id);
    outcome<> done = co_await b->set_xattr("a", "1");
    EXPECT_TRUE(done);
    done = co_await b->set_xattr("b", std::string("two\0bytes", 9));
    EXPECT_TRUE(done);
    done = co_await b->set_xattr("a", "3");
    EXPECT_TRUE(done);
    done = co_await b->set_xattr("", "x");
    EXPECT_TRUE(!done && done.error().code.is(EINVAL));
    done = co_await b->set_xattr("large", std::string(4059, 'x'));
    EXPECT_TRUE(!done && done.error().code.is(EFBIG));
    done = co_await b->set_xattr("large", std::string(4058, 'x'));
    EXPECT_TRUE(done);
    done = co_await b->sync();
    EXPECT_TRUE(done) << done.error().message;
    done = co_await b->remove_xattr("a");
    EXPECT_TRUE(done);
    done = co_await b->remove_xattr("a");
    EXPECT_TRUE(!done && done.error().code.is(ENOENT));
    co_await b->close();  // without a sync: the removal is lost
    b = co_await store->open(*id);
    outcome<std::vector<std::string>> names = co_await b->xattr_names();
    EXPECT_EQ(*names, (std::vector<std::string>{"a", "b", "large"}));
    outcome<std::string> two = co_await b->xattr("b");
    EXPECT_EQ(*two, std::string("two\0bytes", 9));
    outcome<blob> twin = co_await b->share();
    EXPECT_EQ(twin->id(), b->id());
    co_await twin->close();
    done = co_await b->set_read_only();
    EXPECT_TRUE(done);
    done = co_await b->sync();
    EXPECT_TRUE(done);
    done = co_await b->set_xattr("a", "4");
    EXPECT_TRUE(!done && done.error().code.is(EROFS));
    done = co_await b->resize(3);
    EXPECT_TRUE(!done && done.error().code.is(EROFS));
    co_await b->close();
    done = co_await store->unload();
    EXPECT_TRUE(done) << done.error().message;
}

TEST(blobstore_calls, attributes_are_kept_once_they_are_synced) { simulate(&check_attributes); }

task<void> check_parents(bdev_registry& registry) {
    outcome<blobstore> store = co_await init_store(registry);
    const blobstore_status empty = co_await store->status();
    blob_options o;
    o.clusters = 3;
    o.thin = true;
    outcome<blob_id> id = co_await store->create(o);
    outcome<blob> b = co_await store->open(*id);
    result<> written = co_await put(*b, 0, 4, 'a');
    std::vector<blob_xattr> none;
    outcome<blob_id> first = co_await store->snapshot(*id, none);
    written = co_await put(*b, 4, 1, 'b');
    outcome<blob_id> second = co_await store->snapshot(*id, none);
    EXPECT_TRUE(second) << second.error().message;
    blob_status s = co_await b->status();
    EXPECT_EQ(s.parent, *second);
    std::string text = co_await look_at(*b, 0, 12);
    EXPECT_EQ(text, "aaaab.......");
    outcome<> done = co_await b->decouple_parent();
    EXPECT_TRUE(done) << done.error().message;
    s = co_await b->status();
    EXPECT_EQ(s.parent, *first) << "what the second one has is the blob's own now";
    EXPECT_EQ(s.allocated_clusters, 1U);
    text = co_await look_at(*b, 0, 12);
    EXPECT_EQ(text, "aaaab.......");
    std::optional<std::uint64_t> at = co_await b->next_allocated(0);
    EXPECT_EQ(at.value_or(99), 4U);
    at = co_await b->next_unallocated(5);
    EXPECT_EQ(at.value_or(99), 8U);
    outcome<blob_id> free_one = co_await store->create(o);
    outcome<blob> f = co_await store->open(*free_one);
    done = co_await f->set_parent(*second);
    EXPECT_TRUE(done) << done.error().message;
    done = co_await f->set_parent(*second);
    EXPECT_TRUE(!done && done.error().code.is(EEXIST));
    done = co_await f->set_parent(*id);
    EXPECT_TRUE(!done && done.error().code.is(EINVAL)) << "no snapshot";
    text = co_await look_at(*f, 0, 12);
    EXPECT_EQ(text, "aaaab.......");
    outcome<blob> snap = co_await store->open(*second);
    malloc_options m;
    m.name = "copy";
    m.num_blocks = 3 * units;
    m.block_size = block;
    outcome<std::string> made = co_await create_malloc(registry, std::move(m));
    copy_progress progress;
    done = co_await snap->shallow_copy("copy", &progress);
    EXPECT_TRUE(done) << done.error().message;
    EXPECT_EQ(progress.done, 1U);
    outcome<bdev_desc> copy = registry.open("copy", access::read);
    outcome<bdev_channel> channel = copy->open_channel();
    const io_memory data = memory_of(12);
    const iov_view view(data.get(), 12 * block);
    result<> read = co_await channel->read(lba(0), view);
    EXPECT_TRUE(read);
    EXPECT_EQ(static_cast<char>(data[4 * block]), 'b');
    EXPECT_EQ(static_cast<char>(data[0]), '\0') << "only what it has itself";
    done = co_await b->shallow_copy("copy");
    EXPECT_TRUE(!done && done.error().code.is(EPERM)) << "of a writable blob";
    channel->close();
    copy->close();
    co_await snap->close();
    co_await b->close();
    co_await f->close();
    for (const blob_id gone : {*free_one, *second, *id, *first}) {
        done = co_await store->remove(gone);
        EXPECT_TRUE(done) << done.error().message;
    }
    const blobstore_status end = co_await store->status();
    EXPECT_EQ(end.free_clusters, empty.free_clusters);
    EXPECT_EQ(end.free_metadata_pages, empty.free_metadata_pages);
    done = co_await store->unload();
    EXPECT_TRUE(done) << done.error().message;
}

TEST(blobstore_calls, blobs_change_their_parents_and_are_copied) { simulate(&check_parents); }

task<void> check_scattered(bdev_registry& registry) {
    outcome<blobstore> store = co_await init_store(registry);
    blob_options o;
    o.clusters = 3;
    outcome<blob_id> id = co_await store->create(o);
    outcome<blob> b = co_await store->open(*id);
    outcome<bdev_channel> channel = b->open_channel();
    const io_memory one = memory_of(4), two = memory_of(6);
    std::memset(one.get(), 's', 4 * block);
    std::memset(two.get(), 't', 6 * block);
    const iovec parts[] = {{one.get(), 3 * block}, {two.get(), 5 * block}};
    const const_iov_view from{std::span(parts)};
    result<> done = co_await channel->write(lba(2), from);
    EXPECT_TRUE(done);
    std::string text = co_await look_at(*b, 2, 8);
    EXPECT_EQ(text, "sssttttt");
    std::memset(one.get(), 0, 3 * block);
    const iov_view into{std::span(parts)};
    done = co_await channel->read(lba(2), into);
    EXPECT_TRUE(done);
    EXPECT_EQ(static_cast<char>(one[2 * block]), 's');
    done = co_await channel->write_zeroes(lba(3), block_count(5));
    EXPECT_TRUE(done);
    text = co_await look_at(*b, 2, 8);
    EXPECT_EQ(text, "s.....tt");
    done = co_await channel->read(lba(11), iov_view(two.get(), 2 * block));
    EXPECT_TRUE(!done && done.error().is(ERANGE));
    channel->close();
    co_await b->close();
    outcome<> unloaded = co_await store->unload();
    EXPECT_TRUE(unloaded) << unloaded.error().message;
}

TEST(blobstore_calls, scattered_data_crosses_clusters) { simulate(&check_scattered); }

/// Each field of the super block, wrong: the failure names it, and nothing is written.
task<void> check_super_block(bdev_registry& registry) {
    outcome<blobstore> store = co_await init_store(registry);
    outcome<> unloaded = co_await store->unload();
    EXPECT_TRUE(unloaded);
    struct wrong {
        std::size_t at;
        std::size_t bytes;
        std::uint64_t value;
        const char* names;
    };
    constexpr wrong fields[] = {
        {0, 1, 'X', "signature"},
        {8, 4, 0, "version"},
        {8, 4, 4, "version"},
        {28, 4, 0, "cluster_size"},
        {28, 4, 5000, "cluster_size"},
        {32, 4, 0, "used_page_mask"},
        {36, 4, 70000, "used_page_mask"},
        {40, 4, 1, "used_cluster_mask"},
        {44, 4, 0, "used_cluster_mask"},
        {48, 4, 2, "md"},
        {52, 4, 0, "md_len"},
        {52, 4, 0xffffffff, "md"},
        {72, 4, 1, "used_blobid_mask"},
        {80, 8, UINT64_MAX, "size"},
        {88, 4, 3, "io_unit_size"},
        {92, 4, 4097, "md_page_size"},
    };
    sim::file& disk = the_world->file_at("/disk");
    std::vector<std::byte> good(4096), page(4096), after(4096);
    disk.peek(0, good);
    for (const wrong& w : fields) {
        page = good;
        for (std::size_t i = 0; i < w.bytes; ++i) page[w.at + i] = std::byte(w.value >> (8 * i));
        store_le<std::uint32_t>(page.data() + 4092, crc32c(std::span(page).first(4092)));
        disk.poke(0, page);
        outcome<blobstore> bad = co_await load_store(registry);
        EXPECT_FALSE(bad) << w.names;
        EXPECT_NE(bad.error().message.find(w.names), std::string::npos)
            << w.names << ": " << bad.error().message;
        disk.peek(0, after);
        EXPECT_EQ(after, page);
    }
    page = good;
    page[100] ^= std::byte{1};
    disk.poke(0, page);
    outcome<blobstore> bad = co_await load_store(registry);
    EXPECT_TRUE(!bad && bad.error().message.find("crc") != std::string::npos);
    // Older versions have no mask of blob ids: they are recovered.
    for (const unsigned version : {1U, 2U}) {
        page = good;
        store_le<std::uint32_t>(page.data() + 8, version);
        std::memset(page.data() + 72, 0, 24);
        store_le<std::uint32_t>(page.data() + 4092, crc32c(std::span(page).first(4092)));
        disk.poke(0, page);
        store = co_await load_store(registry);
        EXPECT_TRUE(store) << store.error().message;
        const blobstore_status s = co_await store->status();
        EXPECT_EQ(s.version, version);
        EXPECT_TRUE(s.recovered);
        unloaded = co_await store->unload();
        EXPECT_TRUE(unloaded);
    }
}

TEST(blobstore_calls, a_wrong_field_of_the_super_block_is_named) { simulate(&check_super_block); }

task<void> check_flags(bdev_registry& registry) {
    using namespace blob_format;
    outcome<blobstore> store = co_await init_store(registry);
    blob_options o;
    o.clusters = 1;
    std::vector<blob_id> ids;
    for (int i = 0; i < 3; ++i) {
        outcome<blob_id> id = co_await store->create(o);
        ids.push_back(*id);
    }
    outcome<> done = co_await store->unload();
    sim::file& disk = the_world->file_at("/disk");
    std::vector<std::byte> page(4096);
    disk.peek(0, page);
    const super_block super = *super_block::decode(page, disk.size_bytes(), block);
    const auto with_flags = [&](blob_id id, auto change) {
        disk.peek(super.at_metadata(root_of(id)), page);
        chain_reader reader(root_of(id), super);
        EXPECT_TRUE(reader.take(root_of(id), page));
        blob_metadata m = reader.blob();
        change(m.flags);
        encode_chain_page(page, id, 0, no_page, encode_descriptors(m)[0]);
        disk.poke(super.at_metadata(root_of(id)), page);
    };
    with_flags(ids[0], [](blob_flags& f) { f.invalid |= 1U << 20; });
    with_flags(ids[1], [](blob_flags& f) { f.data_ro |= 1U << 20; });
    with_flags(ids[2], [](blob_flags& f) { f.md_ro |= 1U << 20; });
    store = co_await load_store(registry);
    EXPECT_TRUE(store) << store.error().message;
    outcome<blob> b = co_await store->open(ids[0]);
    EXPECT_TRUE(!b && b.error().message.find("invalid_flags") != std::string::npos);
    b = co_await store->open(ids[1]);
    EXPECT_TRUE(b) << b.error().message;
    result<> written = co_await put(*b, 0, 1, 'x');
    EXPECT_TRUE(!written && written.error().is(EROFS));
    co_await b->close();
    b = co_await store->open(ids[2]);
    written = co_await put(*b, 0, 1, 'x');
    EXPECT_TRUE(written) << "only the metadata is read-only";
    done = co_await b->resize(2);
    EXPECT_TRUE(!done && done.error().code.is(EROFS));
    co_await b->close();
    done = co_await store->unload();
    EXPECT_TRUE(done) << done.error().message;
}

TEST(blobstore_calls, unknown_flags_refuse_or_make_read_only) { simulate(&check_flags); }

}  // namespace
}  // namespace nacre::test
