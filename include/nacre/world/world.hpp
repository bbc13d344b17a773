// SPDX-License-Identifier: BSD-3-Clause
//
// The one seam to everything outside the process: clock, randomness, files, sockets, the kernel's
// asynchronous I/O. Rooms above `world` make no system call. There are two worlds: `real_world()`,
// and `sim::world`, in which time is virtual, devices are models and every run repeats from its
// seed.
//
// The calls here are the control path: they may block for as long as a file system takes to open a
// file, and their errors are sentences. Data moves through `io_driver`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nacre/core/error.hpp"
#include "nacre/world/io_driver.hpp"

namespace nacre {

struct driver_options {
    unsigned entries = 256;  ///< submission ring size, a power of two
    /// Arguments of up to io_driver::wide_command_bytes_max, where the kernel has them (5.19).
    bool wide_commands = false;
    /// Answers of two words, and no driver where the kernel has them not; with wide_commands.
    bool wide_answers = false;
};

struct open_options {
    bool write = false;
    bool create = false;     ///< with `write`: made if absent, mode 0600
    bool exclusive = false;  ///< with `create`: EEXIST if it is there
    bool direct = false;     ///< past the page cache where the file system can; see file_info
    bool at_once = false;    ///< of a device: requests that cannot wait are carried out at once
};

struct file_info {
    std::uint64_t size_bytes = 0;
    std::uint32_t offset_alignment = 1;  ///< of offsets and lengths, bytes
    std::uint32_t memory_alignment = 1;  ///< of buffers, bytes
    bool direct = false;                 ///< past the page cache
    bool block_device = false;
    std::int32_t numa_id = -1;  ///< node that it, or the file system's device, is near to; -1: any
};

struct fuse_mounting {
    std::string mountpoint;
    std::string source;  ///< what `mount` shows
    bool allow_other = false;
    bool read_only = false;
};

struct fuse_device {
    using may_cross_threads = void;
    int fd = -1;             ///< what the kernel asks is read from it; non-blocking
    std::string mountpoint;  ///< absolute
    bool replaced = false;   ///< a mount whose server had died lay there, and has been removed
};

/// What a world that drives time itself steps: a reactor.
class steppable {
public:
    virtual ~steppable() = default;
    /// One turn; whether it did anything.
    virtual bool turn() = 0;
    /// When it wants its next turn if nothing else happens; UINT64_MAX: never.
    [[nodiscard]] virtual std::uint64_t next_deadline_ns() noexcept = 0;
};

class world {
public:
    world() = default;
    world(const world&) = delete;
    world& operator=(const world&) = delete;
    virtual ~world() = default;

    // Clock. Nanoseconds; the monotonic clock's zero is arbitrary.
    [[nodiscard]] virtual std::uint64_t monotonic_ns() noexcept = 0;
    [[nodiscard]] virtual std::uint64_t wall_clock_ns() noexcept = 0;
    /// Where a virtual clock keeps its time; null in the real world, whose reactors read the CPU's
    /// counter.
    [[nodiscard]] virtual const std::uint64_t* virtual_clock() const noexcept { return nullptr; }
    virtual void fill_random(std::span<std::byte> out) noexcept = 0;
    /// Steps all reactors on the calling OS thread until `done(context)`, and returns true: a world
    /// with a virtual clock. The real world returns false at once: its reactors have OS threads.
    virtual bool drive([[maybe_unused]] std::span<steppable* const> reactors,
                       [[maybe_unused]] bool (*done)(void*), [[maybe_unused]] void* context) {
        return false;
    }

    // OS threads.
    /// CPUs that this process may run on, ascending.
    [[nodiscard]] virtual std::vector<unsigned> allowed_cpus() = 0;
    /// Restricts the calling OS thread to these CPUs; empty: to all allowed ones.
    virtual outcome<> pin_os_thread(std::span<const unsigned> cpus) = 0;
    virtual void name_os_thread(const std::string& name) noexcept = 0;

    // The process.
    [[nodiscard]] virtual std::uint64_t process_id() const noexcept { return 1; }
    /// Takes these signals over, for the calling OS thread and those that it makes from now on: a
    /// descriptor that is readable while one of them is pending. -1 in a world without signals.
    [[nodiscard]] virtual outcome<int> watch_signals(std::span<const int> numbers);
    /// The next pending one's number; 0 if there is none.
    [[nodiscard]] virtual int take_signal(int fd) noexcept;
    /// On the OS thread that took them over: they do again what they did, the pending ones never.
    virtual void unwatch_signals(int fd) noexcept;

