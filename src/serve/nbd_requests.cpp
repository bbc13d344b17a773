// SPDX-License-Identifier: BSD-3-Clause
//
// How the requests of a connection are carried out.
#include <algorithm>
#include <cstring>

#include "nacre/core/bytes.hpp"
#include "nbd_request.hpp"

namespace nacre::nbd {

// --- One op -------------------------------------------------------------------------------------

void connection::submit(request& r) noexcept {
    io_op& op = *r.op;
    op.run = &io_op::run_user;
    op.owner = &r;
    op.done = [](io_op& done) noexcept {
        auto& of = *static_cast<request*>(done.owner);
        of.owner->came_back(of, done.status);
    };
    if (!export_.channel.base().enter(op)) came_back(r, op.status);
}

void connection::came_back(request& r, error status) noexcept {
    if (status.ok() && r.flush_after) {
        r.flush_after = false;
        r.op.emplace(opcode::flush, lba(), block_count());
        submit(r);
        return;
    }
    finish(r, to_wire(status));
}

/// Writes the reply's header and queues it; the payload, if any, is at r.data.
void connection::finish(request& r, wire_error code) noexcept {
    if (std::exchange(r.guarded, false)) guard_.leave(r);
    std::byte* const to = r.reply_header.data();
    const std::uint64_t cookie = r.header.cookie;
    const command what = r.header.what;
    const bool chunked =
        session_.terms.structured && (what == command::read || what == command::block_status);
    std::size_t length = 0;
    if (code != wire_error::none) {
        r.payload_length = 0;
        length = chunked ? put_error_chunk(to, cookie, code) : put_simple(to, code, cookie);
    } else if (what == command::read) {
        r.payload_length = r.header.length;
        if (!chunked)
            length = put_simple(to, code, cookie);
        else if (r.header.length != 0)
            length = put_data_chunk(to, cookie, r.header.offset, r.header.length);
        else
            length = put_chunk(to, chunk::none, cookie, 0);
    } else if (what == command::block_status) {
        length = put_chunk(to, chunk::block_status, cookie, 4 + r.payload_length);
        store_be<std::uint32_t>(to + length, allocation_context_id);
        length += 4;
    } else {
        length = put_simple(to, code, cookie);
    }
    r.reply_header_length = static_cast<std::uint8_t>(length);
    r.next = nullptr;
    (replies_first_ == nullptr ? replies_first_ : replies_last_->next) = &r;
    replies_last_ = &r;
    reply_ready_.wake_all();
}

void connection::spawn(request& r, task<result<>> body) noexcept {
    if (!body.valid()) {
        finish(r, wire_error::nomem);
        return;
    }
    children_.spawn(std::move(body));
}

void connection::start(request& r) noexcept {
    const bdev& device = export_.channel.device();
    switch (r.header.what) {
        case command::read:
            start_read(r);
            return;
        case command::flush:
            if (!device.supports(opcode::flush)) break;  // nothing is kept back
            r.op.emplace(opcode::flush, lba(), block_count());
            submit(r);
            return;
        case command::trim:
            start_trim(r);
            return;
        case command::write_zeroes:
            start_write_zeroes(r);
            return;
        case command::block_status:
            spawn(r, report_status(r));
            return;
        default:
            break;
    }
    finish(r, wire_error::none);
}

void connection::start_read(request& r) noexcept {
    if (r.header.length == 0) {
        finish(r, wire_error::none);
        return;
    }
    const std::uint64_t first = r.header.offset / block_bytes_;
    const std::uint64_t end = divide_up(r.header.offset + r.header.length, block_bytes_);
    const std::size_t bytes = (end - first) * block_bytes_;
    r.memory = buffers_.take(bytes);
    if (r.memory.data == nullptr) {
        finish(r, wire_error::nomem);
        return;
    }
    r.data = r.memory.data + r.header.offset % block_bytes_;
    r.op.emplace(opcode::read, std::uint8_t{0}, lba(first), iov_view(r.memory.data, bytes));
    submit(r);
}

// --- Writes, in whole blocks or not
// ----------------------------------------------------------------

bool connection::prepare_write(request& r) noexcept {
    const std::uint64_t pad = r.header.offset % block_bytes_;
    r.memory = buffers_.take(align_up(pad + r.header.length, block_bytes_));
    r.data = r.memory.data + pad;
    return r.memory.data != nullptr;
}

void connection::write_received(request& r) noexcept {
    if (r.header.length == 0) {
        finish(r, wire_error::none);
        return;
    }
    enter_guard(r, ((r.header.offset | r.header.length) & (block_bytes_ - 1)) != 0);
}

void connection::enter_guard(request& r, bool exclusive) noexcept {
    r.first = r.header.offset / block_bytes_;
    r.end = divide_up(r.header.offset + r.header.length, block_bytes_);
    r.exclusive = exclusive;
    r.guarded = true;
    r.admitted = [](write_guard::entry& e) noexcept {
        auto& of = static_cast<request&>(e);
        of.owner->let_in(of);
    };
    if (guard_.enter(r)) let_in(r);
}

void connection::let_in(request& r) noexcept {
    const block_count blocks(r.end - r.first);
    switch (r.header.what) {
        case command::write: {
            if (r.exclusive) {
                spawn(r, write_parts(r));
                return;
            }
            const std::uint8_t flags =
                r.header.has(command_flag::fua) ? io_op::flag_fua : std::uint8_t{0};
            r.op.emplace(opcode::write, flags, lba(r.first),
                         iov_view(r.memory.data, r.header.length));
            break;
        }
        case command::write_zeroes:
            if (r.exclusive) {
                spawn(r, zero_parts(r));
                return;
            }
            r.op.emplace(opcode::write_zeroes, lba(r.first), blocks);
            break;
        default:
            r.op.emplace(opcode::unmap, lba(r.first), blocks);
            break;
    }
    submit(r);
}

/// The blocks at either end are read around what the client sent; then all is one write.
task<result<>> connection::write_parts(request& r) {
    const std::uint64_t pad = r.header.offset % block_bytes_;
    const std::uint64_t tail = (r.header.offset + r.header.length) % block_bytes_;
    result<> done;
    if (pad != 0 || (tail != 0 && r.end - r.first == 1))
        done = co_await fill_edge(r, r.first, r.memory.data);
    if (done && tail != 0 && (r.end - r.first > 1))
        done =
            co_await fill_edge(r, r.end - 1, r.memory.data + (r.end - 1 - r.first) * block_bytes_);
    if (done) {
        const iov_view whole(r.memory.data, (r.end - r.first) * block_bytes_);
        done = co_await export_.channel.write(lba(r.first), whole, r.header.has(command_flag::fua));
    }
    finish(r, done ? wire_error::none : to_wire(done.error()));
    co_return result<>();
}

/// Reads `block` and copies to `into`, where it belongs, what of it the client did not send.
task<result<>> connection::fill_edge(request& r, std::uint64_t block, std::byte* into) {
    buffer_cache::buffer old = buffers_.take(block_bytes_);
    if (old.data == nullptr) co_return fail(ENOMEM);
    result<> read = co_await export_.channel.read(lba(block), iov_view(old.data, block_bytes_));
    if (read) {
        const std::uint64_t start = block * block_bytes_;
        const std::uint64_t from = std::max(r.header.offset, start) - start;
        const std::uint64_t to =
            std::min(r.header.offset + r.header.length, start + block_bytes_) - start;
        std::memcpy(into, old.data, from);
        std::memcpy(into + to, old.data + to, block_bytes_ - to);
    }
    buffers_.give_back(old);
    co_return read;
}

// --- Trim and zeroes
// ------------------------------------------------------------------------------

void connection::start_trim(request& r) noexcept {
    // A hint: parts of blocks are left alone.
    const std::uint64_t first = divide_up(r.header.offset, block_bytes_);
    const std::uint64_t end = (r.header.offset + r.header.length) / block_bytes_;
    if (first >= end) {
        finish(r, wire_error::none);
        return;
    }
    r.header.offset = first * block_bytes_;
    r.header.length = static_cast<std::uint32_t>((end - first) * block_bytes_);
    r.flush_after =
        r.header.has(command_flag::fua) && export_.channel.device().attributes().write_cache;
    enter_guard(r, false);
}

void connection::start_write_zeroes(request& r) noexcept {
    const bdev_attributes& a = export_.channel.device().attributes();
    const bool parts = ((r.header.offset | r.header.length) & (block_bytes_ - 1)) != 0;
    const bool native = (a.operations & bit(opcode::write_zeroes)) != 0;
    if (r.header.has(command_flag::fast_zero) && (parts || !native)) {
        finish(r, wire_error::notsup);
        return;
    }
    if (r.header.length == 0) {
        finish(r, wire_error::none);
        return;
    }
    r.flush_after = r.header.has(command_flag::fua) && a.write_cache;
    enter_guard(r, parts);
}

/// Whole blocks are zeroed by the device, parts of blocks by read, change, write.
task<result<>> connection::zero_parts(request& r) {
    const std::uint64_t from = r.header.offset;
    const std::uint64_t to = from + r.header.length;
    const std::uint64_t whole_from = std::min(align_up(from, block_bytes_), to);
    const std::uint64_t whole_to = std::max(align_down(to, block_bytes_), whole_from);
    buffer_cache::buffer block = buffers_.take(block_bytes_);
    result<> done;
    if (block.data == nullptr) done = fail(ENOMEM);
    if (done && from != whole_from) done = co_await zero_part(from, whole_from, block.data);
    if (done && whole_from != whole_to) {
        const lba first(whole_from / block_bytes_);
        const block_count n((whole_to - whole_from) / block_bytes_);
        done = co_await export_.channel.write_zeroes(first, n);
    }
    if (done && whole_to != to) done = co_await zero_part(whole_to, to, block.data);
    if (done && r.flush_after) done = co_await export_.channel.flush();
    r.flush_after = false;
    buffers_.give_back(block);
    finish(r, done ? wire_error::none : to_wire(done.error()));
    co_return result<>();
}

/// Bytes `from` to `to`, within one block.
task<result<>> connection::zero_part(std::uint64_t from, std::uint64_t to, std::byte* block) {
    const lba at(from / block_bytes_);
    const iov_view whole(block, block_bytes_);
    result<> done = co_await export_.channel.read(at, whole);
    if (!done) co_return done;
    std::memset(block + from % block_bytes_, 0, to - from);
    done = co_await export_.channel.write(at, whole);
    co_return done;
}

// --- Block status
// ---------------------------------------------------------------------------------

/// Holes read as zeros; a device that knows no holes is all data.
task<result<>> connection::report_status(request& r) {
    const std::uint64_t end = r.header.offset + r.header.length;
    r.memory = buffers_.take(extents_max * extent_bytes);
    if (r.memory.data == nullptr) {
        finish(r, wire_error::nomem);
        co_return result<>();
    }
    r.data = r.memory.data;
    extent_list extents(std::span(r.memory.data, r.memory.capacity()),
                        r.header.has(command_flag::req_one) ? 1 : extents_max);
    std::uint64_t at = r.header.offset;
    error failed;
    while (at < end) {
        std::uint64_t data = at;
        std::uint64_t hole = end;
        if (export_.can_seek) {
            result<std::optional<lba>> found =
                co_await export_.channel.seek_data(lba(at / block_bytes_));
            if (!found) {
                failed = found.error();
                break;
            }
            data = found->has_value() ? std::max(at, (*found)->value() * block_bytes_) : end;
            data = std::min(data, end);
        }
        if (!extents.add(static_cast<std::uint32_t>(data - at),
                         extent_flag::hole | extent_flag::zero))
            break;
        if (data < end && export_.can_seek) {
            result<std::optional<lba>> found =
                co_await export_.channel.seek_hole(lba(data / block_bytes_));
            if (!found) {
                failed = found.error();
                break;
            }
            if (found->has_value())
                hole = std::clamp((*found)->value() * block_bytes_, data + 1, end);
        }
        if (!extents.add(static_cast<std::uint32_t>(hole - data), 0)) break;
        at = hole;
    }
    r.payload_length = static_cast<std::uint32_t>(extents.bytes());
    if (extents.count() == 0 && failed.ok()) failed = error::posix(EIO);
    finish(r, extents.count() != 0 ? wire_error::none : to_wire(failed));
    co_return result<>();
}

}  // namespace nacre::nbd
