// SPDX-License-Identifier: BSD-3-Clause
#include "nbd_wire.hpp"

#include "nacre/core/bytes.hpp"

namespace nacre::nbd {
namespace {

/// Flags that a command may carry. FUA is let through everywhere, as the protocol asks of servers
/// that have it; on reads it means nothing.
std::uint16_t allowed_flags(command what, const session_terms& terms) noexcept {
    using namespace command_flag;
    switch (what) {
        case command::read:
            return terms.structured ? fua | df : fua;
        case command::write_zeroes:
            return (terms.flags & export_flag::send_fast_zero) != 0 ? fua | no_hole | fast_zero
                                                                    : fua | no_hole;
        case command::block_status:
            return fua | req_one;
        case command::cache:
        case command::disconnect:
            return 0;
        default:
            return fua;
    }
}

wire_error check_range(const request_header& request, std::uint64_t size_bytes) noexcept {
    if (range_fits(request.offset, request.length, size_bytes)) return wire_error::none;
    const bool writes = request.what == command::write || request.what == command::write_zeroes;
    return writes ? wire_error::nospc : wire_error::inval;
}

}  // namespace

wire_error to_wire(error e) noexcept {
    if (e.ok()) return wire_error::none;
    switch (e.to_errno()) {
        case EPERM:
        case EACCES:
        case EROFS:
        case EBADF:
            return wire_error::perm;
        case ENOMEM:
        case EAGAIN:
            return wire_error::nomem;
        case EINVAL:
        case ERANGE:
            return wire_error::inval;
        case ENOSPC:
        case EDQUOT:
        case EFBIG:
            return wire_error::nospc;
        case ENOTSUP:
            return wire_error::notsup;
        case ENODEV:
        case ESHUTDOWN:
            return wire_error::shutdown;
        default:
            return wire_error::io;
    }
}

result<request_header> read_request(std::span<const std::byte, request_bytes> from) noexcept {
    if (load_be<std::uint32_t>(from.data()) != request_magic) return fail(EPROTO);
    return request_header{.flags = load_be<std::uint16_t>(from.data() + 4),
                          .what = static_cast<command>(load_be<std::uint16_t>(from.data() + 6)),
                          .cookie = load_be<std::uint64_t>(from.data() + 8),
                          .offset = load_be<std::uint64_t>(from.data() + 16),
                          .length = load_be<std::uint32_t>(from.data() + 24)};
}

request_verdict check_request(const request_header& request, const session_terms& terms,
                              std::uint64_t size_bytes) noexcept {
    const bool readonly = (terms.flags & export_flag::read_only) != 0;
    if (request.what == command::write && request.length > payload_bytes_max)
        return {wire_error::overflow, "a write of more than 32 MiB"};
    if (request.what <= command::block_status &&
        (request.flags & ~allowed_flags(request.what, terms)) != 0)
        return {wire_error::inval};
    switch (request.what) {
        case command::read:
            if (request.length > payload_bytes_max) return {wire_error::overflow};
            break;
        case command::write:
        case command::write_zeroes:
            if (readonly) return {wire_error::perm};
            break;
        case command::trim:
            if (readonly) return {wire_error::perm};
            if ((terms.flags & export_flag::send_trim) == 0) return {wire_error::inval};
            break;
        case command::flush:
            if (request.offset != 0 || request.length != 0) return {wire_error::inval};
            return {};
        case command::block_status:
            if (!terms.block_status || request.length == 0) return {wire_error::inval};
            break;
        case command::disconnect:
            return {};
        default:  // CACHE too: there is no cache to fill
            return {wire_error::inval};
    }
    return {check_range(request, size_bytes)};
}

std::size_t put_simple(std::byte* to, wire_error code, std::uint64_t cookie) noexcept {
    store_be<std::uint32_t>(to, simple_magic);
    store_be<std::uint32_t>(to + 4, static_cast<std::uint32_t>(code));
    store_be<std::uint64_t>(to + 8, cookie);
    return simple_bytes;
}

std::size_t put_chunk(std::byte* to, chunk type, std::uint64_t cookie,
                      std::uint32_t length) noexcept {
    store_be<std::uint32_t>(to, structured_magic);
    store_be<std::uint16_t>(to + 4, chunk_flag_done);
    store_be<std::uint16_t>(to + 6, static_cast<std::uint16_t>(type));
    store_be<std::uint64_t>(to + 8, cookie);
    store_be<std::uint32_t>(to + 16, length);
    return structured_bytes;
}

std::size_t put_data_chunk(std::byte* to, std::uint64_t cookie, std::uint64_t offset,
                           std::uint32_t data_length) noexcept {
    put_chunk(to, chunk::offset_data, cookie, data_length + 8);
    store_be<std::uint64_t>(to + structured_bytes, offset);
    return structured_bytes + 8;
}

std::size_t put_error_chunk(std::byte* to, std::uint64_t cookie, wire_error code) noexcept {
    put_chunk(to, chunk::error, cookie, 6);
    store_be<std::uint32_t>(to + structured_bytes, static_cast<std::uint32_t>(code));
    store_be<std::uint16_t>(to + structured_bytes + 4, 0);  // no message
    return structured_bytes + 6;
}

bool extent_list::add(std::uint32_t length, std::uint32_t flags) noexcept {
    if (length == 0) return true;
    if (count_ != 0) {
        std::byte* last = memory_.data() + (count_ - 1) * extent_bytes;
        const auto joined =
            checked_add(load_be<std::uint32_t>(last), length).value();  // two 32-bit numbers
        if (load_be<std::uint32_t>(last + 4) == flags && joined <= UINT32_MAX) {
            store_be<std::uint32_t>(last, static_cast<std::uint32_t>(joined));
            return true;
        }
    }
    if (count_ == count_max_ || memory_.size() < (count_ + 1) * extent_bytes) return false;
    std::byte* at = memory_.data() + count_ * extent_bytes;
    store_be<std::uint32_t>(at, length);
    store_be<std::uint32_t>(at + 4, flags);
    ++count_;
    return true;
}

}  // namespace nacre::nbd
