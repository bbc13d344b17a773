// SPDX-License-Identifier: BSD-3-Clause
#include "device.hpp"

#include <algorithm>
#include <bit>

#include "engine.hpp"
#include "nacre/bdev/child_io.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/runtime/home_call.hpp"

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
          op_bytes_(node_.engine.io_unit_size()),
          unit_blocks_(op_bytes_ / node_.engine.block_size()),
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
        // A layer's op that waited while the blob was made smaller.
        if (op.first.value() + op.blocks.value() > node_.map->size() * units_) [[unlikely]]
            return op.complete(error::posix(ERANGE));
        const std::uint32_t cluster = (*node_.map)[index];
        const std::uint64_t within = op.first.value() - index * units_;
        constexpr std::uint32_t plain = bit(opcode::read) | bit(opcode::write);
        if (cluster == 0 || (bit(op.code) & plain) == 0 || within + op.blocks.value() > units_ ||
            unit_blocks_ != 1 || (op.code == opcode::write && node_.read_only)) [[unlikely]]
            return submit_slow(op, index, cluster);
        forward_to(op, index, cluster);
    }

    /// It crosses the end of a cluster. Runs of clusters that lie behind each other go in one. The
    /// pieces do not pass the doors of the channel again: who waits there for the op to come back
    /// would wait for ever. Of each cluster the map is looked at once: an unmap may take it away at
    /// any time, but nobody else gets it before the op has ended.
    task<void> carry_out_in_pieces(io_op& op) {
        error status;
        for (std::uint64_t done = 0; done < op.blocks.value() && status.ok();) {
            const std::uint64_t at = op.first.value() + done;
            const std::uint64_t index = at / units_;
            const std::uint64_t left = op.blocks.value() - done;
            const std::uint32_t cluster = (*node_.map)[index];
            std::uint64_t n = std::min(left, units_ - at % units_);
            const bool run = cluster != 0 && op.code != opcode::unmap;
            for (std::uint64_t i = 1; run && n < left && (*node_.map)[index + i] == cluster + i;
                 ++i)
                n = std::min(left, n + units_);
            const iov_view data =
                op.data.empty() ? iov_view() : op.data.slice(done * op_bytes(), n * op_bytes());
            result<> carried = co_await carry_out_piece(op, cluster, lba(at), n, data);
            if (!carried) status = carried.error();
            done += n;
        }
        op.complete(status);
    }

    /// Of one cluster, or of clusters that are allocated in a row from `cluster` on.
    task<result<>> carry_out_piece(const io_op& op, std::uint32_t cluster, lba at, std::uint64_t n,
                                   iov_view data) {
        const std::uint64_t index = at.value() / units_;
        if (op.code != opcode::read && node_.read_only) co_return fail(EROFS);
        if (op.code == opcode::read && cluster == 0) {
            const ancestor from = ancestor_of(index);
            cluster = from.cluster;
            if (cluster == 0 && from.external != nullptr) {
                result<> read = co_await read_external(*from.external, at, data);
                co_return read;
            }
            if (cluster == 0) {
                data.fill(std::byte{0});
                co_return result<>();
            }
        }
        const bool zeros =
            op.code == opcode::unmap || (op.code == opcode::write_zeroes && !node_.has_backing());
        if (cluster == 0 && zeros) co_return result<>();
        if (cluster == 0) {
            result<std::uint32_t> there = co_await at_home<&blob_engine::allocate>(
                node_.engine, across<blob_node>(node_), index);
            if (!there) co_return fail(there.error());
            cluster = *there;
        }
        if (op.code == opcode::unmap && n == units_ && can_give_back()) {
            result<bool> given = co_await at_home<&blob_engine::release>(
                node_.engine, across<blob_node>(node_), index);
            if (!given) co_return fail(given.error());
            if (*given) co_return result<>();
        }
        child_io piece(base_, op);
        piece.op().first = place_of(at, index, cluster);
        piece.op().blocks = block_count(n * unit_blocks_);
        piece.op().data = data;
        const error status = co_await piece;
        if (status.failed()) co_return fail(status);
        co_return result<>();
    }

    [[nodiscard]] lba place_of(lba at, std::uint64_t index, std::uint32_t cluster) const noexcept {
        return lba(cluster * cluster_blocks_ + (at.value() - index * units_) * unit_blocks_);
    }
    [[nodiscard]] bool can_give_back() const noexcept {
        return !node_.has_backing();  // and thin, as release() looks
    }

    /// To the same place in `cluster` of the base.
    void forward_to(io_op& op, std::uint64_t index, std::uint32_t cluster) noexcept {
        // An op that met a lack of memory goes down again, so it is put back as it was.
        op.push_layer<&came_back>(reinterpret_cast<void*>(op.first.value()));
        op.first = place_of(op.first, index, cluster);
        base_.forward(op);
    }
    static hook_verdict came_back(io_op& op, void* first) noexcept {
        op.first = lba(reinterpret_cast<std::uintptr_t>(first));
        return hook_verdict::done;
    }

    void submit_slow(io_op& op, std::uint64_t index, std::uint32_t cluster) noexcept {
        const bool crosses = op.first.value() - index * units_ + op.blocks.value() > units_;
        if (crosses || unit_blocks_ != 1) return run(op, carry_out_in_pieces(op));
        if (op.code == opcode::read) return read_through(op, index, cluster);
        if (node_.read_only.load(std::memory_order_relaxed)) [[unlikely]]
            return op.complete(error::posix(EROFS));
        if (cluster != 0) {
            const bool whole =
                op.code == opcode::unmap && op.blocks.value() == units_ && can_give_back();
            return whole ? run(op, carry_out_in_pieces(op)) : forward_to(op, index, cluster);
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
        result<std::uint32_t> there =
            co_await at_home<&blob_engine::allocate>(node_.engine, across<blob_node>(node_), index);
        if (there)
            forward_to(op, index, *there);
        else
            op.complete(there.error());
    }

    struct ancestor {
        std::uint32_t cluster = 0;
        external_base* external = nullptr;  ///< of an unallocated one
    };
    /// The nearest that has the cluster.
    [[nodiscard]] ancestor ancestor_of(std::uint64_t index) const noexcept {
        const blob_node* n = &node_;
        for (; n->parent != nullptr; n = n->parent.get()) {
            const cluster_map& map = *n->parent->map;
            // A child that was grown past its parent has zeros there.
            if (index >= map.size()) return {};
            if (const std::uint32_t cluster = map[index]; cluster != 0) return {cluster, nullptr};
        }
        return {0, n->external.get()};
    }

    void read_through(io_op& op, std::uint64_t index, std::uint32_t cluster) noexcept {
        ancestor from{cluster, nullptr};
        if (cluster == 0) from = ancestor_of(index);
        if (from.cluster != 0) return forward_to(op, index, from.cluster);
        if (from.external != nullptr) return run(op, carry_out_in_pieces(op));
        op.data.fill(std::byte{0});
        op.complete();
    }

    /// Past its end there are zeros.
    task<result<>> read_external(external_base& external, lba at, iov_view data) {
        if (!external.desc.is_open()) co_return fail(ENODEV);
        bdev& device = external.desc.device();
        const std::uint64_t block = device.block_size().value();
        const std::uint64_t first = at.value() * op_bytes() / block;
        const std::uint64_t all = std::max(device.blocks().value(), first);
        const std::size_t there = std::min<std::uint64_t>(data.size(), (all - first) * block);
        data.slice(there, data.size() - there).fill(std::byte{0});
        if (there == 0) co_return result<>();
        if (external_of_ != &device) {
            outcome<bdev_channel> opened = external.desc.open_channel();
            if (!opened) co_return fail(opened.error().code);
            external_ = std::move(*opened);
            external_of_ = &device;
        }
        const iov_view part = data.slice(0, there);
        result<> done = co_await external_.read(lba(first), part);
        co_return done;
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

    /// Whether a read of the cluster finds anything but zeros, as far as maps tell.
    [[nodiscard]] bool may_hold_data(std::uint64_t index) const noexcept {
        for (const blob_node* n = &node_; n != nullptr; n = n->parent.get()) {
            if (index >= n->map->size()) return false;
            if ((*n->map)[index] != 0 || n->external != nullptr) return true;
        }
        return false;
    }
    /// With what is its parents': who copies a clone by this must not miss it. The blob's own is
    /// blob::next_allocated's.
    void seek(io_op& op) noexcept {
        const std::uint64_t size = node_.map->size();
        for (std::uint64_t i = index_of(op.first); i < size; ++i) {
            if (may_hold_data(i) != (op.code == opcode::seek_data)) continue;
            op.found = std::max(op.first.value(), i * units_);
            return op.complete();
        }
        op.found = UINT64_MAX;
        op.complete();
    }

    [[nodiscard]] std::uint64_t op_bytes() const noexcept { return op_bytes_; }

    blob_node& node_;
    bdev_channel handle_;
    module_channel& base_;
    const std::uint64_t cluster_blocks_;  // of the base
    const std::uint64_t op_bytes_;        // an io unit
    const std::uint64_t unit_blocks_;     // of the base, in an io unit
    const std::uint64_t units_;           // in a cluster
    const unsigned shift_;                // 64: units_ is no power of two
    bdev* external_of_ = nullptr;         // which external_ keeps alive
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

void blob_device::note_sizes() noexcept {
    if (cluster_bytes_ != 0) return;
    cluster_bytes_ = node_->engine.super().cluster_size;
    unit_bytes_ = node_->engine.super().io_unit_size;
}

bool blob_device::prepare_direct_reads() {
    reader_ = node_->engine.base().open_reader();
    note_sizes();
    return reader_.is_open();
}

bool blob_device::prepare_direct_writes() {
    writer_ = node_->engine.base().open_writer();
    note_sizes();
    return writer_.is_open();
}

task<void> blob_device::close() {
    reader_ = {};
    writer_ = {};
    co_return;
}

template <typename Bytes, typename F>
result<> blob_device::directly(lba first, Bytes bytes, F carry_out) const noexcept {
    const std::uint64_t block_bytes = node_->engine.block_size();
    const cluster_map& map = *node_->map;  // not replaced while somebody is within
    const std::uint64_t begin = first.value() * unit_bytes_;
    for (std::uint64_t at = begin; !bytes.empty();) {
        const std::uint64_t index = at / cluster_bytes_;
        const std::uint32_t cluster = index < map.size() ? map[index] : 0;
        std::uint64_t n = cluster_bytes_ - at % cluster_bytes_;
        for (std::uint64_t i = index + 1;
             n < bytes.size() && i < map.size() && map[i] == cluster + (i - index); ++i)
            n += cluster_bytes_;
        n = std::min<std::uint64_t>(n, bytes.size());
        const std::uint64_t place = cluster * cluster_bytes_ + at % cluster_bytes_;
        result<> done = fail(EAGAIN);
        if (cluster != 0) done = carry_out(lba(place / block_bytes), bytes.first(n));
        if (!done && at != begin) return fail(EIO);  // in part
        if (!done) return done;
        at += n;
        bytes = bytes.subspan(n);
    }
    return {};
}

bool blob_device::read_directly(lba first, std::span<std::byte> into) noexcept {
    const auto read = [this](lba place, std::span<std::byte> part) noexcept -> result<> {
        if (!reader_.read(place, part)) return fail(EAGAIN);
        return {};
    };
    return directly(first, into, read).has_value();
}

result<> blob_device::write_directly(lba first, std::span<const std::byte> from) noexcept {
    if (node_->read_only) return fail(EAGAIN);
    const auto write = [this](lba place, std::span<const std::byte> part) noexcept {
        return writer_.write(place, part);
    };
    return directly(first, from, write);
}

task<void> blob_device::set_clusters(std::uint64_t clusters) {
    const std::uint64_t units =
        node_->engine.super().cluster_size / node_->engine.super().io_unit_size;
    return resized(block_count(clusters * units));
}

}  // namespace nacre::detail
