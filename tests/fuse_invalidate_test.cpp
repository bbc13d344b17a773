// SPDX-License-Identifier: BSD-3-Clause
//
// A mount whose blobfs is changed beside it, by the library: what the kernel has cached it keeps,
// until fuse_mount::invalidate() says what is new.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <optional>

#include "nacre/blobfs/blobfs.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/serve/fuse.hpp"
#include "plugins/rocksdb/test_host.hpp"

namespace nacre::test {
namespace {

struct mounted_fs {
    blobfs fs;
    std::optional<fuse_mount> mount;
};

task<outcome<>> begin(across<app> host, across<mounted_fs> m, std::string folder) {
    outcome<bdev_desc> desc = host->bdevs().open("m", access::write);
    if (!desc) co_return fail(std::move(desc.error()));
    outcome<> claimed = desc->take_claim(claim::exclusive_write, "test");
    if (!claimed) co_return claimed;
    blobfs_options options;
    options.cluster_size = 16384;
    outcome<blobfs> fs = co_await blobfs::make(host->bdevs(), std::move(*desc), options);
    if (!fs) co_return fail(std::move(fs.error()));
    m->fs = std::move(*fs);
    fuse_options how;
    how.writeback = false;  // with it the kernel's own word on lengths counts
    outcome<fuse_mount> mount =
        co_await fuse_mount::mount(host->host(), m->fs, std::move(folder), how);
    if (!mount) {
        outcome<> gone = co_await m->fs.unload();
        if (!gone) co_return gone;
        co_return fail(std::move(mount.error()));
    }
    m->mount.emplace(std::move(*mount));
    co_return outcome<>();
}

task<outcome<>> end(across<mounted_fs> m) {
    outcome<> gone = co_await m->mount->unmount_by_force();
    m->mount.reset();
    outcome<> unloaded = co_await m->fs.unload();
    co_return gone ? unloaded : gone;
}

task<outcome<>> put(across<mounted_fs> m, std::string path, std::string text) {
    file_open_options how;
    how.write = how.create = how.truncate = true;
    outcome<blobfs_file> file = co_await m->fs.open(path, how);
    if (!file) co_return fail(std::move(file.error()));
    result<> done = co_await file->write(0, bytes_of(text));
    result<> closed = co_await file->close();
    if (!done) co_return fail(failure(done.error()));
    if (!closed) co_return fail(failure(closed.error()));
    co_return outcome<>();
}

task<outcome<>> rename(across<mounted_fs> m, std::string from, std::string to) {
    outcome<> done = co_await m->fs.rename(from, to);
    co_return done;
}

task<outcome<>> forget_file(across<mounted_fs> m, std::string path) {
    outcome<node_status> status = co_await m->fs.stat(path);
    if (!status) co_return fail(std::move(status.error()));
    result<> done = co_await m->mount->invalidate(status->id);
    if (!done) co_return fail(failure(done.error()));
    co_return outcome<>();
}

task<outcome<>> forget_name(across<mounted_fs> m, std::string name) {
    result<> done = co_await m->mount->invalidate(m->fs.root(), name);
    if (!done) co_return fail(failure(done.error()));
    co_return outcome<>();
}

class fuse_invalidate : public testing::Test {
protected:
    void SetUp() override {
        std::string pattern = std::filesystem::temp_directory_path() / "nacre-fuse-XXXXXX";
        ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
        folder_ = pattern;
        const outcome<> begun =
            host_.on_main(&begin, across<app>(host_.application()), shared(), folder_);
        if (!begun && (begun.error().code.is(EPERM) || begun.error().code.is(EACCES) ||
                       ::access("/dev/fuse", F_OK) != 0))
            GTEST_SKIP() << "this machine lets nobody mount: " << begun.error().message;
        ASSERT_TRUE(begun.has_value()) << begun.error().message;
    }
    void TearDown() override {
        if (m_.mount) {
            must(host_.on_main(&end, shared()));
        }
        std::error_code ignored;
        std::filesystem::remove(folder_, ignored);
    }
    static void must(const outcome<>& done) {
        EXPECT_TRUE(done.has_value()) << done.error().message;
    }
    across<mounted_fs> shared() { return across<mounted_fs>(m_); }
    [[nodiscard]] std::string path(const std::string& name) const { return folder_ + "/" + name; }
    [[nodiscard]] bool is_there(const std::string& name) const {
        struct stat s{};
        return ::stat(path(name).c_str(), &s) == 0;
    }

    test_host host_{{"malloc:///m?size=64MiB"}};
    mounted_fs m_;
    std::string folder_;
};

/// Without asking for its length first: for a time of last access the kernel would ask nacre.
std::string all_of(int fd) {
    std::string text(100, '?');
    const ssize_t n = ::pread(fd, text.data(), text.size(), 0);
    EXPECT_GE(n, 0);
    text.resize(n < 0 ? 0 : static_cast<std::size_t>(n));
    return text;
}

TEST_F(fuse_invalidate, shows_data_and_lengths_that_others_have_written) {
    must(host_.on_main(&put, shared(), std::string("/f"), std::string("before")));
    const int fd = ::open(path("f").c_str(), O_RDONLY | O_CLOEXEC);
    ASSERT_GE(fd, 0);
    EXPECT_EQ(all_of(fd), "before");
    must(host_.on_main(&put, shared(), std::string("/f"), std::string("what is new")));
    EXPECT_EQ(all_of(fd), "before");
    must(host_.on_main(&forget_file, shared(), std::string("/f")));
    EXPECT_EQ(all_of(fd), "what is new");
    EXPECT_EQ(::close(fd), 0);
}

TEST_F(fuse_invalidate, shows_names_that_others_have_changed) {
    must(host_.on_main(&put, shared(), std::string("/old"), std::string("x")));
    EXPECT_TRUE(is_there("old"));
    EXPECT_FALSE(is_there("new"));
    must(host_.on_main(&rename, shared(), std::string("/old"), std::string("/new")));
    EXPECT_TRUE(is_there("old"));
    must(host_.on_main(&forget_name, shared(), std::string("old")));
    must(host_.on_main(&forget_name, shared(), std::string("new")));
    EXPECT_FALSE(is_there("old"));
    EXPECT_TRUE(is_there("new"));
}

}  // namespace
}  // namespace nacre::test
