// SPDX-License-Identifier: BSD-3-Clause
#include "readers.hpp"

#include <optional>
#include <vector>

#include "status.hpp"
#include "written_file.hpp"

namespace nacre::rocks {

using ::rocksdb::FSReadRequest;
using ::rocksdb::IODebugContext;
using ::rocksdb::IOOptions;
using ::rocksdb::IOStatus;
using ::rocksdb::Slice;

namespace {

constexpr std::size_t varint_bytes_max = 10;

char* put_varint(char* to, std::uint64_t value) noexcept {
    for (; value >= 0x80; value >>= 7) *to++ = static_cast<char>(value | 0x80);
    *to++ = static_cast<char>(value);
    return to;
}

std::span<std::byte> span_of(char* data, std::size_t size) noexcept {
    return std::as_writable_bytes(std::span(data, size));
}

/// One range, as a reactor reads it.
struct range_read {
    const blobfs_file* file;
    std::uint64_t offset;
    std::span<std::byte> into;
    result<std::size_t> answer = 0;
};

task<result<std::size_t>> read_range(across<range_read> r) {
    co_return co_await r->file->read(r->offset, r->into);
}

task<void> read_one(range_read& r) {
    const result<std::size_t> got = co_await r.file->read(r.offset, r.into);
    r.answer = got;
}

task<void> read_all(across<std::vector<range_read>> ranges) {
    scope children;
    for (range_read& r : *ranges) children.spawn(read_one(r));
    result<> joined = co_await children.join();
    (void)joined;  // each range has its own answer
}

}  // namespace

// --- What all of them have ----------------------------------------------------------------------

std::size_t make_unique_id(const store& of, const node_status& node, char* id,
                           std::size_t size_max) {
    if (size_max < 3 * varint_bytes_max) return 0;
    char* end = put_varint(id, of.number());
    end = put_varint(end, static_cast<std::uint64_t>(node.id));
    end = put_varint(end, node.generation);
    return static_cast<std::size_t>(end - id);
}

readable::readable(std::shared_ptr<store> of, blocking_file file, std::string name, bool direct)
    : store_(std::move(of)),
      file_(std::move(file)),
      name_(std::move(name)),
      direct_(direct),
      writer_(store_->writer_of(file_.id())) {}

readable::~readable() {
    const result<> closed = file_.close();
    (void)closed;  // nothing of it was written
}

result<> readable::settle() const {
    if (writer_ == nullptr) return {};
    return writer_->drain();
}

result<std::size_t> readable::read(std::uint64_t offset, std::size_t n, char* into) const {
    if (result<> settled = settle(); !settled) return fail(settled.error());
    result<std::size_t> got = file_.read(offset, span_of(into, n));
    if (!got || *got == n) return got;
    // At the end, to which a writer that came later may add.
    const std::shared_ptr<written_file> writer = store_->writer_of(file_.id());
    if (writer == nullptr || !writer->has_gathered()) return got;
    if (result<> drained = writer->drain(); !drained) return fail(drained.error());
    return file_.read(offset, span_of(into, n));
}

IOStatus readable::invalidate(std::size_t offset, std::size_t length) {
    // The cache of a whole file, or none of it.
    const bool whole = offset == 0 && (length == 0 || length >= file_.length());
    if (direct_ || !whole) return IOStatus::OK();
    return status_of(file_.drop_cache(), "while dropping the cache of a file", name_);
}

std::size_t readable::unique_id(char* id, std::size_t size_max) const {
    const result<node_status> node = file_.status();
    return node ? make_unique_id(*store_, *node, id, size_max) : 0;
}

// --- One after the other ------------------------------------------------------------------------

IOStatus sequential_file::Read(std::size_t n, const IOOptions&, Slice* result, char* scratch,
                               IODebugContext*) {
    const nacre::result<std::size_t> got = file_.read(position_, n, scratch);
    *result = Slice(scratch, got.value_or(0));
    position_ += got.value_or(0);
    return status_of(got, "While reading file sequentially", file_.name());
}

IOStatus sequential_file::PositionedRead(std::uint64_t offset, std::size_t n, const IOOptions&,
                                         Slice* result, char* scratch, IODebugContext*) {
    const nacre::result<std::size_t> got = file_.read(offset, n, scratch);
    *result = Slice(scratch, got.value_or(0));
    return status_of(got, "While reading file", file_.name());
}

IOStatus sequential_file::Skip(std::uint64_t n) {
    position_ += n;
    return IOStatus::OK();
}

IOStatus sequential_file::InvalidateCache(std::size_t offset, std::size_t length) {
    return file_.invalidate(offset, length);
}

// --- Anywhere -----------------------------------------------------------------------------------

IOStatus random_access_file::Read(std::uint64_t offset, std::size_t n, const IOOptions&,
                                  Slice* result, char* scratch, IODebugContext*) const {
    const nacre::result<std::size_t> got = file_.read(offset, n, scratch);
    *result = Slice(scratch, got.value_or(0));
    return status_of(got, "While reading file", file_.name());
}

IOStatus random_access_file::MultiRead(FSReadRequest* requests, std::size_t count,
                                       const IOOptions& options, IODebugContext* dbg) {
    if (count <= 1) return FSRandomAccessFile::MultiRead(requests, count, options, dbg);
    if (const nacre::result<> settled = file_.settle(); !settled)
        return status_of(settled, "While reading file", file_.name());
    std::vector<range_read> ranges;
    ranges.reserve(count);
    for (FSReadRequest& r : std::span(requests, count))
        ranges.push_back({&file_.file().file(), r.offset, span_of(r.scratch, r.len)});
    file_.home().next_thread().spawn(&read_all, across<std::vector<range_read>>(ranges)).wait();
    for (std::size_t i = 0; i < count; ++i) {
        requests[i].result = Slice(requests[i].scratch, ranges[i].answer.value_or(0));
        requests[i].status = status_of(ranges[i].answer, "While reading file", file_.name());
    }
    return IOStatus::OK();
}

IOStatus random_access_file::Prefetch(std::uint64_t offset, std::size_t n, const IOOptions&,
                                      IODebugContext*) {
    if (file_.direct()) return IOStatus::OK();
    return status_of(file_.file().prefetch(offset, n), "While prefetching file", file_.name());
}

std::size_t random_access_file::GetUniqueId(char* id, std::size_t size_max) const {
    return file_.unique_id(id, size_max);
}

void random_access_file::Hint(AccessPattern pattern) {
    switch (pattern) {
        case kWillNeed: {
            const nacre::result<> asked = file_.file().prefetch(0, file_.file().length());
            (void)asked;  // a hint
            break;
        }
        case kWontNeed:
            file_.file().set_priority(file_priority::low);
            break;
        case kNormal:
        case kRandom:
            file_.file().set_priority(file_priority::high);
            break;
        case kSequential:
            break;
    }
}

IOStatus random_access_file::InvalidateCache(std::size_t offset, std::size_t length) {
    return file_.invalidate(offset, length);
}

// --- In the background --------------------------------------------------------------------------

namespace {

struct background_read {
    FSReadRequest request;
    std::function<void(const FSReadRequest&, void*)> callback;
    void* argument;
    std::string name;
    range_read range;
    std::optional<join_handle<result<std::size_t>>> running{};

