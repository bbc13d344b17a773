// SPDX-License-Identifier: BSD-3-Clause
//
// Objects as records: what needs no data.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <functional>

#include "engine.hpp"
#include "nacre/core/bytes.hpp"

namespace nacre::chunks {
namespace {

int errno_of(const ::rocksdb::Status& s) {
    if (s.IsNoSpace()) return ENOSPC;
    if (s.IsCorruption()) return EILSEQ;
    if (s.IsNotSupported()) return ENOTSUP;
    if (s.IsInvalidArgument()) return EINVAL;
    if (s.IsMemoryLimit()) return ENOMEM;
    if (s.ToString().find("lock") != std::string::npos) return EBUSY;
    return EIO;
}

chunk_status status_of(std::string_view name, const object_record& o) {
    chunk_status s;
    s.name = name;
    s.id = o.id;
    s.size = o.size;
    s.allocated = o.pages * page_bytes;
    s.created_ns = o.created_ns;
    s.changed_ns = o.changed_ns;
    return s;
}

}  // namespace

std::int64_t now_ns() noexcept {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

failure engine::database_failure(const std::string& what, const ::rocksdb::Status& s) const {
    const int code = errno_of(s);
    std::string next;
    if (code == EBUSY) next = "; the store is open already: close it there";
    return {code, fmt::format("{}/db: {}: {}{}", options_.path, what, s.ToString(), next)};
}

failure engine::damaged_record(const std::string& what, const failure& why) const {
    return {EILSEQ, fmt::format("{}/db: {}: {}", options_.path, what, why.message)};
}

std::shared_mutex& engine::lock_of(const std::string& name) {
    return locks_[std::hash<std::string>()(name) % locks_.size()];
}

outcome<std::optional<std::string>> engine::get(const std::string& key) {
    std::string value;
    const ::rocksdb::Status s = db_->Get(::rocksdb::ReadOptions(), key, &value);
    if (s.ok()) return std::optional(std::move(value));
    if (s.IsNotFound()) return std::optional<std::string>();
    return fail(database_failure("reading a record", s));
}

outcome<object_record> engine::object(const std::string& name) {
    if (outcome<> valid = check_name(name); !valid) return fail(std::move(valid.error()));
    outcome<std::optional<std::string>> found = get(object_key(name));
    if (!found) return fail(std::move(found.error()));
    if (!*found) return fail(ENOENT, "object " + name + ": there is none of this name");
    outcome<object_record> o = decode_object(**found);
    if (!o) return fail(damaged_record("object " + name, o.error()));
    return o;
}

outcome<page_run> engine::map_run(const std::string& name, std::uint64_t id, std::uint64_t run) {
    outcome<std::optional<std::string>> found = get(map_key(id, run));
    if (!found) return fail(std::move(found.error()));
    if (!*found) return page_run();
    outcome<page_run> pages = decode_run(**found);
    if (!pages)
        return fail(damaged_record(
            fmt::format("object {}: its pages from {} on", name, run * run_pages), pages.error()));
    return pages;
}

outcome<> engine::finish(const std::string& name, object_record& o, change& c) {
    o.changed_ns = now_ns();
    c.records[object_key(name)] = encode(o);
    outcome<> done = commit(c);
    if (!done) undo(c);
    return done;
}

outcome<> engine::create(const std::string& name) {
    if (outcome<> may = may_call(true); !may) return may;
    const std::lock_guard guard(lock_of(name));
    const outcome<object_record> there = object(name);
    if (there) return fail(EEXIST, "object " + name + ": is there already");
    if (!there.error().code.is(ENOENT)) return fail(there.error());
    object_record o;
    o.id = ++last_id_;
    o.created_ns = now_ns();
    change c;
    c.objects = 1;
    return finish(name, o, c);
}

outcome<> engine::remove(const std::string& name) {
    if (outcome<> may = may_call(true); !may) return may;
    {
        const std::lock_guard guard(lock_of(name));
        const outcome<object_record> o = object(name);
        if (!o) return fail(o.error());
        change c;
        c.objects = -1;
        c.bytes = -static_cast<std::int64_t>(o->size);
        c.records[object_key(name)] = std::nullopt;
        const outcome<std::uint64_t> freed = free_pages(name, o->id, 0, c);
        if (!freed) return fail(freed.error());
        if (outcome<> done = commit(c); !done) return done;
        forget_damage(name, 0, UINT64_MAX);
    }
    drop_segments();
    return {};
}

outcome<std::uint64_t> engine::free_pages(const std::string& name, std::uint64_t id,
                                          std::uint64_t first, change& c) {
    std::uint64_t freed = 0;
    const std::unique_ptr<::rocksdb::Iterator> at(db_->NewIterator(::rocksdb::ReadOptions()));
    for (at->Seek(map_key(id, first / run_pages)); at->Valid(); at->Next()) {
        const std::optional<map_position> where = parse_map_key(at->key().ToStringView());
        if (!where || where->id != id) break;
        outcome<page_run> pages = decode_run(at->value().ToStringView());
        if (!pages) return fail(damaged_record("object " + name + ": a map record", pages.error()));
        for (std::uint64_t i = 0; i < run_pages; ++i) {
            if (where->run * run_pages + i < first || !(*pages)[i]) continue;
            append(c.freed, (*pages)[i]->place);
            (*pages)[i].reset();
            ++freed;
        }
        std::string left = encode(*pages);
        auto& record = c.records[at->key().ToString()];
        if (!left.empty()) record = std::move(left);
    }
    if (!at->status().ok()) return fail(database_failure("reading a map", at->status()));
    return freed;
}

outcome<> engine::resize(const std::string& name, std::uint64_t size) {
    if (outcome<> may = may_call(true); !may) return may;
    {
        const std::lock_guard guard(lock_of(name));
        outcome<object_record> o = object(name);
        if (!o) return fail(std::move(o.error()));
        if (size > size_max)
            return fail(EFBIG, fmt::format("object {}: {} bytes are more than the {} that fit",
                                           name, size, size_max));
        const std::uint64_t old = o->size;
        change c;
        c.bytes = static_cast<std::int64_t>(size - old);
        if (size < old) {
            const outcome<std::uint64_t> freed =
                free_pages(name, o->id, divide_up(size, page_bytes), c);
            if (!freed) return fail(freed.error());
            o->pages -= *freed;
            // What is behind the end reads as zeros if it comes back.
            if (outcome<> cut = clear_tail(name, *o, size, c); !cut) {
                undo(c);
                return cut;
            }
        }
        o->size = size;
        if (outcome<> done = finish(name, *o, c); !done || size >= old) return done;
        forget_damage(name, divide_up(size, page_bytes), UINT64_MAX);
    }
    drop_segments();
    return {};
}

outcome<chunk_status> engine::stat(const std::string& name) {
    if (outcome<> may = may_call(false); !may) return fail(std::move(may.error()));
    const outcome<object_record> o = object(name);
    if (!o) return fail(o.error());
    return status_of(name, *o);
}

outcome<std::vector<chunk_status>> engine::list(const chunk_list_options& options) {
    if (outcome<> may = may_call(false); !may) return fail(std::move(may.error()));
    std::vector<chunk_status> all;
    const std::unique_ptr<::rocksdb::Iterator> at(db_->NewIterator(::rocksdb::ReadOptions()));
    const std::string prefix = object_key(options.prefix);
    const std::string after = object_key(options.after);
    for (at->Seek(std::max(prefix, after)); at->Valid() && at->key().starts_with(prefix);
         at->Next()) {
        if (all.size() == options.objects_max) break;
        const std::string_view name = at->key().ToStringView().substr(1);
        if (!options.after.empty() && name == options.after) continue;
        const outcome<object_record> o = decode_object(at->value().ToStringView());
        if (!o) return fail(damaged_record("object " + std::string(name), o.error()));
        all.push_back(status_of(name, *o));
    }
    if (!at->status().ok()) return fail(database_failure("listing objects", at->status()));
    return all;
}

outcome<chunk_store_info> engine::info() {
    if (outcome<> may = may_call(false); !may) return fail(std::move(may.error()));
    chunk_store_info i;
    {
        const std::lock_guard guard(commit_mutex_);
        i.objects = totals_.objects;
        i.bytes = totals_.bytes;
        i.allocated = totals_.pages * page_bytes;
        i.commits = commits_;
        i.changes = changes_;
    }
    i.in_use = space_->taken_pages() * page_bytes;
    i.data_files = space_->segments();
    i.data_file_bytes = segment_bytes_;
    i.available = available();
    const std::lock_guard guard(scrub_mutex_);
    i.scrubbing = scrubs_ != 0;
    i.scrub_passes = scrub_.passes;
    i.scrub_ended_ns = scrub_.ended_ns;
    i.scrub_next = scrub_.next;
    i.pages_scrubbed = pages_scrubbed_;
    i.wrong_checksums = wrong_;
    i.damaged.assign(damaged_.begin(), damaged_.end());
    return i;
}

}  // namespace nacre::chunks
