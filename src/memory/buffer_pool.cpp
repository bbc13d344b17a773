// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/memory/buffer_pool.hpp"

#include <algorithm>
#include <new>

#include "nacre/runtime/thread.hpp"

namespace nacre {
namespace {

constexpr std::uint64_t retry_ns = 10'000'000;

/// False if the system has no memory for the list itself.
template <typename T>
bool has_room_for_one_more(std::vector<T>& list) noexcept {
    if (list.size() < list.capacity()) return true;
    try {
        list.reserve(std::max<std::size_t>(8, 2 * list.size()));
    } catch (const std::bad_alloc&) {
        return false;
    }
    return true;
}

}  // namespace

buffer_pool::buffer_pool(const options& o) noexcept
    : chunks_max_(std::max<std::size_t>(o.limit.value() / chunk::bytes, 1)),
      kind_(o.kind),
      registered_(o.registered) {}

buffer_pool::~buffer_pool() {
    NACRE_ASSERT(in_use_ == 0 && waiters_.empty());
    release_unused();
}

buffer_pool::retry_timer::retry_timer(buffer_pool& p) noexcept
    : timer([](timer& t) noexcept {
          buffer_pool& pool = static_cast<retry_timer&>(t).owner;
          const thread_guard guard(*pool.home_);
          pool.serve();
      }),
      owner(p) {}

pooled_buffer buffer_pool::take_of_new_chunk(std::size_t bytes) noexcept {
    chunk* k = unused_.pop_front();
    if (k == nullptr) k = new_chunk();
    if (k == nullptr) return {};
    const unsigned size_class = class_of(bytes);
    k->size_class = static_cast<std::uint8_t>(size_class);
    k->slots = static_cast<std::uint16_t>(chunk::bytes / class_bytes[size_class]);
    k->carved = 0;
    k->free_head = chunk::none;
    partly_used_[size_class].push_back(*k);
    return take(bytes);
}

void buffer_pool::give_back(chunk& k, std::uint16_t slot) noexcept {
    --in_use_;
    if (k.used == k.slots) partly_used_[k.size_class].push_front(k);
    k.next_free[slot] = k.free_head;
    k.free_head = slot;
    if (--k.used == 0) {
        k.unlink();
        unused_.push_front(k);
    }
    if (!waiters_.empty()) [[unlikely]]
        serve();
}

detail::pool_chunk* buffer_pool::new_chunk() noexcept {
    if (chunks_.size() >= chunks_max_ || retry_timer_.armed()) return nullptr;
    refused_ = true;
    if (!has_room_for_one_more(chunks_)) return nullptr;
    result<dma_buffer> memory =
        dma_buffer::allocate(byte_count(chunk::bytes),
                             {.alignment = chunk::bytes, .kind = kind_, .registered = registered_});
    if (!memory) return nullptr;
    chunk* made = new (std::nothrow) chunk(std::move(*memory));
    if (made == nullptr) return nullptr;
    chunks_.emplace_back(made);
    refused_ = false;
    return made;
}

result<> buffer_pool::reserve_chunk() noexcept {
    if (!chunks_.empty()) return {};
    chunk* const made = new_chunk();
    if (made == nullptr) return fail(ENOMEM);
    unused_.push_front(*made);
    return {};
}

void buffer_pool::enqueue(waiter& w) noexcept {
    ++waits_;
    waiters_.push_back(w);
    if (refused_ && !retry_timer_.armed()) ask_again_later();
}

void buffer_pool::serve() noexcept {
    while (waiter* first = waiters_.front()) {
        pooled_buffer buffer = take(first->argument);
        if (buffer.empty()) {
            if (refused_ && !retry_timer_.armed()) ask_again_later();
            return;
        }
        static_cast<awaiter*>(first)->buffer_ = std::move(buffer);
        first->wake();
    }
    retry_timer_.cancel();
}

void buffer_pool::ask_again_later() noexcept {
    home_ = thread::current();
    NACRE_ASSERT(home_ != nullptr);
    if (!retry_timer_.armed()) home_->host().timers().arm(retry_timer_, home_->now_ns() + retry_ns);
}

void buffer_pool::release_unused() noexcept {
    while (chunk* k = unused_.pop_front())
        std::erase_if(chunks_, [k](const auto& owned) { return owned.get() == k; });
}

}  // namespace nacre
