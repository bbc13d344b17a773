// SPDX-License-Identifier: BSD-3-Clause
#include "modules/malloc/malloc.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "modules/malloc/metadata_malloc.hpp"
#include "modules/malloc/zoned_malloc.hpp"
#include "nacre/memory/dma_buffer.hpp"

namespace nacre {
namespace {

constexpr std::uint32_t malloc_operations =
    bit(opcode::read) | bit(opcode::write) | bit(opcode::flush) | bit(opcode::unmap) |
    bit(opcode::write_zeroes) | bit(opcode::compare) | bit(opcode::compare_and_write) |
    bit(opcode::copy) | bit(opcode::reset) | bit(opcode::zcopy);

/// Many share it, or one has it alone. Held for one copy at most, so waiting spins.
class spin_shared_lock {
public:
    void lock_shared() noexcept {
        while (true) {
            std::uint32_t seen = state_.load(std::memory_order_relaxed);
            if (seen < alone &&
                state_.compare_exchange_weak(seen, seen + 1, std::memory_order_acquire))
                return;
        }
    }
    void unlock_shared() noexcept { state_.fetch_sub(1, std::memory_order_release); }
    void lock() noexcept {
        // The mark keeps later sharers out while the present ones leave.
        while ((state_.fetch_or(alone, std::memory_order_acquire) & alone) != 0) {
        }
        while (state_.load(std::memory_order_acquire) != alone) {
        }
    }
    void unlock() noexcept { state_.store(0, std::memory_order_release); }

private:
    static constexpr std::uint32_t alone = 1U << 31;
    std::atomic<std::uint32_t> state_{0};
};

class malloc_bdev;

class malloc_channel final : public module_channel {
public:
    malloc_channel(malloc_bdev& device, std::byte* memory) noexcept;
    ~malloc_channel() override;

private:
    void submit(io_op& op) noexcept override;
    [[gnu::noinline]] void submit_other(io_op& op) noexcept;
    /// Everything but compare_and_write.
    void carry_out(io_op& op) noexcept;
    void compare_and_write_now(io_op& op) noexcept;
    task<void> compare_and_write_locked(io_op& op);
    [[nodiscard]] std::byte* at(lba block) const noexcept { return memory_ + offset(block); }
    [[nodiscard]] std::size_t offset(lba block) const noexcept {
        return block.value() << block_shift_;
    }

    std::byte* const memory_;
    const std::atomic<bool>& locked_;
    const unsigned block_shift_;
    malloc_bdev& device_;
};

class malloc_bdev final : public bdev {
public:
    malloc_bdev(bdev_attributes attributes, dma_buffer memory, std::int32_t numa_id)
        : bdev(std::move(attributes)), memory_(std::move(memory)), numa_id_(numa_id) {}

