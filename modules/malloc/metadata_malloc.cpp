// SPDX-License-Identifier: BSD-3-Clause
#include "modules/malloc/metadata_malloc.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <mutex>

#include "modules/malloc/zoned_malloc.hpp"
#include "nacre/core/bytes.hpp"

namespace nacre {
namespace {

constexpr std::uint32_t metadata_operations =
    bit(opcode::read) | bit(opcode::write) | bit(opcode::flush) | bit(opcode::unmap) |
    bit(opcode::write_zeroes) | bit(opcode::compare) | bit(opcode::copy) | bit(opcode::reset);

class metadata_malloc_bdev final : public bdev {
public:
    metadata_malloc_bdev(bdev_attributes attributes, dma_buffer memory, dma_buffer metadata,
                         std::int32_t numa_id)
        : bdev(std::move(attributes)),
          memory_(std::move(memory)),
          metadata_(std::move(metadata)),
          numa_id_(numa_id),
          format_(bdev::attributes().protected_blocks()),
          interleaved_(bdev::attributes().metadata_interleaved) {
        if (is_protected()) mark_unchecked(lba(), blocks());
    }

    outcome<std::unique_ptr<module_channel>> make_channel() override;
    json::value configuration() const override {
        const bdev_attributes& a = attributes();
        json::object params = malloc_parameters(*this, numa_id_);
        params.append("md_interleave", a.metadata_interleaved);
        return json::object{{"method", "bdev_malloc_create"}, {"params", std::move(params)}};
    }

    [[nodiscard]] error carry_out(io_op& op) noexcept;

private:
    [[nodiscard]] bool is_protected() const noexcept {
        return format_.type != protection_type::none;
    }
    // Views of blocks: with their interleaved metadata, or of what lies apart.
    [[nodiscard]] iov_view data_at(lba first, block_count n) noexcept {
        const std::uint64_t block = attributes().block_size.value();
        return iov_view(memory_.writable_unchecked().data() + first.value() * block,
                        n.value() * block);
    }
    [[nodiscard]] iov_view metadata_at(lba first, block_count n) noexcept {
        return iov_view(
            metadata_.writable_unchecked().data() + first.value() * format_.metadata_bytes,
            n.value() * format_.metadata_bytes);
    }
    [[nodiscard]] std::byte* tuple_at(lba block) noexcept {
        std::byte* const metadata = interleaved_
                                        ? data_at(block, block_count(1)).data() + format_.data_bytes
                                        : metadata_at(block, block_count(1)).data();
        return metadata + format_.tuple_at();
    }
    void mark_unchecked(lba first, block_count n) noexcept {
        const protection_tuple unchecked{0, application_unchecked, reference_unchecked};
        for (std::uint64_t i = 0; i < n.value(); ++i)
            unchecked.store(tuple_at(first + block_count(i)));
    }
    [[nodiscard]] error verify(lba first, const iov_view& data, const iov_view& metadata) noexcept {
        const protection_tags tags{.reference = static_cast<std::uint32_t>(first.value())};
        const std::uint8_t checks = attributes().protection_checks;
        const std::optional<protection_error> wrong =
            interleaved_ ? verify_protection(format_, data, tags, checks)
                         : verify_protection(format_, data, metadata, tags, checks);
        return wrong ? wrong->status() : error();
    }
    [[nodiscard]] error read(io_op& op) noexcept;
    [[nodiscard]] error write(io_op& op) noexcept;
    void zero(lba first, block_count n) noexcept;
    void copy(lba from, lba to, block_count n) noexcept;

