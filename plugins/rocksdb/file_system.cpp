// SPDX-License-Identifier: BSD-3-Clause
#include "file_system.hpp"

#include <unistd.h>

#include <ctime>

#include "info_log.hpp"
#include "readers.hpp"
#include "status.hpp"
#include "writers.hpp"

namespace nacre::rocks {

using ::rocksdb::IOStatus;
using status = file_system::status;

namespace {

constexpr std::uint64_t ns_per_second = 1'000'000'000;
constexpr std::uint32_t directory_mode = S_IFDIR | 0755;

/// Names are durable when they appear.
class directory final : public ::rocksdb::FSDirectory {
public:
    directory(std::shared_ptr<store> of, node_status status)
        : store_(std::move(of)), status_(status) {}
    IOStatus Fsync(const ::rocksdb::IOOptions&, ::rocksdb::IODebugContext*) override {
        return IOStatus::OK();
    }
    IOStatus Close(const ::rocksdb::IOOptions&, ::rocksdb::IODebugContext*) override {
        return IOStatus::OK();
    }
    std::size_t GetUniqueId(char* id, std::size_t size_max) const override {
        return make_unique_id(*store_, status_, id, size_max);
    }

private:
    std::shared_ptr<store> store_;
    node_status status_;
};

class file_lock final : public ::rocksdb::FileLock {
public:
    file_lock(std::shared_ptr<store> of, blocking_file locked, std::string file)
        : store_(std::move(of)), file_(std::move(locked)), name_(std::move(file)) {}
    [[nodiscard]] blocking_file& file() noexcept { return file_; }
    [[nodiscard]] const std::string& name() const noexcept { return name_; }

private:
    std::shared_ptr<store> store_;  // goes last
    blocking_file file_;
    std::string name_;
};

node_attributes attributes_of_directory() {
    node_attributes made;
    made.mode = directory_mode;
    return made;
}

}  // namespace

std::string normal_path(std::string_view path) {
    std::string made;
    while (!path.empty()) {
        const std::size_t end = std::min(path.find('/'), path.size());
        const std::string_view part = path.substr(0, end);
        path.remove_prefix(std::min(end + 1, path.size()));
        if (part.empty() || part == ".") continue;
        if (part == "..") {
            made.resize(made.empty() ? 0 : made.rfind('/'));
            continue;
        }
        made += '/';
        made += part;
    }
    return made.empty() ? "/" : made;
}

namespace {

/// What a database cannot go on without: its logs, and what is renamed to CURRENT.
bool needs_reserve(std::string_view path) { return is_log(path) || path.ends_with(".dbtmp"); }

}  // namespace

file_system::file_system(std::shared_ptr<store> files, std::string id, bool read_only)
    : store_(std::move(files)), id_(std::move(id)), read_only_(read_only) {}

outcome<> file_system::may_write() const {
    if (!read_only_) return {};
    return fail(EROFS, "the file system is open read-only");
}

outcome<blocking_file> file_system::open(const std::string& name, file_open_options how) {
    if (how.write)
        if (outcome<> may = may_write(); !may) return fail(std::move(may.error()));
    return store_->calls().open(normal_path(name), how);
}

// --- Files --------------------------------------------------------------------------------------

status file_system::NewSequentialFile(const std::string& name, const file_options& options,
                                      std::unique_ptr<::rocksdb::FSSequentialFile>* result,
                                      debug_context*) {
    result->reset();
    file_open_options how;
    how.direct = options.use_direct_reads;
    outcome<blocking_file> file = open(name, how);
    if (!file) return status_of(file, "While opening a file for sequentially reading", name);
    *result = std::make_unique<sequential_file>(store_, std::move(*file), name, how.direct);
    return IOStatus::OK();
}

status file_system::NewRandomAccessFile(const std::string& name, const file_options& options,
                                        std::unique_ptr<::rocksdb::FSRandomAccessFile>* result,
                                        debug_context*) {
    result->reset();
    if (options.use_mmap_reads)
        return IOStatus::NotSupported(
            name, "files on nacre cannot be mapped; leave allow_mmap_reads out");
    file_open_options how;
    how.direct = options.use_direct_reads;
    outcome<blocking_file> file = open(name, how);
    if (!file) return status_of(file, "While open a file for random read", name);
    *result = std::make_unique<random_access_file>(store_, std::move(*file), name, how.direct);
    return IOStatus::OK();
}

status file_system::open_to_write(const std::string& name, const file_options& options,
                                  bool truncate,
                                  std::unique_ptr<::rocksdb::FSWritableFile>* result) {
    result->reset();
    file_open_options how;
    how.write = how.create = true;
    how.truncate = truncate;
    how.direct = options.use_direct_writes;
    how.log = is_log(name);
    how.uses_reserve = needs_reserve(name);
    outcome<blocking_file> file = open(name, how);
    if (!file) return status_of(file, "While open a file for appending", name);
    const std::uint64_t end = file->length();
    *result = std::make_unique<writable_file>(store_, std::move(*file), name, options, end);
    return IOStatus::OK();
}

status file_system::NewWritableFile(const std::string& name, const file_options& options,
                                    std::unique_ptr<::rocksdb::FSWritableFile>* result,
                                    debug_context*) {
    return open_to_write(name, options, true, result);
}

status file_system::ReopenWritableFile(const std::string& name, const file_options& options,
                                       std::unique_ptr<::rocksdb::FSWritableFile>* result,
                                       debug_context*) {
    return open_to_write(name, options, false, result);
}

status file_system::ReuseWritableFile(const std::string& name, const std::string& old_name,
                                      const file_options& options,
                                      std::unique_ptr<::rocksdb::FSWritableFile>* result,
                                      debug_context*) {
    result->reset();
    file_open_options how;
    how.write = true;
    how.direct = options.use_direct_writes;
    // A log is emptied, durably and before it has its new name: what a crash leaves there shows no
    // record of the old one, at which RocksDB 7.8's reader would stay for ever.
    how.log = how.truncate = how.keep_space = how.uses_reserve = is_log(name);
    outcome<blocking_file> file = open(old_name, how);
    if (!file) return status_of(file, "while reopen file for write", name);
    const outcome<> renamed = store_->calls().rename(normal_path(old_name), normal_path(name));
    if (!renamed) {
        const nacre::result<> closed = file->close();
        (void)closed;  // nothing was written
        return status_of(renamed, "while rename file to " + name, old_name);
    }
    *result = std::make_unique<writable_file>(store_, std::move(*file), name, options, 0);
    return IOStatus::OK();
}

status file_system::NewRandomRWFile(const std::string& name, const file_options& options,
                                    std::unique_ptr<::rocksdb::FSRandomRWFile>* result,
                                    debug_context*) {
    result->reset();
    file_open_options how;
    how.write = true;
    how.direct = options.use_direct_reads && options.use_direct_writes;
    outcome<blocking_file> file = open(name, how);
    if (!file) return status_of(file, "While open file for random read/write", name);
    *result = std::make_unique<random_rw_file>(store_, std::move(*file), name);
    return IOStatus::OK();
}

status file_system::DeleteFile(const std::string& name, const io_options&, debug_context*) {
    outcome<> done = may_write();
    if (done) done = store_->calls().remove(normal_path(name));
    return status_of(done, "while unlink() file", name);
}

status file_system::Truncate(const std::string& name, std::size_t size, const io_options&,
                             debug_context*) {
    file_open_options how;
    how.write = true;
    outcome<blocking_file> file = open(name, how);
    if (!file) return status_of(file, "While opening a file to truncate it", name);
    result<> done;
    if (const std::shared_ptr<written_file> writer = store_->writer_of(file->id()))
        done = writer->drain();
    if (done) done = file->truncate(size);
    const result<> closed = file->close();
    return status_of(done ? closed : done, "While truncating file", name);
}

// --- Directories --------------------------------------------------------------------------------

status file_system::NewDirectory(const std::string& name, const io_options&,
                                 std::unique_ptr<::rocksdb::FSDirectory>* result, debug_context*) {
    result->reset();
    outcome<node_status> found = store_->calls().stat(normal_path(name));
    if (!found) return status_of(found, "While open directory", name);
    *result = std::make_unique<directory>(store_, *found);
    return IOStatus::OK();
}

status file_system::GetChildren(const std::string& name, const io_options&,
                                std::vector<std::string>* result, debug_context*) {
    result->clear();
    outcome<std::vector<directory_entry>> entries = store_->calls().list(normal_path(name));
    if (!entries) return not_found_or(entries.error(), "While opendir", name);
    result->reserve(entries->size());
    for (directory_entry& e : *entries) result->push_back(std::move(e.name));
    return IOStatus::OK();
}

status file_system::CreateDir(const std::string& name, const io_options&, debug_context*) {
    outcome<> done = may_write();
    if (done) done = store_->calls().make_directory(normal_path(name), attributes_of_directory());
    return status_of(done, "While mkdir", name);
}

status file_system::CreateDirIfMissing(const std::string& name, const io_options& options,
                                       debug_context* dbg) {
    const outcome<node_status> found = store_->calls().stat(normal_path(name));
    if (!found) return CreateDir(name, options, dbg);
    if (found->is_directory()) return IOStatus::OK();
    return IOStatus::IOError("`" + name + "' exists but is not a directory");
}

status file_system::DeleteDir(const std::string& name, const io_options&, debug_context*) {
    outcome<> done = may_write();
    if (done) done = store_->calls().remove_directory(normal_path(name));
    return status_of(done, "file rmdir", name);
}

// --- Names --------------------------------------------------------------------------------------

status file_system::FileExists(const std::string& name, const io_options&, debug_context*) {
    const outcome<node_status> found = store_->calls().stat(normal_path(name));
    if (found) return IOStatus::OK();
    return not_found_or(found.error(), "while looking for a file", name);
}

status file_system::GetFileSize(const std::string& name, const io_options&, std::uint64_t* size,
                                debug_context*) {
    *size = 0;
    const outcome<node_status> found = store_->calls().stat(normal_path(name));
    if (!found) return status_of(found, "while stat a file for size", name);
    *size = found->length;
    if (const std::shared_ptr<written_file> writer = store_->writer_of(found->id))
        *size = std::max(*size, writer->position());
    return IOStatus::OK();
}

status file_system::GetFileModificationTime(const std::string& name, const io_options&,
                                            std::uint64_t* time, debug_context*) {
    const outcome<node_status> found = store_->calls().stat(normal_path(name));
    if (!found) return status_of(found, "while stat a file for modification time", name);
    *time = static_cast<std::uint64_t>(found->attributes.mtime_ns) / ns_per_second;
    return IOStatus::OK();
}

status file_system::RenameFile(const std::string& from, const std::string& to, const io_options&,
                               debug_context*) {
    outcome<> done = may_write();
    if (done) done = store_->calls().rename(normal_path(from), normal_path(to));
    return status_of(done, "While renaming a file to " + to, from);
}

status file_system::LinkFile(const std::string& from, const std::string& to, const io_options&,
                             debug_context*) {
    outcome<> done = may_write();
    if (done) done = store_->calls().link(normal_path(from), normal_path(to));
    return status_of(done, "while link file to " + to, from);
}

status file_system::NumFileLinks(const std::string& name, const io_options&, std::uint64_t* count,
                                 debug_context*) {
    const outcome<node_status> found = store_->calls().stat(normal_path(name));
    if (!found) return status_of(found, "while stat a file for num file links", name);
    *count = found->links;
    return IOStatus::OK();
}

status file_system::AreFilesSame(const std::string& first, const std::string& second,
                                 const io_options&, bool* result, debug_context*) {
    const outcome<node_status> one = store_->calls().stat(normal_path(first));
    if (!one) return status_of(one, "stat file", first);
    const outcome<node_status> other = store_->calls().stat(normal_path(second));
    if (!other) return status_of(other, "stat file", second);
    *result = one->id == other->id;
    return IOStatus::OK();
}

status file_system::IsDirectory(const std::string& path, const io_options&, bool* result,
                                debug_context*) {
    const outcome<node_status> found = store_->calls().stat(normal_path(path));
    if (!found) return status_of(found, "While open for IsDirectory()", path);
    if (result != nullptr) *result = found->is_directory();
    return IOStatus::OK();
}

status file_system::GetAbsolutePath(const std::string& path, const io_options&, std::string* result,
                                    debug_context*) {
    *result = path.starts_with('/') ? path : normal_path(path);
    return IOStatus::OK();
}

status file_system::GetTestDirectory(const io_options& options, std::string* path,
                                     debug_context* dbg) {
    *path = "/rocksdbtest-" + std::to_string(::geteuid());
    return CreateDirIfMissing(*path, options, dbg);
}

// --- The rest -----------------------------------------------------------------------------------

status file_system::LockFile(const std::string& name, const io_options&, ::rocksdb::FileLock** lock,
                             debug_context*) {
    *lock = nullptr;
    file_open_options how;
    how.write = how.create = true;
    outcome<blocking_file> file = open(name, how);
    if (!file) return status_of(file, "while open a file for lock", name);
    const result<> locked = file->lock();
    if (!locked) {
        const result<> closed = file->close();
        (void)closed;  // nothing was written
        if (locked.error().is(EWOULDBLOCK))
            return IOStatus::IOError("While lock file: " + name,
                                     "held by this process; close that database first");
        return status_of(locked, "While lock file", name);
    }
    *lock = new file_lock(store_, std::move(*file), name);
    return IOStatus::OK();
}

status file_system::UnlockFile(::rocksdb::FileLock* lock, const io_options&, debug_context*) {
    const std::unique_ptr<file_lock> mine(static_cast<file_lock*>(lock));
    const result<> done = mine->file().unlock();
    const result<> closed = mine->file().close();
    return status_of(done ? closed : done, "unlock", mine->name());
}

status file_system::NewLogger(const std::string& name, const io_options&,
                              std::shared_ptr<::rocksdb::Logger>* result, debug_context*) {
    result->reset();
    file_open_options how;
    how.write = how.create = how.truncate = true;
    outcome<blocking_file> file = open(name, how);
    if (!file) return status_of(file, "when open a file for new logger", name);
    *result = std::make_shared<info_log>(store_, std::move(*file), name);
    return IOStatus::OK();
}

status file_system::GetFreeSpace(const std::string& path, const io_options&, std::uint64_t* bytes,
                                 debug_context*) {
    const outcome<node_status> found = store_->calls().stat(normal_path(path));
    if (!found) return status_of(found, "While doing statvfs", path);
    const outcome<blobfs_status> now = store_->calls().status();
    if (!now) return status_of(now, "While doing statvfs", path);
    *bytes = now->available;
    return IOStatus::OK();
}

file_system::file_options file_system::OptimizeForLogWrite(
    const file_options& options, const ::rocksdb::DBOptions& database) const {
    file_options made = OptimizeForManifestWrite(options);
    made.bytes_per_sync = database.wal_bytes_per_sync;
    made.writable_file_max_buffer_size = database.writable_file_max_buffer_size;
    return made;
}

file_system::file_options file_system::OptimizeForManifestWrite(const file_options& options) const {
    file_options made = options;
    made.use_mmap_writes = false;
    made.use_direct_writes = false;
    made.fallocate_with_keep_size = true;
    return made;
}

status file_system::Poll(std::vector<void*>& handles, std::size_t) { return poll_reads(handles); }

status file_system::AbortIO(std::vector<void*>& handles) { return abort_reads(handles); }

}  // namespace nacre::rocks
