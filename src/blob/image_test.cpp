// SPDX-License-Identifier: BSD-3-Clause
//
// The format in both directions: a store that a real SPDK wrote, stores that SPDK's order of writes
// left broken, and stores of nacre's before the independent checker (tests/blobstore).
#include <fmt/format.h>
#include <openssl/sha.h>

#include <cstdlib>
#include <fstream>

#include "format.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/crc32c.hpp"
#include "nacre/core/log.hpp"
#include "test_program.hpp"

namespace nacre::test {
namespace {

using namespace blob_format;

const std::vector<std::byte>& spdk_image() {
    static const std::vector<std::byte> image = [] {
        std::vector<std::byte> bytes(64 << 20);
        FILE* pipe =
            popen("gzip -dc " NACRE_SOURCE_DIR "/tests/blobstore/testdata/lvstore-64m.img.gz", "r");
        EXPECT_NE(pipe, nullptr);
        EXPECT_EQ(fread(bytes.data(), 1, bytes.size(), pipe), bytes.size());
        pclose(pipe);
        return bytes;
    }();
    return image;
}

std::vector<std::byte> contents(sim::world& w) {
    std::vector<std::byte> bytes(w.file_at("/disk").size_bytes());
    w.file_at("/disk").peek(0, bytes);
    return bytes;
}

/// What the independent checker says of the bytes; empty: it finds nothing.
std::string checked(const std::vector<std::byte>& bytes) {
    const std::string path =
        testing::TempDir() + fmt::format("nacre-store-{}.img", static_cast<int>(getpid()));
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    const std::string command = "python3 -B " NACRE_SOURCE_DIR
                                "/tests/blobstore/spdk_blobstore.py check --strict " +
                                path + " 2>&1";
    FILE* pipe = popen(command.c_str(), "r");
    std::string said(4000, '\0');
    said.resize(fread(said.data(), 1, said.size(), pipe));
    const int status = pclose(pipe);
    std::remove(path.c_str());
    return status == 0 ? std::string() : said;
}

struct expected_volume {
    const char* name;
    std::uint64_t clusters;
    std::uint64_t allocated;
    const char* parent;
    const char* sha256;
};
constexpr expected_volume volumes[] = {
    {"lvolA", 8, 2, "snapA", "36e3ffcfd982fc4030d733d973eaa31d6b1d10c48ae80ebafdedba9f67a4202b"},
    {"snapA", 8, 8, "", "1b6871f2e042b021a5154d76dd205d8dc35da68619d55f48a7cdae463ed7c553"},
    {"cloneA", 8, 1, "snapA", "6361a92707c2f19def568e9cd9bc810085c70c1ae8632d7dc583f042ef9febb1"},
    {"lvolB", 16, 2, "", "2a7d1191632c629fe9ac25e0581837c6748512b59bacd0fedbd792572a679c6a"}};

task<void> check_volumes(blobstore& store) {
    std::vector<blob_id> ids = co_await store.list();
    EXPECT_EQ(ids.size(), 5U);
    std::map<blob_id, std::string> names;
    std::map<std::string, blob_status> found;
    for (const blob_id id : ids) {
        outcome<blob> b = co_await store.open(id);
        EXPECT_TRUE(b) << b.error().message;
        if (!b) co_return;
        blob_status s = co_await b->status();
        outcome<std::string> name = co_await b->xattr("name");
        names[id] = name->c_str();
        found[names[id]] = s;
        if (s.clusters != 0) {
            outcome<bdev_channel> channel = b->open_channel();
            const std::uint64_t n = s.clusters * ((1 << 20) / block);
            const io_memory data = memory_of(n);
            const iov_view view(data.get(), n * block);
            result<> read = co_await channel->read(lba(0), view);
            EXPECT_TRUE(read);
            unsigned char sum[32];
            SHA256(reinterpret_cast<const unsigned char*>(data.get()), n * block, sum);
            const std::string hex = to_hex(std::as_bytes(std::span(sum)));
            for (const expected_volume& v : volumes)
                if (names[id] == v.name) {
                    EXPECT_EQ(hex, v.sha256) << v.name;
                }
            channel->close();
        }
        co_await b->close();
    }
    for (const expected_volume& v : volumes) {
        const blob_status& s = found[v.name];
        EXPECT_EQ(s.clusters, v.clusters) << v.name;
        EXPECT_EQ(s.allocated_clusters, v.allocated) << v.name;
        EXPECT_EQ(s.parent == blob_id::none ? "" : names[s.parent], v.parent) << v.name;
        EXPECT_EQ(s.snapshot, std::string_view(v.name) == "snapA");
    }
}

task<void> read_image(bdev_registry& registry) {
    for (const bool recover : {false, true}) {
        blobstore_load_options o;
        o.type = "LVOLSTORE";
        o.read_only = true;
        o.recover = recover;
        outcome<blobstore> store = co_await load_store(registry, o);
        EXPECT_TRUE(store) << store.error().message;
        if (!store) co_return;
        const blobstore_status s = co_await store->status();
        EXPECT_EQ(s.free_clusters, 50U);
        EXPECT_EQ(s.data_clusters, 63U);
        EXPECT_EQ(s.recovered, recover);
        EXPECT_EQ(s.super_blob, static_cast<blob_id>(0x100000000));
        EXPECT_TRUE(s.findings.empty());
        co_await check_volumes(*store);
        outcome<> unloaded = co_await store->unload();
        EXPECT_TRUE(unloaded) << unloaded.error().message;
    }
}

TEST(blobstore_image, what_spdk_wrote_reads_back_and_is_not_touched) {
    sim::world w(1);
    w.make_file("/disk", 64 << 20).poke(0, spdk_image());
    sim::with_registry(w, &read_image);
    EXPECT_EQ(contents(w), spdk_image());
}

task<void> work_on_image(bdev_registry& registry) {
    outcome<blobstore> store = co_await load_store(registry);
    EXPECT_TRUE(store) << store.error().message;
    if (!store) co_return;
    co_await check_volumes(*store);
    std::vector<blob_xattr> xattrs;
    xattrs.push_back({"name", std::string("second\0", 7)});
    xattrs.push_back({"uuid", std::string("924cae11-6771-41e9-9deb-25f54d805a8d\0", 37)});
    outcome<blob_id> snap = co_await store->snapshot(static_cast<blob_id>(0x100000001), xattrs);
    EXPECT_TRUE(snap) << snap.error().message;
    outcome<blob> b = co_await store->open(static_cast<blob_id>(0x100000001));
    result<> written = co_await put(*b, 5, 600, 'n');
    EXPECT_TRUE(written);
    outcome<> done = co_await b->resize(11);
    EXPECT_TRUE(done) << done.error().message;
    co_await b->close();
    done = co_await store->remove(static_cast<blob_id>(0x100000005));
    EXPECT_TRUE(done) << done.error().message;
    done = co_await store->unload();
    EXPECT_TRUE(done) << done.error().message;
}

TEST(blobstore_image, what_spdk_wrote_can_be_worked_on) {
    sim::world w(1);
    w.make_file("/disk", 64 << 20).poke(0, spdk_image());
    sim::with_registry(w, &work_on_image);
    EXPECT_EQ(checked(contents(w)), "");
}

TEST(blobstore_image, programs_leave_what_the_format_explains) {
    log::silence(true);
    for (std::uint64_t seed = 1; seed <= 24; ++seed) {
        program_options o;
        o.seed = seed;
        o.operations = 30;
        o.extent_table = seed % 4 != 0;
        program_scenario scenario(o);
        sim::world w(seed);
        const outcome<> lived = scenario.run(w);
        EXPECT_TRUE(lived) << lived.error().message;
        EXPECT_EQ(checked(contents(w)), "") << "seed " << seed;
    }
    log::silence(false);
}

// --- What SPDK's order of writes leaves ---------------------------------------------------------

/// The bytes of a store, changed behind its back.
class store_bytes {
public:
    explicit store_bytes(sim::file& f) : file_(f) {
        file_.peek(0, page_);
        super_ = *super_block::decode(page_, file_.size_bytes(), block);
    }
    [[nodiscard]] blob_metadata blob(blob_id id) {
        chain_reader reader(root_of(id), super_);
        std::optional<std::uint32_t> at = root_of(id);
        while (at) {
            file_.peek(super_.at_metadata(*at), page_);
            at = reader.take(*at, page_).value();
        }
        return reader.blob();
    }
    void put_root(blob_id id, const blob_metadata& blob) {
        encode_chain_page(page_, id, 0, no_page, encode_descriptors(blob)[0]);
        file_.poke(super_.at_metadata(root_of(id)), page_);
    }
    [[nodiscard]] std::vector<std::uint32_t> extents(std::uint32_t index) {
        file_.peek(super_.at_metadata(index), page_);
        return extent_page::decode(index, page_, super_)->clusters;
    }
    void put_extents(std::uint32_t index, blob_id id, std::uint32_t first,
                     const std::vector<std::uint32_t>& clusters) {
        encode_extent_page(page_, id, first, clusters);
        file_.poke(super_.at_metadata(index), page_);
    }
    void make_dirty() {
        super_.clean = false;
        super_.encode(page_);
        file_.poke(0, page_);
    }

private:
    sim::file& file_;
    std::vector<std::byte> page_ = std::vector<std::byte>(4096);
    super_block super_;
};

sim::world* the_world = nullptr;

task<void> check_shrink(bdev_registry& registry) {
    outcome<blobstore> store = co_await init_store(registry);
    blob_options o;
    o.clusters = 1100;
    outcome<blob_id> id = co_await store->create(o);
    EXPECT_TRUE(id) << id.error().message;
    if (!id) co_return;
    outcome<blob> b = co_await store->open(*id);
    result<> written = co_await put(*b, 4 * 599, 4, 'k');
    EXPECT_TRUE(written);
    co_await b->close();
    const blobstore_status before = co_await store->status();
    outcome<> done = co_await store->unload();
    EXPECT_TRUE(done) << done.error().message;
    // A shrink to 600: the extent pages are written, the root is not.
    store_bytes bytes(the_world->file_at("/disk"));
    const blob_metadata m = bytes.blob(*id);
    std::vector<std::uint32_t> second = bytes.extents(m.extent_pages[1]);
    second.resize(600 - 512);
    bytes.put_extents(m.extent_pages[1], *id, 512, second);
    bytes.put_extents(m.extent_pages[2], *id, 1024, {});
    bytes.make_dirty();
    store = co_await load_store(registry);
    EXPECT_TRUE(store) << store.error().message;
    if (!store) co_return;
    const blobstore_status after = co_await store->status();
    EXPECT_EQ(after.findings.size(), 1U);
    EXPECT_EQ(after.free_clusters, before.free_clusters + 500);
    b = co_await store->open(*id);
    EXPECT_TRUE(b) << b.error().message;
    const blob_status s = co_await b->status();
    EXPECT_EQ(s.clusters, 600U);
    std::string text = co_await look_at(*b, 4 * 599, 4);
    EXPECT_EQ(text, "kkkk");
    co_await b->close();
    done = co_await store->unload();
    EXPECT_TRUE(done) << done.error().message;
}

TEST(blobstore_image, a_shrink_that_spdk_did_not_finish_is_finished) {
    sim::world w(1);
    the_world = &w;
    w.make_file("/disk", 1600 * cluster);
    sim::with_registry(w, &check_shrink);
    EXPECT_EQ(checked(contents(w)), "");
}

task<void> check_shared(bdev_registry& registry) {
    outcome<blobstore> store = co_await init_store(registry);
    blob_options o;
    o.clusters = 4;
    o.thin = true;
    outcome<blob_id> id = co_await store->create(o);
    outcome<blob> b = co_await store->open(*id);
    result<> written = co_await put(*b, 0, 8, 'o');
    std::vector<blob_xattr> none;
    outcome<blob_id> snap = co_await store->snapshot(*id, none);
    EXPECT_TRUE(snap) << snap.error().message;
    written = co_await put(*b, 8, 1, 'n');
    EXPECT_TRUE(written);
    co_await b->close();
    const blobstore_status before = co_await store->status();
    outcome<> done = co_await store->unload();
    EXPECT_TRUE(done) << done.error().message;
    // The snapshot is being removed; its clone's extent page is merged, the clone's root is not.
    store_bytes bytes(the_world->file_at("/disk"));
    blob_metadata s = bytes.blob(*snap);
    s.set_reference(xattr_being_removed, *id);
    s.settle_flags();
    bytes.put_root(*snap, s);
    const blob_metadata c = bytes.blob(*id);
    std::vector<std::uint32_t> merged = bytes.extents(c.extent_pages[0]);
    const std::vector<std::uint32_t> parents = bytes.extents(s.extent_pages[0]);
    for (std::size_t i = 0; i < merged.size(); ++i)
        if (merged[i] == 0) merged[i] = parents[i];
    bytes.put_extents(c.extent_pages[0], *id, 0, merged);
    bytes.make_dirty();
    store = co_await load_store(registry);
    EXPECT_TRUE(store) << store.error().message;
    if (!store) co_return;
    const blobstore_status after = co_await store->status();
    EXPECT_EQ(after.findings.size(), 1U);
    EXPECT_EQ(after.free_clusters, before.free_clusters);
    b = co_await store->open(*id);
    std::string text = co_await look_at(*b, 0, 16);
    EXPECT_EQ(text, "oooooooon.......");
    // A write of the clone leaves the snapshot alone.
    written = co_await put(*b, 0, 1, 'x');
    EXPECT_TRUE(written);
    outcome<blob> old = co_await store->open(*snap);
    text = co_await look_at(*old, 0, 16);
    EXPECT_EQ(text, "oooooooo........");
    co_await b->close();
    co_await old->close();
    done = co_await store->remove(*snap);
    EXPECT_TRUE(done) << done.error().message;
    done = co_await store->unload();
    EXPECT_TRUE(done) << done.error().message;
}

TEST(blobstore_image, a_clone_that_spdk_merged_too_early_gives_back_its_snapshots_clusters) {
    sim::world w(1);
    the_world = &w;
    w.make_file("/disk", 64 * cluster);
    sim::with_registry(w, &check_shared);
    EXPECT_EQ(checked(contents(w)), "");
}

// --- Other shapes, and damage -------------------------------------------------------------------

task<void> make_family(bdev_registry& registry) {
    blobstore_options options;
    options.metadata_page_size = the_world->seed() % 2 == 0 ? 8192 : 0;
    outcome<blobstore> store = co_await init_store(registry, options);
    EXPECT_TRUE(store) << store.error().message;
    if (!store) co_return;
    for (const bool table : {true, false}) {
        blob_options o;
        o.clusters = 6;
        o.thin = true;
        o.extent_table = table;
        o.xattrs.push_back({"name", std::string(3000, 'n')});
        o.xattrs.push_back({"more", std::string(3000, 'm')});
        outcome<blob_id> id = co_await store->create(o);
        EXPECT_TRUE(id) << id.error().message;
        outcome<blob> b = co_await store->open(*id);
        result<> written = co_await put(*b, 3, 7, 'a');
        EXPECT_TRUE(written);
        std::vector<blob_xattr> none;
        outcome<blob_id> snap = co_await store->snapshot(*id, none);
        EXPECT_TRUE(snap) << snap.error().message;
        written = co_await put(*b, 9, 2, 'b');
        EXPECT_TRUE(written);
        co_await b->close();
    }
    outcome<> done = co_await store->unload();
    EXPECT_TRUE(done) << done.error().message;
}

TEST(blobstore_image, large_metadata_pages_and_chains_are_explained_too) {
    for (const std::uint64_t seed : {1, 2}) {
        sim::world w(seed);
        the_world = &w;
        w.make_file("/disk", 2 << 20);
        sim::with_registry(w, &make_family);
        EXPECT_EQ(checked(contents(w)), "");
    }
}

/// Bytes of metadata pages change, with a CRC that says nothing of it.
void spoil(sim::file& disk, prng& dice) {
    std::vector<std::byte> page(4096);
    disk.peek(0, page);
    const super_block super = *super_block::decode(page, disk.size_bytes(), block);
    const auto index = static_cast<std::uint32_t>(dice.below(14));
    disk.peek(super.at_metadata(index), page);
    for (std::uint64_t n = 1 + dice.below(3); n > 0; --n) {
        const std::uint64_t at = dice.below(3) == 0 ? dice.below(16) : 16 + dice.below(120);
        page[at] = std::byte(dice.below(4) == 0 ? 255 : dice.below(256));
    }
    store_le<std::uint32_t>(page.data() + 4092, crc32c(std::span(page).first(4092)));
    disk.poke(super.at_metadata(index), page);
}

task<void> use_whatever_there_is(bdev_registry& registry) {
    blobstore_load_options o;
    o.recover = the_world->dice().below(2) == 0;
    o.read_only = the_world->dice().below(2) == 0;
    const std::vector<std::byte> before = contents(*the_world);
    outcome<blobstore> store = co_await load_store(registry, o);
    if (!store) {
        EXPECT_FALSE(store.error().message.empty());
        EXPECT_EQ(contents(*the_world), before) << "what is refused is not written to";
        co_return;
    }
    std::vector<blob_id> ids = co_await store->list();
    for (const blob_id id : ids) {
        outcome<blob> b = co_await store->open(id);
        if (!b) {
            EXPECT_NE(b.error().message.find("blob 0x1"), std::string::npos) << b.error().message;
            continue;
        }
        const blob_status s = co_await b->status();
        if (s.clusters != 0 && s.clusters < 1000)
            std::string text = co_await look_at(*b, 0, s.clusters * units);
        co_await b->close();
    }
    outcome<> unloaded = co_await store->unload();
    EXPECT_TRUE(unloaded) << unloaded.error().message;
    if (o.read_only) {
        EXPECT_EQ(contents(*the_world), before);
    }
}

TEST(blobstore_image, damage_is_named_and_not_made_worse) {
    log::silence(true);
    sim::world made(1);
    the_world = &made;
    made.make_file("/disk", 2 << 20);
    sim::with_registry(made, &make_family);
    const std::vector<std::byte> good = contents(made);
    for (std::uint64_t seed = 1; seed <= 600 && !HasFailure(); ++seed) {
        sim::world w(seed);
        the_world = &w;
        sim::file& disk = w.make_file("/disk", good.size());
        disk.poke(0, good);
        prng dice(seed);
        spoil(disk, dice);
        sim::with_registry(w, &use_whatever_there_is);
        EXPECT_FALSE(HasFailure()) << "seed " << seed;
    }
    log::silence(false);
}

}  // namespace
}  // namespace nacre::test