    dma_buffer memory_;
    dma_buffer metadata_;
    const std::int32_t numa_id_;
    const protection_format format_;
    const bool interleaved_;
    std::mutex mutex_;  // one op at a time: data and tuple change together
};

class metadata_malloc_channel final : public module_channel {
public:
    explicit metadata_malloc_channel(metadata_malloc_bdev& device) noexcept
        : module_channel(device), device_(device) {}

private:
    void submit(io_op& op) noexcept override { op.complete(device_.carry_out(op)); }
    metadata_malloc_bdev& device_;
};

outcome<std::unique_ptr<module_channel>> metadata_malloc_bdev::make_channel() {
    return std::make_unique<metadata_malloc_channel>(*this);
}

error metadata_malloc_bdev::carry_out(io_op& op) noexcept {
    const std::lock_guard guard(mutex_);
    switch (op.code) {
        case opcode::read:
            return read(op);
        case opcode::write:
            return write(op);
        case opcode::compare:
            return error::posix(op.data.equals(data_at(op.first, op.blocks).data()) ? 0 : EILSEQ);
        case opcode::unmap:
        case opcode::write_zeroes:
            zero(op.first, op.blocks);
            return {};
        case opcode::copy:
            copy(op.source, op.first, op.blocks);
            return {};
        case opcode::flush:
        case opcode::reset:
            return {};
        default:
            return error::posix(ENOTSUP);
    }
}

error metadata_malloc_bdev::read(io_op& op) noexcept {
    const iov_view here = data_at(op.first, op.blocks);
    op.data.copy_from(here.data());
    if (interleaved_) return is_protected() ? verify(op.first, here, iov_view()) : error();
    const iov_view metadata = metadata_at(op.first, op.blocks);
    if ((op.flags & io_op::flag_metadata) != 0)
        std::memcpy(op.metadata, metadata.data(), metadata.size());
    return is_protected() ? verify(op.first, here, metadata) : error();
}

error metadata_malloc_bdev::write(io_op& op) noexcept {
    const iov_view here = data_at(op.first, op.blocks);
    if (interleaved_) {
        if (is_protected()) {
            const error wrong = verify(op.first, op.data, iov_view());
            if (wrong.failed()) return wrong;
        }
        op.data.copy_to(here.data());
        return {};
    }
    const iov_view metadata = metadata_at(op.first, op.blocks);
    if ((op.flags & io_op::flag_metadata) != 0) {
        if (is_protected()) {
            const iov_view given(op.metadata, metadata.size());
            const error wrong = verify(op.first, op.data, given);
            if (wrong.failed()) return wrong;
        }
        std::memcpy(metadata.data(), op.metadata, metadata.size());
    }
    op.data.copy_to(here.data());
    if (is_protected() && (op.flags & io_op::flag_metadata) == 0) {
        metadata.fill(std::byte{0});
        const protection_tags tags{.reference = static_cast<std::uint32_t>(op.first.value())};
        generate_protection(format_, here, metadata, tags);
    }
    return {};
}

void metadata_malloc_bdev::zero(lba first, block_count n) noexcept {
    data_at(first, n).fill(std::byte{0});
    if (!interleaved_) metadata_at(first, n).fill(std::byte{0});
    if (is_protected()) mark_unchecked(first, n);
}

void metadata_malloc_bdev::copy(lba from, lba to, block_count n) noexcept {
    const iov_view source = data_at(from, n);
    std::memmove(data_at(to, n).data(), source.data(), source.size());
    if (!interleaved_) {
        const iov_view metadata = metadata_at(from, n);
        std::memmove(metadata_at(to, n).data(), metadata.data(), metadata.size());
    }
    if (!is_protected() || format_.type == protection_type::type3) return;
    for (std::uint64_t i = 0; i < n.value(); ++i) {
        const lba block = to + block_count(i);
        protection_tuple tuple = protection_tuple::load(tuple_at(block));
        if (tuple.application == application_unchecked) continue;
        tuple.reference = static_cast<std::uint32_t>(block.value());
        tuple.store(tuple_at(block));
    }
}

}  // namespace

outcome<> take_metadata_options(const malloc_options& options, bdev_attributes& a) {
    static constexpr std::array<std::uint32_t, 5> sizes{8, 16, 32, 64, 128};
    if (std::ranges::find(sizes, options.md_size) == sizes.end())
        return fail(EINVAL, fmt::format("{}: md_size {} must be 8, 16, 32, 64 or 128", options.name,
                                        options.md_size));
    // The registry looks later, when blocks have been marked by then.
    if (options.block_size < 512 || options.block_size > 65536 ||
        !is_power_of_two(options.block_size))
        return fail(EINVAL,
                    fmt::format("{}: block size {} must be a power of two from 512 to 65536",
                                options.name, options.block_size));
    if (options.dif_type < 0 || options.dif_type > 3)
        return fail(EINVAL,
                    fmt::format("{}: dif_type {} must be 0 to 3", options.name, options.dif_type));
    if (options.dif_type != 0 && options.dif_pi_format != 0)
        return fail(ENOTSUP, fmt::format("{}: dif_pi_format {} is not supported; only 0, the "
                                         "16-bit guard",
                                         options.name, options.dif_pi_format));
    if (options.zone_size != 0)
        return fail(ENOTSUP, options.name +
                                 ": a zoned malloc bdev has no metadata; leave md_size "
                                 "or zone_size out");
    a.metadata_size = options.md_size;
    a.metadata_interleaved = options.md_interleave;
    if (options.md_interleave) a.block_size = byte_count(options.block_size + options.md_size);
    a.protection = static_cast<protection_type>(options.dif_type);
    a.protection_at_head = options.dif_type != 0 && options.dif_is_head_of_md;
    if (a.protection == protection_type::type3)
        a.protection_checks = check_guard;
    else if (a.protection != protection_type::none)
        a.protection_checks = check_guard | check_reference;
    a.operations = metadata_operations;
    return {};
}

std::shared_ptr<bdev> make_metadata_malloc(bdev_attributes attributes, dma_buffer memory,
                                           dma_buffer metadata, std::int32_t numa_id) {
    return std::make_shared<metadata_malloc_bdev>(std::move(attributes), std::move(memory),
                                                  std::move(metadata), numa_id);
}

bool is_metadata_malloc(const bdev* device) noexcept {
    return dynamic_cast<const metadata_malloc_bdev*>(device) != nullptr;
}

}  // namespace nacre
