// SPDX-License-Identifier: BSD-3-Clause
//
// A rocksdb::FileSystem on nacre, for programs that link both; plugins/rocksdb/README.md says how
// stock programs load it.
//
//     register_rocksdb_file_system();
//     std::shared_ptr<rocksdb::FileSystem> fs;
//     rocksdb::FileSystem::CreateFromString(rocksdb::ConfigOptions(),
//                                           "nacre://file:///data/disk.img", &fs);
//     std::unique_ptr<rocksdb::Env> env = rocksdb::NewCompositeEnv(fs);
//
// All of these share one blobfs that name the same bdev; it is unloaded when the last of them and
// of their files goes. If the process runs an app they join it, which then ends after them;
// otherwise they start one. They are called, and go, on OS threads that are not of the runtime.
#pragma once

#include <memory>
#include <string>

#include "nacre/core/error.hpp"

namespace rocksdb {
class FileSystem;
}

namespace nacre {

class blobfs;
class runtime;

/// "nacre://…" in RocksDB's registry of objects; once.
void register_rocksdb_file_system();

/// What CreateFromString makes of that address.
[[nodiscard]] outcome<std::shared_ptr<rocksdb::FileSystem>> open_rocksdb_file_system(
    const std::string& address);

/// What an address names, for a program that keeps files of its own beside a database's.
struct rocksdb_store {
    std::shared_ptr<rocksdb::FileSystem> file_system;
    blobfs* files = nullptr;  ///< loaded as long as the file system or a file of it is there
};
[[nodiscard]] outcome<rocksdb_store> open_rocksdb_store(const std::string& address);

/// On a blobfs of the application's own, which outlives the file system and all its files.
[[nodiscard]] std::shared_ptr<rocksdb::FileSystem> make_rocksdb_file_system(runtime& host,
                                                                            blobfs& files);

}  // namespace nacre
