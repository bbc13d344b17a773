// SPDX-License-Identifier: BSD-3-Clause
//
// An array as its home thread knows it: the legs and who of them is trusted, the superblock and the
// write-intent bitmap on them, and what goes on in the background. A level derives from it and says
// what it does with the legs: raid0/, concat/, raid1/, raid5f/.
//
// Of a redundant array the legs hold the same number of blocks, its span, and each block of the
// span depends on the same block of the other legs only. Regions and windows are parts of the span;
// of a mirror that is the array itself, of a raid5f each leg's column of chunks.
//
// Three coroutines serve a redundant array while it is online: one judges writes that failed on a
// leg, one grants write intents, one (the process) makes legs equal and rebuilds; a fourth sweeps
// the bitmap. Every change of the set of legs is made under `changing_`, every write of the bitmap
// under `recording_`; who takes both takes them in this order. Channels of all threads are reached
// by tell_channels and wait_for_channels; a new channel takes over the view and the lock of the
// moment it joins, under `shared_mutex_`, so that none is missed.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "modules/raid/level.hpp"
#include "modules/raid/raid.hpp"
#include "modules/raid/redundant_channel.hpp"
#include "nacre/memory/dma_buffer.hpp"

namespace nacre::raid {

class raid_bdev;

enum class array_state : std::uint8_t { configuring, online, offline };

/// A leg of the home thread. It stays in its place while the array exists; `desc` is open while
/// there is a bdev.
class leg final : public bdev_listener {
public:
    leg(raid_array& array, unsigned slot) noexcept : array_(array), slot_(slot) {}
    task<void> base_removed(bdev& base) override;

    [[nodiscard]] bool present() const noexcept { return desc.is_open(); }
    [[nodiscard]] module_channel& base() const noexcept { return channel.base(); }

    std::string name;  // of the bdev; kept while it is waited for
    uuid id;
    std::uint64_t data_offset = 0;
    std::uint64_t data_size = 0;
    bdev_desc desc;
    bdev_channel channel;
    unsigned users = 0;           // of the channel, right now
    std::uint64_t admission = 0;  // how often it was added

private:
    raid_array& array_;
    unsigned slot_;
};

/// A bdev whose superblock names the array, while that is configuring.
struct candidate {
    std::string bdev_name;
    uuid id;
    superblock found;
};
/// ENOENT, EILSEQ or what reading gave.
[[nodiscard]] task<outcome<superblock>> read_superblock(bdev_registry& registry,
                                                        std::string bdev_name);

/// Something that each channel does on its own thread.
struct channel_order {
    virtual void carry_out(redundant_channel& channel) noexcept = 0;

protected:
    ~channel_order() = default;
};
/// Something that each channel must have come to.
struct channel_wait {
    virtual bool satisfied(redundant_channel& channel) noexcept = 0;

protected:
    ~channel_wait() = default;
};

/// What an array is made of.
struct raid_plan {
    std::string name;
    uuid id;
    bool with_superblock = false;
    unsigned slots = 0;
    std::uint64_t strip_bytes = 0;  ///< 0 of a level without strips
};

class raid_array : public std::enable_shared_from_this<raid_array> {
public:
    raid_array(raid_module& module, const level_facts& facts, raid_plan plan);
    virtual ~raid_array();
    raid_array(const raid_array&) = delete;
    raid_array& operator=(const raid_array&) = delete;

