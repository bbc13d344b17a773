// SPDX-License-Identifier: BSD-3-Clause
//
// blobfs: what its calls do, without faults.
#include "test_files.hpp"

namespace nacre::test {
namespace {

void simulate(task<void> (*test)(bdev_registry&), std::uint64_t bytes = 8 << 20) {
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
        sim::world w(seed);
        w.make_file("/disk", bytes);
        sim::with_registry(w, test);
        EXPECT_EQ(w.open_descriptors(), 0U);
    }
}

task<outcome<>> again(bdev_registry& registry, blobfs& fs) {
    outcome<> gone = co_await fs.unload();
    if (!gone) co_return gone;
    outcome<blobfs> loaded = co_await load_fs(registry);
    if (!loaded) co_return fail(std::move(loaded.error()));
    fs = std::move(*loaded);
    co_return outcome<>();
}

task<void> check_life(bdev_registry& registry) {
    outcome<blobfs> fs = co_await make_fs(registry);
    EXPECT_TRUE(fs) << fs.error().message;
    if (!fs) co_return;
    std::string large(300'001, 'x');
    for (std::size_t i = 0; i < large.size(); i += 1000) large[i] = static_cast<char>('a' + i % 23);
    outcome<> done = co_await put(*fs, "/small", "hello");
    EXPECT_TRUE(done) << done.error().message;
    done = co_await put(*fs, "large", large);
    EXPECT_TRUE(done) << done.error().message;
    for (int round = 0; round < 2; ++round) {
        outcome<std::string> text = co_await contents(*fs, "/small");
        EXPECT_EQ(text.value_or("?"), "hello");
        text = co_await contents(*fs, "/large");
        EXPECT_TRUE(text.value_or("?") == large);
        outcome<node_status> status = co_await fs->stat("/large");
        EXPECT_TRUE(status);
        if (status) {
            EXPECT_EQ(status->length, large.size());
        }
        if (round == 0) {
            done = co_await again(registry, *fs);
            EXPECT_TRUE(done) << done.error().message;
            if (!done) co_return;
        }
    }
    blobfs_status s = co_await fs->status();
    EXPECT_FALSE(s.recovered);
    EXPECT_EQ(s.nodes, 3U);
    outcome<std::string> missing = co_await contents(*fs, "/none");
    EXPECT_FALSE(missing);
    if (!missing) {
        EXPECT_EQ(missing.error().message, "/none: No such file or directory (ENOENT)");
    }
    done = co_await fs->remove("/large");
    EXPECT_TRUE(done);
    done = co_await fs->remove("/small");
    EXPECT_TRUE(done);
    done = co_await fs->sync();
    EXPECT_TRUE(done);
    s = co_await fs->status();
    EXPECT_EQ(s.free, s.size);
    done = co_await fs->unload();
    EXPECT_TRUE(done) << done.error().message;
}
TEST(blobfs, keeps_files_through_unload_and_load) { simulate(&check_life); }

task<void> check_names(bdev_registry& registry) {
    outcome<blobfs> fs = co_await make_fs(registry);
    EXPECT_TRUE(fs) << fs.error().message;
    if (!fs) co_return;
    const node_attributes plain;
    outcome<> done = co_await fs->make_directory("/db", plain);
    EXPECT_TRUE(done) << done.error().message;
    done = co_await fs->make_directory("/db/old", plain);
    EXPECT_TRUE(done) << done.error().message;
    done = co_await fs->make_directory("/db/old", plain);
    EXPECT_TRUE(!done && done.error().code.is(EEXIST));
    done = co_await fs->make_directory("/none/old", plain);
    EXPECT_TRUE(!done && done.error().code.is(ENOENT));
    done = co_await put(*fs, "/db/CURRENT", "one");
    EXPECT_TRUE(done);
    done = co_await put(*fs, "/db/tmp", "two");
    EXPECT_TRUE(done);
    // Over a file that somebody reads.
    const file_open_options reading;
    outcome<blobfs_file> open = co_await fs->open("/db/CURRENT", reading);
    EXPECT_TRUE(open);
    if (!open) co_return;
    done = co_await fs->rename("/db/tmp", "/db/CURRENT");
    EXPECT_TRUE(done) << done.error().message;
    char text[4]{};
    const std::span<std::byte> into(reinterpret_cast<std::byte*>(text), 3);
    result<std::size_t> n = co_await open->read(0, into);
    EXPECT_EQ(n.value_or(0), 3U);
    EXPECT_STREQ(text, "one");
    result<> closed = co_await open->close();
    EXPECT_TRUE(closed);
    outcome<std::string> now = co_await contents(*fs, "/db/CURRENT");
    EXPECT_EQ(now.value_or("?"), "two");
    done = co_await fs->link("/db/CURRENT", "/db/old/kept");
    EXPECT_TRUE(done) << done.error().message;
    done = co_await fs->symlink("old/kept", "/db/soft", plain);
    EXPECT_TRUE(done) << done.error().message;
    now = co_await contents(*fs, "/db/soft");
    EXPECT_EQ(now.value_or("?"), "two");
    done = co_await fs->rename("/db", "/db/old/within");
    EXPECT_TRUE(!done && done.error().code.is(EINVAL));
    done = co_await fs->remove_directory("/db/old");
    EXPECT_TRUE(!done && done.error().code.is(ENOTEMPTY));
    done = co_await fs->rename("/db/old", "/moved");
    EXPECT_TRUE(done) << done.error().message;
    done = co_await again(registry, *fs);
    EXPECT_TRUE(done) << done.error().message;
    if (!done) co_return;
    now = co_await contents(*fs, "/moved/kept");
    EXPECT_EQ(now.value_or("?"), "two");
    outcome<node_status> status = co_await fs->stat("/moved/kept");
    if (status) {
        EXPECT_EQ(status->links, 2U);
    }
    done = co_await fs->remove("/db/CURRENT");
    EXPECT_TRUE(done) << done.error().message;
    done = co_await again(registry, *fs);
    EXPECT_TRUE(done);
    if (!done) co_return;
    now = co_await contents(*fs, "/moved/kept");
    EXPECT_EQ(now.value_or("?"), "two");
    outcome<std::vector<directory_entry>> root = co_await fs->list("/");
    EXPECT_TRUE(root);
    std::string names;
    if (root)
        for (const directory_entry& e : *root) names += e.name + " ";
    EXPECT_EQ(names, "db moved ");
    outcome<std::string> target = co_await fs->read_link("/db/soft");
    EXPECT_EQ(target.value_or("?"), "old/kept");
    done = co_await fs->unload();
    EXPECT_TRUE(done) << done.error().message;
}
TEST(blobfs, renames_links_and_removes) { simulate(&check_names); }

task<void> check_edges(bdev_registry& registry) {
    outcome<blobfs> fs = co_await make_fs(registry);
    EXPECT_TRUE(fs) << fs.error().message;
    if (!fs) co_return;
    file_open_options how;
    how.write = how.create = true;
    outcome<blobfs_file> file = co_await fs->open("/f", how);
    EXPECT_TRUE(file);
    if (!file) co_return;
    // What the clusters held before is not to be seen in a gap.
    std::string dirt(200'000, 'd');
    result<> done = co_await file->write(0, bytes_of(dirt));
    EXPECT_TRUE(done);
    done = co_await file->truncate(10);
    EXPECT_TRUE(done);
    done = co_await file->write(150'000, bytes_of("end"));
    EXPECT_TRUE(done);
    std::string expected(150'003, '\0');
    expected.replace(0, 10, 10, 'd');
    expected.replace(150'000, 3, "end");
    outcome<std::string> text = co_await contents(*fs, "/f");
    EXPECT_TRUE(text.value_or("?") == expected);
    done = co_await file->truncate(5);
    EXPECT_TRUE(done);
    done = co_await file->truncate(5000);
    EXPECT_TRUE(done);
    expected = std::string(5000, '\0').replace(0, 5, 5, 'd');
    text = co_await contents(*fs, "/f");
    EXPECT_TRUE(text.value_or("?") == expected);
    done = co_await file->zero(2, 4000);
    EXPECT_TRUE(done);
    expected = std::string(5000, '\0').replace(0, 2, 2, 'd');
    text = co_await contents(*fs, "/f");
    EXPECT_TRUE(text.value_or("?") == expected);
    // Removed while it is open: it works until it is closed.
    outcome<> removed = co_await fs->remove("/f");
    EXPECT_TRUE(removed);
    done = co_await file->append(bytes_of("tail"));
    EXPECT_TRUE(done);
    EXPECT_EQ(file->length(), 5004U);
    done = co_await file->close();
    EXPECT_TRUE(done);
    outcome<> gone = co_await again(registry, *fs);
    EXPECT_TRUE(gone) << gone.error().message;
    if (!gone) co_return;
    blobfs_status s = co_await fs->status();
    EXPECT_EQ(s.free, s.size);
    EXPECT_EQ(s.nodes, 1U);
    gone = co_await fs->unload();
    EXPECT_TRUE(gone) << gone.error().message;
}
TEST(blobfs, gaps_are_zeros_and_removed_files_work_until_they_are_closed) {
    simulate(&check_edges);
}

task<void> check_full(bdev_registry& registry) {
    outcome<blobfs> fs = co_await make_fs(registry);
    EXPECT_TRUE(fs) << fs.error().message;
    if (!fs) co_return;
    file_open_options how;
    how.write = how.create = true;
    outcome<blobfs_file> file = co_await fs->open("/f", how);
    EXPECT_TRUE(file);
    if (!file) co_return;
    const std::string piece(50'000, 'p');
    result<> done;
    std::uint64_t written = 0;
    while (true) {
        done = co_await file->append(bytes_of(piece));
        if (!done) break;
        written += piece.size();
    }
    EXPECT_TRUE(done.error().is(ENOSPC));
    EXPECT_EQ(file->length(), written);
    blobfs_status s = co_await fs->status();
    EXPECT_LT(s.available, piece.size() + cluster);
    EXPECT_LT(s.free - s.available, s.size / 8);
    done = co_await file->sync();  // what was accepted has its place
    EXPECT_TRUE(done);
    done = co_await file->truncate(100'000);
    EXPECT_TRUE(done);
    done = co_await file->append(bytes_of(piece));
    EXPECT_TRUE(done);
    done = co_await file->close();
    EXPECT_TRUE(done);
    outcome<> gone = co_await again(registry, *fs);
    EXPECT_TRUE(gone) << gone.error().message;
    if (!gone) co_return;
    outcome<std::string> text = co_await contents(*fs, "/f");
    EXPECT_TRUE(text.value_or("?") == std::string(150'000, 'p'));
    gone = co_await fs->unload();
    EXPECT_TRUE(gone);
}
TEST(blobfs, says_enospc_at_the_write_and_goes_on_when_there_is_space) {
    simulate(&check_full, 2 << 20);
}

}  // namespace
}  // namespace nacre::test
