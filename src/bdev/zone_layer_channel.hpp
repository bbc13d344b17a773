// SPDX-License-Identifier: BSD-3-Clause
//
// A zone layer on one thread, and what it shares with the layer: a write on its way.
#pragma once

#include "nacre/bdev/zone_layer.hpp"
#include "nacre/core/intrusive_list.hpp"

namespace nacre {

/// A write or append from its admission to its acknowledgement. It goes back to the thread that it
/// came from as a message if another thread's write, ahead of it in the zone, finished last.
struct zone_write : message, list_hook {
    zone_layer_channel* channel = nullptr;
    io_op* op = nullptr;
    std::uint64_t zone = 0;
    std::uint64_t at = 0;  // block in the zone
    std::uint64_t blocks = 0;
    error status;
    bool append = false;
    bool forced = false;  // FUA, and there is a journal
    bool done = false;
    std::unique_ptr<zone_write> spare;  // the next one that is not in use
};

struct zone_progress {
    intrusive_list<zone_write> in_flight;  // in order of admission
    std::uint64_t settled = 0;             // blocks that are acknowledged
    error failure;  // of a write; those behind it are still in flight, and it is over
    std::uint64_t failed_at = 0;
    bool held = false;     // by the keeper: writes wait
    bool dirty = false;    // in dirty_
    zone_record snapshot;  // the keeper's
};

class zone_layer_channel final : public module_channel {
public:
    zone_layer_channel(zone_layer_bdev& device, bdev_channel base) noexcept;
    ~zone_layer_channel() override;
    void request_abort(io_op& op) noexcept override;
    /// A write whose turn has come. On this channel's thread.
    void acknowledge(zone_write& w) noexcept;

private:
    void submit(io_op& op) noexcept override;
    void submit_read(io_op& op) noexcept;
    void submit_write(io_op& op) noexcept;
    [[nodiscard]] error report(io_op& op) const noexcept;
    void ask(io_op& op, zone_request::kind what) noexcept;
    [[nodiscard]] task<void> read_in_parts(io_op& op);
    [[nodiscard]] task<void> relay_write(io_op& op, zone_write& w);
    [[nodiscard]] zone_write* take_write() noexcept;
    void give_back(zone_write& w) noexcept;
    static hook_verdict read_came_back(io_op& op, void* context) noexcept;
    static hook_verdict write_came_back(io_op& op, void* context) noexcept;

    zone_layer_bdev& layer_;
    bdev_channel handle_;
    module_channel& base_;
    const unsigned block_shift_;
    std::unique_ptr<zone_write> spare_;
};

}  // namespace nacre
