// SPDX-License-Identifier: BSD-3-Clause
//
// FUSE: operations on names and directories.
#include <fcntl.h>
#include <sys/stat.h>

#include "fuse_session.hpp"

namespace nacre::fuse {
namespace {

/// From <linux/fs.h>, which does not go with <sys/mount.h>'s.
constexpr std::uint32_t rename_no_replace = 1;

}  // namespace

/// That a name is not there is an answer too, which the kernel keeps.
session::answer session::lookup(const request& r, std::span<std::byte> out) {
    const result<node_status> found = co_await fs_.lookup(target(r), std::string(r.name));
    if (found) co_return put_entry(out, *found);
    if (!found.error().is(ENOENT) || valid_.seconds == 0) co_return fail(found.error());
    fuse_entry_out nothing{};
    nothing.entry_valid = valid_.seconds;
    co_return put(out, nothing);
}

/// Of something new: the caller's, and its group the directory's where that is set-group-ID.
task<result<node_attributes>> session::inherit(const request& r, std::uint32_t mode) {
    node_attributes a;
    a.mode = mode;
    a.uid = r.header.uid;
    a.gid = r.header.gid;
    const result<node_status> parent = co_await fs_.stat(target(r));
    if (!parent) co_return fail(parent.error());
    if ((parent->attributes.mode & S_ISGID) != 0) {
        a.gid = parent->attributes.gid;
        if (S_ISDIR(mode)) a.mode |= S_ISGID;
    }
    co_return a;
}

session::answer session::make_node(const request& r, std::span<std::byte> out) {
    std::uint32_t mode = 0;
    std::uint32_t device = 0;
    if (r.header.opcode == FUSE_MKDIR) {
        mode = S_IFDIR | (r.argument<fuse_mkdir_in>().mode & 07777U);
    } else {
        const auto in = r.argument<fuse_mknod_in>();
        mode = in.mode;
        device = in.rdev;
        if ((mode & S_IFMT) == 0) mode |= S_IFREG;
    }
    std::string name(r.name);
    const node_id directory = target(r);
    result<node_attributes> a = co_await inherit(r, mode);
    if (!a) co_return fail(a.error());
    a->device = device;
    const result<node_status> made = co_await fs_.make_node(directory, std::move(name), *a);
    if (!made) co_return fail(made.error());
    co_return put_entry(out, *made);
}

session::answer session::create(const request& r, std::span<std::byte> out) {
    const auto in = r.argument<fuse_create_in>();
    const std::string name(r.name);
    const node_id directory = target(r);
    const result<node_attributes> a = co_await inherit(r, S_IFREG | (in.mode & 07777U));
    if (!a) co_return fail(a.error());
    std::uint32_t flags = in.flags;
    result<node_status> made = co_await fs_.make_node(directory, name, *a);
    if (made) {
        flags &= ~static_cast<std::uint32_t>(O_TRUNC);
    } else {
        // The kernel did not know that it is there.
        if (!made.error().is(EEXIST) || (flags & O_EXCL) != 0) co_return fail(made.error());
        made = co_await fs_.lookup(directory, name);
        if (!made) co_return fail(made.error());
        if (!made->is_file()) co_return fail(EEXIST);
    }
    const result<fuse_open_out> opened =
        co_await open_handle(made->id, flags, (in.open_flags & FUSE_OPEN_KILL_SUIDGID) != 0);
    if (!opened) co_return fail(opened.error());
    if ((flags & O_TRUNC) != 0) {
        made = co_await fs_.stat(made->id);
        if (!made) co_return fail(made.error());
    }
    const result<std::uint32_t> entry = put_entry(out, *made);
    if (!entry) co_return fail(entry.error());
    const result<std::uint32_t> handle = put(out.subspan(*entry), *opened);
    if (!handle) co_return fail(handle.error());
    co_return *entry + *handle;
}

session::answer session::symlink(const request& r, std::span<std::byte> out) {
    std::string name(r.name);
    std::string to(r.second);
    const node_id directory = target(r);
    const result<node_attributes> a = co_await inherit(r, S_IFLNK | 0777);
    if (!a) co_return fail(a.error());
    const result<node_status> made =
        co_await fs_.symlink_at(std::move(to), directory, std::move(name), *a);
    if (!made) co_return fail(made.error());
    co_return put_entry(out, *made);
}

session::answer session::link(const request& r, std::span<std::byte> out) {
    const node_id existing = node_of(r.argument<fuse_link_in>().oldnodeid);
    const result<node_status> linked =
        co_await fs_.link_at(existing, target(r), std::string(r.name));
    if (!linked) co_return fail(linked.error());
    co_return put_entry(out, *linked);
}

session::answer session::remove(const request& r) {
    const bool directory = r.header.opcode == FUSE_RMDIR;
    const result<> removed = co_await fs_.remove_at(target(r), std::string(r.name), directory);
    if (!removed) co_return fail(removed.error());
    co_return std::uint32_t{0};
}

session::answer session::rename(const request& r) {
    rename_options how;
    std::uint64_t to = 0;
    if (r.header.opcode == FUSE_RENAME2) {
        const auto in = r.argument<fuse_rename2_in>();
        to = in.newdir;
        if ((in.flags & ~rename_no_replace) != 0) co_return fail(EINVAL);
        how.no_replace = in.flags != 0;
    } else {
        to = r.argument<fuse_rename_in>().newdir;
    }
    const result<> renamed = co_await fs_.rename_at(target(r), std::string(r.name), node_of(to),
                                                    std::string(r.second), how);
    if (!renamed) co_return fail(renamed.error());
    co_return std::uint32_t{0};
}

session::answer session::read_link(const request& r, std::span<std::byte> out) {
    const result<std::string> to = co_await fs_.read_link(target(r));
    if (!to) co_return fail(to.error());
    if (to->size() > out.size()) co_return fail(ENAMETOOLONG);
    std::memcpy(out.data(), to->data(), to->size());
    co_return static_cast<std::uint32_t>(to->size());
}

// --- Directories --------------------------------------------------------------------------------

session::answer session::open_directory(const request& r, std::span<std::byte> out) {
    auto node = std::make_unique<open_node>();
    node->id = target(r);
    const result<node_status> status = co_await fs_.stat(node->id);
    if (!status) co_return fail(status.error());
    if (!status->is_directory()) co_return fail(ENOTDIR);
    const result<std::uint64_t> number = handles_.insert(std::move(node));
    if (!number) co_return fail(number.error());
    fuse_open_out opened{};
    opened.fh = *number;
    co_return put(out, opened);
}

session::answer session::read_directory(const request& r, std::span<std::byte> out) {
    const auto in = r.argument<fuse_read_in>();
    const bool plus = r.header.opcode == FUSE_READDIRPLUS;
    open_node* const dir = handles_.find(in.fh);
    if (dir == nullptr || dir->file.is_open()) co_return fail(EBADF);
    if (in.size > out.size()) co_return fail(EINVAL);
    // The kernel reads through one handle one piece after the other.
    if (dir->reading_directory.exchange(true, std::memory_order_acquire)) co_return fail(EBUSY);
    const result<std::uint32_t> filled =
        co_await fill_directory(*dir, in, out.first(in.size), plus);
    dir->reading_directory.store(false, std::memory_order_release);
    co_return filled;
}

/// Positions: 0 ".", 1 "..", then the entries.
task<result<std::uint32_t>> session::fill_directory(open_node& dir, fuse_read_in in,
                                                    std::span<std::byte> out, bool plus) {
    directory_writer writer(out);
    directory_reader& reader = dir.directory;
    if (in.offset == 0) reader = directory_reader();
    std::uint64_t at = in.offset;
    bool room = true;
    const fuse_entry_out unasked{};
    for (; at < 2 && room; at += room ? 1 : 0) {
        directory_writer::entry e{at == 0 ? "." : "..", number_of(dir.id), S_IFDIR, at + 1};
        room = plus ? writer.add(e, unasked) : writer.add(e);
    }
    while (room) {
        const std::uint64_t index = at - 2;
        const result<bool> there =
            co_await fetch_piece(dir, index / directory_reader::piece_entries);
        if (!there) co_return fail(there.error());
        const std::uint64_t within = index % directory_reader::piece_entries;
        if (!*there || within >= reader.entries.size()) break;
        const directory_entry& found = reader.entries[within];
        const directory_writer::entry e{found.name, number_of(found.id), found.mode, at + 1};
        if (!plus) {
            room = writer.add(e);
        } else {
            // Gone meanwhile, or damaged: the kernel learns of it when it asks.
            const result<node_status> status = co_await fs_.stat(found.id);
            room = writer.add(e, status ? entry_of(*status, e.number, valid_) : unasked);
        }
        if (room) ++at;
    }
    if (!room && writer.bytes() == 0) co_return fail(EINVAL);
    co_return writer.bytes();
}

/// Has the entries of this piece at hand; false: the directory ends before it.
task<result<bool>> session::fetch_piece(open_node& dir, std::size_t piece) {
    directory_reader& reader = dir.directory;
    if (reader.begins_after.empty()) {
        reader.begins_after.emplace_back();
        reader.piece = SIZE_MAX;
    }
    if (piece == reader.piece) co_return true;
    if (piece == reader.previous_piece) {
        std::swap(reader.piece, reader.previous_piece);
        std::swap(reader.entries, reader.previous);
        co_return true;
    }
    if (piece >= reader.begins_after.size()) co_return false;
    result<std::vector<directory_entry>> listed = co_await fs_.list_at(
        dir.id, std::string(reader.begins_after[piece]), directory_reader::piece_entries);
    if (!listed) co_return fail(listed.error());
    reader.previous_piece = reader.piece;
    reader.previous = std::move(reader.entries);
    reader.piece = piece;
    reader.entries = std::move(*listed);
    const bool full = reader.entries.size() == directory_reader::piece_entries;
    if (full && reader.begins_after.size() == piece + 1)
        reader.begins_after.push_back(reader.entries.back().name);
    co_return true;
}

}  // namespace nacre::fuse
