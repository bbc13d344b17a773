// SPDX-License-Identifier: BSD-3-Clause
#include "fuse_handles.hpp"

namespace nacre::fuse {

handle_table::~handle_table() {
    NACRE_ASSERT(size_ == 0);
    for (auto& b : blocks_) delete b.load(std::memory_order_relaxed);
}

result<std::uint64_t> handle_table::insert(std::unique_ptr<open_node> node) {
    const std::lock_guard guard(mutex_);
    if (free_.empty()) {
        if (slots_ == block_slots * blocks_max) return fail(ENFILE);
        blocks_[slots_ / block_slots].store(new block, std::memory_order_release);
        for (std::uint32_t i = block_slots; i-- > 0;) free_.push_back(slots_ + i);
        slots_ += block_slots;
    }
    const std::uint32_t index = free_.back();
    free_.pop_back();
    slot& s = (*blocks_[index / block_slots].load(std::memory_order_relaxed))[index % block_slots];
    // From 1 on: no number is 0, which the kernel sends where it has none.
    std::uint32_t times = s.times.load(std::memory_order_relaxed) + 1;
    if (times == 0) times = 1;
    s.node.store(node.release(), std::memory_order_release);
    s.times.store(times, std::memory_order_release);
    size_.fetch_add(1, std::memory_order_relaxed);
    return std::uint64_t{times} << 32 | index;
}

std::unique_ptr<open_node> handle_table::take(std::uint64_t number) {
    const std::lock_guard guard(mutex_);
    if (find(number) == nullptr) return nullptr;
    const auto index = static_cast<std::uint32_t>(number);
    slot& s = (*blocks_[index / block_slots].load(std::memory_order_relaxed))[index % block_slots];
    std::unique_ptr<open_node> taken(s.node.exchange(nullptr, std::memory_order_acq_rel));
    free_.push_back(index);
    size_.fetch_sub(1, std::memory_order_relaxed);
    return taken;
}

std::unique_ptr<open_node> handle_table::take_any() {
    for (std::uint32_t index = 0; index < slots_; ++index) {
        const slot& s = *slot_of(index);
        if (s.node.load(std::memory_order_acquire) == nullptr) continue;
        return take(std::uint64_t{s.times.load(std::memory_order_acquire)} << 32 | index);
    }
    return nullptr;
}

}  // namespace nacre::fuse
