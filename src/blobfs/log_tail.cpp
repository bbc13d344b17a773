// SPDX-License-Identifier: BSD-3-Clause
#include "log_tail.hpp"

#include <algorithm>
#include <cstring>

#include "engine.hpp"
#include "log_layout.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/runtime/sleep.hpp"

namespace nacre::detail {

using namespace fs_format;

std::uint64_t log_tail::memory_bytes() noexcept {
    // The last block, and what behind it takes the rest.
    return (1 + divide_up(append_max, log_payload)) * log_block_bytes;
}

void log_tail::lend(state now, dma_buffer memory, bdev_writer writer) {
    {
        const std::lock_guard guard(lock_);
        state_ = now;
        memory_ = std::move(memory);
        writer_ = std::move(writer);
        open_ = true;
    }
    appended_ns_.store(0, std::memory_order_relaxed);
    lent_ = true;
    wanted_.store(false, std::memory_order_release);
}

/// Under the lock.
log_tail::state log_tail::close() {
    open_ = false;
    lent_ = false;
    memory_ = {};
    writer_ = {};
    state_.appended_ns = appended_ns();
    return state_;
}

std::optional<log_tail::state> log_tail::try_take_back() {
    wanted_.store(true, std::memory_order_relaxed);
    const std::unique_lock guard(lock_, std::try_to_lock);
    if (!guard.owns_lock()) return std::nullopt;
    return close();
}

log_tail::state log_tail::take_back() {
    wanted_.store(true, std::memory_order_relaxed);
    const std::lock_guard guard(lock_);
    return close();
}

bool log_tail::append(fs_node& node, std::span<const std::byte> data) {
    if (data.empty() || data.size() > append_max || wanted_.load(std::memory_order_acquire))
        return false;
    const std::unique_lock guard(lock_, std::try_to_lock);
    if (!guard.owns_lock() || !open_) return false;
    const std::uint64_t end = state_.length + data.size();
    if (end > state_.capacity) return false;
    const std::span<std::byte> memory = memory_.writable_unchecked();
    const std::uint64_t first = state_.length / log_payload;
    const std::uint64_t blocks = divide_up(end, log_payload) - first;
    std::uint64_t at = state_.length;
    for (std::uint64_t i = 0; i < blocks; ++i) {
        const std::span<std::byte> block = memory.subspan(i * log_block_bytes, log_block_bytes);
        const std::uint64_t base = (first + i) * log_payload;
        const std::uint64_t until = std::min(end, base + log_payload);
        std::memcpy(block.data() + log_header_bytes + (at - base),
                    data.data() + (at - state_.length), until - at);
        seal_log_block(block, first + i, until - base, state_.nonce);
        at = until;
    }
    const result<> done = writer_.write(node.engine.unit_of(first * log_block_bytes),
                                        memory.first(blocks * log_block_bytes));
    if (!done) {
        open_ = false;
        state_.refused = true;
        state_.spoiled = !done.error().is(EAGAIN);
        return false;
    }
    const std::uint64_t last = end / log_payload - first;  // where the next byte goes
    if (last != 0 && last < blocks)
        std::memcpy(memory.data(), memory.data() + last * log_block_bytes, log_block_bytes);
    state_.length = end;
    appended_ns_.store(node.engine.now_ns(), std::memory_order_relaxed);
    node.length.store(end, std::memory_order_release);
    return true;
}

// --- Home thread --------------------------------------------------------------------------------

void fs_engine::join_tail(fs_node& node, const log_tail::state& tail) noexcept {
    node.log->end = node.log->written = node.durable_length = tail.length;
    if (tail.spoiled) node.log->renew = node.unflushed = true;
    // Nor where others want the file all the time.
    if (tail.refused || tail.appended_ns == 0) node.tail_rests = tail_rests_max;
    if (tail.appended_ns == 0) return;
    node.attributes.ctime_ns = node.attributes.mtime_ns = tail.appended_ns;
    node.attributes_changed = true;
}

/// Whoever wants anything of a log's data.
task<result<>> fs_engine::end_tail(fs_node& node) {
    constexpr std::uint64_t look_again_ns = 20'000;
    while (node.tail.is_lent()) {
        if (const auto tail = node.tail.try_take_back()) {
            join_tail(node, *tail);
            break;
        }
        result<> slept = co_await sleep_for(look_again_ns);
        if (!slept) co_await yield();  // asked to stop, but it cannot be left
    }
    co_return result<>();
}

task<result<>> fs_engine::append_and_sync_outside(node_crossing of, const_byte_span from) {
    const node_ptr node = of.node;
    result<> done = co_await append_and_sync(std::move(of), from);
    if (!done || !node->log) co_return done;
    result<> lent = co_await lend_tail(node);
    (void)lent;  // the next one comes here again
    co_return done;
}

/// If there is nothing dirty.
task<result<>> fs_engine::lend_tail(node_ptr node) {
    // Who refuses once does so for a while.
    if (node->tail_rests != 0) {
        --node->tail_rests;
        co_return result<>();
    }
    result<> done = co_await node->data.lock();
    if (!done) co_return done;
    const unlock_guard data(node->data);
    done = co_await node->metadata.lock();
    if (!done) co_return done;
    const unlock_guard metadata(node->metadata);
    const std::uint64_t length = node->length.load(std::memory_order_relaxed);
    if (!node->log || node->log->renew || node->log->mixed || node->tail.is_lent() ||
        node->unflushed || !node->pages.dirty().empty() || node->log->written != length ||
        node->durable_length != length)
        co_return done;
    node->tail_rests = tail_rests_max;
    bdev_writer writer = node->file.open_writer();
    if (!writer.is_open()) co_return done;
    result<dma_buffer> memory =
        dma_buffer::allocate(byte_count(log_tail::memory_bytes()), {.alignment = log_block_bytes});
    if (!memory) co_return fail(memory.error());
    const std::uint64_t block = length / log_payload;
    const auto last =
        memory->writable_unchecked().subspan(log_header_bytes, length - block * log_payload);
    done = co_await fetch_log(node, block, block * log_payload, last);
    if (!done) co_return done;
    const std::uint64_t page = length / page_bytes;
    result<std::vector<std::uint64_t>> held = co_await hold(node, page, page + 1);
    if (!held) co_return fail(held.error());
    let_go(*node, *held, page, page + 1);
    log_tail::state now;
    now.length = length;
    now.capacity = log_capacity(node->clusters * cluster_bytes_);
    now.nonce = node->log->nonce;
    node->tail.lend(now, std::move(*memory), std::move(writer));
    node->tail_rests = 0;
    co_return done;
}

}  // namespace nacre::detail