    outcome<std::unique_ptr<module_channel>> make_channel() override {
        const std::lock_guard guard(mutex_);
        threads_.push_back(thread::current());
        return std::make_unique<malloc_channel>(*this, memory_.writable_unchecked().data());
    }
    bool prepare_direct_reads() override {
        const std::lock_guard guard(mutex_);
        others_ = true;
        return true;
    }
    bool prepare_direct_writes() override { return prepare_direct_reads(); }
    bool read_directly(lba first, std::span<std::byte> into) noexcept override {
        // Not beside a compare_and_write; a plain write is seen as it comes, as by any reader.
        lock_.lock_shared();
        const std::uint64_t offset = first.value() * block_size().value();
        std::memcpy(into.data(), memory_.writable_unchecked().data() + offset, into.size());
        lock_.unlock_shared();
        return true;
    }
    result<> write_directly(lba first, std::span<const std::byte> from) noexcept override {
        lock_.lock_shared();
        const std::uint64_t offset = first.value() * block_size().value();
        std::memcpy(memory_.writable_unchecked().data() + offset, from.data(), from.size());
        lock_.unlock_shared();
        return {};
    }
    json::value configuration() const override;

private:
    friend class malloc_channel;
    dma_buffer memory_;
    std::int32_t numa_id_;
    // Both are set once, and for good.
    std::atomic<bool> locked_{false};   // plain ops share the lock
    std::atomic<bool> settled_{false};  // and none without it is under way any more
    spin_shared_lock lock_;
    std::mutex mutex_;              // guards what follows; not on the path of plain ops
    std::vector<thread*> threads_;  // that have channels
    bool others_ = false;           // who read and write directly, and share the lock
};

// --- Channel ------------------------------------------------------------------------------------

malloc_channel::malloc_channel(malloc_bdev& device, std::byte* memory) noexcept
    : module_channel(device),
      memory_(memory),
      locked_(device.locked_),
      block_shift_(static_cast<unsigned>(__builtin_ctzll(device.block_size().value()))),
      device_(device) {}

malloc_channel::~malloc_channel() {
    const std::lock_guard guard(device_.mutex_);
    std::erase(device_.threads_, &home());
}

void malloc_channel::submit(io_op& op) noexcept {
    if (op.code <= opcode::write && op.data.contiguous() &&
        !locked_.load(std::memory_order_relaxed)) [[likely]] {
        if (op.code == opcode::read)
            std::memcpy(op.data.data(), at(op.first), op.data.size());
        else
            std::memcpy(at(op.first), op.data.data(), op.data.size());
        op.complete();
        return;
    }
    submit_other(op);
}

void malloc_channel::submit_other(io_op& op) noexcept {
    if (op.code == opcode::compare_and_write) {
        compare_and_write_now(op);
        return;
    }
    if (!locked_.load(std::memory_order_relaxed)) {
        carry_out(op);
        return;
    }
    device_.lock_.lock_shared();
    carry_out(op);
    device_.lock_.unlock_shared();
}

void malloc_channel::carry_out(io_op& op) noexcept {
    error status;
    switch (op.code) {
        case opcode::read:
            op.data.copy_from(at(op.first));
            break;
        case opcode::write:
            op.data.copy_to(at(op.first));
            break;
        case opcode::compare:
            if (!op.data.equals(at(op.first))) status = error::posix(EILSEQ);
            break;
        case opcode::unmap:
        case opcode::write_zeroes:
            device_.memory_.discard_unchecked(offset(op.first), op.blocks.value() << block_shift_);
            break;
        case opcode::copy:
            std::memmove(at(op.first), at(op.source), op.blocks.value() << block_shift_);
            break;
        case opcode::flush:
        case opcode::reset:
            break;
        case opcode::zcopy:
            op.lend(iov_view(at(op.first), op.blocks.value() << block_shift_));
            return;
        default:
            status = error::posix(ENOTSUP);
            break;
    }
    op.complete(status);
}

void malloc_channel::compare_and_write_now(io_op& op) noexcept {
    const auto carry_out = [&] {
        const bool same = op.expected->borrowed().equals(at(op.first));
        if (same) op.data.copy_to(at(op.first));
        op.complete(same ? error() : error::posix(EILSEQ));
    };
    if (device_.settled_.load(std::memory_order_acquire)) {
        device_.lock_.lock();
        carry_out();
        device_.lock_.unlock();
        return;
    }
    {
        const std::lock_guard guard(device_.mutex_);  // no channel appears meanwhile
        if (device_.threads_.size() == 1 && !device_.others_) {
            carry_out();
            return;
        }
    }
    task<void> later = compare_and_write_locked(op);
    if (later.valid())
        children().spawn(std::move(later));
    else
        op.complete(error::posix(ENOMEM));
}

task<void> malloc_channel::compare_and_write_locked(io_op& op) {
    std::vector<thread*> others;
    {
        // Under the mutex, so a channel that is made later sees it.
        const std::lock_guard guard(device_.mutex_);
        device_.locked_.store(true, std::memory_order_relaxed);
        others = device_.threads_;
    }
    // An op runs within one submit(), so a thread that runs a message is within none, and its later
    // ones see the store.
    const auto pass_by = [] {};
    for (thread* t : others) {
        if (t != &home()) co_await call_on(*t, pass_by);
    }
    device_.settled_.store(true, std::memory_order_release);
    device_.lock_.lock();
    const bool same = op.expected->borrowed().equals(at(op.first));
    if (same) op.data.copy_to(at(op.first));
    device_.lock_.unlock();
    op.complete(same ? error() : error::posix(EILSEQ));
}

json::value malloc_bdev::configuration() const {
    return json::object{{"method", "bdev_malloc_create"},
                        {"params", malloc_parameters(*this, numa_id_)}};
}

}  // namespace

std::span<const json::field> malloc_options::fields() {
    using self = malloc_options;
    static constexpr json::field table[] = {
        json::automatic<&self::name>("name", "Name of the new bdev; Malloc<N> if absent"),
        json::required<&self::block_size>("block_size", "Bytes in a block"),
        json::required<&self::num_blocks>("num_blocks", "Size in blocks"),
        json::optional<&self::uuid>("uuid", "UUID of the new bdev; generated if absent"),
        json::optional<&self::optimal_io_boundary>("optimal_io_boundary",
                                                   "I/O is split there, in blocks; 0: nowhere"),
        json::optional<&self::md_size>("md_size",
                                       "Bytes of metadata a block: 0, 8, 16, 32, 64 or 128"),
        json::optional<&self::md_interleave>("md_interleave",
                                             "Metadata after each block, not apart"),
        json::optional<&self::dif_type>("dif_type", "Type of protection information; 0: none"),
        json::optional<&self::dif_is_head_of_md>("dif_is_head_of_md",
                                                 "Protection information comes first"),
        json::optional<&self::physical_block_size>("physical_block_size",
                                                   "Bytes in a physical block; 0: block_size"),
        json::optional<&self::dif_pi_format>("dif_pi_format", "Format of the guard; only 0"),
        json::optional<&self::numa_id>("numa_id", "Node of the memory; -1: any"),
        json::optional<&self::zone_size>("zone_size",
                                         "Blocks from one zone to the next; 0: not zoned"),
        json::automatic<&self::zone_capacity>("zone_capacity",
                                              "Blocks of a zone that can be written; 0: all"),
        json::optional<&self::max_open_zones>("max_open_zones",
                                              "Zones that can be open at once; 0: any number"),
        json::optional<&self::max_active_zones>(
            "max_active_zones", "Zones that can be open or closed at once; 0: any number"),
        json::automatic<&self::max_append_blocks>("max_append_blocks",
                                                  "Blocks of one append; 0: a zone's"),
    };
    return table;
}

json::object malloc_parameters(const bdev& device, std::int32_t numa_id) {
    const bdev_attributes& a = device.attributes();
    return {{"name", a.name},
            {"num_blocks", device.blocks().value()},
            {"block_size", a.data_bytes()},
            {"physical_block_size", a.physical_block_size},
            {"uuid", a.id.to_string()},
            {"optimal_io_boundary", a.optimal_boundary.value()},
            {"md_size", a.metadata_size},
            {"dif_type", static_cast<unsigned>(a.protection)},
            {"dif_is_head_of_md", a.protection_at_head},
            {"dif_pi_format", 0U},
            {"numa_id", numa_id}};
}

task<outcome<std::string>> create_malloc(bdev_registry& registry, malloc_options options) {
    if (options.name.empty())
        options.name = fmt::format("Malloc{}", registry.next_number("Malloc"));
    if (options.md_size == 0 && options.dif_type != 0)
        co_return fail(EINVAL, options.name +
                                   ": protection information needs metadata; give md_size (8 or "
                                   "more), or leave dif_type out");
    if (registry.find(options.name) != nullptr)
        co_return fail(EEXIST, options.name + ": a bdev of this name exists");
    bdev_attributes a;
    a.name = options.name;
    if (options.uuid) a.id = *options.uuid;
    a.product_name = "Malloc disk";
    a.block_size = byte_count(options.block_size);
    a.blocks = block_count(options.num_blocks);
    a.physical_block_size = options.physical_block_size;
    a.optimal_boundary = block_count(options.optimal_io_boundary);
    a.operations = malloc_operations;
    a.numa_id = options.numa_id;
    if (options.md_size != 0) {
        outcome<> fits = take_metadata_options(options, a);
        if (!fits) co_return fail(std::move(fits.error()));
    }
    // Of a block, wherever its metadata lies.
    const std::uint64_t stored =
        a.block_size.value() + (options.md_interleave ? 0 : options.md_size);
    if (stored != 0 && options.num_blocks > (UINT64_MAX >> 1) / stored)
        co_return fail(EFBIG, fmt::format("{}: {} blocks of {} bytes are more than 2^63 bytes",
                                          options.name, options.num_blocks, stored));
    dma_buffer memory, metadata;
    if (options.num_blocks != 0 && stored != 0) {
        result<dma_buffer> allocated = dma_buffer::allocate(
            a.blocks * a.block_size, {.kind = memory_kind::huge, .numa_id = options.numa_id});
        if (!allocated && allocated.error().is(ENXIO))
            co_return fail(EINVAL, fmt::format("{}: there is no NUMA node {}; leave numa_id out",
                                               options.name, options.numa_id));
        if (!allocated)
            co_return fail(
                ENOMEM,
                fmt::format("{}: no memory for {} blocks of {} bytes; make it smaller, or raise "
                            "the limit (--mem-size) if there is one",
                            options.name, options.num_blocks, options.block_size));
        memory = std::move(*allocated);
        if (options.md_size != 0 && !options.md_interleave) {
            allocated = dma_buffer::allocate(a.blocks * byte_count(options.md_size),
                                             {.numa_id = options.numa_id});
            if (!allocated)
                co_return fail(ENOMEM,
                               options.name + ": no memory for its metadata; make it smaller");
            metadata = std::move(*allocated);
        }
    }  // else the registry refuses it
    std::shared_ptr<bdev> device;
    if (options.zone_size != 0) {
        outcome<> fits = take_zone_options(options, a);
        if (!fits) co_return fail(std::move(fits.error()));
        device = make_zoned_malloc(std::move(a), std::move(memory), options.numa_id);
    } else if (options.md_size != 0 && !memory.empty()) {
        device = make_metadata_malloc(std::move(a), std::move(memory), std::move(metadata),
                                      options.numa_id);
    } else {
        device = std::make_shared<malloc_bdev>(std::move(a), std::move(memory), options.numa_id);
    }
    outcome<> added = co_await registry.add(device);
    if (!added) co_return fail(std::move(added.error()));
    co_return device->name();
}

namespace {

/// A URI gives in bytes what the options count in blocks.
outcome<malloc_options> options_from_uri(uri address) {
    std::vector<uri::parameter> parameters;
    parameters.emplace_back("name", std::string(address.name()));
    const std::optional<std::string> size = address.take("size");
    if (!address.find("block_size")) parameters.emplace_back("block_size", "4096");
    if (size) parameters.emplace_back("num_blocks", *size);
    parameters.insert(parameters.end(), address.query().begin(), address.query().end());
    outcome<malloc_options> options = json::decode_text<malloc_options>(parameters);
    if (!options || options->block_size == 0) return options;
    const auto to_blocks = [&](const char* parameter, std::uint64_t& value) -> outcome<> {
        if (value % options->block_size != 0)
            return fail(EINVAL, fmt::format("{}: {}={} is no multiple of the block size {}",
                                            options->name, parameter, value, options->block_size));
        value /= options->block_size;
        return {};
    };
    const std::pair<const char*, std::uint64_t*> in_bytes[] = {
        {"size", size ? &options->num_blocks : nullptr},
        {"zone_size", &options->zone_size},
        {"zone_capacity", &options->zone_capacity}};
    for (const auto& [parameter, value] : in_bytes) {
        if (value == nullptr) continue;
        outcome<> converted = to_blocks(parameter, *value);
        if (!converted) return fail(std::move(converted.error()));
    }
    return options;
}

}  // namespace

task<outcome<std::string>> create_malloc_from_uri(bdev_registry& registry, uri address) {
    outcome<malloc_options> options = options_from_uri(std::move(address));
    if (!options) co_return fail(std::move(options.error()));
    outcome<std::string> created = co_await create_malloc(registry, std::move(*options));
    co_return created;
}

task<outcome<std::string>> create_zoned_malloc_from_uri(bdev_registry& registry, uri address) {
    outcome<malloc_options> options = options_from_uri(std::move(address));
    if (!options) co_return fail(std::move(options.error()));
    if (options->zone_size == 0)
        co_return fail(EINVAL, options->name + ": give zone_size, such as zone_size=4MiB");
    outcome<std::string> created = co_await create_malloc(registry, std::move(*options));
    co_return created;
}

task<outcome<>> delete_malloc(bdev_registry& registry, std::string name) {
    bdev* const device = registry.find(name);
    if (dynamic_cast<malloc_bdev*>(device) == nullptr && !is_zoned_malloc(device) &&
        !is_metadata_malloc(device))
        co_return fail(ENODEV, name + ": no malloc bdev of this name");
    outcome<> removed = co_await registry.remove(std::move(name));
    co_return removed;
}

}  // namespace nacre
