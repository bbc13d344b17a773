// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/bdev/protection.hpp"

#include "nacre/core/bytes.hpp"
#include "nacre/core/crc16.hpp"

namespace nacre {
namespace {

/// Hands out a view piece by piece; all pieces together cost one pass over its ranges.
class walker {
public:
    explicit walker(const iov_view& all) noexcept : rest_(all) {}
    [[nodiscard]] iov_view take(std::size_t bytes) noexcept {
        const iov_view piece = rest_.slice(0, bytes);
        rest_ = rest_.slice(bytes, rest_.size() - bytes);
        return piece;
    }

private:
    iov_view rest_;
};

struct block_parts {
    iov_view data;
    iov_view metadata;
};

/// Blocks one after the other, whichever way they lie.
class block_walker {
public:
    block_walker(const protection_format& f, const iov_view& blocks) noexcept
        : format_(f), data_(blocks), metadata_(iov_view()), interleaved_(true) {
        NACRE_ASSERT(f.metadata_bytes >= protection_bytes && blocks.size() % f.block_bytes() == 0);
    }
    block_walker(const protection_format& f, const iov_view& data,
                 const iov_view& metadata) noexcept
        : format_(f), data_(data), metadata_(metadata), interleaved_(false) {
        NACRE_ASSERT(f.metadata_bytes >= protection_bytes && data.size() % f.data_bytes == 0 &&
                     data.size() / f.data_bytes == metadata.size() / f.metadata_bytes);
    }
    [[nodiscard]] block_parts next() noexcept {
        const iov_view data = data_.take(format_.data_bytes);
        return {data, (interleaved_ ? data_ : metadata_).take(format_.metadata_bytes)};
    }

private:
    const protection_format& format_;
    walker data_;
    walker metadata_;
    bool interleaved_;
};

std::uint16_t guard_of_block(const protection_format& f, const block_parts& b) noexcept {
    return guard_of(b.metadata.slice(0, f.tuple_at()), guard_of(b.data));
}

std::uint32_t reference_of(const protection_format& f, const protection_tags& tags,
                           std::uint64_t block) noexcept {
    return f.type == protection_type::type3 ? tags.reference
                                            : tags.reference + static_cast<std::uint32_t>(block);
}

void protect(const protection_format& f, const block_parts& b, const protection_tags& tags,
             std::uint64_t block) noexcept {
    std::byte tuple[protection_bytes];
    protection_tuple{guard_of_block(f, b), tags.application, reference_of(f, tags, block)}.store(
        tuple);
    b.metadata.slice(f.tuple_at(), protection_bytes).copy_from(tuple);
}

std::optional<protection_error> verify(const protection_format& f, const block_parts& b,
                                       const protection_tags& tags, std::uint8_t checks,
                                       std::uint64_t block) noexcept {
    std::byte bytes[protection_bytes];
    b.metadata.slice(f.tuple_at(), protection_bytes).copy_to(bytes);
    const protection_tuple found = protection_tuple::load(bytes);
    if (found.application == application_unchecked &&
        (f.type != protection_type::type3 || found.reference == reference_unchecked))
        return std::nullopt;
    if ((checks & check_guard) != 0) {
        const std::uint16_t guard = guard_of_block(f, b);
        if (guard != found.guard) return protection_error{block, check_guard, guard, found.guard};
    }
    if ((checks & check_application) != 0 &&
        ((found.application ^ tags.application) & tags.application_mask) != 0)
        return protection_error{block, check_application, tags.application, found.application};
    const std::uint32_t reference = reference_of(f, tags, block);
    if ((checks & check_reference) != 0 && found.reference != reference)
        return protection_error{block, check_reference, reference, found.reference};
    return std::nullopt;
}

void generate_all(const protection_format& f, block_walker blocks, std::uint64_t count,
                  const protection_tags& tags) noexcept {
    for (std::uint64_t i = 0; i < count; ++i) protect(f, blocks.next(), tags, i);
}

std::optional<protection_error> verify_all(const protection_format& f, block_walker blocks,
                                           std::uint64_t count, const protection_tags& tags,
                                           std::uint8_t checks) noexcept {
    for (std::uint64_t i = 0; i < count; ++i)
        if (auto wrong = verify(f, blocks.next(), tags, checks, i)) return wrong;
    return std::nullopt;
}

/// Both of one length, cut up differently.
void copy_view(const iov_view& from, const iov_view& to) noexcept {
    walker target(to);
    from.for_each(
        [&](std::span<std::byte> range) { target.take(range.size()).copy_from(range.data()); });
}

}  // namespace

error protection_error::status() const noexcept {
    // NVMe Base 2.0, figure 102: media and data integrity errors.
    constexpr std::uint8_t media = 2;
    return error::nvme(media, check == check_guard         ? 0x82
                              : check == check_application ? 0x83
                                                           : 0x84);
}

protection_tuple protection_tuple::load(const std::byte* from) noexcept {
    return {load_be<std::uint16_t>(from), load_be<std::uint16_t>(from + 2),
            load_be<std::uint32_t>(from + 4)};
}

void protection_tuple::store(std::byte* to) const noexcept {
    store_be<std::uint16_t>(to, guard);
    store_be<std::uint16_t>(to + 2, application);
    store_be<std::uint32_t>(to + 4, reference);
}

std::uint16_t guard_of(const iov_view& data, std::uint16_t seed) noexcept {
    data.for_each([&](std::span<std::byte> range) { seed = crc16_t10dif(range, seed); });
    return seed;
}

void generate_protection(const protection_format& f, const iov_view& blocks,
                         const protection_tags& tags) noexcept {
    generate_all(f, block_walker(f, blocks), blocks.size() / f.block_bytes(), tags);
}

void generate_protection(const protection_format& f, const iov_view& data, const iov_view& metadata,
                         const protection_tags& tags) noexcept {
    generate_all(f, block_walker(f, data, metadata), data.size() / f.data_bytes, tags);
}

std::optional<protection_error> verify_protection(const protection_format& f,
                                                  const iov_view& blocks,
                                                  const protection_tags& tags,
                                                  std::uint8_t checks) noexcept {
    return verify_all(f, block_walker(f, blocks), blocks.size() / f.block_bytes(), tags, checks);
}

std::optional<protection_error> verify_protection(const protection_format& f, const iov_view& data,
                                                  const iov_view& metadata,
                                                  const protection_tags& tags,
                                                  std::uint8_t checks) noexcept {
    return verify_all(f, block_walker(f, data, metadata), data.size() / f.data_bytes, tags, checks);
}

void insert_protection(const protection_format& f, const iov_view& data, const iov_view& blocks,
                       const protection_tags& tags) noexcept {
    const std::uint64_t count = data.size() / f.data_bytes;
    NACRE_ASSERT(count * f.data_bytes == data.size() && count * f.block_bytes() == blocks.size());
    walker source(data);
    block_walker target(f, blocks);
    for (std::uint64_t i = 0; i < count; ++i) {
        const block_parts b = target.next();
        copy_view(source.take(f.data_bytes), b.data);
        b.metadata.fill(std::byte{0});
        protect(f, b, tags, i);
    }
}

std::optional<protection_error> strip_protection(const protection_format& f, const iov_view& blocks,
                                                 const iov_view& data, const protection_tags& tags,
                                                 std::uint8_t checks) noexcept {
    const std::uint64_t count = data.size() / f.data_bytes;
    NACRE_ASSERT(count * f.data_bytes == data.size() && count * f.block_bytes() == blocks.size());
    walker target(data);
    block_walker source(f, blocks);
    std::optional<protection_error> first;
    for (std::uint64_t i = 0; i < count; ++i) {
        const block_parts b = source.next();
        copy_view(b.data, target.take(f.data_bytes));
        if (!first) first = verify(f, b, tags, checks, i);
    }
    return first;
}

}  // namespace nacre
