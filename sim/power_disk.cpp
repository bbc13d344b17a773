// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/sim/power_disk.hpp"

#include "nacre/core/assert.hpp"

namespace nacre::sim {
namespace {

class power_channel final : public module_channel {
public:
    using module_channel::module_channel;

private:
    void submit(io_op& op) noexcept override { static_cast<power_disk&>(device()).carry_out(op); }
};

bdev_attributes attributes_of(const power_disk_options& o) {
    bdev_attributes a;
    a.name = o.name;
    a.product_name = "Disk whose power fails";
    a.block_size = byte_count(power_block_bytes);
    a.blocks = block_count(o.blocks);
    a.write_cache = true;
    a.operations = bit(opcode::read) | bit(opcode::write) | bit(opcode::write_zeroes) |
                   bit(opcode::flush) | bit(opcode::unmap);
    return a;
}

}  // namespace

power_disk::power_disk(power_disk_options options)
    : bdev(attributes_of(options)),
      durable_(std::move(options.image)),
      dice_(options.seed),
      cut_at_(options.cut_at) {}

outcome<std::unique_ptr<module_channel>> power_disk::make_channel() {
    return std::make_unique<power_channel>(*this);
}

bool power_disk::is_cut() const {
    const std::lock_guard guard(mutex_);
    return cut_;
}

void power_disk::cut() {
    const std::lock_guard guard(mutex_);
    lose_power();
}

std::uint64_t power_disk::operations() const {
    const std::lock_guard guard(mutex_);
    return operations_;
}

power_image power_disk::image() const {
    const std::lock_guard guard(mutex_);
    NACRE_ASSERT(cut_);
    return durable_;
}

power_disk::block_pointer power_disk::current(std::uint64_t block) const {
    if (const auto found = cached_.find(block); found != cached_.end()) return found->second.back();
    const auto found = durable_.find(block);
    return found == durable_.end() ? nullptr : found->second;
}

void power_disk::read(std::uint64_t first, const iov_view& into) const {
    for (std::uint64_t i = 0; i < into.size() / power_block_bytes; ++i) {
        const block_pointer from = current(first + i);
        const iov_view part = into.slice(i * power_block_bytes, power_block_bytes);
        if (from == nullptr)
            part.fill(std::byte{0});
        else
            part.copy_from(from->data());
    }
}

void power_disk::put(const change& c, bool in_part) {
    for (std::uint64_t i = 0; i < c.blocks; ++i) {
        if (in_part && dice_.below(2) == 0) continue;
        block_pointer now;
        if (c.what == opcode::write) {
            auto made = std::make_shared<power_block>();
            c.data.slice(i * power_block_bytes, power_block_bytes).copy_to(made->data());
            now = std::move(made);
        }
        cached_[c.first + i].push_back(std::move(now));
        if (!c.durable || in_part) continue;
        // It is on the disk for good, whatever becomes of what was in the cache before.
        durable_[c.first + i] = std::move(cached_[c.first + i].back());
        cached_.erase(c.first + i);
    }
}

/// The last of each reaches the disk.
void power_disk::settle() {
    for (auto& [block, versions] : cached_) durable_[block] = std::move(versions.back());
    cached_.clear();
}

/// Any of each does, or none.
void power_disk::lose_power() {
    if (cut_) return;
    cut_ = true;
    for (auto& [block, versions] : cached_) {
        const std::uint64_t which = dice_.below(versions.size() + 1);
        if (which != 0) durable_[block] = std::move(versions[which - 1]);
    }
    cached_.clear();
}

error power_disk::make(const change& c) {
    if (!cut_ && operations_++ == cut_at_) {
        if (c.what != opcode::flush) put(c, true);
        lose_power();
    }
    if (cut_) return error::posix(EIO);
    if (c.what == opcode::flush)
        settle();
    else
        put(c, false);
    return {};
}

void power_disk::carry_out(io_op& op) noexcept {
    error status;
    {
        const std::lock_guard guard(mutex_);
        if (op.code != opcode::read)
            status = make({op.code, op.first.value(), op.blocks.value(), op.data});
        else if (cut_)
            status = error::posix(EIO);
        else
            read(op.first.value(), op.data);
    }
    op.complete(status);
}

bool power_disk::read_directly(lba first, std::span<std::byte> into) noexcept {
    const std::lock_guard guard(mutex_);
    if (cut_) return false;
    read(first.value(), iov_view(into));
    return true;
}

result<> power_disk::write_directly(lba first, std::span<const std::byte> from) noexcept {
    const std::lock_guard guard(mutex_);
    const error status = make({opcode::write, first.value(), from.size() / power_block_bytes,
                               const_iov_view(from).borrowed(), true});
    if (status.failed()) return fail(status);
    return {};
}

}  // namespace nacre::sim