    /// Returns when it has ended; once.
    void wait() {
        if (!running) return;
        range.answer = running->wait();
        running.reset();
    }
};

}  // namespace

IOStatus random_access_file::ReadAsync(FSReadRequest& request, const IOOptions&,
                                       std::function<void(const FSReadRequest&, void*)> callback,
                                       void* argument, void** handle,
                                       ::rocksdb::IOHandleDeleter* deleter, IODebugContext*) {
    if (const nacre::result<> settled = file_.settle(); !settled)
        return status_of(settled, "While reading file", file_.name());
    auto read = std::make_unique<background_read>(background_read{
        request,
        std::move(callback),
        argument,
        file_.name(),
        {&file_.file().file(), request.offset, span_of(request.scratch, request.len)}});
    read->running.emplace(
        file_.home().next_thread().spawn(&read_range, across<range_read>(read->range)));
    *deleter = [](void* h) {
        auto* r = static_cast<background_read*>(h);
        r->wait();
        delete r;
    };
    *handle = read.release();
    return IOStatus::OK();
}

IOStatus poll_reads(const std::vector<void*>& handles) {
    for (void* h : handles) {
        auto& r = *static_cast<background_read*>(h);
        if (!r.running) continue;  // polled before
        r.wait();
        r.request.result = Slice(r.request.scratch, r.range.answer.value_or(0));
        r.request.status = status_of(r.range.answer, "While reading file", r.name);
        r.callback(r.request, r.argument);
    }
    return IOStatus::OK();
}

IOStatus abort_reads(const std::vector<void*>& handles) {
    // A device has the memory until it answers.
    for (void* h : handles) static_cast<background_read*>(h)->wait();
    return IOStatus::OK();
}

}  // namespace nacre::rocks
