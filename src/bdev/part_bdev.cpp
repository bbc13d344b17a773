// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/bdev/part_bdev.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "nacre/core/assert.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/runtime/sleep.hpp"

namespace nacre {
namespace {

class part_channel final : public module_channel {
public:
    part_channel(part_bdev& device, bdev_channel base)
        : module_channel(device),
          handle_(std::move(base)),
          base_(handle_.base()),
          offset_(device.first().value()) {}

private:
    void submit(io_op& op) noexcept override {
        op.push_layer<&came_back>(this);
        op.first += block_count(offset_);
        if (op.code == opcode::copy) [[unlikely]]
            op.source += block_count(offset_);
        base_.forward(op);
    }

    /// An op that met a lack of memory goes down again, so it is put back as it was.
    static hook_verdict came_back(io_op& op, void* context) noexcept {
        const auto& self = *static_cast<const part_channel*>(context);
        op.first = lba(op.first.value() - self.offset_);
        if ((bit(op.code) & special_) != 0) [[unlikely]]
            self.put_back(op);
        return hook_verdict::done;
    }

    [[gnu::noinline]] void put_back(io_op& op) const noexcept {
        if (op.code == opcode::copy) {
            op.source = lba(op.source.value() - offset_);
            return;
        }
        // What was looked for may lie behind the part's end.
        if (op.status.failed() || op.found == UINT64_MAX) return;
        op.found -= offset_;
        if (op.found >= device().blocks().value()) op.found = UINT64_MAX;
    }

    void request_abort(io_op& op) noexcept override { base_.request_abort(op); }

    static constexpr std::uint32_t special_ =
        bit(opcode::copy) | bit(opcode::seek_data) | bit(opcode::seek_hole);
    bdev_channel handle_;
    module_channel& base_;
    const std::uint64_t offset_;
};

}  // namespace

// --- The base -----------------------------------------------------------------------------------

outcome<std::shared_ptr<part_base>> part_base::open(bdev_registry& registry,
                                                    std::string_view base_name,
                                                    std::string_view claimer) {
    outcome<bdev_desc> desc = registry.open(base_name, access::write);
    if (!desc) return fail(std::move(desc.error()));
    if (desc->device().attributes().is_zoned())
        return fail(ENOTSUP, fmt::format("{}: a zoned bdev is not cut into parts", base_name));
    outcome<> claimed = desc->take_claim(claim::exclusive_write, std::string(claimer));
    if (!claimed) return fail(std::move(claimed.error()));
    return std::make_shared<part_base>(registry, std::move(*desc));
}

part_base::part_base(bdev_registry& registry, bdev_desc base)
    : registry_(registry), desc_(std::move(base)), name_(desc_.device().name()) {
    desc_.set_listener(this);
}

void part_base::left(part_bdev& part) noexcept {
    std::erase(parts_, &part);
    if (!parts_.empty()) return;
    desc_.close();
    empty_.set();
}

task<void> part_base::remove_parts() {
    const std::shared_ptr<part_base> self = shared_from_this();
    std::vector<std::string> names;
    for (const part_bdev* part : parts_) names.push_back(part->name());
    for (std::string& part : names) {
        outcome<> removed = co_await registry_.remove(std::move(part));
        (void)removed;  // ENODEV: somebody else is at it
    }
    while (!parts_.empty()) {
        result<> waited = co_await empty_.wait();
        if (!waited) co_await yield();  // asked to stop, but it cannot be left half-way
    }
}

/// Each part hears of what lies in it, by its own addresses.
void part_base::base_media_events(bdev&, std::span<const media_event> events) {
    const std::vector<part_bdev*> parts = parts_;
    for (part_bdev* part : parts) {
        std::vector<media_event> inside;
        for (const media_event& e : events) {
            const lba first = std::max(e.first, part->first());
            const lba end = std::min(e.first + e.blocks, part->first() + part->blocks());
            if (first >= end) continue;
            inside.push_back({lba(first.value() - part->first().value()),
                              block_count(end.value() - first.value())});
        }
        if (!inside.empty()) (void)part->post_media_events(inside);
    }
}

task<void> part_base::base_removed(bdev&) { co_await remove_parts(); }

// --- A part -------------------------------------------------------------------------------------

bdev_attributes part_bdev::attributes_of(const bdev& base, lba first, block_count count) {
    bdev_attributes a;
    a.derive_from(base.attributes());
    a.blocks = count;
    std::array<std::byte, 8> place;
    store_le<std::uint64_t>(place.data(), first.value());
    a.id = uuid::from_name(base.attributes().id,
                           {reinterpret_cast<const char*>(place.data()), place.size()});
    // A boundary of the base is none of a part that begins between two.
    if (const std::uint64_t boundary = a.optimal_boundary.value();
        boundary != 0 && first.value() % boundary != 0)
        a.optimal_boundary = block_count();
    return a;
}

part_bdev::part_bdev(bdev_attributes attributes, std::shared_ptr<part_base> base, lba first)
    : bdev(std::move(attributes)),
      base_(std::move(base)),
      base_name_(base_->name()),
      first_(first) {
    const std::uint64_t all = base_->device().blocks().value();
    NACRE_ASSERT(first.value() % bdev::attributes().write_unit.value() == 0);
    NACRE_ASSERT(first.value() <= all && blocks().value() <= all - first.value());
    base_->joined(*this);
}

part_bdev::~part_bdev() {
    // One that could not be registered was never closed.
    if (base_ != nullptr) base_->left(*this);
}

outcome<std::unique_ptr<module_channel>> part_bdev::make_channel() {
    outcome<bdev_channel> base = base_->desc_.open_channel();
    if (!base) return fail(std::move(base.error()));
    return std::make_unique<part_channel>(*this, std::move(*base));
}

bool part_bdev::prepare_direct_reads() {
    reader_ = base_->desc_.open_reader();
    return reader_.is_open();
}

bool part_bdev::read_directly(lba first, std::span<std::byte> into) noexcept {
    return reader_.read(first + block_count(first_.value()), into);
}

bool part_bdev::prepare_direct_writes() {
    writer_ = base_->desc_.open_writer();
    return writer_.is_open();
}

result<> part_bdev::write_directly(lba first, std::span<const std::byte> from) noexcept {
    return writer_.write(first + block_count(first_.value()), from);
}

task<void> part_bdev::close() {
    reader_ = {};
    writer_ = {};
    std::exchange(base_, nullptr)->left(*this);
    co_return;
}

}  // namespace nacre
