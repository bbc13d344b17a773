// SPDX-License-Identifier: BSD-3-Clause
#include "device.hpp"

#include <algorithm>
#include <bit>

#include "engine.hpp"
#include "home_call.hpp"
#include "nacre/bdev/child_io.hpp"
#include "nacre/core/bytes.hpp"

namespace nacre::detail {
namespace {

class blob_channel final : public module_channel {
public:
    blob_channel(blob_device& device, bdev_channel base)
        : module_channel(device),
          node_(device.node()),
          handle_(std::move(base)),
          base_(handle_.base()),
          cluster_blocks_(node_.engine.blocks_per_cluster()),
          unit_blocks_(node_.engine.super().io_unit_size / node_.engine.block_size()),
          units_(cluster_blocks_ / unit_blocks_),
          shift_(is_power_of_two(units_) ? static_cast<unsigned>(std::countr_zero(units_)) : 64) {}

private:
    static constexpr std::uint32_t writes_ =
        bit(opcode::write) | bit(opcode::write_zeroes) | bit(opcode::unmap);

    [[nodiscard]] std::uint64_t index_of(lba at) const noexcept {
        return shift_ < 64 ? at.value() >> shift_ : at.value() / units_;
    }

    void submit(io_op& op) noexcept override {
        constexpr std::uint32_t data = writes_ | bit(opcode::read);
        if ((bit(op.code) & data) == 0) [[unlikely]]
            return submit_other(op);
        const std::uint64_t index = index_of(op.first);
        const std::uint32_t cluster = (*node_.map)[index];
        const std::uint64_t within = op.first.value() - index * units_;
        constexpr std::uint32_t plain = bit(opcode::read) | bit(opcode::write);
        if (cluster == 0 || (bit(op.code) & plain) == 0 || within + op.blocks.value() > units_ ||
            unit_blocks_ != 1 || (op.code == opcode::write && node_.read_only)) [[unlikely]]
            return submit_slow(op, index, cluster);
        forward_to(op, index, cluster);
    }

    /// It crosses the end of a cluster. Runs of clusters that lie behind each other go in one.
    task<void> carry_out_in_pieces(io_op& op) {
        error status;
        for (std::uint64_t done = 0; done < op.blocks.value() && status.ok();) {
            const std::uint64_t at = op.first.value() + done;
            const std::uint64_t index = at / units_;
            const std::uint64_t left = op.blocks.value() - done;
            const std::uint32_t cluster = (*node_.map)[index];
            std::uint64_t n = std::min(left, units_ - at % units_);
            const bool direct = cluster != 0 && op.code != opcode::unmap && unit_blocks_ == 1 &&
                                (op.code == opcode::read || !node_.read_only);
            for (std::uint64_t i = 1; direct && n < left && (*node_.map)[index + i] == cluster + i;
                 ++i)
                n = std::min(left, n + units_);
            const iov_view data =
                op.data.empty() ? iov_view() : op.data.slice(done * op_bytes(), n * op_bytes());
            module_channel& to = direct ? base_ : *this;
            child_io piece(to, op);
            piece.op().first = direct ? lba(cluster * cluster_blocks_ + at % units_) : lba(at);
            piece.op().blocks = block_count(n);
            piece.op().data = data;
            status = co_await piece;
            done += n;
        }
        op.complete(status);
    }

    /// To the same place in `cluster` of the base.
    void forward_to(io_op& op, std::uint64_t index, std::uint32_t cluster) noexcept {
        const std::uint64_t within = op.first.value() - index * units_;
        const lba place(cluster * cluster_blocks_ + within * unit_blocks_);
        if (unit_blocks_ != 1) [[unlikely]]
            return run(op, carry_out(op, place));
        // An op that met a lack of memory goes down again, so it is put back as it was.
        op.push_layer<&came_back>(reinterpret_cast<void*>(op.first.value()));
        op.first = place;
        base_.forward(op);
    }
    /// Of a store that was made for larger blocks than the base has now.
    task<void> carry_out(io_op& op, lba place) {
        child_io io(base_, op);
        io.op().first = place;
        io.op().blocks = block_count(op.blocks.value() * unit_blocks_);
        const error status = co_await io;
        op.complete(status);
    }
    static hook_verdict came_back(io_op& op, void* first) noexcept {
        op.first = lba(reinterpret_cast<std::uintptr_t>(first));
        return hook_verdict::done;
    }

    void submit_slow(io_op& op, std::uint64_t index, std::uint32_t cluster) noexcept {
        if (op.first.value() - index * units_ + op.blocks.value() > units_)
            return run(op, carry_out_in_pieces(op));
        if (op.code == opcode::read)
            return cluster != 0 ? forward_to(op, index, cluster) : read_through(op, index);
        if (node_.read_only.load(std::memory_order_relaxed)) [[unlikely]]
            return op.complete(error::posix(EROFS));
        if (cluster != 0) {
            const bool whole = op.code == opcode::unmap && op.blocks.value() == units_ &&
                               !node_.has_backing() && node_.meta.thin();
            if (!whole) return forward_to(op, index, cluster);
            return run(op, give_back(op, index));
        }
        // What is not there reads as zeros, or as the parent's: an unmap leaves it so.
        if (op.code == opcode::unmap || (op.code == opcode::write_zeroes && !node_.has_backing()))
            return op.complete();
        run(op, allocate_first(op, index));
    }

