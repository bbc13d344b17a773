// SPDX-License-Identifier: BSD-3-Clause
//
// written_file: the file of one writer. Small appends are gathered in memory of its own, so that
// they cost a copy and no trip to a reactor; when that is full, and for a sync or a reader, it goes
// to the blobfs. A sync takes what is gathered along: one trip.
//
// A large write to a file that is no log goes on behind the writer, one at a time: it goes on with
// its work, and its next call tells it of an error.
//
// Whoever reads the file while it is written asks for drain() first: store::writer_of().
// Where there was no space, what is gathered or goes on behind stays until there is. Any other
// error stays: what was to be written is lost with it, so everything after it fails as well.
//
// append, write_at, truncate, close: one thread at a time. The others: any.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <span>

#include "nacre/memory/dma_buffer.hpp"
#include "store.hpp"

namespace nacre::rocks {

class written_file {
public:
    /// Writes from `position` on, over what is there.
    written_file(store& of, blocking_file file, std::uint64_t position, bool is_log) noexcept;

    [[nodiscard]] result<> append(std::span<const std::byte> data);
    /// Nothing is gathered here.
    [[nodiscard]] result<> write_at(std::uint64_t offset, std::span<const std::byte> data);
    [[nodiscard]] result<> drain();
    [[nodiscard]] result<> sync();
    [[nodiscard]] result<> truncate(std::uint64_t length);
    [[nodiscard]] result<> allocate(std::uint64_t length);
    /// Gives back what was allocated and not written.
    [[nodiscard]] result<> close();

    /// Where the next append goes.
    [[nodiscard]] std::uint64_t position() const noexcept {
        return end_.load(std::memory_order_acquire);
    }
    [[nodiscard]] bool has_gathered() const noexcept {
        return gathered_.load(std::memory_order_acquire) != 0;
    }
    [[nodiscard]] blocking_file& file() noexcept { return file_; }

private:
    struct buffer {
        std::unique_ptr<std::byte[]> bytes;
        std::size_t size = 0;
    };
    static constexpr std::size_t gathered_max = 64 * 1024;
    /// From here on data go straight to the blobfs.
    static constexpr std::size_t large = gathered_max / 2;
    static constexpr std::size_t behind_max = 1024 * 1024;

    struct positioned_write {
        blobfs_file& file;
        std::uint64_t offset;
        std::span<const std::byte> data;
    };
    [[nodiscard]] static task<result<>> write(across<const positioned_write> w);
    [[nodiscard]] static task<result<>> write_and_sync(across<const positioned_write> w);
    [[nodiscard]] bool gather(std::span<const std::byte> data);
    [[nodiscard]] result<> write_behind(std::uint64_t offset, std::span<const std::byte> data);
    void start_behind();
    void forget(error why) noexcept;
    [[nodiscard]] result<> settle();
    [[nodiscard]] result<> hand_over(bool sync);
    [[nodiscard]] result<> put_leaving(bool sync);
    [[nodiscard]] result<> put(std::span<const std::byte> data, bool sync);
    [[nodiscard]] result<> failed_or(result<> r) noexcept;

    store& store_;
    const bool is_log_;
    blocking_file file_;
    std::atomic<std::uint64_t> end_;
    std::atomic<std::size_t> gathered_ = 0;
    std::atomic<bool> broken_ = false;  // failed_ is set

    std::mutex order_;  // held while data go to the blobfs, so that they go in order
    std::uint64_t at_;  // where they go; what is gathered follows
    std::uint64_t allocated_ = 0;
    buffer leaving_;
    // A write behind the writer, of a copy; while it waits for space none is under way.
    std::optional<join_handle<result<>>> under_way_;
    std::optional<positioned_write> behind_;
    dma_buffer behind_memory_;
    error failed_;
    std::mutex filling_mutex_;  // after order_; guards filling_
    buffer filling_;
};

}  // namespace nacre::rocks
