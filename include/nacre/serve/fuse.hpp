// SPDX-License-Identifier: BSD-3-Clause
//
// FUSE: a blobfs as a directory of Linux.
//
//     outcome<fuse_mount> m = co_await fuse_mount::mount(host, fs, "/mnt/data", {});
//     …
//     outcome<> gone = co_await m->unmount();
//
// nacre speaks the kernel's protocol itself, on its reactor: over io_uring where the kernel offers
// it, which takes one system call for many requests, else over /dev/fuse. Root mounts by itself,
// others with the help of fusermount3 (package fuse3). The kernel checks permissions.
//
// The kernel caches names, attributes and data for as long as `cache_seconds` says and takes it
// that it makes all changes; who changes files beside the mount calls invalidate() then. With
// `writeback` the kernel also knows lengths and times of files that it has cached better than
// anybody: then nobody else may write.
//
// A mount whose process has died is an error to all who look at it until it is unmounted
// (`fusermount3 -u`), or until something else is mounted there with this.
//
// All calls are made on one thread, which serves the mount: the registry's home thread, where files
// are at home too. docs/fuse.md is the essay.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "nacre/blobfs/blobfs.hpp"
#include "nacre/runtime/runtime.hpp"

namespace nacre {

enum class fuse_transport : std::uint8_t { device, uring };
/// "/dev/fuse", "io_uring"
[[nodiscard]] std::string to_string(fuse_transport t);

struct fuse_options {
    static constexpr unsigned queue_depth_max = 256;

    bool uring = true;         ///< where the kernel offers it
    bool allow_other = false;  ///< users other than the one who mounts
    bool read_only = false;
    bool writeback = true;                ///< the kernel gathers small writes
    std::uint64_t cache_seconds = 86400;  ///< 0: it asks each time
    unsigned queue_depth = 16;            ///< requests in flight; with io_uring, of each CPU
    std::string source = "nacre";         ///< what `mount` shows
};

struct fuse_statistics {
    std::uint64_t requests = 0;
    std::uint64_t failed = 0;  ///< answered with an error
    std::uint64_t malformed = 0;
    std::uint64_t bytes_read = 0;
    std::uint64_t bytes_written = 0;
    std::uint64_t open_files = 0;  ///< and directories
};

namespace fuse {
struct mount_state;
}

class [[nodiscard]] fuse_mount {
public:
    /// `fs` outlives it, and stays loaded. ENOENT, ENOTDIR (the mountpoint); EPERM; ENODEV (no
    /// FUSE in this kernel).
    [[nodiscard]] static task<outcome<fuse_mount>> mount(runtime& host, blobfs& fs,
                                                         std::string mountpoint,
                                                         fuse_options options);
    fuse_mount(fuse_mount&&) noexcept;
    fuse_mount& operator=(fuse_mount&&) noexcept;
    /// It has ended (asserted).
    ~fuse_mount();

    [[nodiscard]] const std::string& mountpoint() const noexcept;
    [[nodiscard]] fuse_transport transport() const noexcept;
    /// Why the transport is the slower one, and what to do about it; empty if it is the faster.
    [[nodiscard]] const std::string& advice() const noexcept;
    [[nodiscard]] fuse_statistics statistics() const noexcept;
    /// It was unmounted, from here or from outside.
    [[nodiscard]] bool ended() const noexcept;

    /// When it returns all that was written is durable. EBUSY: somebody uses it, and it stays.
    [[nodiscard]] task<outcome<>> unmount();
    /// Whoever uses it: they get errors from now on.
    [[nodiscard]] task<outcome<>> unmount_by_force();
    /// Until it has ended, whoever ends it; what the last sync said.
    [[nodiscard]] task<outcome<>> wait();

    /// The kernel forgets attributes and data of a node, which others have changed.
    [[nodiscard]] task<result<>> invalidate(node_id id);
    /// And that, or that not, there is something of this name.
    [[nodiscard]] task<result<>> invalidate(node_id directory, std::string name);

private:
    explicit fuse_mount(std::unique_ptr<fuse::mount_state> state) noexcept;
    std::unique_ptr<fuse::mount_state> state_;
};

}  // namespace nacre