    // --- What it is.
    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] const uuid& id() const noexcept { return id_; }
    [[nodiscard]] array_state state() const noexcept { return state_; }
    [[nodiscard]] bool with_superblock() const noexcept { return with_superblock_; }
    [[nodiscard]] unsigned slots() const noexcept { return static_cast<unsigned>(legs_.size()); }
    [[nodiscard]] leg& at(unsigned k) noexcept { return *legs_[k]; }
    [[nodiscard]] const leg& at(unsigned k) const noexcept { return *legs_[k]; }
    [[nodiscard]] thread& home() const noexcept { return home_; }
    [[nodiscard]] bdev_registry& registry() const noexcept { return registry_; }
    [[nodiscard]] const level_facts& facts() const noexcept { return facts_; }
    /// Blocks; 0 of a level without strips. Once it is known how long a block is.
    [[nodiscard]] std::uint64_t strip_blocks() const noexcept {
        return block_size_ == 0 ? 0 : strip_bytes_ / block_size_;
    }
    [[nodiscard]] std::uint32_t block_size() const noexcept { return block_size_; }
    /// Legs without which it cannot live.
    [[nodiscard]] unsigned required() const noexcept { return slots() - facts_.may_lack(slots()); }
    [[nodiscard]] bool redundant() const noexcept { return required() < slots(); }
    [[nodiscard]] const raid_tuning& tuning() const noexcept { return module_.tuning_; }
    [[nodiscard]] bool settled() const noexcept;
    /// As bdev_raid_get_bdevs shows it, without the name.
    [[nodiscard]] json::object status() const;
    /// bdev_raid_create; null if it comes back by its superblock.
    [[nodiscard]] json::value configuration() const;

    // --- Legs, while configuring.
    /// Opens and claims it.
    [[nodiscard]] outcome<> open_leg(unsigned k, std::string_view bdev_name);
    void drop_leg(unsigned k) noexcept;
    /// Those whose bdev is there. All are: the array made by names can be formatted.
    [[nodiscard]] unsigned present_count() const noexcept;
    [[nodiscard]] std::vector<candidate>& candidates() noexcept { return candidates_; }
    /// Takes over what the newest superblock says, and claims the candidates that it names.
    void configure_from(const superblock& newest);
    /// Slot of the leg on this bdev; slots() if there is none.
    [[nodiscard]] unsigned slot_of(std::string_view bdev_name) const noexcept;

    // --- Start and end.
    /// All legs are open: checks that they fit together and writes the first superblock.
    [[nodiscard]] task<outcome<>> format();
    /// The superblock that rules, and the legs that are current by it; `forced` as start_degraded.
    /// `lagging` ones of them have an older superblock.
    [[nodiscard]] task<outcome<>> adopt(const superblock& newest, leg_mask current,
                                        leg_mask lagging);
    /// After format() or adopt(): the bdev, not registered yet.
    [[nodiscard]] outcome<std::shared_ptr<bdev>> make_bdev();
    void start_serving();
    void clear_superblock_at_end() noexcept { clear_superblock_ = true; }
    /// From the bdev's close(), or where registration failed. Also: lets everything go.
    [[nodiscard]] task<void> stop();

    // --- Changes while online.
    [[nodiscard]] task<outcome<>> add_leg(std::string bdev_name);
    /// EBUSY for the last good leg, and for the one that the others are being made equal to.
    [[nodiscard]] task<outcome<>> remove_leg(unsigned k);
    [[nodiscard]] task<void> leg_went_away(unsigned k);
    [[nodiscard]] leg_mask active() const noexcept { return active_; }
    [[nodiscard]] leg_mask rebuilding() const noexcept { return rebuilding_; }
    [[nodiscard]] const superblock& current_superblock() const noexcept { return sb_; }
    /// The highest sequence number that it wrote or tried to.
    [[nodiscard]] std::uint64_t sequence() const noexcept { return sequence_; }

    // --- Any thread: what channels take over when they are made, and how they report.
    [[nodiscard]] outcome<> join(redundant_channel& channel, channel_view& view, block_range& lock);
    void leave(redundant_channel& channel) noexcept;
    [[nodiscard]] outcome<bdev_channel> open_leg_channel(unsigned k, block_count& offset,
                                                         bdev& device);
    [[nodiscard]] redundant_channel* channel_here() noexcept;
    void post_failure(write_group& g) noexcept;
    void post_request(intent_request& r) noexcept;
    [[nodiscard]] bool uses_intents() const noexcept { return intents_; }
    [[nodiscard]] const intent_geometry& geometry() const noexcept { return geometry_; }

