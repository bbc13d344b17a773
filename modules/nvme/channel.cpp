// SPDX-License-Identifier: BSD-3-Clause
#include "channel.hpp"

#include <algorithm>

#include "nacre/core/bytes.hpp"

namespace nacre {
namespace {

// Where an opcode says that data go, Base 3.1.3.4: bits 1:0.
constexpr bool to_device(std::uint8_t opcode) noexcept { return (opcode & 1) != 0; }
constexpr bool from_device(std::uint8_t opcode) noexcept { return (opcode & 2) != 0; }

constexpr error compare_failure = error::nvme(2, 0x85);
constexpr std::uint64_t range_blocks_max = UINT32_MAX;  // of Dataset Management
constexpr std::size_t report_bytes_max = 65536;

}  // namespace

struct nvme_channel::slot : nvme::kernel_request {
    nvme_channel* channel = nullptr;
    io_op* op = nullptr;
    slot* next_free = nullptr;
    std::uint8_t opcode = 0;      // of the command that is under way
    std::uint64_t done = 0;       // blocks, or zones of a report
    std::uint64_t under_way = 0;  // blocks of the piece
    nvme::dataset_range range;    // what the device reads
    pooled_buffer bounce;
};

nvme_channel::nvme_channel(bdev& device, const nvme_device& state, reserved_buffers buffers,
                           std::unique_ptr<nvme::kernel_queue> queue)
    : module_channel(device),
      state_(state),
      buffers_(std::move(buffers)),
      block_bytes_(device.block_size().value()),
      metadata_bytes_(device.attributes().metadata_size),
      queue_(std::move(queue)),
      slots_(slot_count) {
    for (slot& s : slots_) {
        s.channel = this;
        s.run = [](work& w) noexcept {
            auto& self = static_cast<slot&>(static_cast<io_request&>(w));
            self.channel->came_back(self);
        };
        s.next_free = std::exchange(free_, &s);
    }
    const std::uint64_t blocks = device.attributes().transfer_bytes_max / block_bytes_;
    no_metadata_.resize(2 * blocks * metadata_bytes_);
}

nvme_channel::~nvme_channel() = default;

void nvme_channel::submit(io_op& op) noexcept {
    if (free_ == nullptr) return op.complete(error::posix(ENOMEM));
    slot& s = *std::exchange(free_, free_->next_free);
    s.op = &op;
    s.done = 0;
    if (const error e = start(s); e.failed()) {
        release(s);
        op.complete(e);
    }
}

error nvme_channel::start(slot& s) noexcept {
    const io_op& op = *s.op;
    switch (op.code) {
        case opcode::read:
            return start_transfer(s, nvme::io::read);
        case opcode::write:
            return start_transfer(s, nvme::io::write);
        case opcode::compare:
            return start_transfer(s, nvme::io::compare);
        case opcode::zone_append:
            return start_transfer(s, nvme::io::zone_append);
        case opcode::unmap:
        case opcode::write_zeroes:
            return start_piece(s);
        case opcode::zone_report:
            return start_report(s);
        case opcode::nvme_admin:
        case opcode::nvme_io:
            return start_raw(s);
        case opcode::zone_manage:
            return send(s, nvme::manage_zone(state_.nsid, op.first.value(), op.zones), {});
        case opcode::flush: {
            nvme_command flush;
            flush.opcode = nvme::io::flush;
            flush.nsid = state_.nsid;
            return send(s, flush, {});
        }
        default:
            return error::posix(ENOTSUP);
    }
}

error nvme_channel::start_transfer(slot& s, std::uint8_t code) noexcept {
    const io_op& op = *s.op;
    nvme_command c = nvme::on_blocks(code, state_.nsid, op.first.value(), op.blocks.value());
    if ((op.flags & io_op::flag_fua) != 0) c.cdw12 |= nvme::force_unit_access;
    nvme::kernel_data d;
    if (metadata_bytes_ != 0) {
        d.metadata_bytes = op.blocks.value() * metadata_bytes_;
        const bool given = (op.flags & io_op::flag_metadata) != 0;
        std::byte* const none =
            no_metadata_.data() + (from_device(code) ? no_metadata_.size() / 2 : 0);
        d.metadata = given ? op.metadata : none;
    }
    return send(s, c, d);
}

error nvme_channel::start_piece(slot& s) noexcept {
    const io_op& op = *s.op;
    const std::uint64_t first = op.first.value() + s.done;
    const std::uint64_t left = op.blocks.value() - s.done;
    if (op.code == opcode::write_zeroes) {
        s.under_way = std::min(left, nvme::transfer_blocks_max);
        return send(s, nvme::on_blocks(nvme::io::write_zeroes, state_.nsid, first, s.under_way),
                    {});
    }
    s.under_way = std::min(left, range_blocks_max);
    s.range = {0, static_cast<std::uint32_t>(s.under_way), first};
    return send(s, nvme::deallocate(state_.nsid), {.data = &s.range, .data_bytes = sizeof s.range});
}

error nvme_channel::start_report(slot& s) noexcept {
    const io_op& op = *s.op;
    const std::uint64_t zone = device().attributes().zoned.zone_size.value();
    const std::uint64_t first = op.first.value() / zone + s.done;
    const std::uint64_t zones = op.data.size() / sizeof(zone_descriptor) - s.done;
    if (!op.data.contiguous() || zones == 0) return error::posix(EINVAL);
    const std::size_t bytes = std::min<std::uint64_t>(
        nvme::zone_report_head_bytes + zones * nvme::zone_descriptor_bytes,
        std::min<std::uint64_t>(report_bytes_max, device().attributes().transfer_bytes_max));
    if (s.bounce.empty()) s.bounce = buffers_.try_acquire(bytes);
    if (s.bounce.empty()) return error::posix(ENOMEM);
    return send(s, nvme::report_zones(state_.nsid, first * zone, bytes),
                {.data = s.bounce.data(), .data_bytes = bytes});
}

error nvme_channel::start_raw(slot& s) noexcept {
    const nvme_exchange& x = *s.op->nvme;
    nvme_command c = x.command;
    if (s.op->code == opcode::nvme_io && c.nsid == 0) c.nsid = state_.nsid;
    return send(
        s, c,
        {.metadata = x.metadata, .metadata_bytes = x.metadata_bytes, .timeout_ms = x.timeout_ms});
}

error nvme_channel::send(slot& s, const nvme_command& command, nvme::kernel_data d) noexcept {
    const io_op& op = *s.op;
    s.opcode = command.opcode;
    if (d.data == nullptr && !op.data.empty()) {
        d.data_bytes = op.data.size();
        d.data = op.data.data();
        if (!op.data.contiguous()) {
            if (d.data_bytes > buffer_pool::bytes_max) return error::posix(EINVAL);
            s.bounce = buffers_.try_acquire(d.data_bytes);
            if (s.bounce.empty()) return error::posix(ENOMEM);
            if (to_device(s.opcode)) op.data.copy_to(s.bounce.data());
            d.data = s.bounce.data();
        }
    }
    const bool to_controller = op.code == opcode::nvme_admin;
    s.prepare(to_controller ? state_.admin_fd : state_.io_fd, op.code, command, d);
    queue_->submit(s);
    return {};
}

void nvme_channel::came_back(slot& s) noexcept {
    io_op& op = *s.op;
    error status = s.status();
    const bool answered = status.ok() || status.domain() == error_domain::nvme;
    if ((raw_opcodes & bit(op.code)) != 0 && answered) op.nvme->completion = s.completion();
    if (status.ok() && !advance(s)) {
        status = start(s);
        if (status.ok()) return;
    }
    if (op.code == opcode::compare && status == compare_failure) status = error::posix(EILSEQ);
    release(s);
    // From the ready list, where the request has just been run: the op need not go there again.
    op.status = status;
    op.run(op);
}

bool nvme_channel::advance(slot& s) noexcept {
    io_op& op = *s.op;
    switch (op.code) {
        case opcode::unmap:
        case opcode::write_zeroes:
            s.done += s.under_way;
            return s.done == op.blocks.value();
        case opcode::zone_append:
            op.appended = lba(s.offset);
            return true;
        case opcode::zone_report: {
            auto* const zones = reinterpret_cast<zone_descriptor*>(op.data.data());
            const std::span into(zones, op.data.size() / sizeof(zone_descriptor));
            const std::size_t found =
                nvme::parse_zone_report(s.bounce.bytes(), into.subspan(s.done));
            s.done += found;
            op.reported = s.done;
            const zoned_attributes& z = device().attributes().zoned;
            const std::uint64_t behind = op.first.value() / z.zone_size.value() + s.done;
            return found == 0 || s.done == into.size() ||
                   behind * z.zone_size.value() >= device().blocks().value();
        }
        default:
            if (!s.bounce.empty() && from_device(s.opcode)) op.data.copy_from(s.bounce.data());
            return true;
    }
}

void nvme_channel::release(slot& s) noexcept {
    s.bounce.reset();
    s.next_free = std::exchange(free_, &s);
}

}  // namespace nacre
