// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/sim/file.hpp"

#include <sys/uio.h>

#include <algorithm>
#include <cstring>

#include "nacre/core/bytes.hpp"

namespace nacre::sim {
namespace {

using kind = io_request::kind;

bool changes(kind what) noexcept {
    return what == kind::write || what == kind::punch_hole || what == kind::zero_range ||
           what == kind::allocate;
}

std::uint64_t vector_bytes(const io_request& request) noexcept {
    std::uint64_t total = 0;
    for (std::uint32_t i = 0; i < request.iov_count; ++i) total += request.iov[i].iov_len;
    return total;
}

/// The first `length` bytes of what a write carries.
std::vector<std::byte> gather(const io_request& request, std::uint64_t length) {
    std::vector<std::byte> data;
    data.reserve(length);
    for (std::uint32_t i = 0; i < request.iov_count && data.size() < length; ++i) {
        const std::uint64_t n =
            std::min<std::uint64_t>(request.iov[i].iov_len, length - data.size());
        const auto* from = static_cast<const std::byte*>(request.iov[i].iov_base);
        data.insert(data.end(), from, from + n);
    }
    return data;
}

/// Some leading sectors of `length` bytes, at least one, at most all but one.
std::uint64_t shortened(std::uint64_t length, prng& dice) noexcept {
    const std::uint64_t sectors = divide_up(length, sector_bytes);
    return sectors < 2 ? length : dice.between(1, sectors - 1) * sector_bytes;
}

}  // namespace

void file::fail_operation(std::uint64_t n, int error_number) {
    planned_.push_back({operations_ + n, error_number});
}

void file::peek(std::uint64_t offset, std::span<std::byte> out) const noexcept {
    current_.read(offset, out);
}

void file::peek_durable(std::uint64_t offset, std::span<std::byte> out) const noexcept {
    durable_.read(offset, out);
}

void file::poke(std::uint64_t offset, std::span<const std::byte> in) {
    supersede(offset, in.size());
    current_.write(offset, in);
    durable_.write(offset, in);
    size_ = std::max(size_, offset + in.size());
    durable_size_ = std::max(durable_size_, offset + in.size());
}

void file::rot(std::uint64_t offset, unsigned bit) {
    std::byte b{};
    current_.read(offset, {&b, 1});
    b ^= std::byte{1} << (bit & 7U);
    poke(offset, {&b, 1});
    ++faults_injected_;
}

file::verdict file::judge(const io_request& request, prng& dice) noexcept {
    ++operations_;
    verdict v;
    const auto hits = [&dice](double p) { return p > 0 && dice.chance(p); };
    for (std::size_t i = 0; i < planned_.size(); ++i) {
        if (planned_[i].operation != operations_) continue;
        v.error_number = planned_[i].error_number;
        planned_.erase(planned_.begin() + static_cast<std::ptrdiff_t>(i));
        break;
    }
    if (v.error_number == 0) {
        const double p = request.what == kind::read   ? trouble_.read_error
                         : request.what == kind::sync ? trouble_.sync_error
                                                      : trouble_.write_error;
        if (hits(p)) v.error_number = trouble_.error_number;
    }
    if (hits(trouble_.slow)) v.extra_ns += trouble_.slow_ns;
    v.hung = hits(trouble_.late);
    if (v.hung) v.extra_ns += trouble_.late_ns;
    if (v.hung || v.error_number != 0) ++faults_injected_;
    return v;
}

std::int32_t file::complete(const io_request& request, std::uint64_t watermark,
                            std::uint64_t room_bytes, prng& dice) {
    if (trouble_.unplugged) {
        ++faults_injected_;
        return -ENODEV;
    }
    if (trouble_.read_only && changes(request.what)) {
        ++faults_injected_;
        return -EROFS;
    }
    switch (request.what) {
        case kind::read:
            return complete_read(request, dice);
        case kind::write:
            return complete_write(request, room_bytes, dice);
        case kind::punch_hole:
        case kind::zero_range:
            return complete_zero(request);
        case kind::allocate:
            if (request.length > INT64_MAX || request.offset > INT64_MAX - request.length)
                return -EFBIG;
            if (!space_for(request.offset, request.length, room_bytes)) return -ENOSPC;
            allocate(request.offset + request.length);
            return 0;
        case kind::sync:
            sync(watermark);
            return 0;
        default:
            return -EINVAL;
    }
}

std::int32_t file::complete_read(const io_request& request, prng& dice) {
    const std::uint64_t total = vector_bytes(request);
    std::uint64_t length = request.offset >= size_ ? 0 : std::min(total, size_ - request.offset);
    if (trouble_.short_transfer > 0 && dice.chance(trouble_.short_transfer)) {
        length = shortened(length, dice);
        ++faults_injected_;
    }
    const bool rots = length != 0 && trouble_.rot_on_read > 0 && dice.chance(trouble_.rot_on_read);
    const std::uint64_t rotten = rots ? dice.below(length) : UINT64_MAX;
    std::uint64_t done = 0;
    for (std::uint32_t i = 0; i < request.iov_count && done < length; ++i) {
        const std::uint64_t n = std::min<std::uint64_t>(request.iov[i].iov_len, length - done);
        auto* to = static_cast<std::byte*>(request.iov[i].iov_base);
        current_.read(request.offset + done, {to, n});
        if (rotten >= done && rotten - done < n) {
            to[rotten - done] ^= std::byte{1} << dice.below(8);
            ++faults_injected_;
        }
        done += n;
    }
    return static_cast<std::int32_t>(length);
}

std::int32_t file::complete_write(const io_request& request, std::uint64_t room_bytes, prng& dice) {
    std::uint64_t length = vector_bytes(request);
    if (request.offset > INT64_MAX || length > INT64_MAX - request.offset) return -EFBIG;
    if (trouble_.short_transfer > 0 && dice.chance(trouble_.short_transfer)) {
        length = shortened(length, dice);
        ++faults_injected_;
    }
    const auto answer = static_cast<std::int32_t>(length);
    if (length == 0) return answer;
    if (!space_for(request.offset, length, room_bytes)) return -ENOSPC;
    if (trouble_.lost_write > 0 && dice.chance(trouble_.lost_write)) {
        ++faults_injected_;
        return answer;
    }
    record r{++newest_, request.offset, length, gather(request, length)};
    if (trouble_.rot_on_write > 0 && dice.chance(trouble_.rot_on_write)) {
        r.data[dice.below(length)] ^= std::byte{1} << dice.below(8);
        ++faults_injected_;
    }
    if (trouble_.misdirected_write > 0 && size_ > length &&
        dice.chance(trouble_.misdirected_write)) {
        const std::uint64_t places = (size_ - length) / sector_bytes + 1;
        r.offset = dice.below(places) * sector_bytes;
        ++faults_injected_;
    }
    if ((request.flags & io_request::flag_dsync) == 0) {
        cache(std::move(r));
        return answer;
    }
    supersede(r.offset, r.length);
    current_.write(r.offset, r.data);
    size_ = std::max(size_, r.offset + r.length);
    make_durable(r);
    return answer;
}

std::int32_t file::complete_zero(const io_request& request) {
    if (request.length == 0) return -EINVAL;
    if (request.offset >= size_) return 0;
    cache({++newest_, request.offset, std::min(request.length, size_ - request.offset), {}});
    return 0;
}

void file::cache(record r) {
    if (r.data.empty())
        current_.zero(r.offset, r.length);
    else
        current_.write(r.offset, r.data);
    size_ = std::max(size_, r.offset + r.length);
    cached_bytes_ += r.data.size();
    unsynced_.push_back(std::move(r));
    while (cached_bytes_ > cache_bytes_max_ && unsynced_.size() > 1) {  // it destages the oldest
        make_durable(unsynced_.front());
        cached_bytes_ -= unsynced_.front().data.size();
        unsynced_.pop_front();
    }
}

void file::make_durable(const record& r) {
    if (r.data.empty())
        durable_.zero(r.offset, r.length);
    else
        durable_.write(r.offset, r.data);
    durable_size_ = std::max(durable_size_, r.offset + r.length);
}

void file::sync(std::uint64_t watermark) {
    while (!unsynced_.empty() && unsynced_.front().number <= watermark) {
        make_durable(unsynced_.front());
        cached_bytes_ -= unsynced_.front().data.size();
        unsynced_.pop_front();
    }
}

void file::supersede(std::uint64_t offset, std::uint64_t length) {
    // What is durable from now on must not be undone by an older write that is kept later.
    const std::uint64_t end = length > UINT64_MAX - offset ? UINT64_MAX : offset + length;
    const auto overlaps = [offset, end](const record& r) {
        return r.offset < end && offset < r.offset + r.length;
    };
    if (std::none_of(unsynced_.begin(), unsynced_.end(), overlaps)) return;
    std::deque<record> kept;
    for (record& r : unsynced_) {
        if (!overlaps(r)) {
            kept.push_back(std::move(r));
            continue;
        }
        const auto piece = [&r](std::uint64_t from, std::uint64_t to) {
            record p{r.number, from, to - from, {}};
            if (!r.data.empty())
                p.data.assign(r.data.begin() + static_cast<std::ptrdiff_t>(from - r.offset),
                              r.data.begin() + static_cast<std::ptrdiff_t>(to - r.offset));
            return p;
        };
        cached_bytes_ -= r.data.size();
        for (const auto& [from, to] : {std::pair(r.offset, std::min(offset, r.offset + r.length)),
                                       std::pair(std::max(end, r.offset), r.offset + r.length)}) {
            if (from >= to) continue;
            kept.push_back(piece(from, to));
            cached_bytes_ += kept.back().data.size();
        }
    }
    unsynced_ = std::move(kept);
}

void file::scribble(const io_request& request, prng& dice) {
    if (!trouble_.failed_write_scribbles || trouble_.unplugged || trouble_.read_only) return;
    if (request.what != kind::write && request.what != kind::punch_hole &&
        request.what != kind::zero_range)
        return;
    const record r = record_of(request);
    if (r.length == 0 || r.offset >= size_) return;
    // Within the size: a write that fails does not make the file grow.
    const std::uint64_t end = std::min(r.offset + r.length, size_);
    for (std::uint64_t at = r.offset; at < end;) {
        const std::uint64_t next = std::min(end, align_down(at, atomic_bytes_) + atomic_bytes_);
        if (dice.below(2) == 0) {
            record sector{++newest_, at, next - at, {}};
            if (!r.data.empty())
                sector.data.assign(r.data.begin() + static_cast<std::ptrdiff_t>(at - r.offset),
                                   r.data.begin() + static_cast<std::ptrdiff_t>(next - r.offset));
            cache(std::move(sector));
        }
        at = next;
    }
}

file::record file::record_of(const io_request& request) {
    if (request.what == kind::write) {
        const std::uint64_t length = vector_bytes(request);
        return {0, request.offset, length, gather(request, length)};
    }
    const std::uint64_t room = request.offset < size_ ? size_ - request.offset : 0;
    return {0, request.offset, std::min(request.length, room), {}};
}

void file::add_in_flight(const io_request& request) {
    if (trouble_.unplugged || trouble_.read_only) return;
    if (request.what != kind::write && request.what != kind::punch_hole &&
        request.what != kind::zero_range)
        return;
    record r = record_of(request);
    if (r.length == 0 || r.offset > INT64_MAX || r.length > INT64_MAX - r.offset) return;
    r.number = ++newest_;
    unsynced_.push_back(std::move(r));
}

void file::settle_torn(const record& r, prng& dice) {
    // Either a prefix of the sectors made it, or any of them.
    const std::uint64_t first = r.offset / atomic_bytes_;
    const std::uint64_t count = (r.offset + r.length - 1) / atomic_bytes_ - first + 1;
    const bool prefix = dice.below(2) == 0;
    const std::uint64_t kept_count = dice.below(count + 1);
    for (std::uint64_t i = 0; i < count; ++i) {
        if (prefix ? i >= kept_count : dice.below(2) == 0) continue;
        const std::uint64_t from = std::max(r.offset, (first + i) * atomic_bytes_);
        const std::uint64_t to = std::min(r.offset + r.length, (first + i + 1) * atomic_bytes_);
        if (r.data.empty())
            durable_.zero(from, to - from);
        else
            durable_.write(from, std::span(r.data).subspan(from - r.offset, to - from));
        durable_size_ = std::max(durable_size_, to);
    }
}

std::uint64_t file::lose_power(prng& dice) {
    std::uint64_t digest = unsynced_.size();
    std::vector<const record*> order;
    order.reserve(unsynced_.size());
    for (const record& r : unsynced_) order.push_back(&r);
    for (std::size_t left = order.size(); left > 1; --left)
        std::swap(order[left - 1], order[dice.below(left)]);
    // One cut in four is extreme: the cache saves everything, or nothing.
    const std::uint64_t mood = order.empty() ? 0 : dice.below(8);
    for (const record* r : order) {
        const std::uint64_t fate = mood == 0 ? 0 : mood == 1 ? 9 : dice.below(10);
        digest = (digest ^ (r->number * 16 + fate)) * 0x9e3779b97f4a7c15;
        if (fate < 4) continue;  // lost
        if (fate < 7)
            settle_torn(*r, dice);
        else
            make_durable(*r);
    }
    for (const record& r : unsynced_) current_.copy_from(durable_, r.offset, r.length);
    unsynced_.clear();
    cached_bytes_ = 0;
    size_ = durable_size_;
    return digest;
}

bool file::space_for(std::uint64_t offset, std::uint64_t length,
                     std::uint64_t room_bytes) const noexcept {
    if (room_bytes == UINT64_MAX && trouble_.space_bytes_max == UINT64_MAX) return true;
    const std::uint64_t used = used_bytes();
    const std::uint64_t own = trouble_.space_bytes_max > used ? trouble_.space_bytes_max - used : 0;
    return current_.missing_pages(offset, length) * sparse_image::page_bytes <=
           std::min(own, room_bytes);
}

void file::resize(std::uint64_t size_bytes) {
    if (size_bytes < size_) {
        supersede(size_bytes, UINT64_MAX - size_bytes);
        current_.zero(size_bytes, UINT64_MAX - size_bytes);
        durable_.zero(size_bytes, UINT64_MAX - size_bytes);
    }
    size_ = durable_size_ = size_bytes;
}

void file::allocate(std::uint64_t size_bytes) {
    size_ = std::max(size_, size_bytes);
    durable_size_ = std::max(durable_size_, size_bytes);
}

result<std::uint64_t> file::seek(std::uint64_t offset, bool data) const noexcept {
    if (offset >= size_) return fail(ENXIO);
    const std::uint64_t at = data ? current_.next_data(offset) : current_.next_hole(offset);
    if (at >= size_) {
        if (data) return fail(ENXIO);
        return size_;
    }
    return at;
}

}  // namespace nacre::sim