    // --- What a level does.
    /// On the channel's thread.
    [[nodiscard]] virtual outcome<std::unique_ptr<module_channel>> make_channel(bdev& device) = 0;

protected:
    /// What one run of the process copies, and where to.
    struct copy_plan {
        bool only_different;  // compare first: the targets are mostly equal
        leg_mask targets;     // 0: all writable legs but the one that was read
        dma_buffer buffer;    // of one window
        dma_buffer other;     // the same, for comparing
    };
    /// `sizes`: blocks that each leg has room for, 0 if that is not known. Cuts them to what is
    /// used; the blocks of the array.
    [[nodiscard]] virtual std::uint64_t lay_out(std::span<std::uint64_t> sizes) const noexcept = 0;
    /// `a` is what all legs can do.
    virtual void refine(bdev_attributes& a) const noexcept = 0;
    /// For refine(): ops may cross the boundary (0: none), unless a leg has one that must be kept;
    /// then they are split where neither is crossed.
    void advise_boundary(bdev_attributes& a, std::uint64_t blocks) const noexcept;
    /// Of a redundant level: makes a locked window right on the plan's targets.
    [[nodiscard]] virtual task<result<>> copy_locked(copy_plan& plan, block_range window);
    /// An active leg that must not be taken out now.
    [[nodiscard]] virtual bool needed(unsigned k) const noexcept { return k == source_; }

    /// The leg that is read while active ones may differ; legs_max if they do not.
    [[nodiscard]] unsigned source() const noexcept { return source_; }
    [[nodiscard]] leg_mask writable() const noexcept { return active_ | rebuilding_; }
    [[nodiscard]] task<result<>> eject(leg_mask legs, leg_state as);
    // legs.cpp: I/O of its own. ENOMEM is waited out; ENODEV if the leg is going.
    /// Durable.
    [[nodiscard]] task<error> leg_write(unsigned k, std::uint64_t block,
                                        std::span<const std::byte> bytes);
    /// Durable after a flush.
    [[nodiscard]] task<error> leg_copy(unsigned k, std::uint64_t block,
                                       std::span<const std::byte> bytes);
    [[nodiscard]] task<error> leg_zero(unsigned k, std::uint64_t block, std::uint64_t blocks);
    [[nodiscard]] task<error> leg_read(unsigned k, std::uint64_t block, std::span<std::byte> into);
    [[nodiscard]] task<error> leg_flush(unsigned k);
    /// Those that failed.
    [[nodiscard]] task<leg_mask> flush_legs(leg_mask legs);

private:
    // array.cpp
    [[nodiscard]] bdev_attributes make_attributes();
    [[nodiscard]] outcome<> check_leg(const leg& l, std::uint32_t block_size) const;
    [[nodiscard]] outcome<> check_new_leg(const leg& l) const;
    void place_data(leg& l) const noexcept;
    void set_geometry();
    [[nodiscard]] channel_view view() const noexcept;
    void choose_source() noexcept;
    [[nodiscard]] task<void> publish();
    [[nodiscard]] std::vector<thread*> channel_threads();
    [[nodiscard]] task<void> tell_channels(channel_order& order);
    [[nodiscard]] task<result<>> wait_for_channels(channel_wait& wait);
    // legs.cpp
    [[nodiscard]] bool enter_leg(unsigned k) noexcept;
    void leave_leg(unsigned k) noexcept;

    // eject.cpp
    /// Under `changing_`.
    [[nodiscard]] task<result<>> eject_locked(leg_mask legs, leg_state as);
    [[nodiscard]] task<result<>> record_legs(leg_mask legs, leg_state as);
    [[nodiscard]] task<leg_mask> write_superblock(superblock& sb, leg_mask legs,
                                                  unsigned last = legs_max);
    [[nodiscard]] task<error> write_superblock_to(unsigned k, std::span<const std::byte> bytes,
                                                  std::span<const std::byte> slot);
    [[nodiscard]] task<void> detach(unsigned k);
    [[nodiscard]] task<void> serve_failures();
    [[nodiscard]] task<void> judge(write_group& g);
    [[nodiscard]] task<void> mark_out_of_sync(block_range range);
    [[nodiscard]] task<void> retry_recording();