    [[nodiscard]] virtual outcome<std::unique_ptr<io_driver>> make_driver(
        const driver_options& options) = 0;

    // Files, by descriptor. The caller closes what it opened.
    [[nodiscard]] virtual outcome<int> open_file(const std::string& path,
                                                 const open_options& options) = 0;
    virtual void close_file(int fd) noexcept = 0;
    [[nodiscard]] virtual outcome<file_info> inspect_file(int fd) = 0;
    /// EBUSY if another open file description holds it, in this process or another.
    [[nodiscard]] virtual outcome<> lock_file(int fd, bool exclusive) = 0;
    [[nodiscard]] virtual outcome<> resize_file(int fd, std::uint64_t size_bytes) = 0;
    [[nodiscard]] virtual outcome<> allocate_file(int fd, std::uint64_t size_bytes) = 0;
    /// On the calling OS thread, which waits; it may be less than was asked for. ENOTSUP in a world
    /// whose time nobody may wait for.
    [[nodiscard]] virtual result<std::size_t> read_file(int fd, std::uint64_t offset,
                                                        std::span<std::byte> into) noexcept;
    /// Likewise; what was written is durable, as if by fdatasync.
    [[nodiscard]] virtual result<std::size_t> write_file_durably(
        int fd, std::uint64_t offset, std::span<const std::byte> from) noexcept;
    /// First byte at or after `offset` that is data (or a hole); ENXIO if there is none.
    [[nodiscard]] virtual result<std::uint64_t> seek_file(int fd, std::uint64_t offset,
                                                          bool data) noexcept = 0;
    /// Of an NVMe namespace's character device (/dev/ng0n1): its identifier, to name in commands.
    /// ENOTTY: another file.
    [[nodiscard]] virtual outcome<std::uint32_t> nvme_namespace_of(int fd);
    /// What a device shows of itself, to read; ENOTSUP in a world without. Page-aligned.
    [[nodiscard]] virtual outcome<std::span<const std::byte>> map_file(int fd, std::uint64_t offset,
                                                                       std::size_t bytes);
    virtual void unmap_file(std::span<const std::byte> mapped) noexcept;
    [[nodiscard]] virtual outcome<std::string> read_text(const std::string& path,
                                                         std::uint64_t bytes_max) = 0;
    /// Replaces the file atomically and durably: a crash leaves the old or the new text.
    [[nodiscard]] virtual outcome<> write_text(const std::string& path, std::string_view text) = 0;
    [[nodiscard]] virtual outcome<> make_directory(const std::string& path) = 0;
    virtual outcome<> remove_file(const std::string& path) = 0;
    [[nodiscard]] virtual bool file_exists(const std::string& path) noexcept = 0;

    // Mounts, by the FUSE device: as root, or with the help of fusermount3. These wait for whoever
    // serves the file systems on the way, so never on a reactor that serves one.
    [[nodiscard]] virtual outcome<fuse_device> mount_fuse(const fuse_mounting& what);
    /// EBUSY while somebody uses it; with `force` it leaves the tree all the same, and ends, for
    /// root at once. EINVAL: nothing is mounted there.
    [[nodiscard]] virtual outcome<> unmount_fuse(const std::string& mountpoint, bool force);

    // Stream sockets. A unix listener holds `path`.lock while it lives and replaces a stale socket.
    [[nodiscard]] virtual outcome<int> listen_unix(const std::string& path) = 0;
    /// `port` 0 takes a free one; the address is numeric (127.0.0.1, ::1).
    [[nodiscard]] virtual outcome<int> listen_tcp(const std::string& address,
                                                  std::uint16_t port) = 0;
    [[nodiscard]] virtual outcome<std::uint16_t> local_port(int fd) = 0;
    [[nodiscard]] virtual outcome<int> connect_unix(const std::string& path) = 0;
    [[nodiscard]] virtual outcome<int> connect_tcp(const std::string& address,
                                                   std::uint16_t port) = 0;
    virtual void shutdown_socket(int fd) noexcept = 0;
    /// Closes a socket; for a unix listener also removes its path and lock.
    virtual void close_socket(int fd) noexcept = 0;
};

/// The process's own kernel. Any thread.
[[nodiscard]] world& real_world() noexcept;

}  // namespace nacre
