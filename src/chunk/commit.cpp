// SPDX-License-Identifier: BSD-3-Clause
//
// The committer: whoever comes first carries out what all who wait want changed, and the others
// find it done. One flush of the device, which all have written to, then one synced write of the
// database that says so; then what was freed is free.
#include <fmt/format.h>
#include <rocksdb/write_batch.h>

#include <algorithm>

#include "engine.hpp"
#include "nacre/core/log.hpp"

namespace nacre::chunks {
namespace {

constexpr std::size_t group_max = 64;

::rocksdb::Slice slice(std::string_view text) { return {text.data(), text.size()}; }

}  // namespace

outcome<> engine::commit(change& c) {
    std::unique_lock lock(commit_mutex_);
    queue_.push_back(&c);
    commit_changed_.wait(lock, [&] { return c.finished || !leading_; });
    if (c.finished) return std::move(c.done);
    leading_ = true;
    while (!c.finished) {
        const std::size_t n = std::min(queue_.size(), group_max);
        std::vector<change*> group(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(n));
        queue_.erase(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(n));
        lock.unlock();
        carry_out(group);
        lock.lock();
        for (change* one : group) one->finished = true;
    }
    leading_ = false;
    lock.unlock();
    commit_changed_.notify_all();
    return std::move(c.done);
}

void engine::carry_out(std::vector<change*>& group) {
    outcome<> done = flush(group);
    bool unsure = false;
    if (done) {
        done = write_records(group);
        unsure = !done;
    }
    for (change* c : group) {
        c->unsure = unsure;
        if (!done)
            c->done = fail(done.error());
        else
            space_->give_back(c->freed);
    }
}

outcome<> engine::flush(const std::vector<change*>& group) {
    {
        const std::lock_guard guard(commit_mutex_);
        if (broken_) return fail(*broken_);
    }
    const auto wrote =
        std::ranges::find_if(group, [](const change* c) { return c->written != nullptr; });
    if (wrote == group.end()) return {};
    const result<> flushed = (*wrote)->written->flush_device();
    if (flushed) return {};
    return fail(failure(flushed.error(), options_.path + "/data: flushing what was written: " +
                                             describe(flushed.error()) + "; nothing was changed"));
}

outcome<> engine::write_records(const std::vector<change*>& group) {
    ::rocksdb::WriteBatch batch;
    std::set<std::uint64_t> sets;
    totals_record totals;
    {
        const std::lock_guard guard(commit_mutex_);
        totals = totals_;
    }
    const auto mark = [&](const std::vector<extent>& extents, bool used) {
        for (const extent& e : extents) {
            for (std::uint64_t p = e.place; p < e.place + e.pages; ++p) {
                space_->durable(p / set_pages)[p % set_pages] = used;
                sets.insert(p / set_pages);
            }
            totals.pages += used ? e.pages : -e.pages;
        }
    };
    for (const change* c : group) {
        for (const auto& [key, value] : c->records) {
            const ::rocksdb::Status s =
                value ? batch.Put(key, *value) : batch.Delete(::rocksdb::Slice(key));
            (void)s;  // it only gathers
        }
        mark(c->taken, true);
        mark(c->freed, false);
        totals.objects += static_cast<std::uint64_t>(c->objects);
        totals.bytes += static_cast<std::uint64_t>(c->bytes);
    }
    for (const std::uint64_t set : sets) {
        const std::string bits = encode(space_->durable(set));
        const ::rocksdb::Status s =
            bits.empty() ? batch.Delete(used_key(set)) : batch.Put(used_key(set), bits);
        (void)s;
        if (bits.empty()) space_->forget(set);
    }
    totals.last_id = last_id_;
    ::rocksdb::Status s = batch.Put(slice(totals_key), encode(totals));
    ::rocksdb::WriteOptions how;
    how.sync = true;
    if (s.ok()) s = db_->Write(how, &batch);
    const std::lock_guard guard(commit_mutex_);
    if (s.ok()) {
        totals_ = totals;
        ++commits_;
        changes_ += group.size();
        return {};
    }
    broken_ = database_failure("a commit, which may have been done or not", s);
    broken_->code = error::posix(EIO);
    broken_->message += "; open the store again to see what it holds";
    log::error("chunk", broken_->message);
    return fail(*broken_);
}

void engine::undo(const change& c) noexcept {
    if (!c.unsure) space_->give_back(c.taken);
}

}  // namespace nacre::chunks
