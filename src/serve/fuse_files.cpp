// SPDX-License-Identifier: BSD-3-Clause
//
// FUSE: operations on files and on what all nodes have.
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "fuse_session.hpp"

namespace nacre::fuse {
namespace {

constexpr std::int64_t ns_per_second = 1'000'000'000;
constexpr std::string_view capability = "security.capability";

std::int64_t ns_of(std::uint64_t seconds, std::uint32_t rest) noexcept {
    const auto whole = static_cast<std::int64_t>(seconds);
    if (whole > INT64_MAX / ns_per_second - 1) return INT64_MAX;
    if (whole < INT64_MIN / ns_per_second + 1) return INT64_MIN;
    return whole * ns_per_second + rest;
}

/// What a write by somebody without the privilege leaves of it.
std::uint32_t without_privileges(std::uint32_t mode) noexcept {
    mode &= ~static_cast<std::uint32_t>(S_ISUID);
    if ((mode & S_IXGRP) != 0) mode &= ~static_cast<std::uint32_t>(S_ISGID);
    return mode;
}

/// Access control lists would have to be obeyed, which nobody here does.
bool is_refused(std::string_view attribute) noexcept { return attribute.starts_with("system."); }

}  // namespace

// --- Attributes ---------------------------------------------------------------------------------

session::answer session::get_attributes(const request& r, std::span<std::byte> out) {
    const auto in = r.argument<fuse_getattr_in>();
    const open_node* const node =
        (in.getattr_flags & FUSE_GETATTR_FH) != 0 ? handles_.find(in.fh) : nullptr;
    if (node != nullptr && node->file.is_open()) {
        // Its name may be gone.
        const result<node_status> status = co_await node->file.status();
        if (!status) co_return fail(status.error());
        co_return put_attributes(out, *status);
    }
    const result<node_status> status = co_await fs_.stat(target(r));
    if (!status) co_return fail(status.error());
    co_return put_attributes(out, *status);
}

task<result<>> session::set_length(node_id id, fuse_setattr_in in) {
    open_node* const node = (in.valid & FATTR_FH) != 0 ? handles_.find(in.fh) : nullptr;
    if (node != nullptr && node->file.is_open()) co_return co_await node->file.truncate(in.size);
    file_open_options how;
    how.write = true;
    result<blobfs_file> file = co_await fs_.open_node(id, how);
    if (!file) co_return fail(file.error());
    result<> done = co_await file->truncate(in.size);
    result<> closed = co_await file->close();
    if (done && !closed) done = closed;
    co_return done;
}

/// Set-user-ID and the like, which a change by another takes away.
task<result<>> session::drop_privileges(node_id id) {
    const result<node_status> status = co_await fs_.stat(id);
    if (!status) co_return fail(status.error());
    if (status->is_directory()) co_return result<>();
    const std::uint32_t mode = status->attributes.mode & 07777U;
    const std::uint32_t left = without_privileges(mode);
    if (left != mode) {
        attribute_changes change;
        change.mode = left;
        const result<node_status> changed = co_await fs_.change(id, change);
        if (!changed) co_return fail(changed.error());
    }
    const result<> removed = co_await fs_.remove_xattr(id, std::string(capability));
    if (!removed && !removed.error().is(ENODATA) && !removed.error().is(ENOTSUP))
        co_return fail(removed.error());
    co_return result<>();
}

session::answer session::set_attributes(const request& r, std::span<std::byte> out) {
    const auto in = r.argument<fuse_setattr_in>();
    const node_id id = target(r);
    if ((in.valid & FATTR_SIZE) != 0) {
        const result<> done = co_await set_length(id, in);
        if (!done) co_return fail(done.error());
    }
    if ((in.valid & FATTR_KILL_SUIDGID) != 0 && (in.valid & FATTR_MODE) == 0) {
        const result<> dropped = co_await drop_privileges(id);
        if (!dropped) co_return fail(dropped.error());
    }
    attribute_changes change;
    if ((in.valid & FATTR_MODE) != 0) change.mode = in.mode & 07777U;
    if ((in.valid & FATTR_UID) != 0) change.uid = in.uid;
    if ((in.valid & FATTR_GID) != 0) change.gid = in.gid;
    if ((in.valid & FATTR_ATIME_NOW) != 0)
        change.atime_ns = now_ns();
    else if ((in.valid & FATTR_ATIME) != 0)
        change.atime_ns = ns_of(in.atime, in.atimensec);
    if ((in.valid & FATTR_MTIME_NOW) != 0)
        change.mtime_ns = now_ns();
    else if ((in.valid & FATTR_MTIME) != 0)
        change.mtime_ns = ns_of(in.mtime, in.mtimensec);
    const bool changes =
        change.mode || change.uid || change.gid || change.atime_ns || change.mtime_ns;
    result<node_status> status = node_status();
    if (changes)
        status = co_await fs_.change(id, change);
    else
        status = co_await fs_.stat(id);
    if (!status) co_return fail(status.error());
    co_return put_attributes(out, *status);
}

session::answer session::statistics(std::span<std::byte> out) {
    constexpr std::uint32_t unit = 4096;
    const blobfs_status status = co_await fs_.status();
    fuse_statfs_out s{};
    s.st.blocks = status.size / unit;
    s.st.bfree = status.free / unit;
    s.st.bavail = status.available / unit;
    s.st.files = status.nodes + status.free_nodes;
    s.st.ffree = status.free_nodes;
    s.st.bsize = unit;
    s.st.frsize = unit;
    s.st.namelen = name_bytes_max;
    co_return put(out, s);
}

// --- Open files ---------------------------------------------------------------------------------

task<result<fuse_open_out>> session::open_handle(node_id id, std::uint32_t flags,
                                                 bool drops_privileges) {
    file_open_options how;
    how.write = (flags & O_ACCMODE) != O_RDONLY;
    how.truncate = (flags & O_TRUNC) != 0;
    how.direct = (flags & O_DIRECT) != 0;
    how.keeps_mtime = writeback_;  // the kernel says when its programs wrote
    if (drops_privileges) {
        const result<> dropped = co_await drop_privileges(id);
        if (!dropped) co_return fail(dropped.error());
    }
    auto node = std::make_unique<open_node>();
    node->id = id;
    result<blobfs_file> file = co_await fs_.open_node(id, how);
    if (!file) co_return fail(file.error());
    node->file = std::move(*file);
    const result<std::uint64_t> number = handles_.insert(std::move(node));
    if (!number) co_return fail(number.error());
    fuse_open_out opened{};
    opened.fh = *number;
    // What the kernel has cached stays true: it made the changes, or was told of them.
    opened.open_flags = FOPEN_PARALLEL_DIRECT_WRITES;
    if (valid_.seconds != 0) opened.open_flags |= FOPEN_KEEP_CACHE;
    co_return opened;
}

session::answer session::open(const request& r, std::span<std::byte> out) {
    const auto in = r.argument<fuse_open_in>();
    const result<fuse_open_out> opened =
        co_await open_handle(target(r), in.flags, (in.open_flags & FUSE_OPEN_KILL_SUIDGID) != 0);
    if (!opened) co_return fail(opened.error());
    co_return put(out, *opened);
}

session::answer session::release(const request& r) {
    std::unique_ptr<open_node> node = handles_.take(r.argument<fuse_release_in>().fh);
    if (node == nullptr) co_return fail(EBADF);
    if (node->file.is_open()) {
        result<> closed = co_await node->file.close();
        if (!closed) co_return fail(closed.error());
    }
    co_return std::uint32_t{0};
}

session::answer session::read(const request& r, std::span<std::byte> out) {
    const auto in = r.argument<fuse_read_in>();
    const open_node* const node = handles_.find(in.fh);
    if (node == nullptr || !node->file.is_open()) co_return fail(EBADF);
    if (in.size > out.size()) co_return fail(EINVAL);
    const result<std::size_t> n = co_await node->file.read(in.offset, out.first(in.size));
    if (!n) co_return fail(n.error());
    counts.bytes_read.fetch_add(*n, std::memory_order_relaxed);
    co_return static_cast<std::uint32_t>(*n);
}

session::answer session::write(const request& r, std::span<std::byte> out) {
    const auto in = r.argument<fuse_write_in>();
    open_node* const node = handles_.find(in.fh);
    if (node == nullptr || !node->file.is_open()) co_return fail(EBADF);
    if (in.offset > INT64_MAX - std::uint64_t{in.size}) co_return fail(EFBIG);
    if ((in.write_flags & FUSE_WRITE_KILL_SUIDGID) != 0) {
        const result<> dropped = co_await drop_privileges(node->id);
        if (!dropped) co_return fail(dropped.error());
    }
    const result<> written = co_await node->file.write(in.offset, r.data);
    if (!written) co_return fail(written.error());
    counts.bytes_written.fetch_add(in.size, std::memory_order_relaxed);
    fuse_write_out answered{};
    answered.size = in.size;
    co_return put(out, answered);
}

session::answer session::sync(const request& r) {
    open_node* const node = handles_.find(r.argument<fuse_fsync_in>().fh);
    if (node == nullptr || !node->file.is_open()) co_return fail(EBADF);
    const result<> synced = co_await node->file.sync();
    if (!synced) co_return fail(synced.error());
    co_return std::uint32_t{0};
}

session::answer session::sync_all() {
    const outcome<> synced = co_await fs_.sync();
    if (!synced) co_return fail(synced.error().code);
    co_return std::uint32_t{0};
}

session::answer session::allocate(const request& r) {
    const auto in = r.argument<fuse_fallocate_in>();
    open_node* const node = handles_.find(in.fh);
    if (node == nullptr || !node->file.is_open()) co_return fail(EBADF);
    const bool keep = (in.mode & FALLOC_FL_KEEP_SIZE) != 0;
    const bool hole = (in.mode & FALLOC_FL_PUNCH_HOLE) != 0;
    const bool zero = (in.mode & FALLOC_FL_ZERO_RANGE) != 0;
    constexpr std::uint32_t known =
        FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
    if ((in.mode & ~known) != 0 || (hole && (zero || !keep))) co_return fail(EOPNOTSUPP);
    if (in.length == 0 || in.offset > INT64_MAX - in.length) co_return fail(EINVAL);
    const std::uint64_t end = in.offset + in.length;
    if (hole || zero) {
        const std::uint64_t length = node->file.length();
        const std::uint64_t within = std::min(end, length);
        if (in.offset < within) {
            const result<> zeroed = co_await node->file.zero(in.offset, within - in.offset);
            if (!zeroed) co_return fail(zeroed.error());
        }
    }
    if (!hole) {
        const result<> allocated = co_await node->file.allocate(end);
        if (!allocated) co_return fail(allocated.error());
    }
    if (!keep && end > node->file.length()) {
        const result<> extended = co_await node->file.truncate(end);
        if (!extended) co_return fail(extended.error());
    }
    co_return std::uint32_t{0};
}

// --- Extended attributes ------------------------------------------------------------------------

session::answer session::get_attribute(const request& r, std::span<std::byte> out) {
    const std::uint32_t room = r.argument<fuse_getxattr_in>().size;
    if (is_refused(r.name)) co_return fail(EOPNOTSUPP);
    const result<std::string> value = co_await fs_.xattr(target(r), std::string(r.name));
    if (!value) co_return fail(value.error());
    if (room == 0) {
        fuse_getxattr_out needed{};
        needed.size = static_cast<std::uint32_t>(value->size());
        co_return put(out, needed);
    }
    if (value->size() > room || value->size() > out.size()) co_return fail(ERANGE);
    std::memcpy(out.data(), value->data(), value->size());
    co_return static_cast<std::uint32_t>(value->size());
}

session::answer session::set_attribute(const request& r) {
    if (is_refused(r.name)) co_return fail(EOPNOTSUPP);
    std::string value(reinterpret_cast<const char*>(r.data.data()), r.data.size());
    const int mode =
        static_cast<int>(r.argument<fuse_setxattr_in>().flags) & (XATTR_CREATE | XATTR_REPLACE);
    const result<> set =
        co_await fs_.set_xattr(target(r), std::string(r.name), std::move(value), mode);
    if (!set) co_return fail(set.error());
    co_return std::uint32_t{0};
}

session::answer session::remove_attribute(const request& r) {
    if (is_refused(r.name)) co_return fail(EOPNOTSUPP);
    const result<> removed = co_await fs_.remove_xattr(target(r), std::string(r.name));
    if (!removed) co_return fail(removed.error());
    co_return std::uint32_t{0};
}

session::answer session::list_attributes(const request& r, std::span<std::byte> out) {
    const std::uint32_t room = r.argument<fuse_getxattr_in>().size;
    const result<std::vector<std::string>> names = co_await fs_.xattr_names(target(r));
    if (!names) co_return fail(names.error());
    std::string all;
    for (const std::string& name : *names) all.append(name).push_back('\0');
    if (room == 0) {
        fuse_getxattr_out needed{};
        needed.size = static_cast<std::uint32_t>(all.size());
        co_return put(out, needed);
    }
    if (all.size() > room || all.size() > out.size()) co_return fail(ERANGE);
    std::memcpy(out.data(), all.data(), all.size());
    co_return static_cast<std::uint32_t>(all.size());
}

}  // namespace nacre::fuse
