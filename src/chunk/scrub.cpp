// SPDX-License-Identifier: BSD-3-Clause
//
// The scrub reads all pages, an object after the other in the order of their names, and says which
// are damaged. The one in the background goes on after a restart where it was.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "engine.hpp"
#include "mapped.hpp"
#include "nacre/core/log.hpp"

namespace nacre::chunks {
namespace {

using steady = std::chrono::steady_clock;

constexpr std::size_t damaged_max = 1000;
constexpr auto saved_every = std::chrono::seconds(10);

}  // namespace

void engine::note_page(const std::string& name, std::uint64_t page, bool is_right) {
    if (is_right && damaged_count_ == 0) return;
    const std::lock_guard guard(scrub_mutex_);
    if (is_right) {
        damaged_.erase({name, page});
    } else {
        ++wrong_;
        if (damaged_.size() < damaged_max) damaged_.insert({name, page});
    }
    damaged_count_ = damaged_.size();
}

/// The pages [first, end) are others now.
void engine::forget_damage(const std::string& name, std::uint64_t first, std::uint64_t end) {
    if (damaged_count_ == 0) return;
    const std::lock_guard guard(scrub_mutex_);
    damaged_.erase(damaged_.lower_bound({name, first}), damaged_.lower_bound({name, end}));
    damaged_count_ = damaged_.size();
}

outcome<std::vector<chunk_damage>> engine::scrub(std::uint64_t rate) {
    if (outcome<> may = may_call(false); !may) return fail(std::move(may.error()));
    if (outcome<> done = scrub_pass(rate, false); !done) return fail(std::move(done.error()));
    const std::lock_guard guard(scrub_mutex_);
    return std::vector<chunk_damage>(damaged_.begin(), damaged_.end());
}

void engine::scrub_in_background() {
    const auto pause_ns = static_cast<std::int64_t>(options_.scrub_pause_s) * 1'000'000'000;
    std::unique_lock lock(scrub_mutex_);
    while (!stopping_) {
        const std::int64_t due_in =
            scrub_.next.empty() && scrub_.passes != 0
                ? static_cast<std::int64_t>(scrub_.ended_ns) + pause_ns - now_ns()
                : 0;
        if (due_in > 0) {
            scrub_changed_.wait_for(lock, std::chrono::nanoseconds(due_in));
            continue;
        }
        lock.unlock();
        const outcome<> done = scrub_pass(options_.scrub_rate, true);
        if (!done) log::error("chunk", done.error().message);
        lock.lock();
        if (!done && !stopping_) scrub_changed_.wait_for(lock, std::chrono::minutes(1));
    }
}

outcome<> engine::scrub_pass(std::uint64_t rate, bool in_background) {
    std::unique_lock lock(scrub_mutex_);
    std::string next = in_background ? scrub_.next : std::string();
    ++scrubs_;
    const auto began = steady::now();
    auto save_at = began + saved_every;
    std::uint64_t all_bytes = 0;
    outcome<> done;
    bool ended = false;
    while (!stopping_ && done && !ended) {
        lock.unlock();
        outcome<std::optional<std::string>> name = object_from(next);
        std::optional<std::uint64_t> run = 0;
        if (!name) done = fail(std::move(name.error()));
        ended = done && !*name;
        lock.lock();
        while (done && !ended && run && !stopping_) {
            if (in_background) scrub_.next = **name;
            lock.unlock();
            outcome<std::optional<std::uint64_t>> on = scrub_object(**name, *run, all_bytes);
            if (!on)
                done = fail(std::move(on.error()));
            else
                run = *on;
            if (in_background && steady::now() > save_at) {
                save_scrub();
                save_at = steady::now() + saved_every;
            }
            lock.lock();
            if (rate == 0) continue;
            const auto earned = std::chrono::nanoseconds(static_cast<std::int64_t>(
                static_cast<double>(all_bytes) / static_cast<double>(rate) * 1e9));
            scrub_changed_.wait_until(lock, began + earned, [this] { return stopping_; });
        }
        if (done && !ended) next = **name + '\0';
    }
    if (ended) {
        ++scrub_.passes;
        scrub_.ended_ns = static_cast<std::uint64_t>(now_ns());
        if (in_background) scrub_.next.clear();
    }
    --scrubs_;
    lock.unlock();
    scrub_changed_.notify_all();
    return done;
}

/// The first object whose name is not less.
outcome<std::optional<std::string>> engine::object_from(const std::string& name) {
    const std::unique_ptr<::rocksdb::Iterator> at(db_->NewIterator(::rocksdb::ReadOptions()));
    at->Seek(object_key(name));
    if (!at->status().ok()) return fail(database_failure("listing objects", at->status()));
    if (!at->Valid() || !at->key().starts_with("O")) return std::optional<std::string>();
    return std::optional(at->key().ToString().substr(1));
}

outcome<std::optional<std::uint64_t>> engine::scrub_object(const std::string& name,
                                                           std::uint64_t run,
                                                           std::uint64_t& bytes) {
    constexpr unsigned runs_at_once = batch_pages / run_pages;
    const std::shared_lock guard(lock_of(name));
    const outcome<object_record> o = object(name);
    if (!o && o.error().code.is(ENOENT)) return std::optional<std::uint64_t>();
    if (!o) return fail(o.error());
    outcome<dma_buffer> buffer = take_buffer();
    if (!buffer) return fail(std::move(buffer.error()));
    const std::unique_ptr<::rocksdb::Iterator> at(db_->NewIterator(::rocksdb::ReadOptions()));
    std::optional<std::uint64_t> on;
    unsigned n = 0;
    for (at->Seek(map_key(o->id, run)); at->Valid(); at->Next(), ++n) {
        const std::optional<map_position> where = parse_map_key(at->key().ToStringView());
        if (!where || where->id != o->id) break;
        if (n == runs_at_once) {
            on = where->run;
            break;
        }
        outcome<page_run> pages = decode_run(at->value().ToStringView());
        if (!pages) return fail(damaged_record("object " + name + ": a map record", pages.error()));
        mapped m{where->run, {*pages}};
        const auto there = static_cast<std::uint64_t>(
            std::ranges::count_if(*pages, [](const auto& p) { return p.has_value(); }));
        const auto into = buffer->writable_unchecked().first(run_pages * page_bytes);
        const outcome<> read = read_mapped(name, m, where->run * run_pages, into);
        if (!read) log::error("chunk", read.error().message);
        bytes += there * page_bytes;
        const std::lock_guard scrub_guard(scrub_mutex_);
        pages_scrubbed_ += there;
    }
    return_buffer(std::move(*buffer));
    if (!at->status().ok()) return fail(database_failure("reading a map", at->status()));
    return on;
}

/// Not synced: what is lost is scrubbed once more.
void engine::save_scrub() {
    scrub_record now;
    {
        const std::lock_guard guard(scrub_mutex_);
        now = scrub_;
    }
    if (options_.read_only || (now.passes == 0 && now.next.empty())) return;
    const ::rocksdb::Status s =
        db_->Put(::rocksdb::WriteOptions(), ::rocksdb::Slice(scrub_key.data(), scrub_key.size()),
                 encode(now));
    if (!s.ok()) log::warning("chunk", database_failure("noting the scrub", s).message);
}

}  // namespace nacre::chunks
