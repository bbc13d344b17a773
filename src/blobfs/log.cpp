// SPDX-License-Identifier: BSD-3-Clause
//
// Files that are kept as logs (log_layout.hpp). The cache has their bytes as any file's; here they
// get their blocks when they are written, and lose them when they are read. A block's neighbours
// share its bytes, so one coroutine at a time writes blocks of a file: whoever has its `metadata`.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "engine.hpp"
#include "log_layout.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/log.hpp"
#include "nacre/runtime/runtime.hpp"
#include "nacre/runtime/sleep.hpp"

namespace nacre::detail {

using namespace fs_format;

namespace {

/// The blocks of one write or read; a buffer's worth.
constexpr std::uint64_t blocks_max = buffer_pool::bytes_max / log_block_bytes;
/// Pages whose bytes surely fit in them.
constexpr std::uint64_t pages_max = blocks_max - 4;
/// Of a block that is not whole: somebody may be writing it.
constexpr unsigned read_attempts = 3;

/// Where in a buffer of blocks from `first` on the file's byte `at` is.
constexpr std::uint64_t place_of(std::uint64_t at, std::uint64_t first) noexcept {
    return (at / log_payload - first) * log_block_bytes + log_header_bytes + at % log_payload;
}

bool is_valid(file_pages& pages, std::uint64_t page) noexcept {
    const chunk* const c = pages.find(page / chunk_pages);
    return c != nullptr && (c->valid & (1U << page % chunk_pages)) != 0;
}

}  // namespace

std::uint64_t fs_engine::fresh_nonce() const {
    std::array<std::byte, 8> raw{};
    registry_.host().home_world().fill_random(raw);
    return load_le<std::uint64_t>(raw.data());
}

/// The block's data, of which `bytes` are needed. EILSEQ.
static result<std::span<const std::byte>> check_log_block(std::span<const std::byte> block,
                                                          std::uint64_t index,
                                                          std::uint64_t bytes) {
    const std::optional<log_block> opened = open_log_block(block, index);
    if (!opened || opened->data.size() < bytes) return fail(EILSEQ);
    return opened->data;
}

static result<> damaged(const fs_node& node, std::uint64_t index) {
    log::warning(
        "blobfs",
        fmt::format("{} (blob {}): block {} of this log is damaged: its checksum, number "
                    "or size is wrong",
                    node.names.empty() ? std::string("a removed file") : node.names.front().name,
                    to_string(static_cast<blob_id>(node.id)), index));
    return fail(EILSEQ);
}

// --- Reads --------------------------------------------------------------------------------------

/// The bytes [from, to) of the file out of its `blocks`, the first of which is `first`, into pages
/// that are busy. Index of the block that is damaged, or none.
std::optional<std::uint64_t> fs_engine::fill_from_log(fs_node& node, std::uint64_t first,
                                                      std::span<const std::byte> blocks,
                                                      std::uint64_t from, std::uint64_t to) {
    for (std::uint64_t at = from; at < to;) {
        const std::uint64_t block = at / log_payload;
        const std::uint64_t base = block * log_payload;
        const std::uint64_t until = std::min(to, base + log_payload);
        const auto data =
            check_log_block(blocks.subspan((block - first) * log_block_bytes, log_block_bytes),
                            block, until - base);
        if (!data) return block;
        while (at < until) {
            const std::uint64_t n = std::min(until, align_down(at, chunk_bytes) + chunk_bytes) - at;
            node.pages.fill(*node.pages.find(at / chunk_bytes), at % chunk_bytes,
                            data->subspan(at - base, n));
            at += n;
        }
    }
    return std::nullopt;
}

/// Into pages [first, end), which are busy, as far as the file goes.
task<result<>> fs_engine::load_log_run(node_ptr node, std::uint64_t first, std::uint64_t end) {
    const std::uint64_t to =
        std::min(end * page_bytes, node->length.load(std::memory_order_relaxed));
    unsigned attempts = 0;
    for (std::uint64_t at = first * page_bytes; at < to;) {
        const std::uint64_t block = at / log_payload;
        const std::uint64_t blocks = std::min(divide_up(to, log_payload) - block, blocks_max);
        const std::uint64_t until = std::min(to, (block + blocks) * log_payload);
        result<pooled_buffer> buffer = co_await log_buffers_.acquire(blocks * log_block_bytes);
        if (!buffer) co_return fail(buffer.error());
        const iov_view view = buffer->view();
        result<> done = co_await node->channel.read(unit_of(block * log_block_bytes), view);
        if (!done) co_return done;
        const std::optional<std::uint64_t> bad =
            fill_from_log(*node, block, buffer->bytes(), at, until);
        if (!bad) {
            at = until;
            continue;
        }
        // A block at the edge may be being written, for the sake of pages beside these.
        if (++attempts == read_attempts) co_return damaged(*node, *bad);
        co_await yield();
    }
    co_return result<>();
}

task<result<>> fs_engine::fetch_log(node_ptr node, std::uint64_t index, std::uint64_t from,
                                    std::span<std::byte> into) {
    if (into.empty()) co_return result<>();
    if (is_valid(node->pages, from / page_bytes) &&
        is_valid(node->pages, (from + into.size() - 1) / page_bytes)) {
        const bool copied = node->pages.copy_out(from, into);
        if (copied) co_return result<>();
    }
    // Not from the pool: whoever comes here has a buffer of it, and would wait for its like.
    result<dma_buffer> block =
        dma_buffer::allocate(byte_count(log_block_bytes), {.alignment = log_block_bytes});
    if (!block) co_return fail(block.error());
    const iov_view view(block->writable_unchecked());
    result<> done = co_await node->channel.read(unit_of(index * log_block_bytes), view);
    if (!done) co_return done;
    const std::uint64_t begin = from - index * log_payload;
    const auto data = check_log_block(block->bytes(), index, begin + into.size());
    if (!data) co_return damaged(*node, index);
    std::memcpy(into.data(), data->data() + begin, into.size());
    co_return result<>();
}

// --- Writes -------------------------------------------------------------------------------------

/// One write of neighbouring dirty pages; their chunks are busy already.
task<result<>> fs_engine::write_log_run(node_ptr node, std::uint64_t first, std::uint64_t end) {
    const std::uint64_t from = first * page_bytes;
    const std::uint64_t to = std::min(end * page_bytes, node->log->end);
    const std::uint64_t block = from / log_payload;
    const std::uint64_t blocks = divide_up(to, log_payload) - block;
    // The first block begins in the page before, the last one goes on in the page behind, if that
    // is there yet.
    std::uint64_t tail = std::min((block + blocks) * log_payload, node->log->end);
    if (tail > to && !is_valid(node->pages, to / page_bytes))
        tail = std::clamp(node->log->written, to, tail);
    result<pooled_buffer> buffer = co_await log_buffers_.acquire(blocks * log_block_bytes);
    result<> done;
    if (!buffer) done = fail(buffer.error());
    if (done) {
        const std::uint64_t begin = block * log_payload;
        const auto head = buffer->bytes().subspan(log_header_bytes, from - begin);
        done = co_await fetch_log(node, block, begin, head);
    }
    if (done && tail > to) {
        const auto rest = buffer->bytes().subspan(place_of(to, block), tail - to);
        done = co_await fetch_log(node, block + blocks - 1, to, rest);
    }
    if (done) {
        for (std::uint64_t at = from; at < to;) {
            const std::uint64_t n = std::min({to, align_down(at, chunk_bytes) + chunk_bytes,
                                              (at / log_payload + 1) * log_payload}) -
                                    at;
            std::memcpy(buffer->data() + place_of(at, block),
                        node->pages.find(at / chunk_bytes)->page(0) + at % chunk_bytes, n);
            at += n;
        }
        for (std::uint64_t i = 0; i < blocks; ++i)
            seal_log_block(buffer->bytes().subspan(i * log_block_bytes, log_block_bytes), block + i,
                           std::min(tail - (block + i) * log_payload, log_payload),
                           node->log->nonce);
        const const_iov_view view(buffer->bytes());
        done = co_await node->channel.write(unit_of(block * log_block_bytes), view);
        node->unflushed = true;
    }
    if (done) {
        node->log->written = std::max(node->log->written, std::min(tail, node->log->end));
        for (std::uint64_t p = first; p < end; ++p)
            node->pages.mark_clean(*node->pages.find(p / chunk_pages), 1U << p % chunk_pages);
    }
    set_busy(*node, first, end, false);
    co_return done;
}

/// Once through the file, from its beginning to where it ends now.
task<result<>> fs_engine::write_back_log(node_ptr node) {
    const bool anything = !node->pages.dirty().empty();
    if (!anything && !(node->log->renew && node->unflushed)) co_return result<>();
    result<> done = co_await pin(node);
    if (!done) co_return done;
    done = co_await renew_log(node);
    std::uint64_t next = 0;
    while (done) {
        const auto at = node->pages.dirty().lower_bound(next / chunk_pages);
        if (at == node->pages.dirty().end()) break;
        const std::uint64_t base = *at * chunk_pages;
        chunk* const c = node->pages.find(*at);
        const std::uint64_t skipped = next > base ? next - base : 0;
        const unsigned left = c->dirty >> skipped << skipped;
        if (left == 0) {
            next = base + chunk_pages;
            continue;
        }
        const std::uint64_t first = base + static_cast<unsigned>(std::countr_zero(left));
        // An append that fails beside this takes its end back.
        const std::uint64_t limit =
            std::min(node->pages_kept, divide_up(node->log->end, page_bytes));
        if (first >= limit) break;
        if (c->busy) {
            done = co_await wait_idle(*node, base / chunk_pages);
            continue;
        }
        std::uint64_t end = first;
        for (; end - first < pages_max && end < limit; ++end) {
            const chunk* const one = node->pages.find(end / chunk_pages);
            if (one == nullptr || one->busy || (one->dirty & (1U << end % chunk_pages)) == 0) break;
        }
        task<result<>> run = write_log_run(node, first, end);
        if (!run.valid()) {
            done = fail(ENOMEM);
            break;
        }
        set_busy(*node, first, end, true);
        done = co_await std::move(run);
        next = end;
    }
    unpin(*node);
    co_return done;
}

/// What has been written so far counts by `length`, what follows by another nonce.
task<result<>> fs_engine::renew_log(node_ptr node) {
    if (!node->log->renew) co_return result<>();
    std::uint64_t whole = node->length.load(std::memory_order_relaxed);
    if (!node->pages.dirty().empty()) {
        const std::uint64_t chunk_index = *node->pages.dirty().begin();
        const unsigned dirty = node->pages.find(chunk_index)->dirty;
        const std::uint64_t page =
            chunk_index * chunk_pages + static_cast<unsigned>(std::countr_zero(dirty));
        whole = std::min(whole, page * page_bytes);
    }
    whole = std::max(whole, node->durable_length);
    const std::uint64_t nonce = fresh_nonce();
    blob_changes changes;
    changes.set.push_back({std::string(key_length), encode_number(whole)});
    changes.set.push_back({std::string(key_log), encode_number(nonce)});
    const bool unflushed = std::exchange(node->unflushed, false);
    result<> done = co_await commit(node, std::move(changes));
    if (!done) {
        node->unflushed = node->unflushed || unflushed;
        co_return done;
    }
    node->log->nonce = nonce;
    node->log->committed = node->durable_length = whole;
    node->log->renew = false;
    // Pages behind one that is dirty may be written already, by the old nonce.
    node->log->mixed = whole < node->log->written;
    co_return done;
}

// --- Load ---------------------------------------------------------------------------------------

/// How long it is: `length`, and what the blocks behind it say.
task<result<>> fs_engine::recover_log(node_ptr node) {
    fs_log& log = *node->log;
    log.renew = true;
    std::uint64_t length = log.committed;
    const std::uint64_t blocks_there = node->clusters * cluster_bytes_ / log_block_bytes;
    result<> done;
    if (!node->removed) done = co_await pin(node);
    if (!done) co_return done;
    std::uint64_t block = length / log_payload;
    std::uint64_t blocks = 1;  // mostly there is nothing more
    std::uint64_t steps = 4;
    for (bool goes_on = !node->removed; goes_on && block < blocks_there;) {
        blocks = std::min(blocks, blocks_there - block);
        result<pooled_buffer> buffer = co_await log_buffers_.acquire(blocks * log_block_bytes);
        if (!buffer) {
            done = fail(buffer.error());
            break;
        }
        const iov_view view = buffer->view();
        done = co_await node->channel.read(unit_of(block * log_block_bytes), view);
        if (!done && blocks != 1) {  // of those behind the end none matters
            blocks = 1;
            steps = 1;
            continue;
        }
        if (!done) break;
        for (std::uint64_t i = 0; i < blocks && goes_on; ++i) {
            const std::optional<log_block> opened = open_log_block(
                buffer->bytes().subspan(i * log_block_bytes, log_block_bytes), block + i);
            const std::uint64_t end =
                (block + i) * log_payload + (opened ? opened->data.size() : 0);
            goes_on = opened && opened->nonce == log.nonce && end >= length;
            if (!goes_on) break;
            length = end;
            goes_on = opened->data.size() == log_payload;
        }
        block += blocks;
        blocks = std::min(blocks * steps, blocks_max);
    }
    if (!node->removed) unpin(*node);
    node->length.store(length, std::memory_order_relaxed);
    node->durable_length = log.written = log.end = length;
    co_return done;
}

}  // namespace nacre::detail