    void run(io_op& op, task<void> child) noexcept {
        if (!child.valid()) [[unlikely]]
            return op.complete(error::posix(ENOMEM));
        children().spawn(std::move(child));
    }

    task<void> allocate_first(io_op& op, std::uint64_t index) {
        result<> there =
            co_await at_home<&blob_engine::allocate>(node_.engine, across<blob_node>(node_), index);
        if (there)
            forward_to(op, index, (*node_.map)[index]);
        else
            op.complete(there.error());
    }

    task<void> give_back(io_op& op, std::uint64_t index) {
        result<bool> given =
            co_await at_home<&blob_engine::release>(node_.engine, across<blob_node>(node_), index);
        const std::uint32_t cluster = (*node_.map)[index];
        if (given && !*given && cluster != 0)
            forward_to(op, index, cluster);
        else
            op.complete(given ? error() : given.error());
    }

    /// A read of an unallocated cluster: the nearest ancestor that has it.
    void read_through(io_op& op, std::uint64_t index) noexcept {
        const blob_node* n = &node_;
        for (; n->parent != nullptr; n = n->parent.get()) {
            const cluster_map& map = *n->parent->map;
            // A child that was grown past its parent has zeros there.
            if (index >= map.size()) break;
            if (const std::uint32_t cluster = map[index]; cluster != 0)
                return forward_to(op, index, cluster);
        }
        if (n->external != nullptr) return read_external(op, *n->external);
        op.data.fill(std::byte{0});
        op.complete();
    }

    /// Past its end there are zeros.
    void read_external(io_op& op, external_base& external) noexcept {
        bdev& device = external.desc.device();
        const std::uint64_t ratio = op_bytes() / device.block_size().value();
        const std::uint64_t first = op.first.value() * ratio;
        const std::uint64_t n = op.blocks.value() * ratio;
        const std::uint64_t all = device.blocks().value();
        if (first >= all) {
            op.data.fill(std::byte{0});
            return op.complete();
        }
        if (external_of_ != &external) {
            outcome<bdev_channel> opened = external.desc.open_channel();
            if (!opened) return op.complete(opened.error().code);
            external_ = std::move(*opened);
            external_of_ = &external;
        }
        run(op, read_of(op, first, std::min(n, all - first)));
    }
    task<void> read_of(io_op& op, std::uint64_t first, std::uint64_t n) {
        const std::size_t bytes = n * external_.device().block_size().value();
        op.data.slice(bytes, op.data.size() - bytes).fill(std::byte{0});
        const iov_view part = op.data.slice(0, bytes);
        result<> done = co_await external_.read(lba(first), part);
        op.complete(done ? error() : done.error());
    }

    void submit_other(io_op& op) noexcept {
        switch (op.code) {
            case opcode::flush:
                return base_.forward(op);
            case opcode::seek_data:
            case opcode::seek_hole:
                return seek(op);
            default:
                return op.complete();  // reset: what is outstanding is waited for
        }
    }

    /// By the blob's own map, not its parents'.
    void seek(io_op& op) noexcept {
        const cluster_map& map = *node_.map;
        for (std::uint64_t i = index_of(op.first); i < map.size(); ++i) {
            if ((map[i] != 0) != (op.code == opcode::seek_data)) continue;
            op.found = std::max(op.first.value(), i * units_);
            return op.complete();
        }
        op.found = UINT64_MAX;
        op.complete();
    }

    [[nodiscard]] std::uint64_t op_bytes() const noexcept {
        return node_.engine.super().io_unit_size;
    }

    blob_node& node_;
    bdev_channel handle_;
    module_channel& base_;
    const std::uint64_t cluster_blocks_;  // of the base
    const std::uint64_t unit_blocks_;     // of the base, in an io unit
    const std::uint64_t units_;           // in a cluster
    const unsigned shift_;                // 64: units_ is no power of two
    external_base* external_of_ = nullptr;
    bdev_channel external_;
};

}  // namespace

bdev_attributes blob_device::attributes_of(const blob_node& node) {
    blob_engine& engine = node.engine;
    const bdev_attributes& below = engine.base().device().attributes();
    const std::uint64_t units = engine.super().cluster_size / engine.super().io_unit_size;
    bdev_attributes a;
    a.derive_from(below);
    a.name = "blob " + to_string(node.id) + " on " + below.name;
    a.product_name = "Blob";
    a.aliases.clear();
    a.id = {};
    a.block_size = byte_count(engine.super().io_unit_size);
    a.blocks = block_count(node.map->size() * units);
    a.optimal_boundary = block_count(units);
    a.boundary_optional = true;  // most ops do not cross it, and it is cheaper to look here
    a.write_unit = block_count(1);
    a.operations = bit(opcode::read) | bit(opcode::write) | bit(opcode::write_zeroes) |
                   bit(opcode::seek_data) | bit(opcode::seek_hole) | bit(opcode::reset) |
                   (below.operations & (bit(opcode::flush) | bit(opcode::unmap)));
    return a;
}

outcome<std::unique_ptr<module_channel>> blob_device::make_channel() {
    outcome<bdev_channel> base = node_->engine.base().open_channel();
    if (!base) return fail(std::move(base.error()));
    return std::make_unique<blob_channel>(*this, std::move(*base));
}

task<void> blob_device::set_clusters(std::uint64_t clusters) {
    const std::uint64_t units =
        node_->engine.super().cluster_size / node_->engine.super().io_unit_size;
    return resized(block_count(clusters * units));
}

}  // namespace nacre::detail
