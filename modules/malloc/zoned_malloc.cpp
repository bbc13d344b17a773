// SPDX-License-Identifier: BSD-3-Clause
#include "modules/malloc/zoned_malloc.hpp"

#include <fmt/format.h>

#include "nacre/bdev/zone_table.hpp"

namespace nacre {
namespace {

constexpr std::uint32_t zoned_operations =
    bit(opcode::read) | bit(opcode::write) | bit(opcode::flush) | bit(opcode::write_zeroes) |
    bit(opcode::compare) | bit(opcode::reset) | bit(opcode::zone_append) |
    bit(opcode::zone_manage) | bit(opcode::zone_report);

class zoned_malloc_bdev final : public bdev {
public:
    zoned_malloc_bdev(bdev_attributes attributes, dma_buffer memory, std::int32_t numa_id)
        : bdev(std::move(attributes)),
          memory_(std::move(memory)),
          numa_id_(numa_id),
          table_(bdev::attributes().zoned,
                 blocks().value() / bdev::attributes().zoned.zone_size.value()) {}

    outcome<std::unique_ptr<module_channel>> make_channel() override;
    json::value configuration() const override {
        const zoned_attributes& z = attributes().zoned;
        json::object params = malloc_parameters(*this, numa_id_);
        params.append("zone_size", z.zone_size.value());
        params.append("zone_capacity", z.zone_capacity.value());
        params.append("max_open_zones", z.open_zones_max);
        params.append("max_active_zones", z.active_zones_max);
        params.append("max_append_blocks", z.append_blocks_max);
        return json::object{{"method", "bdev_malloc_create"}, {"params", std::move(params)}};
    }

private:
    friend class zoned_malloc_channel;
    dma_buffer memory_;
    const std::int32_t numa_id_;
    zone_table table_;
};

class zoned_malloc_channel final : public module_channel {
public:
    explicit zoned_malloc_channel(zoned_malloc_bdev& device) noexcept
        : module_channel(device),
          device_(device),
          table_(device.table_),
          memory_(device.memory_.writable_unchecked().data()),
          block_shift_(static_cast<unsigned>(__builtin_ctzll(device.block_size().value()))) {}

private:
    void submit(io_op& op) noexcept override { op.complete(carry_out(op)); }

    [[nodiscard]] std::byte* at(lba block) const noexcept {
        return memory_ + (block.value() << block_shift_);
    }
    [[nodiscard]] error carry_out(io_op& op) noexcept {
        switch (op.code) {
            case opcode::read:
            case opcode::compare: {
                const error refused = table_.admit_read(op.first, op.blocks);
                if (refused.failed()) return refused;
                if (op.code == opcode::read)
                    op.data.copy_from(at(op.first));
                else if (!op.data.equals(at(op.first)))
                    return error::posix(EILSEQ);
                return {};
            }
            case opcode::write: {
                const error refused = table_.admit_write(op.first, op.blocks);
                if (refused.ok()) op.data.copy_to(at(op.first));
                return refused;
            }
            case opcode::write_zeroes:
                // Blocks above the write pointer are zeros already.
                return table_.admit_write(op.first, op.blocks);
            case opcode::zone_append: {
                const result<lba> place = table_.admit_append(op.first, op.blocks);
                if (!place) return place.error();
                op.data.copy_to(at(*place));
                op.appended = *place;
                return {};
            }
            case opcode::zone_manage:
                return manage(op);
            case opcode::zone_report:
                return report(op);
            case opcode::flush:
            case opcode::reset:
                return {};
            default:
                return error::posix(ENOTSUP);
        }
    }

    [[nodiscard]] error manage(const io_op& op) noexcept {
        const auto clear = [](void* context, zone_index z) noexcept {
            auto& self = *static_cast<zoned_malloc_channel*>(context);
            const std::uint64_t zone_size = self.device_.attributes().zoned.zone_size.value();
            self.device_.memory_.discard_unchecked((z.value() * zone_size) << self.block_shift_,
                                                   zone_size << self.block_shift_);
        };
        return table_.manage(op.zones.action, op.first, op.zones.all, clear, this);
    }

    [[nodiscard]] error report(io_op& op) noexcept {
        if (!op.data.contiguous()) return error::posix(EINVAL);
        auto* const into = reinterpret_cast<zone_descriptor*>(op.data.data());
        op.reported = table_.report(op.first, {into, op.data.size() / sizeof(zone_descriptor)});
        return {};
    }

    zoned_malloc_bdev& device_;
    zone_table& table_;
    std::byte* const memory_;
    const unsigned block_shift_;
};

outcome<std::unique_ptr<module_channel>> zoned_malloc_bdev::make_channel() {
    return std::make_unique<zoned_malloc_channel>(*this);
}

}  // namespace

outcome<> take_zone_options(const malloc_options& o, bdev_attributes& a) {
    const std::uint64_t capacity = o.zone_capacity == 0 ? o.zone_size : o.zone_capacity;
    if (capacity > o.zone_size)
        return fail(EINVAL, fmt::format("{}: a zone_capacity of {} blocks is more than the "
                                        "zone_size, {}",
                                        o.name, capacity, o.zone_size));
    if (o.num_blocks % o.zone_size != 0)
        return fail(EINVAL, fmt::format("{}: {} blocks are not a whole number of zones of {}",
                                        o.name, o.num_blocks, o.zone_size));
    if (o.max_active_zones != 0 && o.max_open_zones > o.max_active_zones)
        return fail(EINVAL, fmt::format("{}: max_open_zones {} is more than max_active_zones {}",
                                        o.name, o.max_open_zones, o.max_active_zones));
    a.zoned = {.zone_size = block_count(o.zone_size),
               .zone_capacity = block_count(capacity),
               .open_zones_max = o.max_open_zones,
               .active_zones_max = o.max_active_zones,
               .append_blocks_max = o.max_append_blocks};
    a.operations = zoned_operations;
    return {};
}

std::shared_ptr<bdev> make_zoned_malloc(bdev_attributes attributes, dma_buffer memory,
                                        std::int32_t numa_id) {
    return std::make_shared<zoned_malloc_bdev>(std::move(attributes), std::move(memory), numa_id);
}

bool is_zoned_malloc(const bdev* device) noexcept {
    return dynamic_cast<const zoned_malloc_bdev*>(device) != nullptr;
}

}  // namespace nacre