    // intents.cpp
    [[nodiscard]] task<void> serve_intents();
    [[nodiscard]] task<error> record_intents(region_set wanted);
    [[nodiscard]] task<leg_mask> write_intents(leg_mask legs);
    [[nodiscard]] task<void> write_to(unsigned k, std::uint64_t block,
                                      std::span<const std::byte> bytes, error& status);
    [[nodiscard]] task<void> sweep_loop();
    [[nodiscard]] task<void> sweep();
    [[nodiscard]] task<void> read_intents(leg_mask current);
    [[nodiscard]] intent_slot make_slot(const superblock& owner) const;

    // rebuild.cpp
    [[nodiscard]] task<void> process_loop();
    [[nodiscard]] task<result<>> make_equal();
    [[nodiscard]] task<result<>> rebuild(unsigned k);
    [[nodiscard]] task<outcome<>> finish_rebuild(unsigned k, std::uint64_t admission);
    /// Still the rebuild that began with this admission of the leg.
    [[nodiscard]] bool rebuilds(unsigned k, std::uint64_t admission) const noexcept {
        return (rebuilding_ >> k & 1) != 0 && legs_[k]->admission == admission;
    }
    [[nodiscard]] task<result<>> copy_window(copy_plan& plan, block_range window);
    [[nodiscard]] task<result<>> lock_window(block_range window);
    [[nodiscard]] task<void> unlock_window();
    [[nodiscard]] std::uint64_t window_blocks() const noexcept;
    /// More legs are written than it needs.
    [[nodiscard]] bool has_spare() const noexcept;
    [[nodiscard]] task<result<>> keep_to_bandwidth(std::uint64_t began_ns, std::uint64_t bytes);

    raid_module& module_;
    const level_facts& facts_;
    bdev_registry& registry_;
    thread& home_;
    std::string name_;
    uuid id_;
    bool with_superblock_;
    std::uint64_t strip_bytes_;
    bool intents_ = false;  // constant once online
    bool clear_superblock_ = false;
    array_state state_ = array_state::configuring;
    std::vector<std::unique_ptr<leg>> legs_;
    std::uint64_t blocks_ = 0;
    std::uint64_t span_ = 0;  // of a redundant array
    std::uint32_t block_size_ = 0;
    bdev* device_ = nullptr;            // while online
    std::uint32_t leg_operations_ = 0;  // that each leg must carry out itself
    std::vector<candidate> candidates_;

    // Who is trusted.
    superblock sb_;               // as it is on the active legs
    std::uint64_t sequence_ = 0;  // the highest that was tried
    leg_mask active_ = 0;
    leg_mask rebuilding_ = 0;
    leg_mask leaving_ = 0;  // not used any more, not yet closed everywhere
    bool unrecorded_ = false;
    mutex changing_;
    condition left_;

    // Write intents.
    intent_geometry geometry_;
    std::uint64_t generation_ = 0;
    region_set bits_;      // what the next write of the bitmap says
    region_set recorded_;  // what is durable on all active legs, at least
    region_set clearing_;  // of the sweep under way
    mutex recording_;
    intent_request* requests_ = nullptr;
    condition request_posted_;
    condition bits_set_;

    // Regions in which the active legs may differ, and the one leg that is read meanwhile.
    region_set differing_;
    region_set being_copied_;
    unsigned source_ = legs_max;  // none

    // Failed writes.
    write_group* failures_ = nullptr;
    write_group** failures_end_ = &failures_;
    condition failure_posted_;

    // The process.
    condition process_due_;
    std::string process_target_;
    const char* process_type_ = nullptr;  // null: none
    std::uint64_t process_done_ = 0;      // blocks
    std::uint64_t process_total_ = 0;

    bool stopping_ = false;
    scope servants_;    // end when asked by stopping_
    scope background_;  // end when asked to stop

    // What other threads see.
    std::mutex shared_mutex_;
    std::map<thread*, redundant_channel*> channels_;
    channel_view shared_view_;
    block_range shared_lock_;
};

}  // namespace nacre::raid
