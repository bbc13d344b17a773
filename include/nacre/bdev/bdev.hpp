// SPDX-License-Identifier: BSD-3-Clause
//
// bdev: a block device as its module writes it, and what everybody may ask of one.
//
// A module derives from `bdev`, fills in the attributes before it registers the device, and makes
// one `module_channel` a thread. Who uses a device opens a `bdev_desc` from the registry. A device
// is owned together by the registry and its descriptors; after removal it refuses I/O, and its
// memory goes with the last descriptor.
//
// Attributes are constant after registration but for the size and, on the home thread, the aliases.
// The home thread is the registry's.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "nacre/bdev/io_statistics.hpp"
#include "nacre/bdev/latency_histogram.hpp"
#include "nacre/bdev/protection.hpp"
#include "nacre/bdev/range_lock.hpp"
#include "nacre/bdev/rate_limits.hpp"
#include "nacre/core/json.hpp"
#include "nacre/core/uuid.hpp"
#include "nacre/runtime/task.hpp"
#include "nacre/runtime/thread.hpp"

namespace nacre {

class bdev_desc;
class bdev_reader;
class bdev_writer;
class bdev_registry;
class lock_table;
class module_channel;
class rate_limiter;
class direct_gate;
class reserved_buffers;
class scope;
struct lock_entry;
struct locked_range;

/// Values of a zoned device, NVMe ZNS 1.1; all zero on a conventional one.
struct zoned_attributes {
    block_count zone_size;
    block_count zone_capacity;
    std::uint32_t open_zones_max = 0;  ///< 0: no limit
    std::uint32_t active_zones_max = 0;
    std::uint32_t append_blocks_max = 0;
    std::uint64_t optimal_open_zones = 0;  ///< 0: open_zones_max
};

/// Sizes that suit a device best, in blocks; 0: it does not say. Shown, not enforced.
struct preferred_sizes {
    std::uint32_t write_alignment = 0;
    std::uint32_t write_granularity = 0;
    std::uint32_t optimal_write = 0;
    std::uint32_t unmap_alignment = 0;
    std::uint32_t unmap_granularity = 0;
};

struct bdev_attributes {
    std::string name;
    std::vector<std::string> aliases;  ///< besides the UUID's text
    uuid id;                           ///< null: generated at registration
    std::string product_name;          ///< as SPDK's bdev_get_bdevs names the kind
    /// Power of two, 512 B to 64 KiB; interleaved metadata comes on top, and is included here.
    byte_count block_size{4096};
    block_count blocks;
    std::uint32_t physical_block_size = 0;  ///< bytes; 0: block_size
    std::uint32_t buffer_alignment = 1;     ///< bytes, power of two; unaligned I/O is bounced
    block_count optimal_boundary;           ///< 0: none; reads and writes are split there
    bool boundary_optional = false;         ///< the module takes ops that cross it
    block_count write_unit{1};              ///< writes begin and end on multiples of it
    std::uint64_t transfer_bytes_max = 0;   ///< 0: no limit; longer I/O is split
    std::uint32_t metadata_size = 0;        ///< bytes a block
    bool metadata_interleaved = false;      ///< behind each block's data; else in a buffer apart
    protection_type protection = protection_type::none;
    bool protection_at_head = false;      ///< of the metadata
    bool passes_metadata = false;         ///< of a layer: blocks go down where and as they are
    std::uint8_t protection_checks = 0;   ///< bits: what the device itself checks
    std::optional<std::int32_t> numa_id;  ///< node that it is near to; -1: any
    bool write_cache = false;             ///< flush does something
    zoned_attributes zoned;
    preferred_sizes preferred;
    std::uint32_t operations = 0;  ///< bits of opcodes the module carries out itself
    unsigned layers = 0;           ///< bdevs below this one, at the deepest

