// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/bdev/bdev_reader.hpp"

#include <algorithm>

#include "direct_gate.hpp"
#include "lock_table.hpp"
#include "nacre/bdev/registry.hpp"
#include "nacre/runtime/sleep.hpp"

namespace nacre {

unsigned direct_gate::own_slot() noexcept {
    static constinit std::atomic<unsigned> threads{0};
    thread_local const unsigned slot = threads.fetch_add(1, std::memory_order_relaxed);
    return slot;
}

bool direct_gate::empty() noexcept {
    return std::ranges::all_of(slots_, [](slot& s) {
        const std::lock_guard guard(s.lock);
        return s.inside == 0;
    });
}

void direct_gate::collect(io_statistics& into, statistics_reset reset) noexcept {
    for (slot& s : slots_) {
        const std::lock_guard guard(s.lock);
        io_statistics own;
        own.of(what_) = s.done;
        into.add(own);
        own.reset(reset);
        s.done = own.of(what_);
    }
}

bool bdev::takes_directly(std::span<const std::byte> bytes) const noexcept {
    const bdev_attributes& a = attributes();
    const auto address = reinterpret_cast<std::uintptr_t>(bytes.data());
    return !bytes.empty() && bytes.size() % a.block_size.value() == 0 &&
           address % a.buffer_alignment == 0 &&
           (a.transfer_bytes_max == 0 || bytes.size() <= a.transfer_bytes_max);
}

bool bdev::holds(lba first, std::size_t bytes) const noexcept {
    const std::uint64_t count = bytes / block_size().value();
    const std::uint64_t size = blocks().value();
    return count <= size && first.value() <= size - count;
}

bool bdev_reader::read(lba first, std::span<std::byte> into) const noexcept {
    if (device_ == nullptr || !device_->takes_directly(into)) return false;
    bdev& d = *device_;
    return d.readers_->pass(into.size(), [&]() noexcept {
        // Looked at within, because a device that shrinks may have waited for the readers.
        return d.holds(first, into.size()) && d.read_directly(first, into);
    });
}

result<> bdev_writer::write(lba first, std::span<const std::byte> from) const noexcept {
    result<> done = fail(EAGAIN);
    if (device_ == nullptr || !device_->takes_directly(from)) return done;
    bdev& d = *device_;
    const std::uint64_t unit = d.attributes().write_unit.value();
    const std::uint64_t count = from.size() / d.block_size().value();
    if (first.value() % unit != 0 || count % unit != 0) return done;
    (void)d.writers_->pass(from.size(), [&]() noexcept {
        if (d.holds(first, from.size())) done = d.write_directly(first, from);
        return done.has_value();
    });
    return done;
}

bool bdev::prepare_direct_reads() { return false; }
bool bdev::read_directly(lba, std::span<std::byte>) noexcept { return false; }
bool bdev::prepare_direct_writes() { return false; }
result<> bdev::write_directly(lba, std::span<const std::byte>) noexcept { return fail(EAGAIN); }

bdev_reader bdev_desc::open_reader() const { return device_->make_reader(device_); }
bdev_writer bdev_desc::open_writer() const {
    return access_ == access::write ? device_->make_writer(device_) : bdev_writer();
}

/// Whether there may be a gate for them; channels do for the others.
bool bdev::allows_direct(opcode what) const noexcept {
    return attributes_.metadata_size == 0 && attributes_.split_boundary() == 0 && !removed() &&
           (operations() & bit(what)) != 0;
}

void bdev::make_gate(std::unique_ptr<direct_gate>& gate, opcode what) {
    auto made = std::make_unique<direct_gate>(registry_->home_world(), what);
    const std::lock_guard guard(mutex_);
    gate = std::move(made);
    judge_direct();
}

bdev_reader bdev::make_reader(std::shared_ptr<bdev> self) {
    if (!allows_direct(opcode::read)) return {};
    if (readers_ == nullptr) {
        if (!prepare_direct_reads()) return {};
        make_gate(readers_, opcode::read);
    }
    return bdev_reader(std::move(self));
}

bdev_writer bdev::make_writer(std::shared_ptr<bdev> self) {
    if (!allows_direct(opcode::write)) return {};
    if (writers_ == nullptr) {
        if (!prepare_direct_writes()) return {};
        make_gate(writers_, opcode::write);
    }
    return bdev_writer(std::move(self));
}

void bdev::judge_direct() noexcept {
    if (readers_ == nullptr && writers_ == nullptr) return;
    const bool held = removed() || limited_ || sampled_ || closed_latencies_ != nullptr ||
                      (locks_ != nullptr && locks_->ended());
    bool reads_locked = false;
    bool locked = false;
    if (locks_ != nullptr)
        locks_->for_each_known([&](const lock_entry& e) {
            locked = true;
            reads_locked = reads_locked || e.range.kind == lock_kind::reads_and_writes;
        });
    if (readers_ != nullptr) readers_->set_open(!held && !reads_locked);
    if (writers_ != nullptr) writers_->set_open(!held && !locked);
}

task<result<>> bdev::direct_left(bool readers_too) {
    constexpr std::uint64_t look_again_ns = 20'000;
    direct_gate* writers = nullptr;  // those made from now on are shut
    direct_gate* readers = nullptr;
    {
        const std::lock_guard guard(mutex_);
        writers = writers_.get();
        if (readers_too) readers = readers_.get();
    }
    while ((writers != nullptr && !writers->empty()) || (readers != nullptr && !readers->empty())) {
        result<> slept = co_await sleep_for(look_again_ns);
        if (!slept) co_await yield();  // asked to stop, but they cannot be left
    }
    co_return result<>();
}

}  // namespace nacre
