// SPDX-License-Identifier: BSD-3-Clause
#include "writers.hpp"

#include "readers.hpp"
#include "status.hpp"

namespace nacre::rocks {

using ::rocksdb::Env;
using ::rocksdb::IODebugContext;
using ::rocksdb::IOOptions;
using ::rocksdb::IOStatus;
using ::rocksdb::Slice;

namespace {

std::span<const std::byte> bytes_of_slice(const Slice& s) noexcept {
    return std::as_bytes(std::span(s.data(), s.size()));
}

}  // namespace

bool is_log(std::string_view path) noexcept {
    const std::string_view name = path.substr(path.rfind('/') + 1);
    return name.ends_with(".log") || name.starts_with("MANIFEST-");
}

// --- From one end -------------------------------------------------------------------------------

writable_file::writable_file(std::shared_ptr<store> of, blocking_file file, std::string name,
                             const ::rocksdb::FileOptions& options, std::uint64_t position)
    : FSWritableFile(options),
      store_(std::move(of)),
      name_(std::move(name)),
      id_(file.id()),
      data_(std::make_shared<written_file>(*store_, std::move(file), position, is_log(name_))),
      direct_(options.use_direct_writes),
      allocates_(options.allow_fallocate) {
    store_->add_writer(id_, data_);
}

writable_file::~writable_file() {
    const result<> closed = close();
    (void)closed;  // who wants to know calls Close
}

result<> writable_file::close() {
    if (!std::exchange(open_, false)) return {};
    result<> closed = data_->close();
    store_->remove_writer(id_, *data_);
    return closed;
}

IOStatus writable_file::Append(const Slice& data, const IOOptions&, IODebugContext*) {
    return status_of(data_->append(bytes_of_slice(data)), "While appending to file", name_);
}

IOStatus writable_file::PositionedAppend(const Slice& data, std::uint64_t offset, const IOOptions&,
                                         IODebugContext*) {
    return status_of(data_->write_at(offset, bytes_of_slice(data)), "While writing to file", name_);
}

IOStatus writable_file::Truncate(std::uint64_t size, const IOOptions&, IODebugContext*) {
    return status_of(data_->truncate(size), "While truncating file", name_);
}

IOStatus writable_file::Close(const IOOptions&, IODebugContext*) {
    return status_of(close(), "While closing file after writing", name_);
}

IOStatus writable_file::Flush(const IOOptions&, IODebugContext*) { return IOStatus::OK(); }

IOStatus writable_file::Sync(const IOOptions&, IODebugContext*) {
    return status_of(data_->sync(), "While syncing file", name_);
}

void writable_file::SetWriteLifeTimeHint(Env::WriteLifeTimeHint hint) {
    write_hint_ = hint;
    if (hint == Env::WLTH_SHORT) data_->file().set_priority(file_priority::low);
}

void writable_file::SetIOPriority(Env::IOPriority priority) {
    io_priority_ = priority;
    if (priority == Env::IO_LOW) data_->file().set_priority(file_priority::low);
}

std::uint64_t writable_file::GetFileSize(const IOOptions&, IODebugContext*) {
    return data_->position();
}

std::size_t writable_file::GetUniqueId(char* id, std::size_t size_max) const {
    const result<node_status> node = data_->file().status();
    return node ? make_unique_id(*store_, *node, id, size_max) : 0;
}

IOStatus writable_file::InvalidateCache(std::size_t offset, std::size_t length) {
    if (direct_ || offset != 0 || length != 0) return IOStatus::OK();
    return status_of(data_->file().drop_cache(), "while dropping the cache of a file", name_);
}

IOStatus writable_file::RangeSync(std::uint64_t, std::uint64_t, const IOOptions& options,
                                  IODebugContext* dbg) {
    // The cache writes behind by itself; what is gathered is made its.
    if (strict_bytes_per_sync_) return Sync(options, dbg);
    return status_of(data_->drain(), "While writing to file", name_);
}

IOStatus writable_file::Allocate(std::uint64_t offset, std::uint64_t bytes, const IOOptions&,
                                 IODebugContext*) {
    if (!allocates_) return IOStatus::OK();
    return status_of(data_->allocate(offset + bytes), "While allocating space for file", name_);
}

// --- Anywhere -----------------------------------------------------------------------------------

random_rw_file::~random_rw_file() {
    if (!file_.is_open()) return;
    const result<> closed = file_.close();
    (void)closed;  // who wants to know calls Close
}

IOStatus random_rw_file::Write(std::uint64_t offset, const Slice& data, const IOOptions&,
                               IODebugContext*) {
    return status_of(file_.write(offset, bytes_of_slice(data)), "While writing random RW file",
                     name_);
}

IOStatus random_rw_file::Read(std::uint64_t offset, std::size_t n, const IOOptions&, Slice* result,
                              char* scratch, IODebugContext*) const {
    const nacre::result<std::size_t> got =
        file_.read(offset, std::as_writable_bytes(std::span(scratch, n)));
    *result = Slice(scratch, got.value_or(0));
    return status_of(got, "While reading random RW file", name_);
}

IOStatus random_rw_file::Flush(const IOOptions&, IODebugContext*) { return IOStatus::OK(); }

IOStatus random_rw_file::Sync(const IOOptions&, IODebugContext*) {
    return status_of(file_.sync(), "While syncing random RW file", name_);
}

IOStatus random_rw_file::Close(const IOOptions&, IODebugContext*) {
    if (!file_.is_open()) return IOStatus::OK();
    return status_of(file_.close(), "While closing random RW file", name_);
}

}  // namespace nacre::rocks