    [[nodiscard]] bool is_zoned() const noexcept { return zoned.zone_size.value() != 0; }
    /// That at which the block layer splits; 0: none.
    [[nodiscard]] std::uint64_t split_boundary() const noexcept {
        return boundary_optional ? 0 : optimal_boundary.value();
    }
    /// Of a block, without interleaved metadata.
    [[nodiscard]] std::uint32_t data_bytes() const noexcept {
        return static_cast<std::uint32_t>(block_size.value()) -
               (metadata_interleaved ? metadata_size : 0);
    }
    /// With metadata that holds protection information.
    [[nodiscard]] protection_format protected_blocks() const noexcept {
        return {data_bytes(), metadata_size, protection, protection_at_head};
    }
    /// nvme_io with metadata in a buffer apart.
    [[nodiscard]] bool takes_nvme_metadata() const noexcept {
        return (operations & bit(opcode::nvme_io)) != 0 && metadata_size != 0 &&
               !metadata_interleaved;
    }
    /// What a layer over `base` starts from: geometry, limits and operations of its base, without
    /// those that pass its own addresses by.
    void derive_from(const bdev_attributes& base);
};

/// Who keeps others from writing. Names as SPDK's claim_type.
enum class claim : std::uint8_t {
    none,
    exclusive_write,  ///< one module, which writes
    read_many_write_one,
    read_many_write_none,
    read_many_write_shared,  ///< several writers that know of each other by key
};
[[nodiscard]] const char* name_of(claim c) noexcept;

/// Blocks that a device asks its user to move elsewhere, because it is about to lose them.
struct media_event {
    lba first;
    block_count blocks;
    bool operator==(const media_event&) const = default;
};

/// bdev_set_qd_sampling_period: how many ops were under way whenever it was looked.
struct queue_samples {
    std::uint64_t period_us = 0;  ///< 0: off
    std::uint64_t depth = 0;      ///< of the last sample
    // Microseconds, in whole periods.
    std::uint64_t io_time = 0;           ///< with something under way
    std::uint64_t weighted_io_time = 0;  ///< each times its depth
};

/// What passed the channel of one thread.
struct channel_statistics {
    std::uint64_t thread_id;
    io_statistics figures;
};

class bdev {
public:
    bdev(const bdev&) = delete;
    bdev& operator=(const bdev&) = delete;
    virtual ~bdev();

    // Any thread, once registered.
    [[nodiscard]] const bdev_attributes& attributes() const noexcept { return attributes_; }
    [[nodiscard]] const std::string& name() const noexcept { return attributes_.name; }
    [[nodiscard]] block_count blocks() const noexcept {
        return block_count(blocks_.load(std::memory_order_acquire));
    }
    [[nodiscard]] byte_count block_size() const noexcept { return attributes_.block_size; }
    [[nodiscard]] byte_count size() const noexcept { return blocks() * block_size(); }
    /// Bits of opcodes that the module carries out itself, without what it has withdrawn.
    [[nodiscard]] std::uint32_t operations() const noexcept {
        return attributes_.operations & ~withdrawn_.load(std::memory_order_relaxed);
    }
    /// Itself, or by emulation: write_zeroes by writing, compare by reading, copy,
    /// compare_and_write and zcopy by both.
    [[nodiscard]] bool supports(opcode op) const noexcept {
        constexpr std::uint32_t both = bit(opcode::read) | bit(opcode::write);
        const std::uint32_t own = operations();
        // The block layer carries some out by others.
        const std::uint32_t others = op == opcode::write_zeroes ? bit(opcode::write)
                                     : op == opcode::compare    ? bit(opcode::read)
                                     : op == opcode::zcopy      ? both
                                     : (op == opcode::copy || op == opcode::compare_and_write) &&
                                             attributes_.write_unit.value() == 1
                                         ? both
                                         : 0;
        return (own & bit(op)) != 0 || (others != 0 && (own & others) == others);
    }
    [[nodiscard]] bool removed() const noexcept { return removed_.load(std::memory_order_acquire); }

