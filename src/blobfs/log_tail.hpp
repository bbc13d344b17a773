// SPDX-License-Identifier: BSD-3-Clause
//
// The end of a log, lent to the foreign OS threads that append to it and sync.
//
// A synced append by way of the home thread costs two wake-ups, of a reactor and of the caller,
// which is more than the write itself. So after one, the home thread lends the end of the log: its
// last block, its nonce, and where its space ends. From then on a foreign thread puts the data into
// blocks itself, and writes them durably past every reactor (bdev_writer), until somebody else
// wants anything of the file: the home thread takes the end back, with what was appended, before it
// reads, writes or syncs it. While it is lent the log has nothing dirty and nothing unflushed, and
// its last page is not cached.
//
// Whatever does not fit, or is not to be written in this way now, goes by way of the home thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>

#include "nacre/bdev/bdev_reader.hpp"
#include "nacre/memory/dma_buffer.hpp"

namespace nacre::detail {

struct fs_node;

class log_tail {
public:
    /// What has become of it.
    struct state {
        std::uint64_t length = 0;    ///< of the log
        std::uint64_t capacity = 0;  ///< so far there is space
        std::uint64_t nonce = 0;
        std::int64_t appended_ns = 0;  ///< wall clock, of the last append; 0: there was none
        bool refused = false;          ///< a write went wrong, or is not allowed now
        bool spoiled = false;          ///< there may be blocks behind the end
    };

    // On a foreign OS thread that holds a handle of the file.
    /// Durable when it returns true. False: the home thread is asked.
    [[nodiscard]] bool append(fs_node& node, std::span<const std::byte> data);

    // Home thread.
    /// So large a piece at once, at most.
    static constexpr std::uint64_t append_max = std::uint64_t{64} << 10;
    [[nodiscard]] static std::uint64_t memory_bytes() noexcept;
    [[nodiscard]] bool is_lent() const noexcept { return lent_; }
    /// `memory`: memory_bytes(); its first block begins with what the last block of the log holds.
    void lend(state now, dma_buffer memory, bdev_writer writer);
    /// None: a foreign thread is at work, and will have left soon; no other comes.
    [[nodiscard]] std::optional<state> try_take_back();
    /// Where nobody can be at work.
    [[nodiscard]] state take_back();
    /// Wall clock, of the last append while it is lent.
    [[nodiscard]] std::int64_t appended_ns() const noexcept {
        return appended_ns_.load(std::memory_order_relaxed);
    }

private:
    [[nodiscard]] state close();
    std::atomic<bool> wanted_{true};  // by the home thread
    std::atomic<std::int64_t> appended_ns_{0};
    bool lent_ = false;  // home thread
    std::mutex lock_;    // guards what follows
    bool open_ = false;
    state state_;
    dma_buffer memory_;
    bdev_writer writer_;
};

}  // namespace nacre::detail
