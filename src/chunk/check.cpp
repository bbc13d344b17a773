// SPDX-License-Identifier: BSD-3-Clause
//
// The check: one snapshot of the records, held against itself. Every commit is whole, so a snapshot
// is consistent, whatever goes on.
#include <fmt/format.h>

#include <unordered_map>

#include "engine.hpp"
#include "nacre/core/bytes.hpp"

namespace nacre::chunks {
namespace {

constexpr std::size_t findings_max = 50;

class checker {
public:
    checker(::rocksdb::DB& db, chunk_check_report& report)
        : db_(db), report_(report), snapshot_(db.GetSnapshot()) {
        how_.snapshot = snapshot_;
        how_.fill_cache = false;
    }
    checker(const checker&) = delete;
    checker& operator=(const checker&) = delete;
    ~checker() { db_.ReleaseSnapshot(snapshot_); }

    ::rocksdb::Status run(std::uint64_t segments_end_place) {
        end_ = segments_end_place;
        ::rocksdb::Status s = each("M", [this](auto key, auto value) { map(key, value); });
        if (s.ok()) s = each("O", [this](auto key, auto value) { object(key, value); });
        for (const auto& [id, of] : maps_)
            find(fmt::format("{} pages belong to object id {}, which is not there", of.pages, id));
        if (s.ok()) s = each("U", [this](auto key, auto value) { used(key, value); });
        for (const auto& [set, bits] : found_)
            if (bits.any())
                find(fmt::format("{} pages from place {} on are in use and not counted as used",
                                 bits.count(), set * set_pages));
        if (report_.leaked_pages != 0)
            find(
                fmt::format("{} pages are counted as used and are nobody's", report_.leaked_pages));
        if (s.ok()) s = totals();
        return s;
    }

private:
    struct map_of {
        std::uint64_t pages = 0;
        std::uint64_t end = 0;
    };

    template <typename F>
    ::rocksdb::Status each(const char* kind, F function) {
        const std::unique_ptr<::rocksdb::Iterator> at(db_.NewIterator(how_));
        for (at->Seek(kind); at->Valid() && at->key().starts_with(kind); at->Next())
            function(at->key().ToStringView(), at->value().ToStringView());
        return at->status();
    }
    void find(std::string what) {
        if (report_.findings.size() < findings_max) report_.findings.push_back(std::move(what));
    }

    void map(std::string_view key, std::string_view value) {
        const std::optional<map_position> where = parse_map_key(key);
        const outcome<page_run> run = decode_run(value);
        if (!where || !run) {
            find(where ? fmt::format("the map of object id {} at page {}: {}", where->id,
                                     where->run * run_pages, run.error().message)
                       : std::string("the key of a map record makes no sense"));
            return;
        }
        map_of& of = maps_[where->id];
        for (std::uint64_t i = 0; i < run_pages; ++i) {
            const std::optional<page_record>& page = (*run)[i];
            if (!page) continue;
            ++of.pages;
            ++report_.pages;
            of.end = where->run * run_pages + i + 1;
            auto bit = found_[page->place / set_pages][page->place % set_pages];
            if (bit)
                find(fmt::format("page {} of object id {}: place {} is used twice", of.end - 1,
                                 where->id, page->place));
            if (page->place >= end_)
                find(fmt::format("page {} of object id {}: there is no place {}", of.end - 1,
                                 where->id, page->place));
            bit = true;
        }
    }

    void object(std::string_view key, std::string_view value) {
        const std::string_view name = key.substr(1);
        const outcome<object_record> o = decode_object(value);
        if (!o) {
            find(fmt::format("object {}: {}", name, o.error().message));
            return;
        }
        ++report_.objects;
        bytes_ += o->size;
        map_of of;
        if (const auto found = maps_.find(o->id); found != maps_.end()) {
            of = found->second;
            maps_.erase(found);
        }
        if (of.pages != o->pages)
            find(fmt::format("object {}: has {} pages, its record says {}", name, of.pages,
                             o->pages));
        if (of.end > divide_up(o->size, page_bytes))
            find(fmt::format("object {}: has a page {} behind its end", name, of.end - 1));
    }

    void used(std::string_view key, std::string_view value) {
        const std::optional<std::uint64_t> set = parse_used_key(key);
        const outcome<used_set> bits = decode_used(value);
        if (!set || !bits) {
            find("a record of used pages makes no sense");
            return;
        }
        used_set& found = found_[*set];
        report_.leaked_pages += (*bits & ~found).count();
        found &= ~*bits;
    }

    ::rocksdb::Status totals() {
        std::string value;
        const ::rocksdb::Status s =
            db_.Get(how_, ::rocksdb::Slice(totals_key.data(), totals_key.size()), &value);
        if (s.IsNotFound()) value = encode(totals_record());
        if (!s.ok() && !s.IsNotFound()) return s;
        const outcome<totals_record> t = decode_totals(value);
        if (!t) {
            find("the totals: " + t.error().message);
        } else if (t->objects != report_.objects || t->bytes != bytes_ ||
                   t->pages != report_.pages) {
            find(fmt::format("the totals say {} objects, {} bytes, {} pages; there are {}, {}, {}",
                             t->objects, t->bytes, t->pages, report_.objects, bytes_,
                             report_.pages));
        }
        return ::rocksdb::Status::OK();
    }

    ::rocksdb::DB& db_;
    chunk_check_report& report_;
    const ::rocksdb::Snapshot* const snapshot_;
    ::rocksdb::ReadOptions how_;
    std::uint64_t end_ = 0;
    std::uint64_t bytes_ = 0;
    std::unordered_map<std::uint64_t, map_of> maps_;
    std::map<std::uint64_t, used_set> found_;
};

}  // namespace

outcome<chunk_check_report> engine::check() {
    if (outcome<> may = may_call(false); !may) return fail(std::move(may.error()));
    std::uint64_t end = 0;
    {
        const std::shared_lock guard(files_mutex_);
        if (!segments_.empty()) end = (segments_.rbegin()->first + 1) * space_->segment_pages();
    }
    chunk_check_report report;
    checker c(*db_, report);
    const ::rocksdb::Status s = c.run(end);
    if (!s.ok()) return fail(database_failure("checking", s));
    return report;
}

}  // namespace nacre::chunks
