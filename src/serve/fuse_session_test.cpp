// SPDX-License-Identifier: BSD-3-Clause
//
// What a mounted blobfs answers, without a kernel: requests as they lie in memory, on a file system
// on a simulated disk.
#include "fuse_session.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/falloc.h>

#include "modules/malloc/malloc.hpp"
#include "nacre/sim/disk_model.hpp"
#include "nacre/sim/world.hpp"

namespace nacre::fuse {
namespace {

/// Asks as the kernel does.
class client {
public:
    client(session& s) noexcept : session_(s), out_(io_bytes_max) {}

    struct question {
        std::uint32_t operation = 0;
        std::uint64_t node = root_number;
        std::string_view name{};
        std::string_view second{};
        std::string_view data{};
        std::uint32_t uid = 1000;
    };
    template <typename T>
    task<result<std::uint32_t>> ask(question q, T structure) {
        const auto* const at = reinterpret_cast<const char*>(&structure);
        fixed_.assign(at, sizeof structure);
        return ask(q);
    }
    task<result<std::uint32_t>> ask(question q) {
        request_ = request();
        request_.header.opcode = q.operation;
        request_.header.nodeid = q.node;
        request_.header.uid = q.uid;
        request_.header.gid = 100;
        request_.fixed = std::as_bytes(std::span(fixed_));
        request_.name = q.name;
        request_.second = q.second;
        request_.data = std::as_bytes(std::span(q.data));
        return session_.handle(request_, out_);
    }
    template <typename T>
    [[nodiscard]] T answered(std::size_t at = 0) const noexcept {
        T value;
        std::memcpy(&value, out_.data() + at, sizeof value);
        return value;
    }
    [[nodiscard]] std::string text(std::size_t bytes) const {
        return {reinterpret_cast<const char*>(out_.data()), bytes};
    }

    // The common ones; 0 or node none if they fail.
    task<std::uint64_t> create(std::string_view name, std::uint64_t in = root_number) {
        fuse_create_in how{};
        how.flags = O_RDWR | O_CREAT;
        how.mode = S_IFREG | 0644;
        const result<std::uint32_t> n = co_await ask({FUSE_CREATE, in, name}, how);
        EXPECT_TRUE(n) << name;
        node = answered<fuse_entry_out>().nodeid;
        co_return answered<fuse_open_out>(sizeof(fuse_entry_out)).fh;
    }
    task<void> write(std::uint64_t handle, std::uint64_t at, std::string_view text) {
        fuse_write_in in{};
        in.fh = handle;
        in.offset = at;
        in.size = static_cast<std::uint32_t>(text.size());
        const result<std::uint32_t> n = co_await ask({FUSE_WRITE, node, {}, {}, text}, in);
        EXPECT_TRUE(n);
        EXPECT_EQ(answered<fuse_write_out>().size, text.size());
    }
    task<std::string> read(std::uint64_t handle, std::uint64_t at, std::uint32_t bytes) {
        fuse_read_in in{};
        in.fh = handle;
        in.offset = at;
        in.size = bytes;
        const result<std::uint32_t> n = co_await ask({FUSE_READ, node}, in);
        co_return n ? text(*n) : describe(n.error());
    }
    task<void> release(std::uint64_t handle) {
        fuse_release_in in{};
        in.fh = handle;
        const result<std::uint32_t> n = co_await ask({FUSE_RELEASE, node}, in);
        EXPECT_TRUE(n);
    }

