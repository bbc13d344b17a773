// SPDX-License-Identifier: BSD-3-Clause
//
// The world of the process's own kernel: files.
#include "real_world.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <linux/nvme_ioctl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>

#include "nacre/core/assert.hpp"
#include "numa_node.hpp"
#include "uring_driver.hpp"

namespace nacre {
namespace {

std::uint64_t read_clock(clockid_t id) noexcept {
    timespec t{};
    clock_gettime(id, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(t.tv_nsec);
}

std::unexpected<failure> file_failure(int error_number, std::string_view doing,
                                      std::string_view path) {
    return fail(error_number,
                fmt::format("{}: cannot {}: {}", path, doing, std::strerror(error_number)));
}

std::string parent_of(const std::string& path) {
    const auto slash = path.find_last_of('/');
    if (slash == std::string::npos) return ".";
    return slash == 0 ? "/" : path.substr(0, slash);
}

/// "process 1234 (db_bench)", as the kernel's list of locks has it, or "another user".
std::string lock_holder(int fd) {
    constexpr const char* unknown = "another user";
    struct stat file{};
    if (::fstat(fd, &file) != 0) return unknown;
    std::ifstream locks("/proc/locks");
    for (std::string line; std::getline(locks, line);) {
        // "1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF"; who waits has a "->" before FLOCK.
        unsigned long long pid = 0;
        unsigned long long inode = 0;
        unsigned major = 0;
        unsigned minor = 0;
        if (std::sscanf(line.c_str(), "%*d: FLOCK %*s %*s %llu %x:%x:%llu", &pid, &major, &minor,
                        &inode) != 4 ||
            inode != file.st_ino || makedev(major, minor) != file.st_dev)
            continue;
        std::string name;
        std::ifstream command(fmt::format("/proc/{}/comm", pid));
        std::getline(command, name);
        return name.empty() ? fmt::format("process {}", pid)
                            : fmt::format("process {} ({})", pid, name);
    }
    return unknown;
}

}  // namespace

std::uint64_t posix_world::monotonic_ns() noexcept { return read_clock(CLOCK_MONOTONIC); }
std::uint64_t posix_world::wall_clock_ns() noexcept { return read_clock(CLOCK_REALTIME); }

void posix_world::fill_random(std::span<std::byte> out) noexcept {
    while (!out.empty()) {
        const ssize_t n = getrandom(out.data(), out.size(), 0);
        NACRE_ASSERT(n > 0 || errno == EINTR);
        if (n > 0) out = out.subspan(static_cast<std::size_t>(n));
    }
}

posix_world::posix_world() {
    cpu_set_t set;
    CPU_ZERO(&set);
    ::sched_getaffinity(0, sizeof set, &set);
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu)
        if (CPU_ISSET(cpu, &set)) cpus_at_start_.push_back(cpu);
}

std::vector<unsigned> posix_world::allowed_cpus() { return cpus_at_start_; }

outcome<> posix_world::pin_os_thread(std::span<const unsigned> cpus) {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (unsigned cpu : cpus.empty() ? std::span<const unsigned>(cpus_at_start_) : cpus)
        if (cpu < CPU_SETSIZE) CPU_SET(cpu, &set);
    if (::sched_setaffinity(0, sizeof set, &set) == 0) return {};
    return fail(errno, fmt::format("cannot run on CPU {}: {}; this process may use {} CPUs",
                                   cpus.empty() ? 0 : cpus.front(), std::strerror(errno),
                                   cpus_at_start_.size()));
}

void posix_world::name_os_thread(const std::string& name) noexcept {
    ::pthread_setname_np(::pthread_self(), name.substr(0, 15).c_str());
}

outcome<std::unique_ptr<io_driver>> posix_world::make_driver(const driver_options& options) {
    return uring_driver::make(*this, options);
}

outcome<int> posix_world::open_file(const std::string& path, const open_options& options) {
    int flags = O_CLOEXEC | (options.write ? O_RDWR : O_RDONLY);
    if (options.create) flags |= O_CREAT;
    if (options.exclusive) flags |= O_EXCL;
    if (options.direct) flags |= O_DIRECT;
    if (options.at_once) flags |= O_NONBLOCK;
    const int fd = ::open(path.c_str(), flags, 0600);
    if (fd >= 0) return fd;
    // A file system without O_DIRECT says EINVAL; what was asked for is a wish, not a condition.
    if (errno == EINVAL && options.direct) {
        open_options buffered = options;
        buffered.direct = false;
        buffered.exclusive = false;  // the refused open may have made the file
        return open_file(path, buffered);
    }
    return file_failure(errno, options.create ? "create" : "open", path);
}

void posix_world::close_file(int fd) noexcept { ::close(fd); }

outcome<file_info> posix_world::inspect_file(int fd) {
    struct statx stx{};
#ifndef STATX_DIOALIGN
    constexpr unsigned STATX_DIOALIGN = 0x2000U;
#endif
    if (::statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_DIOALIGN, &stx) != 0)
        return fail(errno, fmt::format("descriptor {}: cannot stat: {}", fd, std::strerror(errno)));
    file_info info;
    info.direct = (::fcntl(fd, F_GETFL) & O_DIRECT) != 0;
    info.size_bytes = stx.stx_size;
    info.block_device = S_ISBLK(stx.stx_mode);
    info.numa_id = info.block_device ? numa_node_of("/sys", stx.stx_rdev_major, stx.stx_rdev_minor)
                                     : numa_node_of("/sys", stx.stx_dev_major, stx.stx_dev_minor);
    if (info.block_device) {
        std::uint64_t size = 0;
        unsigned sector = 512;
        if (::ioctl(fd, BLKGETSIZE64, &size) != 0 || ::ioctl(fd, BLKSSZGET, &sector) != 0)
            return fail(errno, fmt::format("block device {}: cannot read its size: {}", fd,
                                           std::strerror(errno)));
        info.size_bytes = size;
        if (info.direct) info.offset_alignment = info.memory_alignment = sector;
    } else if (!S_ISREG(stx.stx_mode)) {
        return fail(EINVAL, "not a regular file or block device");
    } else if (info.direct) {
        // The alignments sit in two words of statx that older headers call spare (since 6.1).
        info.memory_alignment = 512;
        info.offset_alignment = 512;
        if ((stx.stx_mask & STATX_DIOALIGN) != 0) {
            std::uint32_t words[2];
            std::memcpy(words, reinterpret_cast<const char*>(&stx) + 152, sizeof words);
            if (words[0] != 0) info.memory_alignment = words[0];
            if (words[1] != 0) info.offset_alignment = words[1];
        }
    }
    return info;
}

