// SPDX-License-Identifier: BSD-3-Clause
//
// A chunk store opens and closes: directories, database, data files, and what of them is taken.
#include <fmt/format.h>
#include <rocksdb/cache.h>
#include <rocksdb/env.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/table.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <system_error>

#include "engine.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/log.hpp"
#include "nacre/runtime/thread.hpp"

namespace nacre::chunks {
namespace {

constexpr std::uint64_t mib = std::uint64_t{1} << 20;

std::uint64_t write_buffer_bytes(std::uint64_t device) {
    return std::clamp(device / 128, mib, 32 * mib);
}

::rocksdb::Options database_options(::rocksdb::Env* env, std::uint64_t device) {
    ::rocksdb::Options o;
    o.env = env;
    o.compression = ::rocksdb::kNoCompression;  // checksums and places do not shrink
    o.write_buffer_size = write_buffer_bytes(device);
    o.target_file_size_base = o.write_buffer_size;
    o.max_bytes_for_level_base = 4 * o.write_buffer_size;
    o.max_background_jobs = 2;
    o.keep_log_file_num = 2;
    o.max_log_file_size = mib;
    o.max_manifest_file_size = 4 * mib;
    o.manifest_preallocation_size = mib / 4;
    o.paranoid_checks = true;
    o.max_bgerror_resume_count = 0;  // a commit that failed is looked at when it is opened again
    // All that was acknowledged is synced: a damaged log is refused, but for what was being written
    // at its very end.
    o.wal_recovery_mode = ::rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
    ::rocksdb::BlockBasedTableOptions table;
    table.block_cache = ::rocksdb::NewLRUCache(32 * mib);
    table.filter_policy.reset(::rocksdb::NewBloomFilterPolicy(10));
    table.format_version = 5;
    o.table_factory.reset(::rocksdb::NewBlockBasedTableFactory(table));
    return o;
}

}  // namespace

engine::engine(rocksdb_store store, chunk_store_options options)
    : store_(std::move(store)), files_(*store_.files), options_(std::move(options)) {}

engine::~engine() {
    if (!open_) return;
    if (const outcome<> closed = close(); !closed) log::error("chunk", closed.error().message);
}

outcome<> engine::open() {
    outcome<> done = make_directories();
    if (done) done = open_database();
    if (done) done = read_store_record();
    if (done) done = open_segments();
    if (done) done = restore_space();
    open_ = done.has_value();
    if (!done) {
        segments_.clear();
        db_.reset();
        return done;
    }
    try {
        workers_.start(std::max(options_.workers, 1U));
        if (options_.scrub_rate != 0) scrubber_ = make_thread([this] { scrub_in_background(); });
    } catch (const std::system_error& e) {
        const outcome<> closed = close();
        (void)closed;
        return fail(EAGAIN, options_.path + ": no OS thread for the chunk store: " + e.what());
    }
    return done;
}

outcome<> engine::close() {
    if (nacre::thread::current() != nullptr)
        return fail(EDEADLK,
                    "a chunk store is not closed on a thread of the runtime: await "
                    "chunk_store::close");
    if (!open_.exchange(false)) return fail(EBADF, "the chunk store is closed already");
    {
        std::unique_lock lock(scrub_mutex_);
        stopping_ = true;
        scrub_changed_.notify_all();
        scrub_changed_.wait(lock, [this] { return scrubs_ == 0; });
    }
    if (scrubber_.joinable()) scrubber_.join();
    workers_.stop();
    if (!options_.read_only && !broken_) save_scrub();
    outcome<> done;
    if (db_ != nullptr && !options_.read_only && !broken_) {
        const ::rocksdb::Status s = db_->Close();
        if (!s.ok()) done = fail(database_failure("closing the database", s));
    }
    db_.reset();
    for (auto& [number, file] : segments_)
        if (const result<> closed = file->close(); !closed && done)
            done = fail(failure(closed.error(), segment_path(number) +
                                                    ": closing it: " + describe(closed.error())));
    segments_.clear();
    env_.reset();
    store_.file_system.reset();
    return done;
}

outcome<> engine::may_call(bool changes) const {
    if (nacre::thread::current() != nullptr)
        return fail(EDEADLK,
                    "a blocking call of a chunk store on a thread of the runtime: await "
                    "the one of chunk_store.hpp");
    if (!open_) return fail(EBADF, "the chunk store is closed; open it again");
    if (changes && options_.read_only)
        return fail(EROFS, options_.path + ": the chunk store is open to read only");
    return {};
}

outcome<> engine::make_directories() {
    const std::string& path = options_.path;
    if (path.size() < 2 || path.front() != '/' || path.back() == '/')
        return fail(EINVAL, fmt::format("\"{}\" is no place of a chunk store; give a path such as "
                                        "/chunk",
                                        path));
    const outcome<node_status> there = files_.stat(path + "/data");
    if (there) return {};
    if (!there.error().code.is(ENOENT)) return fail(there.error());
    if (!options_.create || options_.read_only)
        return fail(ENOENT, path +
                                ": there is no chunk store; have one made with mkfs=auto in the "
                                "address, or the option create");
    node_attributes how;
    how.mode = 0755;
    for (std::size_t at = path.find('/', 1);; at = path.find('/', at + 1)) {
        outcome<> made = files_.make_directory(path.substr(0, at), how);
        if (!made && !made.error().code.is(EEXIST)) return made;
        if (at == std::string::npos) break;
    }
    // Last: while it is missing there is no store.
    for (const char* name : {"/db", "/data"}) {
        outcome<> made = files_.make_directory(path + name, how);
        if (!made && !made.error().code.is(EEXIST)) return made;
    }
    return {};
}

outcome<> engine::open_database() {
    const outcome<blobfs_status> fs = files_.status();
    if (!fs) return fail(fs.error());
    env_ = ::rocksdb::NewCompositeEnv(store_.file_system);
    ::rocksdb::Options o = database_options(env_.get(), fs->size);
    // A store whose database was never finished is begun again; one that lost it is not.
    o.create_if_missing = !options_.read_only;
    reserve_bytes_ = 8 * o.write_buffer_size + fs->size / 64;
    ::rocksdb::DB* opened = nullptr;
    const std::string path = options_.path + "/db";
    const ::rocksdb::Status s = options_.read_only
                                    ? ::rocksdb::DB::OpenForReadOnly(o, path, &opened)
                                    : ::rocksdb::DB::Open(o, path, &opened);
    db_.reset(opened);
    if (!s.ok()) return fail(database_failure("opening the database", s));
    return {};
}

outcome<> engine::read_store_record() {
    outcome<std::optional<std::string>> found = get(std::string(store_key));
    if (!found) return fail(std::move(found.error()));
    if (*found) {
        const outcome<store_record> record = decode_store(**found);
        if (!record) return fail(damaged_record("the store's record", record.error()));
        segment_bytes_ = record->segment_bytes;
    } else {
        const outcome<std::vector<directory_entry>> data = files_.list(options_.path + "/data");
        if (!data) return fail(data.error());
        if (!data->empty() || options_.read_only)
            return fail(EILSEQ, options_.path +
                                    "/db: has no record of the store, though there are "
                                    "data files: the database is not theirs");
        const outcome<blobfs_status> fs = files_.status();
        if (!fs) return fail(fs.error());
        segment_bytes_ = std::bit_floor(std::clamp(fs->size / 64, 2 * mib, 64 * mib));
        ::rocksdb::WriteOptions how;
        how.sync = true;
        const ::rocksdb::Status s =
            db_->Put(how, ::rocksdb::Slice(store_key.data(), store_key.size()),
                     encode(store_record{segment_bytes_}));
        if (!s.ok()) return fail(database_failure("writing the store's record", s));
    }
    found = get(std::string(totals_key));
    if (!found) return fail(std::move(found.error()));
    if (*found) {
        const outcome<totals_record> totals = decode_totals(**found);
        if (!totals) return fail(damaged_record("the totals", totals.error()));
        totals_ = *totals;
        last_id_ = totals->last_id;
    }
    found = get(std::string(scrub_key));
    if (!found) return fail(std::move(found.error()));
    if (*found)
        if (outcome<scrub_record> scrub = decode_scrub(**found)) scrub_ = std::move(*scrub);
    return {};
}

outcome<> engine::open_segments() {
    space_ = std::make_unique<space>(segment_bytes_);
    const outcome<std::vector<directory_entry>> data = files_.list(options_.path + "/data");
    if (!data) return fail(data.error());
    for (const directory_entry& e : *data) {
        char* end = nullptr;
        const std::uint64_t number = std::strtoull(e.name.c_str(), &end, 16);
        if (e.name.empty() || *end != '\0' ||
            segment_path(number) != options_.path + "/data/" + e.name)
            continue;  // nobody's
        outcome<> opened = open_segment(number);
        if (opened) continue;
        if (!opened.error().code.is(ENOSPC)) return opened;
        // Others have taken the space that it was to have; nothing is in it.
        if (outcome<> removed = files_.remove(segment_path(number)); !removed) return removed;
    }
    return {};
}

/// Also makes it, and gives it all its space.
outcome<> engine::open_segment(std::uint64_t number) {
    file_open_options how;
    how.write = how.create = !options_.read_only;
    how.direct = true;
    outcome<blocking_file> opened = files_.open(segment_path(number), how);
    if (!opened) return fail(std::move(opened.error()));
    auto file = std::make_shared<blocking_file>(std::move(*opened));
    if (file->length() != segment_bytes_) {
        // It was being made when the machine stopped; nothing is in it.
        if (options_.read_only) return {};
        if (const result<> sized = file->truncate(segment_bytes_); !sized) {
            const result<> closed = file->close();
            (void)closed;
            return fail(failure(sized.error(), segment_path(number) + ": giving it its space: " +
                                                   describe(sized.error())));
        }
    }
    space_->add_segment(number);
    const std::lock_guard guard(files_mutex_);
    segments_[number] = std::move(file);
    return {};
}

outcome<> engine::restore_space() {
    const std::unique_ptr<::rocksdb::Iterator> at(db_->NewIterator(::rocksdb::ReadOptions()));
    for (at->Seek("U"); at->Valid() && at->key().starts_with("U"); at->Next()) {
        const std::optional<std::uint64_t> set = parse_used_key(at->key().ToStringView());
        const outcome<used_set> bits = decode_used(at->value().ToStringView());
        if (!set || !bits)
            return fail(EILSEQ, options_.path +
                                    "/db: a record of used pages makes no sense; "
                                    "restore the store from a copy");
        if (!space_->restore(*set, *bits))
            return fail(EILSEQ,
                        fmt::format("{}: is missing, and objects have pages in it; restore "
                                    "the store from a copy",
                                    segment_path(*set * set_pages / space_->segment_pages())));
    }
    if (!at->status().ok()) return fail(database_failure("reading what is used", at->status()));
    if (space_->taken_pages() != totals_.pages)
        log::warning("chunk", fmt::format("{}/db: {} pages are used, the totals say {}; check it",
                                          options_.path, space_->taken_pages(), totals_.pages));
    return {};
}

std::string engine::segment_path(std::uint64_t number) const {
    return fmt::format("{}/data/{:08x}", options_.path, number);
}

}  // namespace nacre::chunks
