// SPDX-License-Identifier: BSD-3-Clause
//
// A simulated file, which is also a simulated device: bytes behind a volatile cache.
//
// A write that completed is readable, and volatile: a power cut keeps it, loses it, or tears it
// into old and new sectors of 512 bytes, and does so to each unsynced write by itself, in any
// order. It is durable once a `sync` that was submitted after its completion has completed, or at
// its own completion if it carried flag_dsync. A write that was in flight when the power went has
// the same three fates. Creation, removal, resizing and write_text are durable at once; a size that
// grew by writing becomes durable with the write.
//
// What goes wrong is stated per file: `trouble()` by probability, `fail_operation()` by number.
// Single-threaded, like the whole simulated world.
#pragma once

#include <cerrno>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "nacre/core/random.hpp"
#include "nacre/sim/image.hpp"
#include "nacre/world/io_driver.hpp"

namespace nacre::sim {

/// What a device writes or leaves as a whole, unless world_options says otherwise.
inline constexpr std::uint32_t sector_bytes = 512;

/// What goes wrong with a file. Each `double` is a probability per request.
struct faults {
    double read_error = 0;
    double write_error = 0;  ///< also punch_hole, zero_range and allocate
    double sync_error = 0;
    int error_number = EIO;  ///< of the three above
    /// A write that fails may have changed some of its sectors. Off: it has changed nothing.
    bool failed_write_scribbles = true;
    double rot_on_read = 0;        ///< one bit of what is read is flipped; the media is right
    double rot_on_write = 0;       ///< one bit of what is written is flipped, for good
    double lost_write = 0;         ///< acknowledged, and never happened
    double misdirected_write = 0;  ///< acknowledged, and landed elsewhere in the file
    double short_transfer = 0;     ///< some leading sectors only; the result says so
    double slow = 0;               ///< takes `slow_ns` longer
    std::uint64_t slow_ns = 20'000'000;
    double late = 0;  ///< takes `late_ns` longer: past any timeout, and then completes
    std::uint64_t late_ns = 60'000'000'000;
    bool read_only = false;  ///< every change fails with EROFS
    bool unplugged = false;  ///< every request fails with ENODEV
    /// Of data pages; a write that would need more fails with ENOSPC.
    std::uint64_t space_bytes_max = UINT64_MAX;
};

class file {
public:
    file(std::string path, unsigned id, std::uint64_t cache_bytes_max,
         std::uint32_t atomic_bytes = sector_bytes) noexcept
        : path_(std::move(path)),
          id_(id),
          cache_bytes_max_(cache_bytes_max),
          atomic_bytes_(atomic_bytes) {}
    file(const file&) = delete;
    file& operator=(const file&) = delete;

    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    [[nodiscard]] unsigned id() const noexcept { return id_; }
    [[nodiscard]] std::uint64_t size_bytes() const noexcept { return size_; }
    /// What goes wrong from now on.
    [[nodiscard]] faults& trouble() noexcept { return trouble_; }
    /// The n-th request from now on (1 is the next) fails with this errno. Several may be pending.
    void fail_operation(std::uint64_t n, int error_number = EIO);
    /// Requests that reached this file.
    [[nodiscard]] std::uint64_t operations() const noexcept { return operations_; }
    /// How many requests failed or were falsified on purpose.
    [[nodiscard]] std::uint64_t faults_injected() const noexcept { return faults_injected_; }
    /// Writes that a power cut might lose now.
    [[nodiscard]] std::size_t unsynced_count() const noexcept { return unsynced_.size(); }

    // The tests' own access: at once, uncounted, without faults.
    /// What a read would see.
    void peek(std::uint64_t offset, std::span<std::byte> out) const noexcept;
    /// What is durable already.
    void peek_durable(std::uint64_t offset, std::span<std::byte> out) const noexcept;
    /// Changes the bytes, durably; grows the file if need be.
    void poke(std::uint64_t offset, std::span<const std::byte> in);
    /// Bit rot at rest: flips one bit, durably.
    void rot(std::uint64_t offset, unsigned bit = 0);

    // Of the world and its drivers.
    struct verdict {
        int error_number = 0;        ///< the request fails with this
        std::uint64_t extra_ns = 0;  ///< on top of its latency
        bool hung = false;           ///< late, and beyond cancelling
    };
    /// A request arrives: counted, and judged by number and by probability.
    [[nodiscard]] verdict judge(const io_request& request, prng& dice) noexcept;
    /// A request takes effect; its result. `watermark` is what mark() was at submission,
    /// `room_bytes` what the file system has left.
    [[nodiscard]] std::int32_t complete(const io_request& request, std::uint64_t watermark,
                                        std::uint64_t room_bytes, prng& dice);
    /// A request that fails takes its partial effect.
    void scribble(const io_request& request, prng& dice);
    /// Number of the newest completed write.
    [[nodiscard]] std::uint64_t mark() const noexcept { return newest_; }
    [[nodiscard]] std::uint64_t used_bytes() const noexcept {
        return current_.page_count() * sparse_image::page_bytes;
    }
    [[nodiscard]] bool space_for(std::uint64_t offset, std::uint64_t length,
                                 std::uint64_t room_bytes) const noexcept;
    void resize(std::uint64_t size_bytes);
    void allocate(std::uint64_t size_bytes);
    [[nodiscard]] result<std::uint64_t> seek(std::uint64_t offset, bool data) const noexcept;
    /// A write that is in flight while the power goes: it takes part in lose_power().
    void add_in_flight(const io_request& request);
    /// Decides the fate of every write that is not durable. Returns a digest of the decisions.
    std::uint64_t lose_power(prng& dice);

    void unlock_all() noexcept {
        locked_exclusively = false;
        shared_locks = 0;
    }
    bool locked_exclusively = false;
    unsigned shared_locks = 0;

private:
    struct record {  // a completed write that is not durable
        std::uint64_t number;
        std::uint64_t offset;
        std::uint64_t length;
        std::vector<std::byte> data;  // empty: zeros
    };
    [[nodiscard]] std::int32_t complete_read(const io_request& request, prng& dice);
    [[nodiscard]] std::int32_t complete_write(const io_request& request, std::uint64_t room_bytes,
                                              prng& dice);
    [[nodiscard]] std::int32_t complete_zero(const io_request& request);
    [[nodiscard]] record record_of(const io_request& request);
    void cache(record r);
    void sync(std::uint64_t watermark);
    void make_durable(const record& r);
    void supersede(std::uint64_t offset, std::uint64_t length);
    void settle_torn(const record& r, prng& dice);

    std::string path_;
    unsigned id_;
    std::uint64_t size_ = 0;
    std::uint64_t durable_size_ = 0;
    sparse_image current_;            // what reads see
    sparse_image durable_;            // what is sure to survive
    std::deque<record> unsynced_;     // in order of completion
    std::uint64_t cached_bytes_ = 0;  // of their data
    std::uint64_t cache_bytes_max_;
    std::uint32_t atomic_bytes_;
    std::uint64_t newest_ = 0;  // number of the last completed write
    faults trouble_;
    struct planned {
        std::uint64_t operation;
        int error_number;
    };
    std::vector<planned> planned_;
    std::uint64_t operations_ = 0;
    std::uint64_t faults_injected_ = 0;
};

}  // namespace nacre::sim
