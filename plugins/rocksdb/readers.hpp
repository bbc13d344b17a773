// SPDX-License-Identifier: BSD-3-Clause
//
// RocksDB's files to read: one after the other, or anywhere, several ranges at once, and in the
// background. A read at the place of what a writer has gathered has it handed over first.
#pragma once

#include <rocksdb/file_system.h>

#include <memory>
#include <string>

#include "store.hpp"

namespace nacre::rocks {

/// An open file, and the store that it keeps.
class readable {
public:
    readable(std::shared_ptr<store> of, blocking_file file, std::string name, bool direct);
    ~readable();
    readable(const readable&) = delete;
    readable& operator=(const readable&) = delete;

    [[nodiscard]] result<std::size_t> read(std::uint64_t offset, std::size_t n, char* into) const;
    /// What a writer has gathered of it can be read afterwards.
    [[nodiscard]] result<> settle() const;
    [[nodiscard]] ::rocksdb::IOStatus invalidate(std::size_t offset, std::size_t length);
    [[nodiscard]] std::size_t unique_id(char* id, std::size_t size_max) const;

    [[nodiscard]] store& home() const noexcept { return *store_; }
    [[nodiscard]] blocking_file& file() const noexcept { return file_; }
    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] bool direct() const noexcept { return direct_; }

private:
    std::shared_ptr<store> store_;
    mutable blocking_file file_;
    std::string name_;
    bool direct_;
    std::shared_ptr<written_file> writer_;  // that there was when it was opened
};

/// "store, node, generation" as three numbers, each ended by itself, so that none begins another.
[[nodiscard]] std::size_t make_unique_id(const store& of, const node_status& node, char* id,
                                         std::size_t size_max);

class sequential_file final : public ::rocksdb::FSSequentialFile {
public:
    sequential_file(std::shared_ptr<store> of, blocking_file file, std::string name, bool direct)
        : file_(std::move(of), std::move(file), std::move(name), direct) {}

    ::rocksdb::IOStatus Read(std::size_t n, const ::rocksdb::IOOptions& options,
                             ::rocksdb::Slice* result, char* scratch,
                             ::rocksdb::IODebugContext* dbg) override;
    ::rocksdb::IOStatus PositionedRead(std::uint64_t offset, std::size_t n,
                                       const ::rocksdb::IOOptions& options,
                                       ::rocksdb::Slice* result, char* scratch,
                                       ::rocksdb::IODebugContext* dbg) override;
    ::rocksdb::IOStatus Skip(std::uint64_t n) override;
    ::rocksdb::IOStatus InvalidateCache(std::size_t offset, std::size_t length) override;
    bool use_direct_io() const override { return file_.direct(); }

private:
    readable file_;
    std::uint64_t position_ = 0;
};

class random_access_file final : public ::rocksdb::FSRandomAccessFile {
public:
    random_access_file(std::shared_ptr<store> of, blocking_file file, std::string name, bool direct)
        : file_(std::move(of), std::move(file), std::move(name), direct) {}

    ::rocksdb::IOStatus Read(std::uint64_t offset, std::size_t n,
                             const ::rocksdb::IOOptions& options, ::rocksdb::Slice* result,
                             char* scratch, ::rocksdb::IODebugContext* dbg) const override;
    /// All at once on a reactor.
    ::rocksdb::IOStatus MultiRead(::rocksdb::FSReadRequest* requests, std::size_t count,
                                  const ::rocksdb::IOOptions& options,
                                  ::rocksdb::IODebugContext* dbg) override;
    /// On a reactor; file_system's Poll and AbortIO take the handle.
    ::rocksdb::IOStatus ReadAsync(
        ::rocksdb::FSReadRequest& request, const ::rocksdb::IOOptions& options,
        std::function<void(const ::rocksdb::FSReadRequest&, void*)> callback, void* argument,
        void** handle, ::rocksdb::IOHandleDeleter* deleter,
        ::rocksdb::IODebugContext* dbg) override;
    ::rocksdb::IOStatus Prefetch(std::uint64_t offset, std::size_t n,
                                 const ::rocksdb::IOOptions& options,
                                 ::rocksdb::IODebugContext* dbg) override;
    std::size_t GetUniqueId(char* id, std::size_t size_max) const override;
    void Hint(AccessPattern pattern) override;
    ::rocksdb::IOStatus InvalidateCache(std::size_t offset, std::size_t length) override;
    bool use_direct_io() const override { return file_.direct(); }

private:
    readable file_;
};

/// Of ReadAsync's handles.
[[nodiscard]] ::rocksdb::IOStatus poll_reads(const std::vector<void*>& handles);
/// They have ended, and no callback is called.
[[nodiscard]] ::rocksdb::IOStatus abort_reads(const std::vector<void*>& handles);

}  // namespace nacre::rocks
