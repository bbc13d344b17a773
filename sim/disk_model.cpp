// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/sim/disk_model.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "nacre/memory/dma_buffer.hpp"

namespace nacre::sim {

disk_model::disk_model(const bdev& device)
    : block_size_(device.block_size().value()),
      blocks_(device.blocks().value()),
      bytes_(blocks_ * block_size_),
      unmapped_(blocks_) {}

void disk_model::write(std::uint64_t block, std::span<const std::byte> data) noexcept {
    std::ranges::copy(data, at(block, data.size() / block_size_).begin());
    std::fill_n(unmapped_.begin() + static_cast<std::ptrdiff_t>(block), data.size() / block_size_,
                std::uint8_t{0});
}

void disk_model::zero(std::uint64_t block, std::uint64_t count) noexcept {
    std::ranges::fill(at(block, count), std::byte{0});
    std::fill_n(unmapped_.begin() + static_cast<std::ptrdiff_t>(block), count, std::uint8_t{0});
}

void disk_model::unmap(std::uint64_t block, std::uint64_t count) noexcept {
    std::fill_n(unmapped_.begin() + static_cast<std::ptrdiff_t>(block), count, std::uint8_t{1});
}

void disk_model::copy(std::uint64_t to, std::uint64_t from, std::uint64_t count) noexcept {
    std::memmove(at(to, count).data(), at(from, count).data(), count * block_size_);
    std::fill_n(unmapped_.begin() + static_cast<std::ptrdiff_t>(to), count, std::uint8_t{0});
}

bool disk_model::settled(std::uint64_t block, std::uint64_t count) const noexcept {
    const auto first = unmapped_.begin() + static_cast<std::ptrdiff_t>(block);
    return std::find(first, first + static_cast<std::ptrdiff_t>(count), 1) ==
           first + static_cast<std::ptrdiff_t>(count);
}

outcome<> disk_model::check(std::uint64_t block, std::span<const std::byte> data) {
    for (std::size_t done = 0; done < data.size(); done += block_size_, ++block) {
        const std::span<const std::byte> seen = data.subspan(done, block_size_);
        std::span<std::byte> expected = at(block, 1);
        if (unmapped_[block] != 0) {
            unmapped_[block] = 0;
            if (std::ranges::all_of(seen, [](std::byte b) { return b == std::byte{0}; }))
                zero(block, 1);
        }
        const auto at_byte = std::ranges::mismatch(seen, expected);
        if (at_byte.in1 == seen.end()) continue;
        return fail(EILSEQ, fmt::format("block {}, byte {}: read {:#04x}, expected {:#04x}", block,
                                        at_byte.in1 - seen.begin(), unsigned(*at_byte.in1),
                                        unsigned(*at_byte.in2)));
    }
    return {};
}

namespace {

/// One task's own blocks, generator and buffers.
struct worker {
    const bdev_channel& channel;
    disk_model& model;
    const exercise_options& options;
    std::uint64_t first;  // its part of the device
    std::uint64_t blocks;
    prng dice;
    dma_buffer memory;
    outcome<> found{};
    std::uint64_t operations = 0;
    std::vector<iovec> vectors{};
};

/// Part of the worker's memory as one range or several, at any address that is allowed.
iov_view random_view(worker& w, const dma_buffer& memory, std::size_t bytes) {
    const std::size_t alignment = w.options.buffer_alignment;
    const std::size_t shift = w.dice.below(512 / std::min<std::size_t>(alignment, 512)) * alignment;
    std::byte* const base = memory.writable_unchecked().data() + shift;
    w.vectors.clear();
    if (w.dice.chance(0.5)) return {base, bytes};
    const std::size_t unit = std::max<std::size_t>(alignment, 4);
    // Half of the views are a part of their array.
    const std::size_t skipped = w.dice.chance(0.5) ? unit : 0;
    const std::size_t total = bytes + skipped;
    for (std::size_t done = 0; done < total;) {
        std::size_t n = std::min(total - done, (1 + w.dice.below(4096 / unit)) * unit);
        if (w.vectors.size() == 40) n = total - done;
        w.vectors.push_back(iovec{base + done, n});
        done += n;
    }
    return iov_view(std::span<const iovec>(w.vectors)).slice(skipped, bytes);
}

std::vector<std::byte> gathered(const iov_view& view) {
    std::vector<std::byte> bytes(view.size());
    view.copy_to(bytes.data());
    return bytes;
}

void note(worker& w, const char* what, std::uint64_t block, std::uint64_t count,
          const result<>& r) {
    if (r || !w.found) return;
    w.found = fail(failure(r.error(), fmt::format("{} of {} blocks at {}: {}", what, count, block,
                                                  describe(r.error()))));
}

struct place {
    std::uint64_t block;
    std::uint64_t count;
};

/// In whole units, if the device is written in such.
place random_units(worker& w, std::uint64_t unit) {
    const std::uint64_t most =
        std::min(std::max(w.options.transfer_blocks_max / unit, std::uint64_t{1}), w.blocks / unit);
    const std::uint64_t count = w.dice.between(1, most);
    return {w.first + w.dice.below(w.blocks / unit - count + 1) * unit, count * unit};
}

place random_place(worker& w) {
    const std::uint64_t most = std::min(w.options.transfer_blocks_max, w.blocks);
    const std::uint64_t count = w.dice.between(1, most);
    return {w.first + w.dice.below(w.blocks - count + 1), count};
}

task<void> do_write(worker& w, place p) {
    const iov_view view = random_view(w, w.memory, p.count * w.model.block_size());
    view.for_each([&](std::span<std::byte> range) { w.dice.fill(range); });
    const bool fua = w.dice.chance(0.1);
    result<> r = co_await w.channel.write(lba(p.block), view, fua);
    note(w, "write", p.block, p.count, r);
    const std::vector<std::byte> written = gathered(view);
    w.model.write(p.block, written);
}

task<void> do_read(worker& w, place p) {
    const iov_view view = random_view(w, w.memory, p.count * w.model.block_size());
    view.fill(std::byte{0x5a});
    result<> r = co_await w.channel.read(lba(p.block), view);
    note(w, "read", p.block, p.count, r);
    const std::vector<std::byte> seen = gathered(view);
    outcome<> same = w.model.check(p.block, seen);
    if (!same && w.found) w.found = std::move(same);
}

task<void> do_compare(worker& w, place p) {
    const iov_view view = random_view(w, w.memory, p.count * w.model.block_size());
    view.copy_from(w.model.at(p.block, p.count).data());
    const bool differs = w.dice.chance(0.5);
    if (differs) {
        std::size_t byte = w.dice.below(view.size());
        view.slice(byte, 1).for_each([](std::span<std::byte> b) { b[0] ^= std::byte{1}; });
    }
    result<> r = co_await w.channel.compare(lba(p.block), view);
    if (differs && !r && r.error().is(EILSEQ)) co_return;
    if (differs && r) r = fail(EPROTO);  // it should have said so
    note(w, "compare", p.block, p.count, r);
}

task<void> do_compare_and_write(worker& w, place p) {
    const std::size_t bytes = p.count * w.model.block_size();
    std::vector<std::byte> expected(w.model.at(p.block, p.count).begin(),
                                    w.model.at(p.block, p.count).end());
    const bool differs = w.dice.chance(0.5);
    if (differs) expected[w.dice.below(bytes)] ^= std::byte{1};
    const iov_view view = random_view(w, w.memory, bytes);
    view.for_each([&](std::span<std::byte> range) { w.dice.fill(range); });
    const const_iov_view compared{std::span<const std::byte>(expected)};
    result<> r = co_await w.channel.compare_and_write(lba(p.block), compared, view);
    if (differs && !r && r.error().is(EILSEQ)) co_return;
    if (differs && r) r = fail(EPROTO);
    note(w, "compare_and_write", p.block, p.count, r);
    const std::vector<std::byte> written = gathered(view);
    w.model.write(p.block, written);
}

task<void> do_range(worker& w, opcode code, place p) {
    result<> r;
    if (code == opcode::flush) {
        r = co_await w.channel.flush();
    } else if (code == opcode::unmap) {
        r = co_await w.channel.unmap(lba(p.block), block_count(p.count));
        w.model.unmap(p.block, p.count);
    } else if (code == opcode::write_zeroes) {
        r = co_await w.channel.write_zeroes(lba(p.block), block_count(p.count));
        w.model.zero(p.block, p.count);
    } else {
        const std::uint64_t from = w.first + w.dice.below(w.blocks - p.count + 1);
        if (!w.model.settled(from, p.count)) co_return;
        r = co_await w.channel.copy(lba(p.block), lba(from), block_count(p.count));
        w.model.copy(p.block, from, p.count);
    }
    note(w, name_of(code), p.block, p.count, r);
}

task<void> work_on(worker& w) {
    static constexpr opcode kinds[] = {
        opcode::write,        opcode::read,    opcode::write,
        opcode::read,         opcode::flush,   opcode::unmap,
        opcode::write_zeroes, opcode::compare, opcode::compare_and_write,
        opcode::copy};
    while (w.operations != 0 && w.found) {
        --w.operations;
        const opcode code = kinds[w.dice.below(std::size(kinds))];
        if (!w.channel.device().supports(code) || (w.options.without & bit(code)) != 0) continue;
        const std::uint64_t unit = w.channel.device().attributes().write_unit.value();
        const bool in_units = unit > 1 && (code == opcode::write || code == opcode::write_zeroes);
        const place p = in_units ? random_units(w, unit) : random_place(w);
        if (code == opcode::read) {
            co_await do_read(w, p);
        } else if (code == opcode::write) {
            co_await do_write(w, p);
        } else if (code == opcode::compare || code == opcode::compare_and_write) {
            // What the block holds must be known.
            if (!w.model.settled(p.block, p.count)) co_await do_read(w, p);
            if (code == opcode::compare)
                co_await do_compare(w, p);
            else
                co_await do_compare_and_write(w, p);
        } else {
            co_await do_range(w, code, p);
        }
    }
}

}  // namespace

task<outcome<>> exercise(const bdev_channel& channel, disk_model& model, exercise_options options) {
    prng dice(options.seed);
    const std::uint64_t unit = channel.device().attributes().write_unit.value();
    const std::uint64_t part =
        std::max<std::uint64_t>(model.blocks() / unit / std::max(options.workers, 1U), 1) * unit;
    const std::size_t memory_bytes =
        std::max(options.transfer_blocks_max, unit) * model.block_size() + 8192;
    std::vector<std::unique_ptr<worker>> workers;
    scope running;
    for (std::uint64_t first = 0; first < model.blocks(); first += part) {
        const std::uint64_t blocks = std::min(part, model.blocks() - first);
        result<dma_buffer> memory = dma_buffer::allocate(byte_count(memory_bytes));
        if (!memory) co_return fail(failure(memory.error()));
        workers.push_back(std::unique_ptr<worker>(
            new worker{channel, model, options, first, blocks, dice.fork(), std::move(*memory)}));
        workers.back()->operations = options.operations / std::max(options.workers, 1U);
        running.spawn(work_on(*workers.back()));
    }
    result<> joined = co_await running.join();
    (void)joined;  // the workers return nothing
    for (auto& w : workers) {
        if (w->found) continue;
        w->found.error().message =
            fmt::format("seed {}: {}", options.seed, w->found.error().message);
        co_return std::move(w->found);
    }
    outcome<> same = co_await verify_all(channel, model);
    co_return same;
}

void with_registry(nacre::world& w, task<void> (*body)(bdev_registry& registry),
                   unsigned reactors) {
    auto rt = runtime::make(w, {.reactors = reactors});
    NACRE_ASSERT(rt.has_value());
    bdev_registry registry(**rt);
    (*rt)->block_on(
        [](across<bdev_registry> r, task<void> (*b)(bdev_registry&)) -> task<void> {
            co_await b(*r);
            co_await r->remove_all();
        },
        across<bdev_registry>(registry), body);
}

task<outcome<>> verify_all(const bdev_channel& channel, disk_model& model) {
    constexpr std::uint64_t bytes_at_once = 1 << 20;
    const std::uint64_t step = std::max<std::uint64_t>(bytes_at_once / model.block_size(), 1);
    result<dma_buffer> memory = dma_buffer::allocate(byte_count(step * model.block_size()));
    if (!memory) co_return fail(failure(memory.error()));
    for (std::uint64_t block = 0; block < model.blocks(); block += step) {
        const std::uint64_t count = std::min(step, model.blocks() - block);
        const iov_view view(memory->writable_unchecked().data(), count * model.block_size());
        result<> r = co_await channel.read(lba(block), view);
        if (!r)
            co_return fail(failure(r.error(), fmt::format("read of {} blocks at {}: {}", count,
                                                          block, describe(r.error()))));
        outcome<> same = model.check(block, {view.data(), view.size()});
        if (!same) co_return same;
    }
    co_return outcome<>();
}

}  // namespace nacre::sim
