// SPDX-License-Identifier: BSD-3-Clause
//
// zone_layer: a zoned device over a conventional one, for modules that only differ in where the
// zones lie on the base and in what survives a restart.
//
// A zone's data is always whole: writes of a zone complete in the order in which they were
// admitted, and where one fails, those behind it fail with it and the write pointer goes back to
// where it began. So what has been acknowledged in a zone lies below its write pointer without a
// gap. Blocks above the write pointer read as zeros.
//
// What survives is up to a zone_journal. A flush (and a write with FUA) makes the data durable
// first and the write pointers after, so a recorded write pointer never lies above data that is not
// there. Reset, finish and offline wait for the zone's writes, and are recorded before they are
// acknowledged; a write that comes meanwhile waits. All of this is the work of one coroutine on the
// home thread, the keeper, which carries out one request after the other; reads, writes and appends
// pass on their own threads under one short lock. Without a journal nothing is remembered.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "nacre/bdev/layer_bdev.hpp"
#include "nacre/bdev/zone_table.hpp"
#include "nacre/runtime/scope.hpp"
#include "nacre/runtime/sync.hpp"

namespace nacre {

/// What is remembered of a zone. State: empty, closed (some of it written), full, read_only or
/// offline.
struct zone_record {
    zone_state state = zone_state::empty;
    std::uint64_t written = 0;
    friend bool operator==(const zone_record&, const zone_record&) = default;
};

/// Where a layer's records live. Called by the keeper only.
class zone_journal {
public:
    virtual ~zone_journal() = default;
    [[nodiscard]] virtual zone_record recorded(zone_index z) const noexcept = 0;
    /// Holds from the next write() on.
    virtual void record(zone_index z, zone_record r) noexcept = 0;
    /// There are records that may not be what the base holds.
    [[nodiscard]] virtual bool pending() const noexcept = 0;
    /// Makes all records durable. After a failure either the old or the new ones are; the next call
    /// settles it.
    [[nodiscard]] virtual task<result<>> write(bdev_channel& base) = 0;
};

class zone_layer_channel;
struct zone_write;
struct zone_progress;

/// What a channel, or the control path, asks of the keeper. It travels there and back.
struct zone_request : message {
    enum class kind : std::uint8_t { flush, manage, degrade };
    kind what = kind::flush;
    zone_command command{};
    zone_state state{};  ///< degrade
    lba zone;
    error status;
    thread* home = nullptr;  ///< where `answered` runs
    void (*answered)(zone_request& self) noexcept = nullptr;
    class zone_layer_bdev* layer = nullptr;
    zone_request* behind = nullptr;
};

class zone_layer_bdev : public layer_bdev {
public:
    /// Zone z's block b is the base's block `start + z * stride + b`.
    struct placement {
        block_count start;
        block_count stride;
    };
    ~zone_layer_bdev() override;

    outcome<std::unique_ptr<module_channel>> make_channel() override;
    task<void> close() override;
    /// Zones do not come and go.
    task<void> base_resized(bdev& device) override;

    /// After construction, before registration. Home thread.
    [[nodiscard]] outcome<> start_keeper();
    /// Flushes and ends it; for a device that could not be registered.
    [[nodiscard]] task<void> stop_keeper();
    /// The zone becomes read-only or offline, as one whose media wears out; remembered. Home
    /// thread.
    [[nodiscard]] task<result<>> degrade(zone_index z, zone_state state);
    [[nodiscard]] const zone_table& table() const noexcept { return table_; }

protected:
    /// `attributes` as attributes_over() made them, `blocks` and `zoned` filled in. With a journal
    /// the zones begin as recorded there, else as `initial`.
    zone_layer_bdev(bdev_attributes attributes, bdev_registry& registry, bdev_desc base,
                    placement where, zone_state initial, std::unique_ptr<zone_journal> journal);
    /// ENOTSUP if the base is zoned itself or cannot be written.
    [[nodiscard]] static outcome<bdev_attributes> attributes_over(const bdev& base, bool journaled);

private:
    friend class zone_layer_channel;
    // The I/O path; any thread.
    void ask_keeper(zone_request& r) noexcept;
    [[nodiscard]] error admit(zone_write& w, lba first) noexcept;
    void finished(zone_write& w) noexcept;
    // The keeper; home thread.
    void accept(zone_request& r) noexcept;
    [[nodiscard]] task<void> keep();
    [[nodiscard]] task<result<>> commit();
    [[nodiscard]] task<result<>> commit_taken();
    [[nodiscard]] task<result<>> answer_to(zone_request& r);
    [[nodiscard]] task<result<>> manage(zone_action action);
    [[nodiscard]] task<result<>> degrade_held(zone_state state);
    [[nodiscard]] task<result<>> record_held(zone_state state);
    [[nodiscard]] task<result<>> unmap_held();
    void hold(const zone_request& r);
    [[nodiscard]] task<result<>> drain_held();
    [[nodiscard]] bool held_have_writes() noexcept;
    [[nodiscard]] zone_record record_of(std::uint64_t zone) noexcept;
    void release_held() noexcept;
    [[nodiscard]] lba base_of(std::uint64_t zone) const noexcept {
        return lba(placement_.start.value() + zone * placement_.stride.value());
    }
    /// Where a block lies on the base, and which block lies there.
    [[nodiscard]] lba to_base(lba at) const noexcept {
        const std::uint64_t zone = table_.index_of(at).value();
        return base_of(zone) + (at - table_.start_of(zone_index(zone)));
    }
    [[nodiscard]] lba from_base(lba at) const noexcept {
        const std::uint64_t inside = at.value() - placement_.start.value();
        const std::uint64_t zone = inside / placement_.stride.value();
        return table_.start_of(zone_index(zone)) +
               block_count(inside - zone * placement_.stride.value());
    }

    thread& home_;
    const placement placement_;
    const bool direct_;  // the base takes ops as they are
    zone_table table_;
    const std::unique_ptr<zone_journal> journal_;

    std::mutex mutex_;  // of everything down to the gap
    std::unique_ptr<zone_progress[]> progress_;
    std::vector<std::uint32_t> dirty_;  // zones with more acknowledged than recorded; has room
    bool drain_awaited_ = false;

    // Home thread.
    std::vector<std::uint32_t> taken_;  // from dirty_, by the commit under way
    std::vector<std::uint32_t> held_;   // by the action under way
    bdev_channel channel_;              // to the base
    zone_request* first_ = nullptr;
    zone_request* last_ = nullptr;
    event wake_;     // a request came, or the end
    event drained_;  // a held zone has no write in flight any more
    bool ending_ = false;
    scope keeper_;
    struct drain_message : message {
        zone_layer_bdev* layer = nullptr;
    } drain_message_;
};

}  // namespace nacre
