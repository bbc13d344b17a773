// SPDX-License-Identifier: BSD-3-Clause
//
// The cache: bounded, read ahead, past it; and blocking calls of foreign threads.
#include <sys/xattr.h>

#include <thread>

#include "nacre/blobfs/blocking.hpp"
#include "test_files.hpp"

namespace nacre::test {
namespace {

void simulate(task<void> (*test)(bdev_registry&), std::uint64_t bytes = 32 << 20) {
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
        sim::world w(seed);
        w.make_file("/disk", bytes);
        sim::with_registry(w, test);
        EXPECT_EQ(w.open_descriptors(), 0U);
    }
}

task<result<>> read_piece(blobfs_file& file, std::uint64_t offset, std::uint64_t bytes) {
    std::vector<std::byte> memory(bytes);
    const std::span<std::byte> into(memory);
    result<std::size_t> n = co_await file.read(offset, into);
    if (!n) co_return fail(n.error());
    co_return result<>();
}

task<void> check_bound(bdev_registry& registry) {
    outcome<blobfs> fs = co_await make_fs(registry);
    EXPECT_TRUE(fs) << fs.error().message;
    if (!fs) co_return;
    constexpr std::uint64_t bound = 1 << 20;
    fs->set_cache_size(bound);
    file_open_options how;
    how.write = how.create = true;
    outcome<blobfs_file> file = co_await fs->open("/f", how);
    EXPECT_TRUE(file);
    if (!file) co_return;
    const std::string piece(8192, 'p');
    for (unsigned i = 0; i < 1024; ++i) {
        result<> done = co_await file->append(bytes_of(piece));
        EXPECT_TRUE(done);
        if (i % 64 != 0) continue;
        const blobfs_status s = co_await fs->status();
        EXPECT_LE(s.dirty, bound);
        EXPECT_LE(s.cached, bound + 16 * 16384);
    }
    blobfs_status s = co_await fs->status();
    EXPECT_GT(s.dirty, 0U);  // it was not written at once
    result<> done = co_await file->sync();
    EXPECT_TRUE(done);
    s = co_await fs->status();
    EXPECT_EQ(s.dirty, 0U);
    done = co_await file->close();
    EXPECT_TRUE(done);
    outcome<std::string> text = co_await contents(*fs, "/f");
    EXPECT_TRUE(text.value_or("?") == std::string(8 << 20, 'p'));
    outcome<> gone = co_await fs->unload();
    EXPECT_TRUE(gone);
}
TEST(blobfs_cache, stays_within_its_bound_and_writes_later) { simulate(&check_bound); }

task<void> check_ahead(bdev_registry& registry) {
    outcome<blobfs> fs = co_await make_fs(registry);
    EXPECT_TRUE(fs) << fs.error().message;
    if (!fs) co_return;
    outcome<> done = co_await put(*fs, "/f", std::string(4 << 20, 'a'));
    EXPECT_TRUE(done);
    done = co_await fs->sync();
    EXPECT_TRUE(done);
    const file_open_options how;
    outcome<blobfs_file> file = co_await fs->open("/f", how);
    EXPECT_TRUE(file);
    if (!file) co_return;
    result<> r = co_await file->drop_cache();
    EXPECT_TRUE(r);
    blobfs_status before = co_await fs->status();
    for (std::uint64_t at = 0; at < 1 << 20; at += 8192) {
        r = co_await read_piece(*file, at, 8192);
        EXPECT_TRUE(r);
        result<> slept = co_await sleep_for(1'000'000);  // the device has time
        EXPECT_TRUE(slept);
    }
    blobfs_status after = co_await fs->status();
    EXPECT_GE(after.cache_misses - before.cache_misses, 256U);  // it was read ahead
    EXPECT_GE(after.cached, (1U << 20) + (256U << 10));
    // Here and there: only what is asked for.
    r = co_await file->drop_cache();
    EXPECT_TRUE(r);
    before = co_await fs->status();
    for (std::uint64_t at = 3 << 20; at > 0; at -= 1 << 18) {
        r = co_await read_piece(*file, at, 4096);
        EXPECT_TRUE(r);
    }
    after = co_await fs->status();
    EXPECT_EQ(after.cache_misses - before.cache_misses, 12U);
    r = co_await file->prefetch(0, 65536);
    EXPECT_TRUE(r);
    result<> slept = co_await sleep_for(10'000'000);
    EXPECT_TRUE(slept);
    before = co_await fs->status();
    r = co_await read_piece(*file, 0, 65536);
    EXPECT_TRUE(r);
    after = co_await fs->status();
    EXPECT_EQ(after.cache_misses, before.cache_misses);
    r = co_await file->close();
    EXPECT_TRUE(r);
    // Past it.
    file_open_options direct;
    direct.direct = true;
    file = co_await fs->open("/f", direct);
    EXPECT_TRUE(file);
    r = co_await file->drop_cache();
    EXPECT_TRUE(r);
    before = co_await fs->status();
    r = co_await read_piece(*file, 8192, 4096);
    EXPECT_TRUE(r);
    after = co_await fs->status();
    EXPECT_EQ(after.cached, before.cached);
    EXPECT_EQ(after.cache_misses, before.cache_misses);
    r = co_await file->close();
    EXPECT_TRUE(r);
    outcome<> gone = co_await fs->unload();
    EXPECT_TRUE(gone);
}
TEST(blobfs_cache, reads_ahead_of_those_who_go_on_and_lets_direct_reads_pass) {
    simulate(&check_ahead);
}

task<void> check_priority(bdev_registry& registry) {
    outcome<blobfs> fs = co_await make_fs(registry);
    EXPECT_TRUE(fs) << fs.error().message;
    if (!fs) co_return;
    outcome<> done;
    for (const char* const path : {"/kept", "/passing"}) {
        done = co_await put(*fs, path, std::string(4 << 20, 'a'));
        EXPECT_TRUE(done);
    }
    done = co_await fs->sync();
    EXPECT_TRUE(done);
    fs->set_cache_size(2 << 20);
    const file_open_options how;
    outcome<blobfs_file> kept = co_await fs->open("/kept", how);
    outcome<blobfs_file> passing = co_await fs->open("/passing", how);
    EXPECT_TRUE(kept && passing);
    if (!kept || !passing) co_return;
    EXPECT_NE(kept->id(), passing->id());
    result<> r = co_await kept->drop_cache();
    EXPECT_TRUE(r);
    r = co_await passing->drop_cache();
    EXPECT_TRUE(r);
    passing->set_priority(file_priority::low);
    // Every other chunk, so that nothing is read ahead.
    for (std::uint64_t at = 0; at < 1 << 20; at += 32768) {
        r = co_await read_piece(*kept, at, 4096);
        EXPECT_TRUE(r);
    }
    for (std::uint64_t at = 0; at < 4 << 20; at += 32768) {
        r = co_await read_piece(*passing, at, 4096);
        EXPECT_TRUE(r);
    }
    const blobfs_status before = co_await fs->status();
    for (std::uint64_t at = 0; at < 1 << 20; at += 32768) {
        r = co_await read_piece(*kept, at, 4096);
        EXPECT_TRUE(r);
    }
    const blobfs_status after = co_await fs->status();
    EXPECT_EQ(after.cache_misses, before.cache_misses);
    r = co_await kept->close();
    EXPECT_TRUE(r);
    r = co_await passing->close();
    EXPECT_TRUE(r);
    done = co_await fs->unload();
    EXPECT_TRUE(done);
}
TEST(blobfs_cache, keeps_what_is_of_high_priority_while_low_passes_through) {
    simulate(&check_priority);
}

task<void> check_attributes(bdev_registry& registry) {
    outcome<blobfs> fs = co_await make_fs(registry);
    EXPECT_TRUE(fs) << fs.error().message;
    if (!fs) co_return;
    outcome<> done = co_await put(*fs, "/f", "x");
    EXPECT_TRUE(done);
    outcome<node_status> status = co_await fs->stat("/f");
    EXPECT_TRUE(status);
    if (!status) co_return;
    const node_id id = status->id;
    attribute_changes c;
    c.mode = 0600;
    c.uid = 12;
    c.mtime_ns = 77'000'000'005;
    result<node_status> changed = co_await fs->change(id, c);
    EXPECT_TRUE(changed);
    result<> r = co_await fs->set_xattr(id, "user.colour", "blue", 0);
    EXPECT_TRUE(r);
    r = co_await fs->set_xattr(id, "user.colour", "red", XATTR_CREATE);
    EXPECT_TRUE(!r && r.error().is(EEXIST));
    r = co_await fs->set_xattr(id, "user.other", "red", XATTR_REPLACE);
    EXPECT_TRUE(!r && r.error().is(ENODATA));
    const file_open_options how;
    outcome<blobfs_file> first = co_await fs->open("/f", how);
    outcome<blobfs_file> second = co_await fs->open("/f", how);
    EXPECT_TRUE(first && second);
    if (!first || !second) co_return;
    r = co_await first->lock();
    EXPECT_TRUE(r);
    r = co_await second->lock();
    EXPECT_TRUE(!r && r.error().is(EWOULDBLOCK));
    r = co_await first->close();
    EXPECT_TRUE(r);
    r = co_await second->lock();
    EXPECT_TRUE(r);
    r = co_await second->close();
    EXPECT_TRUE(r);
    done = co_await fs->unload();
    EXPECT_TRUE(done);
    fs = co_await load_fs(registry, true);
    EXPECT_TRUE(fs) << fs.error().message;
    if (!fs) co_return;
    status = co_await fs->stat("/f");
    EXPECT_TRUE(status);
    EXPECT_EQ(status->attributes.mode, std::uint32_t{S_IFREG | 0600});
    EXPECT_EQ(status->attributes.uid, 12U);
    EXPECT_EQ(status->attributes.mtime_ns, 77'000'000'005);
    result<std::string> colour = co_await fs->xattr(id, "user.colour");
    EXPECT_EQ(colour.value_or("?"), "blue");
    // Loaded read-only.
    done = co_await fs->remove("/f");
    EXPECT_TRUE(!done && done.error().code.is(EROFS));
    file_open_options writing;
    writing.write = true;
    outcome<blobfs_file> file = co_await fs->open("/f", writing);
    EXPECT_TRUE(!file && file.error().code.is(EROFS));
    done = co_await fs->unload();
    EXPECT_TRUE(done);
}
TEST(blobfs, keeps_attributes_locks_and_refuses_to_write_what_is_read_only) {
    simulate(&check_attributes);
}

// --- Foreign threads ----------------------------------------------------------------------------

std::string text_of(unsigned thread, unsigned round) {
    return std::string(5000 + thread * 700 + round, static_cast<char>('a' + (thread + round) % 26));
}

void work_in_a_thread(blobfs& fs, unsigned number, std::atomic<unsigned>& faults) {
    blocking_blobfs files(fs);
    const std::string directory = "/t" + std::to_string(number);
    outcome<> made = files.make_directory(directory);
    if (!made) ++faults;
    for (unsigned round = 0; round < 40; ++round) {
        const std::string path = directory + "/f" + std::to_string(round % 7);
        file_open_options how;
        how.write = how.create = how.truncate = true;
        outcome<blocking_file> file = files.open(path + ".new", how);
        if (!file) {
            ++faults;
            return;
        }
        const std::string text = text_of(number, round);
        result<> done = file->append(bytes_of(text));
        if (done) done = file->append_and_sync(bytes_of(text));
        std::string found(2 * text.size(), '?');
        const std::span<std::byte> into(reinterpret_cast<std::byte*>(found.data()), found.size());
        result<std::size_t> n = file->read(0, into);
        if (!done || n.value_or(0) != found.size() || found != text + text) ++faults;
        result<> closed = file->close();
        outcome<> renamed = files.rename(path + ".new", path);
        if (!closed || !renamed) ++faults;
    }
}

task<void> check_threads(bdev_registry& registry) {
    malloc_options o;
    o.name = "ram";
    o.num_blocks = 16384;
    o.block_size = 4096;
    outcome<std::string> ram = co_await create_malloc(registry, std::move(o));
    EXPECT_TRUE(ram);
    outcome<bdev_desc> desc = registry.open("ram", access::write);
    EXPECT_TRUE(desc);
    if (!desc) co_return;
    outcome<> claimed = desc->take_claim(claim::exclusive_write, "blobfs");
    EXPECT_TRUE(claimed);
    const blobfs_options options;
    outcome<blobfs> fs = co_await blobfs::make(registry, std::move(*desc), options);
    EXPECT_TRUE(fs) << fs.error().message;
    if (!fs) co_return;
    // On a thread of the runtime it would wait for itself.
    blocking_blobfs here(*fs);
    outcome<node_status> refused = here.stat("/");
    EXPECT_TRUE(!refused && refused.error().code.is(EDEADLK));
    std::atomic<unsigned> faults{0};
    std::atomic<unsigned> running{3};
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < 3; ++i)
        threads.emplace_back([&fs, &faults, &running, i] {
            work_in_a_thread(*fs, i, faults);
            --running;
        });
    while (running != 0) {
        result<> slept = co_await sleep_for(1'000'000);
        EXPECT_TRUE(slept);
    }
    for (std::thread& t : threads) t.join();
    EXPECT_EQ(faults, 0U);
    for (unsigned i = 0; i < 3; ++i) {
        outcome<std::string> text = co_await contents(*fs, "/t" + std::to_string(i) + "/f4");
        EXPECT_TRUE(text.value_or("?") == text_of(i, 39) + text_of(i, 39));
    }
    outcome<> gone = co_await fs->unload();
    EXPECT_TRUE(gone) << gone.error().message;
}
TEST(blobfs_blocking, calls_of_foreign_threads_are_carried_out_beside_each_other) {
    sim::with_registry(real_world(), &check_threads, 2);
}

}  // namespace
}  // namespace nacre::test
