// SPDX-License-Identifier: BSD-3-Clause
#include "copy_data.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "nacre/core/bytes.hpp"
#include "nacre/core/parse.hpp"
#include "nacre/memory/aligned_bytes.hpp"
#include "nacre/runtime/scope.hpp"
#include "nacre/runtime/sync.hpp"
#include "nacre/world/world.hpp"

namespace nacre::cli {
namespace {

class bdev_end final : public copy_end {
public:
    bdev_end(std::string name, bdev_channel channel)
        : copy_end(std::move(name)),
          channel_(std::move(channel)),
          block_(channel_.device().block_size().value()),
          size_(channel_.device().size().value()) {}
    [[nodiscard]] std::optional<std::uint64_t> size() const noexcept override { return size_; }
    [[nodiscard]] std::uint64_t block() const noexcept override { return block_; }

    task<result<std::size_t>> read(std::uint64_t at, std::span<std::byte> into) override {
        const std::size_t n = std::min<std::uint64_t>(into.size(), size_ - std::min(at, size_));
        if (n == 0) co_return 0;
        const iov_view view(into.first(n));
        result<> done = co_await channel_.read(lba(at / block_), view);
        if (!done) co_return fail(done.error());
        co_return n;
    }

    task<result<>> write(std::uint64_t at, std::span<const std::byte> from) override {
        const std::size_t whole = align_down(from.size(), block_);
        if (at + from.size() > size_) co_return fail(ENOSPC);
        result<> done;
        if (whole != 0) {
            const const_iov_view view(from.first(whole));
            done = co_await channel_.write(lba(at / block_), view);
        }
        if (!done || whole == from.size()) co_return done;
        // The end of a file in the middle of a block: what is behind it stays.
        aligned_bytes last(block_);
        const iov_view into{std::span<std::byte>(last)};
        const lba place((at + whole) / block_);
        done = co_await channel_.read(place, into);
        if (!done) co_return done;
        std::ranges::copy(from.subspan(whole), last.begin());
        const const_iov_view view{std::span<const std::byte>(last)};
        done = co_await channel_.write(place, view);
        co_return done;
    }

    task<result<>> zero(std::uint64_t at, std::uint64_t bytes) override {
        if (at + bytes > size_) co_return fail(ENOSPC);
        const std::uint64_t whole = align_down(bytes, block_);
        result<> done;
        if (whole != 0)
            done = co_await channel_.write_zeroes(lba(at / block_), block_count(whole / block_));
        if (!done || whole == bytes) co_return done;
        const aligned_bytes rest(bytes - whole);
        done = co_await write(at + whole, rest);
        co_return done;
    }

    task<result<std::uint64_t>> next_data(std::uint64_t at) override {
        if (!channel_.device().supports(opcode::seek_data) || at >= size_) co_return at;
        result<std::optional<lba>> found = co_await channel_.seek_data(lba(at / block_));
        if (!found) co_return fail(found.error());
        if (!*found) co_return UINT64_MAX;
        co_return std::max(at, (*found)->value() * block_);
    }

    task<result<>> finish(std::uint64_t) override {
        if (!channel_.device().supports(opcode::flush)) co_return result<>();
        result<> done = co_await channel_.flush();
        co_return done;
    }

private:
    bdev_channel channel_;
    std::uint64_t block_;
    std::uint64_t size_;
};

class copier {
public:
    copier(copy_end& from, copy_end& to, const copy_request& request)
        : from_(from), to_(to), request_(request) {
        if (request.bytes)
            end_ = request.skip + *request.bytes;
        else if (from.size())
            end_ = *from.size();
    }
    task<outcome<copy_figures>> run();

private:
    struct piece {
        std::uint64_t at = 0;
        std::size_t bytes = 0;  // 0: no more
    };
    task<result<>> work();
    task<result<>> one(std::span<std::byte> buffer, piece& p);
    task<result<>> claim(std::span<std::byte> buffer, piece& p);
    task<result<>> skip_hole();
    task<result<>> discard();
    void stop(copy_end& where, const char* what, error e);
    [[nodiscard]] std::uint64_t left() const noexcept {
        return end_ ? *end_ - std::min(*end_, next_) : UINT64_MAX;
    }
    void advance(std::uint64_t bytes) {
        done_ += bytes;
        if (!request_.progress) return;
        std::optional<std::uint64_t> all;
        if (end_) all = *end_ - std::min(*end_, request_.skip);
        request_.progress(done_, all);
    }