    std::uint64_t node = 0;  ///< that create() made

private:
    session& session_;
    std::vector<std::byte> out_;
    std::string fixed_;
    request request_;
};

using check_function = task<void> (*)(client& c, session& s);
check_function check_now = nullptr;

task<void> run_check(bdev_registry& registry) {
    malloc_options o;
    o.name = "m";
    o.block_size = 4096;
    o.num_blocks = 4096;
    outcome<std::string> made = co_await create_malloc(registry, std::move(o));
    EXPECT_TRUE(made) << made.error().message;
    if (!made) co_return;
    outcome<bdev_desc> desc = registry.open("m", access::write);
    EXPECT_TRUE(desc);
    outcome<> claimed = desc->take_claim(claim::exclusive_write, "blobfs");
    EXPECT_TRUE(claimed);
    blobfs_options how;
    how.cluster_size = 16384;
    outcome<blobfs> fs = co_await blobfs::make(registry, std::move(*desc), how);
    EXPECT_TRUE(fs) << fs.error().message;
    if (!fs) co_return;
    {
        const fuse_options options;
        session s(registry.home_world(), *fs, options);
        client c(s);
        co_await check_now(c, s);
        co_await s.close_all();
    }
    outcome<> gone = co_await fs->unload();
    EXPECT_TRUE(gone) << gone.error().message;
}

void with_mount(check_function check) {
    check_now = check;
    sim::world w(1);
    sim::with_registry(w, &run_check);
}

task<void> check_file(client& c, session& s) {
    const std::uint64_t handle = co_await c.create("file");
    EXPECT_EQ(s.open_files(), 1U);
    co_await c.write(handle, 0, "hello");
    co_await c.write(handle, 10, "world");
    const std::string text = co_await c.read(handle, 3, 100);
    EXPECT_EQ(text, std::string("lo\0\0\0\0\0world", 12));
    const result<std::uint32_t> found = co_await c.ask({FUSE_LOOKUP, root_number, "file"});
    EXPECT_TRUE(found);
    const auto entry = c.answered<fuse_entry_out>();
    EXPECT_EQ(entry.nodeid, c.node);
    EXPECT_EQ(entry.attr.ino, c.node);
    EXPECT_EQ(entry.attr.size, 15U);
    EXPECT_EQ(entry.attr.uid, 1000U);
    EXPECT_EQ(entry.attr.gid, 100U);
    EXPECT_EQ(entry.attr.mode, S_IFREG | 0644U);
    EXPECT_GT(entry.attr_valid, 0U);
    fuse_fsync_in sync{};
    sync.fh = handle;
    const result<std::uint32_t> synced = co_await c.ask({FUSE_FSYNC, c.node}, sync);
    EXPECT_TRUE(synced);
    co_await c.release(handle);
    EXPECT_EQ(s.open_files(), 0U);
    const std::string closed = co_await c.read(handle, 0, 1);
    EXPECT_EQ(closed, describe(error::posix(EBADF)));
}
TEST(fuse_session, creates_writes_reads_and_closes_a_file) { with_mount(&check_file); }

task<void> check_removed(client& c, session&) {
    const std::uint64_t handle = co_await c.create("gone");
    co_await c.write(handle, 0, "still here");
    const result<std::uint32_t> removed = co_await c.ask({FUSE_UNLINK, root_number, "gone"});
    EXPECT_TRUE(removed);
    const std::string text = co_await c.read(handle, 0, 100);
    EXPECT_EQ(text, "still here");
    fuse_getattr_in by_handle{};
    by_handle.getattr_flags = FUSE_GETATTR_FH;
    by_handle.fh = handle;
    const result<std::uint32_t> known = co_await c.ask({FUSE_GETATTR, c.node}, by_handle);
    EXPECT_TRUE(known);
    EXPECT_EQ(c.answered<fuse_attr_out>().attr.nlink, 0U);
    fuse_setattr_in shorter{};
    shorter.valid = FATTR_SIZE | FATTR_FH;
    shorter.fh = handle;
    shorter.size = 5;
    const result<std::uint32_t> cut = co_await c.ask({FUSE_SETATTR, c.node}, shorter);
    EXPECT_TRUE(cut);
    EXPECT_EQ(c.answered<fuse_attr_out>().attr.size, 5U);
    co_await c.release(handle);
}
TEST(fuse_session, serves_an_open_file_that_has_no_name_any_more) { with_mount(&check_removed); }

task<void> check_missing(client& c, session&) {
    const result<std::uint32_t> found = co_await c.ask({FUSE_LOOKUP, root_number, "none"});
    EXPECT_TRUE(found);
    EXPECT_EQ(c.answered<fuse_entry_out>().nodeid, 0U);
    EXPECT_GT(c.answered<fuse_entry_out>().entry_valid, 0U);
}
TEST(fuse_session, lets_the_kernel_remember_that_a_name_is_not_there) {
    with_mount(&check_missing);
}

task<void> check_group(client& c, session&) {
    fuse_mkdir_in in{};
    in.mode = 0755 | S_ISGID;
    result<std::uint32_t> n = co_await c.ask({FUSE_MKDIR, root_number, "shared"}, in);
    EXPECT_TRUE(n);
    const std::uint64_t shared = c.answered<fuse_entry_out>().nodeid;
    fuse_setattr_in owner{};
    owner.valid = FATTR_GID;
    owner.gid = 7;
    n = co_await c.ask({FUSE_SETATTR, shared}, owner);
    EXPECT_TRUE(n);
    in.mode = 0755;
    n = co_await c.ask({FUSE_MKDIR, shared, "inner"}, in);
    EXPECT_TRUE(n);
    EXPECT_EQ(c.answered<fuse_entry_out>().attr.gid, 7U);
    EXPECT_EQ(c.answered<fuse_entry_out>().attr.mode, S_IFDIR | S_ISGID | 0755U);
    const std::uint64_t handle = co_await c.create("file", shared);
    EXPECT_EQ(c.answered<fuse_entry_out>().attr.gid, 7U);
    EXPECT_EQ(c.answered<fuse_entry_out>().attr.mode, S_IFREG | 0644U);
    co_await c.release(handle);
}
TEST(fuse_session, gives_new_files_the_group_of_a_set_group_id_directory) {
    with_mount(&check_group);
}

task<void> check_privileges(client& c, session&) {
    const std::uint64_t handle = co_await c.create("tool");
    fuse_setattr_in mode{};
    mode.valid = FATTR_MODE;
    mode.mode = S_IFREG | 06755;
    result<std::uint32_t> n = co_await c.ask({FUSE_SETATTR, c.node}, mode);
    EXPECT_EQ(c.answered<fuse_attr_out>().attr.mode, S_IFREG | 06755U);
    fuse_write_in in{};
    in.fh = handle;
    in.size = 1;
    n = co_await c.ask({FUSE_WRITE, c.node, {}, {}, "x"}, in);
    EXPECT_TRUE(n);
    n = co_await c.ask({FUSE_GETATTR, c.node}, fuse_getattr_in{});
    EXPECT_EQ(c.answered<fuse_attr_out>().attr.mode, S_IFREG | 06755U);
    in.write_flags = FUSE_WRITE_KILL_SUIDGID;
    n = co_await c.ask({FUSE_WRITE, c.node, {}, {}, "x"}, in);
    EXPECT_TRUE(n);
    n = co_await c.ask({FUSE_GETATTR, c.node}, fuse_getattr_in{});
    EXPECT_EQ(c.answered<fuse_attr_out>().attr.mode, S_IFREG | 0755U);
    co_await c.release(handle);
}
TEST(fuse_session, takes_privileges_from_a_file_that_another_writes) {
    with_mount(&check_privileges);
}

struct listed {
    std::uint64_t number = 0;
    std::uint64_t next = 0;
    std::string name;
    std::size_t bytes = 0;  ///< of the record
};
listed entry_at(const std::string& text, std::size_t at) {
    fuse_dirent d{};
    constexpr std::size_t head = offsetof(fuse_dirent, name);
    std::memcpy(&d, text.data() + at, head);
    return {d.ino, d.off, text.substr(at + head, d.namelen), (head + d.namelen + 7) / 8 * 8};
}

/// The names, read in pieces of `bytes`.
task<std::vector<std::string>> list(client& c, std::uint64_t handle, std::uint32_t bytes,
                                    bool plus) {
    std::vector<std::string> names;
    fuse_read_in in{};
    in.fh = handle;
    in.size = bytes;
    while (true) {
        const std::uint32_t operation = plus ? FUSE_READDIRPLUS : FUSE_READDIR;
        const result<std::uint32_t> n = co_await c.ask({operation, root_number}, in);
        EXPECT_TRUE(n);
        if (!n || *n == 0) co_return names;
        const std::string piece = c.text(*n);
        const std::size_t before = plus ? sizeof(fuse_entry_out) : 0;
        for (std::size_t at = 0; at < piece.size();) {
            const listed d = entry_at(piece, at + before);
            names.push_back(d.name);
            if (plus && !names.back().starts_with('.')) {
                fuse_entry_out e{};
                std::memcpy(&e, piece.data() + at, sizeof e);
                EXPECT_EQ(e.nodeid, d.number);
                EXPECT_EQ(e.attr.mode, S_IFREG | 0644U);
            }
            in.offset = d.next;
            at += before + d.bytes;
        }
    }
}

task<void> check_directory(client& c, session&) {
    std::vector<std::string> expected{".", ".."};
    for (int i = 0; i < 600; ++i) {
        expected.push_back("f" + std::to_string(1000 + i));
        const std::uint64_t handle = co_await c.create(expected.back());
        co_await c.release(handle);
    }
    const result<std::uint32_t> opened =
        co_await c.ask({FUSE_OPENDIR, root_number}, fuse_open_in{});
    EXPECT_TRUE(opened);
    const std::uint64_t handle = c.answered<fuse_open_out>().fh;
    for (const std::uint32_t bytes : {200U, 4096U, 1U << 20})
        for (const bool plus : {false, true}) {
            const std::vector<std::string> names = co_await list(c, handle, bytes, plus);
            EXPECT_EQ(names, expected) << bytes << plus;
        }
    fuse_read_in small{};
    small.fh = handle;
    small.size = 8;
    const result<std::uint32_t> n = co_await c.ask({FUSE_READDIR, root_number}, small);
    EXPECT_FALSE(n);
    // Positions stay while entries go: the kernel goes on where it was.
    fuse_read_in in{};
    in.fh = handle;
    in.size = 4096;
    std::uint32_t seen = 0;
    for (result<std::uint32_t> piece = std::uint32_t{1}; *piece != 0;) {
        piece = co_await c.ask({FUSE_READDIR, root_number}, in);
        EXPECT_TRUE(piece);
        if (!piece) break;
        const std::string text = c.text(*piece);
        std::vector<std::string> names;
        for (std::size_t at = 0; at < text.size();) {
            const listed d = entry_at(text, at);
            names.push_back(d.name);
            in.offset = d.next;
            at += d.bytes;
        }
        for (const std::string& name : names) {
            ++seen;
            if (name.starts_with('.')) continue;
            const result<std::uint32_t> gone = co_await c.ask({FUSE_UNLINK, root_number, name});
            EXPECT_TRUE(gone) << name;
        }
    }
    EXPECT_EQ(seen, 602U);
}
TEST(fuse_session, lists_a_directory_in_pieces_of_any_size_while_it_is_emptied) {
    with_mount(&check_directory);
}

task<void> check_refusals(client& c, session&) {
    const std::uint64_t handle = co_await c.create("a");
    fuse_read_in read{};
    read.fh = handle;
    read.size = io_bytes_max + 1;
    result<std::uint32_t> n = co_await c.ask({FUSE_READ, c.node}, read);
    EXPECT_TRUE(!n && n.error().is(EINVAL));
    read.size = 10;
    n = co_await c.ask({FUSE_READDIR, c.node}, read);
    EXPECT_TRUE(!n && n.error().is(EBADF));
    for (const std::uint64_t number :
         {std::uint64_t{0}, std::uint64_t{2}, c.node + 1000, UINT64_MAX}) {
        n = co_await c.ask({FUSE_GETATTR, number}, fuse_getattr_in{});
        EXPECT_FALSE(n) << number;
        n = co_await c.ask({FUSE_LOOKUP, number, "a"});
        EXPECT_TRUE(!n || c.answered<fuse_entry_out>().nodeid == 0) << number;
        n = co_await c.ask({FUSE_OPEN, number}, fuse_open_in{});
        EXPECT_FALSE(n) << number;
    }
    fuse_rename2_in exchange{};
    exchange.newdir = root_number;
    exchange.flags = 2;
    n = co_await c.ask({FUSE_RENAME2, root_number, "a", "b"}, exchange);
    EXPECT_TRUE(!n && n.error().is(EINVAL));
    n = co_await c.ask({FUSE_FLUSH, c.node}, fuse_flush_in{});
    EXPECT_TRUE(!n && n.error().is(ENOSYS));
    fuse_fallocate_in space{};
    space.fh = handle;
    space.length = 1;
    space.mode = FALLOC_FL_COLLAPSE_RANGE;
    n = co_await c.ask({FUSE_FALLOCATE, c.node}, space);
    EXPECT_TRUE(!n && n.error().is(EOPNOTSUPP));
    space.mode = 0;
    space.offset = INT64_MAX;
    n = co_await c.ask({FUSE_FALLOCATE, c.node}, space);
    EXPECT_TRUE(!n && n.error().is(EINVAL));
    fuse_write_in write{};
    write.fh = handle;
    write.offset = UINT64_MAX;
    write.size = 1;
    n = co_await c.ask({FUSE_WRITE, c.node, {}, {}, "x"}, write);
    EXPECT_TRUE(!n && n.error().is(EFBIG));
    n = co_await c.ask({FUSE_SETXATTR, c.node, "system.posix_acl_access", {}, "v"},
                       fuse_setxattr_in{});
    EXPECT_TRUE(!n && n.error().is(EOPNOTSUPP));
    co_await c.release(handle);
}
TEST(fuse_session, refuses_what_makes_no_sense) { with_mount(&check_refusals); }

task<void> check_complaints(client&, session& s) {
    const fuse_in_header about{};
    s.complain(about, error::posix(ENAMETOOLONG));
    s.complain(about, error::posix(ENOSYS));
    EXPECT_EQ(s.counts.malformed.load(), 0U);
    s.complain(about, error::posix(EINVAL));
    EXPECT_EQ(s.counts.malformed.load(), 1U);
    co_return;
}
TEST(fuse_session, does_not_complain_of_names_that_are_too_long) { with_mount(&check_complaints); }

task<void> check_space(client& c, session&) {
    const std::uint64_t handle = co_await c.create("a");
    co_await c.write(handle, 0, "0123456789");
    fuse_fallocate_in space{};
    space.fh = handle;
    space.offset = 2;
    space.length = 3;
    space.mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    result<std::uint32_t> n = co_await c.ask({FUSE_FALLOCATE, c.node}, space);
    EXPECT_TRUE(n);
    space.offset = 8;
    space.length = 4;
    space.mode = FALLOC_FL_ZERO_RANGE;
    n = co_await c.ask({FUSE_FALLOCATE, c.node}, space);
    EXPECT_TRUE(n);
    std::string text = co_await c.read(handle, 0, 100);
    EXPECT_EQ(text, std::string("01\0\0\0"
                                "567\0\0\0\0",
                                12));
    space.offset = 0;
    space.length = 100000;
    space.mode = FALLOC_FL_KEEP_SIZE;
    n = co_await c.ask({FUSE_FALLOCATE, c.node}, space);
    EXPECT_TRUE(n);
    text = co_await c.read(handle, 0, 100);
    EXPECT_EQ(text.size(), 12U);
    space.length = 20;
    space.mode = 0;
    n = co_await c.ask({FUSE_FALLOCATE, c.node}, space);
    EXPECT_TRUE(n);
    text = co_await c.read(handle, 0, 100);
    EXPECT_EQ(text.size(), 20U);
    co_await c.release(handle);
}
TEST(fuse_session, allocates_and_zeroes_ranges) { with_mount(&check_space); }

/// The kernel's word on when a file was changed may come before what was written.
task<void> check_late_write(client& c, session&) {
    const std::uint64_t handle = co_await c.create("a");
    fuse_setattr_in in{};
    in.valid = FATTR_MTIME;
    in.mtime = 1000;
    in.mtimensec = 7;
    result<std::uint32_t> n = co_await c.ask({FUSE_SETATTR, c.node}, in);
    EXPECT_TRUE(n);
    co_await c.write(handle, 0, "late");
    n = co_await c.ask({FUSE_GETATTR, c.node}, fuse_getattr_in{});
    EXPECT_TRUE(n);
    EXPECT_EQ(c.answered<fuse_attr_out>().attr.mtime, 1000U);
    EXPECT_EQ(c.answered<fuse_attr_out>().attr.mtimensec, 7U);
    EXPECT_EQ(c.answered<fuse_attr_out>().attr.size, 4U);
    co_await c.release(handle);
}
TEST(fuse_session, leaves_the_time_of_a_change_to_a_kernel_that_gathers_writes) {
    with_mount(&check_late_write);
}

task<void> check_attributes(client& c, session&) {
    const std::uint64_t handle = co_await c.create("a");
    fuse_setxattr_in set{};
    set.size = 5;
    result<std::uint32_t> n = co_await c.ask({FUSE_SETXATTR, c.node, "user.one", {}, "value"}, set);
    EXPECT_TRUE(n);
    fuse_getxattr_in get{};
    n = co_await c.ask({FUSE_GETXATTR, c.node, "user.one"}, get);
    EXPECT_EQ(c.answered<fuse_getxattr_out>().size, 5U);
    get.size = 4;
    n = co_await c.ask({FUSE_GETXATTR, c.node, "user.one"}, get);
    EXPECT_TRUE(!n && n.error().is(ERANGE));
    get.size = 100;
    n = co_await c.ask({FUSE_GETXATTR, c.node, "user.one"}, get);
    EXPECT_EQ(c.text(*n), "value");
    n = co_await c.ask({FUSE_LISTXATTR, c.node}, get);
    EXPECT_EQ(c.text(*n), std::string("user.one\0", 9));
    n = co_await c.ask({FUSE_REMOVEXATTR, c.node, "user.one"});
    EXPECT_TRUE(n);
    n = co_await c.ask({FUSE_GETXATTR, c.node, "user.one"}, get);
    EXPECT_TRUE(!n && n.error().is(ENODATA));
    fuse_setattr_in times{};
    times.valid = FATTR_MTIME | FATTR_ATIME_NOW;
    times.mtime = static_cast<std::uint64_t>(-2);
    times.mtimensec = 500;
    n = co_await c.ask({FUSE_SETATTR, c.node}, times);
    EXPECT_TRUE(n);
    EXPECT_EQ(c.answered<fuse_attr_out>().attr.mtime, UINT64_MAX - 1);
    EXPECT_EQ(c.answered<fuse_attr_out>().attr.mtimensec, 500U);
    co_await c.release(handle);
}
TEST(fuse_session, keeps_times_and_extended_attributes) { with_mount(&check_attributes); }

}  // namespace
}  // namespace nacre::fuse