    // Home thread.
    [[nodiscard]] claim claimed() const noexcept { return claim_; }
    /// Sum over all channels, gathered by messages. `reset` is applied after reading.
    [[nodiscard]] task<io_statistics> collect_statistics(
        statistics_reset reset = statistics_reset::none);
    /// The channels that are open, one by one.
    [[nodiscard]] task<std::vector<channel_statistics>> collect_channel_statistics(
        statistics_reset reset = statistics_reset::none);
    /// Records latencies, from nothing, on every channel from now on; off with nullopt.
    [[nodiscard]] task<void> set_histogram(std::optional<histogram_options> options);
    /// Of all channels, and those that have closed since; nullopt while it is off.
    [[nodiscard]] task<std::optional<latency_histogram>> collect_histogram();
    /// From now on, for all channels together; ops that wait for a limit that is lifted go on.
    [[nodiscard]] task<void> set_rate_limits(rate_limits limits);
    [[nodiscard]] rate_limits assigned_rate_limits() const noexcept;
    /// Counts the ops under way every `period_us` from now on; 0 ends it.
    [[nodiscard]] task<void> set_queue_sampling(std::uint64_t period_us);
    [[nodiscard]] const queue_samples& queue() const noexcept { return queue_; }
    /// For a module whose device wants blocks moved: every descriptor that may write keeps what
    /// fits into its queue and is told, and layers are. Returns how many somebody took.
    std::size_t post_media_events(std::span<const media_event> events);
    /// For a module whose device changed its size; tells every descriptor.
    [[nodiscard]] task<void> resized(block_count blocks);

    // Any thread of the runtime.
    /// For a module that must be alone with its device, or a part of it (quiesce); users have
    /// bdev_channel::lock_range. The lock is released before the device is gone. ENODEV: removed;
    /// ERANGE: not within the device.
    [[nodiscard]] task<result<range_lock>> lock_range(lba first, block_count blocks,
                                                      lock_kind kind);
    /// All of it, reads too.
    [[nodiscard]] task<result<range_lock>> quiesce();

    /// Buffers for a channel of the calling thread, which keeps them.
    [[nodiscard]] reserved_buffers channel_buffers();

