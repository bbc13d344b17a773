// SPDX-License-Identifier: BSD-3-Clause
//
// RocksDB's files to write: from one end, or anywhere.
//
// What a hint says of data's life goes to the cache: who reads data that live shortly (the log)
// reads them once, so they are evicted first.
#pragma once

#include <rocksdb/file_system.h>

#include <memory>
#include <string>
#include <string_view>

#include "written_file.hpp"

namespace nacre::rocks {

/// Write-ahead logs and manifests: appended to and synced, again and again.
[[nodiscard]] bool is_log(std::string_view path) noexcept;

class writable_file final : public ::rocksdb::FSWritableFile {
public:
    /// From `position` on; the file is open.
    writable_file(std::shared_ptr<store> of, blocking_file file, std::string name,
                  const ::rocksdb::FileOptions& options, std::uint64_t position);
    ~writable_file() override;

    using FSWritableFile::Append;
    using FSWritableFile::PositionedAppend;
    ::rocksdb::IOStatus Append(const ::rocksdb::Slice& data, const ::rocksdb::IOOptions& options,
                               ::rocksdb::IODebugContext* dbg) override;
    ::rocksdb::IOStatus PositionedAppend(const ::rocksdb::Slice& data, std::uint64_t offset,
                                         const ::rocksdb::IOOptions& options,
                                         ::rocksdb::IODebugContext* dbg) override;
    ::rocksdb::IOStatus PositionedAppend(const ::rocksdb::Slice& data, std::uint64_t offset,
                                         const ::rocksdb::IOOptions& options,
                                         const ::rocksdb::DataVerificationInfo&,
                                         ::rocksdb::IODebugContext* dbg) override {
        return PositionedAppend(data, offset, options, dbg);
    }
    ::rocksdb::IOStatus Truncate(std::uint64_t size, const ::rocksdb::IOOptions& options,
                                 ::rocksdb::IODebugContext* dbg) override;
    ::rocksdb::IOStatus Close(const ::rocksdb::IOOptions& options,
                              ::rocksdb::IODebugContext* dbg) override;
    /// Who reads the file sees what was appended without it.
    ::rocksdb::IOStatus Flush(const ::rocksdb::IOOptions& options,
                              ::rocksdb::IODebugContext* dbg) override;
    ::rocksdb::IOStatus Sync(const ::rocksdb::IOOptions& options,
                             ::rocksdb::IODebugContext* dbg) override;
    bool IsSyncThreadSafe() const override { return true; }
    bool use_direct_io() const override { return direct_; }
    void SetWriteLifeTimeHint(::rocksdb::Env::WriteLifeTimeHint hint) override;
    void SetIOPriority(::rocksdb::Env::IOPriority priority) override;
    std::uint64_t GetFileSize(const ::rocksdb::IOOptions& options,
                              ::rocksdb::IODebugContext* dbg) override;
    std::size_t GetUniqueId(char* id, std::size_t size_max) const override;
    ::rocksdb::IOStatus InvalidateCache(std::size_t offset, std::size_t length) override;
    ::rocksdb::IOStatus RangeSync(std::uint64_t offset, std::uint64_t bytes,
                                  const ::rocksdb::IOOptions& options,
                                  ::rocksdb::IODebugContext* dbg) override;
    ::rocksdb::IOStatus Allocate(std::uint64_t offset, std::uint64_t bytes,
                                 const ::rocksdb::IOOptions& options,
                                 ::rocksdb::IODebugContext* dbg) override;

private:
    [[nodiscard]] result<> close();

    std::shared_ptr<store> store_;
    std::string name_;
    node_id id_;
    std::shared_ptr<written_file> data_;
    bool direct_;
    bool allocates_;
    bool open_ = true;
};

class random_rw_file final : public ::rocksdb::FSRandomRWFile {
public:
    random_rw_file(std::shared_ptr<store> of, blocking_file file, std::string name)
        : store_(std::move(of)), file_(std::move(file)), name_(std::move(name)) {}
    ~random_rw_file() override;

    ::rocksdb::IOStatus Write(std::uint64_t offset, const ::rocksdb::Slice& data,
                              const ::rocksdb::IOOptions& options,
                              ::rocksdb::IODebugContext* dbg) override;
    ::rocksdb::IOStatus Read(std::uint64_t offset, std::size_t n,
                             const ::rocksdb::IOOptions& options, ::rocksdb::Slice* result,
                             char* scratch, ::rocksdb::IODebugContext* dbg) const override;
    ::rocksdb::IOStatus Flush(const ::rocksdb::IOOptions& options,
                              ::rocksdb::IODebugContext* dbg) override;
    ::rocksdb::IOStatus Sync(const ::rocksdb::IOOptions& options,
                             ::rocksdb::IODebugContext* dbg) override;
    ::rocksdb::IOStatus Close(const ::rocksdb::IOOptions& options,
                              ::rocksdb::IODebugContext* dbg) override;

private:
    std::shared_ptr<store> store_;
    blocking_file file_;
    std::string name_;
};

}  // namespace nacre::rocks
