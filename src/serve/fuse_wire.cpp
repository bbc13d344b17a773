// SPDX-License-Identifier: BSD-3-Clause
#include "fuse_wire.hpp"

#include <algorithm>

#include "nacre/core/bytes.hpp"

namespace nacre::fuse {
namespace {

constexpr std::int64_t ns_per_second = 1'000'000'000;

enum class tail : std::uint8_t {
    none,
    name,
    names,           // two
    name_and_path,   // a symbolic link and its target
    attribute,       // an extended attribute's name
    attribute_data,  // and its value
    written,         // what is to be written
    forgotten,       // fuse_forget_one
    anything,        // of later versions
};

/// Of an operation's requests.
struct shape {
    std::uint32_t operation;
    std::string_view name;
    std::uint16_t fixed;
    tail behind;
    bool answered = true;
};

constexpr shape shapes[] = {
    {FUSE_LOOKUP, "LOOKUP", 0, tail::name},
    {FUSE_FORGET, "FORGET", sizeof(fuse_forget_in), tail::none, false},
    {FUSE_GETATTR, "GETATTR", sizeof(fuse_getattr_in), tail::none},
    {FUSE_SETATTR, "SETATTR", sizeof(fuse_setattr_in), tail::none},
    {FUSE_READLINK, "READLINK", 0, tail::none},
    {FUSE_SYMLINK, "SYMLINK", 0, tail::name_and_path},
    {FUSE_MKNOD, "MKNOD", sizeof(fuse_mknod_in), tail::name},
    {FUSE_MKDIR, "MKDIR", sizeof(fuse_mkdir_in), tail::name},
    {FUSE_UNLINK, "UNLINK", 0, tail::name},
    {FUSE_RMDIR, "RMDIR", 0, tail::name},
    {FUSE_RENAME, "RENAME", sizeof(fuse_rename_in), tail::names},
    {FUSE_LINK, "LINK", sizeof(fuse_link_in), tail::name},
    {FUSE_OPEN, "OPEN", sizeof(fuse_open_in), tail::none},
    {FUSE_READ, "READ", sizeof(fuse_read_in), tail::none},
    {FUSE_WRITE, "WRITE", sizeof(fuse_write_in), tail::written},
    {FUSE_STATFS, "STATFS", 0, tail::none},
    {FUSE_RELEASE, "RELEASE", sizeof(fuse_release_in), tail::none},
    {FUSE_FSYNC, "FSYNC", sizeof(fuse_fsync_in), tail::none},
    {FUSE_SETXATTR, "SETXATTR", FUSE_COMPAT_SETXATTR_IN_SIZE, tail::attribute_data},
    {FUSE_GETXATTR, "GETXATTR", sizeof(fuse_getxattr_in), tail::attribute},
    {FUSE_LISTXATTR, "LISTXATTR", sizeof(fuse_getxattr_in), tail::none},
    {FUSE_REMOVEXATTR, "REMOVEXATTR", 0, tail::attribute},
    {FUSE_FLUSH, "FLUSH", sizeof(fuse_flush_in), tail::none},
    {FUSE_INIT, "INIT", sizeof(fuse_init_in), tail::anything},
    {FUSE_OPENDIR, "OPENDIR", sizeof(fuse_open_in), tail::none},
    {FUSE_READDIR, "READDIR", sizeof(fuse_read_in), tail::none},
    {FUSE_RELEASEDIR, "RELEASEDIR", sizeof(fuse_release_in), tail::none},
    {FUSE_FSYNCDIR, "FSYNCDIR", sizeof(fuse_fsync_in), tail::none},
    {FUSE_ACCESS, "ACCESS", sizeof(fuse_access_in), tail::none},
    {FUSE_CREATE, "CREATE", sizeof(fuse_create_in), tail::name},
    {FUSE_INTERRUPT, "INTERRUPT", sizeof(fuse_interrupt_in), tail::none},
    {FUSE_DESTROY, "DESTROY", 0, tail::none},
    {FUSE_BATCH_FORGET, "BATCH_FORGET", sizeof(fuse_batch_forget_in), tail::forgotten, false},
    {FUSE_FALLOCATE, "FALLOCATE", sizeof(fuse_fallocate_in), tail::none},
    {FUSE_READDIRPLUS, "READDIRPLUS", sizeof(fuse_read_in), tail::none},
    {FUSE_RENAME2, "RENAME2", sizeof(fuse_rename2_in), tail::names},
    {FUSE_LSEEK, "LSEEK", sizeof(fuse_lseek_in), tail::none},
    {FUSE_SYNCFS, "SYNCFS", sizeof(fuse_syncfs_in), tail::none},
};
constexpr std::size_t operations_max = 64;

constexpr auto shape_by_operation = [] {
    std::array<const shape*, operations_max> table{};
    for (const shape& s : shapes) table[s.operation] = &s;
    return table;
}();

const shape* shape_of(std::uint32_t operation) noexcept {
    return operation < operations_max ? shape_by_operation[operation] : nullptr;
}

/// Up to the next NUL, which goes too; null data: there is none.
std::string_view take_string(std::span<const std::byte>& from) noexcept {
    const void* const end = from.empty() ? nullptr : std::memchr(from.data(), 0, from.size());
    if (end == nullptr) return {};
    const auto bytes = static_cast<std::size_t>(static_cast<const std::byte*>(end) - from.data());
    const std::string_view taken(reinterpret_cast<const char*>(from.data()), bytes);
    from = from.subspan(bytes + 1);
    return taken;
}

error check_string(std::string_view s, std::size_t bytes_max) noexcept {
    if (s.empty()) return error::posix(EINVAL);
    if (s.size() > bytes_max) return error::posix(ENAMETOOLONG);
    return error();
}

/// That of a directory's entry.
error check_name(std::string_view name) noexcept {
    if (const error e = check_string(name, name_bytes_max); e.failed()) return e;
    const bool special = name == "." || name == ".." || name.find('/') != std::string_view::npos;
    return special ? error::posix(EINVAL) : error();
}

error parse_data(request& r, std::span<const std::byte> rest, std::uint64_t bytes) noexcept {
    if (bytes > rest.size()) return error::posix(EINVAL);
    r.data = rest.first(bytes);
    return error();
}

error parse_tail(request& r, const shape& s, std::span<const std::byte> rest) noexcept {
    switch (s.behind) {
        case tail::none:
        case tail::anything:
            return error();
        case tail::name:
            r.name = take_string(rest);
            return check_name(r.name);
        case tail::names: {
            r.name = take_string(rest);
            r.second = take_string(rest);
            const error e = check_name(r.name);
            return e.failed() ? e : check_name(r.second);
        }
        case tail::name_and_path: {
            r.name = take_string(rest);
            r.second = take_string(rest);
            const error e = check_name(r.name);
            return e.failed() ? e : check_string(r.second, path_bytes_max);
        }
        case tail::attribute:
            r.name = take_string(rest);
            return check_string(r.name, name_bytes_max);
        case tail::attribute_data: {
            r.name = take_string(rest);
            const error e = check_string(r.name, name_bytes_max);
            return e.failed() ? e : parse_data(r, rest, r.argument<fuse_setxattr_in>().size);
        }
        case tail::written: {
            const std::uint32_t bytes = r.argument<fuse_write_in>().size;
            return bytes > io_bytes_max ? error::posix(EINVAL) : parse_data(r, rest, bytes);
        }
        case tail::forgotten:
            return parse_data(
                r, rest,
                std::uint64_t{r.argument<fuse_batch_forget_in>().count} * sizeof(fuse_forget_one));
    }
    return error::posix(EINVAL);
}

}  // namespace

result<request> parse(std::span<const std::byte> message, fuse_in_header& header) noexcept {
    header = fuse_in_header{};
    if (message.size() < sizeof header) return fail(EIO);
    std::memcpy(&header, message.data(), sizeof header);
    if (header.len != message.size()) return fail(EIO);
    const shape* const s = shape_of(header.opcode);
    if (s == nullptr) return fail(ENOSYS);
    const std::span<const std::byte> body = message.subspan(sizeof header);
    // An older kernel's INIT is shorter.
    const std::size_t fixed =
        s->behind == tail::anything ? std::min<std::size_t>(s->fixed, body.size()) : s->fixed;
    if (body.size() < fixed) return fail(EINVAL);
    request r;
    r.header = header;
    r.fixed = body.first(fixed);
    const error e = parse_tail(r, *s, body.subspan(fixed));
    if (e.failed()) return fail(e);
    return r;
}

result<request> parse(const ring_header& from, std::span<const std::byte> payload) noexcept {
    request r;
    std::memcpy(&r.header, from.in_out, sizeof r.header);
    if (from.info.payload_bytes > payload.size()) return fail(EIO);
    const shape* const s = shape_of(r.header.opcode);
    if (s == nullptr) return fail(ENOSYS);
    r.fixed = std::span(from.operation).first(s->fixed);
    const error e = parse_tail(r, *s, payload.first(from.info.payload_bytes));
    if (e.failed()) return fail(e);
    return r;
}

bool is_answered(std::uint32_t operation) noexcept {
    const shape* const s = shape_of(operation);
    return s == nullptr || s->answered;
}

std::string_view name_of(std::uint32_t operation) noexcept {
    const shape* const s = shape_of(operation);
    return s == nullptr ? "an unknown operation" : s->name;
}

// --- Answers ------------------------------------------------------------------------------------

result<agreement> negotiate(const fuse_init_in& in, const wishes& w) noexcept {
    constexpr std::uint32_t minor_min = 31;
    constexpr std::uint64_t wanted = FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES |
                                     FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO |
                                     FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES | FUSE_CACHE_SYMLINKS |
                                     FUSE_HANDLE_KILLPRIV_V2 | FUSE_INIT_EXT;
    constexpr std::uint16_t background_max = 64;
    agreement a;
    a.out.major = FUSE_KERNEL_VERSION;
    a.out.minor = FUSE_KERNEL_MINOR_VERSION;
    // A later major version is told ours, and asks again.
    if (in.major > FUSE_KERNEL_VERSION) return a;
    if (in.major < FUSE_KERNEL_VERSION || in.minor < minor_min) return fail(EPROTO);
    std::uint64_t offered = in.flags;
    if ((in.flags & FUSE_INIT_EXT) != 0) offered |= std::uint64_t{in.flags2} << 32;
    a.uring_offered = (offered & flag_over_io_uring) != 0;
    std::uint64_t agreed = wanted;
    agreed |= w.writeback ? FUSE_WRITEBACK_CACHE : FUSE_AUTO_INVAL_DATA;
    if (w.uring) agreed |= flag_over_io_uring;
    agreed &= offered;
    a.uring = (agreed & flag_over_io_uring) != 0;
    a.out.flags = static_cast<std::uint32_t>(agreed);
    a.out.flags2 = static_cast<std::uint32_t>(agreed >> 32);
    a.out.max_readahead = std::min(in.max_readahead, io_bytes_max);
    a.out.max_background = background_max;
    a.out.congestion_threshold = background_max / 4 * 3;
    a.out.max_write = io_bytes_max;
    a.out.max_pages = io_bytes_max / 4096;
    a.out.time_gran = 1;
    return a;
}

void fill(fuse_attr& to, const node_status& from, std::uint64_t number) noexcept {
    const node_attributes& a = from.attributes;
    const auto split = [](std::int64_t ns, auto& seconds, auto& rest) {
        std::int64_t whole = ns / ns_per_second;
        if (ns % ns_per_second < 0) --whole;
        seconds = static_cast<std::uint64_t>(whole);
        rest = static_cast<std::uint32_t>(ns - whole * ns_per_second);
    };
    to = fuse_attr{};
    to.ino = number;
    to.size = from.length;
    to.blocks = align_up(from.allocated, 512) / 512;
    split(a.atime_ns, to.atime, to.atimensec);
    split(a.mtime_ns, to.mtime, to.mtimensec);
    split(a.ctime_ns, to.ctime, to.ctimensec);
    to.mode = a.mode;
    to.nlink = from.links;
    to.uid = a.uid;
    to.gid = a.gid;
    to.rdev = a.device;
    to.blksize = 4096;
}

fuse_entry_out entry_of(const node_status& from, std::uint64_t number, validity v) noexcept {
    fuse_entry_out out{};
    out.nodeid = number;
    out.generation = from.generation;
    out.entry_valid = v.seconds;
    out.attr_valid = v.seconds;
    fill(out.attr, from, number);
    return out;
}

fuse_attr_out attributes_of(const node_status& from, std::uint64_t number, validity v) noexcept {
    fuse_attr_out out{};
    out.attr_valid = v.seconds;
    fill(out.attr, from, number);
    return out;
}

void directory_writer::put(const void* from, std::size_t bytes) noexcept {
    std::memcpy(out_.data() + used_, from, bytes);
    used_ += bytes;
}

void directory_writer::put(const entry& e) noexcept {
    fuse_dirent d{};
    d.ino = e.number;
    d.off = e.next;
    d.namelen = static_cast<std::uint32_t>(e.name.size());
    d.type = (e.mode & S_IFMT) >> 12;
    put(&d, offsetof(fuse_dirent, name));
    put(e.name.data(), e.name.size());
    constexpr std::uint64_t zeros = 0;
    put(&zeros, align_up(used_, 8) - used_);
}

bool directory_writer::add(const entry& e) noexcept {
    const std::size_t bytes = align_up(offsetof(fuse_dirent, name) + e.name.size(), 8);
    if (bytes > out_.size() - used_) return false;
    put(e);
    return true;
}

bool directory_writer::add(const entry& e, const fuse_entry_out& looked_up) noexcept {
    const std::size_t bytes =
        sizeof looked_up + align_up(offsetof(fuse_dirent, name) + e.name.size(), 8);
    if (bytes > out_.size() - used_) return false;
    put(&looked_up, sizeof looked_up);
    put(e);
    return true;
}

}  // namespace nacre::fuse
