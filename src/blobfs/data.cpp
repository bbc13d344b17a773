// SPDX-License-Identifier: BSD-3-Clause
//
// Reads, writes and lengths of files. Readers share a node's `data`, whoever changes bytes or the
// length has it alone. Small pieces go through the cache; whole pages of large ones go past it,
// between the device and the caller's memory.
#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "engine.hpp"
#include "nacre/core/assert.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/runtime/sleep.hpp"

namespace nacre::detail {

namespace {

/// So much at once goes through the cache.
constexpr std::uint64_t piece_bytes = std::uint64_t{256} << 10;
constexpr std::uint64_t length_max = INT64_MAX;
alignas(page_bytes) constexpr std::array<std::byte, page_bytes> zeros{};

class shared_guard {
public:
    explicit shared_guard(shared_mutex& m) noexcept : mutex_(m) {}
    shared_guard(const shared_guard&) = delete;
    shared_guard& operator=(const shared_guard&) = delete;
    ~shared_guard() { mutex_.unlock_shared(); }

private:
    shared_mutex& mutex_;
};

}  // namespace

// --- Who may look at the data, and change them --------------------------------------------------

/// Alone with the data, whose end nobody else has.
task<result<>> fs_engine::own_data(fs_node& node) {
    result<> locked = co_await node.data.lock();
    if (!locked || !node.tail.is_lent()) co_return locked;
    locked = co_await end_tail(node);
    if (!locked) node.data.unlock();
    co_return locked;
}

/// Beside others who look at them.
task<result<>> fs_engine::share_data(fs_node& node) {
    result<> locked = co_await node.data.lock_shared();
    if (!locked || !node.tail.is_lent()) co_return locked;
    locked = co_await end_tail(node);
    if (!locked) node.data.unlock_shared();
    co_return locked;
}

// --- Chunks -------------------------------------------------------------------------------------

result<> fs_engine::pin_chunks(fs_node& node, std::uint64_t first, std::uint64_t end) {
    for (std::uint64_t i = first / chunk_pages; i <= (end - 1) / chunk_pages; ++i) {
        chunk* const c = node.pages.get(i);
        if (c == nullptr) {
            if (i > first / chunk_pages) unpin_chunks(node, first, i * chunk_pages);
            return fail(ENOMEM);
        }
        ++c->pins;
    }
    return {};
}

void fs_engine::unpin_chunks(fs_node& node, std::uint64_t first, std::uint64_t end) noexcept {
    for (std::uint64_t i = first / chunk_pages; i <= (end - 1) / chunk_pages; ++i)
        --node.pages.find(i)->pins;
}

task<result<>> fs_engine::wait_idle(fs_node& node, std::uint64_t index) {
    for (chunk* c = node.pages.find(index); c != nullptr && c->busy; c = node.pages.find(index)) {
        ++c->pins;  // it stays until it is looked at again
        result<> woken = co_await c->idle.wait();
        --c->pins;
        if (!woken) co_return woken;
    }
    co_return result<>();
}

std::vector<iovec> fs_engine::vectors_of(fs_node& node, std::uint64_t first, std::uint64_t end) {
    std::vector<iovec> all;
    for (std::uint64_t p = first; p < end;) {
        const std::uint64_t next = std::min(end, align_down(p, chunk_pages) + chunk_pages);
        chunk* const c = node.pages.find(p / chunk_pages);
        all.push_back({c->page(p % chunk_pages), (next - p) * page_bytes});
        p = next;
    }
    return all;
}

void fs_engine::set_busy(fs_node& node, std::uint64_t first, std::uint64_t end, bool busy) {
    for (std::uint64_t i = first / chunk_pages; i <= (end - 1) / chunk_pages; ++i) {
        chunk* const c = node.pages.find(i);
        c->busy = busy;
        if (!busy) c->idle.notify_all();
    }
}

namespace {

/// The pages of chunk `index` that lie in [first, end).
unsigned mask_of(std::uint64_t index, std::uint64_t first, std::uint64_t end) {
    const std::uint64_t base = index * chunk_pages;
    const std::uint64_t from = std::max(first, base) - base;
    const std::uint64_t to = std::min(end, base + chunk_pages) - base;
    return ((1U << to) - 1) & ~((1U << from) - 1);
}

}  // namespace

task<result<>> fs_engine::load_run(node_ptr node, std::uint64_t first, std::uint64_t end) {
    set_busy(*node, first, end, true);
    result<> done;
    if (node->log) {
        done = co_await load_log_run(node, first, end);
    } else {
        const std::vector<iovec> vectors = vectors_of(*node, first, end);
        const iov_view view{std::span<const iovec>(vectors)};
        done = co_await node->channel.read(unit_of(first * page_bytes), view);
    }
    if (done) {
        cache.misses.fetch_add(end - first, std::memory_order_relaxed);
        const std::uint64_t length = node->length.load(std::memory_order_relaxed);
        if (length < end * page_bytes) {  // the file ends in the last page
            const std::uint64_t from = std::max(length, first * page_bytes);
            for (std::uint64_t at = from; at < end * page_bytes;) {
                const std::uint64_t n =
                    std::min(end * page_bytes, align_down(at, chunk_bytes) + chunk_bytes) - at;
                node->pages.fill_zeros(*node->pages.find(at / chunk_bytes), at % chunk_bytes, n);
                at += n;
            }
        }
        for (std::uint64_t i = first / chunk_pages; i <= (end - 1) / chunk_pages; ++i)
            node->pages.mark_valid(*node->pages.find(i), mask_of(i, first, end));
    }
    set_busy(*node, first, end, false);
    co_return done;
}

task<result<>> fs_engine::load_pages(node_ptr node, std::uint64_t first, std::uint64_t end) {
    const auto is_valid = [&](std::uint64_t p) {
        return (node->pages.find(p / chunk_pages)->valid & (1U << p % chunk_pages)) != 0;
    };
    for (std::uint64_t p = first; p < end;) {
        if (is_valid(p)) {
            ++p;
            continue;
        }
        result<> idle = co_await wait_idle(*node, p / chunk_pages);
        if (!idle) co_return idle;
        if (is_valid(p)) continue;
        std::uint64_t until = p + 1;
        while (until < end && !is_valid(until) && !node->pages.find(until / chunk_pages)->busy)
            ++until;
        result<> loaded = co_await load_run(node, p, until);
        if (!loaded) co_return loaded;
    }
    co_return result<>();
}

/// The device does nothing with what is cached of [first, end), and begins nothing until let_go().
task<result<std::vector<std::uint64_t>>> fs_engine::hold(node_ptr node, std::uint64_t first,
                                                         std::uint64_t end) {
    std::vector<std::uint64_t> held;
    if (node->pages.empty()) co_return held;
    for (std::uint64_t i = first / chunk_pages; i * chunk_pages < end; ++i) {
        result<> idle = co_await wait_idle(*node, i);
        if (!idle) {
            let_go(*node, held, 0, 0);
            co_return fail(idle.error());
        }
        chunk* const c = node->pages.find(i);
        if (c == nullptr) continue;
        c->busy = true;
        held.push_back(i);
    }
    co_return held;
}

/// The pages [first, end) among them are forgotten, written or not.
void fs_engine::let_go(fs_node& node, const std::vector<std::uint64_t>& held, std::uint64_t first,
                       std::uint64_t end) {
    for (const std::uint64_t i : held) {
        chunk* const c = node.pages.find(i);
        c->busy = false;
        c->idle.notify_all();
        if (first < end) node.pages.invalidate(*c, mask_of(i, first, end));
    }
}

/// What is cached past this length goes.
task<result<>> fs_engine::cut_cache(node_ptr node, std::uint64_t length) {
    for (const std::uint64_t index : node->pages.indexes_from(length / chunk_bytes)) {
        result<> idle = co_await wait_idle(*node, index);
        if (!idle) co_return idle;
        chunk* const c = node->pages.find(index);
        if (c == nullptr) continue;
        const std::uint64_t whole = divide_up(length, page_bytes);
        if (index * chunk_pages < whole && length % page_bytes != 0 &&
            index == (whole - 1) / chunk_pages)
            node->pages.fill_zeros(*c, length % chunk_bytes, page_bytes - length % page_bytes);
        if ((index + 1) * chunk_pages > whole)
            node->pages.invalidate(*c, mask_of(index, std::max(whole, index * chunk_pages),
                                               (index + 1) * chunk_pages));
    }
    co_return result<>();
}

// --- Reads --------------------------------------------------------------------------------------

task<result<std::size_t>> fs_engine::read(node_crossing of, std::uint64_t offset, byte_span into,
                                          bool direct) {
    const node_ptr node = std::move(of.node);
    result<> locked = co_await share_data(*node);
    if (!locked) co_return fail(locked.error());
    const shared_guard guard(node->data);
    const std::uint64_t length = node->length.load(std::memory_order_relaxed);
    if (offset >= length) co_return 0;
    const std::uint64_t end = std::min<std::uint64_t>(length, offset + into.bytes.size());
    const std::size_t n = end - offset;
    if (!direct) read_ahead(node, offset, n);
    for (std::uint64_t at = offset; at < end;) {
        std::span<std::byte> part = into.bytes.subspan(at - offset, end - at);
        const std::uint64_t whole = align_down(part.size(), page_bytes);
        const bool past = at % page_bytes == 0 && whole != 0 && !node->log &&
                          (direct || whole >= past_cache_bytes) &&
                          !node->pages.holds_any(at / page_bytes, (at + whole) / page_bytes);
        result<> done;
        if (past) {
            part = part.first(whole);
            const iov_view view(part);
            done = co_await node->channel.read(unit_of(at), view);
        } else {
            part = part.first(std::min<std::size_t>(part.size(), piece_bytes - at % page_bytes));
            done = co_await read_pages(node, at, part);
        }
        if (!done) co_return fail(done.error());
        at += part.size();
    }
    co_return n;
}

task<result<>> fs_engine::read_pages(node_ptr node, std::uint64_t offset,
                                     std::span<std::byte> into) {
    if (node->pages.copy_out(offset, into)) co_return result<>();
    const std::uint64_t first = offset / page_bytes;
    const std::uint64_t end = divide_up(offset + into.size(), page_bytes);
    result<> done = pin_chunks(*node, first, end);
    if (!done) co_return done;
    done = co_await load_pages(node, first, end);
    if (done) {
        const bool copied = node->pages.copy_out(offset, into);
        NACRE_ASSERT(copied);
    }
    unpin_chunks(*node, first, end);
    co_return done;
}

void fs_engine::read_ahead(const node_ptr& node, std::uint64_t offset, std::uint64_t bytes) {
    const bool goes_on = offset == node->read_next;
    node->read_streak = goes_on ? node->read_streak + bytes : 0;
    node->read_next = offset + bytes;
    if (!goes_on) node->ahead_until = node->read_next;
    if (node->read_streak < (std::uint64_t{32} << 10) || bytes >= past_cache_bytes) return;
    const std::uint64_t window = std::clamp<std::uint64_t>(
        node->read_streak, std::uint64_t{128} << 10, std::uint64_t{1} << 20);
    const std::uint64_t length = node->length.load(std::memory_order_relaxed);
    const std::uint64_t from = std::max(node->ahead_until, node->read_next);
    const std::uint64_t until = std::min(length, node->read_next + window);
    // In large steps, so that the device gets large requests.
    if (from + window / 2 > until) return;
    task<result<>> ahead = read_ahead_task(node, from / page_bytes, divide_up(until, page_bytes));
    if (!ahead.valid()) return;
    background_.spawn(std::move(ahead));
    node->ahead_until = until;
}

task<result<>> fs_engine::read_ahead_task(node_ptr node, std::uint64_t first, std::uint64_t end) {
    result<> pinned = co_await pin(node);
    if (!pinned) co_return result<>();
    result<> locked = co_await share_data(*node);
    if (locked) {
        end = std::min(end, divide_up(node->length.load(std::memory_order_relaxed), page_bytes));
        result<> held = fail(ERANGE);
        if (first < end) held = pin_chunks(*node, first, end);
        if (held) {
            result<> loaded = co_await load_pages(node, first, end);
            (void)loaded;  // whoever reads it finds out
            unpin_chunks(*node, first, end);
        }
        node->data.unlock_shared();
    }
    unpin(*node);
    co_return result<>();
}

task<result<>> fs_engine::prefetch(node_crossing of, std::uint64_t offset, std::uint64_t bytes) {
    const std::uint64_t n = std::min<std::uint64_t>(bytes, std::uint64_t{4} << 20);
    if (n == 0) co_return result<>();
    task<result<>> ahead =
        read_ahead_task(of.node, offset / page_bytes, divide_up(offset + n, page_bytes));
    if (ahead.valid()) background_.spawn(std::move(ahead));
    co_return result<>();
}

task<result<>> fs_engine::drop_cache(node_crossing of) {
    of.node->pages.drop_clean();
    co_return result<>();
}

// --- Writes -------------------------------------------------------------------------------------

task<result<>> fs_engine::write(node_crossing of, std::uint64_t offset, const_byte_span from,
                                write_how how) {
    const node_ptr node = std::move(of.node);
    result<> ok = check_writable();
    if (!ok) co_return ok;
    {
        ok = co_await own_data(*node);
        if (!ok) co_return ok;
        const unlock_guard guard(node->data);
        if (offset == UINT64_MAX) offset = node->length.load(std::memory_order_relaxed);
        ok = co_await write_locked(node, offset, from.bytes, how);
    }
    if (ok && cache.too_dirty()) ok = co_await relieve(node);
    co_return ok;
}

task<result<>> fs_engine::write_locked(node_ptr node, std::uint64_t offset,
                                       std::span<const std::byte> from, write_how how) {
    const std::uint64_t length = node->length.load(std::memory_order_relaxed);
    if (from.empty()) co_return result<>();
    if (offset > length_max - from.size()) co_return fail(EFBIG);
    const std::uint64_t end = offset + from.size();
    std::optional<node_change> changing;
    if (offset < length) changing.emplace(*node);
    result<> done = co_await grow(node, end);
    if (!done) co_return done;
    if (node->log) node->log->end = std::max(length, end);
    if (offset > length) done = co_await zero_locked(node, length, offset - length);
    const std::uint64_t first = align_up(offset, page_bytes);
    const std::uint64_t last = align_down(end, page_bytes);
    const bool past =
        last > first && !node->log &&
        (last - first >= past_cache_bytes || (how.direct && first == offset && last == end));
    if (past) {
        if (done) done = co_await write_pages(node, offset, from.first(first - offset));
        if (done)
            done = co_await write_through(node, first, from.subspan(first - offset, last - first));
        if (done) done = co_await write_pages(node, last, from.subspan(last - offset));
    } else if (done) {
        done = co_await write_pieces(node, offset, from);
    }
    if (!done) {
        take_back(*node, length);
        note_dirty(node);
        result<> cut = co_await cut_cache(node, length);
        (void)cut;
        co_return done;
    }
    if (end > length) node->length.store(end, std::memory_order_release);
    touch(*node, !how.keeps_mtime);
    note_dirty(node);
    co_return done;
}

task<result<>> fs_engine::write_pieces(node_ptr node, std::uint64_t offset,
                                       std::span<const std::byte> from) {
    result<> done;
    while (done && !from.empty()) {
        // It ends with a page: one that is written in part, behind the length, may be written back
        // and dropped before the next piece comes.
        const auto part =
            from.first(std::min<std::size_t>(from.size(), piece_bytes - offset % page_bytes));
        done = co_await write_pages(node, offset, part);
        offset += part.size();
        from = from.subspan(part.size());
        if (!done || !node->log || !cache.too_dirty()) continue;
        done = co_await node->metadata.lock();
        if (!done) break;
        const unlock_guard guard(node->metadata);
        done = co_await write_back(node);
    }
    co_return done;
}

/// Nothing of a write that failed is to be seen past the end.
void fs_engine::take_back(fs_node& node, std::uint64_t length) noexcept {
    if (!node.log || node.log->end <= length) return;
    node.log->end = length;
    node.log->written = std::min(node.log->written, length);
    node.log->renew = true;  // blocks of it may be on the disk
    node.unflushed = true;   // and are not to be found there, whatever comes
}

/// Into the cache.
task<result<>> fs_engine::write_pages(node_ptr node, std::uint64_t offset,
                                      std::span<const std::byte> from) {
    if (from.empty()) co_return result<>();
    const std::uint64_t end = offset + from.size();
    const std::uint64_t first = offset / page_bytes;
    const std::uint64_t last = (end - 1) / page_bytes;
    result<> done = pin_chunks(*node, first, last + 1);
    if (!done) co_return done;
    if (offset % page_bytes != 0 || (first == last && end % page_bytes != 0))
        done = co_await ready_page(node, first);
    if (done && end % page_bytes != 0 && last != first) done = co_await ready_page(node, last);
    for (std::uint64_t at = offset; done && at < end;) {
        const std::uint64_t index = at / chunk_bytes;
        const std::uint64_t next = std::min(end, (index + 1) * chunk_bytes);
        done = co_await wait_idle(*node, index);
        if (!done) break;
        chunk& c = *node->pages.find(index);
        const unsigned mask = mask_of(index, at / page_bytes, divide_up(next, page_bytes));
        node->pages.fill(c, at % chunk_bytes, from.subspan(at - offset, next - at));
        node->pages.mark_valid(c, mask);
        node->pages.mark_dirty(c, mask);
        at = next;
    }
    unpin_chunks(*node, first, last + 1);
    co_return done;
}

/// A page that is to be written in part is valid afterwards.
task<result<>> fs_engine::ready_page(node_ptr node, std::uint64_t page) {
    if (page * page_bytes < node->length.load(std::memory_order_relaxed)) {
        result<> loaded = co_await load_pages(node, page, page + 1);
        co_return loaded;
    }
    result<> idle = co_await wait_idle(*node, page / chunk_pages);
    if (!idle) co_return idle;
    chunk& c = *node->pages.find(page / chunk_pages);
    const unsigned bit = 1U << page % chunk_pages;
    if ((c.valid & bit) != 0) co_return result<>();
    node->pages.fill_zeros(c, page % chunk_pages * page_bytes, page_bytes);
    node->pages.mark_valid(c, bit);
    co_return result<>();
}

/// Whole pages, from the caller's memory. What is cached of them counts until they are written.
task<result<>> fs_engine::write_through(node_ptr node, std::uint64_t offset,
                                        std::span<const std::byte> from) {
    const std::uint64_t first = offset / page_bytes;
    const std::uint64_t end = first + from.size() / page_bytes;
    result<std::vector<std::uint64_t>> held = co_await hold(node, first, end);
    if (!held) co_return fail(held.error());
    const const_iov_view view(from);
    result<> done = co_await node->channel.write(unit_of(offset), view);
    node->unflushed = true;  // afterwards: a flush in between does not cover it
    let_go(*node, *held, first, done ? end : first);
    co_return done;
}

task<result<>> fs_engine::zero_locked(node_ptr node, std::uint64_t offset, std::uint64_t bytes) {
    const std::uint64_t end = offset + bytes;
    const std::uint64_t first = std::min(align_up(offset, page_bytes), end);
    const std::uint64_t last = std::max(align_down(end, page_bytes), first);
    const std::span<const std::byte> zero(zeros);
    result<> done;
    if (node->log) {
        for (std::uint64_t at = offset; done && at < end;) {
            const auto part = zero.first(std::min(end - at, page_bytes - at % page_bytes));
            done = co_await write_pieces(node, at, part);
            at += part.size();
        }
        co_return done;
    }
    done = co_await write_pages(node, offset, zero.first(first - offset));
    if (done && last > first) {
        result<std::vector<std::uint64_t>> held =
            co_await hold(node, first / page_bytes, last / page_bytes);
        if (!held) co_return fail(held.error());
        done = co_await node->channel.write_zeroes(unit_of(first),
                                                   block_count((last - first) / unit_bytes_));
        node->unflushed = true;
        let_go(*node, *held, first / page_bytes, (done ? last : first) / page_bytes);
    }
    if (done) done = co_await write_pages(node, last, zero.first(end - last));
    co_return done;
}

task<result<>> fs_engine::zero(node_crossing of, std::uint64_t offset, std::uint64_t bytes) {
    const node_ptr node = std::move(of.node);
    result<> ok = check_writable();
    if (!ok) co_return ok;
    ok = co_await own_data(*node);
    if (!ok) co_return ok;
    const unlock_guard guard(node->data);
    const std::uint64_t length = node->length.load(std::memory_order_relaxed);
    if (offset >= length) co_return ok;
    const node_change changing(*node);
    ok = co_await zero_locked(node, offset, std::min(bytes, length - offset));
    touch(*node, true);
    note_dirty(node);
    co_return ok;
}

task<result<>> fs_engine::truncate(node_crossing of, std::uint64_t length) {
    const node_ptr node = std::move(of.node);
    result<> ok = check_writable();
    if (!ok) co_return ok;
    if (length > length_max) co_return fail(EFBIG);
    ok = co_await own_data(*node);
    if (!ok) co_return ok;
    const unlock_guard guard(node->data);
    const std::uint64_t old = node->length.load(std::memory_order_relaxed);
    if (length < old) {
        cut_options how;
        how.length = length;
        ok = co_await shorten(node, how);
        co_return ok;
    }
    ok = co_await grow(node, length);
    if (node->log) node->log->end = length;
    if (ok && length > old) ok = co_await zero_locked(node, old, length - old);
    if (!ok) {
        take_back(*node, old);
        note_dirty(node);
        result<> cut = co_await cut_cache(node, old);
        (void)cut;
        co_return ok;
    }
    node->length.store(length, std::memory_order_release);
    touch(*node, true);
    note_dirty(node);
    sync_options how;
    how.attributes = true;
    ok = co_await sync_node(node, how);
    co_return ok;
}

/// First on the disk, so that a crash leaves all of the old end or nothing; then in memory.
task<result<>> fs_engine::shorten(node_ptr node, cut_options how) {
    const std::uint64_t length = how.length;
    result<> locked = co_await node->metadata.lock();
    if (!locked) co_return locked;
    const unlock_guard guard(node->metadata);
    const node_change changing(*node);
    // What is cut off need not be written, and has no place to go soon.
    node->pages_kept = divide_up(length, page_bytes);
    result<> done = co_await write_back(node);
    if (done) {
        blob_changes changes;
        changes.set.push_back(
            {std::string(fs_format::key_length), fs_format::encode_number(length)});
        const bool as_log = how.log.value_or(node->log.has_value());
        const std::optional<fs_log> before = node->log;
        if (as_log) {
            node->log.emplace();
            node->log->nonce = fresh_nonce();
            node->log->committed = node->log->end = length;
            node->log->written = before ? std::min(before->written, length) : 0;
            changes.set.push_back(
                {std::string(fs_format::key_log), fs_format::encode_number(node->log->nonce)});
        } else if (before) {
            node->log.reset();
            changes.removed.emplace_back(fs_format::key_log);
        }
        const std::uint64_t needed = clusters_for(*node, length);
        if (needed < node->clusters && !how.keep_space) changes.clusters = needed;
        touch(*node, true);
        const bool unflushed = std::exchange(node->unflushed, false);
        done = co_await commit(node, std::move(changes));
        if (!done) {
            node->unflushed = node->unflushed || unflushed;
            node->log = before;
            if (node->log) node->log->renew = true;
        }
    }
    if (done) {
        node->durable_length = length;
        node->length.store(length, std::memory_order_release);
        while (true) {
            result<> cut = co_await cut_cache(node, length);
            if (cut) break;
            co_await yield();  // it must not be seen again
        }
    }
    node->pages_kept = UINT64_MAX;
    node->plain.store(!node->log, std::memory_order_relaxed);
    note_dirty(node);
    co_return done;
}

/// As an open with `truncate` asks for it.
task<result<>> fs_engine::empty(node_ptr node, file_open_options how) {
    result<> locked = co_await own_data(*node);
    if (!locked) co_return locked;
    const unlock_guard guard(node->data);
    const bool as_log = how.log && !compatible_;
    if (node->length.load(std::memory_order_relaxed) == 0 && node->log.has_value() == as_log &&
        (how.keep_space || node->clusters == clusters_for(*node, 0)))
        co_return locked;
    cut_options cut;
    cut.log = as_log;
    cut.keep_space = how.keep_space;
    result<> done = co_await shorten(node, cut);
    co_return done;
}

task<result<>> fs_engine::allocate(node_crossing of, std::uint64_t length) {
    const node_ptr node = std::move(of.node);
    result<> ok = check_writable();
    if (!ok) co_return ok;
    if (length > length_max) co_return fail(EFBIG);
    ok = co_await own_data(*node);
    if (!ok) co_return ok;
    const unlock_guard guard(node->data);
    ok = co_await grow(node, length);
    if (ok) note_dirty(node);  // given back, if nothing comes of it
    co_return ok;
}

task<result<>> fs_engine::append_and_sync(node_crossing of, const_byte_span from) {
    node_crossing again = of;
    const write_how through_cache;
    result<> done = co_await write(std::move(of), UINT64_MAX, from, through_cache);
    if (done) done = co_await sync(std::move(again));
    co_return done;
}

}  // namespace nacre::detail
