// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/bdev/bdev_reader.hpp"

#include <algorithm>

#include "lock_table.hpp"
#include "nacre/bdev/registry.hpp"
#include "nacre/runtime/sleep.hpp"
#include "read_gate.hpp"

namespace nacre {

unsigned read_gate::own_slot() noexcept {
    static constinit std::atomic<unsigned> threads{0};
    thread_local const unsigned slot = threads.fetch_add(1, std::memory_order_relaxed);
    return slot;
}

bool read_gate::empty() noexcept {
    return std::ranges::all_of(slots_, [](slot& s) {
        const std::lock_guard guard(s.lock);
        return s.inside == 0;
    });
}

void read_gate::collect(io_statistics& into, statistics_reset reset) noexcept {
    for (slot& s : slots_) {
        const std::lock_guard guard(s.lock);
        io_statistics own;
        own.of(opcode::read) = s.reads;
        into.add(own);
        own.reset(reset);
        s.reads = own.of(opcode::read);
    }
}

bool bdev_reader::read(lba first, std::span<std::byte> into) const noexcept {
    if (device_ == nullptr || into.empty()) return false;
    bdev& d = *device_;
    const bdev_attributes& a = d.attributes();
    const std::uint64_t block = a.block_size.value();
    const std::uint64_t count = into.size() / block;
    const auto address = reinterpret_cast<std::uintptr_t>(into.data());
    if (into.size() % block != 0 || address % a.buffer_alignment != 0 ||
        (a.transfer_bytes_max != 0 && into.size() > a.transfer_bytes_max))
        return false;
    return d.readers_->pass(into.size(), [&]() noexcept {
        // Within, because a device that shrinks may have waited for the readers.
        const std::uint64_t size = d.blocks().value();
        if (count > size || first.value() > size - count) return false;
        return d.read_directly(first, into);
    });
}

bool bdev::prepare_direct_reads() { return false; }
bool bdev::read_directly(lba, std::span<std::byte>) noexcept { return false; }

bdev_reader bdev_desc::open_reader() const { return device_->make_reader(device_); }

bdev_reader bdev::make_reader(std::shared_ptr<bdev> self) {
    if (attributes_.metadata_size != 0 || attributes_.split_boundary() != 0 || removed() ||
        (operations() & bit(opcode::read)) == 0)
        return {};
    if (readers_ == nullptr) {
        if (!prepare_direct_reads()) return {};
        auto gate = std::make_unique<read_gate>(registry_->home_world());
        const std::lock_guard guard(mutex_);
        readers_ = std::move(gate);
        judge_readers();
    }
    return bdev_reader(std::move(self));
}

void bdev::judge_readers() noexcept {
    if (readers_ == nullptr) return;
    bool held = removed() || limited_ || sampled_ || closed_latencies_ != nullptr;
    if (locks_ != nullptr) {
        held = held || locks_->ended();
        locks_->for_each_known([&](const lock_entry& e) {
            held = held || e.range.kind == lock_kind::reads_and_writes;
        });
    }
    readers_->set_open(!held);
}

task<result<>> bdev::readers_left() {
    constexpr std::uint64_t look_again_ns = 20'000;
    while (readers_ != nullptr && !readers_->empty()) {
        result<> slept = co_await sleep_for(look_again_ns);
        if (!slept) co_await yield();  // asked to stop, but they cannot be left
    }
    co_return result<>();
}

}  // namespace nacre
