// SPDX-License-Identifier: BSD-3-Clause
//
// The world of the process's own kernel. One instance; stateless but for the paths of its unix
// listeners, which it removes when they close, and the signal masks that it changed. Any thread.
#pragma once

#include <signal.h>

#include <map>
#include <mutex>

#include "nacre/world/world.hpp"

namespace nacre {

class posix_world final : public world {
public:
    posix_world();
    [[nodiscard]] std::uint64_t monotonic_ns() noexcept override;
    [[nodiscard]] std::uint64_t wall_clock_ns() noexcept override;
    void fill_random(std::span<std::byte> out) noexcept override;
    [[nodiscard]] std::vector<unsigned> allowed_cpus() override;
    outcome<> pin_os_thread(std::span<const unsigned> cpus) override;
    void name_os_thread(const std::string& name) noexcept override;
    [[nodiscard]] std::uint64_t process_id() const noexcept override;
    [[nodiscard]] outcome<int> watch_signals(std::span<const int> numbers) override;
    [[nodiscard]] int take_signal(int fd) noexcept override;
    void unwatch_signals(int fd) noexcept override;
    [[nodiscard]] outcome<std::unique_ptr<io_driver>> make_driver(
        const driver_options& options) override;

    [[nodiscard]] outcome<int> open_file(const std::string& path,
                                         const open_options& options) override;
    void close_file(int fd) noexcept override;
    [[nodiscard]] outcome<file_info> inspect_file(int fd) override;
    [[nodiscard]] outcome<> lock_file(int fd, bool exclusive) override;
    [[nodiscard]] outcome<> resize_file(int fd, std::uint64_t size_bytes) override;
    [[nodiscard]] outcome<> allocate_file(int fd, std::uint64_t size_bytes) override;
    [[nodiscard]] result<std::size_t> read_file(int fd, std::uint64_t offset,
                                                std::span<std::byte> into) noexcept override;
    [[nodiscard]] result<std::size_t> write_file_durably(
        int fd, std::uint64_t offset, std::span<const std::byte> from) noexcept override;
    [[nodiscard]] result<std::uint64_t> seek_file(int fd, std::uint64_t offset,
                                                  bool data) noexcept override;
    [[nodiscard]] outcome<std::uint32_t> nvme_namespace_of(int fd) override;
    [[nodiscard]] outcome<std::span<const std::byte>> map_file(int fd, std::uint64_t offset,
                                                               std::size_t bytes) override;
    void unmap_file(std::span<const std::byte> mapped) noexcept override;
    [[nodiscard]] outcome<std::string> read_text(const std::string& path,
                                                 std::uint64_t bytes_max) override;
    [[nodiscard]] outcome<> write_text(const std::string& path, std::string_view text) override;
    [[nodiscard]] outcome<> make_directory(const std::string& path) override;
    outcome<> remove_file(const std::string& path) override;
    [[nodiscard]] bool file_exists(const std::string& path) noexcept override;

    [[nodiscard]] outcome<fuse_device> mount_fuse(const fuse_mounting& what) override;
    [[nodiscard]] outcome<> unmount_fuse(const std::string& mountpoint, bool force) override;

    [[nodiscard]] outcome<int> listen_unix(const std::string& path) override;
    [[nodiscard]] outcome<int> listen_tcp(const std::string& address, std::uint16_t port) override;
    [[nodiscard]] outcome<std::uint16_t> local_port(int fd) override;
    [[nodiscard]] outcome<int> connect_unix(const std::string& path) override;
    [[nodiscard]] outcome<int> connect_tcp(const std::string& address, std::uint16_t port) override;
    void shutdown_socket(int fd) noexcept override;
    void close_socket(int fd) noexcept override;

private:
    std::vector<unsigned> cpus_at_start_;
    struct unix_listener {
        std::string path;
        int lock_fd;
    };
    std::mutex mutex_;  // guards what follows; control path only
    std::map<int, unix_listener> listeners_;
    std::map<int, sigset_t> masks_before_;  // likewise; by signalfd
};

}  // namespace nacre
