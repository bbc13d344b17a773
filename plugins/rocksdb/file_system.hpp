// SPDX-License-Identifier: BSD-3-Clause
//
// file_system: a store as RocksDB sees it. Names that do not start at the root are taken from
// there;
// "." and ".." go by the text.
//
// Creating, renaming, linking and removing are durable when they return, so syncing a directory has
// nothing to do. Files are read by copying: reading through mmap is NotSupported.
#pragma once

#include <rocksdb/file_system.h>

#include <memory>
#include <string>
#include <vector>

#include "store.hpp"

namespace nacre::rocks {

class file_system final : public ::rocksdb::FileSystem {
public:
    /// `id`: the address by which another one is made. Read-only: nothing changes through this one.
    file_system(std::shared_ptr<store> files, std::string id, bool read_only);

    static const char* kClassName() { return "NacreFileSystem"; }
    const char* Name() const override { return kClassName(); }
    std::string GetId() const override { return id_; }

    using status = ::rocksdb::IOStatus;
    using file_options = ::rocksdb::FileOptions;
    using io_options = ::rocksdb::IOOptions;
    using debug_context = ::rocksdb::IODebugContext;

    status NewSequentialFile(const std::string& name, const file_options& options,
                             std::unique_ptr<::rocksdb::FSSequentialFile>* result,
                             debug_context* dbg) override;
    status NewRandomAccessFile(const std::string& name, const file_options& options,
                               std::unique_ptr<::rocksdb::FSRandomAccessFile>* result,
                               debug_context* dbg) override;
    status NewWritableFile(const std::string& name, const file_options& options,
                           std::unique_ptr<::rocksdb::FSWritableFile>* result,
                           debug_context* dbg) override;
    status ReopenWritableFile(const std::string& name, const file_options& options,
                              std::unique_ptr<::rocksdb::FSWritableFile>* result,
                              debug_context* dbg) override;
    status ReuseWritableFile(const std::string& name, const std::string& old_name,
                             const file_options& options,
                             std::unique_ptr<::rocksdb::FSWritableFile>* result,
                             debug_context* dbg) override;
    status NewRandomRWFile(const std::string& name, const file_options& options,
                           std::unique_ptr<::rocksdb::FSRandomRWFile>* result,
                           debug_context* dbg) override;
    status NewDirectory(const std::string& name, const io_options& options,
                        std::unique_ptr<::rocksdb::FSDirectory>* result,
                        debug_context* dbg) override;
    status FileExists(const std::string& name, const io_options& options,
                      debug_context* dbg) override;
    status GetChildren(const std::string& name, const io_options& options,
                       std::vector<std::string>* result, debug_context* dbg) override;
    status DeleteFile(const std::string& name, const io_options& options,
                      debug_context* dbg) override;
    status Truncate(const std::string& name, std::size_t size, const io_options& options,
                    debug_context* dbg) override;
    status CreateDir(const std::string& name, const io_options& options,
                     debug_context* dbg) override;
    status CreateDirIfMissing(const std::string& name, const io_options& options,
                              debug_context* dbg) override;
    status DeleteDir(const std::string& name, const io_options& options,
                     debug_context* dbg) override;
    status GetFileSize(const std::string& name, const io_options& options, std::uint64_t* size,
                       debug_context* dbg) override;
    status GetFileModificationTime(const std::string& name, const io_options& options,
                                   std::uint64_t* time, debug_context* dbg) override;
    status RenameFile(const std::string& from, const std::string& to, const io_options& options,
                      debug_context* dbg) override;
    status LinkFile(const std::string& from, const std::string& to, const io_options& options,
                    debug_context* dbg) override;
    status NumFileLinks(const std::string& name, const io_options& options, std::uint64_t* count,
                        debug_context* dbg) override;
    status AreFilesSame(const std::string& first, const std::string& second,
                        const io_options& options, bool* result, debug_context* dbg) override;
    /// Excludes everybody else: who has the store shares it with nobody but this process.
    status LockFile(const std::string& name, const io_options& options, ::rocksdb::FileLock** lock,
                    debug_context* dbg) override;
    status UnlockFile(::rocksdb::FileLock* lock, const io_options& options,
                      debug_context* dbg) override;
    status NewLogger(const std::string& name, const io_options& options,
                     std::shared_ptr<::rocksdb::Logger>* result, debug_context* dbg) override;
    status GetTestDirectory(const io_options& options, std::string* path,
                            debug_context* dbg) override;
    status GetAbsolutePath(const std::string& path, const io_options& options, std::string* result,
                           debug_context* dbg) override;
    status GetFreeSpace(const std::string& path, const io_options& options, std::uint64_t* bytes,
                        debug_context* dbg) override;
    status IsDirectory(const std::string& path, const io_options& options, bool* result,
                       debug_context* dbg) override;
    file_options OptimizeForLogWrite(const file_options& options,
                                     const ::rocksdb::DBOptions& database) const override;
    file_options OptimizeForManifestWrite(const file_options& options) const override;
    status Poll(std::vector<void*>& handles, std::size_t completions_min) override;
    status AbortIO(std::vector<void*>& handles) override;

private:
    [[nodiscard]] outcome<blocking_file> open(const std::string& name, file_open_options how);
    [[nodiscard]] status open_to_write(const std::string& name, const file_options& options,
                                       bool truncate,
                                       std::unique_ptr<::rocksdb::FSWritableFile>* result);
    /// EROFS of one that is read-only.
    [[nodiscard]] outcome<> may_write() const;

    std::shared_ptr<store> store_;
    std::string id_;
    bool read_only_;
};

/// "/db/CURRENT" of "db//./CURRENT".
[[nodiscard]] std::string normal_path(std::string_view path);

}  // namespace nacre::rocks