    // What a module writes.
    /// On the thread that the channel is for; failure leaves nothing behind.
    [[nodiscard]] virtual outcome<std::unique_ptr<module_channel>> make_channel() = 0;
    /// For bdev_reader: whether there is any read_directly, which begins after this. Home thread.
    [[nodiscard]] virtual bool prepare_direct_reads();
    /// On any OS thread, which it may block, many at once: whole blocks within the device, no more
    /// than it takes at once. False: not read; a channel is asked then, and finds out why.
    [[nodiscard]] virtual bool read_directly(lba first, std::span<std::byte> into) noexcept;
    /// Likewise for bdev_writer. What is written is durable when it succeeds. EAGAIN: nothing is
    /// written; other errors: some of it may be.
    [[nodiscard]] virtual bool prepare_direct_writes();
    [[nodiscard]] virtual result<> write_directly(lba first,
                                                  std::span<const std::byte> from) noexcept;
    /// Once, on the home thread, after removal: no channel carries anything any more. Releases what
    /// the device holds (files, base descriptors, claims).
    [[nodiscard]] virtual task<void> close();
    /// `driver_specific` of bdev_get_bdevs.
    [[nodiscard]] virtual json::value information() const;
    /// The RPC that would make it again, {"method", "params"}; null if it comes back by examine.
    [[nodiscard]] virtual json::value configuration() const;

protected:
    explicit bdev(bdev_attributes attributes);
    /// It carries these out no more; channels that are open go on asking it.
    void withdraw(std::uint32_t operations) noexcept {
        withdrawn_.fetch_or(operations, std::memory_order_relaxed);
    }
    /// Before registration only.
    [[nodiscard]] bdev_attributes& mutable_attributes() noexcept { return attributes_; }

private:
    friend class bdev_registry;
    friend class bdev_desc;
    friend class bdev_channel;
    friend class bdev_reader;
    friend class bdev_writer;
    friend class module_channel;
    friend class range_lock;
    struct channel_slot {
        thread* home;
        std::unique_ptr<module_channel> channel;
    };
    /// `feeds`: a layer that forwards ops to it; `layer`, or the one whose channel is being made.
    [[nodiscard]] outcome<module_channel*> acquire_channel(bool feeds, bdev* layer);
    void note_base(const bdev& base);
    [[nodiscard]] bool stands_on_any(std::span<const bdev* const> bases);
    void release_channel(module_channel& channel) noexcept;
    /// Also adds what passed channels that are gone already to `closed`, once the pins stand.
    [[nodiscard]] std::vector<module_channel*> pin_channels(
        io_statistics* closed = nullptr, statistics_reset reset = statistics_reset::none);
    [[nodiscard]] task<void> unpin(module_channel& channel);
    [[nodiscard]] task<void> drain_channels();
    [[nodiscard]] task<result<range_lock>> lock_kept(lba first, block_count blocks, lock_kind kind,
                                                     std::shared_ptr<bdev> keep);
    [[nodiscard]] bool has_ended(const lock_entry& entry);
    [[nodiscard]] task<result<>> install_range(locked_range range);
    [[nodiscard]] task<result<>> shut_doors(locked_range range);
    static task<result<>> settle_above(across<bdev> device);
    [[nodiscard]] bdev_reader make_reader(std::shared_ptr<bdev> self);
    [[nodiscard]] bdev_writer make_writer(std::shared_ptr<bdev> self);
    [[nodiscard]] bool allows_direct(opcode what) const noexcept;
    void make_gate(std::unique_ptr<direct_gate>& gate, opcode what);
    [[nodiscard]] bool takes_directly(std::span<const std::byte> bytes) const noexcept;
    [[nodiscard]] bool holds(lba first, std::size_t bytes) const noexcept;
    /// Whether readers and writers may pass by the channels now. Under the mutex.
    void judge_direct() noexcept;
    /// Those have ended that were within when it was last found that they may not.
    [[nodiscard]] task<result<>> direct_left(bool readers_too);
    /// Before the layers above leave: nothing is held back any more, and what was fails.
    [[nodiscard]] task<void> end_powers();
    [[nodiscard]] task<void> apply_limits(bool on);
    /// Also tells every channel whether it is followed for that.
    [[nodiscard]] task<result<std::uint64_t>> measure_depth(bool sampled);
    [[nodiscard]] task<void> sample_queue(std::uint64_t period_us);

    bdev_attributes attributes_;
    std::atomic<std::uint64_t> blocks_;
    std::atomic<std::uint32_t> withdrawn_{0};
    std::atomic<bool> removed_{false};
    claim claim_ = claim::none;
    std::string claimer_;                  // the first of its holders
    std::uint64_t claim_key_ = 0;          // what those of a shared claim have in common
    std::vector<bdev_desc*> descriptors_;  // home thread
    bdev_registry* registry_ = nullptr;
    std::mutex mutex_;  // guards channels_, their handle counts and their making; control path only
    std::vector<channel_slot> channels_;
    io_statistics closed_channels_;  // what passed channels that are gone; under the mutex
    // While latencies are recorded: those of channels that are gone, and what a new one begins
    // with.
    std::unique_ptr<latency_histogram> closed_latencies_;  // under the mutex
    std::unique_ptr<rate_limiter> limiter_;                // made once, with the first limits
    bool limited_ = false;                                 // under the mutex: channels keep to it
    bool sampled_ = false;                                 // likewise: they are followed
    std::unique_ptr<lock_table> locks_;
    std::unique_ptr<direct_gate> readers_;  // made once, with the first reader
    std::unique_ptr<direct_gate> writers_;  // likewise
    // What its channels have forwarded to; never looked into, only compared. What a layer has left
    // stays.
    std::vector<const bdev*> bases_;
    std::mutex bases_mutex_;          // guards them; nothing else is locked under it
    queue_samples queue_;             // home thread
    std::unique_ptr<scope> sampler_;  // likewise
    bool sampling_changes_ = false;
};

}  // namespace nacre
