// SPDX-License-Identifier: BSD-3-Clause
//
// blobfs for foreign OS threads: calls that block until they are done.
//
//     blocking_blobfs files(fs);
//     outcome<blocking_file> f = files.open("CURRENT", how);
//     result<std::size_t> n = f->read(0, buffer);
//
// Each call of blobfs.hpp has its twin here; see there what it does. Called on a thread of the
// runtime, which must not block, every one fails with EDEADLK. Reads are carried out
// on the calling thread where that can be (docs/blobfs.md), prefetch() waits for nothing. The
// blobfs outlives these, and its runtime is running.
#pragma once

#include "nacre/blobfs/blobfs.hpp"

namespace nacre {

class [[nodiscard]] blocking_file {
public:
    blocking_file() noexcept = default;
    explicit blocking_file(blobfs_file file) noexcept : file_(std::move(file)) {}
    [[nodiscard]] result<> close();
    [[nodiscard]] bool is_open() const noexcept { return file_.is_open(); }
    [[nodiscard]] node_id id() const noexcept { return file_.id(); }
    [[nodiscard]] std::uint64_t length() const noexcept { return file_.length(); }
    [[nodiscard]] result<node_status> status() const;
    [[nodiscard]] result<std::size_t> read(std::uint64_t offset, std::span<std::byte> into) const;
    [[nodiscard]] result<> write(std::uint64_t offset, std::span<const std::byte> from);
    [[nodiscard]] result<> append(std::span<const std::byte> from);
    [[nodiscard]] result<> zero(std::uint64_t offset, std::uint64_t bytes);
    [[nodiscard]] result<> sync();
    [[nodiscard]] result<> flush_device();
    /// append() and sync() in one trip.
    [[nodiscard]] result<> append_and_sync(std::span<const std::byte> from);
    [[nodiscard]] result<> truncate(std::uint64_t length);
    [[nodiscard]] result<> allocate(std::uint64_t length);
    [[nodiscard]] result<> prefetch(std::uint64_t offset, std::uint64_t bytes) const;
    [[nodiscard]] result<> drop_cache();
    void set_priority(file_priority p) noexcept { file_.set_priority(p); }
    [[nodiscard]] result<> lock();
    [[nodiscard]] result<> unlock();
    /// For coroutines.
    [[nodiscard]] blobfs_file& file() noexcept { return file_; }

private:
    blobfs_file file_;
};

class blocking_blobfs {
public:
    explicit blocking_blobfs(blobfs& fs) noexcept : fs_(&fs) {}
    [[nodiscard]] outcome<blobfs_status> status() const;
    [[nodiscard]] outcome<> sync();
    [[nodiscard]] outcome<blocking_file> open(std::string path, file_open_options how);
    [[nodiscard]] outcome<node_status> stat(std::string path) const;
    [[nodiscard]] outcome<std::vector<directory_entry>> list(std::string path) const;
    [[nodiscard]] outcome<> make_directory(std::string path,
                                           node_attributes attributes = node_attributes());
    [[nodiscard]] outcome<> remove(std::string path);
    [[nodiscard]] outcome<> remove_directory(std::string path);
    [[nodiscard]] outcome<> rename(std::string from, std::string to,
                                   rename_options options = rename_options());
    [[nodiscard]] outcome<> link(std::string existing, std::string path);
    [[nodiscard]] outcome<> symlink(std::string target, std::string path,
                                    node_attributes attributes = node_attributes());
    [[nodiscard]] outcome<std::string> read_link(std::string path) const;

private:
    blobfs* fs_;
};

}  // namespace nacre