    [[nodiscard]] bool holds_zeros() const noexcept {
        return request_.output_zeros || to_.reads_as_zeros();
    }

    copy_end& from_;
    copy_end& to_;
    const copy_request& request_;
    std::optional<std::uint64_t> end_;  // of the input; set when it is met
    std::uint64_t next_ = request_.skip;
    std::uint64_t data_ = 0;  // no hole begins before, as far as is known
    std::uint64_t done_ = 0;
    std::uint64_t written_ = 0;
    mutex claiming_;
    bool stopped_ = false;
    std::optional<failure> failed_;
};

void copier::stop(copy_end& where, const char* what, error e) {
    if (!failed_) failed_.emplace(e, fmt::format("{}: {}: {}", where.name(), what, describe(e)));
    stopped_ = true;
}

/// The input's hole at next_ becomes zeros of the output.
task<result<>> copier::skip_hole() {
    result<std::uint64_t> data = co_await from_.next_data(next_);
    if (!data) co_return result<>();  // cannot tell: then it is data
    const std::uint64_t unit = std::max(from_.block(), to_.block());
    const std::uint64_t up_to = std::min(*data, end_ ? *end_ : next_);
    const std::uint64_t hole =
        up_to == left() + next_ ? up_to - next_ : align_down(up_to - next_, unit);
    data_ = next_ + hole + request_.chunk;
    if (hole == 0) co_return result<>();
    const std::uint64_t at = next_ - request_.skip + request_.seek;
    next_ += hole;
    if (!holds_zeros()) {
        result<> zeroed = co_await to_.zero(at, hole);
        if (!zeroed) {
            stop(to_, "cannot be zeroed", zeroed.error());
            co_return zeroed;
        }
    }
    advance(hole);
    co_return result<>();
}

/// The next piece; of a pipe it is read here, since it comes in order.
task<result<>> copier::claim(std::span<std::byte> buffer, piece& p) {
    result<> locked = co_await claiming_.lock();
    if (!locked) co_return locked;
    const unlock_guard guard(claiming_);
    p.bytes = 0;
    if (stopped_) co_return locked;
    if (request_.sparse && next_ >= data_ && left() != 0) {
        result<> skipped = co_await skip_hole();
        if (!skipped) co_return skipped;
    }
    p.at = next_;
    p.bytes = std::min<std::uint64_t>(buffer.size(), left());
    if (p.bytes != 0 && !from_.size()) {
        result<std::size_t> read = co_await from_.read(p.at, buffer.first(p.bytes));
        if (!read) {
            stop(from_, "cannot be read", read.error());
            co_return fail(read.error());
        }
        if (*read < p.bytes) end_ = p.at + *read;
        p.bytes = *read;
    }
    next_ += p.bytes;
    co_return locked;
}

task<result<>> copier::one(std::span<std::byte> buffer, piece& p) {
    if (from_.size()) {
        // A bdev is read in blocks.
        const std::size_t whole =
            std::min<std::uint64_t>(align_up(p.bytes, from_.block()), buffer.size());
        result<std::size_t> read = co_await from_.read(p.at, buffer.first(whole));
        if (!read) {
            stop(from_, "cannot be read", read.error());
            co_return fail(read.error());
        }
        p.bytes = std::min(p.bytes, *read);
    }
    const std::span<const std::byte> data = buffer.first(p.bytes);
    const std::uint64_t at = p.at - request_.skip + request_.seek;
    const bool zeros = request_.skip_zeros && all_zero(data);
    result<> done;
    if (!zeros)
        done = co_await to_.write(at, data);
    else if (!holds_zeros())
        done = co_await to_.zero(at, data.size());
    if (!done) {
        stop(to_, "cannot be written", done.error());
        co_return done;
    }
    if (!zeros) written_ += p.bytes;
    advance(p.bytes);
    co_return done;
}

task<result<>> copier::work() {
    aligned_bytes buffer(align_up(request_.chunk, from_.block()));
    piece p;
    while (!stopped_) {
        result<> done = co_await claim(std::span(buffer).first(request_.chunk), p);
        if (done && p.bytes == 0) break;
        if (done) done = co_await one(buffer, p);
        if (!done) break;
    }
    co_return result<>();
}

/// Of a pipe what is skipped is read.
task<result<>> copier::discard() {
    aligned_bytes buffer(request_.chunk);
    for (std::uint64_t at = 0; at < request_.skip;) {
        const std::size_t n = std::min<std::uint64_t>(buffer.size(), request_.skip - at);
        result<std::size_t> read = co_await from_.read(at, std::span(buffer).first(n));
        if (!read) {
            stop(from_, "cannot be read", read.error());
            co_return fail(read.error());
        }
        if (*read == 0) break;
        at += *read;
    }
    co_return result<>();
}

task<outcome<copy_figures>> copier::run() {
    if (!from_.size() && request_.skip != 0) {
        result<> skipped = co_await discard();
        if (!skipped) co_return fail(std::move(*failed_));
    }
    // What goes into a pipe goes in order.
    const unsigned depth = to_.size() ? request_.depth : 1;
    scope workers;
    for (unsigned i = 0; i < depth; ++i) workers.spawn(work());
    result<> joined = co_await workers.join();
    if (!joined && !failed_) stop(to_, "cannot be copied to", joined.error());
    if (!failed_) {
        result<> finished = co_await to_.finish(request_.seek + done_);
        if (!finished) stop(to_, "cannot be made durable", finished.error());
    }
    if (failed_) co_return fail(std::move(*failed_));
    co_return copy_figures{done_, written_};
}

}  // namespace

std::unique_ptr<copy_end> make_bdev_end(std::string name, bdev_channel channel) {
    return std::make_unique<bdev_end>(std::move(name), std::move(channel));
}

task<outcome<copy_figures>> copy_data(copy_end& from, copy_end& to, const copy_request& request) {
    copier c(from, to, request);
    outcome<copy_figures> done = co_await c.run();
    co_return done;
}

// --- Progress -----------------------------------------------------------------------------------

progress_line::progress_line(bool wanted)
    : wanted_(wanted && ::isatty(STDERR_FILENO) != 0),
      began_ns_(real_world().monotonic_ns()),
      next_ns_(began_ns_ + 1'000'000'000) {}

void progress_line::show(std::uint64_t done, std::optional<std::uint64_t> all, bool bytes) {
    if (!wanted_) return;
    const std::uint64_t now = real_world().monotonic_ns();
    if (now < next_ns_) return;
    next_ns_ = now + 100'000'000;
    shown_ = true;
    const double s = static_cast<double>(now - began_ns_) * 1e-9;
    const auto mib = [](std::uint64_t n) { return static_cast<double>(n) / (1 << 20); };
    std::string line = bytes ? fmt::format("{:.1f} MiB", mib(done)) : fmt::format("{}", done);
    if (all && *all != 0)
        line += fmt::format(" of {}, {:.0f} %",
                            bytes ? fmt::format("{:.1f} MiB", mib(*all)) : fmt::format("{}", *all),
                            static_cast<double>(done) * 100 / static_cast<double>(*all));
    if (bytes) line += fmt::format(", {:.1f} MiB/s", mib(done) / s);
    fmt::print(stderr, "\r{:60}", line);
    std::fflush(stderr);
}

void progress_line::end() noexcept {
    if (shown_) fmt::print(stderr, "\r{:60}\r", "");
    shown_ = false;
}

}  // namespace nacre::cli
