// SPDX-License-Identifier: BSD-3-Clause
#include "zone_layer_channel.hpp"

#include <algorithm>
#include <new>

namespace nacre {
namespace {

/// In the op's backend_area while the keeper has it.
struct op_request : zone_request {
    io_op* op = nullptr;
};

}  // namespace

zone_layer_channel::zone_layer_channel(zone_layer_bdev& device, bdev_channel base) noexcept
    : module_channel(device),
      layer_(device),
      handle_(std::move(base)),
      base_(handle_.base()),
      block_shift_(static_cast<unsigned>(__builtin_ctzll(device.block_size().value()))) {}

zone_layer_channel::~zone_layer_channel() {
    while (spare_ != nullptr) spare_ = std::move(spare_->spare);
}

void zone_layer_channel::submit(io_op& op) noexcept {
    switch (op.code) {
        case opcode::read:
            submit_read(op);
            return;
        case opcode::write:
        case opcode::write_zeroes:
        case opcode::zone_append:
            submit_write(op);
            return;
        case opcode::flush:
            if (layer_.journal_ != nullptr)
                ask(op, zone_request::kind::flush);
            else
                base_.forward(op);
            return;
        case opcode::zone_manage:
            // What only changes the counts of open zones is not worth the way to the keeper.
            if (op.zones.action == zone_action::open || op.zones.action == zone_action::close)
                op.complete(layer_.table_.manage(op.zones.action, op.first, op.zones.all));
            else
                ask(op, zone_request::kind::manage);
            return;
        case opcode::zone_report:
            op.complete(report(op));
            return;
        case opcode::reset:
            if (layer_.direct_ && base_.device().supports(opcode::reset))
                base_.forward(op);
            else
                op.complete();
            return;
        case opcode::abort:
            request_abort(*op.target);
            op.complete();
            return;
        default:
            op.complete(error::posix(ENOTSUP));
            return;
    }
}

void zone_layer_channel::request_abort(io_op& op) noexcept {
    if (layer_.direct_) base_.request_abort(op);
}

error zone_layer_channel::report(io_op& op) const noexcept {
    if (!op.data.contiguous()) return error::posix(EINVAL);
    auto* const into = reinterpret_cast<zone_descriptor*>(op.data.data());
    op.reported = layer_.table_.report(op.first, {into, op.data.size() / sizeof(zone_descriptor)});
    return {};
}

void zone_layer_channel::ask(io_op& op, zone_request::kind what) noexcept {
    static_assert(sizeof(op_request) <= sizeof op.backend_area);
    static_assert(std::is_trivially_destructible_v<op_request>);
    auto& r = *new (op.backend_area.data()) op_request;
    r.what = what;
    if (what == zone_request::kind::manage) r.command = op.zones;
    r.zone = op.first;
    r.home = &home();
    r.op = &op;
    r.answered = [](zone_request& answer) noexcept {
        auto& self = static_cast<op_request&>(answer);
        // A write that has been carried out already is not to be carried out again.
        if (self.status.is(ENOMEM) && self.op->code != opcode::flush &&
            self.op->code != opcode::zone_manage)
            self.layer->ask_keeper(self);
        else
            self.op->complete(self.status);
    };
    layer_.ask_keeper(r);
}

// --- Reads --------------------------------------------------------------------------------------

void zone_layer_channel::submit_read(io_op& op) noexcept {
    const error refused = layer_.table_.admit_read(op.first, op.blocks);
    if (refused.failed()) {
        op.complete(refused);
        return;
    }
    if (layer_.direct_ && layer_.table_.written(op.first, op.blocks) == op.blocks) [[likely]] {
        const lba there = layer_.to_base(op.first);
        if (there != op.first) {
            op.push_layer<&read_came_back>(this);
            op.first = there;
        }
        base_.forward(op);
        return;
    }
    task<void> parts = read_in_parts(op);
    if (parts.valid())
        children().spawn(std::move(parts));
    else
        op.complete(error::posix(ENOMEM));
}

hook_verdict zone_layer_channel::read_came_back(io_op& op, void* context) noexcept {
    auto& self = *static_cast<zone_layer_channel*>(context);
    op.first = self.layer_.from_base(op.first);
    return hook_verdict::done;
}

/// Zone by zone what lies below the write pointer, and zeros above it.
task<void> zone_layer_channel::read_in_parts(io_op& op) {
    const zone_table& table = layer_.table_;
    const std::uint64_t zone_size = layer_.attributes().zoned.zone_size.value();
    error status;
    std::uint64_t done = 0;
    while (done < op.blocks.value() && status.ok()) {
        const lba at = op.first + block_count(done);
        const std::uint64_t n =
            std::min(op.blocks.value() - done, zone_size - at.value() % zone_size);
        const std::uint64_t below = table.written(at, block_count(n)).value();
        const iov_view part = op.data.slice(done << block_shift_, n << block_shift_);
        if (below != 0) {
            const iov_view stored = part.slice(0, below << block_shift_);
            const lba there = layer_.to_base(at);
            result<> got = co_await handle_.read(there, stored);
            if (!got) status = got.error();
        }
        if (below != n)
            part.slice(below << block_shift_, (n - below) << block_shift_).fill(std::byte{0});
        done += n;
    }
    op.complete(status);
}

// --- Writes -------------------------------------------------------------------------------------

zone_write* zone_layer_channel::take_write() noexcept {
    if (spare_ == nullptr) return new (std::nothrow) zone_write;
    zone_write* taken = spare_.release();
    spare_ = std::move(taken->spare);
    return taken;
}

void zone_layer_channel::give_back(zone_write& w) noexcept {
    w.spare = std::move(spare_);
    spare_.reset(&w);
}

void zone_layer_channel::submit_write(io_op& op) noexcept {
    zone_write* const w = take_write();
    if (w == nullptr) {
        op.complete(error::posix(ENOMEM));
        return;
    }
    w->channel = this;
    w->op = &op;
    w->append = op.code == opcode::zone_append;
    w->forced = layer_.journal_ != nullptr && (op.flags & io_op::flag_fua) != 0;
    w->blocks = op.blocks.value();
    w->status = error();
    w->done = false;
    // Its memory comes before the write pointer moves.
    task<void> relayed;
    if (!layer_.direct_) relayed = relay_write(op, *w);
    error refused = layer_.direct_ || relayed.valid() ? error() : error::posix(ENOMEM);
    if (refused.ok()) refused = layer_.admit(*w, op.first);
    if (refused.failed()) {
        give_back(*w);
        op.complete(refused);
        return;
    }
    op.first = layer_.base_of(w->zone) + block_count(w->at);
    if (w->append) op.code = opcode::write;
    // The keeper makes it durable, together with the write pointer.
    if (w->forced) op.flags &= static_cast<std::uint8_t>(~io_op::flag_fua);
    if (!layer_.direct_) {
        children().spawn(std::move(relayed));
        return;
    }
    op.push_layer<&write_came_back>(w);
    base_.forward(op);
}

task<void> zone_layer_channel::relay_write(io_op& op, zone_write& w) {
    result<> written;
    if (op.code == opcode::write_zeroes) {
        written = co_await handle_.write_zeroes(op.first, op.blocks);
    } else {
        const const_iov_view data(op.data);
        const bool forced = (op.flags & io_op::flag_fua) != 0;
        written = co_await handle_.write(op.first, data, forced);
    }
    w.status = written ? error() : written.error();
    layer_.finished(w);
}

hook_verdict zone_layer_channel::write_came_back(io_op& op, void* context) noexcept {
    auto& w = *static_cast<zone_write*>(context);
    w.status = op.status;
    w.channel->layer_.finished(w);
    return hook_verdict::resubmitted;  // acknowledge() lets it go on
}

void zone_layer_channel::acknowledge(zone_write& w) noexcept {
    io_op& op = *w.op;
    const lba start = layer_.table_.start_of(zone_index(w.zone));
    const lba place = start + block_count(w.at);
    op.first = w.append ? start : place;
    if (w.append) op.code = opcode::zone_append;
    if (w.forced) op.flags |= io_op::flag_fua;
    if (w.append && w.status.ok()) op.appended = place;
    op.status = w.status;
    const bool forced = w.forced && w.status.ok();
    give_back(w);
    if (forced)
        ask(op, zone_request::kind::flush);
    else
        home().push(op);
}

}  // namespace nacre
