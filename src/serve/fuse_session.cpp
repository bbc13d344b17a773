// SPDX-License-Identifier: BSD-3-Clause
//
// Which operation does what; the others are ENOSYS, which the kernel remembers and then does
// without: locks, which are its own, seeking for holes, copying within the server, and also FLUSH,
// which would only say at each close what the next sync says anyway.
#include "fuse_session.hpp"

#include <fmt/format.h>

#include "nacre/core/log.hpp"

namespace nacre::fuse {

session::answer session::settled(error e) {
    if (e.failed()) co_return fail(e);
    co_return std::uint32_t{0};
}

session::answer session::handle(const request& r, std::span<std::byte> out) {
    switch (r.header.opcode) {
        case FUSE_LOOKUP:
            return lookup(r, out);
        case FUSE_GETATTR:
            return get_attributes(r, out);
        case FUSE_SETATTR:
            return set_attributes(r, out);
        case FUSE_READLINK:
            return read_link(r, out);
        case FUSE_SYMLINK:
            return symlink(r, out);
        case FUSE_MKNOD:
        case FUSE_MKDIR:
            return make_node(r, out);
        case FUSE_UNLINK:
        case FUSE_RMDIR:
            return remove(r);
        case FUSE_RENAME:
        case FUSE_RENAME2:
            return rename(r);
        case FUSE_LINK:
            return link(r, out);
        case FUSE_OPEN:
            return open(r, out);
        case FUSE_CREATE:
            return create(r, out);
        case FUSE_READ:
            return read(r, out);
        case FUSE_WRITE:
            return write(r, out);
        case FUSE_STATFS:
            return statistics(out);
        case FUSE_RELEASE:
        case FUSE_RELEASEDIR:
            return release(r);
        case FUSE_FSYNC:
            return sync(r);
        case FUSE_SYNCFS:
            return sync_all();
        case FUSE_OPENDIR:
            return open_directory(r, out);
        case FUSE_READDIR:
        case FUSE_READDIRPLUS:
            return read_directory(r, out);
        case FUSE_GETXATTR:
            return get_attribute(r, out);
        case FUSE_SETXATTR:
            return set_attribute(r);
        case FUSE_LISTXATTR:
            return list_attributes(r, out);
        case FUSE_REMOVEXATTR:
            return remove_attribute(r);
        case FUSE_FALLOCATE:
            return allocate(r);
        case FUSE_FSYNCDIR:  // names are durable when they have been answered
        case FUSE_DESTROY:
        case FUSE_FORGET:
        case FUSE_BATCH_FORGET:
            return settled(error());
        default:
            return settled(error::posix(ENOSYS));
    }
}

task<void> session::close_all() {
    while (true) {
        std::unique_ptr<open_node> node = handles_.take_any();
        if (node == nullptr) break;
        if (!node->file.is_open()) continue;
        result<> closed = co_await node->file.close();
        (void)closed;  // nobody is left to be told; the file system's own sync says it again
    }
}

void session::complain(const fuse_in_header& about, error e) {
    // Programs may use names that are too long, and later kernels operations that are unknown here.
    if (e.is(ENOSYS) || e.is(ENAMETOOLONG)) return;
    counts.malformed.fetch_add(1, std::memory_order_relaxed);
    if (complained_.exchange(true)) return;
    log::error("fuse", fmt::format("the kernel sent a request that makes no sense ({}, operation "
                                   "{}, {} bytes): {}; refused",
                                   name_of(about.opcode), about.opcode, about.len, describe(e)));
}

result<std::uint32_t> session::put_entry(std::span<std::byte> out,
                                         const node_status& status) const noexcept {
    return put(out, entry_of(status, number_of(status.id), valid_));
}

result<std::uint32_t> session::put_attributes(std::span<std::byte> out,
                                              const node_status& status) const noexcept {
    return put(out, attributes_of(status, number_of(status.id), valid_));
}

}  // namespace nacre::fuse