outcome<> posix_world::lock_file(int fd, bool exclusive) {
    if (::flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) == 0) return {};
    const int error_number = errno == EWOULDBLOCK ? EBUSY : errno;
    return fail(error_number, error_number == EBUSY ? "locked by " + lock_holder(fd)
                                                    : std::string(std::strerror(error_number)));
}

outcome<> posix_world::resize_file(int fd, std::uint64_t size_bytes) {
    if (::ftruncate(fd, static_cast<off_t>(size_bytes)) == 0) return {};
    return fail(errno,
                fmt::format("cannot resize to {} bytes: {}", size_bytes, std::strerror(errno)));
}

outcome<> posix_world::allocate_file(int fd, std::uint64_t size_bytes) {
    if (::fallocate(fd, 0, 0, static_cast<off_t>(size_bytes)) == 0) return {};
    return fail(errno,
                fmt::format("cannot preallocate {} bytes: {}", size_bytes, std::strerror(errno)));
}

result<std::size_t> world::read_file(int, std::uint64_t, std::span<std::byte>) noexcept {
    return fail(ENOTSUP);
}
result<std::size_t> posix_world::read_file(int fd, std::uint64_t offset,
                                           std::span<std::byte> into) noexcept {
    while (true) {
        const ssize_t n = ::pread(fd, into.data(), into.size(), static_cast<off_t>(offset));
        if (n >= 0) return static_cast<std::size_t>(n);
        if (errno != EINTR) return fail(errno);
    }
}

result<std::size_t> world::write_file_durably(int, std::uint64_t,
                                              std::span<const std::byte>) noexcept {
    return fail(ENOTSUP);
}
result<std::size_t> posix_world::write_file_durably(int fd, std::uint64_t offset,
                                                    std::span<const std::byte> from) noexcept {
    const iovec data{const_cast<std::byte*>(from.data()), from.size()};
    while (true) {
        // One device command where the device has FUA, else a write and a flush.
        const ssize_t n = ::pwritev2(fd, &data, 1, static_cast<off_t>(offset), RWF_DSYNC);
        if (n >= 0) return static_cast<std::size_t>(n);
        if (errno != EINTR) return fail(errno);
    }
}

