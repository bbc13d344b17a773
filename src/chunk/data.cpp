// SPDX-License-Identifier: BSD-3-Clause
//
// Reads and writes. Every page that comes from the device is verified before any byte of it goes to
// the caller or into another page. New data go to free pages, old ones are freed by the commit.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "mapped.hpp"
#include "nacre/core/assert.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/crc32c.hpp"

namespace nacre::chunks {
namespace {

constexpr std::uint64_t batch_bytes = batch_pages * page_bytes;
constexpr std::size_t buffers_kept = 16;

unsigned lane_of_this_thread() noexcept {
    static constinit std::atomic<unsigned> next = 0;
    static thread_local const unsigned lane =
        next.fetch_add(1, std::memory_order_relaxed) % space::lane_count;
    return lane;
}

}  // namespace

outcome<dma_buffer> engine::take_buffer() {
    {
        const std::lock_guard guard(buffers_mutex_);
        if (!buffers_.empty()) {
            dma_buffer last = std::move(buffers_.back());
            buffers_.pop_back();
            return last;
        }
    }
    result<dma_buffer> made = dma_buffer::allocate(byte_count(batch_bytes));
    if (!made) return fail(failure(made.error(), "no memory for a buffer of 1 MiB"));
    return std::move(*made);
}

void engine::return_buffer(dma_buffer buffer) noexcept {
    const std::lock_guard guard(buffers_mutex_);
    if (buffers_.size() < buffers_kept) buffers_.push_back(std::move(buffer));
}

outcome<engine::mapped> engine::map_pages(const std::string& name, std::uint64_t id,
                                          std::uint64_t first, std::uint64_t end) {
    mapped m;
    m.first_run = first / run_pages;
    for (std::uint64_t run = m.first_run; run * run_pages < end; ++run) {
        outcome<page_run> pages = map_run(name, id, run);
        if (!pages) return fail(std::move(pages.error()));
        m.runs.push_back(*pages);
    }
    return m;
}

// --- Reads --------------------------------------------------------------------------------------

outcome<std::size_t> engine::read(const std::string& name, std::uint64_t offset,
                                  std::span<std::byte> into) {
    if (outcome<> may = may_call(false); !may) return fail(std::move(may.error()));
    const std::shared_lock guard(lock_of(name));
    const outcome<object_record> o = object(name);
    if (!o) return fail(o.error());
    if (offset >= o->size) return 0;
    into = into.first(std::min<std::uint64_t>(into.size(), o->size - offset));
    for (std::size_t at = 0; at < into.size();) {
        const std::uint64_t batch_end = align_down(offset + at, batch_bytes) + batch_bytes;
        const std::size_t n = std::min<std::uint64_t>(into.size() - at, batch_end - offset - at);
        outcome<> done = read_batch(name, o->id, offset + at, into.subspan(at, n));
        if (!done) return fail(std::move(done.error()));
        at += n;
    }
    return into.size();
}

outcome<> engine::read_batch(const std::string& name, std::uint64_t id, std::uint64_t offset,
                             std::span<std::byte> into) {
    const std::uint64_t first = offset / page_bytes;
    const std::uint64_t end = divide_up(offset + into.size(), page_bytes);
    outcome<mapped> m = map_pages(name, id, first, end);
    if (!m) return fail(std::move(m.error()));
    outcome<dma_buffer> buffer = take_buffer();
    if (!buffer) return fail(std::move(buffer.error()));
    const std::span<std::byte> pages =
        buffer->writable_unchecked().first((end - first) * page_bytes);
    outcome<> done = read_mapped(name, *m, first, pages);
    if (done) std::memcpy(into.data(), pages.data() + offset % page_bytes, into.size());
    return_buffer(std::move(*buffer));
    return done;
}

/// What the map has of the pages from `first` on, into `into`, and zeros for the others.
outcome<> engine::read_mapped(const std::string& name, mapped& m, std::uint64_t first,
                              std::span<std::byte> into) {
    const std::uint64_t end = first + into.size() / page_bytes;
    for (std::uint64_t p = first; p < end;) {
        const std::span<std::byte> rest = into.subspan((p - first) * page_bytes);
        if (!m.page(p)) {
            std::memset(rest.data(), 0, page_bytes);
            ++p;
            continue;
        }
        const std::uint64_t place = m.page(p)->place;
        const std::uint64_t segment_end =
            align_down(place, space_->segment_pages()) + space_->segment_pages();
        std::uint64_t n = 1;
        while (p + n < end && place + n < segment_end && m.page(p + n) &&
               m.page(p + n)->place == place + n)
            ++n;
        outcome<> done = read_extent(name, m, p, rest.first(n * page_bytes));
        if (!done) return done;
        p += n;
    }
    return {};
}

/// Pages that lie one behind the other; verified.
outcome<> engine::read_extent(const std::string& name, mapped& m, std::uint64_t first,
                              std::span<std::byte> into) {
    const std::uint64_t place = m.page(first)->place;
    const std::shared_ptr<blocking_file> file = file_of(place);
    const std::uint64_t at = place % space_->segment_pages() * page_bytes;
    result<std::size_t> n = fail(ENOENT);
    if (file != nullptr) n = file->read(at, into);
    if (n && *n != into.size()) n = fail(EIO);
    if (!n)
        return fail(failure(
            n.error(),
            fmt::format("object {}: page {}, at {} of {}, cannot be read: {}", name, first, at,
                        segment_path(place / space_->segment_pages()), describe(n.error()))));
    outcome<> done;
    for (std::uint64_t i = 0; i * page_bytes < into.size(); ++i) {
        const auto page = into.subspan(i * page_bytes, page_bytes);
        const bool is_right = crc32c(page) == m.page(first + i)->crc;
        note_page(name, first + i, is_right);
        if (!is_right && done)
            done = fail(EILSEQ,
                        fmt::format("object {}: page {}, at {} of {}, has a wrong checksum; write "
                                    "the whole page (bytes {} to {}) again, or remove the object",
                                    name, first + i, at + i * page_bytes,
                                    segment_path(place / space_->segment_pages()),
                                    (first + i) * page_bytes, (first + i + 1) * page_bytes - 1));
    }
    return done;
}

// --- Writes -------------------------------------------------------------------------------------

outcome<> engine::write(const std::string& name, std::uint64_t offset,
                        std::span<const std::byte> from) {
    if (outcome<> may = may_call(true); !may) return may;
    const std::lock_guard guard(lock_of(name));
    outcome<object_record> o = object(name);
    if (!o) return fail(std::move(o.error()));
    if (offset > size_max || from.size() > size_max - offset)
        return fail(EFBIG, fmt::format("object {}: {} bytes at {} go beyond the {} that fit", name,
                                       from.size(), offset, size_max));
    if (from.empty()) return {};
    change c;
    for (std::size_t at = 0; at < from.size();) {
        const std::uint64_t batch_end = align_down(offset + at, batch_bytes) + batch_bytes;
        const std::size_t n = std::min<std::uint64_t>(from.size() - at, batch_end - offset - at);
        if (outcome<> done = write_batch(name, *o, offset + at, from.subspan(at, n), c); !done) {
            undo(c);
            return done;
        }
        at += n;
    }
    const std::uint64_t end = offset + from.size();
    if (end > o->size) {
        c.bytes = static_cast<std::int64_t>(end - o->size);
        o->size = end;
    }
    outcome<> done = finish(name, *o, c);
    if (done) forget_damage(name, offset / page_bytes, divide_up(end, page_bytes));
    return done;
}

/// What lies behind `size` in its last page becomes zeros.
outcome<> engine::clear_tail(const std::string& name, object_record& o, std::uint64_t size,
                             change& c) {
    const std::uint64_t page = size / page_bytes;
    const outcome<page_run> run = map_run(name, o.id, page / run_pages);
    if (!run) return fail(run.error());
    if (size % page_bytes == 0 || !(*run)[page % run_pages]) return {};
    static constexpr std::array<std::byte, page_bytes> zeros{};
    return write_batch(name, o, size, std::span(zeros).first(page_bytes - size % page_bytes), c);
}

outcome<> engine::write_batch(const std::string& name, object_record& o, std::uint64_t offset,
                              std::span<const std::byte> from, change& c) {
    const std::uint64_t first = offset / page_bytes;
    const std::uint64_t end = divide_up(offset + from.size(), page_bytes);
    outcome<mapped> m = map_changed(name, o.id, first, end, c);
    if (!m) return fail(std::move(m.error()));
    outcome<dma_buffer> buffer = take_buffer();
    if (!buffer) return fail(std::move(buffer.error()));
    const std::span<std::byte> pages =
        buffer->writable_unchecked().first((end - first) * page_bytes);
    outcome<> done = fill_pages(name, *m, offset, from, pages);
    std::vector<page_record> written;
    if (done) done = write_pages(pages, c, written);
    return_buffer(std::move(*buffer));
    if (!done) return done;
    for (std::uint64_t p = first; p < end; ++p) {
        std::optional<page_record>& record = m->page(p);
        if (record)
            append(c.freed, record->place);
        else
            ++o.pages;
        record = written[p - first];
    }
    for (std::size_t i = 0; i < m->runs.size(); ++i)
        c.records[map_key(o.id, m->first_run + i)] = encode(m->runs[i]);
    return done;
}

/// As the change has them already, or else the database.
outcome<engine::mapped> engine::map_changed(const std::string& name, std::uint64_t id,
                                            std::uint64_t first, std::uint64_t end,
                                            const change& c) {
    outcome<mapped> m = map_pages(name, id, first, end);
    if (!m) return m;
    for (std::size_t i = 0; i < m->runs.size(); ++i) {
        const auto changed = c.records.find(map_key(id, m->first_run + i));
        if (changed == c.records.end()) continue;
        m->runs[i] = page_run();
        if (!changed->second) continue;
        const outcome<page_run> run = decode_run(*changed->second);
        NACRE_ASSERT(run.has_value());
        m->runs[i] = *run;
    }
    return m;
}

/// New pages: what is written, and of those that are written in part what they had.
outcome<> engine::fill_pages(const std::string& name, mapped& m, std::uint64_t offset,
                             std::span<const std::byte> from, std::span<std::byte> into) {
    const std::uint64_t first = offset / page_bytes;
    const std::uint64_t end = first + into.size() / page_bytes;
    const std::uint64_t last_byte = offset + from.size();
    const auto keep = [&](std::uint64_t p) {
        return read_mapped(name, m, p, into.subspan((p - first) * page_bytes, page_bytes));
    };
    const bool first_is_partial = offset % page_bytes != 0;
    if (first_is_partial)
        if (outcome<> done = keep(first); !done) return done;
    if (last_byte % page_bytes != 0 && (end - 1 != first || !first_is_partial))
        if (outcome<> done = keep(end - 1); !done) return done;
    std::memcpy(into.data() + offset % page_bytes, from.data(), from.size());
    return {};
}

outcome<> engine::write_pages(std::span<const std::byte> data, change& c,
                              std::vector<page_record>& pages) {
    while (!data.empty()) {
        const outcome<extent> e = allocate(lane_of_this_thread(), data.size() / page_bytes);
        if (!e) return fail(e.error());
        c.taken.push_back(*e);
        const std::shared_ptr<blocking_file> file = file_of(e->place);
        const std::uint64_t segment = e->place / space_->segment_pages();
        const std::uint64_t at = e->place % space_->segment_pages() * page_bytes;
        const auto part = data.first(e->pages * page_bytes);
        if (const result<> done = file->write(at, part); !done)
            return fail(failure(
                done.error(),
                fmt::format("{}: writing {} bytes at {}: {}; nothing was changed",
                            segment_path(segment), part.size(), at, describe(done.error()))));
        c.written = file;
        for (std::uint64_t i = 0; i < e->pages; ++i)
            pages.push_back({e->place + i, crc32c(part.subspan(i * page_bytes, page_bytes))});
        data = data.subspan(part.size());
    }
    return {};
}

}  // namespace nacre::chunks
