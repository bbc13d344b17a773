// SPDX-License-Identifier: BSD-3-Clause
#include "file_channel.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <new>

#include "nacre/core/log.hpp"

namespace nacre {
namespace {

/// As many ranges as the kernel takes at once (IOV_MAX).
constexpr std::uint32_t vectors_max = 1024;
/// Errors of one device that are written to the log; statistics count all of them.
constexpr unsigned errors_reported_max = 10;

constexpr std::uint32_t transfer_opcodes = bit(opcode::read) | bit(opcode::write);
constexpr std::uint32_t request_opcodes =
    transfer_opcodes | bit(opcode::flush) | bit(opcode::unmap) | bit(opcode::write_zeroes);

/// The source of zeros where the file system cannot make them itself.
constexpr std::size_t zero_bytes = 65536;
alignas(4096) constinit const std::byte zeros[zero_bytes]{};

}  // namespace

struct file_channel::vector_array {
    std::unique_ptr<vector_array> next;
    std::array<iovec, vectors_max> vectors;
};

file_channel::vector_list::vector_list() noexcept = default;
file_channel::vector_list::~vector_list() {
    while (first != nullptr) first = std::move(first->next);
}

/// In the op's backend_area while the kernel, or its completion, has it.
struct file_channel::request : io_request, list_hook {
    request(file_channel& c, io_op& o) noexcept : channel(c), op(o) {
        run = [](work& w) noexcept {
            auto& r = static_cast<request&>(static_cast<io_request&>(w));
            r.channel.came_back(r);
        };
        fd = c.file_.fd;
        file_slot = c.file_slot_;
        home = &c.home();
        offset = o.first.value() << c.block_shift_;
        length = o.blocks.value() << c.block_shift_;
    }
    file_channel& channel;
    io_op& op;
    io_op* reset = nullptr;  // waits for this request
    vector_array* vectors = nullptr;
    iovec one;
};

file_channel::file_channel(bdev& device, file_state& file) noexcept
    : module_channel(device),
      file_(file),
      block_shift_(static_cast<unsigned>(__builtin_ctzll(device.block_size().value()))),
      registration_(home().host().driver().register_file(file.fd)),
      file_slot_(registration_.file_slot()) {}

void file_channel::submit(io_op& op) noexcept {
    static_assert(sizeof(request) <= sizeof op.backend_area);
    static_assert(std::is_trivially_destructible_v<io_request>);
    if ((request_opcodes & bit(op.code)) == 0) [[unlikely]] {
        switch (op.code) {
            case opcode::seek_data:
            case opcode::seek_hole:
                seek(op);
                return;
            case opcode::reset:
                reset(op);
                return;
            case opcode::abort:
                request_abort(*op.target);
                op.complete();
                return;
            default:
                op.complete(error::posix(ENOTSUP));
                return;
        }
    }
    request& r = *new (op.backend_area.data()) request(*this, op);
    outstanding_.push_back(r);
    switch (op.code) {
        case opcode::read:
            r.what = io_request::kind::read;
            submit_transfer(r);
            return;
        case opcode::write:
            r.what = io_request::kind::write;
            if ((op.flags & io_op::flag_fua) != 0) r.flags = io_request::flag_dsync;
            submit_transfer(r);
            return;
        case opcode::flush:
            r.what = io_request::kind::sync;
            hand_over(r);
            return;
        default:
            submit_deallocation(r);
            return;
    }
}

void file_channel::hand_over(request& r) noexcept { home().host().driver().submit(r); }

/// What is left of the transfer: r.offset and r.length say it.
void file_channel::submit_transfer(request& r) noexcept {
    const iov_view& data = r.op.data;
    const std::size_t done = data.size() - r.length;
    if (data.contiguous()) [[likely]] {
        r.one = iovec{data.data() + done, r.length};
        r.iov = &r.one;
        r.iov_count = 1;
        hand_over(r);
        return;
    }
    const std::span<const iovec> whole = data.whole_vectors();
    if (done == 0 && !whole.empty() && whole.size() <= vectors_max) {
        r.iov = whole.data();
        r.iov_count = static_cast<std::uint32_t>(whole.size());
        hand_over(r);
        return;
    }
    if (r.vectors == nullptr) r.vectors = take_vectors();
    if (r.vectors == nullptr) {
        finish(r, error::posix(ENOMEM));
        return;
    }
    std::array<iovec, vectors_max>& vectors = r.vectors->vectors;
    std::size_t count = data.slice(done, r.length).to_vectors(vectors);
    std::size_t bytes = 0;
    for (std::size_t i = 0; i < count; ++i) bytes += vectors[i].iov_len;
    // A part of the view must still be a multiple of what the device takes.
    for (std::size_t excess = bytes % file_.offset_alignment; excess != 0;) {
        const std::size_t cut = std::min(excess, vectors[count - 1].iov_len);
        vectors[count - 1].iov_len -= cut;
        excess -= cut;
        bytes -= cut;
        if (vectors[count - 1].iov_len == 0) --count;
    }
    if (bytes == 0) {
        finish(r, error::posix(EINVAL));
        return;
    }
    r.iov = vectors.data();
    r.iov_count = static_cast<std::uint32_t>(count);
    hand_over(r);
}

file_channel::vector_array* file_channel::take_vectors() noexcept {
    if (spare_vectors_.first == nullptr) return new (std::nothrow) vector_array;
    vector_array* taken = spare_vectors_.first.release();
    spare_vectors_.first = std::move(taken->next);
    return taken;
}

void file_channel::submit_deallocation(request& r) noexcept {
    const bool hole = !file_.punch_hole_refused.load(std::memory_order_relaxed);
    if (r.op.code == opcode::unmap) {
        if (!hole) {  // the contents stay, as they may
            finish(r, error());
            return;
        }
        r.what = io_request::kind::punch_hole;
    } else if (!file_.zero_range_refused.load(std::memory_order_relaxed)) {
        r.what = io_request::kind::zero_range;
    } else if (hole) {
        r.what = io_request::kind::punch_hole;
    } else {
        r.what = io_request::kind::write;
        submit_zeros(r);
        return;
    }
    hand_over(r);
}

void file_channel::submit_zeros(request& r) noexcept {
    if (r.vectors == nullptr) r.vectors = take_vectors();
    if (r.vectors == nullptr) {
        finish(r, error::posix(ENOMEM));
        return;
    }
    std::uint32_t count = 0;
    for (std::uint64_t left = r.length; left != 0 && count < vectors_max; ++count) {
        const std::uint64_t n = std::min<std::uint64_t>(left, zero_bytes);
        r.vectors->vectors[count] = iovec{const_cast<std::byte*>(zeros), n};
        left -= n;
    }
    r.iov = r.vectors->vectors.data();
    r.iov_count = count;
    hand_over(r);
}

void file_channel::came_back(request& r) noexcept {
    const bool transfer = r.what == io_request::kind::read || r.what == io_request::kind::write;
    if (r.result < 0) [[unlikely]] {
        if (r.result == -EINTR || r.result == -EAGAIN) {
            hand_over(r);
            return;
        }
        if (try_otherwise(r)) return;
        answer(r, error::posix(-r.result));
        return;
    }
    if (!transfer) {
        answer(r, error());
        return;
    }
    const auto moved = static_cast<std::uint64_t>(r.result);
    if (moved == r.length) [[likely]] {
        answer(r, error());
        return;
    }
    // Nothing at all where the device has blocks: the file is shorter than it was.
    if (moved == 0 || moved > r.length) {
        answer(r, error::posix(EIO));
        return;
    }
    r.offset += moved;
    r.length -= moved;
    if (r.op.code == opcode::write_zeroes)
        submit_zeros(r);
    else
        submit_transfer(r);
}

bool file_channel::try_otherwise(request& r) noexcept {
    if (r.result != -EOPNOTSUPP) return false;
    if (r.what == io_request::kind::zero_range)
        file_.zero_range_refused.store(true, std::memory_order_relaxed);
    else if (r.what == io_request::kind::punch_hole)
        file_.punch_hole_refused.store(true, std::memory_order_relaxed);
    else
        return false;
    submit_deallocation(r);
    return true;
}

void file_channel::finish(request& r, error status) noexcept {
    settle(r, status);
    r.op.complete(status);
}

void file_channel::answer(request& r, error status) noexcept {
    settle(r, status);
    r.op.status = status;
    r.op.run(r.op);
}

void file_channel::settle(request& r, error status) noexcept {
    if (r.vectors != nullptr) {
        r.vectors->next = std::move(spare_vectors_.first);
        spare_vectors_.first.reset(r.vectors);
    }
    if (status.failed() && !status.is(ECANCELED) && !status.is(ENOMEM)) [[unlikely]]
        report(r, status);
    r.list_hook::unlink();
    if (r.reset != nullptr) [[unlikely]] {
        // Its backend_area counts what it waits for.
        auto& waiting = *reinterpret_cast<std::uint64_t*>(r.reset->backend_area.data());
        if (--waiting == 0) r.reset->complete();
    }
}

void file_channel::report(const request& r, error status) noexcept {
    const unsigned before = file_.errors_reported.fetch_add(1, std::memory_order_relaxed);
    if (before >= errors_reported_max) return;
    log::error("file", fmt::format("{}: {} of {} bytes at {} of {}: {}{}", device().name(),
                                   name_of(r.op.code), r.length, r.offset, file_.path,
                                   r.result == 0 && status.is(EIO)
                                       ? std::string("the file has become shorter than the bdev")
                                       : describe(status),
                                   before + 1 == errors_reported_max
                                       ? "; further errors are only counted (bdev_get_iostat)"
                                       : ""));
}

// --- What needs no request ----------------------------------------------------------------------

void file_channel::request_abort(io_op& op) noexcept {
    if ((request_opcodes & bit(op.code)) == 0) return;
    // Only if it is here: it may have come back already, or be waiting elsewhere.
    for (request* r = outstanding_.front(); r != nullptr; r = outstanding_.next(*r)) {
        if (&r->op != &op) continue;
        home().host().driver().cancel(*r);
        return;
    }
}

void file_channel::reset(io_op& op) noexcept {
    auto& waiting = *new (op.backend_area.data()) std::uint64_t(0);
    for (request* r = outstanding_.front(); r != nullptr; r = outstanding_.next(*r)) {
        home().host().driver().cancel(*r);
        if (r->reset != nullptr) continue;  // an earlier reset waits for it, and this one does not
        r->reset = &op;
        ++waiting;
    }
    if (waiting == 0) op.complete();
}

result<std::uint64_t> file_channel::find_hole(std::uint64_t offset) const noexcept {
    const std::uint64_t block = 1ULL << block_shift_;
    while (true) {
        const result<std::uint64_t> hole = file_.outside->seek_file(file_.fd, offset, false);
        if (!hole) return hole;
        // The first whole block in the hole, if the hole reaches that far.
        const std::uint64_t first = (*hole + block - 1) & ~(block - 1);
        const result<std::uint64_t> data = file_.outside->seek_file(file_.fd, *hole, true);
        if (!data) return data.error().is(ENXIO) ? result<std::uint64_t>(first) : data;
        if (*data >= first + block) return first;
        offset = *data;
    }
}

void file_channel::seek(io_op& op) noexcept {
    const std::uint64_t from = op.first.value() << block_shift_;
    const bool data = op.code == opcode::seek_data;
    const result<std::uint64_t> found =
        data ? file_.outside->seek_file(file_.fd, from, true) : find_hole(from);
    if (!found && !found.error().is(ENXIO)) {
        op.complete(found.error());
        return;
    }
    op.found = found ? *found >> block_shift_ : UINT64_MAX;
    // The end of a file counts as a hole; the end of a device is none.
    if (op.found >= device().blocks().value()) op.found = UINT64_MAX;
    op.complete();
}

}  // namespace nacre