result<std::uint64_t> posix_world::seek_file(int fd, std::uint64_t offset, bool data) noexcept {
    const off_t at = ::lseek(fd, static_cast<off_t>(offset), data ? SEEK_DATA : SEEK_HOLE);
    if (at < 0) return fail(errno);
    return static_cast<std::uint64_t>(at);
}

outcome<std::uint32_t> world::nvme_namespace_of(int) {
    return fail(ENOTTY, "this world has no NVMe devices");
}
outcome<std::uint32_t> posix_world::nvme_namespace_of(int fd) {
    const int id = ::ioctl(fd, NVME_IOCTL_ID);
    if (id > 0) return static_cast<std::uint32_t>(id);
    return fail(ENOTTY, "not an NVMe namespace");
}

outcome<std::span<const std::byte>> world::map_file(int, std::uint64_t, std::size_t) {
    return fail(ENOTSUP, "this world maps no files");
}
void world::unmap_file(std::span<const std::byte>) noexcept {}

outcome<std::span<const std::byte>> posix_world::map_file(int fd, std::uint64_t offset,
                                                          std::size_t bytes) {
    void* const at = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, static_cast<off_t>(offset));
    if (at == MAP_FAILED)
        return fail(errno, fmt::format("descriptor {}: cannot map {} bytes at {}: {}", fd, bytes,
                                       offset, std::strerror(errno)));
    return std::span(static_cast<const std::byte*>(at), bytes);
}

void posix_world::unmap_file(std::span<const std::byte> mapped) noexcept {
    // NOLINTNEXTLINE: munmap writes nothing
    ::munmap(const_cast<std::byte*>(mapped.data()), mapped.size());
}

outcome<std::string> posix_world::read_text(const std::string& path, std::uint64_t bytes_max) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return file_failure(errno, "open", path);
    std::string text;
    char piece[16384];
    ssize_t n = 0;
    while ((n = ::read(fd, piece, sizeof piece)) > 0 && text.size() <= bytes_max)
        text.append(piece, static_cast<std::size_t>(n));
    const int error_number = errno;
    ::close(fd);
    if (n < 0) return file_failure(error_number, "read", path);
    if (text.size() > bytes_max)
        return fail(EFBIG, fmt::format("{}: larger than {} bytes, not read", path, bytes_max));
    return text;
}

outcome<> posix_world::write_text(const std::string& path, std::string_view text) {
    const std::string temporary = path + ".new";
    const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return file_failure(errno, "create", temporary);
    int error_number = 0;
    while (!text.empty() && error_number == 0) {
        const ssize_t n = ::write(fd, text.data(), text.size());
        if (n < 0 && errno != EINTR) error_number = errno;
        if (n > 0) text.remove_prefix(static_cast<std::size_t>(n));
    }
    if (error_number == 0 && ::fsync(fd) != 0) error_number = errno;
    if (::close(fd) != 0 && error_number == 0) error_number = errno;
    if (error_number == 0 && ::rename(temporary.c_str(), path.c_str()) != 0) error_number = errno;
    if (error_number != 0) {
        ::unlink(temporary.c_str());
        return file_failure(error_number, "write", path);
    }
    const int directory = ::open(parent_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0) return file_failure(errno, "open", parent_of(path));
    if (::fsync(directory) != 0) error_number = errno;
    ::close(directory);
    if (error_number != 0) return file_failure(error_number, "sync", parent_of(path));
    return {};
}

outcome<> posix_world::make_directory(const std::string& path) {
    if (::mkdir(path.c_str(), 0700) == 0) return {};
    struct stat st{};
    if (errno == EEXIST && ::stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode)) return {};
    return file_failure(errno == EEXIST ? ENOTDIR : errno, "make this directory", path);
}

outcome<> posix_world::remove_file(const std::string& path) {
    if (::unlink(path.c_str()) == 0) return {};
    return file_failure(errno, "remove", path);
}

bool posix_world::file_exists(const std::string& path) noexcept {
    return ::access(path.c_str(), F_OK) == 0;
}

world& real_world() noexcept {
    static posix_world instance;
    return instance;
}

}  // namespace nacre
